//! Truncated logs: after an unclean election Kafka has lost records that clients were shown, and has others at their
//! offsets. Clients are told which, and then hold in the end what Kafka holds, whatever id they come back with.

use crate::harness::sse::Event;
use crate::rig::{Client, Rig, rec, run, said};
use crate::trials;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::config::{Format, Lag, Start, StreamSettings};
use kafka_sse_bridge::stream::control::Reset;
use kafka_sse_bridge::stream::counters::To;
use kafka_sse_bridge::stream::position::{MAX_ID, Position, TopicPosition};
use libtest_mimic::Trial;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;

pub fn trials() -> Vec<Trial> {
    trials![
        a_truncated_log_is_a_gap_and_its_new_records_are_delivered_once,
        an_id_beyond_a_truncation_resumes_at_the_truncation_offset,
        an_id_beyond_several_truncations_resumes_at_the_lowest,
        another_replica_detects_a_truncated_id_by_its_leader_epoch,
        a_loading_replica_detects_a_truncated_id_once_it_has_read_past_it,
        a_table_is_reset_where_a_log_was_truncated,
        a_client_behind_the_log_gets_the_gap_of_a_truncation,
        a_replaying_client_gets_the_gap_of_a_truncation,
        truncation_gaps_pass_filters_by_partition,
        an_id_beyond_the_end_resumes_at_the_end_without_leader_epochs,
        a_truncation_before_all_topics_are_known_is_not_announced,
        leader_epochs_never_make_an_id_too_long,
        clients_end_with_kafkas_records_after_any_elections,
    ]
}

/// Topic `t` with two partitions and `u` with one, shown in envelopes.
fn rig(start: Start, change: impl FnOnce(&mut StreamSettings)) -> Rig {
    Rig::with(&[2, 1], true, |settings| {
        settings.format = Format::Envelope;
        settings.start = start;
        change(settings);
    })
}

/// Writes records of `t` under a leader epoch, each with a value of its own.
fn write(rig: &mut Rig, partition: u32, epoch: u32, count: usize) {
    for _ in 0..count {
        let offset = rig.next[0][partition as usize];
        let value = format!("\"{epoch}-{offset}\"");
        // A key of its own partition: which of two partitions has the latest is another matter.
        let key = format!("k{partition}-{}", offset % 3);
        rig.records(&[rec(&key, value).partition(partition).epoch(epoch)]);
    }
}

/// The records of `t` that a client holds, by partition and offset.
#[derive(Clone, Debug, Default)]
struct Held {
    values: BTreeMap<(u32, i64), String>,
    rows: BTreeMap<String, String>,
    notices: Vec<String>,
    /// Whether records may come a second time, as rows of a table do that have no id of their own.
    may_repeat: bool,
}

impl Held {
    fn hear(&mut self, events: &[Event], what: &str) {
        for event in events {
            let data = event.json();
            let number = |name: &str| data[name].as_i64().expect("a number");
            let partition = || u32::try_from(number("partition")).expect("a partition");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            match event.name.as_str() {
                "message" if data["topic"] == "t" => {
                    let (offset, value) = (number("offset"), text(&data["value"]));
                    self.rows.insert(text(&data["key"]), value.clone());
                    let before = self.values.insert((partition(), offset), value);
                    assert!(
                        before.is_none() || self.may_repeat,
                        "{what}: a second time: {data}"
                    );
                }
                "gap" => {
                    self.notices.push(said(event));
                    let (from, to) = (number("from"), number("to"));
                    assert!(from < to, "{what}: {data}");
                    let gone = partition();
                    self.values
                        .retain(|&(partition, offset), _| partition != gone || offset < from || offset >= to);
                }
                "reset" => {
                    self.notices.push(said(event));
                    self.values.clear();
                    self.rows.clear();
                }
                _ => {}
            }
        }
    }

