//! Counters and gauges of each stream.
//!
//! Counters are kept by path and outlive the stream; gauges exist only for streams that are served.

use std::fmt;
use std::sync::Arc;

use super::families::{Families, Histogram, Labels};
use crate::http::state::AppState;
use crate::stream::Stream;
use crate::stream::control::Reset;
use crate::stream::counters::{Counters, Departure, LATENCIES, Sent, Superseded, To};
use crate::stream::encode::Invalid;
use crate::stream::figures::Figures;

/// A path, and what was counted there.
type Counted = (String, Arc<Counters>);

pub(super) fn write(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    let counted = state.ledger.all();
    clients(&counted, families)?;
    sent(&counted, families)?;
    let streams = state.shown().streams.clone();
    records(&counted, families)?;
    notices(&counted, families)?;
    let served: Vec<_> = streams
        .iter()
        .map(|stream| (stream.as_ref(), stream.figures()))
        .collect();
    held(&served, families)
}

fn of(path: &str) -> Labels {
    vec![("stream", path.to_owned())]
}

fn and(path: &str, name: &'static str, value: &str) -> Labels {
    vec![("stream", path.to_owned()), (name, value.to_owned())]
}

/// One sample for each path.
fn by_path(counted: &[Counted], value: impl Fn(&Counters) -> u64) -> impl Iterator<Item = (Labels, u64)> {
    counted
        .iter()
        .map(move |(path, counters)| (of(path), value(counters)))
}

fn clients(counted: &[Counted], families: &mut Families<'_>) -> fmt::Result {
    // Departures are read first, so that they never exceed arrivals.
    let closed: Vec<[(Departure, u64); Departure::ALL.len()]> =
        counted.iter().map(|(_, counters)| counters.closed()).collect();
    let opened: Vec<u64> = counted
        .iter()
        .map(|(_, counters)| counters.opened.get())
        .collect();
    let all = || counted.iter().zip(&opened).zip(&closed);
    families.gauge(
        "clients",
        "Clients of the stream now",
        all().map(|(((path, _), opened), closed)| {
            let gone: u64 = closed.iter().map(|(_, count)| count).sum();
            (of(path), opened.saturating_sub(gone))
        }),
    )?;
    families.counter(
        "clients_opened",
        "Streams opened to clients",
        all().map(|(((path, _), opened), _)| (of(path), *opened)),
    )?;
    families.counter(
        "clients_closed",
        "Streams to clients that ended, by reason: the client left, write timeout, or the reason in goodbye",
        all().flat_map(|(((path, _), _), closed)| {
            let by_reason = |(why, count): &(Departure, u64)| (and(path, "reason", why.as_str()), *count);
            closed.iter().map(by_reason)
        }),
    )?;
    families.counter(
        "clients_slow",
        "How often a client fell behind the log and was disconnected, or continued with a replay from Kafka",
        by_path(counted, |counters| counters.slow.get()),
    )?;
    families.counter(
        "clients_conflated",
        "How often a client fell behind the log and continued with the latest values",
        by_path(counted, |counters| counters.conflated.get()),
    )?;
    families.counter(
        "documents",
        "Documents of the table that were begun",
        by_path(counted, |counters| counters.documents.get()),
    )?;
    families.counter(
        "documents_cut",
        "Documents of the table that were cut off, because too much of it changed meanwhile",
        by_path(counted, |counters| counters.cut_documents.get()),
    )
}

fn sent(counted: &[Counted], families: &mut Families<'_>) -> fmt::Result {
    let sent: Vec<(&str, Sent)> = counted
        .iter()
        .map(|(path, counters)| (path.as_str(), counters.sent()))
        .collect();
    families.counter(
        "deliveries",
        "Records written to connections, counted once per client, and control events between them",
        sent.iter().map(|(path, sent)| (of(path), sent.events)),
    )?;
    families.counter(
        "sent_bytes",
        "Bytes of events and comments written to connections",
        sent.iter().map(|(path, sent)| (of(path), sent.bytes)),
    )?;
    families.histogram(
        "delivery_latency_seconds",
        "From a batch's arrival in the stream to the write to a client that was waiting for it",
        sent.iter().map(|(path, sent)| (of(path), latencies(sent))),
    )
}

fn latencies(sent: &Sent) -> Histogram {
    let bounds = LATENCIES.map(|micros| micros as f64 / 1e6);
    let bounds = bounds.into_iter().chain([f64::INFINITY]);
    Histogram {
        sum: sent.waited.as_secs_f64(),
        buckets: bounds.zip(sent.latencies).collect(),
    }
}

fn records(counted: &[Counted], families: &mut Families<'_>) -> fmt::Result {
    families.counter(
        "stream_records",
        "Records read by the stream and shown",
        by_path(counted, |counters| counters.records.get()),
    )?;
    families.counter(
        "invalid_records",
        "Records skipped because they cannot be shown, by cause",
        counted.iter().flat_map(|(path, counters)| {
            let by_cause = |(cause, count): (Invalid, u64)| (and(path, "cause", cause.as_str()), count);
            counters.invalid().into_iter().map(by_cause)
        }),
    )?;
    families.counter(
        "hidden_records",
        "Records that the stream's own filter hides",
        by_path(counted, |counters| counters.hidden.get()),
    )?;
    families.counter(
        "ignored_records",
        "Records that are no changes of rows: heartbeats, transactions, schema changes, messages",
        by_path(counted, |counters| counters.ignored.get()),
    )?;
    families.counter(
        "keyless_records",
        "Records without a key, which the stream's table cannot hold",
        by_path(counted, |counters| counters.keyless.get()),
    )?;
    families.counter(
        "superseded_records",
        "Records that are not shown because their keys have newer ones in other partitions",
        counted.iter().flat_map(|(path, counters)| {
            let by_topic = |(topic, count): (String, Superseded)| (and(path, "topic", &topic), count.records);
            counters.superseded().into_iter().map(by_topic)
        }),
    )?;
    families.counter(
        "displaced_keys",
        "Keys that the full table did not store, or removed",
        by_path(counted, |counters| counters.displaced.get()),
    )
}

