//! Streams with late metadata, and with partitions whose leaders are elected late.

use crate::harness::sse::Event;
use crate::rig::{Rig, rec, run};
use crate::trials;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::config::{Lag, Start};
use kafka_sse_bridge::kafka::record::{BEGINNING, TopicId};
use kafka_sse_bridge::stream::position::{
    NOT_BEGUN, Position, PositionError, TopicPosition, fingerprint, id_fingerprint,
};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        partitions_known_only_from_an_id_are_kept_until_the_daemon_knows_them,
        a_table_client_waits_for_partitions_known_only_from_its_id,
        a_partition_with_a_late_leader_is_live_from_its_end_and_replayed_whole,
        an_id_from_before_a_late_leader_neither_repeats_nor_loses_records,
        a_table_loads_the_past_of_a_partition_with_a_late_leader,
        a_partition_without_a_leader_does_not_exempt_clients_of_a_table_from_the_lag_policy,
        ids_carry_partitions_without_records,
    ]
}

/// The id that names these next offsets of the topic `t` with id 1.
fn id(next: &[i64]) -> String {
    let topic = TopicPosition {
        id: id_fingerprint(TopicId::new(1)),
        next: next.to_vec(),
        ..TopicPosition::unread("t")
    };
    let position = Position {
        as_of: None,
        topics: vec![topic],
    };
    String::from_utf8(position.id()).expect("ASCII")
}

fn next(id: &str) -> Vec<i64> {
    Position::parse(id.as_bytes()).expect("an id").topics[0]
        .next
        .clone()
}

fn values(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.data.as_str()).collect()
}

fn partitions_known_only_from_an_id_are_kept_until_the_daemon_knows_them() {
    run(async {
        let mut rig = Rig::with(&[1], true, |_| {});
        rig.id = TopicId::new(1);
        rig.assign(0, &[0]);
        rig.records(&[rec("k", "0-0"), rec("k", "0-1"), rec("k", "0-2")]);
        let mut client = rig.resume(&id(&[2, 5]), &[]);
        let lines = client.events_with_history().await;
        assert_eq!(values(&lines), ["0-2", "{\"reason\":\"replay\"}"], "no reset");
        assert_eq!(
            next(client.last_event_id()),
            [3, 5],
            "what it has seen stays in its id"
        );
        rig.records(&[rec("k", "0-3")]);
        assert_eq!(client.lines_with_history().await, ["message 0-3"]);
        let cut_off = client.last_event_id().to_owned();
        assert_eq!(next(&cut_off), [4, 5]);
        // The daemon learns of the partition, and reads it from its beginning.
        rig.grow(0, 2);
        rig.assign(0, &[4, 0]);
        let write = |rig: &mut Rig, range: std::ops::Range<usize>| {
            let written: Vec<_> = range
                .map(|number| rec("k", format!("1-{number}")).partition(1))
                .collect();
            rig.records(&written);
        };
        write(&mut rig, 0..4);
        assert_eq!(client.lines_with_history().await, [""; 0]);
        write(&mut rig, 4..7);
        let wanted = ["message 1-5", "message 1-6"];
        assert_eq!(client.lines_with_history().await, wanted);
        assert_eq!(next(client.last_event_id()), [4, 7]);
        // So does a client that resumes only now.
        let mut back = rig.resume(&cut_off, &[]);
        assert_eq!(back.lines_with_history().await[..2], wanted);
    });
}

fn a_table_client_waits_for_partitions_known_only_from_its_id() {
    run(async {
        let mut rig = Rig::with(&[1], true, |settings| settings.start = Start::Snapshot);
        rig.id = TopicId::new(1);
        rig.assign(0, &[0]);
        rig.records(&[rec("a", "0-0")]);
        let mut position = Position::parse(id(&[1, 2]).as_bytes()).expect("an id");
        position.as_of = Some(u64::MAX / 2);
        let id = String::from_utf8(position.id()).expect("ASCII");
        let mut client = rig.resume(&id, &[]);
        assert_eq!(
            client.lines_with_history().await,
            [""; 0],
            "its table cannot be right yet"
        );
        rig.grow(0, 2);
        rig.assign(0, &[1, 0]);
        rig.records(&[
            rec("b", "1-0").partition(1),
            rec("c", "1-1").partition(1),
            rec("b", "1-2").partition(1),
        ]);
        let lines = client.lines_with_history().await;
        assert!(lines.iter().all(|event| !event.starts_with("reset")), "{lines:?}");
        assert!(lines.contains(&"message 1-2".to_owned()), "{lines:?}");
    });
}

/// Partition 1 holds ten records and has no leader.
fn without_leader(change: impl FnOnce(&mut kafka_sse_bridge::config::StreamSettings)) -> Rig {
    Rig::starting_at(&[vec![0, BEGINNING]], &[vec![0, 10]], true, change)
}

fn more(rig: &mut Rig, from: usize, count: usize) {
    let written: Vec<_> = (from..from + count)
        .map(|number| rec("k", format!("new-{number}")).partition(1))
        .collect();
    rig.records(&written);
}

