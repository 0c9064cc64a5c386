//! Readers with a filter: what they are shown and told of the rest, and what they are spared.

use crate::harness::sse::{Event, Item};
use crate::harness::trial;
use crate::rig::{Client, Rec, Rig, apply, event, gone, rec, run, said};
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Heartbeat, Lag, Start, StreamSettings};
use kafka_sse_bridge::stream::position::Position;
use kafka_sse_bridge::stream::subscription::{Goodbye, Step};
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_key_that_matches_no_more_arrives_as_a_delete", matches_no_more),
        trial(
            "a_key_that_leaves_a_partition_or_loses_a_header_is_deleted",
            moves_away,
        ),
        trial("a_filtered_client_is_woken_for_its_records_only", wakes),
        trial(
            "a_quiet_client_is_told_its_place_when_that_has_changed",
            checkpoints,
        ),
        trial(
            "a_checkpoint_comes_only_where_nothing_else_told_the_place",
            told_otherwise,
        ),
        trial(
            "a_client_that_waits_for_kafka_is_sent_no_checkpoint",
            no_place_yet,
        ),
        trial(
            "a_client_that_returns_from_a_checkpoint_reads_nothing_again",
            from_checkpoint,
        ),
        trial("records_for_others_make_no_filtered_client_slow", not_slow),
        trial(
            "a_filtered_client_that_falls_off_gets_its_records_from_kafka",
            falls_off_to_kafka,
        ),
        trial(
            "a_filtered_client_that_falls_off_a_table_gets_latest_values",
            falls_off_to_table,
        ),
        trial("more_matches_than_are_noted_are_still_all_shown", many_matches),
        trial(
            "more_matches_than_are_noted_are_conflated_on_a_table",
            many_matches_conflated,
        ),
        trial(
            "a_returning_client_finds_in_memory_what_came_before_its_filter",
            from_before,
        ),
        trial(
            "a_long_stretch_without_a_match_lets_others_have_their_turn",
            long_stretch,
        ),
    ]
}

const PARIS: (&str, &str) = ("value.city", "Paris");

fn city(key: &str, city: &str) -> Rec {
    rec(key, format!("{{\"city\":\"{city}\"}}"))
}

fn table(settings: &mut StreamSettings) {
    settings.start = Start::Snapshot;
    settings.key_field = Some("id".to_owned());
    settings.lag = Some(Lag::Latest);
}

fn paris(key: &str) -> String {
    format!("message {{\"city\":\"Paris\",\"id\":\"{key}\"}}")
}

fn delete(key: &str) -> String {
    format!("delete {{\"id\":\"{key}\"}}")
}

