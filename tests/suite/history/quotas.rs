//! Replays within a quota, over a scripted Kafka whose records are a megabyte each. No time has to pass: the quota is
//! lifted instead.

use super::{Rig, Script, job};
use crate::harness::wait::{ensure, eventually, secs};
use crate::trials;
use kafka_sse_bridge::kafka::history::fair_queue::Flow;
use kafka_sse_bridge::kafka::history::quota::QuotaLimits;
use kafka_sse_bridge::kafka::history::{Archive, ReplayLoad, ReplaySlot};
use kafka_sse_bridge::kafka::record::Feed;
use libtest_mimic::Trial;
use std::time::Instant;
use tokio::sync::mpsc;

pub fn trials() -> Vec<Trial> {
    trials![
        a_replay_over_the_quota_of_its_flow_ends_its_turn_and_the_next_one_waits,
        a_turn_that_the_quota_closes_before_its_first_record_reads_one,
        a_flow_over_its_quota_takes_no_thread_from_others,
        replays_that_wait_for_a_quota_give_way_in_a_full_queue,
        a_replay_that_others_share_leaves_the_queue_of_a_flow_over_its_quota,
        over_the_quota_of_all_every_replay_waits,
    ]
}

const MIB: u64 = 1 << 20;
/// Eight records: the last one is more than it. It fills by no record while they are read, however long that takes here.
const QUOTA: u64 = 7 * MIB + MIB / 8;
const END: i64 = 40;
const HOG: Flow = Flow(1);
const OTHER: Flow = Flow(2);

fn rig(limits: QuotaLimits) -> Rig {
    let script = Script {
        ends: vec![END],
        ..Script::default()
    };
    Rig::within(script, limits)
}

fn per_flow(bytes: u64) -> QuotaLimits {
    QuotaLimits {
        per_flow: bytes,
        in_all: 0,
    }
}

/// Takes all records; how many they were, and whether the range was read to its end.
fn read(mut feeds: mpsc::Receiver<Feed>) -> (usize, bool) {
    let (mut records, mut is_loaded) = (0, false);
    while let Some(feed) = feeds.blocking_recv() {
        match feed {
            Feed::Records(batch) => records += batch.len(),
            Feed::Loaded { .. } => is_loaded = true,
            _ => {}
        }
    }
    (records, is_loaded)
}

fn lift(rig: &Rig) {
    rig.quota.set(QuotaLimits::default());
    rig.history.quota_changed();
}

fn await_load(rig: &Rig, what: &str, wanted: ReplayLoad) {
    eventually(secs(20), what, || {
        let load = rig.history.load();
        ensure(load == wanted, format!("{load:?}"))
    });
}

/// Reads until the quota of the flow is used up.
fn use_up(rig: &Rig, flow: Flow) {
    let (_slot, feeds) = rig.read_for(flow, END);
    let (records, is_loaded) = read(feeds);
    assert!(!is_loaded && records > 0, "{records} records");
}

fn a_replay_over_the_quota_of_its_flow_ends_its_turn_and_the_next_one_waits() {
    let rig = rig(per_flow(QUOTA));
    let (slot, feeds) = rig.read_for(HOG, END);
    // The record that is over it is sent too.
    assert_eq!(read(feeds), (8, false));
    drop(slot);
    let (_slot, feeds) = rig.read_for(HOG, END);
    let one = ReplayLoad {
        over_flow_quota: 1,
        ..ReplayLoad::default()
    };
    await_load(&rig, "it waits", one);
    assert!(rig.history.is_over_quota(HOG) && !rig.history.is_over_quota(OTHER));
    assert!(!rig.history.is_contended(), "nobody waits for a thread or a slot");
    let connects = rig.script(|script| script.connects);
    let (_slot, others) = rig.read_for(OTHER, 5);
    assert_eq!(read(others), (5, true));
    assert_eq!(rig.script(|script| script.connects), connects + 1);
    await_load(&rig, "it still waits", one);
    assert_eq!(rig.quota.read(), 13 * (MIB + 32));
    lift(&rig);
    assert_eq!(read(feeds), (40, true));
    assert_eq!(rig.quota.times_closed(), (1, 0));
}

/// As one does that takes longer to connect than other replays of its flow take to use up what has come back.
fn a_turn_that_the_quota_closes_before_its_first_record_reads_one() {
    let rig = rig(per_flow(QUOTA));
    rig.script(|script| script.is_held = true);
    let (_slot, feeds) = rig.read_for(HOG, END);
    eventually(secs(20), "it connects", || {
        ensure(rig.script(|script| script.connects) == 1, "not yet")
    });
    rig.quota.charge(HOG, QUOTA, Instant::now());
    rig.script(|script| script.is_held = false);
    assert_eq!(read(feeds), (1, false));
    assert_eq!(rig.quota.read(), QUOTA + MIB + 32, "that is waited for too");
}

