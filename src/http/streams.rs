//! `/streams`: the streams, their positions and their clients.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use warp::reply::Response;

use super::connections::Connections;
use super::flood::Flood;
use super::limits::{Limit, Limits};
use super::response;
use super::state::AppState;
use super::tls_status::TlsStatus;
use crate::stream::Stream;

/// JSON for people and programs; see docs/wire.md.
pub(super) fn answer(state: &AppState) -> Response {
    let streams: Vec<Value> = state
        .shown()
        .streams
        .iter()
        .map(|stream| {
            describe(
                stream,
                &state.kafka.paused_by(&stream.settings().path),
                &state.limits,
            )
        })
        .collect();
    let kafka = state.kafka.snapshot();
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

fn by_limit(refused: &[(Limit, u64)]) -> Map<String, Value> {
    let entry = |(limit, count): &(Limit, u64)| (limit.as_str().to_owned(), json!(count));
    refused.iter().map(entry).collect()
}

fn describe(stream: &Stream, paused: &[Arc<str>], limits: &Limits) -> Value {
    let settings = stream.settings();
    let (figures, counters) = (stream.figures(), stream.counters());
    let (replays, replay_bytes) = stream.replays();
    let filters = stream.filters();
    let topics: Vec<Value> = settings
        .topics
        .iter()
        .enumerate()
        .map(|(index, topic)| {
            let position = figures
                .position
                .as_ref()
                .and_then(|position| position.topics.get(index));
            let next = |&next: &i64| (next >= 0).then_some(next);
            json!({
                "topic": topic,
                "next": position.map(|position| position.next.iter().map(next).collect::<Vec<_>>()),
            })
        })
        .collect();
    let oldest = figures.oldest.map(|(topic, partition, offset)| {
        json!({ "topic": settings.topics.get(usize::from(topic)), "partition": partition, "offset": offset })
    });
    let invalid: Map<String, Value> = counters
        .invalid()
        .iter()
        .map(|(cause, count)| (cause.as_str().to_owned(), json!(count)))
        .collect();
    let unusable: Map<String, Value> = stream
        .unusable_keys()
        .iter()
        .map(|(cause, keys)| (cause.as_str().to_owned(), json!(keys)))
        .collect();
    let superseded: Map<String, Value> = counters
        .superseded()
        .into_iter()
        .map(|(topic, count)| (topic, json!(count.records)))
        .collect();
    json!({
        "path": settings.path,
        "format": settings.format,
        "start": settings.start,
        "topics": topics,
        "loaded": figures.is_loaded,
        "failure": stream.failure(),
        "paused_topics": paused.iter().map(|topic| &**topic).collect::<Vec<&str>>(),
        "clients": figures.clients,
        "slow_clients": counters.slow.get(),
        "conflated_clients": counters.conflated.get(),
        "replays": { "count": replays, "bytes": replay_bytes },
        "table": figures.table.map(|(keys, bytes)| json!({
            "keys": keys,
            "bytes": bytes,
            "full": figures.is_table_full,
            "keyless_records": counters.keyless.get(),
            "displaced_keys": counters.displaced.get(),
            "unusable_keys": unusable,
        })),
        "records": figures.records,
        "invalid_records": invalid,
        "hidden_records": counters.hidden.get(),
        "superseded_records": superseded,
        "filters": {
            "count": filters.filters,
            "paths": filters.paths,
            "unindexed": filters.unindexed,
            "bytes": filters.noted_bytes,
            "refused": by_limit(&limits.refused_by(&settings.path)),
        },
        "log": { "records": figures.log_records, "bytes": figures.log_bytes, "oldest": oldest },
    })
}
