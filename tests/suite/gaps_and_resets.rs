//! Gaps and resets while clients are connected: each is sent once, with exact bounds, and a client that resumes
//! with any id near them ends with the same state as one that stayed connected.

use crate::harness::sse::Event;
use crate::rig::{Client, Rig, event, line, rec, run};
use crate::trials;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::config::{Lag, Start};
use kafka_sse_bridge::stream::position::Position;
use libtest_mimic::Trial;
use serde_json::Value;
use std::collections::BTreeMap;

pub fn trials() -> Vec<Trial> {
    trials![
        a_filtered_control_event_reaches_resuming_and_lagging_clients_alike,
        retention_ahead_of_reading_is_one_gap_per_partition,
        a_control_event_passes_the_filters_that_it_concerns,
        resuming_near_a_gap_neither_loses_nor_repeats_records,
        a_recreated_topic_resets_every_client,
        resuming_near_a_reset_neither_loses_nor_repeats_records,
        a_client_behind_the_log_gets_the_reset_of_a_recreated_topic,
        a_replaying_client_gets_the_reset_of_a_recreated_topic,
        a_client_inside_the_snapshot_gets_the_reset_of_a_recreated_topic,
    ]
}

fn write(rig: &mut Rig, topic: usize, partition: u32, count: usize) {
    let first = rig.next[topic][partition as usize];
    for number in first..first + i64::try_from(count).expect("few") {
        let key = format!("k{}", number % 3);
        rig.records(&[rec(&key, format!("{number}")).topic(topic).partition(partition)]);
    }
}

/// The records that a client holds of each topic since its last reset.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    /// Half-open ranges of offsets that it received or that a gap covered, by topic and partition.
    covered: BTreeMap<(String, u64), Vec<(u64, u64)>>,
    table: BTreeMap<(String, String), Value>,
    resets: Vec<String>,
}

impl Held {
    fn hear(&mut self, events: &[Event]) {
        for event in events {
            let data = event.json();
            let number = |name: &str| data[name].as_u64().expect("a number");
            let topic = || data["topic"].as_str().expect("a topic").to_owned();
            let key = || (topic(), data["key"].as_str().unwrap_or_default().to_owned());
            let range = match event.name.as_str() {
                "message" => {
                    self.table.insert(key(), data["value"].clone());
                    (number("offset"), number("offset") + 1)
                }
                "delete" => {
                    self.table.remove(&key());
                    (number("offset"), number("offset") + 1)
                }
                "gap" => (number("from"), number("to")),
                "reset" => {
                    self.resets.push(event.data.clone());
                    let named = data["topic"].as_str();
                    self.covered
                        .retain(|(topic, _), _| named.is_some_and(|named| named != topic));
                    self.table
                        .retain(|(topic, _), _| named.is_some_and(|named| named != topic));
                    continue;
                }
                "caught-up" | "conflated" => continue,
                other => panic!("{other}: {}", event.data),
            };
            self.covered
                .entry((topic(), number("partition")))
                .or_default()
                .push(range);
        }
    }

    /// Whether it has everything of every partition up to these offsets, once and in order.
    fn is_whole(&self, next: &[Vec<i64>], what: &str) {
        for (topic, next) in ["t", "u"].iter().zip(next) {
            for (partition, &next) in (0..).zip(next) {
                let covered = self.covered.get(&((*topic).to_owned(), partition));
                let mut reached = 0;
                for &(from, to) in covered.into_iter().flatten() {
                    assert_eq!(from, reached, "{what}: {topic}/{partition}: {covered:?}");
                    reached = to;
                }
                assert_eq!(
                    reached,
                    next.unsigned_abs(),
                    "{what}: {topic}/{partition}: {covered:?}"
                );
            }
        }
    }
}

/// Resumes with the id of every event from `first` on, and checks what the client holds in the end.
async fn resume_with_every_id(rig: &Rig, events: &[Event], first: usize) {
    let mut whole = Held::default();
    whole.hear(events);
    let is_table = rig.stream.settings().has_table();
    for cut in first..=events.len() {
        let mut held = Held::default();
        held.hear(&events[..cut]);
        let mut back = rig.resume(&events[cut - 1].id, &[]);
        held.hear(&back.events_with_history().await);
        let what = format!("back after {cut}: {:?}", events[cut - 1]);
        if is_table {
            assert_eq!(held.table, whole.table, "{what}");
        } else {
            held.is_whole(&rig.next, &what);
        }
    }
}