fn notices(counted: &[Counted], families: &mut Families<'_>) -> fmt::Result {
    let whom = [(To::All, "all"), (To::One, "client")];
    families.counter(
        "gaps",
        "Ranges of offsets that were deleted before they could be read, or that Kafka has lost since: sent to all \
         clients, counted once, or to a single client that replays or resumes",
        counted.iter().flat_map(|(path, counters)| {
            whom.map(|(to, name)| (and(path, "to", name), counters.gaps(to)))
        }),
    )?;
    families.counter(
        "resets",
        "Resets by reason: sent to all clients, counted once, or to a single client by its own position",
        counted.iter().flat_map(|(path, counters)| {
            whom.into_iter().flat_map(move |(to, name)| {
                // A reset of all clients is always that of a topic.
                let is_possible = move |(reason, _): &(Reset, u64)| {
                    to == To::One || matches!(reason, Reset::Recreated | Reset::Truncated)
                };
                let resets = counters.resets(to).into_iter().filter(is_possible);
                resets.map(move |(reason, count)| {
                    let mut labels = and(path, "to", name);
                    labels.push(("reason", reason.as_str().to_owned()));
                    (labels, count)
                })
            })
        }),
    )?;
    families.counter(
        "replays_started",
        "Replays started",
        by_path(counted, |counters| counters.replays_begun.get()),
    )?;
    families.counter(
        "replays_shared",
        "Clients that joined a running replay instead of starting one",
        by_path(counted, |counters| counters.replays_shared.get()),
    )
}

fn held(served: &[(&Stream, Figures)], families: &mut Families<'_>) -> fmt::Result {
    let all = || {
        served
            .iter()
            .map(|(stream, figures)| (stream.settings().path.as_str(), figures))
    };
    families.gauge(
        "stream_loaded",
        "Whether the stream's topics were read up to the ends they had at the start",
        all().map(|(path, figures)| (of(path), u64::from(figures.is_loaded))),
    )?;
    families.gauge(
        "log_records",
        "Records in memory",
        all().map(|(path, figures)| (of(path), figures.log_records)),
    )?;
    families.gauge(
        "log_bytes",
        "Memory of the log, with its index",
        all().map(|(path, figures)| (of(path), figures.log_bytes as u64)),
    )?;
    families.gauge(
        "log_oldest_seconds",
        "Age of the oldest record in memory: how far back a client can resume without a replay",
        all().filter_map(|(path, figures)| Some((of(path), figures.log_age?.as_secs_f64()))),
    )?;
    let tables = || all().filter_map(|(path, figures)| Some((path, figures, figures.table?)));
    families.gauge(
        "table_keys",
        "Keys in the stream's table",
        tables().map(|(path, _, (keys, _))| (of(path), keys as u64)),
    )?;
    families.gauge(
        "table_bytes",
        "Memory of the table",
        tables().map(|(path, _, (_, bytes))| (of(path), bytes as u64)),
    )?;
    families.gauge(
        "table_unusable_keys",
        "Keys whose newest record cannot be shown, by cause",
        served.iter().flat_map(|(stream, _)| {
            let by_cause = |(cause, keys): (Invalid, usize)| {
                let labels = and(&stream.settings().path, "cause", cause.as_str());
                (labels, keys as u64)
            };
            stream.unusable_keys().into_iter().map(by_cause)
        }),
    )?;
    families.gauge(
        "table_full",
        "Whether the table has reached max_keys or max_table_bytes",
        tables().map(|(path, figures, _)| (of(path), u64::from(figures.is_table_full))),
    )?;
    let filters = || {
        served
            .iter()
            .map(|(stream, _)| (stream.settings().path.as_str(), stream.filters()))
    };
    families.gauge(
        "filters",
        "Different filters of the stream's clients",
        filters().map(|(path, filters)| (of(path), filters.filters as u64)),
    )?;
    families.gauge(
        "filter_paths",
        "Different value paths and header names in these filters",
        filters().map(|(path, filters)| (of(path), filters.paths as u64)),
    )?;
    families.gauge(
        "unindexed_filters",
        "Filters that no index serves",
        filters().map(|(path, filters)| (of(path), filters.unindexed as u64)),
    )?;
    families.gauge(
        "filter_bytes",
        "Memory of the notes in the log for filters",
        filters().map(|(path, filters)| (of(path), filters.noted_bytes as u64)),
    )?;
    let replays = || {
        served
            .iter()
            .map(|(stream, _)| (stream.settings().path.as_str(), stream.replays()))
    };
    families.gauge(
        "replays",
        "Replays that have readers",
        replays().map(|(path, (count, _))| (of(path), count as u64)),
    )?;
    families.gauge(
        "replay_bytes",
        "Memory of replays",
        replays().map(|(path, (_, bytes))| (of(path), bytes as u64)),
    )
}
