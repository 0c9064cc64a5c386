//! Opens a stream as an EventSource does, over TCP or a Unix socket, with TLS or without. It knows HTTP, but no events.

use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, LOCATION, USER_AGENT,
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::tls::{self, Tls};
use super::token::Token;
use crate::config::FileName;
use crate::https::Files;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of a response may take, and the body of an error. The daemon sends a head at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_ANSWER: usize = 64 * 1024;

/// The header with the id after which the stream continues.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How the server is reached.
#[derive(Debug, Clone)]
enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Address {
    fn is_within_this_machine(&self) -> bool {
        match self {
            Self::Tcp(host, _) => {
                let address = host.parse::<IpAddr>();
                host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
            }
            Self::Unix(_) => true,
        }
    }
}

/// The options of a server from the command line.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) url: &'a str,
    /// Instead of the address in the URL.
    pub(super) unix: Option<PathBuf>,
    /// Instead of the address in the URL, as `host:port`.
    pub(super) connect: Option<&'a str>,
    /// They replace default headers.
    pub(super) headers: &'a [(HeaderName, HeaderValue)],
    pub(super) token: Token,
    pub(super) ca_file: Option<&'a FileName>,
    pub(super) cert: Option<&'a FileName>,
    pub(super) key: Option<&'a FileName>,
}

/// The address of a stream, and the headers of its requests.
#[derive(Clone)]
pub(super) struct Target {
    uri: Uri,
    address: Address,
    tls: Option<Tls>,
    headers: HeaderMap,
    token: Token,
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
    /// Reads the files.
    ///
    /// # Errors
    /// A fault of the command line or a file, and the remedy.
    pub(super) fn new(given: Given<'_>) -> Result<Self, String> {
        const FORM: &str = "write it like http://127.0.0.1:3000/events";
        let url = given.url;
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("{url:?} is not a URL: {error}; {FORM}"))?;
        let (has_tls, default_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(format!("{url:?} is not a URL of HTTP; {FORM}")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(
                "a URL with a password is not taken; send it by --header 'Authorization: ...', \
                 or a token by --token-file"
                    .to_owned(),
            );
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = match (given.unix, given.connect) {
            (Some(path), _) => Address::Unix(path),
            (None, Some(text)) => connect_address(text)?,
            (None, None) => Address::Tcp(host.to_owned(), uri.port_u16().unwrap_or(default_port)),
        };
        let tls = if has_tls {
            let files = Files::read(given.ca_file, given.cert, given.key)?;
            Some(Tls::new(host, &files)?)
        } else if given.ca_file.or(given.cert).is_some() {
            return Err(format!(
                "--ca-file, --cert and --key have no effect on {url:?}, which is without TLS; write https:// or remove them"
            ));
        } else {
            None
        };
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
        for (name, _) in given.headers {
            all.remove(name);
        }
        for (name, value) in given.headers {
            all.append(name, value.clone());
        }
        let token = if all.contains_key(AUTHORIZATION) {
            Token::None
        } else {
            given.token
        };
        token.header()?;
        Ok(Self {
            uri,
            address,
            tls,
            headers: all,
            token,
        })
    }

    /// Whether others can read the token on its way.
    pub(super) fn shows_token(&self) -> bool {
        let has_token = self.token.is_some() || self.headers.contains_key(AUTHORIZATION);
        has_token && self.tls.is_none() && !self.address.is_within_this_machine()
    }

    /// The URL without its query, which may hold a token.
    pub(super) fn place(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}{}", self.uri.path())
    }

    /// Opens the stream after the event with this id; empty for none.
    pub(super) async fn open(&self, id: &str) -> Result<Stream, OpenError> {
        let unreachable =
            |what: &dyn fmt::Display| OpenError::Unreachable(format!("{}: {what}", self.address));
        let late = |_| unreachable(&format!("no answer within {CONNECT_TIMEOUT:?}"));
        let request = self.request(id)?;
        let response = match &self.address {
            Address::Unix(path) => {
                let connected = timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await;
                let stream = connected.map_err(late)?.map_err(|error| unreachable(&error))?;
                self.send(stream, request).await
            }
            Address::Tcp(host, port) => {
                let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port))).await;
                let stream = connected.map_err(late)?.map_err(|error| unreachable(&error))?;
                self.send(stream, request).await
            }
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
        let status = response.status();
        let mut why = format!("{}: {}", self.place(), refusal(response).await);
        if let Some(remedy) = self.remedy(status) {
            why = format!("{why}; {remedy}");
        }
        Err(OpenError::Refused(why))
    }

    /// The remedy for a status, where the error itself does not name it.
    fn remedy(&self, status: StatusCode) -> Option<String> {
        match status {
            StatusCode::UNAUTHORIZED if self.headers.contains_key(AUTHORIZATION) => {
                Some("correct Authorization in --header".to_owned())
            }
            StatusCode::UNAUTHORIZED => Some(self.token.remedy()),
            StatusCode::FORBIDDEN => {
                Some("take the token of another client, or see allow and filter of the stream".to_owned())
            }
            StatusCode::MISDIRECTED_REQUEST => Some(
                "or write one of its names into the URL, and the address to connect to as --connect"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn request(&self, id: &str) -> Result<Request<String>, OpenError> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(String::new());
        *request.uri_mut() = path
            .parse()
            .map_err(|error| OpenError::Refused(format!("{path:?}: {error}")))?;
        request.headers_mut().clone_from(&self.headers);
        if let Some(value) = self.token.header().map_err(OpenError::Unreachable)? {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        if !id.is_empty() {
            let id = HeaderValue::from_str(id)
                .map_err(|_| OpenError::Refused("the id is not a valid header value".to_owned()))?;
            request.headers_mut().insert(LAST_EVENT_ID, id);
        }
        Ok(request)
    }

    /// Sends a request on a new connection, with TLS where the URL says so.
    async fn send<I>(&self, stream: I, request: Request<String>) -> Result<Response<Incoming>, String>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(tls) = &self.tls else {
            return send(stream, request).await;
        };
        let connected = timeout(CONNECT_TIMEOUT, tls.connect(stream)).await;
        let late = |_| format!("no TLS handshake within {CONNECT_TIMEOUT:?}");
        send(connected.map_err(late)??, request).await
    }
}

/// Reads `host:port` or `[address]:port`.
fn connect_address(text: &str) -> Result<Address, String> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host
            .strip_prefix('[')
            .map_or(Some(host), |rest| rest.strip_suffix(']'))?;
        Some((host, port.parse().ok()?))
    });
    match parts {
        Some((host, port)) if !host.is_empty() => Ok(Address::Tcp(host.to_owned(), port)),
        _ => Err(format!(
            "--connect {text:?} is not an address; write it like 10.0.0.5:8443 or [::1]:8443"
        )),
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
        Ok(Err(error)) => Err(why(&error)),
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
                Some(Err(error)) => return Err(why(&error)),
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

/// An error with its causes, because hyper's own words do not name the system's; those of TLS with a remedy.
fn why(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(text) = tls::explain(error) {
        return text;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