fn a_flow_over_its_quota_takes_no_thread_from_others() {
    let rig = rig(per_flow(QUOTA));
    use_up(&rig, HOG);
    let waiting: Vec<_> = (0..20).map(|_| rig.read_for(HOG, END)).collect();
    // All threads are taken, and one more waits.
    let mut others: Vec<_> = (10..15).map(|flow| rig.read_for(Flow(flow), END)).collect();
    let wanted = ReplayLoad {
        running: 4,
        waiting: 1,
        over_flow_quota: 20,
        ..ReplayLoad::default()
    };
    await_load(&rig, "five others", wanted);
    assert!(rig.history.is_contended());
    let (_slot, feeds) = others.remove(0);
    assert_eq!(read(feeds).0, 8, "its own quota");
    await_load(
        &rig,
        "the one that has waited",
        ReplayLoad { waiting: 0, ..wanted },
    );
    assert!(
        !rig.history.is_contended(),
        "it is not for those over their quota"
    );
    drop((waiting, others));
}

fn replays_that_wait_for_a_quota_give_way_in_a_full_queue() {
    let rig = rig(per_flow(QUOTA));
    // All threads are taken.
    let running: Vec<_> = (10..14).map(|flow| rig.read_for(Flow(flow), END)).collect();
    let mut others: Vec<_> = (0..10).map(|_| rig.read_for(OTHER, 5)).collect();
    let load = ReplayLoad {
        running: 4,
        waiting: 10,
        ..ReplayLoad::default()
    };
    await_load(&rig, "ten wait for a thread", load);
    let ask = |flow: Flow| {
        let (request, feeds) = job(flow, 5);
        rig.history.replay(request).map(|slot| (slot, feeds))
    };
    // Many flows with a replay each, until there is no place for one more of those.
    let mut held: Vec<_> = (100..5000)
        .map_while(|flow| {
            rig.quota.charge(Flow(flow), QUOTA, Instant::now());
            ask(Flow(flow)).ok()
        })
        .collect();
    assert!(held.len() > 100 && held.len() < 4900, "{}", held.len());
    // The flow that has most, but nobody waits for those over their quota.
    others.push(ask(OTHER).expect("a place"));
    let (_slot, third) = ask(Flow(3)).expect("a place");
    let displaced = |replays: &mut [(ReplaySlot, mpsc::Receiver<Feed>)]| {
        let gone = Some(mpsc::error::TryRecvError::Disconnected);
        let feeds = replays.iter_mut().map(|(_, feeds)| feeds.try_recv().err());
        feeds.filter(|error| *error == gone).count()
    };
    assert_eq!((displaced(&mut held), displaced(&mut others)), (2, 0));
    drop(running);
    assert_eq!(read(third), (5, true));
}

fn a_replay_that_others_share_leaves_the_queue_of_a_flow_over_its_quota() {
    let rig = rig(per_flow(QUOTA));
    // All threads: one of the flow, and three of others that read nothing more.
    let (_slot, first) = rig.read_for(HOG, END);
    let others: Vec<_> = (10..13).map(|flow| rig.read_for(Flow(flow), END)).collect();
    let running = ReplayLoad {
        running: 4,
        ..ReplayLoad::default()
    };
    await_load(&rig, "four are read", running);
    let queue = |is_shared: bool| -> (ReplaySlot, mpsc::Receiver<Feed>) {
        let (request, feeds) = job(HOG, END);
        if is_shared {
            request.payer.note_other();
        }
        (rig.history.replay(request).expect("the queue is not full"), feeds)
    };
    let (_alone, mut alone) = queue(false);
    let (_shared, shared) = queue(true);
    assert_eq!(rig.history.load().waiting, 2);
    assert_eq!(read(first), (8, false));
    assert_eq!(read(shared), (0, false), "its readers queue another one");
    assert_eq!(alone.try_recv().err(), Some(mpsc::error::TryRecvError::Empty));
    await_load(
        &rig,
        "the other one keeps its place",
        ReplayLoad {
            running: 3,
            over_flow_quota: 1,
            ..ReplayLoad::default()
        },
    );
    drop(others);
    lift(&rig);
    assert_eq!(read(alone), (40, true));
}

fn over_the_quota_of_all_every_replay_waits() {
    let rig = rig(QuotaLimits {
        in_all: QUOTA,
        per_flow: 0,
    });
    use_up(&rig, HOG);
    let waiting: Vec<_> = [HOG, OTHER].map(|flow| rig.read_for(flow, END)).into();
    await_load(
        &rig,
        "both wait",
        ReplayLoad {
            over_quota_of_all: 2,
            ..ReplayLoad::default()
        },
    );
    assert!(!rig.history.is_contended());
    assert!(!rig.history.is_over_quota(OTHER), "not for its own quota");
    lift(&rig);
    for (_slot, feeds) in waiting {
        assert_eq!(read(feeds), (40, true));
    }
    assert_eq!(rig.quota.times_closed(), (0, 1));
}
