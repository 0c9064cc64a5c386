//! A schema registry that refuses, is unreachable, has lost a schema, or answers without end: no record
//! is lost, and other streams go on.

use crate::common::{config, json as data, named, until_records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::memory::{mebibytes, peak, reset_peak, resident};
use crate::harness::on_broker;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::scratch;
use crate::harness::scripted_registry::{Answer, ScriptedRegistry};
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(Version::V4_4, a_refused_password_holds_up_its_stream_alone),
        on_broker(
            Version::V4_4,
            a_restart_while_the_registry_is_down_resumes_without_a_gap,
        ),
        on_broker(Version::V4_4, a_deleted_schema_is_used_as_long_as_it_is_kept),
        on_broker(
            Version::V4_4,
            an_answer_of_50_megabytes_passes_over_its_records_alone,
        ),
    ]
}

/// A number of Avro behind the id of its schema.
fn long(id: u32, number: u8) -> Message {
    Message::new("k", [&[0], &id.to_be_bytes()[..], &[number * 2]].concat())
}

/// One topic of numbers in Avro at `/events`, and another one of text at `/plain`.
fn topics(broker: &Broker) -> [String; 2] {
    let topics = ["registered", "plain"].map(topic_name);
    for topic in &topics {
        broker.create_topic(topic, 1, &[]);
    }
    broker.produce(&topics[1], &[Message::value("1")]);
    topics
}

fn streams(broker: &Broker, [numbers, plain]: &[String; 2], registry: &str) -> String {
    let head = config(
        broker,
        &[numbers],
        "start = \"earliest\"\nvalue_format = \"avro\"",
    );
    format!(
        "{head}[[stream]]\npath = \"/plain\"\ntopics = [\"{plain}\"]\nstart = \"earliest\"\n[kafka.schema_registry]\n{registry}\n"
    )
}

fn numbers(events: &[Event]) -> Vec<Value> {
    let records = events.iter().filter(|event| event.name == "message");
    records.map(data).collect()
}

async fn until_ready_names(daemon: &Daemon, text: &str) {
    eventually_async(secs(60), "health names it", async || {
        let ready = daemon.get("/health/ready").await.text();
        ensure(ready.contains(text), ready)
    })
    .await;
}

fn a_refused_password_holds_up_its_stream_alone(broker: &Broker) {
    const SECRET: &str = "not-to-be-told";
    let directory = scratch::directory("registry");
    let file = directory.path().join("password");
    fs::write(&file, SECRET).expect("written");
    let registry = ScriptedRegistry::start(|request| match request.authorization.as_deref() {
        // bridge:right
        Some("Basic YnJpZGdlOnJpZ2h0") => Answer::schema("\"long\""),
        _ => Answer::Json(401, r#"{"error_code":401,"message":"Unauthorized"}"#.to_owned()),
    });
    let topics = topics(broker);
    broker.produce(&topics[0], &[long(7, 1), long(7, 2)]);
    let lines = format!(
        "urls = [\"{}\"]\nusername = \"bridge\"\npassword_file = \"{}\"",
        registry.url(),
        file.display()
    );
    let daemon = Daemon::start(&streams(broker, &topics, &lines));
    block_on(async {
        until_ready_names(&daemon, "refuses the credentials (401)").await;
        let mut plain = Stream::open(daemon.url("/plain")).await;
        plain.collect_until(named("caught-up"), secs(60)).await;
        broker.produce(&topics[1], &[Message::value("2")]);
        plain.collect_until(|event| event.data == "2", secs(60)).await;
        let mut waiting = Stream::open(daemon.url("/events")).await;
        broker.produce(&topics[0], &[long(7, 3)]);
        fs::write(&file, "right").expect("written");
        let events = waiting.collect_until(until_records(3), secs(60)).await;
        assert_eq!(numbers(&events), [1, 2, 3]);
        daemon.wait_ready(secs(60)).await;
        let ready = daemon.get("/health/ready").await.text();
        assert!(!ready.contains("credentials"), "{ready}");
    });
    assert!(!daemon.log().contains(SECRET), "{}", daemon.log());
}

fn a_restart_while_the_registry_is_down_resumes_without_a_gap(broker: &Broker) {
    let registry = ScriptedRegistry::start(|_| Answer::schema("\"long\""));
    let port = registry.port();
    let topics = topics(broker);
    broker.produce(&topics[0], &[long(7, 1), long(7, 2)]);
    let settings = streams(broker, &topics, &format!("urls = [\"{}\"]", registry.url()));
    let mut daemon = Daemon::start(&settings);
    let id = block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(until_records(2), secs(60)).await;
        assert_eq!(numbers(&events), [1, 2]);
        client.last_event_id().to_owned()
    });
    drop(registry);
    // With its schema, which is in memory, the stream goes on until then.
    broker.produce(&topics[0], &[long(7, 3)]);
    block_on(async {
        let mut client = Stream::to(daemon.url("/events"))
            .last_event_id(&id)
            .send()
            .await
            .expect("a stream");
        let events = client.collect_until(until_records(1), secs(60)).await;
        assert_eq!(numbers(&events), [3]);
    });
    daemon.signal(Signal::TERM);
    daemon.wait_exit(secs(30));
    let daemon = Daemon::start(&settings);
    block_on(async {
        let mut plain = Stream::open(daemon.url("/plain")).await;
        plain.collect_until(named("caught-up"), secs(60)).await;
        until_ready_names(&daemon, &format!("127.0.0.1:{port} is not reached")).await;
        let mut client = Stream::to(daemon.url("/events"))
            .last_event_id(&id)
            .send()
            .await
            .expect("a stream");
        broker.produce(&topics[0], &[long(7, 4)]);
        let _registry = ScriptedRegistry::at(port, |_| Answer::schema("\"long\""));
        let events = client.collect_until(|event| event.data == "4", secs(60)).await;
        assert_eq!(numbers(&events), [3, 4], "what came after the id, once");
        daemon.wait_ready(secs(60)).await;
    });
}

