//! Filtered clients: the records and positions that they receive, and the work that they save.

use crate::rig::{PACE, Rec, Rig, apply, filter, line, rec, run, tombstone};
use crate::trials;
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Heartbeat, Lag, Start, StreamSettings};
use kafka_sse_bridge::stream::control::Goodbye;
use kafka_sse_bridge::stream::filter_index::FilterFigures;
use kafka_sse_bridge::stream::position::Position;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::Step;
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn trials() -> Vec<Trial> {
    trials![
        an_up_to_date_table_client_resumes_without_a_reset_at_any_time,
        since_and_a_filter_combine,
        a_key_that_stops_matching_is_sent_as_a_delete,
        a_key_that_changes_partition_or_loses_a_header_is_deleted,
        a_filtered_client_is_woken_for_its_records_only,
        the_matches_noted_for_all_filters_share_one_bound,
        a_quiet_client_gets_a_checkpoint_when_its_position_changes,
        a_checkpoint_is_sent_only_if_no_other_event_carried_the_position,
        a_client_that_waits_for_kafka_gets_no_checkpoint,
        a_client_that_resumes_from_a_checkpoint_gets_nothing_twice,
    ]
}

/// A quiet table has no new ids and no deletes, so that the retention of deletes does not matter.
fn an_up_to_date_table_client_resumes_without_a_reset_at_any_time() {
    let mut rig = Rig::ready(|settings| {
        table(settings);
        settings.delete_retention = Span::seconds(3600);
    });
    rig.records(&[city("a", "Paris"), city("b", "Rome")]);
    let mut client = rig.client(&[PARIS]);
    let mut held = BTreeMap::new();
    apply(&mut held, &client.events());
    let mut id = Position::parse(client.last_event_id().as_bytes()).expect("a position");
    id.as_of = id.as_of.map(|as_of| as_of - 2 * 3600);
    let id = String::from_utf8(id.id()).expect("ASCII");
    let caught_up = r#"caught-up {"reason":"replay"}"#;
    assert_eq!(rig.resume(&id, &[PARIS]).lines(), [caught_up]);
    // Once something has come, deletes may have.
    rig.records(&[city("c", "Rome")]);
    assert_eq!(
        rig.resume(&id, &[PARIS]).lines()[0],
        r#"reset {"reason":"too-old"}"#
    );
}