fn gaps(events: &[Event]) -> Vec<String> {
    events.iter().filter(|event| event.is("gap")).map(line).collect()
}

fn gap(topic: &str, partition: u32, from: i64, to: i64) -> String {
    let data = format!(
        "{{\"from\":{from},\"partition\":{partition},\"reason\":\"expired\",\"to\":{to},\"topic\":\"{topic}\"}}"
    );
    format!("gap {data}")
}

const RECREATED: &str = r#"reset {"reason":"recreated","topic":"t"}"#;

fn retention_ahead_of_reading_is_one_gap_per_partition() {
    for start in [Start::Live, Start::Earliest, Start::Snapshot] {
        let mut rig = Rig::enveloped(start, |_| {});
        let mut clients: Vec<Client> = (0..3).map(|_| rig.client(&[])).collect();
        for client in &mut clients {
            client.items();
        }
        write(&mut rig, 0, 0, 3);
        // One of them stalls meanwhile.
        for client in &mut clients[1..] {
            client.items();
        }
        rig.expire(0, &[10, 7]);
        write(&mut rig, 0, 0, 1);
        write(&mut rig, 1, 0, 1);
        for client in &mut clients {
            let events = client.events();
            assert_eq!(
                gaps(&events),
                [gap("t", 0, 3, 10), gap("t", 1, 0, 7)],
                "{start:?}"
            );
            // The first gap's id does not claim the second, nor does any go back.
            let first = events.iter().find(|event| event.is("gap")).expect("a gap");
            let place = Position::parse(first.id.as_bytes()).expect("a position");
            assert_eq!(place.topics[0].next, [10, 0]);
            assert!(
                events
                    .iter()
                    .all(|event| event.own_id || start == Start::Snapshot)
            );
        }
        // The same offsets again, or some that go back, are no gap.
        let next = rig.next[0].clone();
        rig.assign(0, &next);
        assert!(clients[0].events().is_empty());
        let figures = rig.stream.figures();
        assert_eq!(figures.records, 5, "notices are no records");
    }
}

/// Names and values of a filter.
type Asked<'a> = &'a [(&'a str, &'a str)];