fn a_partition_with_a_late_leader_is_live_from_its_end_and_replayed_whole() {
    run(async {
        // Read from its end for this stream alone, or from its beginning for others too.
        for reads_past in [false, true] {
            let mut rig = without_leader(|_| {});
            let mut live = rig.client_at(Start::Live, &[]);
            let mut filtered = rig.client_at(Start::Live, &[("partition", "1")]);
            let mut all = rig.client_at(Start::Earliest, &[]);
            let mut all_filtered = rig.client_at(Start::Earliest, &[("partition", "1")]);
            for client in [&mut live, &mut filtered, &mut all, &mut all_filtered] {
                assert!(client.lines_with_history().await[0].starts_with("caught-up"));
            }
            rig.records(&[rec("k", "before")]);
            for client in [&mut live, &mut all] {
                assert_eq!(client.lines_with_history().await, ["message before"]);
            }
            rig.elect(1, 10, if reads_past { 0 } else { 10 });
            if reads_past {
                rig.deliver(1, 0..10);
            }
            assert_eq!(rig.next[0], [1, 10]);
            more(&mut rig, 10, 2);
            let new = ["message new-10", "message new-11"];
            for client in [&mut live, &mut filtered] {
                assert_eq!(client.lines_with_history().await, new, "{reads_past}");
            }
            let mut whole: Vec<String> = (0..10).map(|number| format!("message past-{number}")).collect();
            whole.extend(new.map(str::to_owned));
            for client in [&mut all, &mut all_filtered] {
                assert_eq!(client.lines_with_history().await, whole, "{reads_past}");
                assert_eq!(next(client.last_event_id())[1], 12);
            }
        }
    });
}

fn an_id_from_before_a_late_leader_neither_repeats_nor_loses_records() {
    run(async {
        let mut rig = without_leader(|_| {});
        let mut live = rig.client_at(Start::Live, &[]);
        let mut all = rig.client_at(Start::Earliest, &[]);
        rig.records(&[rec("k", "before")]);
        live.lines_with_history().await;
        all.lines_with_history().await;
        let (live, all) = (live.last_event_id().to_owned(), all.last_event_id().to_owned());
        assert_eq!(next(&live), [1, NOT_BEGUN]);
        assert_eq!(next(&all), [1, 0]);
        // It may resume while the partition still has no leader, and gets nothing twice.
        let mut back = rig.resume(&live, &[]);
        assert_eq!(
            back.lines_with_history().await,
            ["caught-up {\"reason\":\"replay\"}"]
        );
        rig.elect(1, 10, 10);
        more(&mut rig, 10, 2);
        let new = ["message new-10", "message new-11"];
        assert_eq!(back.lines_with_history().await, new);
        let mut back = rig.resume(&live, &[]);
        assert_eq!(back.lines_with_history().await[..2], new);
        let mut back = rig.resume(&all, &[]);
        assert_eq!(
            back.lines_with_history().await.len(),
            13,
            "all of it, and caught-up"
        );
        // A daemon that found the leader at its start sends at most the preloaded records.
        let mut other = Rig::starting_at(&[vec![1, 0]], &[vec![1, 40]], true, |settings| {
            settings.preload = 3;
        });
        other.deliver(1, 0..40);
        other
            .writer
            .take(&kafka_sse_bridge::kafka::record::Feed::Loaded { topic: "t".into() });
        let mut back = other.resume(&live, &[]);
        let lines = back.lines_with_history().await;
        assert_eq!(
            lines[..3],
            ["message past-37", "message past-38", "message past-39"]
        );
        assert_eq!(lines.len(), 4);
    });
}

fn a_table_loads_the_past_of_a_partition_with_a_late_leader() {
    run(async {
        let mut rig = without_leader(|settings| settings.start = Start::Snapshot);
        let mut client = rig.client(&[]);
        rig.records(&[rec("a", "before")]);
        assert_eq!(client.lines_with_history().await.len(), 2);
        let id = client.last_event_id().to_owned();
        assert_eq!(next(&id), [1, NOT_BEGUN], "it is wanted from its beginning");
        rig.elect(1, 10, 0);
        rig.deliver(1, 0..10);
        assert!(
            client
                .lines_with_history()
                .await
                .contains(&"message past-9".to_owned())
        );
        for mut client in [rig.client(&[]), rig.resume(&id, &[])] {
            let lines = client.lines_with_history().await;
            assert!(lines.contains(&"message past-9".to_owned()), "{lines:?}");
        }
    });
}

/// A client that began while a partition has no leader reads the log as all others do once it has come to its end.
fn a_partition_without_a_leader_does_not_exempt_clients_of_a_table_from_the_lag_policy() {
    for (lag, expected) in [
        (Lag::Disconnect, r#"goodbye {"reason":"slow"}"#),
        (Lag::Latest, r#"conflated {"skipped":"#),
    ] {
        for start in [Start::Snapshot, Start::Earliest, Start::Live] {
            let mut rig = without_leader(|settings| {
                settings.start = Start::Snapshot;
                settings.log_bytes = Size(512 * 1024);
                settings.lag = Some(lag);
            });
            rig.records(&[rec("a", "before")]);
            let mut client = rig.client_at(start, &[]);
            assert!(
                client
                    .lines()
                    .last()
                    .is_some_and(|last| last.starts_with("caught-up"))
            );
            let large = "x".repeat(100_000);
            for _ in 0..12 {
                rig.records(&[rec("a", large.as_str())]);
            }
            let lines = client.lines();
            let kinds: Vec<_> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
            let has_it = lines.iter().any(|line| line.starts_with(expected));
            assert!(has_it, "{start:?} {lag:?}: {kinds:?}");
        }
    }
}

fn ids_carry_partitions_without_records() {
    let topic = TopicPosition {
        next: vec![12, NOT_BEGUN, 300],
        marks: vec![0, 0, 7],
        ..TopicPosition::unread("orders")
    };
    let position = Position {
        as_of: None,
        topics: vec![topic],
    };
    let id = position.id();
    let mut bytes = vec![3];
    bytes.extend(fingerprint("orders").to_be_bytes());
    bytes.extend([0, 0, 0, 0, 3, 25, 0, 0xda, 4, 7]);
    let wanted = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    assert_eq!(String::from_utf8_lossy(&id), wanted);
    assert_eq!(Position::parse(&id), Ok(position));
    assert_eq!(Position::parse(b"BQ"), Err(PositionError::Version));
}
