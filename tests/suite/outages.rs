//! Kafka outages: brokers that stop, start late or lack a topic. Streams stay open, and nothing is lost or
//! repeated for connected clients.

use crate::common::{config_with, expected, named, numbered, of_partition, records, until_records};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::promise_on;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        promise_on(Version::V4_4, a_broker_restart_loses_no_records),
        promise_on(
            Version::V4_4,
            a_daemon_started_without_a_broker_serves_and_reads_once_it_appears,
        ),
        promise_on(
            Version::V4_4,
            a_missing_topic_is_reported_never_created_and_read_once_it_exists,
        ),
    ]
}

/// The behaviour of each library is in `contract`; this is the view of clients and operators.
const CLIENT: &str = "librdkafka";

const VERSION: Version = Version::V4_4;

const PARTITIONS: i32 = 2;

fn write(broker: &Broker, topic: &str, first: usize, count: usize) {
    for partition in 0..PARTITIONS {
        broker.produce(topic, &numbered(partition, first, count));
    }
}

async fn is_degraded(daemon: &Daemon) -> bool {
    let ready = daemon.get("/health/ready").await.json();
    ready["degraded"]
        .as_array()
        .is_some_and(|degraded| !degraded.is_empty())
}

fn a_broker_restart_loses_no_records() {
    let broker = Broker::start(VERSION);
    let topic = topic_name("dies");
    broker.create_topic(&topic, PARTITIONS, &[]);
    write(&broker, &topic, 0, 100);
    let daemon = Daemon::start(&config_with(CLIENT, &broker, &[&topic], "start = \"earliest\""));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut shown = records(&stream.collect_until(named("caught-up"), secs(30)).await);
        for round in 1..=2 {
            write(&broker, &topic, round * 100, 50);
            shown.extend(records(&stream.collect_until(until_records(100), secs(30)).await));
            broker.kill9();
            eventually_async(secs(30), "the daemon says it is degraded", async || {
                ensure(is_degraded(&daemon).await, "it does not")
            })
            .await;
            assert_eq!(
                daemon.get("/health/ready").await.status,
                200,
                "ready stays, so that streams stay"
            );
            broker.restart();
            write(&broker, &topic, round * 100 + 50, 50);
            shown.extend(records(&stream.collect_until(until_records(100), secs(60)).await));
        }
        // A last record that comes at once shows that nothing doubled came before it.
        write(&broker, &topic, 300, 1);
        shown.extend(records(&stream.collect_until(until_records(2), secs(30)).await));
        for partition in 0..PARTITIONS {
            assert_eq!(of_partition(&shown, partition), expected(partition, 301));
        }
        eventually_async(secs(30), "the daemon is healthy again", async || {
            ensure(!is_degraded(&daemon).await, "it is not")
        })
        .await;
        assert!(daemon.log().contains("answers again"));
    });
}

fn a_daemon_started_without_a_broker_serves_and_reads_once_it_appears() {
    let broker = Broker::start(VERSION);
    let topic = topic_name("absent");
    broker.create_topic(&topic, PARTITIONS, &[]);
    write(&broker, &topic, 0, 10);
    broker.stop();
    let config = config_with(CLIENT, &broker, &[&topic], "start = \"earliest\"");
    let daemon = Daemon::start(&config.replacen("[http]", "[http]\nkeepalive = \"1s\"", 1));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        assert_eq!(stream.status, 200, "an outage never fails a browser's connection");
        stream
            .next_comment(secs(10))
            .await
            .expect("comments keep it open");
        eventually_async(secs(20), "the daemon is not ready, and says why", async || {
            let ready = daemon.get("/health/ready").await;
            ensure(
                ready.status == 503 && ready.text().contains(&broker.bootstrap()),
                ready.text(),
            )
        })
        .await;
        assert_eq!(daemon.get("/health/live").await.status, 200);
        broker.restart();
        let shown = records(&stream.collect_until(named("caught-up"), secs(60)).await);
        for partition in 0..PARTITIONS {
            assert_eq!(of_partition(&shown, partition), expected(partition, 10));
        }
        daemon.wait_ready(secs(10)).await;
    });
}

fn a_missing_topic_is_reported_never_created_and_read_once_it_exists() {
    let broker = Broker::shared(VERSION);
    let (here, missing) = (topic_name("here"), topic_name("missing"));
    broker.create_topic(&here, PARTITIONS, &[]);
    let daemon = Daemon::start(&config_with(
        CLIENT,
        &broker,
        &[&here, &missing],
        "start = \"live\"",
    ));
    block_on(async {
        daemon.wait_ready(secs(20)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(10)).await;
        let named = format!("topic \"{missing}\" does not exist");
        let ready = daemon.get("/health/ready").await;
        assert!(ready.text().contains(&missing), "{}", ready.text());
        write(&broker, &here, 0, 5);
        stream.collect_until(until_records(10), secs(20)).await;
        assert_eq!(
            daemon.log().matches(&named).count(),
            1,
            "logged once:\n{}",
            daemon.log()
        );
        assert!(
            !broker.topics().contains(&missing),
            "a reader must not create what it reads"
        );

        broker.create_topic(&missing, PARTITIONS, &[]);
        write(&broker, &missing, 0, 5);
        // A new topic is read from its beginning, even on a live stream.
        let shown = records(&stream.collect_until(until_records(10), secs(30)).await);
        for partition in 0..PARTITIONS {
            assert_eq!(of_partition(&shown, partition), expected(partition, 5));
        }
        let ready = daemon.get("/health/ready").await;
        assert!(!ready.text().contains(&missing), "{}", ready.text());
    });
    // No listener at all: the error names the address.
    let nobody = format!("127.0.0.1:{}", free_port());
    let daemon =
        Daemon::start(&config_with(CLIENT, &broker, &[&here], "").replace(&broker.bootstrap(), &nobody));
    daemon.wait_log(&format!("kafka {nobody}"), secs(20));
}
