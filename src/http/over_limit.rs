//! The response to a client over a limit, or one that cannot be served now.
//!
//! An EventSource never reconnects after a status other than 200, so it gets a stream with a `retry` time that ends at
//! once; every other client gets a status with `Retry-After`. The connection is closed too, to free its descriptor.

use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::accept;
use super::error::{ApiError, ErrorCode};
use super::limits::Limit;
use super::response::as_event_stream;
use crate::sse::write;
use crate::stream::control::{Control, Goodbye, echoed_id};
use crate::stream::start_position::Opening;

/// Seconds until the client may retry; at random, so that clients that are refused together do not retry together.
const PAUSE: std::ops::RangeInclusive<u64> = 15..=60;

/// The response to a request for a stream over `limit`.
pub(super) fn answer(limit: Limit, opening: &Opening, headers: &HeaderMap) -> Response {
    let id = opening.last_event_id.as_deref();
    later(Goodbye::Overloaded, problem(limit), id, headers)
}

/// The response to a client that is to come back later, with the id that it came with.
pub(super) fn later(goodbye: Goodbye, error: ApiError, id: Option<&str>, headers: &HeaderMap) -> Response {
    let seconds = rand::random_range(PAUSE);
    // As EventSource does (HTML standard, section 9.2.3).
    let mut response = if accept::media_type(headers, "text/event-stream").is_named() {
        let mut body = write::retry(u128::from(seconds) * 1000).into_bytes();
        let id = id.and_then(echoed_id);
        body.extend(Control::Goodbye(goodbye).frame(id.map(str::as_bytes)));
        as_event_stream(body.into_response())
    } else {
        let mut response = error.into_response();
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
        response
    };
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn problem(limit: Limit) -> ApiError {
    let (status, code, message) = match limit {
        Limit::Clients => (
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::TooManyClients,
            "the limit of open streams is reached; retry later",
        ),
        Limit::ClientsPerIp => (
            StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::TooManyClientsPerIp,
            "the limit of open streams per client address is reached; close some, or retry later",
        ),
        Limit::Opens | Limit::OpensPerIp => (
            StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::TooManyOpens,
            "the limit of streams opened per second is reached; retry later",
        ),
        Limit::FilterPaths => (
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::TooManyFilterPaths,
            "the limit of value paths and header names in filters of this stream is reached (max_filter_paths, or an eighth \
             of log_bytes for them); use those of other clients, or retry later",
        ),
        Limit::UnindexedFilters => (
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::TooManyUnindexedFilters,
            "the limit of filters by topic and partition alone is reached on this stream (max_unindexed_filters); add a key, \
             a header or a value, or retry later",
        ),
    };
    ApiError::new(status, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_accept_headers_that_name_event_streams_get_a_stream() {
        for (values, names) in [
            (&["text/event-stream"][..], true),
            (&["text/html, Text/Event-Stream;q=0.5"], true),
            (&["text/html", "text/event-stream"], true),
            (&["*/*"], false),
            (&["text/*"], false),
            (&["text/event-stream;q=0"], false),
            (&["text/event-streams"], false),
            (&[], false),
        ] {
            let headers = values
                .iter()
                .map(|value| (http::header::ACCEPT, HeaderValue::from_static(value)));
            let preference = accept::media_type(&headers.collect(), "text/event-stream");
            assert_eq!(preference.is_named(), names, "{values:?}");
        }
    }
}
