//! Recreated topics: the reading thread compares topic ids before it believes offsets.

use super::scripted::{Poll, Rig, Script, unreachable};
use crate::harness::wait::{ensure, eventually, secs};
use crate::trials;
use kafka_sse_bridge::kafka::partition::Bounds;
use kafka_sse_bridge::kafka::record::{Feed, TopicId};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        a_held_stream_learns_of_a_recreated_topic_after_its_records,
        fewer_partitions_of_the_same_topic_are_stale_metadata,
        reading_waits_when_the_end_of_the_same_topic_is_below_its_position,
        offsets_wait_for_the_topic_id_and_a_recreation_is_reported_once,
        a_topic_with_another_id_is_read_from_its_beginning_at_any_offset,
        records_read_before_a_new_topic_id_are_repeated_after_one_reset,
        the_id_of_a_deleted_topic_is_ignored,
        a_topic_recreated_twice_is_reset_twice_and_read_from_its_beginning,
        a_topic_recreated_twice_between_two_refreshes_is_reset_once,
    ]
}

fn a_held_stream_learns_of_a_recreated_topic_after_its_records() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 3 }],
        id: TopicId::new(1),
        polls: [
            Poll::Records(vec![0]),
            Poll::Records(vec![1]),
            Poll::Records(vec![2]),
        ]
        .into(),
        ..Script::default()
    };
    let mut rig = Rig::over(script, 1);
    eventually(secs(20), "the topic is paused", || {
        let holds = rig.status.counters().all_pauses();
        let is_assigned = rig.script(|script| script.assigned.len()) >= 2;
        ensure(!holds.is_empty() && is_assigned, "not yet")
    });
    let calls = rig.script(|script| {
        script.id = TopicId::new(2);
        script.assigned.len()
    });
    eventually(secs(20), "the new topic is seen", || {
        ensure(rig.script(|script| script.assigned.len()) > calls, "not yet")
    });
    let mut order = Vec::new();
    eventually(secs(20), "it is given all of that", || {
        while let Ok(feed) = rig.feeds.try_recv() {
            order.push(match feed {
                Feed::Assigned { .. } => "assigned".to_owned(),
                Feed::Recreated { .. } => "recreated".to_owned(),
                Feed::Begun { .. } => "begun".to_owned(),
                Feed::Truncated { .. } => "truncated".to_owned(),
                Feed::Loaded { .. } => "loaded".to_owned(),
                Feed::AtEnd { .. } => "at end".to_owned(),
                Feed::Records(batch) => batch
                    .iter()
                    .map(|record| record.offset.to_string())
                    .collect::<String>(),
            });
        }
        ensure(
            order.iter().filter(|what| *what == "assigned").count() == 2,
            format!("{order:?}"),
        )
    });
    assert_eq!(
        &order[..4],
        ["assigned", "0", "recreated", "assigned"],
        "{order:?}"
    );
}

fn fewer_partitions_of_the_same_topic_are_stale_metadata() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 3 }, Bounds { low: 0, high: 5 }],
        id: TopicId::new(1),
        polls: [Poll::Records(vec![0, 1, 2])].into(),
        ..Script::default()
    };
    let mut rig = Rig::over(script, 1024);
    rig.offsets(3);
    rig.script(|script| {
        script.bounds.pop();
        script.polls.push_back(Poll::Fail(unreachable()));
    });
    assert_eq!(rig.assigned(2)[1], [3, 0], "the rest stays as it was");
    rig.script(|script| {
        script.bounds.push(Bounds { low: 0, high: 5 });
        script.polls.push_back(Poll::Fail(unreachable()));
    });
    assert_eq!(rig.assigned(3)[2], [3, 0]);
    let received = rig.received();
    assert!(
        !received.iter().any(|feed| matches!(feed, Feed::Recreated { .. })),
        "{received:?}"
    );
}

fn reading_waits_when_the_end_of_the_same_topic_is_below_its_position() {
    let mut rig = Rig::identified();
    // The last stable offset, where uncommitted records were read before.
    rig.script(|script| {
        script.bounds[0].high = 1;
        script
            .polls
            .extend([Poll::Fail(unreachable()), Poll::Records(vec![3])]);
    });
    assert_eq!(rig.offsets(1), [3], "nothing was read again");
    assert_eq!(rig.assigned(2)[1], [3]);
}

fn offsets_wait_for_the_topic_id_and_a_recreation_is_reported_once() {
    let mut rig = Rig::identified();
    // The new topic is smaller, and its id is not known yet.
    rig.script(|script| {
        script.id = None;
        script.bounds[0] = Bounds { low: 0, high: 2 };
        script.polls.push_back(Poll::Fail(unreachable()));
    });
    let before = rig.assigned(2);
    assert_eq!(before[1], [3], "the offsets wait for it");
    rig.script(|script| script.id = TopicId::new(2));
    rig.recreated();
    rig.script(|script| script.polls.push_back(Poll::Records(vec![0, 1])));
    assert_eq!(rig.offsets(2), [0, 1]);
    rig.script(|script| script.polls.push_back(Poll::Fail(unreachable())));
    let times = rig.script(|script| script.assigned.len());
    rig.assigned(times + 1);
    let received = rig.received();
    assert!(
        !received.iter().any(|feed| matches!(feed, Feed::Recreated { .. })),
        "{received:?}"
    );
}

