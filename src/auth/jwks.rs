//! Keys of a URL: fetched at the start, at intervals, and when a token is signed by an unknown key. While they cannot be
//! fetched, the last ones are used.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use log::{info, warn};
use parking_lot::{Mutex, RwLock};

use super::status::AuthStatus;
use crate::config::auth::JwtSettings;
use crate::https::{Files, causes, connector};
use crate::jose::keys::{KeySet, Origin};
use crate::logging::Seldom;

/// Most bytes of an answer: a set of many keys has some tens of kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// Shortest time between two log lines about keys that cannot be fetched.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The first pause after a failure; it doubles up to the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

const ACCEPTED: HeaderValue = HeaderValue::from_static("application/jwk-set+json, application/json;q=0.9");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("kafka-sse-bridge/", env!("CARGO_PKG_VERSION")));

/// What is known of a key that the last keys did not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newer {
    /// Keys were fetched, since before the call perhaps: look again.
    Perhaps,
    /// The last keys were fetched since the call.
    None,
    /// It is not known whether there are newer keys: they cannot be fetched, or may not be so soon.
    Unknown,
}

/// The fetches so far.
#[derive(Debug, Default)]
struct Last {
    /// When the last one began and ended.
    times: Option<(Instant, Instant)>,
    /// When the last one for an unknown key ended.
    for_unknown_key: Option<Instant>,
}

/// The keys of one URL.
#[derive(Debug)]
pub(super) struct Jwks {
    settings: JwtSettings,
    url: String,
    status: Arc<AuthStatus>,
    keys: RwLock<Option<Arc<KeySet>>>,
    is_failing: AtomicBool,
    /// Locked while a fetch is under way: there is one at a time.
    last: tokio::sync::Mutex<Last>,
    log: Mutex<Seldom>,
}

impl Jwks {
    /// Begins to fetch, and uses `keys` until then.
    pub(super) fn begin(
        settings: &JwtSettings,
        status: &Arc<AuthStatus>,
        keys: Option<Arc<KeySet>>,
    ) -> Arc<Self> {
        status.set_keys(keys.as_ref().map_or(0, |keys| keys.len()));
        status.forget_failure();
        let jwks = Arc::new(Self {
            url: settings.jwks_url.clone().unwrap_or_default(),
            settings: settings.clone(),
            status: Arc::clone(status),
            keys: RwLock::new(keys),
            is_failing: AtomicBool::new(false),
            last: tokio::sync::Mutex::default(),
            log: Mutex::new(Seldom::new(LOG_EVERY)),
        });
        tokio::spawn(keep_fetching(Arc::downgrade(&jwks)));
        jwks
    }