fn since_and_a_filter_combine() {
    run(async {
        let at = |record: Rec, time: i64| Rec {
            timestamp: Some(time),
            ..record
        };
        let time = |seconds: u64| {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("after the epoch");
            i64::try_from((now.as_secs() - 1000 + seconds) * 1000).expect("milliseconds")
        };
        for start in [Start::Live, Start::Snapshot] {
            for log_bytes in [64 * 1024 * 1024, 4 * 1024] {
                let mut rig = Rig::with(&[1], true, |settings| {
                    table(settings);
                    settings.start = start;
                    settings.lag = None;
                    settings.log_bytes = Size(log_bytes);
                });
                for number in 0..100_u64 {
                    let city = city(
                        &format!("k{number}"),
                        if number % 2 == 0 { "Paris" } else { "Rome" },
                    );
                    rig.records(&[at(city, time(number))]);
                }
                let mut client = rig.open(Opening {
                    since: Some(time(90)),
                    filter: Some(filter(&[PARIS], &["t".to_owned()]).expect("a filter")),
                    ..Opening::default()
                });
                let lines = client.lines_with_history().await;
                let messages: Vec<String> = lines
                    .iter()
                    .filter(|lines| lines.starts_with("message"))
                    .cloned()
                    .collect();
                let wanted = [90, 92, 94, 96, 98].map(|number| paris(&format!("k{number}")));
                assert_eq!(messages, wanted);
                assert_eq!(
                    lines.last().map(String::as_str),
                    Some(r#"caught-up {"reason":"replay"}"#)
                );
                assert!(lines.iter().all(|lines| !lines.starts_with("reset")), "{lines:?}");
            }
        }
    });
}

pub const PARIS: (&str, &str) = ("value.city", "Paris");

pub fn city(key: &str, city: &str) -> Rec {
    rec(key, format!("{{\"city\":\"{city}\"}}"))
}

pub fn table(settings: &mut StreamSettings) {
    settings.start = Start::Snapshot;
    settings.key_field = Some("id".to_owned());
    settings.lag = Some(Lag::Latest);
}

pub fn paris(key: &str) -> String {
    format!("message {{\"city\":\"Paris\",\"id\":\"{key}\"}}")
}

pub fn delete(key: &str) -> String {
    format!("delete {{\"id\":\"{key}\"}}")
}

fn a_key_that_stops_matching_is_sent_as_a_delete() {
    let mut rig = Rig::ready(table);
    rig.records(&[
        city("a", "Paris"),
        city("b", "Rome"),
        city("x", "Paris"),
        city("x", "Rome"),
    ]);
    let mut client = rig.client(&[PARIS]);
    assert_eq!(
        client.lines(),
        [paris("a"), r#"caught-up {"reason":"snapshot"}"#.to_owned()]
    );
    let id = client.last_event_id().to_owned();
    rig.records(&[city("a", "Rome"), city("a", "Oslo"), city("b", "Oslo")]);
    assert_eq!(client.lines(), [delete("a")], "once, and b was never there");
    rig.records(&[city("a", "Bonn")]);
    assert_eq!(client.lines(), [""; 0]);
    rig.records(&[city("a", "Paris"), city("c", "Paris")]);
    rig.records(&[city("c", "Rome"), tombstone("a"), tombstone("b")]);
    assert_eq!(
        client.lines(),
        [paris("a"), paris("c"), delete("c"), delete("a"), delete("b")],
        "tombstones pass"
    );
    assert_eq!(
        rig.client(&[PARIS]).shown(),
        [""; 0],
        "in a fresh snapshot it is just absent"
    );
    // The server cannot know which rows that no longer match a resuming client holds.
    assert_eq!(
        rig.resume(&id, &[PARIS]).shown(),
        [delete("c"), delete("a"), delete("b")]
    );
    // A delete carries the id of the record it replaces: resuming from it loses nothing.
    rig.records(&[city("a", "Paris")]);
    client.items();
    rig.records(&[city("a", "Rome")]);
    assert_eq!(client.lines(), [delete("a")]);
    assert_eq!(rig.resume(client.last_event_id(), &[PARIS]).shown(), [""; 0]);
    // Other filters of the same key get their own matches.
    let mut rome = rig.client(&[("value.city", "Rome")]);
    assert_eq!(rome.shown().len(), 3, "a, c and x");
    rig.records(&[city("a", "Paris"), tombstone("nobody")]);
    assert_eq!(rome.shown(), [delete("a"), delete("nobody")]);
    assert_eq!(client.shown(), [paris("a"), delete("nobody")]);
    // A key filter keeps even tombstones of others away.
    let mut only_b = rig.client(&[("key", "b"), PARIS]);
    only_b.items();
    rig.records(&[tombstone("a"), city("b", "Paris"), city("b", "Rome")]);
    assert_eq!(only_b.shown(), [paris("b"), delete("b")]);
}

fn a_key_that_changes_partition_or_loses_a_header_is_deleted() {
    let mut rig = Rig::with(&[2], false, table);
    let at = |key: &str, partition: u32| city(key, "Paris").partition(partition);
    let mut first = rig.client(&[("partition", "0")]);
    let mut typed = rig.client(&[("header.type", "x")]);
    first.items();
    typed.items();
    rig.records(&[at("a", 0).header("type", "x"), at("b", 1).header("type", "y")]);
    rig.records(&[at("a", 1), at("b", 0).header("type", "x")]);
    assert_eq!(first.shown(), [paris("a"), delete("a"), paris("b")]);
    assert_eq!(typed.shown(), [paris("a"), delete("a"), paris("b")]);
    rig.records(&[tombstone("b").partition(1).header("type", "z")]);
    assert_eq!(
        first.shown(),
        [delete("b")],
        "its delete lies elsewhere, but it went"
    );
    assert_eq!(typed.shown(), [delete("b")]);
}

fn a_filtered_client_is_woken_for_its_records_only() {
    for start in [Start::Live, Start::Snapshot] {
        let mut rig = Rig::with(&[2], false, |settings| settings.start = start);
        let yes = || city("a", "Paris").header("type", "x").partition(1);
        let others = [
            city("b", "Paris").header("type", "x").partition(1),
            city("a", "Rome").header("type", "x").partition(1),
            city("a", "Paris").header("type", "y").partition(1),
            city("a", "Paris").header("type", "x"),
        ];
        let terms = [("key", "a"), PARIS, ("header.type", "x"), ("partition", "1")];
        for term in 0..terms.len() {
            // The filter whole, and each part of it alone, which is another index each time.
            for wanted in [&terms[..], &terms[term..=term]] {
                rig.records(&[tombstone("a"), tombstone("b")]);
                let mut client = rig.client(wanted);
                client.items();
                client.wait();
                assert_eq!(client.wakes(), 0);
                rig.records(&others[term..=term]);
                assert_eq!((client.wakes(), wanted), (0, wanted));
                rig.records(&[yes(), yes()]);
                assert_eq!((client.wakes(), wanted), (1, wanted), "once for a batch");
                assert_eq!(client.shown().len(), 2);
                client.wait();
                rig.records(&others[term..=term]);
                // On a table the same key, which was wanted and is not any more, is a delete.
                let is_delete = start == Start::Snapshot && term > 0;
                assert_eq!((client.wakes(), wanted), (usize::from(is_delete), wanted));
                client.items();
                client.wait();
                rig.records(&[tombstone("other")]);
                let hears = start == Start::Snapshot
                    && !wanted
                        .iter()
                        .any(|(name, _)| matches!(*name, "key" | "partition"));
                assert_eq!((client.wakes(), wanted), (usize::from(hears), wanted));
            }
        }
        let mut client = rig.client(&terms);
        client.items();
        client.wait();
        rig.stream.close(Goodbye::Shutdown);
        assert_eq!(client.wakes(), 1, "the end concerns everyone");
    }
}

pub fn place(id: &str) -> Vec<i64> {
    Position::parse(id.as_bytes()).expect("a position").topics[0]
        .next
        .clone()
}

fn head(rig: &Rig) -> String {
    let mut client = rig.client_at(Start::Live, &[]);
    client.items();
    client.last_event_id().to_owned()
}

pub const INTERVAL: Duration = Duration::from_secs(10);

fn a_quiet_client_gets_a_checkpoint_when_its_position_changes() {
    let mut rig = Rig::ready(|_| {});
    let mut client = rig.client(&[("key", "a")]);
    client.items();
    client.advance(INTERVAL);
    assert_eq!(client.lines(), [""; 0], "its place has not changed");
    rig.records(&[rec("b", "1"), rec("b", "2"), rec("b", "3")]);
    assert_eq!(client.lines(), [""; 0], "not at once");
    client.advance(Duration::from_secs(9));
    assert_eq!(client.lines(), [""; 0]);
    client.advance(Duration::from_secs(1));
    let events = client.events();
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["checkpoint {}"]);
    assert_eq!(events[0].id, head(&rig));
    assert_eq!(place(&events[0].id), [3]);
    client.advance(INTERVAL);
    assert_eq!(client.lines(), [""; 0], "not again for the same place");
    let (_, Step::Wait(until)) = client.step() else {
        panic!("nothing to do")
    };
    assert!(
        until - client.now <= INTERVAL,
        "it wakes by itself when the next may be due"
    );
    // A match carries the position; a later position in the same batch needs its own event.
    rig.records(&[rec("a", "4"), rec("b", "5")]);
    assert_eq!(client.lines(), ["message 4"]);
    client.advance(INTERVAL);
    assert_eq!(client.lines(), ["checkpoint {}"]);
    assert_eq!(client.last_event_id(), head(&rig));
    // Clients without a filter, of their own or of the stream, need none.
    let mut whole = rig.client(&[]);
    whole.items();
    rig.records(&[rec("b", "6")]);
    whole.items();
    whole.advance(INTERVAL * 2);
    assert!(whole.events().is_empty());
    // Hidden records count, also after a record that was sent, and so do records that cannot be shown.
    let mut rig = Rig::ready(|settings| {
        settings.filter.insert("key".to_owned(), vec!["a".to_owned()]);
    });
    let mut client = rig.client(&[]);
    client.items();
    for hidden in [
        &[rec("a", "1"), rec("b", "2")][..],
        &[rec("b", "3")],
        &[rec("a", "4"), rec("a", b"\xff")],
    ] {
        rig.records(hidden);
        client.items();
        client.advance(INTERVAL);
        assert_eq!(client.lines(), ["checkpoint {}"], "{hidden:?}");
        assert_eq!(client.last_event_id(), head(&rig));
    }
}

fn a_checkpoint_is_sent_only_if_no_other_event_carried_the_position() {
    // Heartbeats tell the place.
    let mut rig = Rig::ready(|settings| {
        settings.heartbeat = Heartbeat::Event;
        settings.heartbeat_interval = Span::seconds(4);
    });
    let mut client = rig.client(&[("key", "a")]);
    client.items();
    rig.records(&[rec("b", "1")]);
    for _ in 0..5 {
        client.advance(Duration::from_secs(4));
        let names: Vec<String> = client.events().into_iter().map(|event| event.name).collect();
        assert_eq!(names, ["heartbeat"]);
        assert_eq!(client.last_event_id(), head(&rig));
    }
    // So does the record itself, live, after a return, and from the table.
    for start in [Start::Earliest, Start::Snapshot] {
        let mut rig = Rig::with(&[2], false, |settings| settings.start = start);
        rig.records(&[rec("a", "1"), rec("b", "1"), rec("a", "2").partition(1)]);
        let mut client = rig.client(&[("key", "a")]);
        client.items();
        let mut back = rig.resume(client.last_event_id(), &[("key", "a")]);
        back.items();
        // Ahead in one partition, as one is that comes from another replica: it has a place of its own.
        let mut ahead = Position::parse(client.last_event_id().as_bytes()).unwrap();
        ahead.topics[0].next[1] += 1;
        let mut ahead = rig.resume(std::str::from_utf8(&ahead.id()).unwrap(), &[("key", "a")]);
        ahead.items();
        rig.records(&[rec("b", "3"), rec("a", "4")]);
        for client in [&mut client, &mut back, &mut ahead] {
            assert_eq!(client.shown().len(), 1);
            client.advance(INTERVAL);
            assert_eq!(client.lines(), [""; 0]);
        }
        rig.records(&[rec("b", "5").partition(1), rec("b", "5")]);
        for client in [&mut client, &mut back, &mut ahead] {
            client.advance(INTERVAL);
            assert_eq!(client.lines(), ["checkpoint {}"]);
        }
    }
}

fn a_client_that_waits_for_kafka_gets_no_checkpoint() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    rig.records(&[rec("b", "1")]);
    let mut client = rig.client(&[("key", "a")]);
    client.items();
    let id = client.last_event_id().to_owned();
    // A daemon that has not reached Kafka.
    let settings = rig.stream.settings().clone();
    rig.stream = kafka_sse_bridge::stream::Stream::new(settings, PACE, None);
    let mut client = rig.resume(&id, &[("key", "a")]);
    client.items();
    for _ in 0..4 {
        client.advance(INTERVAL);
        assert_eq!(client.lines(), [""; 0], "it knows that place");
    }
}

