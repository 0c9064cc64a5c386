//! Readers with a filter and more before them than is at hand: they fall off the log, have more matches than
//! are noted, or come to a past from before their filter.

use crate::filtered_readers::{INTERVAL, PARIS, city, delete, place, table};
use crate::harness::sse::{Event, Item};
use crate::rig::{Client, Rec, Rig, apply, event, line, rec, run, tombstone};
use crate::trials;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::config::{Lag, Start, StreamSettings};
use kafka_sse_bridge::stream::subscription::Step;
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

pub fn trials() -> Vec<Trial> {
    trials![
        records_for_others_do_not_make_a_filtered_client_slow,
        a_filtered_client_behind_the_log_gets_its_records_from_kafka,
        a_filtered_client_behind_a_tables_log_gets_the_latest_values,
        matches_beyond_the_index_bound_are_all_sent,
        matches_beyond_the_index_bound_are_conflated_on_a_table,
        a_writer_searches_old_records_for_matches,
        a_resuming_client_gets_records_from_before_its_filter_from_memory,
        a_long_search_without_a_match_yields_to_other_clients,
    ]
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

fn records_for_others_do_not_make_a_filtered_client_slow() {
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
        assert_eq!(client.lines(), ["message 1"]);
        flood(&mut rig, "b", "Rome");
        assert_eq!(client.lines(), [""; 0]);
        client.advance(INTERVAL);
        assert_eq!(client.lines(), ["checkpoint {}"]);
        let counters = rig.stream.counters();
        assert_eq!((counters.slow.get(), counters.conflated.get()), (0, 0));
        if lag == Lag::Disconnect {
            rig.records(&[rec("a", "2")]);
            flood(&mut rig, "b", "Rome");
            rig.records(&[rec("a", "3")]);
            let (items, step) = client.items();
            let lines: Vec<String> = items
                .into_iter()
                .filter_map(event)
                .map(|event| line(&event))
                .collect();
            assert_eq!(
                (lines, step),
                (vec![r#"goodbye {"reason":"slow"}"#.to_owned()], Step::End)
            );
            assert_eq!(rig.stream.counters().slow.get(), 1);
        }
    }
}

fn a_filtered_client_behind_the_log_gets_its_records_from_kafka() {
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
        let (mut lines, mut again) = (
            client.lines_with_history().await,
            rig.resume(client.last_event_id(), &terms),
        );
        assert_eq!(rig.stream.counters().slow.get(), 1);
        // Kafka gives one partition after the other; within each the order is that of writing.
        lines.sort();
        wanted.sort();
        assert_eq!(lines, wanted, "each once");
        assert_eq!(
            again.lines_with_history().await,
            [r#"caught-up {"reason":"replay"}"#]
        );
        rig.records(&[city("k", "Paris")]);
        assert_eq!(client.lines(), ["message {\"city\":\"Paris\"}"]);
    });
}

fn a_filtered_client_behind_a_tables_log_gets_the_latest_values() {
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
        tombstone("b"),
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
    assert_eq!(rig.stream.counters().conflated.get(), 1);
    rig.records(&[city("c", "Rome")]);
    assert_eq!(client.lines(), [delete("c")]);
}

/// Two and a half times as many matches as a group notes, among as many other records, in batches of a thousand.
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

fn matches_beyond_the_index_bound_are_all_sent() {
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
    // In turns, piece by piece, so that they share the searched records.
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
                    .map(|event| line(&event)),
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
    assert_eq!(rig.stream.counters().slow.get(), 0, "all of it is in memory");
    rig.records(&[city("a", "Paris")]);
    for client in [&mut stalled, &mut late, &mut middle] {
        assert_eq!(client.shown(), [wanted[0].clone()]);
    }
}

fn matches_beyond_the_index_bound_are_conflated_on_a_table() {
    const KEYS: usize = 12_000;
    let mut rig = Rig::ready(|settings| {
        table(settings);
        settings.log_bytes = Size(2 * 1024 * 1024);
    });
    let mut client = rig.client(&[PARIS]);
    client.items();
    let mut held = BTreeMap::new();
    let all_to = |rig: &mut Rig, name: &str, keys: std::ops::Range<usize>| {
        for start in keys.clone().step_by(2000) {
            let batch = start..keys.end.min(start + 2000);
            let rows: Vec<Rec> = batch.map(|key| city(&format!("k{key}"), name)).collect();
            rig.records(&rows);
        }
    };
    all_to(&mut rig, "Paris", 0..KEYS);
    apply(&mut held, &client.events());
    assert_eq!(held.len(), KEYS);
    // More deletes than are kept beside a log of this size.
    all_to(&mut rig, "Rome", 100..KEYS);
    let events = client.events();
    assert_eq!(events[0].name, "conflated", "{:?}", events[0]);
    assert!(
        events[0].json()["skipped"].as_u64() > Some(1000),
        "{:?}",
        events[0]
    );
    let before = held.clone();
    apply(&mut held, &events);
    let mut fresh = BTreeMap::new();
    apply(&mut fresh, &rig.client(&[PARIS]).events());
    assert_eq!(fresh.len(), 100);
    assert_eq!(held, fresh);
    // A client cut off after any of them resumes and ends with the same state.
    for cut in (1..events.len()).step_by(1997) {
        let mut held = before.clone();
        apply(&mut held, &events[..cut]);
        let back = rig.resume(&events[cut - 1].id, &[PARIS]).events();
        assert!(back.iter().all(|event| event.name != "reset"), "{:?}", back[0]);
        apply(&mut held, &back);
        assert_eq!(held, fresh, "cut after {cut}");
    }
}

/// Old records are looked through where a stream writes, not where its clients are served.
fn a_writer_searches_old_records_for_matches() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    let tasks: Arc<Mutex<Vec<Task>>> = Arc::default();
    let given = Arc::clone(&tasks);
    rig.stream.set_spawn(Box::new(move |task| {
        given.lock().expect("no panic").push(task);
    }));
    for number in 0..10 {
        flood(&mut rig, "b", "Rome");
        rig.records(&[city("a", "Paris"), rec("n", number.to_string())]);
    }
    let mut clients = [rig.client(&[PARIS]), rig.client(&[PARIS])];
    for client in &mut clients {
        client.items();
        client.wait();
        assert_eq!(client.shown(), [""; 0], "whatever it takes");
        client.wait();
    }
    let mut shown = [0, 0];
    let mut turns = 0;
    while shown != [10, 10] {
        let task = tasks.lock().expect("no panic").pop();
        let mut task = task.unwrap_or_else(|| panic!("no search runs: {shown:?}"));
        assert!(tasks.lock().expect("no panic").is_empty(), "one task per stream");
        while task
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            turns += 1;
            for (client, shown) in clients.iter_mut().zip(&mut shown) {
                assert!(client.wakes() > 0, "it is woken");
                *shown += client.shown().len();
                client.wait();
            }
        }
    }
    assert!(turns > 10, "a block in a turn");
}

fn a_resuming_client_gets_records_from_before_its_filter_from_memory() {
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
        wanted.push((number % 7 == 0).then(|| line(&event)));
        ids.push(event.id);
    }
    // Several at once, so that they share the records that one of them has searched.
    let mut clients: Vec<Client> = ids.iter().map(|id| rig.resume(id, &[PARIS])).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let left: Vec<&String> = wanted[number + 1..].iter().flatten().collect();
        assert_eq!(client.shown().iter().collect::<Vec<_>>(), left, "after {number}");
    }
    rig.records(&[city("a", "Paris")]);
    assert!(clients.iter_mut().all(|client| client.shown().len() == 1));
}

fn a_long_search_without_a_match_yields_to_other_clients() {
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
    slow.advance(INTERVAL);
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
    assert_eq!(client.lines(), [r#"caught-up {"reason":"snapshot"}"#]);
}
