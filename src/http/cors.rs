//! Cross-origin requests (`[http.cors]`; the Fetch standard, section "HTTP CORS protocol"): which origins may read a
//! response, and the responses to preflights. Pure.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use warp::reply::{Reply, Response};

use crate::config::cors::{ANY_ORIGIN, AllowedOrigin, CorsSettings};

/// Headers that requests from other origins may have beside those that need no permission, whatever `allow_headers` says:
/// a client that reads a stream without EventSource sends them.
const ALLOWED_HEADERS: [&str; 3] = ["accept", "cache-control", "last-event-id"];

/// Response headers that pages of other origins may read beside those that need no permission.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("retry-after");

/// How many seconds a browser may cache a preflight: the most that Chromium does.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Which origins may read, and what they may send.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Vec<AllowedOrigin>,
    allows_any: bool,
    allowed_headers: HeaderValue,
    allows_credentials: bool,
}

impl From<&CorsSettings> for Cors {
    fn from(cors: &CorsSettings) -> Self {
        let more = cors.allow_headers.iter().map(|name| name.to_lowercase());
        let mut headers: Vec<String> = ALLOWED_HEADERS
            .map(str::to_owned)
            .into_iter()
            .chain(more)
            .collect();
        headers.sort_unstable();
        headers.dedup();
        let origins = cors.allow_origins.iter();
        Self {
            origins: origins.map(|origin| AllowedOrigin::new(origin)).collect(),
            allows_any: cors.allows_any(),
            // Names of headers are a valid header value.
            allowed_headers: headers.join(", ").parse().unwrap_or(HeaderValue::from_static("")),
            allows_credentials: cors.allow_credentials,
        }
    }
}

impl Cors {
    /// The origin that may read the response, if the request has one that is allowed.
    pub(super) fn allowed_origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        if self.allows_any {
            return Some(HeaderValue::from_static(ANY_ORIGIN));
        }
        let text = origin.to_str().ok()?;
        let mut origins = self.origins.iter();
        origins
            .any(|allowed| allowed.covers(text))
            .then(|| origin.clone())
    }

    /// The response to a preflight from an allowed origin.
    pub(super) fn preflight(&self) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, HEAD"),
        );
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.allowed_headers.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        response
    }

    /// Adds the headers that say who may read the response.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
        // Also where no origin is allowed: a cache must not show one site what was meant for another.
        if !self.origins.is_empty() && !self.allows_any {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
            if self.allows_credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
    }
}

/// Whether a browser asks what it may send to another origin.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}
