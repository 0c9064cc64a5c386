//! Tables whose rows are evicted: which rows leave, and which clients are reset.

use crate::common::{SIZE_OF_PIECES, config, json, named};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{promise, promise_on};
use crate::rig::{Client, Rig, event, rec};
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Start, WhenFull};
use kafka_sse_bridge::stream::subscription::Step;
use libtest_mimic::Trial;

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

/// A stream with a table whose rows may take so many bytes.
fn table(when_full: WhenFull, row_bytes: u64) -> Rig {
    Rig::ready(|settings| {
        settings.start = Start::Snapshot;
        // So little that it holds the last record only.
        settings.log_bytes = Size(1024);
        // An eighth is not for rows.
        settings.max_table_bytes = Size(row_bytes * 8 / 7);
        settings.delete_retention = Span::seconds(1_000_000);
        settings.when_full = when_full;
    })
}

/// Writes a record with a value of so many of its key's letters.
fn write(rig: &mut Rig, key: &str, size: usize) {
    rig.records(&[rec(key, key.repeat(size)).at(1)]);
}

/// Writes a record of each key, with its number as its value.
fn write_numbers(rig: &mut Rig, keys: std::ops::Range<usize>) {
    let record = |key: usize| rec(&key.to_string(), key.to_string()).at(1);
    rig.records(&keys.map(record).collect::<Vec<_>>());
}

/// A client that counts how often it yielded to others after a number of rows that it had already.
struct Scanner {
    client: Client,
    yields: usize,
}

impl Scanner {
    fn new(rig: &Rig) -> Self {
        let (client, yields) = (rig.client(&[]), 0);
        Self { client, yields }
    }

    fn resume(rig: &Rig, id: &str) -> Self {
        let (client, yields) = (rig.resume(id, &[]), 0);
        Self { client, yields }
    }

    fn id(&self) -> &str {
        self.client.last_event_id()
    }

    /// Its events in short: a record's letter and size, or a control event's name.
    fn lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.step()).flatten().collect()
    }

    /// The events of its next step.
    fn piece(&mut self) -> Vec<String> {
        self.step().expect("there is more")
    }

    fn step(&mut self) -> Option<Vec<String>> {
        loop {
            match self.client.step() {
                (items, Step::Send(_)) => {
                    return Some(
                        items
                            .into_iter()
                            .filter_map(event)
                            .map(|event| in_short(&event))
                            .collect(),
                    );
                }
                (_, Step::Yield) => self.yields += 1,
                (_, Step::Wait(_) | Step::End) => return None,
            }
        }
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
    let mut rig = table(WhenFull::RefuseNew, 10_000);
    for key in ["a", "b", "c"] {
        write(&mut rig, key, 3000);
    }
    let mut watcher = Scanner::new(&rig);
    assert_eq!(watcher.lines(), ["a3000", "b3000", "c3000", "caught-up"]);
    let left_before = watcher.id().to_owned();
    assert!(!rig.stream.is_table_full());
    // It would fit in the place of the old one, but for the others.
    write(&mut rig, "b", 5000);
    assert_eq!(watcher.lines(), ["b5000"], "it is delivered live");
    let left_after = watcher.id().to_owned();
    assert_eq!(rig.stream.counters().displaced.get(), 1);
    assert_eq!(rig.stream.table_bounds_reached(), Some("max_table_bytes"));
    write(&mut rig, "c", 2999);
    assert_eq!(watcher.lines(), ["c2999"]);
    assert_eq!(Scanner::new(&rig).lines(), ["a3000", "c2999", "caught-up"]);
    // A client that left before would keep the old value of `b`; one that left after has the new one.
    assert_eq!(
        Scanner::resume(&rig, &left_before).lines(),
        ["reset \"too-old\"", "a3000", "c2999", "caught-up"]
    );
    assert_eq!(Scanner::resume(&rig, &left_after).lines(), ["c2999", "caught-up"]);
    // A record that is small enough fits again.
    write(&mut rig, "b", 10);
    assert_eq!(Scanner::new(&rig).lines(), ["a3000", "c2999", "b10", "caught-up"]);
    assert!(
        rig.stream
            .figures()
            .table
            .is_some_and(|(_, bytes)| bytes <= 10_000)
    );
}