fn a_topic_with_another_id_is_read_from_its_beginning_at_any_offset() {
    let mut rig = Rig::identified();
    // It holds all read offsets, so that only the id distinguishes it from the old one.
    rig.script(|script| {
        script.id = TopicId::new(2);
        script.bounds[0] = Bounds { low: 0, high: 9 };
    });
    rig.recreated();
    rig.script(|script| script.polls.push_back(Poll::Records((0..9).collect())));
    assert_eq!(rig.offsets(9), (0..9).collect::<Vec<i64>>());
    assert_eq!(
        rig.script(|script| script.connects.len()),
        1,
        "the source reads the other topics on"
    );
}

/// The client library reads a recreated topic on at the old offset, so records from there on can precede the look
/// that finds the new id. One such look is enough, and the new topic then comes complete.
fn records_read_before_a_new_topic_id_are_repeated_after_one_reset() {
    let mut rig = Rig::identified();
    rig.script(|script| script.polls.push_back(Poll::Records(vec![3, 4])));
    assert_eq!(
        rig.offsets(2),
        [3, 4],
        "nothing shows yet that they are of another topic"
    );
    // Only one look finds the id: where a second one were needed, no reset would come.
    rig.script(|script| {
        script.id = None;
        script.id_once = TopicId::new(2);
        script.bounds[0] = Bounds { low: 0, high: 7 };
    });
    rig.recreated();
    let assigned = rig.assigned(2);
    assert_eq!(assigned[1], [0], "{assigned:?}");
    rig.script(|script| script.polls.push_back(Poll::Records((0..7).collect())));
    assert_eq!(rig.offsets(7), (0..7).collect::<Vec<i64>>());
    let received = rig.received();
    assert!(
        !received
            .iter()
            .any(|feed| matches!(feed, Feed::Recreated { .. } | Feed::Records(_))),
        "{received:?}"
    );
}

fn the_id_of_a_deleted_topic_is_ignored() {
    let mut rig = Rig::identified();
    rig.script(|script| {
        script.id = TopicId::new(2);
        script.polls.push_back(Poll::Fail(unreachable()));
    });
    rig.recreated();
    // A broker that does not know better yet is asked, and the next time one that does.
    for id in [1, 2] {
        let times = rig.script(|script| {
            script.id = TopicId::new(id);
            script.polls.push_back(Poll::Fail(unreachable()));
            script.connects.len()
        });
        eventually(secs(20), "it is asked again", || {
            ensure(
                rig.script(|script| script.connects.len()) > times
                    && rig.status.snapshot().degraded.is_empty(),
                "not yet",
            )
        });
    }
    let feeds: Vec<Feed> = std::iter::from_fn(|| rig.feeds.try_recv().ok()).collect();
    assert!(
        !feeds.iter().any(|feed| matches!(feed, Feed::Recreated { .. })),
        "{feeds:?}"
    );
}

/// Waits until reading continues at the beginning, and returns the offsets handed on from there.
fn read_again(rig: &mut Rig, end: i64) -> Vec<i64> {
    rig.recreated();
    rig.script(|script| script.polls.push_back(Poll::Records((0..end).collect())));
    rig.offsets(usize::try_from(end).expect("few"))
}

/// Every topic is longer than what was read of the one before, so that only its id distinguishes it.
fn a_topic_recreated_twice_is_reset_twice_and_read_from_its_beginning() {
    let mut rig = Rig::identified();
    for (id, end) in [(2, 5), (3, 9)] {
        rig.script(|script| {
            script.id = TopicId::new(id);
            script.bounds[0] = Bounds { low: 0, high: end };
        });
        assert_eq!(read_again(&mut rig, end), (0..end).collect::<Vec<i64>>());
    }
    // A broker that does not know better yet names both earlier topics.
    for id in [2, 1] {
        let looks = rig.script(|script| {
            script.id = TopicId::new(id);
            script.polls.push_back(Poll::Fail(unreachable()));
            script.connects.len()
        });
        eventually(secs(20), "it is asked again", || {
            ensure(rig.script(|script| script.connects.len()) > looks, "not yet")
        });
    }
    rig.script(|script| {
        script.id = TopicId::new(3);
        script
            .polls
            .extend([Poll::Fail(unreachable()), Poll::Records(vec![9])]);
    });
    assert_eq!(rig.offsets(1), [9]);
    let assigned = rig.script(|script| script.assigned.clone());
    let restarts = assigned.iter().filter(|next| **next == [0]).count();
    assert_eq!(restarts, 3, "at the start and for each new topic: {assigned:?}");
}

fn a_topic_recreated_twice_between_two_refreshes_is_reset_once() {
    let mut rig = Rig::identified();
    rig.script(|script| {
        script.id = TopicId::new(3);
        script.bounds[0] = Bounds { low: 0, high: 9 };
    });
    assert_eq!(read_again(&mut rig, 9), (0..9).collect::<Vec<i64>>());
    let received = rig.received();
    assert!(
        !received
            .iter()
            .any(|feed| matches!(feed, Feed::Recreated { .. } | Feed::Records(_))),
        "{received:?}"
    );
}
