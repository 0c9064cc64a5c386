//! A record that is larger than the client takes stops its own partition and no other, and is named with topic,
//! partition and offset until it can be read.

use crate::common::{config, expected, numbered, of_partition, records, until_records};
use crate::doctor::Report;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::figures::Figures;
use crate::harness::produce::Message;
use crate::harness::promise_on;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::reload::reloaded;
use libtest_mimic::Trial;
use std::collections::BTreeMap;

pub fn trials() -> Vec<Trial> {
    vec![
        promise_on(
            Version::V4_4,
            a_record_above_librdkafkas_limit_is_reported_and_read_once_the_limit_is_raised,
        ),
        promise_on(
            Version::V4_4,
            a_partition_continues_once_its_oversized_record_is_deleted,
        ),
        promise_on(
            Version::V4_4,
            records_above_librdkafkas_limit_do_not_keep_the_daemon_unready,
        ),
        promise_on(
            Version::V4_4,
            responses_too_large_by_many_partitions_are_reported_as_such,
        ),
        // Left out unless asked for, because the record takes a few hundred megabytes in broker, daemon and client.
        promise_on(Version::V4_4, a_record_above_100_megabytes_is_read).with_ignored_flag(true),
    ]
}

/// The bounds of librdkafka that a record of [`SIZE`] bytes exceeds.
const LIMITS: &str =
    "[kafka.librdkafka]\n\"fetch.max.bytes\" = \"1000000\"\n\"receive.message.max.bytes\" = \"1000512\"\n";

const SIZE: usize = 2_000_000;

fn limited(text: &str) -> String {
    text.replacen("[http]", &format!("{LIMITS}[http]"), 1)
}

fn large() -> Message {
    Message::value("x".repeat(SIZE)).partition(0)
}

/// A topic of two partitions that takes large records.
fn large_topic(broker: &Broker) -> String {
    let topic = topic_name("large");
    broker.create_topic(&topic, 2, &[("max.message.bytes", "4000000")]);
    topic
}

/// The message about a partition at this offset.
fn line(topic: &str, partition: u32, offset: i64) -> String {
    format!(
        "topic \"{topic}\" partition {partition} at offset {offset}: a record, or the batch that holds it, is larger than \
         receive.message.max.bytes = 1000512 (an answer with that alone takes 2000"
    )
}

async fn health(daemon: &Daemon) -> String {
    daemon.get("/health/ready").await.text().replace("\\\"", "\"")
}

async fn figures(daemon: &Daemon) -> Figures {
    Figures::parse(&daemon.get("/metrics").await.text())
}

/// Where partitions are stopped, with the cause.
async fn stops(daemon: &Daemon) -> Vec<(String, String, String, f64)> {
    let figures = figures(daemon).await;
    let stops = figures.all("kafka_sse_bridge_kafka_stopped_offset");
    let of = |(labels, offset): (&BTreeMap<String, String>, f64)| {
        let [topic, partition, cause] = ["topic", "partition", "cause"].map(|name| labels[name].clone());
        (topic, partition, cause, offset)
    };
    stops.map(of).collect()
}

/// Waits until the partition is named, in health, log and figures, and nothing else is wrong.
async fn is_named(daemon: &Daemon, topic: &str, partition: u32, offset: i64) {
    let said = line(topic, partition, offset);
    eventually_async(secs(60), "it is named", async || {
        let health = health(daemon).await;
        ensure(health.contains(&said), health)
    })
    .await;
    daemon.wait_log(&said, secs(10));
    let health = health(daemon).await;
    assert!(
        health.contains("raise that in [kafka.librdkafka] above the topic's max.message.bytes, and reload"),
        "{health}"
    );
    let stop = (
        topic.to_owned(),
        partition.to_string(),
        "too-large".to_owned(),
        offset as f64,
    );
    assert!(stops(daemon).await.contains(&stop), "{:?}", stops(daemon).await);
    let errors = [("kind", "too-large")];
    assert!(
        figures(daemon)
            .await
            .get("kafka_sse_bridge_kafka_errors_total", &errors)
            >= 1.0
    );
}

