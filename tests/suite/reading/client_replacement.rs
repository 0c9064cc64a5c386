//! When the reading thread replaces its Kafka client, and what it logs about it.

use super::scripted::{Poll, Rig, Script};
use crate::harness::wait::{ensure, eventually, millis, secs};
use crate::trials;
use kafka_sse_bridge::kafka::error::{ErrorKind, KafkaError, Location};
use kafka_sse_bridge::kafka::partition::Bounds;
use libtest_mimic::Trial;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    trials![
        a_stalled_partition_replaces_the_client,
        a_partition_that_is_not_fetched_replaces_the_client,
        a_partition_that_cannot_be_fetched_does_not_replace_the_client,
        a_client_without_replies_is_replaced_once_another_gets_replies,
        an_offset_out_of_range_does_not_replace_the_client,
        an_unsupported_codec_switches_the_client_at_once,
        replacing_clients_backs_off_while_nothing_is_read,
        an_outage_and_its_end_are_each_logged_once,
    ]
}

/// The number of clients that the reading thread has connected so far.
fn connects(rig: &Rig) -> usize {
    rig.script(|script| script.connects.len())
}

fn until_connects(rig: &Rig, count: usize) {
    eventually(secs(20), "another client is taken", || {
        ensure(connects(rig) == count, connects(rig).to_string())
    });
}

/// A client that reconnects by itself and has read three records, of a partition whose next offset is `high`. With
/// `is_idle` it reports after every poll that the partition is not fetched.
fn three_read(high: i64, is_idle: bool) -> Rig {
    let script = Script {
        bounds: vec![Bounds { low: 0, high }],
        polls: [Poll::Records(vec![0, 1, 2])].into(),
        reconnects: true,
        is_idle,
        ..Script::default()
    };
    let mut rig = Rig::over(script, 1024);
    rig.offsets(3);
    rig
}

fn a_stalled_partition_replaces_the_client() {
    let mut rig = three_read(3, false);
    // As far as is known it has everything.
    rig.script(|script| script.end = Some(3));
    rig.script(|script| script.polls.push_back(Poll::Records(vec![3])));
    rig.offsets(1);
    assert_eq!(connects(&rig), 1);
    // There is more, and it does not come.
    rig.script(|script| script.end = Some(9));
    until_connects(&rig, 2);
    rig.script(|script| {
        script.end = Some(5);
        script.polls.push_back(Poll::Records(vec![4]));
    });
    assert_eq!(rig.offsets(1), [4], "at our own offsets");
}

/// Even if no record is known to be missing: an unfetched partition reports no new end.
fn a_partition_that_is_not_fetched_replaces_the_client() {
    let mut rig = three_read(3, true);
    until_connects(&rig, 2);
    rig.script(|script| {
        script.is_idle = false;
        script.polls.push_back(Poll::Records(vec![3]));
    });
    assert_eq!(rig.offsets(1), [3], "at our own offsets");
}

/// Partitions that are deleted or have no leader deliver nothing.
fn a_partition_that_cannot_be_fetched_does_not_replace_the_client() {
    let rig = three_read(3, false);
    let stands = |rig: &Rig, sign: &str| {
        eventually(secs(20), sign, || {
            let degraded = rig.status.snapshot().degraded.join("; ");
            ensure(degraded.contains(sign), degraded)
        });
        let before = rig.script(|script| {
            script.is_idle = true;
            script.callbacks
        });
        eventually(secs(20), "it is reported often", || {
            let callbacks = rig.script(|script| script.callbacks);
            ensure(callbacks > before + 300, callbacks.to_string())
        });
        assert_eq!(connects(rig), 1, "{sign}");
        rig.script(|script| script.is_idle = false);
    };
    rig.script(|script| script.bounds.clear());
    stands(&rig, "does not exist");
    rig.script(|script| {
        script.bounds.push(Bounds { low: 0, high: 3 });
        script.leaderless = vec![0];
    });
    stands(&rig, "no leader answers");
}

