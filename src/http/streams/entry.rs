//! A stream in `/streams`.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use crate::auth::policy::Policy;
use crate::config::path_parameters::parameters;
use crate::http::limits::Limit;
use crate::http::state::{AppState, RequestSettings};
use crate::kafka::reader_status::Snapshot;
use crate::stream::Stream;

/// The percentages of topics that are being read up to the ends that they had at the start.
pub(super) struct Progress<'k>(&'k BTreeMap<String, u8>);

impl<'k> Progress<'k> {
    pub(super) const fn of(kafka: &'k Snapshot) -> Self {
        Self(&kafka.progress)
    }

    /// That of a stream that is not loaded, by the topic that is furthest behind; `None` while none is known.
    fn of_stream(&self, topics: &[String]) -> Option<u8> {
        topics.iter().filter_map(|topic| self.0.get(topic)).min().copied()
    }
}

/// The members of both forms: how the stream is read, and how the page shows it.
pub(super) fn described(
    stream: &Stream,
    policy: &Policy,
    requests: &RequestSettings,
    progress: &Progress<'_>,
) -> Value {
    let settings = stream.settings();
    let is_loaded = stream.is_loaded();
    let topic = |topic: &String| json!({ "topic": topic });
    json!({
        "path": settings.path,
        "parameters": parameters(&settings.path).collect::<Vec<_>>(),
        "topics": settings.topics.iter().map(topic).collect::<Vec<_>>(),
        "format": settings.format,
        "event": settings.event,
        "key_field": settings.key_field,
        "topic_field": settings.topic_field,
        "partition_field": settings.partition_field,
        "offset_field": settings.offset_field,
        "timestamp_field": settings.timestamp_field,
        "headers_field": settings.headers_field,
        "key_format": settings.key_format,
        "value_format": settings.value_format,
        "start": settings.start,
        "keeps_table": settings.has_table(),
        "public": policy.allow(&settings.path).is_public(),
        "client_filters": stream.live_settings().client_filters,
        "loaded": is_loaded,
        "progress": (!is_loaded).then(|| progress.of_stream(&settings.topics)).flatten(),
        "views": requests.views_of(&settings.path),
    })
}

/// The lag of all topics, in offsets, over their partitions.
pub(super) fn lags(state: &AppState) -> HashMap<String, u64> {
    let mut lags = HashMap::new();
    for lag in state.kafka.lag() {
        let sum: &mut u64 = lags.entry(lag.topic).or_default();
        *sum = sum.saturating_add(lag.records);
    }
    lags
}

/// Adds what the full form has besides.
pub(super) fn add_figures(entry: &mut Value, stream: &Stream, state: &AppState, lags: &HashMap<String, u64>) {
    let settings = stream.settings();
    let paused = state.kafka.paused_by(&settings.path);
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
    let lag = settings.topics.iter().map(|topic| lags.get(topic).copied());
    let figures = json!({
        "topics": topics,
        "lag": lag.sum::<Option<u64>>(),
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
        "ignored_records": counters.ignored.get(),
        "superseded_records": superseded,
        "filters": {
            "count": filters.filters,
            "paths": filters.paths,
            "unindexed": filters.unindexed,
            "bytes": filters.noted_bytes,
            "refused": by_limit(&state.limits.refused_by(&settings.path)),
        },
        "log": { "records": figures.log_records, "bytes": figures.log_bytes, "oldest": oldest },
    });
    if let (Value::Object(entry), Value::Object(figures)) = (entry, figures) {
        entry.extend(figures);
    }
}

/// Refusals by the keys of their limits.
pub(super) fn by_limit(refused: &[(Limit, u64)]) -> Map<String, Value> {
    let entry = |(limit, count): &(Limit, u64)| (limit.as_str().to_owned(), json!(count));
    refused.iter().map(entry).collect()
}