/// The connection is well: no answer is too large any more.
async fn is_up(daemon: &Daemon) {
    eventually_async(secs(60), "the others are read undisturbed", async || {
        let health = health(daemon).await;
        let is_up = figures(daemon).await.get("kafka_sse_bridge_kafka_up", &[]) > 0.5;
        ensure(is_up, health)
    })
    .await;
}

/// Waits until librdkafka has reported the ends of all partitions: it does so after a tenth of a second without
/// records, and makes its first statistics after two seconds.
async fn has_reported_ends(daemon: &Daemon) {
    eventually_async(secs(30), "librdkafka makes statistics", async || {
        let links = figures(daemon)
            .await
            .all("kafka_sse_bridge_kafka_broker_up")
            .count();
        ensure(links > 0, links.to_string())
    })
    .await;
}

fn a_record_above_librdkafkas_limit_is_reported_and_read_once_the_limit_is_raised() {
    let broker = Broker::shared(Version::V4_4);
    let (topic, beside) = (large_topic(&broker), topic_name("beside"));
    broker.create_topic(&beside, 1, &[]);
    let two: Vec<Message> = numbered(0, 0, 3).into_iter().chain(numbered(1, 0, 3)).collect();
    broker.produce(&topic, &two);
    let text = config(&broker, &[&topic, &beside], "start = \"earliest\"");
    let daemon = Daemon::start(&limited(&text));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut seen = records(&stream.collect_until(until_records(6), secs(30)).await);
        // The library counts a reported end like a record.
        has_reported_ends(&daemon).await;
        broker.produce(&topic, &[large()]);
        broker.produce(&topic, &numbered(0, 3, 1));
        is_named(&daemon, &topic, 0, 3).await;
        is_up(&daemon).await;
        // Both partitions that the same broker leads, several times over.
        for round in 0..5 {
            broker.produce(&topic, &numbered(1, 3 + round, 1));
            broker.produce(&beside, &[Message::value(format!("p9-{round}"))]);
            seen.extend(records(&stream.collect_until(until_records(2), secs(30)).await));
        }
        assert_eq!(stops(&daemon).await.len(), 1, "{:?}", stops(&daemon).await);
        let said = line(&topic, 0, 3);
        assert_eq!(
            daemon.log().matches(&said).count(),
            1,
            "logged once: {}",
            daemon.log()
        );

        reloaded(&daemon, &text, "kafka.librdkafka");
        seen.extend(records(&stream.collect_until(until_records(2), secs(60)).await));
        // A stranger behind it: nothing that was sent twice could come later.
        broker.produce(&topic, &numbered(0, 4, 1));
        seen.extend(records(&stream.collect_until(until_records(1), secs(30)).await));
        let first: Vec<String> = seen
            .iter()
            .filter(|record| record.starts_with("p0-") || record.starts_with('x'))
            .cloned()
            .collect();
        let mut wanted = expected(0, 5);
        wanted.insert(3, "x".repeat(SIZE));
        assert!(first == wanted, "{} records of the partition", first.len());
        assert_eq!(of_partition(&seen, 1), expected(1, 8));
        assert_eq!(of_partition(&seen, 9), expected(9, 5));
        eventually_async(secs(30), "nothing is named any more", async || {
            let health = health(&daemon).await;
            ensure(
                !health.contains(&topic) && stops(&daemon).await.is_empty(),
                health,
            )
        })
        .await;
    });
}

fn a_partition_continues_once_its_oversized_record_is_deleted() {
    let broker = Broker::shared(Version::V4_4);
    let topic = large_topic(&broker);
    broker.produce(&topic, &numbered(0, 0, 2));
    let daemon = Daemon::start(&limited(&config(&broker, &[&topic], "start = \"earliest\"")));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(until_records(2), secs(30)).await;
        broker.produce(&topic, &[large()]);
        broker.produce(&topic, &numbered(0, 2, 1));
        is_named(&daemon, &topic, 0, 2).await;
        broker.delete_records(&topic, 0, 3);
        let events = stream.collect_until(until_records(1), secs(60)).await;
        assert_eq!(records(&events), ["p0-2"]);
        assert!(events.iter().any(|event| event.is("gap")), "{events:?}");
        daemon.wait_log(&format!("topic \"{topic}\" partition 0: is read again"), secs(10));
        assert!(stops(&daemon).await.is_empty());
        assert!(!health(&daemon).await.contains(&topic));
    });
}