fn a_control_event_passes_the_filters_that_it_concerns() {
    for start in [Start::Live, Start::Snapshot] {
        let mut rig = Rig::enveloped(start, |_| {});
        let cases: [(Asked<'_>, usize, bool); 6] = [
            (&[("key", "nobody")], 2, true),
            (&[("value.x", "1")], 2, true),
            (&[("partition", "1")], 1, true),
            (&[("topic", "t"), ("partition", "0")], 1, true),
            (&[("topic", "u")], 0, false),
            (&[("topic", "u"), ("topic", "t")], 2, true),
        ];
        let mut clients: Vec<Client> = cases.iter().map(|(terms, ..)| rig.client(terms)).collect();
        for client in &mut clients {
            client.items();
            client.wait();
        }
        rig.expire(0, &[10, 7]);
        for (client, (terms, count, _)) in clients.iter_mut().zip(&cases) {
            assert_eq!(client.wakes(), 1, "a new assignment wakes every client");
            assert_eq!(gaps(&client.events()).len(), *count, "{terms:?}");
        }
        rig.recreate(0, 2);
        for (client, (terms, _, is_concerned)) in clients.iter_mut().zip(&cases) {
            let lines = client.lines();
            assert_eq!(
                lines,
                if *is_concerned { vec![RECREATED] } else { vec![] },
                "{terms:?}"
            );
        }
    }
}

/// The same for clients that resume or lag: the events do not depend on the path.
fn a_filtered_control_event_reaches_resuming_and_lagging_clients_alike() {
    run(async {
        let cases: [(Asked<'_>, usize, usize); 4] = [
            (&[("key", "nobody")], 2, 1),
            (&[("partition", "1")], 1, 1),
            (&[("topic", "t"), ("partition", "0")], 1, 1),
            (&[("topic", "u"), ("key", "nobody")], 0, 0),
        ];
        let mut rig = Rig::enveloped(Start::Earliest, |settings| settings.log_bytes = Size(512 * 1024));
        write(&mut rig, 0, 0, 5);
        write(&mut rig, 0, 1, 4);
        let mut first = rig.client(&[]);
        first.items();
        let id = first.last_event_id().to_owned();
        rig.expire(0, &[10, 7]);
        write(&mut rig, 1, 0, 1);
        rig.flood(1);
        let count = |events: &[Event], name: &str| events.iter().filter(|event| event.is(name)).count();
        for (terms, gaps, _) in &cases {
            let events = rig.resume(&id, terms).events_with_history().await;
            assert_eq!(count(&events, "gap"), *gaps, "{terms:?}");
        }
        // Connected clients stall until the log has evicted their events.
        let mut stalled: Vec<Client> = cases
            .iter()
            .map(|(terms, ..)| rig.client_at(Start::Live, terms))
            .collect();
        for client in &mut stalled {
            client.items();
        }
        rig.records(&[rec("nobody", "1")]);
        rig.records(&[rec("nobody", "1").partition(1)]);
        rig.records(&[rec("nobody", "1").topic(1)]);
        rig.recreate(0, 2);
        rig.flood(1);
        rig.records(&[rec("nobody", "2"), rec("nobody", "2").partition(1)]);
        rig.records(&[rec("nobody", "2").topic(1)]);
        for (client, (terms, _, resets)) in stalled.iter_mut().zip(&cases) {
            let events = client.events_with_history().await;
            assert_eq!(count(&events, "reset"), *resets, "{terms:?}");
        }
        for (terms, _, resets) in &cases {
            let events = rig.resume(&id, terms).events_with_history().await;
            assert_eq!(count(&events, "reset"), *resets, "{terms:?}");
        }
    });
}

/// A client that was connected while the first records of every partition came, and its events.
fn followed(start: Start, log_bytes: u64) -> (Rig, Client, Vec<Event>) {
    let mut rig = Rig::enveloped(start, |settings| settings.log_bytes = Size(log_bytes));
    let mut client = rig.client(&[]);
    let mut events = client.events();
    write(&mut rig, 0, 0, 5);
    events.extend(client.events());
    write(&mut rig, 0, 1, 4);
    write(&mut rig, 1, 0, 2);
    events.extend(client.events());
    (rig, client, events)
}

fn resuming_near_a_gap_neither_loses_nor_repeats_records() {
    run(async {
        for start in [Start::Earliest, Start::Snapshot] {
            for log_bytes in [64 * 1024 * 1024, 4 * 1024] {
                let (mut rig, mut client, mut events) = followed(start, log_bytes);
                rig.expire(0, &[20, 9]);
                events.extend(client.events());
                write(&mut rig, 0, 0, 3);
                write(&mut rig, 1, 0, 3);
                rig.expire(0, &[23, 30]);
                rig.expire(1, &[6]);
                write(&mut rig, 0, 1, 3);
                events.extend(client.events());
                assert_eq!(gaps(&events).len(), 4);
                if start == Start::Earliest {
                    let mut held = Held::default();
                    held.hear(&events);
                    held.is_whole(&rig.next, "connected");
                }
                resume_with_every_id(&rig, &events, 1).await;
            }
        }
    });
}

fn a_recreated_topic_resets_every_client() {
    for start in [Start::Live, Start::Earliest, Start::Snapshot] {
        for partitions in 1..=3 {
            let mut rig = Rig::enveloped(start, |_| {});
            let mut clients: Vec<Client> = (0..2).map(|_| rig.client(&[])).collect();
            for client in &mut clients {
                client.items();
            }
            write(&mut rig, 0, 0, 5);
            write(&mut rig, 0, 1, 5);
            write(&mut rig, 1, 0, 2);
            let mut held: Vec<Held> = vec![Held::default(); 2];
            held[0].hear(&clients[0].events());
            rig.recreate(0, partitions);
            write(&mut rig, 0, 0, 2);
            write(&mut rig, 1, 0, 1);
            for (client, held) in clients.iter_mut().zip(&mut held) {
                let events = client.events();
                let resets: Vec<&Event> = events.iter().filter(|event| event.is("reset")).collect();
                assert_eq!(resets.len(), 1);
                assert_eq!(line(resets[0]), RECREATED);
                let place = Position::parse(resets[0].id.as_bytes()).expect("a position");
                assert_eq!(place.topics[0].next, vec![0; partitions]);
                held.hear(&events);
                held.is_whole(&rig.next, "connected");
            }
            if start == Start::Snapshot {
                let mut fresh = Held::default();
                fresh.hear(&rig.client(&[]).events());
                assert_eq!(fresh.table.len(), 5, "two new rows of t, three of u");
                assert!(held.iter().all(|held| held.table == fresh.table));
            }
        }
    }
}

fn resuming_near_a_reset_neither_loses_nor_repeats_records() {
    run(async {
        for start in [Start::Earliest, Start::Snapshot] {
            for log_bytes in [64 * 1024 * 1024, 4 * 1024] {
                for partitions in 1..=3 {
                    let (mut rig, mut client, mut events) = followed(start, log_bytes);
                    // An earlier id may lie within the new topic, which is indistinguishable.
                    let first = events.len() - 2;
                    rig.recreate(0, partitions);
                    events.extend(client.events());
                    resume_with_every_id(&rig, &events, first).await;
                    write(&mut rig, 1, 0, 2);
                    write(&mut rig, 0, 0, 2);
                    events.extend(client.events());
                    write(&mut rig, 1, 0, 3);
                    events.extend(client.events());
                    resume_with_every_id(&rig, &events, first).await;
                }
            }
        }
    });
}

fn a_client_behind_the_log_gets_the_reset_of_a_recreated_topic() {
    run(async {
        for (start, lag) in [(Start::Snapshot, Lag::Latest), (Start::Earliest, Lag::Replay)] {
            for both in [false, true] {
                let mut rig = Rig::enveloped(start, |settings| {
                    settings.log_bytes = Size(512 * 1024);
                    settings.lag = Some(lag);
                });
                let mut client = rig.client(&[]);
                let mut events = client.events();
                write(&mut rig, 0, 0, 5);
                write(&mut rig, 0, 1, 4);
                write(&mut rig, 1, 0, 25);
                events.extend(client.events());
                let first = events.len();
                rig.recreate(0, 2);
                write(&mut rig, 0, 1, 1);
                if both {
                    rig.recreate(1, 1);
                }
                rig.flood(1);
                write(&mut rig, 0, 0, 2);
                events.extend(client.events_with_history().await);
                let resets: Vec<String> = events
                    .iter()
                    .filter(|event| event.is("reset"))
                    .map(line)
                    .collect();
                let other = r#"reset {"reason":"recreated","topic":"u"}"#;
                assert_eq!(
                    resets,
                    if both {
                        vec![RECREATED, other]
                    } else {
                        vec![RECREATED]
                    }
                );
                if lag == Lag::Latest {
                    let mut held = Held::default();
                    held.hear(&events);
                    let mut fresh = Held::default();
                    fresh.hear(&rig.client(&[]).events());
                    assert_eq!(held.table, fresh.table);
                } else {
                    let mut held = Held::default();
                    held.hear(&events);
                    held.is_whole(&rig.next, "connected");
                }
                resume_with_every_id(&rig, &events, first).await;
            }
        }
    });
}

fn a_replaying_client_gets_the_reset_of_a_recreated_topic() {
    run(async {
        let mut rig = Rig::enveloped(Start::Earliest, |settings| settings.log_bytes = Size(4 * 1024));
        write(&mut rig, 0, 0, 60);
        write(&mut rig, 0, 1, 60);
        write(&mut rig, 1, 0, 60);
        for turns in [0, 1, 3, 6] {
            let mut client = rig.client(&[]);
            let mut held = Held::default();
            for _ in 0..turns {
                held.hear(&client.events());
                tokio::task::yield_now().await;
            }
            rig.recreate(0, 2);
            write(&mut rig, 0, 0, 2);
            write(&mut rig, 1, 0, 1);
            held.hear(&client.events_with_history().await);
            held.is_whole(&rig.next, &format!("after {turns} turns"));
            write(&mut rig, 0, 0, 58);
            write(&mut rig, 0, 1, 60);
        }
    });
}

fn a_client_inside_the_snapshot_gets_the_reset_of_a_recreated_topic() {
    let mut rig = Rig::enveloped(Start::Snapshot, |_| {});
    let row = |number: usize| rec(&format!("r{number}"), format!("\"{}\"", "x".repeat(20_000)));
    for number in 0..12 {
        rig.records(&[row(number).topic(number % 2)]);
    }
    let mut client = rig.client(&[]);
    let mut held = Held::default();
    for _ in 0..2 {
        let events: Vec<Event> = client.step().0.into_iter().filter_map(event).collect();
        held.hear(&events);
    }
    assert!(
        !held.table.is_empty() && held.table.len() < 12,
        "inside the snapshot"
    );
    rig.recreate(0, 1);
    rig.records(&[row(0)]);
    held.hear(&client.events());
    let mut fresh = Held::default();
    fresh.hear(&rig.client(&[]).events());
    assert_eq!(held.table, fresh.table);
    assert_eq!(fresh.table.len(), 7);
}