fn matches_no_more() {
    let mut rig = Rig::ready(table);
    rig.records(&[
        city("a", "Paris"),
        city("b", "Rome"),
        city("x", "Paris"),
        city("x", "Rome"),
    ]);
    let mut client = rig.client(&[PARIS]);
    assert_eq!(
        client.told(),
        [paris("a"), r#"caught-up {"reason":"snapshot"}"#.to_owned()]
    );
    let id = client.last_event_id().to_owned();
    rig.records(&[city("a", "Rome"), city("a", "Oslo"), city("b", "Oslo")]);
    assert_eq!(client.told(), [delete("a")], "once, and b was never there");
    rig.records(&[city("a", "Bonn")]);
    assert_eq!(client.told(), [""; 0]);
    rig.records(&[city("a", "Paris"), city("c", "Paris")]);
    rig.records(&[city("c", "Rome"), gone("a"), gone("b")]);
    assert_eq!(
        client.told(),
        [paris("a"), paris("c"), delete("c"), delete("a"), delete("b")],
        "tombstones pass"
    );
    assert_eq!(
        rig.client(&[PARIS]).shown(),
        [""; 0],
        "in a fresh snapshot it is just absent"
    );
    // After a return the server cannot know what the client had of what matches no more.
    assert_eq!(
        rig.back(&id, &[PARIS]).shown(),
        [delete("c"), delete("a"), delete("b")]
    );
    // A delete carries the id of the record it stands for: who comes back there loses nothing.
    rig.records(&[city("a", "Paris")]);
    client.items();
    rig.records(&[city("a", "Rome")]);
    assert_eq!(client.told(), [delete("a")]);
    assert_eq!(rig.back(client.last_event_id(), &[PARIS]).shown(), [""; 0]);
    // Other filters of the same key hear their own part.
    let mut rome = rig.client(&[("value.city", "Rome")]);
    assert_eq!(rome.shown().len(), 3, "a, c and x");
    rig.records(&[city("a", "Paris"), gone("nobody")]);
    assert_eq!(rome.shown(), [delete("a"), delete("nobody")]);
    assert_eq!(client.shown(), [paris("a"), delete("nobody")]);
    // A key filter keeps even tombstones of others away.
    let mut only_b = rig.client(&[("key", "b"), PARIS]);
    only_b.items();
    rig.records(&[gone("a"), city("b", "Paris"), city("b", "Rome")]);
    assert_eq!(only_b.shown(), [paris("b"), delete("b")]);
}

fn moves_away() {
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
    rig.records(&[gone("b").partition(1).header("type", "z")]);
    assert_eq!(
        first.shown(),
        [delete("b")],
        "its delete lies elsewhere, but it went"
    );
    assert_eq!(typed.shown(), [delete("b")]);
}

fn wakes() {
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
                rig.records(&[gone("a"), gone("b")]);
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
                rig.records(&[gone("other")]);
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

fn place(id: &str) -> Vec<i64> {
    Position::parse(id.as_bytes()).expect("a position").topics[0]
        .next
        .clone()
}

fn head(rig: &Rig) -> String {
    let mut client = rig.client_at(Start::Live, &[]);
    client.items();
    client.last_event_id().to_owned()
}

const INTERVAL: Duration = Duration::from_secs(10);

fn checkpoints() {
    let mut rig = Rig::ready(|_| {});
    let mut client = rig.client(&[("key", "a")]);
    client.items();
    client.pass(INTERVAL);
    assert_eq!(client.told(), [""; 0], "its place has not changed");
    rig.records(&[rec("b", "1"), rec("b", "2"), rec("b", "3")]);
    assert_eq!(client.told(), [""; 0], "not at once");
    client.pass(Duration::from_secs(9));
    assert_eq!(client.told(), [""; 0]);
    client.pass(Duration::from_secs(1));
    let events = client.events();
    assert_eq!(events.iter().map(said).collect::<Vec<_>>(), ["checkpoint {}"]);
    assert_eq!(events[0].id, head(&rig));
    assert_eq!(place(&events[0].id), [3]);
    client.pass(INTERVAL);
    assert_eq!(client.told(), [""; 0], "not again for the same place");
    let (_, Step::Wait(until)) = client.step() else {
        panic!("nothing to do")
    };
    assert!(
        until - client.now <= INTERVAL,
        "it wakes by itself when the next may be due"
    );
    // A match tells the place, and what comes behind it in the same batch has to be told.
    rig.records(&[rec("a", "4"), rec("b", "5")]);
    assert_eq!(client.told(), ["message 4"]);
    client.pass(INTERVAL);
    assert_eq!(client.told(), ["checkpoint {}"]);
    assert_eq!(client.last_event_id(), head(&rig));
    // Without a filter of its own or of the stream, nobody needs one.
    let mut whole = rig.client(&[]);
    whole.items();
    rig.records(&[rec("b", "6")]);
    whole.items();
    whole.pass(INTERVAL * 2);
    assert!(whole.events().is_empty());
    // What a fixed filter hides counts, behind a record that was shown too, and what cannot be shown.
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
        client.pass(INTERVAL);
        assert_eq!(client.told(), ["checkpoint {}"], "{hidden:?}");
        assert_eq!(client.last_event_id(), head(&rig));
    }
}

fn told_otherwise() {
    // Heartbeats tell the place.
    let mut rig = Rig::ready(|settings| {
        settings.heartbeat = Heartbeat::Event;
        settings.heartbeat_interval = Span::seconds(4);
    });
    let mut client = rig.client(&[("key", "a")]);
    client.items();
    rig.records(&[rec("b", "1")]);
    for _ in 0..5 {
        client.pass(Duration::from_secs(4));
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
        let mut back = rig.back(client.last_event_id(), &[("key", "a")]);
        back.items();
        // Ahead in one partition, as one is that comes from another replica: it has a place of its own.
        let mut ahead = Position::parse(client.last_event_id().as_bytes()).unwrap();
        ahead.topics[0].next[1] += 1;
        let mut ahead = rig.back(std::str::from_utf8(&ahead.id()).unwrap(), &[("key", "a")]);
        ahead.items();
        rig.records(&[rec("b", "3"), rec("a", "4")]);
        for client in [&mut client, &mut back, &mut ahead] {
            assert_eq!(client.shown().len(), 1);
            client.pass(INTERVAL);
            assert_eq!(client.told(), [""; 0]);
        }
        rig.records(&[rec("b", "5").partition(1), rec("b", "5")]);
        for client in [&mut client, &mut back, &mut ahead] {
            client.pass(INTERVAL);
            assert_eq!(client.told(), ["checkpoint {}"]);
        }
    }
}

fn no_place_yet() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    rig.records(&[rec("b", "1")]);
    let mut client = rig.client(&[("key", "a")]);
    client.items();
    let id = client.last_event_id().to_owned();
    // A daemon that has not reached Kafka.
    let settings = rig.stream.settings().clone();
    let pace = kafka_sse_bridge::stream::stream::Pace {
        keepalive: Duration::from_secs(15),
        retry: Duration::from_secs(2),
        max_lifetime: Duration::ZERO,
    };
    rig.stream = kafka_sse_bridge::stream::stream::Stream::new(settings, pace, None);
    let mut client = rig.back(&id, &[("key", "a")]);
    client.items();
    for _ in 0..4 {
        client.pass(INTERVAL);
        assert_eq!(client.told(), [""; 0], "it knows that place");
    }
}

