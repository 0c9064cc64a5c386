//! Redirects to HTTPS (`http.tls.redirect_to_https`): the same host and path, at the port of HTTPS.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, HOST, LOCATION};
use http::uri::Authority;
use http::{HeaderValue, Request, StatusCode};
use warp::reply::{Reply, Response};

use super::error::ApiError;
use super::router::Handler;
use super::state::AppState;
use crate::config::http_tls::HTTPS_PORT;

/// Answers every request by a redirect.
pub(crate) fn handler(state: Arc<AppState>) -> Handler {
    Arc::new(move |request| {
        let port = state.requests().https_port;
        Box::pin(async move { answer(&request, port) })
    })
}

fn answer<B>(request: &Request<B>, port: u16) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let location = host.and_then(|host| location(host, port, target));
    let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) else {
        let message = "this address redirects to https, and the request has no host to redirect to";
        return ApiError::new(StatusCode::BAD_REQUEST, "no_host", message).into_response();
    };
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    // The configuration may change, and a browser would keep it for ever.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

/// The URL of HTTPS; `None` if the host is not one.
fn location(host: &str, port: u16, target: &str) -> Option<String> {
    let authority: Authority = host.parse().ok()?;
    let name = authority.host();
    if name.is_empty() || authority.as_str().contains('@') || !target.starts_with('/') {
        return None;
    }
    Some(if port == HTTPS_PORT {
        format!("https://{name}{target}")
    } else {
        format!("https://{name}:{port}{target}")
    })
}

#[cfg(test)]
mod tests {
    use super::location;

    #[test]
    fn a_redirect_keeps_host_and_path() {
        for (host, port, target, expected) in [
            ("example.org", 443, "/a?b=c", Some("https://example.org/a?b=c")),
            ("example.org:80", 443, "/", Some("https://example.org/")),
            ("example.org:8080", 8443, "/", Some("https://example.org:8443/")),
            ("[::1]:8080", 8443, "/x", Some("https://[::1]:8443/x")),
            ("user@example.org", 443, "/", None),
            ("", 443, "/", None),
            ("example.org/evil", 443, "/", None),
            ("example.org", 443, "*", None),
        ] {
            assert_eq!(
                location(host, port, target).as_deref(),
                expected,
                "{host} {target}"
            );
        }
    }
}
