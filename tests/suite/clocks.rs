//! Producers whose clocks are wrong, and keys that stand in several partitions: which record is a key's latest,
//! and who hears of those that are not.

use crate::common::{config, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::figures::Figures;
use crate::harness::produce::Message;
use crate::harness::stream::Stream as Connection;
use crate::harness::wait::{block_on, secs};
use crate::harness::{promise, promise_on};
use crate::rig::{PACE, Rec, Rig, rec};
use kafka_sse_bridge::config::{Start, StreamSettings};
use kafka_sse_bridge::kafka::record::{Batch, Feed};
use kafka_sse_bridge::stream::Stream;
use kafka_sse_bridge::stream::clock::Clock;
use kafka_sse_bridge::stream::counters::SUPERSEDED_FOR;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::writer::Writer;
use libtest_mimic::Trial;
use std::cell::Cell;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

thread_local! {
    /// Unix seconds.
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

/// A monotonic clock that keeps pace with [`CLOCK`], which is never set back here: time passes, no clock is set.
fn monotonic() -> Instant {
    static AT_NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
    *AT_NOW + Duration::from_secs(CLOCK.get() - NOW)
}

fn at(key: &str, value: &str, partition: u32, timestamp: i64) -> Rec {
    Rec {
        timestamp: Some(timestamp),
        ..rec(key, value).partition(partition)
    }
}

/// A table of one topic with two partitions, by a clock of the test's; still being loaded.
struct Loading {
    stream: Arc<Stream>,
    writer: Writer,
    next: [i64; 2],
}

impl Loading {
    fn new() -> Self {
        let settings = StreamSettings {
            path: "/x".to_owned(),
            topics: vec!["t".to_owned()],
            start: Start::Snapshot,
            ..StreamSettings::default()
        };
        let clock = Clock {
            time_of_day: || Duration::from_secs(CLOCK.get()),
            monotonic,
        };
        let stream = Stream::with_clock(settings, PACE, None, clock);
        let mut writer = Writer::new(Arc::clone(&stream));
        writer.take(&Feed::Assigned {
            topic: "t".into(),
            id: None,
            next: vec![0; 2],
            low: vec![0; 2],
        });
        Self {
            stream,
            writer,
            next: [0; 2],
        }
    }

    fn records(&mut self, records: &[Rec]) {
        let mut batch = Batch::new("t".into());
        for record in records {
            let next = &mut self.next[record.partition as usize];
            record.push(&mut batch, *next);
            *next += 1;
        }
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }

    fn loaded(mut self) -> Self {
        self.writer.take(&Feed::Loaded { topic: "t".into() });
        self
    }

    /// The events of a new client.
    fn rows(&self) -> Vec<String> {
        crate::rig::Client::of(self.stream.subscribe(Opening::default())).shown()
    }

    fn superseded(&self) -> u64 {
        self.stream.counters().superseded()[0].1.records
    }
}

/// A day of November 2026, in seconds.
const NOW: u64 = 1_795_000_000;

/// The same in milliseconds.
const NOW_MILLIS: i64 = 1_795_000_000_000;

fn superseded_records_are_counted_and_named_for_a_limited_time() {
    CLOCK.set(NOW);
    let mut table = Loading::new().loaded();
    assert_eq!(table.stream.superseded_lately(), []);
    table.records(&[
        at("a", "ahead", 0, NOW_MILLIS + HOUR),
        at("a", "right", 1, NOW_MILLIS),
    ]);
    assert_eq!(table.rows(), ["message ahead"]);
    assert_eq!(table.superseded(), 1);
    table.records(&[at("b", "1", 1, NOW_MILLIS), at("b", "2", 1, NOW_MILLIS - 1)]);
    assert_eq!(table.superseded(), 1, "a partition has an order of its own");
    assert_eq!(table.stream.superseded_lately(), [("t".to_owned(), 1)]);
    CLOCK.set(NOW + SUPERSEDED_FOR.as_secs());
    assert_eq!(table.stream.superseded_lately().len(), 1);
    CLOCK.set(NOW + SUPERSEDED_FOR.as_secs() + 1);
    assert_eq!(table.stream.superseded_lately(), []);
    assert_eq!(table.superseded(), 1);
}

fn a_timestamp_far_in_the_future_counts_as_the_arrival_time() {
    const MICROSECONDS: i64 = NOW_MILLIS * 1000;
    for (ahead, wins) in [
        (24 * HOUR, false),
        (24 * HOUR + 1, true),
        (MICROSECONDS - NOW_MILLIS, true),
        (i64::MAX - NOW_MILLIS, true),
    ] {
        CLOCK.set(NOW);
        let mut table = Loading::new().loaded();
        table.records(&[at("a", "ahead", 0, NOW_MILLIS + ahead)]);
        CLOCK.set(NOW + 1);
        table.records(&[at("a", "right", 1, NOW_MILLIS + 1000)]);
        let wanted = if wins { "message right" } else { "message ahead" };
        assert_eq!(table.rows(), [wanted], "{ahead} ms ahead");
        assert_eq!(table.superseded(), u64::from(!wins));
        // It is the latest of all that came before.
        CLOCK.set(NOW + 2);
        table.records(&[at("a", "again", 0, (NOW_MILLIS + 2000).saturating_add(ahead))]);
        assert_eq!(table.rows(), ["message again"]);
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
        CLOCK.set(NOW + later);
        let mut table = Loading::new();
        let order = if zero_first {
            [&zero[..], &one]
        } else {
            [&one[..], &zero]
        };
        for records in order {
            table.records(records);
        }
        let mut rows = table.loaded().rows();
        rows.sort_unstable();
        held.push(rows);
    }
    let wanted = ["message ahead", "message right", "message x"];
    assert!(held.iter().all(|rows| *rows == wanted), "{held:?}");
}

fn records_superseded_during_loading_are_not_reported() {
    CLOCK.set(NOW);
    let mut table = Loading::new();
    table.records(&[
        at("a", "new", 0, NOW_MILLIS),
        at("a", "old", 1, NOW_MILLIS - HOUR),
    ]);
    assert_eq!(table.superseded(), 1);
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
    let mut client = rig.back(id, &[]);
    assert_eq!(client.shown(), [""; 0], "it begins as the stream does");
    rig.records(&[at("a", "new", 0, -1)]);
    assert_eq!(client.shown(), ["message new"]);
}

fn records_without_a_timestamp_keep_their_offset_order() {
    CLOCK.set(NOW);
    let mut table = Loading::new().loaded();
    table.records(&[at("a", "1", 1, -1), at("a", "2", 0, -1), at("a", "3", 1, -1)]);
    assert_eq!(table.rows(), ["message 3"]);
    assert_eq!(table.superseded(), 0);
    // A record without a timestamp is older than one with a timestamp.
    table.records(&[at("a", "4", 0, NOW_MILLIS), at("a", "5", 1, -1)]);
    assert_eq!(table.rows(), ["message 4"]);
    assert_eq!(table.superseded(), 1);
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
