//! Resuming, on real brokers: missed records come once and in order, from memory or from Kafka, from any daemon. A late
//! browser gets the whole table at once.

use crate::common::{
    config_with, expected, json, named, numbered, of_partition, records, table, until_records,
};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_each_broker, trial};
use libtest_mimic::Trial;
use std::collections::BTreeMap;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for client in ["librdkafka", "kafka"] {
        let version = if client == "kafka" {
            Version::V3_9
        } else {
            Version::V4_4
        };
        let named = |promise: &str| format!("{promise}_with_{client}@{version}");
        trials.push(trial(
            named("a_resuming_client_gets_missed_records_from_memory"),
            move || {
                from_memory(&Broker::shared(version), client);
            },
        ));
        trials.push(trial(
            named("a_resuming_client_gets_older_records_from_kafka"),
            move || {
                from_kafka(&Broker::shared(version), client);
            },
        ));
        trials.push(trial(named("a_client_resumes_at_another_daemon"), move || {
            another_daemon(&Broker::shared(version), client);
        }));
        trials.push(trial(
            named("records_deleted_by_retention_are_one_gap_per_partition"),
            move || {
                retention(&Broker::shared(version), client);
            },
        ));
    }
    trials.extend(on_each_broker(a_new_client_gets_the_whole_table_then_changes));
    trials.extend(on_each_broker(
        a_resuming_table_client_gets_deletes_that_it_missed,
    ));
    trials
}

const PARTITIONS: i32 = 3;

fn write(broker: &Broker, topic: &str, first: usize, count: usize) {
    for partition in 0..PARTITIONS {
        broker.produce(topic, &numbered(partition, first, count));
    }
}

/// Records with a long tail, so that a few hundred of them fill a small log; the number still leads.
fn write_long(broker: &Broker, topic: &str, first: usize, count: usize) {
    let tail = "x".repeat(2000);
    for partition in 0..PARTITIONS {
        let mut messages = numbered(partition, first, count);
        for message in &mut messages {
            let value = message.value.as_mut().expect("a value");
            value.push(b' ');
            value.extend_from_slice(tail.as_bytes());
        }
        broker.produce(topic, &messages);
    }
}

/// The records of [`numbered`] without the tail.
fn numbers(events: &[Event]) -> Vec<String> {
    let first_word = |record: String| record.split(' ').next().unwrap_or_default().to_owned();
    records(events).into_iter().map(first_word).collect()
}

fn complete(shown: &[String], count: usize) {
    for partition in 0..PARTITIONS {
        assert_eq!(of_partition(shown, partition), expected(partition, count));
    }
}

async fn come_back(daemon: &Daemon, id: &str) -> Stream {
    Stream::to(daemon.url("/events"))
        .last_event_id(id)
        .send()
        .await
        .expect("it opens")
}

fn from_memory(broker: &Broker, client: &str) {
    let topic = topic_name("memory");
    broker.create_topic(&topic, PARTITIONS, &[]);
    write(broker, &topic, 0, 100);
    let daemon = Daemon::start(&config_with(client, broker, &[&topic], "start = \"earliest\""));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut shown = numbers(&stream.collect_until(until_records(120), secs(30)).await);
        for round in 1..4 {
            let id = stream.last_event_id().to_owned();
            drop(stream);
            write(broker, &topic, round * 100, 100);
            stream = come_back(&daemon, &id).await;
            shown.extend(numbers(&stream.collect_until(until_records(150), secs(30)).await));
        }
        let events = stream.collect_until(named("caught-up"), secs(30)).await;
        assert_eq!(
            events.last().map(|event| event.data.as_str()),
            Some(r#"{"reason":"replay"}"#)
        );
        assert!(events.iter().all(|event| event.name != "reset"));
        shown.extend(numbers(&events));
        complete(&shown, 400);
    });
}

