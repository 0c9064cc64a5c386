//! Which replay is read next, over a scripted Kafka.

use super::{Rig, Script, job};
use crate::harness::wait::{ensure, eventually, secs};
use crate::trials;
use kafka_sse_bridge::kafka::history::Archive;
use kafka_sse_bridge::kafka::history::fair_queue::{FairQueue, Flow, MAX_OVERTAKEN};
use kafka_sse_bridge::kafka::record::Feed;
use libtest_mimic::Trial;
use tokio::sync::mpsc;

pub fn trials() -> Vec<Trial> {
    trials![
        a_freed_slot_goes_to_the_replay_that_waits,
        a_flow_that_queues_many_replays_delays_its_own,
        a_flow_that_fills_the_queue_loses_its_last_replay,
        cheap_work_overtakes_costly_work_a_bounded_number_of_times,
        a_replay_that_receives_nothing_continues_with_another_client,
        a_replay_whose_slot_is_dropped_is_not_read,
    ]
}

fn a_replay_that_receives_nothing_continues_with_another_client() {
    let rig = Rig::new(Script {
        ends: vec![3],
        is_silent: true,
        ..Script::default()
    });
    let (_slot, mut feeds) = rig.read(3);
    let mut offsets = Vec::new();
    eventually(secs(90), "all is read", || match feeds.try_recv() {
        Ok(Feed::Loaded { .. }) => Ok(()),
        Ok(Feed::Records(batch)) => {
            offsets.extend(batch.iter().map(|record| record.offset));
            Err("more is to come")
        }
        _ => Err("nothing comes"),
    });
    assert_eq!(offsets, [0, 1, 2]);
    assert_eq!(rig.script(|script| script.connects), 2);
}

/// Takes everything; true at the end of the range.
fn read_all(mut feeds: mpsc::Receiver<Feed>) -> bool {
    let mut is_loaded = false;
    while let Some(feed) = feeds.blocking_recv() {
        is_loaded |= matches!(feed, Feed::Loaded { .. });
    }
    is_loaded
}

/// How many replays run, and how many wait for a thread or a slot.
fn load(rig: &Rig) -> (usize, usize) {
    let load = rig.history.load();
    (load.running, load.waiting)
}

fn a_freed_slot_goes_to_the_replay_that_waits() {
    let rig = Rig::new(Script {
        ends: vec![1000],
        ..Script::default()
    });
    // Read to their ends, but held on to.
    let mut held = Vec::new();
    for _ in 0..8 {
        let (slot, feeds) = rig.read(2);
        assert!(read_all(feeds));
        held.push(slot);
    }
    assert!(!rig.history.is_contended());
    let (_ninth, feeds) = rig.read(2);
    let (tenth, _feeds) = rig.read(2);
    assert!(rig.history.is_contended());
    drop(held.pop());
    assert!(read_all(feeds));
    assert!(rig.history.is_contended(), "the tenth waits");
    assert_eq!(rig.script(|script| script.connects), 9);
    drop(tenth);
    assert!(!rig.history.is_contended());
}

/// As 70 clients of one address do that read nothing, at distinct places.
fn a_flow_that_queues_many_replays_delays_its_own() {
    let rig = Rig::new(Script {
        ends: vec![1000],
        ..Script::default()
    });
    let hog = Flow(1);
    let mut held = Vec::new();
    for _ in 0..8 {
        let (slot, feeds) = rig.read_for(hog, 2);
        assert!(read_all(feeds));
        held.push(slot);
    }
    let mut waiting: Vec<_> = (0..62).map(|_| rig.read_for(hog, 2)).collect();
    let (_other, feeds) = rig.read_for(Flow(2), 1000);
    eventually(secs(20), "the eight have ended, and the others wait", || {
        ensure(load(&rig) == (0, 63), "not yet")
    });
    drop(held.pop());
    eventually(secs(20), "the freed slot is taken", || {
        ensure(load(&rig) == (1, 62), "not yet")
    });
    for (_, feeds) in &mut waiting {
        assert!(feeds.try_recv().is_err(), "it is not for the flow that has seven");
    }
    drop(feeds);
}

fn a_flow_that_fills_the_queue_loses_its_last_replay() {
    let rig = Rig::new(Script {
        unreachable: usize::MAX,
        ..Script::default()
    });
    let hog = Flow(1);
    let mut jobs = Vec::new();
    while let Ok(slot) = {
        let (job, feeds) = job(hog, 2);
        rig.history.replay(job).map(|slot| (slot, feeds))
    } {
        jobs.push(slot);
        assert!(jobs.len() < 5000, "there is a bound");
    }
    let (job, feeds) = job(Flow(2), 2);
    let slot = rig.history.replay(job).expect("a place for one more flow");
    let (_, last) = jobs.last_mut().expect("many");
    assert_eq!(
        last.try_recv().err(),
        Some(mpsc::error::TryRecvError::Disconnected),
        "the last of the flow that has most gives way"
    );
    drop((slot, feeds));
}

fn cheap_work_overtakes_costly_work_a_bounded_number_of_times() {
    let mut queue = FairQueue::default();
    let (one, other) = (Flow(1), Flow(2));
    let long = queue.push(one, u64::MAX, "long");
    queue.push(one, 5000, "middle");
    queue.push(one, 10, "short");
    queue.push(other, 1_000_000, "other");
    let next = |queue: &mut FairQueue<&'static str>| queue.pop(|_| true).map(|(_, work)| work);
    assert_eq!(next(&mut queue), Some("short"));
    assert_eq!(
        next(&mut queue),
        Some("other"),
        "the flow that has nothing under way"
    );
    queue.done(other);
    assert_eq!(next(&mut queue), Some("middle"), "no other waits");
    queue.done(one);
    queue.done(one);
    // Short ones keep coming.
    let mut passed = 0;
    loop {
        queue.push(one, 0, "short");
        queue.push(other, 0, "other");
        let (number, work) = queue.pop(|_| true).expect("work");
        queue.done(if work == "other" { other } else { one });
        if number == long {
            break;
        }
        passed += u64::from(work == "short");
        assert!(passed <= MAX_OVERTAKEN);
    }
    assert!(passed > 10, "{passed}");
    assert_eq!(queue.remove(one, long), None);
    let waits = queue.len();
    assert_eq!(queue.clear().len(), waits);
    assert!(queue.is_empty());
}

fn a_replay_whose_slot_is_dropped_is_not_read() {
    let rig = Rig::new(Script {
        ends: vec![1000],
        ..Script::default()
    });
    // All threads are taken.
    let mut replays: Vec<_> = (0..4).map(|_| rig.read(1000)).collect();
    let (fifth, fifth_feeds) = rig.read(2);
    let (_sixth, sixth_feeds) = rig.read(2);
    eventually(secs(20), "others wait", || {
        ensure(rig.history.is_contended(), "not yet")
    });
    drop(fifth);
    assert!(!read_all(fifth_feeds), "it is let go, unread");
    replays.pop();
    assert!(read_all(sixth_feeds));
}
