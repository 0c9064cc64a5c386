//! `/streams`: what is served, for people, programs and the page. Its full form, for operators, has positions, clients and
//! figures; see docs/wire.md.
//!
//! Listeners that do not expose it answer with its reduced form: the streams that the client may read, as `readable` finds
//! out, without any figure.

mod entry;
mod readable;

use std::sync::Arc;

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use warp::reply::Response;

use self::entry::{Progress, by_limit, described};
use self::readable::readable;
use super::connections::{Connection, Connections};
use super::flood::Flood;
use super::limits::Limits;
use super::response;
use super::state::AppState;
use super::tls_status::TlsStatus;
use crate::stream::Stream;

/// The full form.
pub(super) fn answer(state: &AppState) -> Response {
    let kafka = state.kafka.snapshot();
    let progress = Progress::of(&kafka);
    let lags = entry::lags(state);
    let (requests, policy) = (state.requests(), state.auth.policy());
    let streams: Vec<Value> = state
        .shown()
        .streams
        .iter()
        .map(|stream| {
            let mut entry = described(stream, &policy, &requests, &progress);
            entry::add_figures(&mut entry, stream, state, &lags);
            entry
        })
        .collect();
    response::json(&json!({
        "http": {
            "connections": state.connections.open(),
            "write_timeouts": state.connections.write_timeouts(),
            "head_timeouts": state.connections.head_timeouts(),
            "large_heads": state.connections.large_heads(),
            "accept_pauses": state.connections.accept_pauses(),
            "refused_connections": state.connections.refused(),
            "unknown_hosts": state.unknown_hosts.count(),
            "limits": limits(&state.limits),
            "tls": tls(&state.tls),
            "http2": {
                "floods": floods(&state.connections),
                "ping_timeouts": state.connections.http2_ping_timeouts(),
            },
        },
        "streams": streams,
        "kafka": {
            "client": kafka.client,
            "contacted": kafka.contacted,
            "degraded": kafka.degraded,
            "replays": replays(state),
        },
    }))
}

/// The reduced form: `{"streams":[…],"hidden"?,"accepts"?,"error"?}`, for the client of a request with this query.
pub(super) async fn answer_reduced(
    state: &AppState,
    query: &str,
    headers: &HeaderMap,
    connection: Option<&Arc<Connection>>,
) -> Response {
    let readable = readable(state, query, headers, connection).await;
    let kafka = state.kafka.snapshot();
    let (progress, requests) = (Progress::of(&kafka), state.requests());
    let policy = state.auth.policy();
    let entry = |stream: &Arc<Stream>| described(stream, &policy, &requests, &progress);
    let mut body = json!({ "streams": readable.streams.iter().map(entry).collect::<Vec<_>>() });
    if let Some(accepts) = readable.accepts {
        body["hidden"] = json!(true);
        body["accepts"] = json!(accepts);
    }
    if let Some(error) = readable.error {
        body["error"] = json!(error);
    }
    let mut response = response::json(&body);
    let headers = response.headers_mut();
    // It shows what one client may read.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    headers.insert(VARY, HeaderValue::from_static("authorization, cookie, origin"));
    response
}

fn replays(state: &AppState) -> Value {
    let load = state.replay_load();
    json!({
        "running": load.running,
        "waiting": load.waiting,
        "over_quota": { "client": load.over_flow_quota, "all": load.over_quota_of_all },
        "read_bytes": state.replay_quota.read(),
    })
}

fn limits(limits: &Limits) -> Value {
    let figures = limits.counts();
    let refused = by_limit(&figures.refused);
    json!({ "clients": figures.clients, "addresses": figures.addresses, "refused": refused })
}

fn tls(tls: &TlsStatus) -> Value {
    let handshakes: Map<String, Value> = tls
        .outcomes()
        .map(|(outcome, count)| (outcome.as_str().to_owned(), json!(count)))
        .collect();
    json!({
        "handshakes": handshakes,
        "handshakes_under_way": tls.under_way(),
        "handshake_waits": tls.waits(),
        "resumed": tls.resumed(),
    })
}

fn floods(connections: &Connections) -> Map<String, Value> {
    let entry = |(kind, count): (Flood, u64)| (kind.as_str().to_owned(), json!(count));
    connections.http2_floods().map(entry).collect()
}