fn from_kafka(broker: &Broker, client: &str) {
    let topic = topic_name("history");
    broker.create_topic(&topic, PARTITIONS, &[]);
    write_long(broker, &topic, 0, 20);
    let daemon = Daemon::start(&config_with(
        client,
        broker,
        &[&topic],
        "start = \"earliest\"\nlog_bytes = \"512KiB\"",
    ));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut shown = numbers(&stream.collect_until(until_records(30), secs(30)).await);
        let id = stream.last_event_id().to_owned();
        drop(stream);
        write_long(broker, &topic, 20, 980);
        daemon.wait_ready(secs(30)).await;
        let mut live = Stream::open(daemon.url("/events?start=live")).await;
        live.collect_until(named("caught-up"), secs(30)).await;
        // Five at once, which share a replay.
        let mut streams = Vec::new();
        for _ in 0..5 {
            streams.push(come_back(&daemon, &id).await);
        }
        let before = shown.clone();
        for mut stream in streams {
            shown.clone_from(&before);
            let left = 3 * 1000 - shown.len();
            shown.extend(numbers(
                &stream.collect_until(until_records(left), secs(60)).await,
            ));
            complete(&shown, 1000);
            // Live from here on, with nothing doubled at the seam.
            stream.collect_until(named("caught-up"), secs(30)).await;
        }
        // From the beginning, too.
        let mut first = Stream::open(daemon.url("/events")).await;
        complete(
            &numbers(&first.collect_until(until_records(3000), secs(60)).await),
            1000,
        );
    });
}

fn another_daemon(broker: &Broker, client: &str) {
    let topic = topic_name("replicas");
    broker.create_topic(&topic, PARTITIONS, &[]);
    let config = config_with(client, broker, &[&topic], "start = \"live\"\npreload = 50");
    let first = Daemon::start(&config);
    block_on(async {
        first.wait_ready(secs(30)).await;
        let mut stream = Stream::open(first.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(30)).await;
        write(broker, &topic, 0, 200);
        let mut shown = numbers(&stream.collect_until(until_records(250), secs(30)).await);
        let id = stream.last_event_id().to_owned();
        drop((stream, first));
        write(broker, &topic, 200, 200);
        // It has read the partitions in another interleaving, and holds the newest fifty of each.
        let second = Daemon::start(&config);
        let mut stream = come_back(&second, &id).await;
        shown.extend(numbers(
            &stream.collect_until(until_records(1200 - 250), secs(30)).await,
        ));
        stream.collect_until(named("caught-up"), secs(30)).await;
        write(broker, &topic, 400, 1);
        shown.extend(numbers(&stream.collect_until(until_records(3), secs(30)).await));
        complete(&shown, 401);
    });
}

fn retention(broker: &Broker, client: &str) {
    let topic = topic_name("retention");
    broker.create_topic(&topic, PARTITIONS, &[]);
    write(broker, &topic, 0, 30);
    let config = config_with(client, broker, &[&topic], "start = \"live\"\npreload = 0");
    block_on(async {
        let daemon = Daemon::start(&config_with(client, broker, &[&topic], "start = \"earliest\""));
        let mut stream = Stream::open(daemon.url("/events")).await;
        let seen = stream.collect_until(until_records(90), secs(30)).await;
        let id = seen.last().expect("a record").id.clone();
        drop((stream, daemon));
        write(broker, &topic, 30, 100);
        for (partition, offset) in [(0, 50), (1, 130), (2, 20)] {
            broker.delete_records(&topic, partition, offset);
        }
        let daemon = Daemon::start(&config);
        let mut stream = come_back(&daemon, &id).await;
        let events = stream.collect_until(named("caught-up"), secs(30)).await;
        let gaps: BTreeMap<i64, (i64, i64)> = events
            .iter()
            .filter(|event| event.name == "gap")
            .map(|event| {
                let gap = json(event);
                assert_eq!(
                    (&gap["reason"], gap["topic"].as_str()),
                    (&"expired".into(), Some(topic.as_str()))
                );
                let number = |name: &str| gap[name].as_i64().expect("a number");
                (number("partition"), (number("from"), number("to")))
            })
            .collect();
        assert_eq!(gaps, BTreeMap::from([(0, (30, 50)), (1, (30, 130))]));
        assert_eq!(
            events.iter().filter(|event| event.name == "gap").count(),
            2,
            "one per partition"
        );
        let shown = numbers(&events);
        assert_eq!(of_partition(&shown, 0), expected(0, 130)[50..]);
        assert_eq!(of_partition(&shown, 1), [""; 0]);
        assert_eq!(of_partition(&shown, 2), expected(2, 130)[30..]);
    });
}

/// The table of a browser after these events.
fn apply(shown: &mut BTreeMap<String, String>, events: &[Event]) {
    for event in events {
        let continent = || json(event)["continent"].as_str().expect("a continent").to_owned();
        match event.name.as_str() {
            "message" => {
                shown.insert(continent(), event.data.clone());
            }
            "delete" => {
                shown.remove(&continent());
            }
            _ => {}
        }
    }
}

const TABLE: &str = "start = \"snapshot\"\nkey_field = \"continent\"";