fn a_deleted_schema_is_used_as_long_as_it_is_kept(broker: &Broker) {
    let is_deleted = Arc::new(AtomicBool::new(false));
    let deleted = Arc::clone(&is_deleted);
    let registry = ScriptedRegistry::start(move |request| {
        if request.path.ends_with("/7") && deleted.load(Ordering::SeqCst) {
            Answer::unknown_schema()
        } else {
            Answer::schema("\"long\"")
        }
    });
    let topics = topics(broker);
    broker.produce(&topics[0], &[long(7, 1)]);
    let lines = format!("urls = [\"{}\"]\nunknown_schema_timeout = \"1s\"", registry.url());
    let settings = streams(broker, &topics, &lines);
    let daemon = Daemon::start(&settings);
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        client.collect_until(until_records(1), secs(60)).await;
        is_deleted.store(true, Ordering::SeqCst);
        broker.produce(&topics[0], &[long(7, 2), long(8, 3)]);
        let events = client.collect_until(|event| event.data == "3", secs(60)).await;
        assert_eq!(numbers(&events), [2, 3]);
    });
    drop(daemon);
    // Without it, its records cannot be read any more, and the others can.
    let daemon = Daemon::start(&settings);
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        assert_eq!(numbers(&events), [3]);
        until_ready_names(
            &daemon,
            "it does not know schema 7; records with it are passed over",
        )
        .await;
        let figures = daemon.get("/streams").await.json();
        assert_eq!(
            figures["streams"][0]["invalid_records"]["value-schema-unknown"],
            2
        );
    });
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("value-schema-unknown"));
    let line = line.expect("a line");
    assert!(
        line.contains(topics[0].as_str()) && line.contains("offset 0"),
        "{line}"
    );
}

fn an_answer_of_50_megabytes_passes_over_its_records_alone(broker: &Broker) {
    let registry = ScriptedRegistry::start(|request| {
        if request.path.ends_with("/9") {
            Answer::Large {
                bytes: 50_000_000,
                has_length: false,
            }
        } else {
            Answer::schema("\"long\"")
        }
    });
    let topics = topics(broker);
    broker.produce(&topics[0], &[long(7, 1)]);
    let daemon = Daemon::start(&streams(
        broker,
        &topics,
        &format!("urls = [\"{}\"]", registry.url()),
    ));
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        client.collect_until(until_records(1), secs(60)).await;
        let before = resident(daemon.pid());
        reset_peak(daemon.pid());
        broker.produce(&topics[0], &[long(9, 2), long(7, 3), long(9, 4), long(7, 5)]);
        let events = client.collect_until(|event| event.data == "5", secs(60)).await;
        assert_eq!(numbers(&events), [3, 5]);
        let grown = peak(daemon.pid()).saturating_sub(before);
        assert!(grown < 40 << 20, "{} MiB more", mebibytes(grown));
        until_ready_names(&daemon, "the registry's answer is larger than 8 MiB").await;
        let figures = daemon.get("/streams").await.json();
        assert_eq!(
            figures["streams"][0]["invalid_records"]["value-schema-unusable"],
            2
        );
    });
    let asked = registry
        .paths()
        .iter()
        .filter(|path| path.ends_with("/9"))
        .count();
    assert_eq!(asked, 1, "it is remembered");
}
