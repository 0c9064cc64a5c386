//! Requests to a registry: failover over its URLs, credentials, and bounds of time and size.
//!
//! hyper-util's client on hyper, which serves HTTP here already, suffices: it keeps connections and nothing else. reqwest
//! would add parsers of URLs, proxies and cookies, and follow redirects. None is followed here, so credentials go
//! only to the hosts that the configuration names. Files are read at each request, because requests are rare: a
//! replaced secret or certificate takes effect at the next one.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use log::warn;
use parking_lot::Mutex;
use serde::Deserialize;

use super::status::{Outcome, RegistryStatus};
use crate::config::SchemaRegistrySettings;
use crate::https::{Connector, Files, causes, connector};
use crate::logging::{Seldom, printable};

/// Most bytes of an answer: larger schemas are no plausible ones.
pub(super) const MAX_ANSWER: usize = 8 << 20;

/// Most bytes of a registry's own message in ours.
const MAX_MESSAGE: usize = 200;

/// Connections that are kept to one registry, and how long.
const IDLE: (usize, Duration) = (2, Duration::from_secs(30));

/// Shortest time between two log lines about a URL that failed while another one answered.
const FAILOVERS: Duration = Duration::from_secs(60);

const ACCEPTED: HeaderValue =
    HeaderValue::from_static("application/vnd.schemaregistry.v1+json, application/json;q=0.9");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("kafka-sse-bridge/", env!("CARGO_PKG_VERSION")));

type HttpClient = legacy::Client<Connector, Empty<Bytes>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestError {
    /// The registry cannot be used now.
    Failed {
        /// Its kind, for metrics.
        outcome: Outcome,
        /// The URL and what happened.
        reason: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// The registry has no such thing.
    NotFound,
    /// The answer is larger than [`MAX_ANSWER`].
    TooLarge,
}

/// A registry's own description of an error.
#[derive(Deserialize)]
struct ErrorAnswer {
    error_code: Option<u32>,
    message: Option<String>,
}

/// Sends requests with one set of settings.
#[derive(Debug)]
pub(super) struct Client {
    settings: SchemaRegistrySettings,
    status: Arc<RegistryStatus>,
    /// The URL that answered last.
    preferred: AtomicUsize,
    /// The client, and the hash of the files that it was built of.
    http: Arc<Mutex<Option<(u64, HttpClient)>>>,
    /// Keys of this process.
    hasher: RandomState,
    failovers: Mutex<Seldom>,
}

impl Client {
    pub(super) fn new(settings: SchemaRegistrySettings, status: Arc<RegistryStatus>) -> Self {
        Self {
            settings,
            status,
            preferred: AtomicUsize::new(0),
            http: Arc::default(),
            hasher: RandomState::new(),
            failovers: Mutex::new(Seldom::new(FAILOVERS)),
        }
    }

    pub(super) fn settings(&self) -> &SchemaRegistrySettings {
        &self.settings
    }

    /// The answer to `GET path`, from the first URL that has one. The error is that of the first one.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, RequestError> {
        let count = self.settings.urls.len();
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut first: Option<RequestError> = None;
        for index in (0..count).map(|next| (preferred + next) % count) {
            let answer = self.get_from(index, path).await;
            if let Err(error @ RequestError::Failed { .. }) = answer {
                first.get_or_insert(error);
                continue;
            }
            self.preferred.store(index, Ordering::Relaxed);
            if let Some(RequestError::Failed { reason, remedy, .. }) = first
                && let Some(held_back) = self.failovers.lock().admit()
            {
                warn!(
                    "schema registry: {reason}; {remedy}; {} answers instead{held_back}",
                    self.settings.urls[index]
                );
            }
            return answer;
        }
        Err(first.unwrap_or(RequestError::NotFound))
    }

    /// The answer of one URL.
    pub(super) async fn get_from(&self, index: usize, path: &str) -> Result<Bytes, RequestError> {
        let url = self.settings.urls[index].trim_end_matches('/');
        let timeout = self.settings.timeout;
        let answered = tokio::time::timeout(timeout.0, self.request(url, path)).await;
        let answer = answered.unwrap_or_else(|_| {
            Err(RequestError::Failed {
                outcome: Outcome::Timeout,
                reason: format!("{url} does not answer within {timeout}"),
                remedy: "see the registry's log, or set a longer timeout in [kafka.schema_registry]",
            })
        });
        self.status.count(match &answer {
            Ok(_) => Outcome::Ok,
            Err(RequestError::NotFound) => Outcome::NotFound,
            Err(RequestError::TooLarge) => Outcome::TooLarge,
            Err(RequestError::Failed { outcome, .. }) => *outcome,
        });
        answer
    }

    async fn request(&self, url: &str, path: &str) -> Result<Bytes, RequestError> {
        let unusable = |reason: String| RequestError::Failed {
            outcome: Outcome::Error,
            reason,
            remedy: "correct [kafka.schema_registry]",
        };
        let (http, authorization) = self.prepare().await.map_err(unusable)?;
        let uri: Uri = format!("{url}{path}")
            .parse()
            .map_err(|error| unusable(format!("{url}: {error}")))?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, ACCEPTED);
        headers.insert(USER_AGENT, AGENT);
        let has_login = authorization.is_some();
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let response = http
            .request(request)
            .await
            .map_err(|error| not_sent(url, &error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(redirected(url, &response));
        }
        // An error's text is not worth reading for long.
        let size = usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX);
        if size > MAX_ANSWER {
            return Err(RequestError::TooLarge);
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = match body {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(RequestError::TooLarge),
            Err(error) => {
                return Err(RequestError::Failed {
                    outcome: Outcome::Error,
                    reason: format!("{url} ends its answer early: {}", causes(&*error)),
                    remedy: "see the registry's log",
                });
            }
        };
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(refused(url, path, status, &body, has_login))
    }

    /// The client with the files as they are now, and the value of `Authorization`.
    async fn prepare(&self) -> Result<(HttpClient, Option<HeaderValue>), String> {
        let settings = self.settings.clone();
        let (http, hasher) = (Arc::clone(&self.http), self.hasher.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            let authorization = authorization(&settings)?;
            let files = if settings.has_tls() {
                let [ca, certificate, key] =
                    [&settings.ca_file, &settings.cert_file, &settings.key_file].map(Option::as_ref);
                Files::read(ca, certificate, key)?
            } else {
                Files::default()
            };
            let hash = hasher.hash_one(&files);
            let mut http = http.lock();
            if let Some((of, http)) = &*http
                && *of == hash
            {
                return Ok((http.clone(), authorization));
            }
            let fresh = build(&settings, &files)?;
            *http = Some((hash, fresh.clone()));
            Ok((fresh, authorization))
        });
        // Fails only while the runtime ends.
        prepared.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

fn build(settings: &SchemaRegistrySettings, files: &Files) -> Result<HttpClient, String> {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(settings.timeout.0));
    http.set_nodelay(true);
    let connector = connector(http, files, settings.has_tls())?;
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE.0)
        .pool_idle_timeout(IDLE.1)
        .build(connector))
}

