//! Records with registered schemas, from producers that nobody here wrote, through a registry to a client.

use crate::common::{config, json as data, named, until_records};
use crate::harness::apicurio::Apicurio;
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::figures::Figures;
use crate::harness::followers::{PROGRAMS, Runtime};
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::scripted_registry::{Answer, ScriptedRegistry};
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;
use serde_json::Value;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        on_broker(Version::V4_4, a_stream_waits_for_its_registry_and_others_go_on),
        on_broker(Version::V4_4, a_replay_decodes_registered_values),
        on_broker(
            Version::V4_4,
            a_record_of_an_unknown_schema_is_passed_over_and_named,
        ),
    ];
    trials.extend(crate::shared_topics::trials());
    if !Runtime::Schemas.is_missing() {
        trials.push(on_broker(
            Version::V4_4,
            what_confluents_serializers_write_is_shown_as_json,
        ));
    }
    trials
}

/// Writes orders with Confluent's serializer of this kind. Returns them.
pub fn produce(broker: &Broker, registry: &str, kind: &str, topic: &str) -> Vec<Value> {
    let program = Path::new(PROGRAMS).join("schemas/produce.py");
    let output = Command::new(Runtime::Schemas.home().join("bin/python"))
        .arg(program)
        .args([&broker.bootstrap(), registry, kind, topic])
        .output()
        .expect("the producer");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kind}: {said}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn what_confluents_serializers_write_is_shown_as_json(broker: &Broker) {
    let apicurio = Apicurio::shared();
    for (kind, format) in [
        ("avro", "avro"),
        ("protobuf", "protobuf"),
        ("json", "json-schema"),
    ] {
        let topic = topic_name(kind);
        broker.create_topic(&topic, 1, &[]);
        let orders = produce(broker, apicurio.url(), kind, &topic);
        assert_eq!(orders.len(), 3);
        for format in [format, "registry"] {
            let stream = format!(
                "start = \"earliest\"\nvalue_format = \"{format}\"\n[kafka.schema_registry]\nurls = [\"{}\"]",
                apicurio.url()
            );
            let daemon = Daemon::start(&config(broker, &[&topic], &stream));
            block_on(async {
                let mut client = Stream::open(daemon.url("/events")).await;
                let events = client.collect_until(until_records(3), secs(60)).await;
                let shown: Vec<Value> = events
                    .iter()
                    .filter(|event| event.name == "message")
                    .map(data)
                    .collect();
                assert_eq!(shown, orders, "{kind} as {format}");
            });
        }
    }
}

/// A positive Avro long behind the id of a schema.
fn framed(id: u32, number: i64) -> Vec<u8> {
    let mut frame = [&[0], &id.to_be_bytes()[..]].concat();
    let mut zigzag = number.cast_unsigned() << 1;
    while zigzag >= 0x80 {
        frame.push(zigzag.to_le_bytes()[0] | 0x80);
        zigzag >>= 7;
    }
    frame.push(zigzag.to_le_bytes()[0]);
    frame
}

/// The numbers of records that were shown.
fn numbers(events: &[Event]) -> Vec<i64> {
    let records = events.iter().filter(|event| event.name == "message");
    records
        .map(|event| event.data.parse().expect("a number"))
        .collect()
}

fn two_streams(broker: &Broker, topics: [&str; 2], registry: &str) -> String {
    let head = config(
        broker,
        &topics[..1],
        "start = \"earliest\"\nvalue_format = \"avro\"",
    );
    let plain = format!(
        "[[stream]]\npath = \"/plain\"\ntopics = [\"{}\"]\nstart = \"earliest\"\n",
        topics[1]
    );
    format!("{head}{plain}[kafka.schema_registry]\n{registry}\n")
}

