//! The reading thread over a source of the test's making: what was read is handed on once, whatever
//! the source does, and offsets are believed only when they make sense.

mod scripted;
mod truncated;

pub use self::scripted::{Poll, Rig};

use self::scripted::{Script, unreachable};
use crate::harness::promise;
use crate::harness::wait::{ensure, eventually, millis, secs};
use kafka_sse_bridge::kafka::error::{ErrorKind, KafkaError, Location};
use kafka_sse_bridge::kafka::partition::Bounds;
use kafka_sse_bridge::kafka::reader::StartOffset;
use kafka_sse_bridge::kafka::record::{BEGINNING, Feed, TopicId};
use libtest_mimic::Trial;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    let mut trials = truncated::trials();
    trials.extend([
        promise(records_read_before_an_error_are_delivered_once),
        promise(reading_continues_after_records_that_left_kafka),
        promise(an_end_below_the_read_position_is_confirmed_first),
        promise(added_partitions_are_read_from_their_beginning),
        promise(only_changed_offsets_are_requested),
        promise(a_table_is_loaded_once_the_requested_ends_are_passed),
        promise(a_blocked_stream_does_not_delay_others),
        promise(a_held_stream_learns_of_a_recreated_topic_after_its_records),
        promise(polling_pauses_while_a_channel_is_full),
        promise(a_topic_that_ends_with_markers_finishes_loading_beside_a_busy_one),
        promise(an_unsupported_codec_switches_the_client_at_once),
        promise(a_partition_without_a_leader_does_not_delay_others),
        promise(a_partition_with_a_late_leader_is_read_from_its_end_at_that_time),
        promise(fewer_partitions_of_the_same_topic_are_stale_metadata),
        promise(reading_waits_when_the_end_of_the_same_topic_is_below_its_position),
        promise(offsets_wait_for_the_topic_id_and_a_recreation_is_reported_once),
        promise(an_offset_out_of_range_does_not_replace_the_client),
        promise(a_topic_with_another_id_is_read_from_its_beginning_at_any_offset),
        promise(records_read_before_a_new_topic_id_are_repeated_after_one_reset),
        promise(the_id_of_a_deleted_topic_is_ignored),
        promise(a_stalled_partition_replaces_the_client),
        promise(a_partition_that_is_not_fetched_replaces_the_client),
        promise(a_partition_that_cannot_be_fetched_does_not_replace_the_client),
        promise(a_client_without_replies_is_replaced_once_another_gets_replies),
        promise(replacing_clients_backs_off_while_nothing_is_read),
        promise(an_outage_and_its_end_are_each_logged_once),
        promise(a_stop_takes_effect_while_a_channel_is_full),
    ]);
    trials
}

fn records_read_before_an_error_are_delivered_once() {
    let polls = vec![
        Poll::Records(vec![0, 1, 2]),
        Poll::Fail(unreachable()),
        // A client may deliver again what it delivered before, and out of its order.
        Poll::Records(vec![1, 2, 3, 2, 4]),
    ];
    let mut rig = Rig::start(0, 5, polls);
    assert_eq!(rig.offsets(5), [0, 1, 2, 3, 4]);
    assert_eq!(
        rig.assigned(2),
        [[0], [3]],
        "the next client continues at our own offset"
    );

    // The very poll that reads may fail.
    let polls = vec![
        Poll::RecordsThenFail(vec![0, 1]),
        Poll::RecordsThenFail(vec![2, 3]),
    ];
    assert_eq!(Rig::start(0, 4, polls).offsets(4), [0, 1, 2, 3]);
}

fn reading_continues_after_records_that_left_kafka() {
    let mut rig = Rig::start(0, 3, vec![Poll::Records(vec![0, 1, 2])]);
    assert_eq!(rig.offsets(3), [0, 1, 2]);
    rig.script(|script| {
        script.bounds[0] = Bounds { low: 7, high: 9 };
        script
            .polls
            .extend([Poll::Fail(unreachable()), Poll::Records(vec![7, 8])]);
    });
    assert_eq!(rig.offsets(2), [7, 8]);
    assert_eq!(rig.assigned(2)[1], [7]);
}

