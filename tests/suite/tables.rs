//! Tables whose rows are evicted: which rows leave, and which clients are reset.

use crate::common::{config, json, named};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::sse::{Event, Item, Parser};
use crate::harness::stream::Stream as Connection;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{promise, promise_on};
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Start, StreamSettings, WhenFull};
use kafka_sse_bridge::kafka::record::{Batch, Feed, Stamp};
use kafka_sse_bridge::stream::Stream;
use kafka_sse_bridge::stream::live_settings::Pace;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::Step;
use kafka_sse_bridge::stream::writer::Writer;
use libtest_mimic::Trial;
use std::sync::Arc;
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_value_larger_than_the_table_removes_its_key),
        promise(a_growing_value_evicts_the_oldest_keys),
        promise(a_client_too_slow_for_evictions_is_reset),
        promise(a_conflated_client_is_reset_when_rows_ahead_of_it_are_evicted),
        promise(a_record_larger_than_the_table_evicts_no_other),
        promise(a_resuming_table_client_scans_only_newer_rows),
        promise_on(Version::V4_4, health_ready_names_a_full_table),
    ]
}

/// A stream with a table, without Kafka: the test is its feed.
struct Rig {
    stream: Arc<Stream>,
    writer: Writer,
    offset: i64,
}

impl Rig {
    fn new(when_full: WhenFull) -> Self {
        Self::with(when_full, Size(10_000))
    }

    fn with(when_full: WhenFull, Size(row_bytes): Size) -> Self {
        let settings = StreamSettings {
            path: "/x".to_owned(),
            topics: vec!["t".to_owned()],
            start: Start::Snapshot,
            // So little that it holds the last record only.
            log_bytes: Size(1024),
            // An eighth is not for rows.
            max_table_bytes: Size(row_bytes * 8 / 7),
            delete_retention: Span::seconds(1_000_000),
            when_full,
            ..StreamSettings::default()
        };
        let pace = Pace {
            keepalive: secs(600),
            retry: secs(2),
            max_lifetime: secs(0),
        };
        let stream = Stream::new(settings, pace, None);
        let mut writer = Writer::new(Arc::clone(&stream));
        writer.take(&Feed::Assigned {
            topic: "t".into(),
            id: None,
            next: vec![0],
            low: vec![0],
        });
        writer.take(&Feed::Loaded { topic: "t".into() });
        Self {
            stream,
            writer,
            offset: 0,
        }
    }

    /// A record `<key>` with a value of so many of its key's letters.
    fn record(&mut self, key: &str, size: usize) {
        let mut batch = Batch::new("t".into());
        let stamp = Stamp {
            partition: 0,
            offset: self.offset,
            timestamp: Some(1),
        };
        self.offset += 1;
        let value = key.repeat(size);
        batch.push(
            stamp,
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            std::iter::empty(),
        );
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }

    /// A record of each key, with its number as its value.
    fn numbers(&mut self, keys: std::ops::Range<usize>) {
        let mut batch = Batch::new("t".into());
        for key in keys {
            let stamp = Stamp {
                partition: 0,
                offset: self.offset,
                timestamp: Some(1),
            };
            self.offset += 1;
            let text = key.to_string();
            batch.push(
                stamp,
                Some(text.as_bytes()),
                Some(text.as_bytes()),
                std::iter::empty(),
            );
        }
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }

    fn client(&self, id: &str) -> Client {
        let opening = Opening {
            last_event_id: Some(id.to_owned()).filter(|id| !id.is_empty()),
            ..Opening::default()
        };
        Client {
            subscription: self.stream.subscribe(opening),
            parser: Parser::new(),
            id: id.to_owned(),
            yields: 0,
        }
    }

    fn displaced(&self) -> u64 {
        self.stream.figures().displaced
    }
}

struct Client {
    subscription: kafka_sse_bridge::stream::subscription::Subscription,
    parser: Parser,
    id: String,
    /// How often it looked at so many rows in vain that it let others go first.
    yields: usize,
}