/// The credentials that the files hold now.
fn authorization(settings: &SchemaRegistrySettings) -> Result<Option<HeaderValue>, String> {
    let text = match (&settings.username, &settings.password_file, &settings.token_file) {
        (Some(name), Some(file), _) => {
            format!("Basic {}", STANDARD.encode(format!("{name}:{}", file.secret()?)))
        }
        (_, _, Some(file)) => format!("Bearer {}", file.secret()?.trim()),
        _ => return Ok(None),
    };
    // The error contains no byte of it.
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| "the token in token_file has bytes that HTTP does not allow".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn not_sent(url: &str, error: &legacy::Error) -> RequestError {
    let causes = causes(error);
    let remedy = if causes.contains("UnknownIssuer") {
        "set ca_file in [kafka.schema_registry] to the CA of its certificate"
    } else if causes.contains("certificate") {
        "correct the registry's certificate, or the name in urls in [kafka.schema_registry]"
    } else {
        "start the registry, correct urls in [kafka.schema_registry], or open the firewall between"
    };
    RequestError::Failed {
        outcome: Outcome::Unreachable,
        reason: format!("{url} is not reached: {causes}"),
        remedy,
    }
}

fn redirected(url: &str, response: &Response<Incoming>) -> RequestError {
    let target = response
        .headers()
        .get(LOCATION)
        .and_then(|target| target.to_str().ok());
    // Its query may hold a secret.
    let target = target.and_then(|target| target.split(['?', '#']).next());
    RequestError::Failed {
        outcome: Outcome::Error,
        reason: format!(
            "{url} redirects ({}) to {}, and redirects are not followed, so that credentials go to no other host",
            response.status().as_u16(),
            printable(target.unwrap_or("nowhere"))
        ),
        remedy: "write the URL that it redirects to into urls in [kafka.schema_registry]",
    }
}

/// The error of an answer that is not 200.
fn refused(url: &str, path: &str, status: StatusCode, body: &[u8], has_login: bool) -> RequestError {
    let answer: Option<ErrorAnswer> = serde_json::from_slice(body).ok();
    let code = answer.as_ref().and_then(|answer| answer.error_code);
    // The codes of a subject, a version and a schema that do not exist.
    if status == StatusCode::NOT_FOUND && code.is_some_and(|code| matches!(code, 40401..=40403)) {
        return RequestError::NotFound;
    }
    let said = answer.and_then(|answer| answer.message).unwrap_or_default();
    let said: String = printable(&said).chars().take(MAX_MESSAGE).collect();
    let said = if said.is_empty() {
        said
    } else {
        format!(": {said}")
    };
    let number = status.as_u16();
    let (outcome, reason, remedy) = match status {
        StatusCode::UNAUTHORIZED if has_login => (
            Outcome::Unauthorized,
            format!("{url} refuses the credentials (401){said}"),
            "correct username and password_file, or token_file, in [kafka.schema_registry]",
        ),
        StatusCode::UNAUTHORIZED => (
            Outcome::Unauthorized,
            format!("{url} requires credentials (401){said}"),
            "set username and password_file, or token_file, in [kafka.schema_registry]",
        ),
        StatusCode::FORBIDDEN => (
            Outcome::Forbidden,
            format!("{url} forbids GET {path} (403){said}"),
            "grant the user the right to read schemas and subjects",
        ),
        StatusCode::NOT_FOUND => (
            Outcome::Error,
            format!("{url} has no schema registry: it answers 404 to GET {path} without an error_code{said}"),
            "correct the path in urls in [kafka.schema_registry], as in \"http://apicurio:8080/apis/ccompat/v7\"",
        ),
        _ => (
            Outcome::Error,
            format!("{url} answers {number}{said}"),
            "see the registry's log",
        ),
    };
    RequestError::Failed {
        outcome,
        reason,
        remedy,
    }
}
