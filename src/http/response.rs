//! Headers that responses of one kind have in common.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};
use warp::reply::{Reply, Response};

/// A JSON response that caches do not store and browsers do not sniff as HTML: errors echo parts of the request.
pub(super) fn json(value: &serde_json::Value) -> Response {
    let mut response = warp::reply::json(value).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Event streams are always UTF-8 (HTML standard, section 9.2.5). Clients that are not browsers take `text/*`
/// without a charset for Latin-1, as Python's requests does.
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// No cache keeps a stream. No proxy compresses it either: a compressor holds events back until its buffer is full
/// (`no-transform`: RFC 9111, section 5.2.2.6; express's `compression()` obeys it).
const NO_STORE_NO_TRANSFORM: HeaderValue = HeaderValue::from_static("no-store, no-transform");

/// Sets the header fields that every event stream has.
pub(super) fn as_event_stream(response: Response) -> Response {
    let mut response = unbuffered(response);
    response.headers_mut().insert(CONTENT_TYPE, EVENT_STREAM);
    response
}

/// Sets the header fields of a response whose body does not end: nobody on the way stores it or holds it back.
pub(super) fn unbuffered(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE_NO_TRANSFORM);
    // Tells nginx and others that follow it not to hold events back.
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}
