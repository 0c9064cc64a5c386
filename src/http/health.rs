//! `/health/live` and `/health/ready`.
//!
//! Ready is a latch: once every stream has loaded, losing Kafka does not take it away, because a
//! balancer that answers 503 in our place would end every EventSource for good. The body names faults instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::json;
use warp::reply::Response;

use super::response;
use super::state::{AppState, Shown};
use crate::config::units::Span;
use crate::stream::Stream;
use crate::stream::counters::SUPERSEDED_FOR;

/// 200 as long as the process serves requests.
pub(crate) fn live() -> Response {
    response::json(&json!({ "live": true }))
}

/// Whether all streams have been loaded once. To be called before a reload adds others.
pub(crate) fn has_loaded(state: &AppState) -> bool {
    let has_loaded = state.was_ready.load(Ordering::Relaxed) || loading(&state.shown()).next().is_none();
    if has_loaded {
        state.was_ready.store(true, Ordering::Relaxed);
    }
    has_loaded
}

/// The streams that are still being loaded.
fn loading(shown: &Shown) -> impl Iterator<Item = &Arc<Stream>> {
    let is_loading = |stream: &&Arc<Stream>| !stream.is_loaded() && stream.failure().is_none();
    shown.streams.iter().filter(is_loading)
}

#[derive(Debug)]
pub(crate) struct Standing {
    /// Whether every stream has loaded once, and the daemon is not shutting down.
    pub is_ready: bool,
    /// Whether the daemon is shutting down.
    pub is_draining: bool,
    /// Paths of streams that are still being loaded.
    pub loading: Vec<String>,
    /// Topics that are being loaded, with the percentage loaded.
    pub progress: BTreeMap<String, u8>,
    /// Faults, in words.
    pub degraded: Vec<String>,
}

pub(crate) fn standing(state: &AppState) -> Standing {
    let is_draining = state.is_draining.load(Ordering::Relaxed);
    // A stream that a reload adds is loading too, but must not make a balancer avoid the others.
    let is_ready = has_loaded(state) && !is_draining;
    let shown = state.shown();
    let loading = loading(&shown)
        .map(|stream| stream.settings().path.clone())
        .collect();
    let failed = shown
        .streams
        .iter()
        .filter_map(|stream| stream.failure().map(str::to_owned));
    let tables = shown.streams.iter().flat_map(|stream| of_table(stream));
    let kafka = state.kafka.snapshot();
    let registry = state.schema_registry.degraded();
    let auth = state.auth.status.degraded();
    Standing {
        is_ready,
        is_draining,
        loading,
        progress: kafka.progress,
        degraded: kafka
            .degraded
            .into_iter()
            .chain(registry)
            .chain(state.tls.degraded())
            .chain(auth)
            .chain(failed)
            .chain(tables)
            .collect(),
    }
}

fn of_table(stream: &Stream) -> Vec<String> {
    let path = &stream.settings().path;
    let mut degraded = Vec::new();
    if let Some(reached) = stream.table_bounds_reached() {
        degraded.push(format!("stream {path}: its table is full ({reached})"));
    }
    for (cause, keys) in stream.unusable_keys() {
        if keys > 0 {
            degraded.push(format!(
                "stream {path}: keys whose newest record cannot be shown, so that clients do not have them: {keys} \
                 ({}); write these keys again, or delete them",
                cause.as_str()
            ));
        }
    }
    for (topic, records) in stream.superseded_lately() {
        degraded.push(format!(
            "stream {path}: records of topic {topic:?} that are not shown, because their keys have newer ones in other \
             partitions: {records}, some in the last {}; write a key to one partition only, and check the \
             producers' clocks",
            Span(SUPERSEDED_FOR)
        ));
    }
    degraded
}

/// 200 once every stream has loaded up to the ends as of the start, 503 before and while draining. The names of streams
/// and topics, and the faults, are details.
pub fn ready(state: &AppState, has_details: bool) -> Response {
    let standing = standing(state);
    let mut body = json!({ "ready": standing.is_ready, "draining": standing.is_draining });
    if has_details {
        body["loading"] = json!(standing.loading);
        body["progress"] = json!(standing.progress);
        body["degraded"] = json!(standing.degraded);
    }
    let mut response = response::json(&body);
    if !standing.is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