    /// The records of `t` in Kafka.
    fn of(rig: &Rig) -> Self {
        let mut held = Self::default();
        let records = rig.past.records();
        for (partition, records) in (0..).zip(&records[0]) {
            for (offset, record) in (0..).zip(records) {
                let text = |bytes: &Option<Vec<u8>>| {
                    String::from_utf8(bytes.clone().unwrap_or_default()).expect("text")
                };
                let value = text(&record.value).trim_matches('"').to_owned();
                held.values.insert((partition, offset), value.clone());
                held.rows.insert(text(&record.key), value);
            }
        }
        held
    }
}

fn gap(partition: u32, from: i64, to: i64) -> String {
    format!(
        "gap {{\"from\":{from},\"partition\":{partition},\"reason\":\"truncated\",\"to\":{to},\"topic\":\"t\"}}"
    )
}

const TRUNCATED: &str = r#"reset {"reason":"truncated","topic":"t"}"#;

/// Comes back to `to` with the id of every event and checks what is held in the end.
async fn come_back_everywhere(to: &Rig, events: &[Event], what: &str) {
    let whole = Held::of(to);
    let is_table = to.stream.settings().has_table();
    for cut in 1..=events.len() {
        // Rows of a snapshot name no leader epochs; the event behind it does.
        if is_table && !events[..cut].iter().any(|event| event.is("caught-up")) {
            continue;
        }
        let what = format!(
            "{what}: back after {cut} of {}: {:?}",
            events.len(),
            events[cut - 1]
        );
        let mut held = Held {
            may_repeat: is_table,
            ..Held::default()
        };
        held.hear(&events[..cut], &what);
        let id = &events[cut - 1].id;
        let more = to.back(id, &[]).events_at_last().await;
        held.hear(&more, &what);
        if is_table {
            assert_eq!(held.rows, whole.rows, "{what}: {more:?}");
        } else {
            assert_eq!(held.values, whole.values, "{what}: {more:?}");
        }
    }
}

fn a_truncated_log_is_a_gap_and_its_new_records_are_delivered_once() {
    run(async {
        for log_bytes in [64 * 1024 * 1024, 4 * 1024] {
            let mut rig = rig(Start::Earliest, |settings| settings.log_bytes = Size(log_bytes));
            let mut client = rig.client(&[]);
            let mut events = client.events();
            write(&mut rig, 0, 0, 6);
            write(&mut rig, 1, 3, 4);
            events.extend(client.events());
            rig.truncate(0, 4, Some(0), Some(0));
            events.extend(client.events());
            write(&mut rig, 1, 3, 1);
            write(&mut rig, 0, 1, 5);
            events.extend(client.events());
            let mut held = Held::default();
            held.hear(&events, "connected");
            assert_eq!(held.notices, [gap(0, 4, 6)]);
            assert_eq!(held.values, Held::of(&rig).values);
            assert_eq!(rig.stream.counters().gaps(To::All), 1);
            assert!(events.iter().all(|event| event.own_id));
            come_back_everywhere(&rig, &events, "connected").await;
            // The gap is sent once.
            assert_eq!(
                rig.back(client.last_event_id(), &[]).told_at_last().await.len(),
                1
            );
        }
    });
}

fn an_id_beyond_a_truncation_resumes_at_the_truncation_offset() {
    run(async {
        for (log_bytes, written) in [
            (64 * 1024 * 1024, 0),
            (64 * 1024 * 1024, 1),
            (4096, 9),
            (4096, 40),
        ] {
            let mut rig = rig(Start::Earliest, |settings| settings.log_bytes = Size(log_bytes));
            let mut client = rig.client(&[]);
            client.items();
            write(&mut rig, 0, 0, 8);
            let events = client.events();
            drop(client);
            rig.truncate(0, 5, Some(0), Some(0));
            write(&mut rig, 0, 1, written);
            come_back_everywhere(&rig, &events, "left before").await;
            let id = &events.last().expect("an event").id;
            let told = rig.back(id, &[]).told_at_last().await;
            assert_eq!(told[0], gap(0, 5, 8), "{log_bytes} {written}: {told:?}");
            assert_eq!(told.len(), written + 2);
            assert!(rig.stream.counters().gaps(To::One) > 0);
        }
    });
}

