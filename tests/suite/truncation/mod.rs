//! Truncated logs: after an unclean election Kafka has lost records that clients have, and has others at their offsets.
//! A gap names the lost ones, and in the end every client holds what Kafka holds, whatever id it resumes with.

mod elections;
mod leader_epochs;
mod replicas;

use crate::harness::sse::Event;
use crate::rig::{Client, Rig, line, rec, run};
use crate::trials;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::config::{Lag, Start};
use kafka_sse_bridge::stream::control::Reset;
use kafka_sse_bridge::stream::counters::To;
use libtest_mimic::Trial;
use serde_json::Value;
use std::collections::BTreeMap;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        a_truncated_log_is_a_gap_and_its_new_records_are_delivered_once,
        an_id_beyond_a_truncation_resumes_at_the_truncation_offset,
        an_id_beyond_several_truncations_resumes_at_the_lowest,
        a_table_is_reset_where_a_log_was_truncated,
        a_client_behind_the_log_gets_the_gap_of_a_truncation,
        a_replaying_client_gets_the_gap_of_a_truncation,
        truncation_gaps_pass_filters_by_partition,
        a_truncation_before_all_topics_are_known_is_not_announced,
    ];
    trials.extend(replicas::trials());
    trials.extend(elections::trials());
    trials.extend(leader_epochs::trials());
    trials
}