fn a_client_that_resumes_from_a_checkpoint_gets_nothing_twice() {
    run(async {
        let mut rig = Rig::with(&[1], true, |settings| settings.log_bytes = Size(512 * 1024));
        let mut client = rig.client(&[("key", "a")]);
        rig.records(&[rec("a", "1")]);
        client.items();
        let old = client.last_event_id().to_owned();
        let large = vec![b'x'; 100_000];
        for _ in 0..20 {
            rig.records(&[rec("b", large.clone())]);
        }
        client.advance(INTERVAL);
        assert_eq!(client.lines(), ["checkpoint {}"]);
        let checkpoint = client.last_event_id().to_owned();
        let caught_up = r#"caught-up {"reason":"replay"}"#;
        assert_eq!(
            rig.resume(&checkpoint, &[("key", "a")])
                .lines_with_history()
                .await,
            [caught_up]
        );
        assert_eq!(rig.broker.reads.load(Ordering::SeqCst), 0);
        assert_eq!(
            rig.resume(&old, &[("key", "a")]).lines_with_history().await,
            [caught_up]
        );
        assert_eq!(
            rig.broker.reads.load(Ordering::SeqCst),
            1,
            "the other id makes Kafka read it all again"
        );
        rig.records(&[rec("a", "2")]);
        let lines = rig
            .resume(&checkpoint, &[("key", "a")])
            .lines_with_history()
            .await;
        assert_eq!(lines, ["message 2", caught_up]);
    });
}