impl Client {
    /// Its events in short: a record's letter and size, or a control event's name.
    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.step()).flatten().collect()
    }

    /// The events of its next step.
    fn piece(&mut self) -> Vec<String> {
        self.step().expect("there is more")
    }

    fn step(&mut self) -> Option<Vec<String>> {
        loop {
            match self.subscription.step(Instant::now()) {
                Step::Send(bytes) => return Some(self.hear(&bytes)),
                Step::Yield => self.yields += 1,
                Step::Wait(_) | Step::End => return None,
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        for item in self.parser.feed(bytes) {
            if let Item::Event(event) = item {
                self.id.clone_from(&event.id);
                told.push(in_short(&event));
            }
        }
        told
    }
}

fn in_short(event: &Event) -> String {
    match event.name.as_str() {
        "message" => format!("{}{}", event.data.split_at(1).0, event.data.len()),
        "reset" => format!("reset {}", json(event)["reason"]),
        name => name.to_owned(),
    }
}

fn a_value_larger_than_the_table_removes_its_key() {
    let mut rig = Rig::new(WhenFull::RefuseNew);
    for key in ["a", "b", "c"] {
        rig.record(key, 3000);
    }
    let mut watcher = rig.client("");
    assert_eq!(watcher.told(), ["a3000", "b3000", "c3000", "caught-up"]);
    let left_before = watcher.id.clone();
    assert!(!rig.stream.is_table_full());
    // It would fit in the place of the old one, but for the others.
    rig.record("b", 5000);
    assert_eq!(watcher.told(), ["b5000"], "it is delivered live");
    let left_after = watcher.id.clone();
    assert_eq!(rig.displaced(), 1);
    assert_eq!(rig.stream.table_bounds_reached(), Some("max_table_bytes"));
    rig.record("c", 2999);
    assert_eq!(watcher.told(), ["c2999"]);
    assert_eq!(rig.client("").told(), ["a3000", "c2999", "caught-up"]);
    // A client that left before would keep the old value of `b`; one that left after has the new one.
    assert_eq!(
        rig.client(&left_before).told(),
        ["reset \"too-old\"", "a3000", "c2999", "caught-up"]
    );
    assert_eq!(rig.client(&left_after).told(), ["c2999", "caught-up"]);
    // A record that is small enough fits again.
    rig.record("b", 10);
    assert_eq!(rig.client("").told(), ["a3000", "c2999", "b10", "caught-up"]);
    assert!(
        rig.stream
            .figures()
            .table
            .is_some_and(|(_, bytes)| bytes <= 10_000)
    );
}

fn a_growing_value_evicts_the_oldest_keys() {
    let mut rig = Rig::new(WhenFull::EvictOldest);
    for key in ["a", "b", "c"] {
        rig.record(key, 3000);
    }
    let mut watcher = rig.client("");
    watcher.told();
    let left_before = watcher.id.clone();
    rig.record("c", 5000);
    assert_eq!(watcher.told(), ["c5000"]);
    assert_eq!(rig.displaced(), 1);
    assert_eq!(rig.client("").told(), ["b3000", "c5000", "caught-up"]);
    // `a` has left, but it was seen, and has not changed since.
    assert_eq!(rig.client(&left_before).told(), ["c5000", "caught-up"]);
    rig.record("d", 3000);
    rig.record("e", 8000);
    assert_eq!(rig.client("").told(), ["e8000", "caught-up"]);
    // The current value of `c` is no longer available.
    assert_eq!(
        rig.client(&left_before).told(),
        ["reset \"too-old\"", "e8000", "caught-up"]
    );
    assert!(
        rig.stream
            .figures()
            .table
            .is_some_and(|(_, bytes)| bytes <= 10_000)
    );
}

fn a_client_too_slow_for_evictions_is_reset() {
    // One reads the log and one scans the table when rows that they have not seen are evicted.
    let mut rig = Rig::with(WhenFull::EvictOldest, Size(1_020_000));
    rig.record("a", 1000);
    let mut slow = rig.client("");
    slow.told();
    for number in 0..10 {
        rig.record(&number.to_string(), 40_000);
    }
    let mut amid = rig.client(&slow.id);
    assert_eq!(amid.piece(), [""; 0], "retry and a comment");
    assert_eq!(amid.piece(), ["040000", "140000"]);
    for key in ["b", "c"] {
        rig.record(key, 400_000);
    }
    let mut anew = vec!["reset \"too-old\"", "840000", "940000", "b400000", "c400000"];
    assert_eq!(slow.told(), anew, "it has caught up before");
    anew.push("caught-up");
    assert_eq!(amid.told(), anew);
}

fn a_conflated_client_is_reset_when_rows_ahead_of_it_are_evicted() {
    let mut rig = Rig::with(WhenFull::EvictOldest, Size(990_000));
    let mut clients = [rig.client(""), rig.client("")];
    for size in [30_000, 40_000] {
        for number in 0..10 {
            rig.record(&number.to_string(), size);
            for client in clients.iter_mut().filter(|_| size == 30_000) {
                client.told();
            }
        }
    }
    for client in &mut clients {
        assert_eq!(client.piece(), ["conflated"]);
        assert_eq!(client.piece(), ["040000", "140000"]);
    }
    let [behind, ahead] = &mut clients;
    // The evicted rows are behind this one.
    assert_eq!(ahead.piece(), ["240000", "340000"]);
    rig.record("b", 400_000);
    rig.record("c", 250_000);
    let table = ["440000", "540000", "640000", "740000", "840000", "940000"];
    let live = ["b400000", "c250000"];
    let mut rest = table[..].to_vec();
    rest.extend(live);
    assert_eq!(ahead.told(), rest);
    let anew = behind.told();
    assert_eq!(anew[0], "reset \"too-old\"");
    assert_eq!(anew[anew.len() - 2..], live);
}

fn a_record_larger_than_the_table_evicts_no_other() {
    for when_full in [WhenFull::RefuseNew, WhenFull::EvictOldest] {
        let mut rig = Rig::new(when_full);
        rig.record("a", 100);
        rig.record("b", 100);
        rig.record("c", 20_000);
        rig.record("b", 20_000);
        assert_eq!(rig.displaced(), 2);
        assert_eq!(rig.client("").told(), ["a100", "caught-up"]);
        rig.record("d", 100);
        assert_eq!(rig.client("").told(), ["a100", "d100", "caught-up"]);
    }
}

fn a_resuming_table_client_scans_only_newer_rows() {
    let mut rig = Rig::with(WhenFull::RefuseNew, Size(100_000_000));
    for batch in 0..40 {
        rig.numbers(batch * 1000..(batch + 1) * 1000);
    }
    let mut early = rig.client("");
    assert_eq!(early.told().len(), 40_001);
    // More than is in memory, though little beside what is in the table.
    rig.numbers(0..100);
    rig.numbers(100..200);
    let mut late = rig.client("");
    late.told();
    rig.numbers(200..300);
    rig.numbers(300..400);
    rig.numbers(400..500);
    for (client, missed) in [(&early, 500), (&late, 300)] {
        let mut again = rig.client(&client.id);
        assert_eq!(again.told().len(), missed + 1);
        assert_eq!(again.yields, 0, "it looked at what it had already");
    }
}

fn health_ready_names_a_full_table() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("full");
    broker.create_topic(&topic, 1, &[]);
    let key = |key: &str| Message::new(key, "{}");
    broker.produce(&topic, &[key("a"), key("b")]);
    let stream = "start = \"snapshot\"\nkey_field = \"key\"\nmax_keys = 3";
    let daemon = Daemon::start(&config(&broker, &[&topic], stream));
    block_on(async {
        daemon.wait_ready(secs(20)).await;
        let ready = daemon.get("/health/ready").await;
        assert_eq!(ready.json()["degraded"], serde_json::json!([]));
        broker.produce(&topic, &[key("c"), key("d")]);
        eventually_async(secs(20), "the full table is named", async || {
            let ready = daemon.get("/health/ready").await;
            let named = "stream /events: its table is full (max_keys)";
            ensure(
                ready.status == 200 && ready.json()["degraded"][0] == named,
                ready.text(),
            )
        })
        .await;
        let streams = daemon.get("/streams").await.json();
        let table = &streams["streams"][0]["table"];
        assert_eq!((&table["keys"], &table["full"]), (&3.into(), &true.into()));
        assert_eq!(table["displaced_keys"], 1);
        let mut stream = Connection::open(daemon.url("/events")).await;
        let events = stream.collect_until(named("caught-up"), secs(20)).await;
        assert_eq!(events.len(), 4, "three keys, and caught-up");
    });
    daemon.wait_log("its table is full (max_keys): a new key has no place", secs(10));
}