fn a_stream_waits_for_its_registry_and_others_go_on(broker: &Broker) {
    let topics = [topic_name("registered"), topic_name("plain")];
    for topic in &topics {
        broker.create_topic(topic, 1, &[]);
    }
    // About 60 batches of 256 KiB, by their keys: several times what the queue of a stream holds.
    let key = "k".repeat(8 * 1024);
    let all: Vec<i64> = (0..60 * 32).collect();
    let orders = all
        .iter()
        .map(|number| Message::new(key.clone(), framed(7, *number)));
    broker.produce(&topics[0], &orders.collect::<Vec<_>>());
    broker.produce(&topics[1], &[Message::value("1")]);
    let port = free_port();
    let registry = format!("urls = [\"http://127.0.0.1:{port}\"]");
    // As after a restart while the registry is down.
    let daemon = Daemon::start(&two_streams(broker, [&topics[0], &topics[1]], &registry));
    let is_paused = async |expected: bool| {
        eventually_async(secs(60), "the topic of the stream is paused or not", async || {
            let figures = daemon.get("/streams").await.json();
            let paused = figures["streams"][0]["paused_topics"].to_string();
            ensure(paused.contains(&topics[0]) == expected, paused)
        })
        .await;
    };
    block_on(async {
        let mut plain = Stream::open(daemon.url("/plain")).await;
        plain.collect_until(until_records(1), secs(60)).await;
        eventually_async(secs(60), "health names the registry", async || {
            let ready = daemon.get("/health/ready").await;
            ensure(ready.text().contains(&format!("127.0.0.1:{port}")), ready.text())
        })
        .await;
        is_paused(true).await;
        for number in 2..=20 {
            broker.produce(&topics[1], &[Message::value(number.to_string())]);
        }
        let events = plain.collect_until(|event| event.data == "20", secs(60)).await;
        assert_eq!(numbers(&events), (2..=20).collect::<Vec<_>>());
        is_paused(true).await;
        let mut waiting = Stream::open(daemon.url("/events")).await;
        let _registry = ScriptedRegistry::at(port, |_| Answer::schema("\"long\""));
        let events = waiting.collect_until(named("caught-up"), secs(60)).await;
        assert_eq!(numbers(&events), all);
        is_paused(false).await;
        broker.produce(&topics[0], &[Message::value(framed(7, 7777))]);
        waiting
            .collect_until(|event| event.data == "7777", secs(60))
            .await;
    });
}

fn a_replay_decodes_registered_values(broker: &Broker) {
    let topic = topic_name("replayed");
    broker.create_topic(&topic, 1, &[]);
    let produce = |numbers: Range<i64>| {
        let messages = numbers.map(|number| Message::value(framed(7, number)));
        broker.produce(&topic, &messages.collect::<Vec<_>>());
    };
    produce(0..100);
    let scripted = ScriptedRegistry::start(|_| Answer::schema("\"long\""));
    let stream = format!(
        "value_format = \"avro\"\npreload = 0\nlog_bytes = \"512KiB\"\n[kafka.schema_registry]\nurls = [\"{}\"]",
        scripted.url()
    );
    let daemon = Daemon::start(&config(broker, &[&topic], &stream));
    block_on(async {
        daemon.wait_ready(secs(60)).await;
        let replays = async || {
            let figures = Figures::parse(&daemon.get("/metrics").await.text());
            let name = "kafka_sse_bridge_replays_started_total";
            figures.get(name, &[("stream", "/events")]).to_string()
        };
        assert_eq!(replays().await, "0");
        // Records from before the daemon started.
        let mut client = Stream::open(daemon.url("/events?start=earliest")).await;
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        assert_eq!(numbers(&events), (0..100).collect::<Vec<_>>());
        assert_eq!(replays().await, "1");
        produce(100..101);
        client.collect_until(|event| event.data == "100", secs(60)).await;
        let id = client.last_event_id().to_owned();
        drop(client);
        // Records in memory, until later ones replaced them.
        produce(101..60_000);
        eventually_async(secs(60), "all records are encoded", async || {
            let figures = daemon.get("/streams").await.json();
            let records = &figures["streams"][0]["records"];
            ensure(*records == 59_900, records.to_string())
        })
        .await;
        let open = Stream::to(daemon.url("/events")).last_event_id(&id).send();
        let mut client = open.await.expect("an answer");
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        assert_eq!(numbers(&events), (101..60_000).collect::<Vec<_>>());
        assert_eq!(replays().await, "2");
    });
}

fn a_record_of_an_unknown_schema_is_passed_over_and_named(broker: &Broker) {
    let topics = [topic_name("unknown"), topic_name("beside")];
    for topic in &topics {
        broker.create_topic(topic, 1, &[]);
    }
    let scripted = ScriptedRegistry::start(|request| {
        if request.path.contains("/ids/404") {
            Answer::unknown_schema()
        } else {
            Answer::schema("\"long\"")
        }
    });
    let registry = format!("urls = [\"{}\"]\nunknown_schema_timeout = \"1s\"", scripted.url());
    broker.produce(
        &topics[0],
        &[
            Message::value(framed(7, 1)),
            Message::value(framed(404, 2)),
            Message::value("{\"no\":\"schema\"}"),
            Message::value(framed(7, 3)),
        ],
    );
    let daemon = Daemon::start(&two_streams(broker, [&topics[0], &topics[1]], &registry));
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        assert_eq!(numbers(&events), [1, 3]);
        let figures = daemon.get("/streams").await.json();
        let invalid = &figures["streams"][0]["invalid_records"];
        assert_eq!(
            (
                &invalid["value-schema-unknown"],
                &invalid["value-without-schema-id"]
            ),
            (&1.into(), &1.into())
        );
    });
    let line = daemon
        .log()
        .lines()
        .find(|line| line.contains("value-schema-unknown"))
        .map(str::to_owned);
    let line = line.expect("a line");
    for part in [topics[0].as_str(), "partition 0", "offset 1", "404"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
