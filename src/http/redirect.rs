//! Redirects to HTTPS (`http.tls.redirect_to_https`): the same host and path, at the port of HTTPS.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderValue, Request, StatusCode};
use warp::reply::{Reply, Response};

use super::error::{ApiError, ErrorCode};
use super::hosts::Host;
use super::router::Handler;
use super::state::AppState;
use crate::config::http_tls::HTTPS_PORT;

/// Answers every request by a redirect, to hosts that the daemon answers to.
pub(crate) fn handler(state: Arc<AppState>) -> Handler {
    Arc::new(move |request| {
        let settings = state.requests();
        let response = match state.check_host(&settings, &request, false) {
            Ok(host) => answer(&request, host.as_ref(), settings.https_port),
            Err(refusal) => refusal.into_response(),
        };
        Box::pin(async { response })
    })
}

fn answer<B>(request: &Request<B>, host: Option<&Host>, port: u16) -> Response {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let location = host.and_then(|host| location(host, port, target));
    let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) else {
        let message = "this address redirects to https, and the request has no host and path to redirect to";
        return ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::NoHost, message).into_response();
    };
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    // The configuration may change, and a browser would keep it for ever.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

/// The URL of HTTPS; `None` if the target is not a path.
fn location(host: &Host, port: u16, target: &str) -> Option<String> {
    if !target.starts_with('/') {
        return None;
    }
    let name = host.in_url();
    Some(if port == HTTPS_PORT {
        format!("https://{name}{target}")
    } else {
        format!("https://{name}:{port}{target}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_keeps_host_and_path() {
        for (host, port, target, expected) in [
            ("example.org", 443, "/a?b=c", Some("https://example.org/a?b=c")),
            ("example.org:80", 443, "/", Some("https://example.org/")),
            ("Example.org.:8080", 8443, "/", Some("https://example.org:8443/")),
            ("192.0.2.1:8080", 443, "/", Some("https://192.0.2.1/")),
            ("[::1]:8080", 8443, "/x", Some("https://[::1]:8443/x")),
            (
                "example.org",
                443,
                "//evil.example/",
                Some("https://example.org//evil.example/"),
            ),
            ("example.org", 443, "*", None),
        ] {
            let host = Host::parse(host).expect(host);
            assert_eq!(location(&host, port, target).as_deref(), expected, "{target}");
        }
    }
}