fn an_end_below_the_read_position_is_confirmed_first() {
    let mut rig = Rig::start(0, 3, vec![Poll::Records(vec![0, 1, 2])]);
    rig.offsets(3);
    // A new leader that lags: its end is below what was read, for a moment.
    rig.script(|script| {
        script.bounds[0].high = 1;
        script.polls.push_back(Poll::Fail(unreachable()));
    });
    let connects = rig.script(|script| script.connects.len());
    eventually(secs(20), "it is asked again", || {
        ensure(
            rig.script(|script| script.connects.len()) >= connects + 2,
            "not yet",
        )
    });
    rig.script(|script| {
        script.bounds[0].high = 4;
        script.polls.push_back(Poll::Records(vec![3]));
    });
    assert_eq!(rig.offsets(1), [3], "nothing was read again");
    // One that stays is another topic.
    rig.script(|script| {
        script.bounds[0] = Bounds { low: 0, high: 2 };
        script
            .polls
            .extend([Poll::Fail(unreachable()), Poll::Records(vec![0, 1])]);
    });
    assert_eq!(rig.offsets(2), [0, 1]);
}

fn added_partitions_are_read_from_their_beginning() {
    let rig = Rig::start(5, 9, Vec::new());
    assert_eq!(rig.assigned(1), [[5]]);
    rig.script(|script| script.bounds.push(Bounds { low: 2, high: 100 }));
    assert_eq!(rig.assigned(2)[1], [5, 2]);
}

fn only_changed_offsets_are_requested() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 9 }],
        large: Some("t".to_owned()),
        ..Script::default()
    };
    let rig = Rig::of_topics(script, 1024, &["s", "t", "u"]);
    assert_eq!(rig.assigned(1), [[0]]);
    assert_eq!(
        rig.script(|script| std::mem::take(&mut script.asked)),
        ["s", "t", "u"]
    );
    rig.script(|script| script.bounds.push(Bounds { low: 2, high: 100 }));
    assert_eq!(rig.assigned(2)[1], [0, 2]);
    assert_eq!(rig.script(|script| std::mem::take(&mut script.asked)), ["t"]);
}

/// Its topic is paused, and read on from where it was once the stream takes something again.
fn a_blocked_stream_does_not_delay_others() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 3 }],
        polls: [Poll::Others("busy"), Poll::Records(vec![0, 1, 2])].into(),
        ..Script::default()
    };
    let (mut rig, mut slow) = Rig::beside_busy(script, 2);
    assert_eq!(rig.offsets(3), [0, 1, 2]);
    let held = |rig: &Rig| {
        let tally = rig.status.counters().all_pauses();
        tally.iter().map(|(_, holds)| holds.times()).sum::<u64>()
    };
    eventually(secs(20), "the topic of the slow stream is paused", || {
        ensure(
            held(&rig) == 1 && slow.len() == 2,
            format!("{} {}", held(&rig), slow.len()),
        )
    });
    for offset in 3..20 {
        rig.script(|script| script.polls.push_front(Poll::Records(vec![offset])));
        assert_eq!(rig.offsets(1), [offset], "the other is read on");
    }
    assert_eq!(held(&rig), 1, "and nothing more is read of it");
    let mut offsets = Vec::new();
    eventually(secs(20), "the slow stream is given what follows", || {
        while let Ok(feed) = slow.try_recv() {
            if let Feed::Records(batch) = feed {
                offsets.extend(batch.iter().map(|record| record.offset));
            }
        }
        ensure(offsets.len() >= 100, offsets.len().to_string())
    });
    let whole: Vec<i64> = (0..).take(offsets.len()).collect();
    assert_eq!(offsets, whole);
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
        let is_told = rig.script(|script| script.assigned.len()) >= 2;
        ensure(!holds.is_empty() && is_told, "not yet")
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

/// A poll waits for records, 100 ms and more: what was said after the poll before, such as that the topic is loaded,
/// must not wait for it.
fn polling_pauses_while_a_channel_is_full() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 3 }],
        polls: [Poll::Records(vec![0, 1, 2])].into(),
        ..Script::default()
    };
    // One place, which is taken by where the topic is read from, and then by the records.
    let mut rig = Rig::over(script, 1);
    let first = rig.feeds.blocking_recv();
    assert!(matches!(first, Some(Feed::Assigned { .. })), "{first:?}");
    // The records are not taken, so there is no place for what follows.
    eventually(secs(20), "a second poll begins", || {
        let begun = rig.script(|script| script.polls_begun.clone());
        ensure(begun.len() > 1, format!("{begun:?}"))
    });
    let is_held = rig.script(|script| script.polls_begun[1]);
    assert!(is_held, "the stream is waited for until it is held");
    let is_loaded = |feed: &Feed| matches!(feed, Feed::Loaded { .. });
    eventually(secs(20), "the topic is loaded", || {
        ensure(rig.told().iter().any(is_loaded), "not yet")
    });
}

/// No poll is without records.
fn a_topic_that_ends_with_markers_finishes_loading_beside_a_busy_one() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 5 }],
        at_end: Some(3),
        polls: [Poll::Records(vec![0, 1, 2]), Poll::Others("busy")].into(),
        ..Script::default()
    };
    let mut rig = Rig::of_topics(script, 1024, &["busy", "t"]);
    eventually(secs(20), "it is loaded", || {
        while let Ok(feed) = rig.feeds.try_recv() {
            if matches!(&feed, Feed::Loaded { topic } if &**topic == "t") {
                return Ok(());
            }
        }
        Err("not yet")
    });
}

