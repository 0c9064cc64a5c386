//! The streams that a client may read.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

use crate::http::access::Reader;
use crate::http::connections::Connection;
use crate::http::error::ApiError;
use crate::http::state::{AppState, RequestSettings};
use crate::stream::Stream;

/// The streams that a client may know of.
pub(super) struct Readable {
    /// Those that it may read, in the order of the configuration.
    pub(super) streams: Vec<Arc<Stream>>,
    /// The ways in which clients may authenticate, if there are streams that another client may read.
    pub(super) accepts: Option<Vec<&'static str>>,
    /// Why its token or its certificate is not accepted, if it is not.
    pub(super) error: Option<ApiError>,
}

/// Decides for every stream as if the client had opened it.
pub(super) async fn readable(
    state: &AppState,
    query: &str,
    headers: &HeaderMap,
    connection: Option<&Arc<Connection>>,
) -> Readable {
    let requests = state.requests();
    let streams = state.shown().streams.clone();
    let policy = state.auth.policy();
    let is_public = |stream: &Arc<Stream>| policy.allow(&stream.settings().path).is_public();
    let reader = if streams.iter().all(is_public) {
        None
    } else {
        Some(Reader::of(state, &policy, query, headers, connection).await)
    };
    let may_read = |stream: &Arc<Stream>| match &reader {
        Some(reader) if !is_public(stream) => reader.may_read(state, stream),
        _ => true,
    };
    let (mut allowed, others): (Vec<_>, Vec<_>) = streams.into_iter().partition(may_read);
    // Another page's script learns of those alone that it may read from there.
    allowed.retain(|stream| is_readable_from(&requests, stream, headers));
    let accepts = Some(policy.accepts()).filter(|accepts| !others.is_empty() && !accepts.is_empty());
    Readable {
        streams: allowed,
        accepts,
        error: reader.and_then(|reader| reader.refusal()),
    }
}

/// Whether the page that asks, if it is of another origin, may read this stream.
fn is_readable_from(requests: &RequestSettings, stream: &Stream, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_own = authority.is_some_and(|(_, authority)| Some(authority) == host);
    let cors = requests.cors_of(&stream.settings().path);
    is_own || cors.allowed_origin(headers).is_some()
}
