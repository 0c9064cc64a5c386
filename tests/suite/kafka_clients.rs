//! The choice between the two Kafka client libraries, and how it is reported. `contract` holds what both must deliver.

use crate::common::{config, config_with, expected, named, numbered, records, until_records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::{Message, Outcome};
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, on_each_broker, promise_on};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        on_broker(
            Version::V3_9,
            a_topic_that_the_kafka_crate_cannot_read_is_reported_and_others_continue,
        ),
        on_broker(Version::V3_9, lz4_makes_auto_switch_to_librdkafka_without_loss),
        on_broker(Version::V3_9, zstd_makes_auto_switch_to_librdkafka_without_loss),
        promise_on(Version::V4_4, the_kafka_crate_reports_that_it_cannot_read_kafka_4),
        promise_on(Version::V4_4, auto_selects_librdkafka_for_kafka_4),
        promise_on(Version::V3_9, auto_selects_the_kafka_crate_for_kafka_3),
        promise_on(Version::V3_9, auto_never_gives_up_read_committed),
        promise_on(Version::V3_9, auto_never_gives_up_headers),
    ];
    trials.extend(on_each_broker(records_of_an_aborted_transaction_are_never_sent));
    trials
}

fn lz4_makes_auto_switch_to_librdkafka_without_loss(broker: &Broker) {
    codec_takes_over(broker, "lz4");
}

fn zstd_makes_auto_switch_to_librdkafka_without_loss(broker: &Broker) {
    codec_takes_over(broker, "zstd");
}

fn auto_selects_librdkafka_for_kafka_4() {
    chooses(
        Version::V4_4,
        "read_uncommitted",
        "value",
        "reading with librdkafka: broker",
    );
}

fn auto_selects_the_kafka_crate_for_kafka_3() {
    chooses(
        Version::V3_9,
        "read_uncommitted",
        "value",
        "reading with kafka: broker",
    );
}

fn auto_never_gives_up_read_committed() {
    chooses(
        Version::V3_9,
        "read_committed",
        "value",
        "reading with librdkafka: isolation",
    );
}

fn auto_never_gives_up_headers() {
    chooses(
        Version::V3_9,
        "read_uncommitted",
        "envelope",
        "reading with librdkafka: a stream's format",
    );
}

/// A batch that the crate cannot read makes `auto` switch clients, without loss or repetition.
fn codec_takes_over(broker: &Broker, codec: &str) {
    let topic = topic_name("codec");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &numbered(0, 0, 20));
    let daemon = Daemon::start(&config_with("auto", broker, &[&topic], "start = \"earliest\""));
    daemon.wait_log("reading with kafka", secs(20));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut events = stream.collect_until(named("caught-up"), secs(30)).await;
        broker.produce_with(&topic, &numbered(0, 20, 500), &[("compression.type", codec)]);
        events.extend(stream.collect_until(until_records(500), secs(30)).await);
        assert_eq!(records(&events), expected(0, 520));
    });
    daemon.wait_log(
        "reading with librdkafka: a batch is compressed as only it can read",
        secs(10),
    );
}

/// With `client = "kafka"`, a topic that the crate cannot read is reported, and the others continue.
fn a_topic_that_the_kafka_crate_cannot_read_is_reported_and_others_continue(broker: &Broker) {
    let (plain, packed) = (topic_name("plain"), topic_name("packed"));
    broker.create_topic(&plain, 1, &[]);
    broker.create_topic(&packed, 1, &[]);
    broker.produce_with(&packed, &numbered(0, 0, 500), &[("compression.type", "lz4")]);
    broker.produce(&plain, &numbered(0, 0, 20));
    let daemon = Daemon::start(&config_with(
        "kafka",
        broker,
        &[&plain, &packed],
        "start = \"earliest\"",
    ));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let events = stream.collect_until(until_records(20), secs(30)).await;
        assert_eq!(records(&events), expected(0, 20));
        broker.produce(&plain, &numbered(0, 20, 20));
        stream.collect_until(until_records(20), secs(30)).await;
        // The unreadable topic delays no other and is reported.
        daemon.wait_ready(secs(30)).await;
        let ready = daemon.get("/health/ready").await.text();
        assert!(
            ready.contains(&format!(
                "{packed}\\\" partition 0 at offset 0: a batch is compressed with lz4"
            )),
            "{ready}"
        );
    });
    let said = format!("topic \"{packed}\" partition 0 at offset 0: a batch is compressed with lz4");
    daemon.wait_log(&said, secs(10));
    let log = daemon.log();
    assert_eq!(log.matches(&said).count(), 1, "logged once: {log}");
    daemon.wait_log("set client = \"librdkafka\" in [kafka]", secs(1));
}

fn the_kafka_crate_reports_that_it_cannot_read_kafka_4() {
    let broker = Broker::shared(Version::V4_4);
    let daemon = Daemon::start(&config_with("kafka", &broker, &["never-read"], ""));
    daemon.wait_log("client = \"kafka\" cannot read from broker", secs(20));
    daemon.wait_log("set client = \"auto\" or \"librdkafka\" in [kafka]", secs(1));
    assert!(daemon.is_running(), "the streams stay open");
    block_on(async {
        let ready = daemon.get("/health/ready").await;
        assert_eq!(ready.status, 503);
        assert!(
            ready.text().contains("Kafka 4 dropped the old ones"),
            "{}",
            ready.text()
        );
    });
    assert!(!broker.topics().contains(&"never-read".to_owned()));
}

fn chooses(version: Version, isolation: &str, format: &str, says: &str) {
    let broker = Broker::shared(version);
    let topic = topic_name("choice");
    broker.create_topic(&topic, 1, &[]);
    let config = config(&broker, &[&topic], &format!("format = \"{format}\""));
    let daemon =
        Daemon::start(&config.replacen("[kafka]", &format!("[kafka]\nisolation = \"{isolation}\""), 1));
    daemon.wait_log(says, secs(20));
    block_on(daemon.wait_ready(secs(20)));
}

fn records_of_an_aborted_transaction_are_never_sent(broker: &Broker) {
    let topic = topic_name("transactions");
    broker.create_topic(&topic, 1, &[]);
    broker.produce_transaction(&topic, &[Message::value("aborted")], Outcome::Abort);
    broker.produce_transaction(&topic, &[Message::value("committed")], Outcome::Commit);
    // The topic ends with a control record, which no client is ever given: it must not keep the
    // stream from being loaded.
    let daemon = Daemon::start(&config(broker, &[&topic], "start = \"earliest\""));
    block_on(async {
        daemon.wait_ready(secs(20)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        let events = stream.collect_until(named("caught-up"), secs(10)).await;
        assert_eq!(records(&events), ["committed"]);
    });
}