fn from_checkpoint() {
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
        client.pass(INTERVAL);
        assert_eq!(client.told(), ["checkpoint {}"]);
        let checkpoint = client.last_event_id().to_owned();
        let caught_up = r#"caught-up {"reason":"replay"}"#;
        assert_eq!(
            rig.back(&checkpoint, &[("key", "a")]).told_at_last().await,
            [caught_up]
        );
        assert_eq!(rig.past.reads.load(Ordering::SeqCst), 0);
        assert_eq!(rig.back(&old, &[("key", "a")]).told_at_last().await, [caught_up]);
        assert_eq!(
            rig.past.reads.load(Ordering::SeqCst),
            1,
            "the other id makes Kafka read it all again"
        );
        rig.records(&[rec("a", "2")]);
        let told = rig.back(&checkpoint, &[("key", "a")]).told_at_last().await;
        assert_eq!(told, ["message 2", caught_up]);
    });
}

/// Records with long values and this key, more than a small log holds.
fn flood(rig: &mut Rig, key: &str, last: &str) {
    for number in 0..20 {
        let value = format!(
            "{{\"city\":\"{last}\",\"n\":{number},\"x\":\"{}\"}}",
            "x".repeat(100_000)
        );
        rig.records(&[rec(key, value)]);
    }
}

fn small(settings: &mut StreamSettings) {
    settings.log_bytes = Size(512 * 1024);
}