fn a_growing_value_evicts_the_oldest_keys() {
    let mut rig = table(WhenFull::EvictOldest, 10_000);
    for key in ["a", "b", "c"] {
        write(&mut rig, key, 3000);
    }
    let mut watcher = Scanner::new(&rig);
    watcher.lines();
    let left_before = watcher.id().to_owned();
    write(&mut rig, "c", 5000);
    assert_eq!(watcher.lines(), ["c5000"]);
    assert_eq!(rig.stream.counters().displaced.get(), 1);
    assert_eq!(Scanner::new(&rig).lines(), ["b3000", "c5000", "caught-up"]);
    // `a` has left, but it was seen, and has not changed since.
    assert_eq!(
        Scanner::resume(&rig, &left_before).lines(),
        ["c5000", "caught-up"]
    );
    write(&mut rig, "d", 3000);
    write(&mut rig, "e", 8000);
    assert_eq!(Scanner::new(&rig).lines(), ["e8000", "caught-up"]);
    // The current value of `c` is no longer available.
    assert_eq!(
        Scanner::resume(&rig, &left_before).lines(),
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
    let _full = SIZE_OF_PIECES.read();
    // One reads the log and one scans the table when rows that they have not seen are evicted.
    let mut rig = table(WhenFull::EvictOldest, 1_020_000);
    write(&mut rig, "a", 1000);
    let mut slow = Scanner::new(&rig);
    slow.lines();
    for number in 0..10 {
        write(&mut rig, &number.to_string(), 40_000);
    }
    let mut amid = Scanner::resume(&rig, slow.id());
    assert_eq!(amid.piece(), [""; 0], "retry and a comment");
    assert_eq!(amid.piece(), ["040000", "140000"]);
    for key in ["b", "c"] {
        write(&mut rig, key, 400_000);
    }
    let mut table = vec!["reset \"too-old\"", "840000", "940000", "b400000", "c400000"];
    assert_eq!(slow.lines(), table, "it has caught up before");
    table.push("caught-up");
    assert_eq!(amid.lines(), table);
}

fn a_conflated_client_is_reset_when_rows_ahead_of_it_are_evicted() {
    let _full = SIZE_OF_PIECES.read();
    let mut rig = table(WhenFull::EvictOldest, 990_000);
    let mut clients = [Scanner::new(&rig), Scanner::new(&rig)];
    for size in [30_000, 40_000] {
        for number in 0..10 {
            write(&mut rig, &number.to_string(), size);
            for client in clients.iter_mut().filter(|_| size == 30_000) {
                client.lines();
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
    write(&mut rig, "b", 400_000);
    write(&mut rig, "c", 250_000);
    let table = ["440000", "540000", "640000", "740000", "840000", "940000"];
    let live = ["b400000", "c250000"];
    let mut rest = table[..].to_vec();
    rest.extend(live);
    assert_eq!(ahead.lines(), rest);
    let lines = behind.lines();
    assert_eq!(lines[0], "reset \"too-old\"");
    assert_eq!(lines[lines.len() - 2..], live);
}

fn a_record_larger_than_the_table_evicts_no_other() {
    for when_full in [WhenFull::RefuseNew, WhenFull::EvictOldest] {
        let mut rig = table(when_full, 10_000);
        write(&mut rig, "a", 100);
        write(&mut rig, "b", 100);
        write(&mut rig, "c", 20_000);
        write(&mut rig, "b", 20_000);
        assert_eq!(rig.stream.counters().displaced.get(), 2);
        assert_eq!(Scanner::new(&rig).lines(), ["a100", "caught-up"]);
        write(&mut rig, "d", 100);
        assert_eq!(Scanner::new(&rig).lines(), ["a100", "d100", "caught-up"]);
    }
}

fn a_resuming_table_client_scans_only_newer_rows() {
    let mut rig = table(WhenFull::RefuseNew, 100_000_000);
    for batch in 0..40 {
        write_numbers(&mut rig, batch * 1000..(batch + 1) * 1000);
    }
    let mut early = Scanner::new(&rig);
    assert_eq!(early.lines().len(), 40_001);
    // More than is in memory, though little beside what is in the table.
    write_numbers(&mut rig, 0..100);
    write_numbers(&mut rig, 100..200);
    let mut late = Scanner::new(&rig);
    late.lines();
    write_numbers(&mut rig, 200..300);
    write_numbers(&mut rig, 300..400);
    write_numbers(&mut rig, 400..500);
    for (client, missed) in [(&early, 500), (&late, 300)] {
        let mut again = Scanner::resume(&rig, client.id());
        assert_eq!(again.lines().len(), missed + 1);
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
        let mut stream = Stream::open(daemon.url("/events")).await;
        let events = stream.collect_until(named("caught-up"), secs(20)).await;
        assert_eq!(events.len(), 4, "three keys, and caught-up");
    });
    daemon.wait_log("its table is full (max_keys): a new key has no place", secs(10));
}
