//! Metrics of reading Kafka: records, lag, errors, connections, replays.

use std::fmt;

use super::families::{Families, Labels};
use crate::http::state::AppState;

pub(super) fn write(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    let (board, counters) = (&state.kafka, state.kafka.counters());
    families.figure(
        "kafka_up",
        "Whether Kafka answers without an error",
        u64::from(board.is_up()),
    )?;
    let client = board.snapshot().client;
    families.gauge(
        "kafka_client_info",
        "Always 1; the label names the client library, once one is chosen",
        client.map(|client| (vec![("client", client)], 1_u64)),
    )?;
    let of_topic = |topic: &str| -> Labels { vec![("topic", topic.to_owned())] };
    families.counter(
        "kafka_records",
        "Records read live, and read again for streams that a reload rebuilds",
        counters
            .records()
            .iter()
            .map(|(topic, count)| (of_topic(topic), *count)),
    )?;
    families.gauge(
        "kafka_lag_records",
        "Offsets between the reading position and the end of each partition, as of a few seconds ago",
        board.lag().into_iter().map(|lag| {
            let mut labels = of_topic(&lag.topic);
            labels.push(("partition", lag.partition.to_string()));
            (labels, lag.records)
        }),
    )?;
    stops(state, families)?;
    pauses(state, families)?;
    lag_to_high(state, families)?;
    links(state, families)?;
    families.counter(
        "kafka_errors",
        "Errors of reading, by kind",
        counters
            .errors()
            .map(|(kind, count)| (vec![("kind", kind.as_str().to_owned())], count)),
    )?;
    families.count(
        "kafka_reconnects",
        "How often reading continued after an error",
        counters.recoveries(),
    )?;
    replays(state, families)
}

fn replays(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    let load = state.replay_load();
    families.figure(
        "replays_running",
        "Replays that a thread reads from Kafka, of all streams",
        load.running as u64,
    )?;
    families.figure(
        "replays_waiting",
        "Replays that wait for a thread or for memory, of all streams",
        load.waiting as u64,
    )?;
    let of_quota = |quota: &str| -> Labels { vec![("quota", quota.to_owned())] };
    families.gauge(
        "replays_over_quota",
        "Replays that wait because a quota is used up, of all streams",
        [
            (of_quota("client"), load.over_flow_quota as u64),
            (of_quota("all"), load.over_quota_of_all as u64),
        ],
    )?;
    families.count(
        "replay_read_bytes",
        "Bytes of records that replays have read from Kafka, as quotas count them",
        state.replay_quota.read(),
    )?;
    let (of_clients, of_all) = state.replay_quota.times_closed();
    families.counter(
        "replay_quotas_used_up",
        "How often the quota of a client, or that of all, was used up",
        [(of_quota("client"), of_clients), (of_quota("all"), of_all)],
    )
}

fn stops(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    families.gauge(
        "kafka_stopped_offset",
        "Offset at which reading of a partition is stopped, because the client cannot read the batch there",
        state.kafka.stopped_partitions().into_iter().map(|stopped| {
            let labels = vec![
                ("topic", stopped.topic),
                ("partition", stopped.partition.to_string()),
                ("cause", stopped.stop.cause.as_str().to_owned()),
            ];
            (labels, u64::try_from(stopped.stop.offset).unwrap_or(0))
        }),
    )
}

fn pauses(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    let pauses = state.kafka.counters().all_pauses();
    let of_stream = |stream: &str| -> Labels { vec![("stream", stream.to_owned())] };
    families.counter(
        "stream_pauses",
        "How often the topics of a stream were paused because it encoded more slowly than records arrived",
        pauses
            .iter()
            .map(|(stream, pauses)| (of_stream(stream), pauses.times())),
    )?;
    families.counter(
        "stream_paused_seconds",
        "Total time of these pauses, without the current one",
        pauses
            .iter()
            .map(|(stream, pauses)| (of_stream(stream), pauses.paused().as_secs_f64())),
    )
}

fn lag_to_high(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    families.gauge(
        "kafka_lag_high_watermark_records",
        "Offsets between the reading position and the high watermark, which include those of open transactions",
        state.kafka.lag().into_iter().map(|lag| {
            let labels = vec![("topic", lag.topic), ("partition", lag.partition.to_string())];
            (labels, lag.to_high)
        }),
    )
}

fn links(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    let links = state.kafka.broker_states();
    let of_broker = |broker: &str| -> Labels { vec![("broker", broker.to_owned())] };
    families.gauge(
        "kafka_broker_up",
        "Whether librdkafka is connected to a broker, as of a few seconds ago",
        links
            .iter()
            .map(|link| (of_broker(&link.broker), u64::from(link.is_up))),
    )?;
    families.gauge(
        "kafka_broker_round_trip_seconds",
        "Average time of a broker's responses in the last seconds, with waits for records",
        links
            .iter()
            .filter_map(|link| Some((of_broker(&link.broker), link.round_trip?.as_secs_f64()))),
    )
}