/// Two of the same size, which librdkafka reports only once, from before the daemon starts.
fn records_above_librdkafkas_limit_do_not_keep_the_daemon_unready() {
    let broker = Broker::shared(Version::V4_4);
    let (topic, other) = (large_topic(&broker), large_topic(&broker));
    for topic in [&topic, &other] {
        broker.produce(topic, &[large()]);
        broker.produce(topic, &numbered(1, 0, 2));
    }
    broker.produce(&topic, &numbered(0, 0, 1));
    let text = limited(&config(&broker, &[&topic, &other], "start = \"earliest\""));
    Report::of(&text).assert_says(
        &format!("fail  reading {topic}: topic \"{topic}\" partition 0 at offset 0: a record"),
        &["remedy: raise that in [kafka.librdkafka]"],
    );
    let daemon = Daemon::start(&text);
    block_on(async {
        for topic in [&topic, &other] {
            is_named(&daemon, topic, 0, 0).await;
        }
        daemon.wait_ready(secs(60)).await;
        is_up(&daemon).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        let seen = records(&stream.collect_until(until_records(4), secs(30)).await);
        assert_eq!(of_partition(&seen, 1).len(), 4, "{seen:?}");
        daemon.wait_log("but for partitions [0], which are not read on", secs(10));
        for topic in [&topic, &other] {
            assert!(health(&daemon).await.contains(&line(topic, 0, 0)));
        }
    });
}

/// No batch is too large, but a response is: the limit leaves too little for the fields of each partition.
fn responses_too_large_by_many_partitions_are_reported_as_such() {
    const PARTITIONS: i32 = 40;
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("many");
    broker.create_topic(&topic, PARTITIONS, &[]);
    let record = |partition| Message::value(format!("{partition:0>1000}")).partition(partition);
    let all: Vec<Message> = (0..100).flat_map(|_| (0..PARTITIONS).map(record)).collect();
    // A batch each: answers are filled to the last byte.
    broker.produce_with(&topic, &all, &[("batch.num.messages", "1")]);
    let text = config(&broker, &[&topic], "start = \"earliest\"");
    let daemon = Daemon::start(&limited(&text));
    block_on(async {
        eventually_async(secs(90), "it is named", async || {
            let health = health(&daemon).await;
            let said = "answers are larger than receive.message.max.bytes, although each partition alone can be read";
            ensure(health.contains(said), health)
        })
        .await;
        assert!(stops(&daemon).await.is_empty(), "no partition is blamed");
        let mut stream = Stream::open(daemon.url("/events")).await;
        reloaded(&daemon, &text, "kafka.librdkafka");
        let seen = records(&stream.collect_until(until_records(all.len()), secs(60)).await);
        assert_eq!(seen.len(), all.len());
        daemon.wait_ready(secs(30)).await;
    });
}

/// Larger than librdkafka's default of `receive.message.max.bytes`, and smaller than a broker's of
/// `socket.request.max.bytes`.
fn a_record_above_100_megabytes_is_read() {
    const SIZE: usize = 101_000_000;
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("huge");
    broker.create_topic(&topic, 1, &[("max.message.bytes", "110000000")]);
    broker.produce(&topic, &numbered(0, 0, 1));
    let limits = [
        ("message.max.bytes", "110000000"),
        ("queue.buffering.max.kbytes", "200000"),
    ];
    broker.produce_with(&topic, &[Message::value("x".repeat(SIZE)).partition(0)], &limits);
    broker.produce(&topic, &numbered(0, 1, 1));
    let daemon = Daemon::start(&config(
        &broker,
        &[&topic],
        "start = \"earliest\"\nlog_bytes = \"512MiB\"",
    ));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let seen = records(&stream.collect_until(until_records(3), secs(120)).await);
        let lengths: Vec<usize> = seen.iter().map(String::len).collect();
        assert_eq!(lengths, [4, SIZE, 4]);
        assert!(stops(&daemon).await.is_empty());
    });
}