    /// The keys that were fetched last.
    pub(super) fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.read().clone()
    }

    /// Looks for keys beyond those that were fetched. Fetches at most every `jwks_min_interval`: a client may send any
    /// number of tokens with unknown keys.
    pub(super) async fn look_for_unknown_key(self: &Arc<Self>) -> Newer {
        let jwks = Arc::clone(self);
        // A client that goes away does not end the fetch, for which others wait.
        let look = tokio::spawn(async move { jwks.look(Instant::now()).await });
        // Fails only while the runtime ends.
        look.await.unwrap_or(Newer::Unknown)
    }

    async fn look(&self, asked_at: Instant) -> Newer {
        let mut last = self.last.lock().await;
        if let Some((began, ended)) = last.times
            && ended >= asked_at
        {
            return match (self.is_failing(), began >= asked_at) {
                (true, _) => Newer::Unknown,
                (false, true) => Newer::None,
                // A key may have been added since it began.
                (false, false) => Newer::Perhaps,
            };
        }
        let pause = self.settings.jwks_min_interval.0;
        if last
            .for_unknown_key
            .is_some_and(|ended| asked_at.saturating_duration_since(ended) < pause)
        {
            return Newer::Unknown;
        }
        let is_fetched = self.fetch(&mut last).await;
        last.for_unknown_key = Some(Instant::now());
        if is_fetched { Newer::None } else { Newer::Unknown }
    }

    /// Fetches. Returns whether it succeeded.
    async fn fetch(&self, last: &mut Last) -> bool {
        let began = Instant::now();
        let keys = fetch(&self.settings).await;
        last.times = Some((began, Instant::now()));
        let is_failing = match keys {
            Ok(keys) => {
                self.take(keys);
                false
            }
            Err(why) => {
                let reason = format!("keys are not fetched: {} {why}", self.url);
                if let Some(held_back) = self.log.lock().admit() {
                    warn!("auth: {reason}{held_back}");
                }
                self.status.has_failed(reason);
                true
            }
        };
        self.is_failing.store(is_failing, Ordering::Relaxed);
        !is_failing
    }

    fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    fn take(&self, keys: KeySet) {
        let has_recovered = self.status.has_fetched();
        let (count, keys) = (keys.len(), Arc::new(keys));
        self.status.set_keys(count);
        let before = self.keys.write().replace(Arc::clone(&keys));
        let has_changed = before.as_ref() != Some(&keys);
        if has_changed || has_recovered {
            info!("auth: {count} keys were fetched from {}", self.url);
        }
        if before.is_some() && has_changed {
            // Streams that were opened with a removed key end.
            self.status.rights_changed();
        }
    }
}

/// Fetches keys once; the error completes a sentence that begins with the URL.
///
/// # Errors
/// When they cannot be fetched in time, or none fits the algorithms.
pub(super) async fn fetch(settings: &JwtSettings) -> Result<KeySet, String> {
    let timeout = settings.jwks_timeout;
    let answer = tokio::time::timeout(timeout.0, request(settings)).await;
    let body = answer.unwrap_or_else(|_| Err(format!("does not answer within {timeout}")))?;
    KeySet::of_json(&body, &settings.algorithms, Origin::Url)
}

async fn request(settings: &JwtSettings) -> Result<Bytes, String> {
    let url = settings.jwks_url.clone().unwrap_or_default();
    let settings = settings.clone();
    let connector = tokio::task::spawn_blocking(move || {
        let has_tls = settings
            .jwks_url
            .as_ref()
            .is_some_and(|url| url.starts_with("https:"));
        let files = Files::read(settings.jwks_ca_file.as_ref(), None, None)?;
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(settings.jwks_timeout.0));
        connector(http, &files, has_tls)
    });
    let connector = connector.await.map_err(|error| error.to_string())??;
    let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = uri;
    request.headers_mut().insert(ACCEPT, ACCEPTED);
    request.headers_mut().insert(USER_AGENT, AGENT);
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build::<_, Empty<Bytes>>(connector);
    let response = client
        .request(request)
        .await
        .map_err(|error| format!("is not reached: {}", causes(&error)))?;
    if response.status() != StatusCode::OK {
        // Redirects are not followed: the configuration says whose keys are trusted.
        return Err(format!("answers {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(format!("answers with more than {MAX_ANSWER} bytes"))
        }
        Err(error) => Err(format!("ends its answer early: {}", causes(&*error))),
    }
}

/// Fetches at intervals, as long as the keys are in use.
async fn keep_fetching(jwks: Weak<Jwks>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(jwks) = jwks.upgrade() else { return };
        let interval = jwks.settings.jwks_refresh.0;
        let asked_at = Instant::now();
        let mut last = jwks.last.lock().await;
        let is_fetched = if last.times.is_some_and(|(began, _)| began >= asked_at) {
            !jwks.is_failing()
        } else {
            jwks.fetch(&mut last).await
        };
        drop(last);
        let wait = if is_fetched {
            pause = FIRST_PAUSE;
            interval
        } else {
            let wait = pause.min(interval);
            pause = wait * 2;
            wait
        };
        drop(jwks);
        tokio::time::sleep(wait).await;
    }
}
