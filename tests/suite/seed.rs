//! From Kafka to an EventSource on real brokers: the behaviour of the original program, several partitions and topics,
//! formats.

use crate::common::{
    config, config_with, expected, is_record, json, named, numbered, of_partition, records, shown_table,
    table, until_records,
};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, eventually_async, secs};
use crate::harness::{on_broker, on_each_broker, promise_on};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        on_broker(Version::V3_9, the_original_program_with_the_kafka_crate),
        promise_on(Version::V3_9, the_original_program_in_a_pure_rust_build),
        on_broker(
            Version::V3_9,
            partitions_and_topics_arrive_completely_and_in_order_with_the_kafka_crate,
        ),
    ];
    trials.extend(on_each_broker(the_original_program_with_librdkafka));
    trials.extend(on_each_broker(the_original_program_with_the_automatic_client));
    trials.extend(on_each_broker(
        partitions_and_topics_arrive_completely_and_in_order,
    ));
    trials.extend(on_each_broker(an_envelope_carries_headers_and_timestamp));
    trials.extend(on_each_broker(two_streams_share_a_topic_in_different_formats));
    trials
}

fn the_original_program_with_the_kafka_crate(broker: &Broker) {
    original(broker, "kafka", None);
}

fn the_original_program_with_librdkafka(broker: &Broker) {
    original(broker, "librdkafka", None);
}

fn the_original_program_with_the_automatic_client(broker: &Broker) {
    original(broker, "auto", None);
}

fn partitions_and_topics_arrive_completely_and_in_order(broker: &Broker) {
    many_partitions(broker, "librdkafka");
}

fn partitions_and_topics_arrive_completely_and_in_order_with_the_kafka_crate(broker: &Broker) {
    many_partitions(broker, "kafka");
}

fn the_original_program_in_a_pure_rust_build() {
    let binary = std::env::var_os("KAFKA_SSE_BRIDGE_PURE_RUST_BIN").expect(
        "KAFKA_SSE_BRIDGE_PURE_RUST_BIN names the pure-Rust build; scripts/test makes it and sets it",
    );
    original(&Broker::shared(Version::V3_9), "auto", Some(binary.into()));
}

/// The behaviour of the original program: each message with its key merged in, to every browser, heartbeats, and all
/// earlier messages for a browser that connects late.
fn original(broker: &Broker, client: &str, binary: Option<std::path::PathBuf>) {
    let topic = topic_name("Top3CountrySizePerContinent");
    broker.create_topic(&topic, 1, &[]);
    let before = [
        table("Europe", &["RU", "UA"]),
        table("Asia", &["CN"]),
        table("Europe", &["RU", "UA", "FR"]),
    ];
    broker.produce(&topic, &before);
    let stream =
        "start = \"earliest\"\nkey_field = \"continent\"\nheartbeat = \"event\"\nheartbeat_interval = \"1s\"";
    let launch =
        Daemon::with(&config_with(client, broker, &[&topic], stream).replace("/events", "/topn/updates"));
    let daemon = match binary {
        Some(binary) => launch.binary(binary).start(),
        None => launch.start(),
    };
    block_on(async {
        daemon.wait_ready(secs(20)).await;
        let mut late = Stream::open(daemon.url("/topn/updates")).await;
        assert_eq!(late.status, 200);
        assert_eq!(
            late.header("content-type"),
            Some("text/event-stream; charset=utf-8")
        );
        assert_eq!(late.header("cache-control"), Some("no-store, no-transform"));
        assert_eq!(late.header("x-accel-buffering"), Some("no"));
        let events = late.collect_until(named("caught-up"), secs(10)).await;
        assert_eq!(
            records(&events),
            before.iter().map(shown_table).collect::<Vec<_>>()
        );
        assert!(late.retry().is_some_and(|retry| (1500..=2500).contains(&retry)));
        assert_eq!(late.comments().len(), 1, "a comment comes with the head");

        let mut second = Stream::open(daemon.url("/topn/updates?start=live")).await;
        second.collect_until(named("caught-up"), secs(10)).await;
        let live = table("Africa", &["DZ"]);
        broker.produce(&topic, std::slice::from_ref(&live));
        for stream in [&mut late, &mut second] {
            let events = stream.collect_until(is_record, secs(10)).await;
            assert_eq!(records(&events), [shown_table(&live)]);
            let beat = stream
                .collect_until(named("heartbeat"), secs(10))
                .await
                .pop()
                .expect("a heartbeat");
            let time = json(&beat)["time"].as_str().expect("a time").to_owned();
            assert!(time.ends_with('Z') && time.contains('T'), "RFC 3339: {time}");
            assert!(beat.own_id, "heartbeats carry the position too");
        }
    });
}

