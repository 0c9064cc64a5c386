//! Opens a stream as an EventSource does, over TCP or a Unix socket. It knows HTTP, but no events.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, LOCATION, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of a response may take, and the body of an error. The daemon sends a head at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_ANSWER: usize = 64 * 1024;

/// The header with the id after which the stream continues.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The address of a stream, and the headers of its requests.
#[derive(Debug, Clone)]
pub(super) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    unix: Option<PathBuf>,
    headers: HeaderMap,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// No HTTP response: an EventSource would reconnect.
    #[error("{0}")]
    Unreachable(String),
    /// A response other than an event stream: an EventSource would give up.
    #[error("{0}")]
    Refused(String),
}

#[derive(Debug)]
pub(super) struct Stream {
    body: Incoming,
}

impl Target {
    /// The stream at `url`, over the Unix socket if one is named. `headers` replace default headers.
    pub(super) fn new(
        url: &str,
        unix: Option<PathBuf>,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Self, String> {
        const FORM: &str = "write it like http://127.0.0.1:3000/events";
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("{url:?} is not a URL: {error}; {FORM}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "{url}: TLS is not spoken here; name the daemon's own address (http), \
                     or use curl -N for what a proxy serves"
                ));
            }
            _ => return Err(format!("{url:?} is not a URL of HTTP; {FORM}")),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err("a URL with a password is not taken; \
                 send it by --header 'Authorization: ...'"
                .to_owned());
        }
        let host = uri.host().unwrap_or_default();
        let mut all = HeaderMap::new();
        let fixed = [
            (ACCEPT, "text/event-stream"),
            (CACHE_CONTROL, "no-store"),
            (
                USER_AGENT,
                concat!("kafka-sse-bridge-tail/", env!("CARGO_PKG_VERSION")),
            ),
        ];
        for (name, value) in fixed {
            all.insert(name, HeaderValue::from_static(value));
        }
        let host_header =
            HeaderValue::from_str(authority).map_err(|error| format!("{url:?}: {error}; {FORM}"))?;
        all.insert(HOST, host_header);
        for (name, _) in headers {
            all.remove(name);
        }
        for (name, value) in headers {
            all.append(name, value.clone());
        }
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(80),
            uri,
            unix,
            headers: all,
        })
    }

    /// Opens the stream after the event with this id; empty for none.
    pub(super) async fn open(&self, id: &str) -> Result<Stream, OpenError> {
        let unreachable = |what: &dyn std::fmt::Display| {
            OpenError::Unreachable(match &self.unix {
                Some(path) => format!("{}: {what}", path.display()),
                None => format!("{}:{}: {what}", self.host, self.port),
            })
        };
        let late = |_| unreachable(&format!("no answer within {CONNECT_TIMEOUT:?}"));
        let request = self.request(id)?;
        let response = if let Some(path) = &self.unix {
            let connected = timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await;
            let stream = connected.map_err(late)?.map_err(|error| unreachable(&error))?;
            send(stream, request).await
        } else {
            let connected = timeout(
                CONNECT_TIMEOUT,
                TcpStream::connect((self.host.as_str(), self.port)),
            )
            .await;
            let stream = connected.map_err(late)?.map_err(|error| unreachable(&error))?;
            send(stream, request).await
        };
        let response = response.map_err(|error| unreachable(&error))?;
        let content_type = response.headers().get(CONTENT_TYPE);
        let is_stream = content_type.is_some_and(|found| {
            let essence = found.as_bytes().split(|&byte| byte == b';').next();
            essence.is_some_and(|found| found.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
        });
        if response.status() == StatusCode::OK && is_stream {
            return Ok(Stream {
                body: response.into_body(),
            });
        }
        Err(OpenError::Refused(refusal(response).await))
    }

    fn request(&self, id: &str) -> Result<Request<String>, OpenError> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(String::new());
        *request.uri_mut() = path
            .parse()
            .map_err(|error| OpenError::Refused(format!("{path:?}: {error}")))?;
        request.headers_mut().clone_from(&self.headers);
        if !id.is_empty() {
            let id = HeaderValue::from_str(id)
                .map_err(|_| OpenError::Refused("the id is not a valid header value".to_owned()))?;
            request.headers_mut().insert(LAST_EVENT_ID, id);
        }
        Ok(request)
    }
}

/// Sends a request on a new connection, which a task of its own keeps going.
async fn send<I>(stream: I, request: Request<String>) -> Result<Response<Incoming>, String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // An error of the connection also ends the body, or the response awaited below.
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    match timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {ANSWER_TIMEOUT:?}")),
    }
}

/// Describes a response that is not an event stream. Errors of the daemon are JSON; those of other servers may not be.
async fn refusal(response: Response<Incoming>) -> String {
    let status = response.status();
    if status == StatusCode::OK {
        return "200, but not text/event-stream: check that this is the path of a stream".to_owned();
    }
    if let Some(location) = response.headers().get(LOCATION)
        && status.is_redirection()
    {
        let location = String::from_utf8_lossy(location.as_bytes());
        return format!("{status}: redirect to {location}, which tail does not follow");
    }
    let mut body = Vec::new();
    let mut stream = Stream {
        body: response.into_body(),
    };
    let read = async {
        while let Ok(Some(bytes)) = stream.next().await {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_ANSWER {
                break;
            }
        }
    };
    // An incomplete body is shown too.
    let _ = timeout(ANSWER_TIMEOUT, read).await;
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let error = said.as_ref().and_then(|said| said.get("error"));
    let member = |name: &str| error.and_then(|error| error.get(name)?.as_str());
    match (member("code"), member("message")) {
        (Some(code), Some(message)) => format!("{status}: {code}: {message}"),
        _ => format!(
            "{status}: {}",
            String::from_utf8_lossy(&body).lines().next().unwrap_or_default()
        ),
    }
}

impl Stream {
    /// The next bytes; `None` where the server has ended the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(chain(&error)),
                // Trailers are not needed.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// An error with its causes: hyper's own words alone do not name the system's.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
