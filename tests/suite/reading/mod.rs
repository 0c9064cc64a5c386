//! The reading thread over a scripted client: it delivers every record once, whatever the client does, and ignores
//! implausible offsets.

mod client_replacement;
mod scripted;
mod topic_ids;
mod truncated;

use crate::harness::wait::{ensure, eventually, secs};
use crate::trials;
use kafka_sse_bridge::kafka::partition::Bounds;
use kafka_sse_bridge::kafka::reader::StartOffset;
use kafka_sse_bridge::kafka::record::{BEGINNING, Feed, TopicId};
use libtest_mimic::Trial;
use std::time::Instant;

pub use self::scripted::{Poll, Rig};
use self::scripted::{Script, unreachable};

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        records_read_before_an_error_are_delivered_once,
        reading_continues_after_records_that_left_kafka,
        an_end_below_the_read_position_is_confirmed_first,
        added_partitions_are_read_from_their_beginning,
        only_changed_offsets_are_requested,
        a_table_is_loaded_once_the_requested_ends_are_passed,
        the_lag_falls_with_a_load_before_the_client_reports_an_end,
        a_blocked_stream_does_not_delay_others,
        polling_pauses_while_a_channel_is_full,
        a_topic_that_ends_with_markers_finishes_loading_beside_a_busy_one,
        a_partition_without_a_leader_does_not_delay_others,
        a_partition_with_a_late_leader_is_read_from_its_end_at_that_time,
        a_partition_begins_although_its_topic_is_not_identified_at_first,
        a_stop_takes_effect_while_a_channel_is_full,
    ];
    trials.extend(client_replacement::trials());
    trials.extend(topic_ids::trials());
    trials.extend(truncated::trials());
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
    eventually(secs(20), "the offsets are requested again", || {
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

/// A card of the page shows it beside the number of records read.
fn the_lag_falls_with_a_load_before_the_client_reports_an_end() {
    let mut rig = Rig::start(0, 10, Vec::new());
    let is_lag = |rig: &Rig, records: u64| {
        let lag: Vec<u64> = rig.status.lag().iter().map(|lag| lag.records).collect();
        ensure(lag == [records], format!("{lag:?} instead of {records}"))
    };
    eventually(secs(20), "it is known as of the start", || is_lag(&rig, 10));
    for (offsets, behind) in [(0..4, 6), (4..9, 1), (9..10, 0)] {
        let offsets: Vec<i64> = offsets.collect();
        rig.script(|script| script.polls.push_back(Poll::Records(offsets.clone())));
        assert_eq!(rig.offsets(offsets.len()), offsets);
        eventually(secs(20), "it has fallen", || is_lag(&rig, behind));
    }
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

/// A poll waits for records for 100 ms or more. What the poll before led to, such as a loaded topic, must not be delayed
/// until it returns.
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
    // The records are not consumed, so that the channel is full.
    eventually(secs(20), "a second poll begins", || {
        let begun = rig.script(|script| script.polls_begun.clone());
        ensure(begun.len() > 1, format!("{begun:?}"))
    });
    let is_held = rig.script(|script| script.polls_begun[1]);
    assert!(is_held, "the stream is waited for until it is held");
    let is_loaded = |feed: &Feed| matches!(feed, Feed::Loaded { .. });
    eventually(secs(20), "the topic is loaded", || {
        ensure(rig.received().iter().any(is_loaded), "not yet")
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
        let received = rig.received();
        let begun = received.iter().find_map(|feed| match feed {
            Feed::Begun { partition, at, .. } => Some((*partition, *at)),
            _ => None,
        });
        assert_eq!(begun, Some((1, live)), "{begin:?} {at:?}");
    }
}

/// The first answer with its leader lacks the topic's id, and the end of the other partition is one of a new leader,
/// which is late.
fn a_partition_begins_although_its_topic_is_not_identified_at_first() {
    let script = Script {
        bounds: vec![Bounds { low: 0, high: 3 }, Bounds { low: 3, high: 9 }],
        leaderless: vec![1],
        id: TopicId::new(1),
        polls: [Poll::Records(vec![0, 1, 2])].into(),
        ..Script::default()
    };
    let mut rig = Rig::over(script, 1024);
    rig.offsets(3);
    let asked = rig.script(|script| {
        script.id = None;
        script.bounds[0].high = 2;
        script.leaderless.clear();
        script.asked.len()
    });
    eventually(secs(20), "its leader has answered", || {
        ensure(rig.script(|script| script.asked.len()) > asked + 1, "not yet")
    });
    rig.script(|script| {
        script.id = TopicId::new(1);
        script.bounds[0].high = 3;
    });
    eventually(secs(20), "it is read from its first record on", || {
        let assigned = rig.script(|script| script.assigned.last().cloned());
        ensure(assigned == Some(vec![3, 3]), format!("{assigned:?}"))
    });
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
    // Records after the requested ends are not waited for.
    rig.script(|script| {
        script.bounds[0].high = 100;
        script.polls.push_back(Poll::Records(vec![2]));
    });
    let mut offsets = Vec::new();
    eventually(secs(20), "the end of the load is reported", || {
        while let Ok(feed) = rig.feeds.try_recv() {
            match feed {
                Feed::Records(batch) => offsets.extend(batch.iter().map(|record| record.offset)),
                Feed::AtEnd { at, .. } => {
                    assert_eq!(offsets, [2], "behind the last of those records");
                    assert!(
                        (begun..asked).contains(&at),
                        "when it was asked, not when it was read"
                    );
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(format!("{offsets:?}"))
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
    let thread = rig.reader.take().expect("it runs").stop();
    rig.feeds.close();
    while rig.feeds.try_recv().is_ok() {}
    assert!(thread.join().is_ok());
}
