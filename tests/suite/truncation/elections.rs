//! Any sequence of writes and elections, with clients that connect and resume at any time.

use super::{Held, resume_with_every_id, resume_with_ids, write};
use crate::rig::{Rig, run};
use crate::trials;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::config::{Lag, Start};
use libtest_mimic::Trial;
use proptest::prelude::*;

/// Cases where `PROPTEST_CASES` is not set. A long run:
/// `PROPTEST_CASES=20000 cargo test --test suite -- after_any_elections`.
const CASES: u32 = 60;

pub fn trials() -> Vec<Trial> {
    trials![
        clients_end_with_kafkas_records_after_any_elections,
        rows_name_the_leader_epochs_of_their_records,
    ]
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Write(u32, usize),
    /// A new leader; no record is lost.
    Elect(u32),
    /// A new leader that has only this part of the log, in eighths.
    Unclean(u32, usize),
    /// A client connects.
    Come,
    /// Clients take the due events.
    Take,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..2_u32, 1..9_usize).prop_map(|(partition, count)| Action::Write(partition, count)),
        1 => (0..2_u32).prop_map(Action::Elect),
        2 => (0..2_u32, 0..8_usize).prop_map(|(partition, eighths)| Action::Unclean(partition, eighths)),
        1 => Just(Action::Come),
        2 => Just(Action::Take),
    ]
}

/// Connected and resuming clients, at the replica that saw it and at one that read it later.
fn clients_end_with_kafkas_records_after_any_elections() {
    let cases = (
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(action(), 1..14),
    );
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    proptest!(config, |((is_table, is_small, actions) in cases)| {
        play(is_table, is_small, &actions);
    });
}

/// The client falls off the log, has rows of the lost log, and returns with their ids when the new log is as long.
fn rows_name_the_leader_epochs_of_their_records() {
    run(async {
        let mut rig = Rig::enveloped(Start::Snapshot, |settings| {
            settings.log_bytes = Size(4096);
            settings.lag = Some(Lag::Latest);
        });
        let mut client = rig.client(&[]);
        let mut events = client.events_with_history().await;
        write(&mut rig, 1, 0, 1);
        write(&mut rig, 0, 0, 15);
        events.extend(client.events_with_history().await);
        assert!(events.iter().any(|event| event.is("conflated")), "{events:?}");
        rig.truncate(1, 0, None, Some(0));
        write(&mut rig, 1, 1, 1);
        for rig in [&rig, &rig.other(Start::Snapshot)] {
            resume_with_ids(rig, &events, 1..=events.len(), "rows").await;
        }
    });
}

fn play(is_table: bool, is_small: bool, actions: &[Action]) {
    run(async {
        let start = if is_table {
            Start::Snapshot
        } else {
            Start::Earliest
        };
        let mut rig = Rig::enveloped(start, |settings| {
            settings.log_bytes = Size(if is_small { 4096 } else { 1 << 26 });
            settings.lag = Some(if is_table { Lag::Latest } else { Lag::Replay });
        });
        let mut clients = vec![(rig.client(&[]), Vec::new())];
        let mut epochs = [0, 0];
        for &action in actions.iter().chain(&[Action::Write(0, 1), Action::Write(1, 1)]) {
            match action {
                Action::Write(partition, count) => {
                    write(&mut rig, partition, epochs[partition as usize], count);
                }
                Action::Elect(partition) => epochs[partition as usize] += 1,
                Action::Unclean(partition, eighths) => {
                    epochs[partition as usize] += 1;
                    let records = rig.broker.records()[0][partition as usize].clone();
                    let from = records.len() * eighths / 8;
                    let before = from.checked_sub(1).map(|last| &records[last]);
                    if let Some(last) = records.last() {
                        let at = i64::try_from(from).expect("few");
                        rig.truncate(partition, at, before.and_then(|record| record.epoch), last.epoch);
                    }
                }
                Action::Come => clients.push((rig.client(&[]), Vec::new())),
                Action::Take => {
                    for (client, events) in &mut clients {
                        events.extend(client.events_with_history().await);
                    }
                }
            }
        }
        let whole = Held::of(&rig);
        for (client, events) in &mut clients {
            events.extend(client.events_with_history().await);
            let mut held = Held {
                may_repeat: is_table,
                ..Held::default()
            };
            held.hear(events, "connected");
            if is_table {
                assert_eq!(held.rows, whole.rows, "{actions:?}: {events:?}");
            } else {
                assert_eq!(held.values, whole.values, "{actions:?}: {events:?}");
            }
        }
        let events = &clients[0].1;
        resume_with_every_id(&rig, events, "the same").await;
        resume_with_every_id(&rig.other(start), events, "another").await;
    });
}