fn an_id_beyond_several_truncations_resumes_at_the_lowest() {
    run(async {
        for log_bytes in [64 * 1024 * 1024, 4 * 1024] {
            let mut rig = rig(Start::Earliest, |settings| settings.log_bytes = Size(log_bytes));
            let mut client = rig.client(&[]);
            let mut events = client.events();
            write(&mut rig, 0, 2, 9);
            events.extend(client.events());
            rig.truncate(0, 6, Some(2), Some(2));
            write(&mut rig, 0, 3, 6);
            write(&mut rig, 1, 0, 2);
            events.extend(client.events());
            rig.truncate(0, 8, Some(3), Some(3));
            rig.truncate(1, 0, None, Some(0));
            write(&mut rig, 0, 5, 1);
            events.extend(client.events());
            rig.truncate(0, 4, Some(2), Some(5));
            events.extend(client.events());
            write(&mut rig, 0, 6, 9);
            write(&mut rig, 1, 1, 3);
            events.extend(client.events());
            let mut held = Held::default();
            held.hear(&events, "connected");
            assert_eq!(
                held.notices,
                [gap(0, 6, 9), gap(0, 8, 12), gap(1, 0, 2), gap(0, 4, 9)]
            );
            assert_eq!(held.values, Held::of(&rig).values);
            come_back_everywhere(&rig, &events, "several").await;
        }
    });
}