/// Nothing lost, nothing doubled, and every partition in its order.
fn many_partitions(broker: &Broker, client: &str) {
    const PARTITIONS: i32 = 3;
    const EACH: usize = 1000;
    let topics = [topic_name("a"), topic_name("b")];
    for topic in &topics {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    // The first topic has partitions 0 to 2 in its records' names, the second 3 to 5.
    let write = |half: usize| {
        for (index, topic) in (0..).zip(&topics) {
            let mut messages = Vec::new();
            for partition in 0..PARTITIONS {
                let named = index * PARTITIONS + partition;
                let records = numbered(named, half * EACH / 2, EACH / 2);
                messages.extend(records.into_iter().map(|message| message.partition(partition)));
            }
            broker.produce(topic, &messages);
        }
    };
    write(0);
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&config_with(client, broker, &names, "start = \"earliest\""));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut events = stream.collect_until(named("caught-up"), secs(30)).await;
        write(1);
        let all = 2 * usize::try_from(PARTITIONS).expect("small") * EACH;
        let left = all - records(&events).len();
        events.extend(stream.collect_until(until_records(left), secs(30)).await);
        let shown = records(&events);
        assert_eq!(shown.len(), all);
        for named in 0..2 * PARTITIONS {
            assert_eq!(of_partition(&shown, named), expected(named, EACH));
        }
        // A second reader of the same log sees the same, ids included.
        let again = Stream::open(daemon.url("/events"))
            .await
            .collect_until(until_records(all), secs(30))
            .await;
        let ids = |events: &[crate::harness::sse::Event]| -> Vec<String> {
            events
                .iter()
                .filter(|event| is_record(event))
                .map(|event| event.id.clone())
                .collect()
        };
        assert_eq!(ids(&again), ids(&events));
    });
}

fn an_envelope_carries_headers_and_timestamp(broker: &Broker) {
    let topic = topic_name("envelope");
    broker.create_topic(&topic, 1, &[]);
    let message = Message::new("k", "{\"a\":1}")
        .header("h", "x")
        .header("h", "y")
        .timestamp(1_700_000_000_000);
    broker.produce(
        &topic,
        &[message, Message::tombstone("k"), Message::value("\u{0}text")],
    );
    let daemon = Daemon::start(&config(
        broker,
        &[&topic],
        "start = \"earliest\"\nformat = \"envelope\"",
    ));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let events = stream.collect_until(named("caught-up"), secs(20)).await;
        let [value, deleted, text, _] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(
            json(value),
            serde_json::json!({
                "topic": topic, "partition": 0, "offset": 0, "timestamp": 1_700_000_000_000_i64, "key": "k",
                "headers": {"h": ["x", "y"]}, "value": {"a": 1}, "encoding": "json",
            })
        );
        assert_eq!(
            (deleted.name.as_str(), json(deleted)["encoding"].as_str()),
            ("delete", Some("tombstone"))
        );
        assert_eq!(
            (&json(text)["value"], &json(text)["key"]),
            (&"\u{0}text".into(), &serde_json::Value::Null)
        );
    });
}

fn two_streams_share_a_topic_in_different_formats(broker: &Broker) {
    let topic = topic_name("shared");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[Message::new("k", "{}")]);
    let second = format!(
        "start = \"earliest\"\n[[stream]]\npath = \"/live\"\ntopics = [\"{topic}\"]\nkey_field = \"key\"\nevent = \"update\""
    );
    let daemon = Daemon::start(&config(broker, &[&topic], &second));
    block_on(async {
        daemon.wait_ready(secs(20)).await;
        let mut all = Stream::open(daemon.url("/events")).await;
        let mut live = Stream::open(daemon.url("/live")).await;
        assert_eq!(
            records(&all.collect_until(named("caught-up"), secs(10)).await),
            ["{}"]
        );
        let opened = live.collect_until(named("caught-up"), secs(10)).await;
        assert_eq!(
            opened.len(),
            1,
            "a live stream shows no history although its topic was read from the start"
        );
        broker.produce(&topic, &[Message::new("k", "{\"n\":2}")]);
        assert_eq!(
            records(&all.collect_until(is_record, secs(10)).await),
            ["{\"n\":2}"]
        );
        let update = live.next(secs(10)).await;
        assert_eq!(
            (update.name.as_str(), update.data.as_str()),
            ("update", "{\"n\":2,\"key\":\"k\"}")
        );
        let streams = eventually_async(secs(10), "both clients are counted", async || {
            let streams = daemon.get("/streams").await.json();
            let clients = |index: usize| streams["streams"][index]["clients"].as_u64();
            if clients(0) == Some(1) && clients(1) == Some(1) {
                Ok(streams)
            } else {
                Err(streams.to_string())
            }
        })
        .await;
        assert_eq!(streams["streams"][0]["topics"][0]["next"], serde_json::json!([2]));
    });
}