fn a_partition_without_a_leader_does_not_delay_others() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 2 }, Bounds { low: 3, high: 9 }],
        leaderless: vec![1],
        polls: [Poll::Records(vec![0, 1])].into(),
        ..Script::default()
    };
    let mut rig = Rig::over(script, 1024);
    assert_eq!(rig.offsets(2), [0, 1], "the other is read");
    assert_eq!(rig.assigned(1), [[0, BEGINNING]]);
    let degraded = || rig.status.snapshot().degraded;
    eventually(secs(20), "it is named", || {
        ensure(
            degraded() == ["kafka: topic \"t\": no leader answers for partitions [1]"],
            format!("{:?}", degraded()),
        )
    });
    rig.script(|script| script.leaderless.clear());
    assert_eq!(rig.assigned(2)[1], [2, 3], "from its first record on");
    eventually(secs(20), "it is well again", || {
        ensure(degraded().is_empty(), format!("{:?}", degraded()))
    });
}

fn a_partition_with_a_late_leader_is_read_from_its_end_at_that_time() {
    for (begin, at, from, live) in [
        (StartOffset::BeforeEnd(100), None, 9, 9),
        (StartOffset::BeforeEnd(100), Some(7), 7, 7),
        // Offsets that do not exist any more, or not yet, are not live.
        (StartOffset::BeforeEnd(100), Some(1), 3, 3),
        (StartOffset::BeforeEnd(100), Some(12), 9, 9),
        (StartOffset::Earliest, Some(7), 3, 7),
    ] {
        let script = Script {
            bounds: vec![Bounds { low: 0, high: 2 }, Bounds { low: 3, high: 9 }],
            leaderless: vec![1],
            at,
            ..Script::default()
        };
        let mut rig = Rig::beginning(begin, script);
        assert_eq!(rig.assigned(1), [[0, BEGINNING]]);
        rig.script(|script| script.leaderless.clear());
        assert_eq!(rig.assigned(2)[1], [0, from], "{begin:?} {at:?}");
        let told = rig.told();
        let begun = told.iter().find_map(|feed| match feed {
            Feed::Begun { partition, at, .. } => Some((*partition, *at)),
            _ => None,
        });
        assert_eq!(begun, Some((1, live)), "{begin:?} {at:?}");
    }
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
    let told = rig.told();
    assert!(
        !told.iter().any(|feed| matches!(feed, Feed::Recreated { .. })),
        "{told:?}"
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
    // The new topic is smaller, and which it is nobody says yet.
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
    let told = rig.told();
    assert!(
        !told.iter().any(|feed| matches!(feed, Feed::Recreated { .. })),
        "{told:?}"
    );
}

fn a_stalled_partition_replaces_the_client() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 3 }],
        polls: [Poll::Records(vec![0, 1, 2])].into(),
        reconnects: true,
        ..Script::default()
    };
    let mut rig = Rig::over(script, 1024);
    rig.offsets(3);
    let connects = |rig: &Rig| rig.script(|script| script.connects.len());
    // As far as is known it has everything.
    rig.script(|script| script.end = Some(3));
    rig.script(|script| script.polls.push_back(Poll::Records(vec![3])));
    rig.offsets(1);
    assert_eq!(connects(&rig), 1);
    // There is more, and it does not come.
    rig.script(|script| script.end = Some(9));
    eventually(secs(20), "another client is taken", || {
        ensure(connects(&rig) == 2, connects(&rig).to_string())
    });
    rig.script(|script| {
        script.end = Some(5);
        script.polls.push_back(Poll::Records(vec![4]));
    });
    assert_eq!(rig.offsets(1), [4], "at our own offsets");
}

/// Although nothing is known to be missing: what is not fetched tells no new end.
fn a_partition_that_is_not_fetched_replaces_the_client() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 3 }],
        polls: [Poll::Records(vec![0, 1, 2])].into(),
        reconnects: true,
        is_idle: true,
        ..Script::default()
    };
    let mut rig = Rig::over(script, 1024);
    rig.offsets(3);
    let connects = |rig: &Rig| rig.script(|script| script.connects.len());
    eventually(secs(20), "another client is taken", || {
        ensure(connects(&rig) == 2, connects(&rig).to_string())
    });
    rig.script(|script| {
        script.is_idle = false;
        script.polls.push_back(Poll::Records(vec![3]));
    });
    assert_eq!(rig.offsets(1), [3], "at our own offsets");
}