/// A replica that reads the same topics and began after everything had happened: from the first record, or from the end.
fn another_replica_detects_a_truncated_id_by_its_leader_epoch() {
    run(async {
        let mut rig = rig(Start::Earliest, |_| {});
        let mut client = rig.client(&[]);
        let mut events = client.events();
        write(&mut rig, 0, 2, 5);
        write(&mut rig, 0, 4, 4);
        write(&mut rig, 1, 0, 3);
        events.extend(client.events());
        // A change of leaders by which nothing is lost.
        write(&mut rig, 1, 1, 3);
        events.extend(client.events());
        rig.truncate(0, 7, Some(4), Some(4));
        events.extend(client.events());
        write(&mut rig, 0, 5, 6);
        events.extend(client.events());
        let whole = rig.other(Start::Earliest);
        come_back_everywhere(&whole, &events, "another replica").await;
        let told = whole.back(&events[11].id, &[]).told_at_last().await;
        assert!(told.len() > 4, "{told:?}");
        // Leader changes without loss cause no event.
        let last = whole.back(client.last_event_id(), &[]).told_at_last().await;
        assert_eq!(last, [r#"caught-up {"reason":"replay"}"#]);
    });
}

/// Leader epochs are compared when they can be known, whether the id is of the log before or of the log since.
fn a_loading_replica_detects_a_truncated_id_once_it_has_read_past_it() {
    run(async {
        let mut rig = rig(Start::Earliest, |_| {});
        let mut client = rig.client(&[]);
        let mut events = client.events();
        write(&mut rig, 1, 2, 1);
        write(&mut rig, 0, 2, 7);
        events.extend(client.events());
        rig.truncate(0, 4, Some(2), Some(2));
        write(&mut rig, 0, 3, 9);
        let since = client.events();
        let last = client.last_event_id().to_owned();
        let mut late = rig.unread(Start::Earliest);
        let mut before = late.back(&events[events.len() - 1].id, &[]);
        let mut same = late.back(&since[6].id, &[]);
        let mut at_end = late.back(&last, &[]);
        for read in [0..2, 2..6] {
            late.hand_on(0, read);
            for client in [&mut before, &mut same, &mut at_end] {
                assert_eq!(client.told_at_last().await, [""; 0], "nobody can tell yet");
            }
        }
        late.hand_on(0, 6..12);
        assert_eq!(
            before.told_at_last().await,
            [""; 0],
            "the other partition is still to be read"
        );
        late.hand_on(1, 0..1);
        let told = before.told_at_last().await;
        assert_eq!(told[0], gap(0, 4, 7), "{told:?}");
        assert!(
            !same
                .told_at_last()
                .await
                .iter()
                .any(|said| said.starts_with("gap"))
        );
        assert_eq!(at_end.told_at_last().await, [""; 0]);
        late.hand_on(0, 12..13);
        late.loaded();
        let mut held = Held::default();
        held.hear(&events, "before");
        held.hear(
            &late
                .back(&events[events.len() - 1].id, &[])
                .events_at_last()
                .await,
            "loaded",
        );
        assert_eq!(held.values, Held::of(&rig).values);
        assert_eq!(at_end.told_at_last().await, [r#"caught-up {"reason":"replay"}"#]);
        // One that never gets as far keeps a client waiting only until it is loaded, as far as it can be.
        let mut late = rig.unread(Start::Earliest);
        let mut client = late.back(&last, &[]);
        assert_eq!(client.told_at_last().await, [""; 0]);
        late.loaded();
        assert!(!client.told_at_last().await.is_empty());
    });
}

fn a_table_is_reset_where_a_log_was_truncated() {
    run(async {
        for log_bytes in [64 * 1024 * 1024, 4 * 1024] {
            let mut rig = rig(Start::Snapshot, |settings| settings.log_bytes = Size(log_bytes));
            let mut client = rig.client(&[]);
            let mut events = client.events();
            write(&mut rig, 0, 1, 7);
            events.extend(client.events());
            rig.truncate(0, 4, Some(1), Some(1));
            events.extend(client.events());
            let mut held = Held::default();
            held.hear(&events, "connected");
            assert_eq!(held.notices, [TRUNCATED]);
            assert_eq!(
                held.rows,
                Held::of(&rig).rows,
                "rows that were replaced are shown again"
            );
            let counters = rig.stream.counters();
            let resets = |to| {
                counters
                    .resets(to)
                    .into_iter()
                    .find(|(reason, _)| *reason == Reset::Truncated)
            };
            assert_eq!(resets(To::All), Some((Reset::Truncated, 1)));
            assert_eq!(counters.gaps(To::All), 0);
            come_back_everywhere(&rig, &events, "table").await;
            write(&mut rig, 0, 2, 2);
            write(&mut rig, 1, 0, 1);
            events.extend(client.events());
            come_back_everywhere(&rig, &events, "table, later").await;
            // A client that left before it gets the gap from any replica.
            let before = &events[6].id;
            for rig in [&rig, &rig.other(Start::Snapshot)] {
                let told = rig.back(before, &[]).told_at_last().await;
                assert_eq!(told[0], TRUNCATED, "{told:?}");
            }
            let last = rig.back(client.last_event_id(), &[]).told_at_last().await;
            assert_eq!(last, [r#"caught-up {"reason":"replay"}"#]);
        }
    });
}

/// Frames that fill a small log.
fn flood(rig: &mut Rig) {
    for number in 0..20 {
        let value = format!("\"{number}{}\"", "x".repeat(100_000));
        rig.records(&[rec("flood", value).topic(1)]);
    }
}

fn a_client_behind_the_log_gets_the_gap_of_a_truncation() {
    run(async {
        for (start, lag) in [(Start::Live, Lag::Replay), (Start::Snapshot, Lag::Latest)] {
            let mut rig = rig(start, |settings| {
                settings.log_bytes = Size(512 * 1024);
                settings.lag = Some(lag);
            });
            let mut client = rig.client(&[]);
            client.items();
            write(&mut rig, 0, 1, 8);
            let mut held = Held::default();
            held.hear(&client.events(), "connected");
            rig.truncate(0, 5, Some(1), Some(1));
            write(&mut rig, 0, 2, 4);
            flood(&mut rig);
            held.hear(&client.events_at_last().await, "fell off");
            if start == Start::Live {
                assert_eq!(held.notices, [gap(0, 5, 8)]);
                assert_eq!(held.values, Held::of(&rig).values);
            } else {
                assert_eq!(held.notices, [TRUNCATED]);
                assert_eq!(held.rows, Held::of(&rig).rows);
            }
        }
    });
}

/// A replay may contain records from before and after the truncation.
fn a_replaying_client_gets_the_gap_of_a_truncation() {
    run(async {
        let mut rig = rig(Start::Live, |settings| settings.log_bytes = Size(4096));
        write(&mut rig, 0, 1, 40);
        let mut clients: Vec<Client> = (0..4).map(|_| rig.client_at(Start::Earliest, &[])).collect();
        let mut held = vec![Held::default(); 4];
        for (turns, (client, held)) in clients.iter_mut().zip(&mut held).enumerate() {
            for _ in 0..turns * 3 {
                held.hear(&client.events(), "before");
                tokio::task::yield_now().await;
            }
        }
        rig.truncate(0, 10, Some(1), Some(1));
        write(&mut rig, 0, 2, 50);
        for (client, held) in clients.iter_mut().zip(&mut held) {
            held.hear(&client.events_at_last().await, "a replay");
            assert_eq!(held.values, Held::of(&rig).values);
        }
    });
}

fn truncation_gaps_pass_filters_by_partition() {
    run(async {
        let mut rig = rig(Start::Live, |_| {});
        let mut clients = [
            (rig.client(&[("partition", "1")]), 0),
            (rig.client(&[("partition", "0"), ("key", "nobody")]), 1),
            (rig.client(&[("topic", "u")]), 0),
        ];
        for (client, _) in &mut clients {
            client.items();
        }
        write(&mut rig, 0, 1, 8);
        let id = String::from_utf8(rig.position()).expect("an id");
        rig.truncate(0, 5, Some(1), Some(1));
        write(&mut rig, 0, 2, 8);
        let asked: [&[(&str, &str)]; 3] = [
            &[("partition", "1")],
            &[("partition", "0"), ("key", "nobody")],
            &[("topic", "u")],
        ];
        for ((client, count), asked) in clients.iter_mut().zip(asked) {
            let gaps = |events: &[Event]| events.iter().filter(|event| event.is("gap")).count();
            assert_eq!(gaps(&client.events_at_last().await), *count);
            assert_eq!(gaps(&rig.back(&id, asked).events_at_last().await), *count);
        }
    });
}

/// As with the `kafka` crate: only that the log ends before what was read is known.
fn an_id_beyond_the_end_resumes_at_the_end_without_leader_epochs() {
    run(async {
        let mut rig = rig(Start::Earliest, |_| {});
        let mut client = rig.client(&[]);
        client.items();
        let plain = |rig: &mut Rig, tag: &str, count: usize| {
            for _ in 0..count {
                let value = format!("\"{tag}-{}\"", rig.next[0][0]);
                rig.records(&[rec("k", value)]);
            }
        };
        plain(&mut rig, "old", 8);
        let mut events = client.events();
        let before = events.clone();
        rig.truncate(0, 5, None, None);
        events.extend(client.events());
        plain(&mut rig, "new", 1);
        events.extend(client.events());
        let mut held = Held::default();
        held.hear(&events, "connected");
        assert_eq!(held.notices, [gap(0, 5, 8)]);
        assert_eq!(held.values, Held::of(&rig).values);
        // An id beyond the end resumes at the end; one within the longer log is indistinguishable from a new one.
        let told = rig.back(&before[7].id, &[]).told_at_last().await;
        assert_eq!(told[0], gap(0, 5, 8));
        let last = client.last_event_id().to_owned();
        plain(&mut rig, "new", 4);
        assert_eq!(rig.back(&last, &[]).told_at_last().await.len(), 5, "no false gap");
    });
}

fn a_truncation_before_all_topics_are_known_is_not_announced() {
    let mut rig = Rig::unassigned(|settings| settings.start = Start::Earliest);
    rig.assign(0, &[0]);
    write(&mut rig, 0, 1, 4);
    let mut client = rig.client(&[]);
    assert!(client.events().is_empty());
    rig.truncate(0, 2, Some(1), Some(1));
    rig.assign(1, &[0]);
    assert_eq!(rig.stream.counters().gaps(To::All), 0);
    write(&mut rig, 0, 2, 3);
    run(async {
        let told = client.told_at_last().await;
        assert!(told.iter().all(|said| said.starts_with("message")), "{told:?}");
        assert_eq!(told.len(), 5, "{told:?}");
    });
}

fn leader_epochs_never_make_an_id_too_long() {
    let at_most = (1..1200)
        .rev()
        .find(|&count| {
            let topic = TopicPosition {
                next: vec![0; count],
                ..TopicPosition::unread("t")
            };
            let position = Position {
                as_of: None,
                topics: vec![topic],
            };
            position.id_len_ahead() <= MAX_ID
        })
        .expect("some");
    for (count, is_marked) in [(at_most, false), (at_most / 2, true)] {
        let mut rig = Rig::ready(|_| {});
        rig.assign(0, &vec![0; count]);
        rig.grow_to(count);
        for partition in 0..count {
            let partition = u32::try_from(partition).expect("few");
            rig.records(&[rec("k", "v").partition(partition).epoch(16_000)]);
        }
        assert_eq!(rig.stream.failure(), None);
        let id = rig.position();
        assert!(id.len() <= MAX_ID);
        let position = Position::parse(&id).expect("an id");
        let has_marks = position.topics[0].epoch(count - 1) == Some(16_000);
        assert_eq!(has_marks, is_marked, "{count}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Write(u32, usize),
    /// Another leader, by which nothing is lost.
    Elect(u32),
    /// Another leader, which has only this part of the log, in eighths.
    Unclean(u32, usize),
    /// A client comes.
    Come,
    /// Clients take what there is.
    Take,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..2_u32, 1..9_usize).prop_map(|(partition, count)| Deed::Write(partition, count)),
        1 => (0..2_u32).prop_map(Deed::Elect),
        2 => (0..2_u32, 0..8_usize).prop_map(|(partition, eighths)| Deed::Unclean(partition, eighths)),
        1 => Just(Deed::Come),
        2 => Just(Deed::Take),
    ]
}

/// Connected and resuming clients, at the replica that saw it and at one that read it later.
fn clients_end_with_kafkas_records_after_any_elections() {
    let cases = (any::<bool>(), any::<bool>(), prop::collection::vec(deed(), 1..14));
    proptest!(ProptestConfig::with_cases(60), |((is_table, is_small, deeds) in cases)| {
        run(async {
            let start = if is_table { Start::Snapshot } else { Start::Earliest };
            let mut rig = rig(start, |settings| {
                settings.log_bytes = Size(if is_small { 4096 } else { 1 << 26 });
                settings.lag = Some(if is_table { Lag::Latest } else { Lag::Replay });
            });
            let mut clients = vec![(rig.client(&[]), Vec::new())];
            let mut epochs = [0, 0];
            for &deed in deeds.iter().chain(&[Deed::Write(0, 1), Deed::Write(1, 1)]) {
                match deed {
                    Deed::Write(partition, count) => {
                        write(&mut rig, partition, epochs[partition as usize], count);
                    }
                    Deed::Elect(partition) => epochs[partition as usize] += 1,
                    Deed::Unclean(partition, eighths) => {
                        epochs[partition as usize] += 1;
                        let records = rig.past.records()[0][partition as usize].clone();
                        let from = records.len() * eighths / 8;
                        let before = from.checked_sub(1).map(|last| &records[last]);
                        if let Some(last) = records.last() {
                            let at = i64::try_from(from).expect("few");
                            rig.truncate(partition, at, before.and_then(|record| record.epoch), last.epoch);
                        }
                    }
                    Deed::Come => clients.push((rig.client(&[]), Vec::new())),
                    Deed::Take => {
                        for (client, events) in &mut clients {
                            events.extend(client.events_at_last().await);
                        }
                    }
                }
            }
            let whole = Held::of(&rig);
            for (client, events) in &mut clients {
                events.extend(client.events_at_last().await);
                let mut held = Held {
                    may_repeat: is_table,
                    ..Held::default()
                };
                held.hear(events, "connected");
                if is_table {
                    assert_eq!(held.rows, whole.rows, "{deeds:?}: {events:?}");
                } else {
                    assert_eq!(held.values, whole.values, "{deeds:?}: {events:?}");
                }
            }
            let events = &clients[0].1;
            come_back_everywhere(&rig, events, "the same").await;
            come_back_everywhere(&rig.other(start), events, "another").await;
        });
    });
}