/// Writes records of `t` under a leader epoch, each with a value of its own.
fn write(rig: &mut Rig, partition: u32, epoch: u32, count: usize) {
    for _ in 0..count {
        let offset = rig.next[0][partition as usize];
        let value = format!("\"{epoch}-{offset}\"");
        // The partition is part of the key, so that no key is in both.
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
                    self.notices.push(line(event));
                    let (from, to) = (number("from"), number("to"));
                    assert!(from < to, "{what}: {data}");
                    let gone = partition();
                    self.values
                        .retain(|&(partition, offset), _| partition != gone || offset < from || offset >= to);
                }
                "reset" => {
                    self.notices.push(line(event));
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
        let records = rig.broker.records();
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

/// Whether the last of these events may be a row with more to come, or one behind which no id came yet. A record that was
/// lost since may have replaced a row from before it, which the client does not get then (docs/wire.md).
fn is_amid_rows(events: &[Event]) -> bool {
    // Rows with an id since rows were announced, of which there are too few for a second one: that is a record of the log.
    let mut with_id = Some(0);
    let mut before = "";
    for event in events {
        with_id = match event.name.as_str() {
            "caught-up" => None,
            // What a connected client gets behind it comes from the log, with ids; but rows come where it directly
            // follows what announces rows.
            "reset" if event.json()["reason"] == "truncated" => {
                with_id.filter(|_| matches!(before, "conflated" | "reset"))
            }
            "reset" | "conflated" => Some(0),
            _ if event.own_id => with_id.filter(|&rows| rows == 0).map(|rows| rows + 1),
            _ => with_id,
        };
        before = &event.name;
    }
    with_id.is_some()
}

/// Resumes at `to` with the id of every event, and checks what the client holds in the end.
async fn resume_with_every_id(to: &Rig, events: &[Event], what: &str) {
    let is_table = to.stream.settings().has_table();
    let cuts = 1..=events.len();
    let cuts = cuts.filter(|&cut| !is_table || !is_amid_rows(&events[..cut]));
    resume_with_ids(to, events, cuts, what).await;
}

/// The same with the ids of the last of so many events.
async fn resume_with_ids(to: &Rig, events: &[Event], cuts: impl Iterator<Item = usize>, what: &str) {
    let whole = Held::of(to);
    let is_table = to.stream.settings().has_table();
    for cut in cuts {
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
        let more = to.resume(id, &[]).events_with_history().await;
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
            let mut rig = Rig::enveloped(Start::Earliest, |settings| settings.log_bytes = Size(log_bytes));
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
            resume_with_every_id(&rig, &events, "connected").await;
            // The gap is sent once.
            assert_eq!(
                rig.resume(client.last_event_id(), &[])
                    .lines_with_history()
                    .await
                    .len(),
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
            let mut rig = Rig::enveloped(Start::Earliest, |settings| settings.log_bytes = Size(log_bytes));
            let mut client = rig.client(&[]);
            client.items();
            write(&mut rig, 0, 0, 8);
            let events = client.events();
            drop(client);
            rig.truncate(0, 5, Some(0), Some(0));
            write(&mut rig, 0, 1, written);
            resume_with_every_id(&rig, &events, "left before").await;
            let id = &events.last().expect("an event").id;
            let lines = rig.resume(id, &[]).lines_with_history().await;
            assert_eq!(lines[0], gap(0, 5, 8), "{log_bytes} {written}: {lines:?}");
            assert_eq!(lines.len(), written + 2);
            assert!(rig.stream.counters().gaps(To::One) > 0);
        }
    });
}

fn an_id_beyond_several_truncations_resumes_at_the_lowest() {
    run(async {
        for log_bytes in [64 * 1024 * 1024, 4 * 1024] {
            let mut rig = Rig::enveloped(Start::Earliest, |settings| settings.log_bytes = Size(log_bytes));
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
            resume_with_every_id(&rig, &events, "several").await;
        }
    });
}

fn a_table_is_reset_where_a_log_was_truncated() {
    run(async {
        for log_bytes in [64 * 1024 * 1024, 4 * 1024] {
            let mut rig = Rig::enveloped(Start::Snapshot, |settings| settings.log_bytes = Size(log_bytes));
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
            resume_with_every_id(&rig, &events, "table").await;
            write(&mut rig, 0, 2, 2);
            write(&mut rig, 1, 0, 1);
            events.extend(client.events());
            resume_with_every_id(&rig, &events, "table, later").await;
            // A client that left before it gets the gap from any replica.
            let before = &events[6].id;
            for rig in [&rig, &rig.other(Start::Snapshot)] {
                let lines = rig.resume(before, &[]).lines_with_history().await;
                assert_eq!(lines[0], TRUNCATED, "{lines:?}");
            }
            let last = rig.resume(client.last_event_id(), &[]).lines_with_history().await;
            assert_eq!(last, [r#"caught-up {"reason":"replay"}"#]);
        }
    });
}

fn a_client_behind_the_log_gets_the_gap_of_a_truncation() {
    run(async {
        for (start, lag) in [(Start::Live, Lag::Replay), (Start::Snapshot, Lag::Latest)] {
            let mut rig = Rig::enveloped(start, |settings| {
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
            rig.flood(1);
            held.hear(&client.events_with_history().await, "fell off");
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
        let mut rig = Rig::enveloped(Start::Live, |settings| settings.log_bytes = Size(4096));
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
            held.hear(&client.events_with_history().await, "a replay");
            assert_eq!(held.values, Held::of(&rig).values);
        }
    });
}

fn truncation_gaps_pass_filters_by_partition() {
    run(async {
        let mut rig = Rig::enveloped(Start::Live, |_| {});
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
            assert_eq!(gaps(&client.events_with_history().await), *count);
            assert_eq!(gaps(&rig.resume(&id, asked).events_with_history().await), *count);
        }
    });
}

fn a_truncation_before_all_topics_are_known_is_not_announced() {
    let mut rig = Rig::unassigned(&[1, 1], true, |settings| settings.start = Start::Earliest);
    rig.assign(0, &[0]);
    write(&mut rig, 0, 1, 4);
    let mut client = rig.client(&[]);
    assert!(client.events().is_empty());
    rig.truncate(0, 2, Some(1), Some(1));
    rig.assign(1, &[0]);
    assert_eq!(rig.stream.counters().gaps(To::All), 0);
    write(&mut rig, 0, 2, 3);
    run(async {
        let lines = client.lines_with_history().await;
        assert!(lines.iter().all(|line| line.starts_with("message")), "{lines:?}");
        assert_eq!(lines.len(), 5, "{lines:?}");
    });
}