/// Nothing can come of what is not there, and of what nobody leads.
fn a_partition_that_cannot_be_fetched_does_not_replace_the_client() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 3 }],
        polls: [Poll::Records(vec![0, 1, 2])].into(),
        reconnects: true,
        ..Script::default()
    };
    let mut rig = Rig::over(script, 1024);
    rig.offsets(3);
    let stands = |rig: &Rig, sign: &str| {
        eventually(secs(20), sign, || {
            let degraded = rig.status.snapshot().degraded.join("; ");
            ensure(degraded.contains(sign), degraded)
        });
        let told = rig.script(|script| {
            script.is_idle = true;
            script.tellings
        });
        eventually(secs(20), "it is told often", || {
            let tellings = rig.script(|script| script.tellings);
            ensure(tellings > told + 300, tellings.to_string())
        });
        assert_eq!(rig.script(|script| script.connects.len()), 1, "{sign}");
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

fn a_table_is_loaded_once_the_requested_ends_are_passed() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 3 }],
        id: TopicId::new(1),
        polls: [Poll::Records(vec![0, 1])].into(),
        ..Script::default()
    };
    let begun = Instant::now();
    let mut rig = Rig::of_table(script);
    rig.offsets(2);
    let asked = rig.script(|script| script.asked.len());
    eventually(secs(30), "its ends are asked for", || {
        ensure(rig.script(|script| script.asked.len()) > asked, "not yet")
    });
    let asked = Instant::now();
    // What comes behind the ends of that time is not waited for.
    rig.script(|script| {
        script.bounds[0].high = 100;
        script.polls.push_back(Poll::Records(vec![2]));
    });
    let mut told = Vec::new();
    eventually(secs(20), "that all was read is told", || {
        while let Ok(feed) = rig.feeds.try_recv() {
            match feed {
                Feed::Records(batch) => told.extend(batch.iter().map(|record| record.offset)),
                Feed::AtEnd { at, .. } => {
                    assert_eq!(told, [2], "behind the last of those records");
                    assert!(
                        (begun..asked).contains(&at),
                        "when it was asked, not when it was read"
                    );
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(format!("{told:?}"))
    });
}

/// A library may lose its way to brokers and go on reading, or not even that.
fn a_client_without_replies_is_replaced_once_another_gets_replies() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 4 }],
        polls: [Poll::Records(vec![0, 1, 2])].into(),
        reconnects: true,
        ..Script::default()
    };
    let mut rig = Rig::over(script, 1024);
    rig.offsets(3);
    let clients = |rig: &Rig| rig.script(|script| script.connects.len());
    // The first one that is tried beside it gets no answers either, so the first is kept.
    rig.script(|script| script.deaf = vec![1, 2]);
    eventually(secs(90), "another is tried", || {
        ensure(clients(&rig) == 2, clients(&rig).to_string())
    });
    assert_eq!(rig.script(|script| script.assigned.len()), 1);
    rig.script(|script| script.polls.push_back(Poll::Records(vec![3])));
    assert_eq!(rig.offsets(1), [3], "it is read on");
    // The next one gets them, and so does the one that then takes over.
    assert_eq!(rig.assigned_within(secs(90), 2), [[0], [4]]);
    assert_eq!(clients(&rig), 4);
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
    assert_eq!(rig.script(|script| script.connects.len()), 1);
    // Where all offsets are as they should be, it is the client's fault.
    rig.script(|script| script.polls.extend([Poll::Fail(gone()), Poll::Records(vec![9])]));
    assert_eq!(rig.offsets(1), [9]);
    assert_eq!(rig.script(|script| script.connects.len()), 2);
}

fn a_topic_with_another_id_is_read_from_its_beginning_at_any_offset() {
    let mut rig = Rig::identified();
    // It holds all offsets that were read, so nothing else tells it from the one that was.
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
    let told = rig.told();
    assert!(
        !told
            .iter()
            .any(|feed| matches!(feed, Feed::Recreated { .. } | Feed::Records(_))),
        "{told:?}"
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
    eventually(secs(20), "it is in trouble", || {
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

fn a_stop_takes_effect_while_a_channel_is_full() {
    let polls = (0..50).map(|number| Poll::Records(vec![number])).collect();
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 50 }],
        polls,
        ..Script::default()
    };
    let mut rig = Rig::over(script, 2);
    eventually(secs(20), "the channel is full", || {
        ensure(rig.feeds.len() == 2, rig.feeds.len().to_string())
    });
    let thread = rig.tail.take().expect("it runs").stop();
    rig.feeds.close();
    while rig.feeds.try_recv().is_ok() {}
    assert!(thread.join().is_ok());
}