/// A library may lose its metadata connection and still read, or stop reading as well.
fn a_client_without_replies_is_replaced_once_another_gets_replies() {
    let mut rig = three_read(4, false);
    // The first one that is tried beside it gets no answers either, so the first is kept.
    rig.script(|script| script.deaf = vec![1, 2]);
    eventually(secs(90), "another is tried", || {
        ensure(connects(&rig) == 2, connects(&rig).to_string())
    });
    assert_eq!(rig.script(|script| script.assigned.len()), 1);
    rig.script(|script| script.polls.push_back(Poll::Records(vec![3])));
    assert_eq!(rig.offsets(1), [3], "it is read on");
    // The next one gets them, and so does the one that then takes over.
    assert_eq!(rig.assigned_within(secs(90), 2), [[0], [4]]);
    assert_eq!(connects(&rig), 4);
}

fn an_offset_out_of_range_does_not_replace_the_client() {
    let mut rig = Rig::start(0, 3, vec![Poll::Records(vec![0, 1, 2])]);
    rig.offsets(3);
    let gone = || {
        let kind = ErrorKind::OutOfRange {
            reason: "scripted".to_owned(),
            lost: Vec::new(),
        };
        KafkaError::new(&"b:1".into(), kind).located(Location::offset("t", 0, 3))
    };
    rig.script(|script| {
        script.bounds[0] = Bounds { low: 7, high: 9 };
        script
            .polls
            .extend([Poll::Fail(gone()), Poll::Records(vec![7, 8])]);
    });
    assert_eq!(rig.offsets(2), [7, 8]);
    assert_eq!(connects(&rig), 1);
    // Where all offsets are as they should be, it is the client's fault.
    rig.script(|script| script.polls.extend([Poll::Fail(gone()), Poll::Records(vec![9])]));
    assert_eq!(rig.offsets(1), [9]);
    assert_eq!(connects(&rig), 2);
}

fn an_unsupported_codec_switches_the_client_at_once() {
    let error = KafkaError::new(&"b:1".into(), ErrorKind::Codec("lz4")).located(Location::offset("t", 0, 1));
    let mut rig = Rig::start(
        0,
        2,
        vec![Poll::Records(vec![0]), Poll::Fail(error), Poll::Records(vec![1])],
    );
    assert_eq!(rig.offsets(2), [0, 1]);
    assert_eq!(rig.script(|script| script.refusals), 1);
    assert!(
        !rig.status
            .snapshot()
            .degraded
            .iter()
            .any(|what| what.contains("codec") || what.contains("lz4"))
    );
}

fn replacing_clients_backs_off_while_nothing_is_read() {
    let rig = Rig::over(
        Script {
            unreachable: true,
            ..Script::default()
        },
        16,
    );
    let connects = eventually(secs(30), "it tries again and again", || {
        let connects = rig.script(|script| script.connects.clone());
        if connects.len() >= 6 {
            Ok(connects)
        } else {
            Err(connects.len())
        }
    });
    let pauses: Vec<Duration> = connects.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 100, 200, 400, 800, 1600 ms, each shortened by up to half.
    for (pause, least) in pauses.iter().zip([50, 100, 200, 400, 800]) {
        assert!(*pause >= millis(least), "{pauses:?}");
    }
    assert!(rig.status.snapshot().degraded[0].contains("scripted"));
}

fn an_outage_and_its_end_are_each_logged_once() {
    let mut rig = Rig::over(
        Script {
            unreachable: true,
            bounds: vec![Bounds { low: 0, high: 0 }],
            ..Script::default()
        },
        16,
    );
    eventually(secs(20), "it has a problem", || {
        ensure(rig.script(|script| script.connects.len()) >= 3, "not yet")
    });
    assert_eq!(rig.status.snapshot().degraded.len(), 1);
    rig.script(|script| {
        script.unreachable = false;
        script.polls.push_back(Poll::Records(vec![0]));
    });
    rig.offsets(1);
    eventually(secs(20), "it is well again", || {
        let snapshot = rig.status.snapshot();
        ensure(
            snapshot.degraded.is_empty() && snapshot.contacted,
            format!("{snapshot:?}"),
        )
    });
}