fn a_new_client_gets_the_whole_table_then_changes(broker: &Broker) {
    let topic = topic_name("table");
    broker.create_topic(&topic, PARTITIONS, &[]);
    let mut messages: Vec<Message> = (0..500)
        .map(|number| table(&format!("c{}", number % 250), &["A", "B"]))
        .collect();
    messages.extend((0..50).map(|number| Message::tombstone(format!("c{number}"))));
    broker.produce(&topic, &messages);
    let daemon = Daemon::start(&config_with("librdkafka", broker, &[&topic], TABLE));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let events = stream.collect_until(named("caught-up"), secs(30)).await;
        assert_eq!(
            events.last().map(|event| event.data.as_str()),
            Some(r#"{"reason":"snapshot"}"#)
        );
        assert!(
            events.iter().all(|event| event.name != "delete"),
            "no deletes in a fresh snapshot"
        );
        assert_eq!(records(&events).len(), 200, "each key once");
        let mut shown = BTreeMap::new();
        apply(&mut shown, &events);
        assert_eq!(shown.keys().cloned().collect::<Vec<_>>().len(), 200);
        assert!(!shown.contains_key("c7") && shown.contains_key("c77"));
        broker.produce(&topic, &[table("c7", &["Z"]), Message::tombstone("c77")]);
        apply(&mut shown, &stream.collect_until(named("delete"), secs(30)).await);
        if !shown.contains_key("c7") {
            // The two keys may live in different partitions.
            apply(
                &mut shown,
                &stream.collect_until(until_records(1), secs(30)).await,
            );
        }
        assert!(shown.contains_key("c7") && !shown.contains_key("c77"));
        let mut late = Stream::open(daemon.url("/events")).await;
        let mut again = BTreeMap::new();
        apply(
            &mut again,
            &late.collect_until(named("caught-up"), secs(30)).await,
        );
        assert_eq!(again, shown, "a late browser holds what the first one does");
    });
}

fn a_resuming_table_client_gets_deletes_that_it_missed(broker: &Broker) {
    let topic = topic_name("deleted");
    broker.create_topic(&topic, PARTITIONS, &[]);
    let keys = |range: std::ops::Range<usize>| range.map(|number| table(&format!("c{number}"), &["A"]));
    broker.produce(&topic, &keys(0..300).collect::<Vec<_>>());
    let config = config_with(
        "librdkafka",
        broker,
        &[&topic],
        &format!("{TABLE}\nlog_bytes = \"512KiB\""),
    );
    let daemon = Daemon::start(&config);
    block_on(async {
        // One that goes half-way through its snapshot, and one that has it all.
        let mut half = Stream::open(daemon.url("/events")).await;
        let mut half_shown = BTreeMap::new();
        apply(
            &mut half_shown,
            &half.collect_until(until_records(150), secs(30)).await,
        );
        let half_id = half.last_event_id().to_owned();
        let mut whole = Stream::open(daemon.url("/events")).await;
        let mut whole_shown = BTreeMap::new();
        apply(
            &mut whole_shown,
            &whole.collect_until(named("caught-up"), secs(30)).await,
        );
        let whole_id = whole.last_event_id().to_owned();
        drop((half, whole));
        // More than memory holds, so that both resume from the table.
        for _ in 0..10 {
            broker.produce(&topic, &keys(100..300).collect::<Vec<_>>());
        }
        broker.produce(
            &topic,
            &(0..40)
                .map(|number| Message::tombstone(format!("c{number}")))
                .collect::<Vec<_>>(),
        );
        for restarted in [false, true] {
            let second = restarted.then(|| Daemon::start(&config));
            let daemon = second.as_ref().unwrap_or(&daemon);
            daemon.wait_ready(secs(30)).await;
            let mut fresh = Stream::open(daemon.url("/events")).await;
            let mut wanted = BTreeMap::new();
            apply(
                &mut wanted,
                &fresh.collect_until(named("caught-up"), secs(30)).await,
            );
            for (id, shown) in [(&half_id, &half_shown), (&whole_id, &whole_shown)] {
                let mut shown = shown.clone();
                let mut stream = come_back(daemon, id).await;
                let events = stream.collect_until(named("caught-up"), secs(30)).await;
                assert!(
                    events.iter().all(|event| event.name != "reset"),
                    "{:?}",
                    events.first()
                );
                apply(&mut shown, &events);
                assert_eq!(shown, wanted);
            }
        }
    });
}