fn not_slow() {
    for (start, lag) in [
        (Start::Live, Lag::Disconnect),
        (Start::Live, Lag::Replay),
        (Start::Snapshot, Lag::Latest),
    ] {
        let mut rig = Rig::ready(|settings| {
            small(settings);
            settings.start = start;
            settings.lag = Some(lag);
        });
        let mut client = rig.client(&[("key", "a")]);
        client.items();
        flood(&mut rig, "b", "Rome");
        rig.records(&[rec("a", "1")]);
        assert_eq!(client.told(), ["message 1"]);
        flood(&mut rig, "b", "Rome");
        assert_eq!(client.told(), [""; 0]);
        client.pass(INTERVAL);
        assert_eq!(client.told(), ["checkpoint {}"]);
        let figures = rig.stream.figures();
        assert_eq!((figures.slow, figures.conflated), (0, 0));
        if lag == Lag::Disconnect {
            rig.records(&[rec("a", "2")]);
            flood(&mut rig, "b", "Rome");
            rig.records(&[rec("a", "3")]);
            let (items, step) = client.items();
            let told: Vec<String> = items
                .into_iter()
                .filter_map(event)
                .map(|event| said(&event))
                .collect();
            assert_eq!(
                (told, step),
                (vec![r#"goodbye {"reason":"slow"}"#.to_owned()], Step::End)
            );
            assert_eq!(rig.stream.figures().slow, 1);
        }
    }
}

fn falls_off_to_kafka() {
    run(async {
        let mut rig = Rig::with(&[2], true, small);
        let terms = [PARIS];
        let mut client = rig.client(&terms);
        client.items();
        let mut wanted = Vec::new();
        for round in 0..5 {
            for number in 0..3 {
                let record = city("k", "Paris").partition(number % 2);
                let value = format!("{{\"city\":\"Paris\",\"n\":\"{round}-{number}\"}}");
                wanted.push(format!("message {value}"));
                rig.records(&[
                    Rec {
                        value: Some(value.into_bytes()),
                        ..record
                    },
                    city("k", "Rome"),
                ]);
            }
            if round != 2 {
                flood(&mut rig, "b", "Rome");
            }
        }
        let (mut told, mut again) = (
            client.told_at_last().await,
            rig.back(client.last_event_id(), &terms),
        );
        assert_eq!(rig.stream.figures().slow, 1);
        // Kafka gives one partition after the other; within each the order is that of writing.
        told.sort();
        wanted.sort();
        assert_eq!(told, wanted, "each once");
        assert_eq!(again.told_at_last().await, [r#"caught-up {"reason":"replay"}"#]);
        rig.records(&[city("k", "Paris")]);
        assert_eq!(client.told(), ["message {\"city\":\"Paris\"}"]);
    });
}

fn falls_off_to_table() {
    let mut rig = Rig::ready(|settings| {
        table(settings);
        small(settings);
    });
    rig.records(&[
        city("a", "Paris"),
        city("b", "Paris"),
        city("c", "Rome"),
        city("d", "Paris"),
    ]);
    let mut client = rig.client(&[PARIS]);
    let mut held = BTreeMap::new();
    apply(&mut held, &client.events());
    assert_eq!(held.len(), 3);
    rig.records(&[
        city("a", "Rome"),
        gone("b"),
        city("c", "Paris"),
        city("e", "Rome"),
    ]);
    flood(&mut rig, "x", "Paris");
    let events = client.events();
    assert_eq!(events[0].name, "conflated");
    assert!(events[0].json()["skipped"].as_u64() > Some(4), "{:?}", events[0]);
    assert_eq!(events.iter().filter(|event| event.name == "conflated").count(), 1);
    apply(&mut held, &events);
    let mut fresh = BTreeMap::new();
    apply(&mut fresh, &rig.client(&[PARIS]).events());
    assert_eq!(held, fresh);
    assert_eq!(
        held.keys().map(String::as_str).collect::<Vec<_>>(),
        ["c", "d", "x"]
    );
    let times = events
        .iter()
        .filter(|event| event.data.contains("\"id\":\"x\""))
        .count();
    assert_eq!(times, 1, "the latest alone");
    assert_eq!(rig.stream.figures().conflated, 1);
    rig.records(&[city("c", "Rome")]);
    assert_eq!(client.told(), [delete("c")]);
}

/// Twice and a half what a group notes, among as many for others, in batches of a thousand.
fn many(rig: &mut Rig, keys: usize) -> Vec<String> {
    let mut shown = Vec::new();
    for batch in 0..20 {
        let records: Vec<Rec> = (0..1000)
            .flat_map(|number| {
                let number = batch * 1000 + number;
                let value = format!("{{\"city\":\"Paris\",\"n\":{number}}}");
                shown.push(value.clone());
                [rec(&format!("k{}", number % keys), value), city("other", "Rome")]
            })
            .collect();
        rig.records(&records);
    }
    shown
}

fn many_matches() {
    let mut rig = Rig::ready(|settings| settings.lag = Some(Lag::Disconnect));
    let (mut stalled, mut late) = (rig.client(&[PARIS]), rig.client(&[PARIS]));
    stalled.items();
    late.items();
    rig.records(&[city("a", "Paris")]);
    assert_eq!(late.shown().len(), 1);
    let mut wanted = vec!["{\"city\":\"Paris\"}".to_owned()];
    wanted.extend(many(&mut rig, 500));
    let wanted: Vec<String> = wanted.iter().map(|value| format!("message {value}")).collect();
    let mut middle = rig.client_at(Start::Earliest, &[PARIS]);
    // In turns, piece by piece, so that they meet in what was looked through.
    let mut shown = [Vec::new(), vec![wanted[0].clone()], Vec::new()];
    let mut steps = 0;
    let mut is_done = [false; 3];
    while is_done.contains(&false) {
        for (number, client) in [&mut stalled, &mut late, &mut middle].into_iter().enumerate() {
            let (items, step) = client.step();
            let events = items.into_iter().filter_map(event);
            shown[number].extend(
                events
                    .filter(|event| event.name == "message")
                    .map(|event| said(&event)),
            );
            is_done[number] = matches!(step, Step::Wait(_));
        }
        steps += 1;
        assert!(steps < 10_000, "no end");
    }
    for shown in shown {
        assert_eq!(shown.len(), wanted.len());
        assert!(shown == wanted, "in order");
    }
    assert_eq!(rig.stream.figures().slow, 0, "all of it is in memory");
    rig.records(&[city("a", "Paris")]);
    for client in [&mut stalled, &mut late, &mut middle] {
        assert_eq!(client.shown(), [wanted[0].clone()]);
    }
}

fn many_matches_conflated() {
    let mut rig = Rig::ready(table);
    let mut client = rig.client(&[PARIS]);
    rig.records(&[city("a", "Paris"), city("b", "Paris")]);
    let mut held = BTreeMap::new();
    apply(&mut held, &client.events());
    rig.records(&[city("a", "Rome"), gone("b")]);
    many(&mut rig, 500);
    let events = client.events();
    assert_eq!(events[0].name, "conflated", "{:?}", events[0]);
    assert!(
        events[0].json()["skipped"].as_u64() > Some(8000),
        "{:?}",
        events[0]
    );
    assert!(events.len() < 2000, "{} are not conflated", events.len());
    let before = held.clone();
    apply(&mut held, &events);
    let mut fresh = BTreeMap::new();
    apply(&mut fresh, &rig.client(&[PARIS]).events());
    assert_eq!(fresh.len(), 500);
    assert_eq!(held, fresh);
    // Cut off after any of them, it comes back and ends with the same.
    for cut in (1..events.len()).step_by(97) {
        let mut held = before.clone();
        apply(&mut held, &events[..cut]);
        let back = rig.back(&events[cut - 1].id, &[PARIS]).events();
        assert!(back.iter().all(|event| event.name != "reset"), "{:?}", back[0]);
        apply(&mut held, &back);
        assert_eq!(held, fresh, "cut after {cut}");
    }
}

fn from_before() {
    let mut rig = Rig::with(&[2], false, |settings| settings.start = Start::Earliest);
    let mut whole = rig.client(&[]);
    let mut ids = Vec::new();
    let mut wanted = Vec::new();
    for number in 0..60_u32 {
        let record = if number % 7 == 0 {
            city("a", "Paris")
        } else {
            city("b", "Rome")
        };
        rig.records(&[record.partition(number % 2)]);
        let event = whole
            .events()
            .into_iter()
            .find(|event| event.name == "message")
            .expect("shown");
        wanted.push((number % 7 == 0).then(|| said(&event)));
        ids.push(event.id);
    }
    // Several at once, so that they share what one of them has looked through.
    let mut clients: Vec<Client> = ids.iter().map(|id| rig.back(id, &[PARIS])).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let left: Vec<&String> = wanted[number + 1..].iter().flatten().collect();
        assert_eq!(client.shown().iter().collect::<Vec<_>>(), left, "after {number}");
    }
    rig.records(&[city("a", "Paris")]);
    assert!(clients.iter_mut().all(|client| client.shown().len() == 1));
}

fn long_stretch() {
    let mut rig = Rig::ready(|settings| {
        settings.start = Start::Earliest;
        settings.log_bytes = Size(16 * 1024 * 1024);
    });
    let value = vec![b'x'; 100_000];
    for _ in 0..50 {
        rig.records(&[rec("b", value.clone())]);
    }
    rig.records(&[rec("a", "1")]);
    let mut client = rig.client(&[("key", "a")]);
    client.step();
    let mut yields = 0;
    let shown = loop {
        match client.step() {
            (items, Step::Send(_)) => break items,
            (_, Step::Yield) => yields += 1,
            (_, other) => panic!("{other:?}"),
        }
    };
    assert!(
        matches!(&shown[..], [Item::Event(Event { data, .. })] if data == "1"),
        "{shown:?}"
    );
    assert!(yields >= 3, "{yields} turns for others in five megabytes");
    // A client that is due a checkpoint gets it on the way.
    let mut slow = rig.client(&[("key", "c")]);
    slow.step();
    slow.step();
    slow.pass(INTERVAL);
    let (items, _) = slow.step();
    assert!(
        matches!(&items[..], [Item::Event(Event { name, .. })] if name == "checkpoint"),
        "{items:?}"
    );
    assert!(place(slow.last_event_id())[0] < 51, "the place it has come to");
    // So in the table: many rows, none of them wanted.
    let mut rig = Rig::ready(table);
    for batch in 0..20 {
        let rows: Vec<Rec> = (0..500)
            .map(|row| city(&format!("{batch}-{row}"), "Rome"))
            .collect();
        rig.records(&rows);
    }
    let mut client = rig.client(&[PARIS]);
    client.step();
    assert!(matches!(client.step(), (_, Step::Yield)));
    assert_eq!(client.told(), [r#"caught-up {"reason":"snapshot"}"#]);
}
