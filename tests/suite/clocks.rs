//! Producers whose clocks are wrong, and keys in several partitions: which record is the latest of a key, and how
//! superseded records are reported.

use crate::common::{config, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::figures::Figures;
use crate::harness::produce::Message;
use crate::harness::stream::Stream as Connection;
use crate::harness::wait::{block_on, secs};
use crate::harness::{promise, promise_on};
use crate::rig::clock::{self, NOW_MILLIS};
use crate::rig::{PACE, Rec, Rig, rec, settings};
use kafka_sse_bridge::config::Start;
use kafka_sse_bridge::stream::Stream;
use kafka_sse_bridge::stream::counters::SUPERSEDED_FOR;
use libtest_mimic::Trial;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn trials() -> Vec<Trial> {
    vec![
        promise(superseded_records_are_counted_and_named_for_a_limited_time),
        promise(a_timestamp_far_in_the_future_counts_as_the_arrival_time),
        promise(replicas_that_load_agree_on_a_timestamp_far_in_the_future),
        promise(records_superseded_during_loading_are_not_reported),
        promise(a_negative_timestamp_in_a_kafkasse_id_is_ignored),
        promise(records_without_a_timestamp_keep_their_offset_order),
        promise_on(
            Version::V4_4,
            superseded_records_appear_in_health_streams_metrics_and_log,
        ),
    ]
}

const HOUR: i64 = 3_600_000;

fn at(key: &str, value: &str, partition: u32, timestamp: i64) -> Rec {
    rec(key, value).partition(partition).at(timestamp)
}

/// A table of one topic with two partitions, by the clock of the test; still being loaded.
fn loading() -> Rig {
    let settings = settings(1, |settings| settings.start = Start::Snapshot);
    Rig::of(Stream::with_clock(settings, PACE, None, clock::CLOCK), &[2])
}

fn loaded() -> Rig {
    let mut rig = loading();
    rig.load();
    rig
}

/// The rows that a new client gets.
fn rows(rig: &Rig) -> Vec<String> {
    rig.client(&[]).shown()
}

fn superseded(rig: &Rig) -> u64 {
    rig.stream.counters().superseded()[0].1.records
}

fn superseded_records_are_counted_and_named_for_a_limited_time() {
    clock::set(0);
    let mut table = loaded();
    assert_eq!(table.stream.superseded_lately(), []);
    table.records(&[
        at("a", "ahead", 0, NOW_MILLIS + HOUR),
        at("a", "right", 1, NOW_MILLIS),
    ]);
    assert_eq!(rows(&table), ["message ahead"]);
    assert_eq!(superseded(&table), 1);
    table.records(&[at("b", "1", 1, NOW_MILLIS), at("b", "2", 1, NOW_MILLIS - 1)]);
    assert_eq!(superseded(&table), 1, "a partition has an order of its own");
    assert_eq!(table.stream.superseded_lately(), [("t".to_owned(), 1)]);
    clock::set(SUPERSEDED_FOR.as_secs());
    assert_eq!(table.stream.superseded_lately().len(), 1);
    clock::set(SUPERSEDED_FOR.as_secs() + 1);
    assert_eq!(table.stream.superseded_lately(), []);
    assert_eq!(superseded(&table), 1);
}

fn a_timestamp_far_in_the_future_counts_as_the_arrival_time() {
    const MICROSECONDS: i64 = NOW_MILLIS * 1000;
    for (ahead, wins) in [
        (24 * HOUR, false),
        (24 * HOUR + 1, true),
        (MICROSECONDS - NOW_MILLIS, true),
        (i64::MAX - NOW_MILLIS, true),
    ] {
        clock::set(0);
        let mut table = loaded();
        table.records(&[at("a", "ahead", 0, NOW_MILLIS + ahead)]);
        clock::set(1);
        table.records(&[at("a", "right", 1, NOW_MILLIS + 1000)]);
        let wanted = if wins { "message right" } else { "message ahead" };
        assert_eq!(rows(&table), [wanted], "{ahead} ms ahead");
        assert_eq!(superseded(&table), u64::from(!wins));
        // It is the latest of all that came before.
        clock::set(2);
        table.records(&[at("a", "again", 0, (NOW_MILLIS + 2000).saturating_add(ahead))]);
        assert_eq!(rows(&table), ["message again"]);
    }
}

fn replicas_that_load_agree_on_a_timestamp_far_in_the_future() {
    let far = NOW_MILLIS * 1000;
    let (zero, one) = (
        [
            at("x", "x", 0, NOW_MILLIS),
            at("a", "ahead", 0, far),
            at("b", "ahead", 0, far),
        ],
        [
            at("a", "right", 1, NOW_MILLIS + 1),
            at("b", "right", 1, NOW_MILLIS - 1),
        ],
    );
    // As a replica saw it that was there, in both orders of reading, and days later.
    let mut held = Vec::new();
    for (later, zero_first) in [(0, true), (0, false), (100 * 3600, true), (100 * 3600, false)] {
        clock::set(later);
        let mut table = loading();
        let order = if zero_first {
            [&zero[..], &one]
        } else {
            [&one[..], &zero]
        };
        for records in order {
            table.records(records);
        }
        table.load();
        let mut rows = rows(&table);
        rows.sort_unstable();
        held.push(rows);
    }
    let wanted = ["message ahead", "message right", "message x"];
    assert!(held.iter().all(|rows| *rows == wanted), "{held:?}");
}

fn records_superseded_during_loading_are_not_reported() {
    clock::set(0);
    let mut table = loading();
    table.records(&[
        at("a", "new", 0, NOW_MILLIS),
        at("a", "old", 1, NOW_MILLIS - HOUR),
    ]);
    assert_eq!(superseded(&table), 1);
    assert_eq!(table.stream.superseded_lately(), []);
    table.records(&[
        at("b", "ahead", 0, NOW_MILLIS + HOUR),
        at("b", "right", 1, NOW_MILLIS),
    ]);
    assert_eq!(table.stream.superseded_lately(), [("t".to_owned(), 2)]);
}

fn a_negative_timestamp_in_a_kafkasse_id_is_ignored() {
    let mut rig = Rig::with(&[1], true, |_| {});
    rig.records(&[at("a", "old", 0, -1)]);
    let id = r#"[{"topic":"t","partition":0,"timestamp":-1}]"#;
    let mut client = rig.resume(id, &[]);
    assert_eq!(client.shown(), [""; 0], "it begins as the stream does");
    rig.records(&[at("a", "new", 0, -1)]);
    assert_eq!(client.shown(), ["message new"]);
}

fn records_without_a_timestamp_keep_their_offset_order() {
    clock::set(0);
    let mut table = loaded();
    table.records(&[at("a", "1", 1, -1), at("a", "2", 0, -1), at("a", "3", 1, -1)]);
    assert_eq!(rows(&table), ["message 3"]);
    assert_eq!(superseded(&table), 0);
    // A record without a timestamp is older than one with a timestamp.
    table.records(&[at("a", "4", 0, NOW_MILLIS), at("a", "5", 1, -1)]);
    assert_eq!(rows(&table), ["message 4"]);
    assert_eq!(superseded(&table), 1);
}

fn superseded_records_appear_in_health_streams_metrics_and_log() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("superseded");
    broker.create_topic(&topic, 2, &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = i64::try_from(now.as_millis()).expect("it fits");
    let write = |value: &str, partition: i32, timestamp: i64| {
        let message = Message::new("k", value).partition(partition).timestamp(timestamp);
        broker.produce(&topic, &[message]);
    };
    let daemon = Daemon::start(&config(&broker, &[&topic], "start = \"snapshot\""));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut client = Connection::open(daemon.url("/events")).await;
        client.collect_until(named("caught-up"), secs(20)).await;
        write("ahead", 0, now + HOUR);
        let shown = client.collect_until(named("message"), secs(20)).await;
        assert_eq!(records(&shown), ["ahead"]);
        write("right", 1, now);
        // Behind it, so that it has been read.
        broker.produce(&topic, &[Message::new("end", "end").partition(1)]);
        let shown = client.collect_until(named("message"), secs(20)).await;
        assert_eq!(records(&shown), ["end"]);

        let health = daemon.get("/health/ready").await.json()["degraded"].to_string();
        let named = format!("stream /events: records of topic \\\"{topic}\\\" that are not shown");
        assert!(
            health.contains(&named) && health.contains(": 1, some in the last 10m"),
            "{health}"
        );
        let streams = daemon.get("/streams").await.json();
        assert_eq!(streams["streams"][0]["superseded_records"][&topic], 1);
        let figures = Figures::parse(&daemon.get("/metrics").await.text());
        let labels = [("stream", "/events"), ("topic", topic.as_str())];
        let counted = figures.get("kafka_sse_bridge_superseded_records_total", &labels);
        assert_eq!(counted.to_string(), "1");
        let (ahead, log) = (now + HOUR, daemon.log());
        let line = format!(
            "not shown: topic {topic:?} partition 1 offset 0, timestamp {now}: its key has a newer record in partition 0 \
             at offset 0, timestamp {ahead}"
        );
        assert!(log.contains(&line), "{log}");
    });
}