/// Filters that want everything, each of its own kind.
fn the_matches_noted_for_all_filters_share_one_bound() {
    const FILTERS: usize = 300;
    const BATCH: i64 = 2000;
    let log_bytes = Size(512 * 1024);
    let mut rig = Rig::ready(|settings| settings.log_bytes = log_bytes);
    let topics = rig.stream.settings().topics.clone();
    let mut clients: Vec<_> = (1..=FILTERS)
        .map(|number| {
            let number = number.to_string();
            let terms = [("partition", "0"), ("partition", number.as_str())];
            rig.open(Opening {
                filter: Some(filter(&terms, &topics).expect("a filter")),
                ..Opening::default()
            })
        })
        .collect();
    for client in &mut clients {
        client.items();
    }
    for batch in 0..40 {
        let records: Vec<Rec> = (0..BATCH)
            .map(|number| rec("", (batch * BATCH + number).to_string()))
            .collect();
        rig.records(&records);
        let wanted: Vec<String> = (0..BATCH)
            .map(|number| (batch * BATCH + number).to_string())
            .collect();
        // Those that read get all of it, whatever is noted for the others.
        for client in &mut clients[..3] {
            let data: Vec<String> = client.events().into_iter().map(|event| event.data).collect();
            assert_eq!(data, wanted);
        }
        let figures = rig.stream.filters();
        assert_eq!(figures.filters, FILTERS);
        let most = log_bytes.as_len() / 4 + FILTERS * 4096;
        assert!(
            figures.noted_bytes <= most,
            "{} bytes of {most}",
            figures.noted_bytes
        );
        assert!(figures.noted_bytes > 0);
    }
    drop(clients);
    assert_eq!(rig.stream.filters(), FilterFigures::default());
}
