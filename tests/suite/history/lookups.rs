//! Lookups of offsets over a scripted Kafka.

use super::{Asked, Rig, Script, ask};
use crate::harness::wait::{ensure, eventually, secs};
use crate::trials;
use kafka_sse_bridge::kafka::history::{LookupUnsupported, OffsetSpec, ReplaySlot};
use kafka_sse_bridge::kafka::record::Feed;
use libtest_mimic::Trial;
use std::sync::mpsc as std_mpsc;
use tokio::sync::mpsc;

pub fn trials() -> Vec<Trial> {
    trials![
        a_lookup_returns_the_requested_offset_of_each_partition,
        a_lookup_is_retried_until_a_broker_answers,
        a_lookup_is_dropped_when_no_reader_waits_for_it,
        a_lookup_does_not_wait_for_replays,
        waiting_lookups_are_bounded,
        a_lookup_says_whether_its_reply_will_be_fresh,
        a_lookup_that_the_client_library_does_not_support_fails_at_once,
        a_lookup_is_repeated_where_a_partition_seems_to_be_missing,
    ]
}

fn a_lookup_returns_the_requested_offset_of_each_partition() {
    let rig = Rig::new(Script {
        ends: vec![10, 20, 30, 40],
        ..Script::default()
    });
    let asks = [
        OffsetSpec::Latest,
        OffsetSpec::Skip,
        OffsetSpec::Timestamp(7),
        OffsetSpec::Latest,
    ];
    let asked = ask(&rig.history, "t", &asks).expect("the queue is not full");
    assert_eq!(asked.answer(), Ok(vec![vec![Some(10), None, Some(7), Some(40)]]));
    let nothing = ask(&rig.history, "t", &[OffsetSpec::Skip; 2]).expect("the queue is not full");
    assert_eq!(nothing.answer(), Ok(vec![vec![None, None]]));
}

fn a_lookup_is_retried_until_a_broker_answers() {
    let rig = Rig::new(Script {
        ends: vec![10],
        unreachable: 3,
        ..Script::default()
    });
    let asked = ask(&rig.history, "t", &[OffsetSpec::Latest]).expect("the queue is not full");
    assert_eq!(asked.answer(), Ok(vec![vec![Some(10)]]));
    assert!(asked.is_started());
    assert_eq!(rig.script(|script| script.connects), 4);
}

fn a_lookup_is_dropped_when_no_reader_waits_for_it() {
    let rig = Rig::new(Script {
        unreachable: usize::MAX,
        ..Script::default()
    });
    let asked = ask(&rig.history, "t", &[OffsetSpec::Latest]).expect("the queue is not full");
    eventually(secs(20), "it is asked again", || {
        ensure(rig.script(|script| script.connects) >= 2, "not yet")
    });
    drop(asked.wanted);
    // The lookup is dropped, and with it our sender.
    assert_eq!(
        asked.answers.recv_timeout(secs(30)),
        Err(std_mpsc::RecvTimeoutError::Disconnected)
    );
}

fn a_lookup_does_not_wait_for_replays() {
    let rig = Rig::new(Script {
        ends: vec![1000],
        ..Script::default()
    });
    // Their records are not consumed, so that every reading thread is busy, and others wait.
    let replays: Vec<(ReplaySlot, mpsc::Receiver<Feed>)> = (0..12).map(|_| rig.read(1000)).collect();
    eventually(secs(20), "replays run", || {
        let running = replays.iter().filter(|(_, feeds)| feeds.len() == 1).count();
        ensure(running == 4, format!("{running}"))
    });
    for _ in 0..20 {
        let asked = ask(&rig.history, "t", &[OffsetSpec::Latest]).expect("the queue is not full");
        assert_eq!(asked.answer(), Ok(vec![vec![Some(1000)]]));
    }
}

fn waiting_lookups_are_bounded() {
    let rig = Rig::new(Script {
        unreachable: usize::MAX,
        ..Script::default()
    });
    let asked: Vec<Asked> = std::iter::from_fn(|| ask(&rig.history, "t", &[OffsetSpec::Latest]).ok())
        .take(2000)
        .collect();
    // Those that are being asked just now do not wait.
    assert!((1024..1030).contains(&asked.len()), "{}", asked.len());
    drop(asked);
    eventually(secs(20), "the queue is no longer full", || {
        ask(&rig.history, "t", &[OffsetSpec::Latest]).map(drop)
    });
}

fn a_lookup_says_whether_its_reply_will_be_fresh() {
    let rig = Rig::new(Script {
        ends: vec![10],
        is_held: true,
        ..Script::default()
    });
    let asked: Vec<Asked> = (0..4)
        .map(|_| ask(&rig.history, "t", &[OffsetSpec::Latest]).expect("the queue is not full"))
        .collect();
    let is_started = |from: usize| asked[from..].iter().filter(|asked| asked.is_started()).count();
    eventually(secs(20), "two are asked at once", || {
        ensure(is_started(0) == 2, format!("{}", is_started(0)))
    });
    assert_eq!(is_started(2), 0, "the first come first");
    rig.script(|script| {
        script.ends[0] = 11;
        script.is_held = false;
    });
    for asked in &asked {
        assert_eq!(asked.answer(), Ok(vec![vec![Some(11)]]));
        assert!(asked.is_started());
    }
}

fn a_lookup_that_the_client_library_does_not_support_fails_at_once() {
    let rig = Rig::new(Script {
        ends: vec![10, 20],
        knows_no_times: true,
        ..Script::default()
    });
    let asked = ask(&rig.history, "t", &[OffsetSpec::Latest, OffsetSpec::Timestamp(1)])
        .expect("the queue is not full");
    assert_eq!(
        asked.answer(),
        Err(LookupUnsupported("it knows no times; take the other".to_owned()))
    );
    assert_eq!(rig.script(|script| script.connects), 1);
}

fn a_lookup_is_repeated_where_a_partition_seems_to_be_missing() {
    let rig = Rig::new(Script {
        ends: vec![10],
        ..Script::default()
    });
    let asked =
        ask(&rig.history, "t", &[OffsetSpec::Latest, OffsetSpec::Latest]).expect("the queue is not full");
    eventually(secs(20), "it is asked", || {
        ensure(rig.script(|script| script.looks) > 0, "not yet")
    });
    // A broker that has just come up: it knows the other partition a moment later.
    rig.script(|script| script.ends.push(20));
    assert_eq!(asked.answer(), Ok(vec![vec![Some(10), Some(20)]]));
    // One that stays away is believed in the end.
    let asked = ask(
        &rig.history,
        "t",
        &[OffsetSpec::Latest, OffsetSpec::Latest, OffsetSpec::Latest],
    )
    .expect("the queue is not full");
    assert_eq!(asked.answer(), Ok(vec![vec![Some(10), Some(20), None]]));
}
