//! Cross-origin requests (`cors` in `[http]` and `[[stream]]`; the Fetch standard, section "HTTP CORS protocol"): which
//! origins may read a response, and the responses to preflights. Pure.
//!
//! Two more headers follow the same rule: `Cross-Origin-Resource-Policy` for requests without CORS, such as those of
//! scripts and images, which name no origin, and `Timing-Allow-Origin` (Resource Timing, section 4.5.1).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use warp::reply::{Reply, Response};

use crate::config::cors::{ANY_ORIGIN, AllowedOrigin, CorsSettings};

/// Headers that requests from other origins may have beside those that need no permission, whatever `allow_headers`
/// says: a client that reads a stream without EventSource, or a document again, sends them.
const ALLOWED_HEADERS: [&str; 4] = ["accept", "cache-control", "if-none-match", "last-event-id"];

/// Response headers that pages of other origins may read beside those that need no permission.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("etag, retry-after");

/// A preflight of a page of a public address for a private one (Private Network Access, section 3.1.2).
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

/// How many seconds a browser may cache a preflight: the most that Chromium does.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

#[derive(Debug)]
pub(super) struct Cors {
    origins: Vec<AllowedOrigin>,
    allows_any: bool,
    allowed_headers: HeaderValue,
    allows_credentials: bool,
    allows_private_network: bool,
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
            allows_private_network: cors.allow_private_network,
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

    /// The response to a preflight with these headers, of a page of an allowed origin.
    pub(super) fn preflight(&self, request: &HeaderMap) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, HEAD"),
        );
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.allowed_headers.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        let crosses_border = request
            .get(REQUEST_PRIVATE_NETWORK)
            .is_some_and(|value| value == "true");
        if self.allows_private_network && crosses_border {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        response
    }

    /// Says which pages may load a response without CORS: those of any origin where all may read it, otherwise the
    /// daemon's own.
    pub(super) fn add_resource_policy(&self, headers: &mut HeaderMap) {
        let policy = if self.allows_any {
            "cross-origin"
        } else {
            "same-origin"
        };
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static(policy));
    }

    pub(super) fn add_headers(&self, headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
        // Also where no origin is allowed: a cache must not serve one site a response meant for another.
        if !self.origins.is_empty() && !self.allows_any {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = allowed {
            headers.insert(TIMING_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
            if self.allows_credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
    }
}

pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], allow_credentials: bool) -> Cors {
        Cors::from(&CorsSettings {
            allow_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            allow_headers: vec!["Authorization".to_owned(), "Accept".to_owned()],
            allow_credentials,
            allow_private_network: true,
        })
    }

    fn allowed(cors: &Cors, origin: &'static str) -> Option<HeaderValue> {
        let headers = [(ORIGIN, HeaderValue::from_static(origin))];
        cors.allowed_origin(&headers.into_iter().collect())
    }

    #[test]
    fn only_listed_origins_are_allowed_and_responses_vary_by_origin() {
        let cors = cors(&["https://a.example", "https://*.b.example"], true);
        let origin = allowed(&cors, "https://x.b.example");
        assert_eq!(
            origin.as_ref().map(HeaderValue::as_bytes),
            Some(&b"https://x.b.example"[..])
        );
        assert_eq!(allowed(&cors, "https://b.example"), None);
        assert_eq!(
            allowed(&cors, "https://*.b.example"),
            None,
            "a rule, not an origin"
        );
        assert_eq!(cors.allowed_origin(&HeaderMap::new()), None);
        let mut headers = HeaderMap::new();
        cors.add_headers(&mut headers, origin);
        assert_eq!(headers[VARY], "origin");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        let mut headers = HeaderMap::new();
        cors.add_headers(&mut headers, None);
        assert_eq!(
            (headers.len(), &headers[VARY]),
            (1, &HeaderValue::from_static("origin"))
        );
    }

    #[test]
    fn any_origin_is_a_wildcard_and_no_origin_adds_nothing() {
        let any = cors(&["*"], false);
        let mut headers = HeaderMap::new();
        any.add_headers(&mut headers, allowed(&any, "null"));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(VARY));
        let none = cors(&[], false);
        assert_eq!(allowed(&none, "https://a.example"), None);
        let mut headers = HeaderMap::new();
        none.add_headers(&mut headers, None);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_preflight_lists_configured_headers_once_in_lower_case() {
        let response = cors(&["https://a.example"], false).preflight(&HeaderMap::new());
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(
            response.headers()[ACCESS_CONTROL_ALLOW_HEADERS],
            "accept, authorization, cache-control, if-none-match, last-event-id"
        );
    }
}
