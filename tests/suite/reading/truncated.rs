//! The reading thread where the log of a partition was truncated below what was read.

use super::scripted::{Poll, Rig, Script};
use crate::harness::wait::{ensure, eventually, secs};
use crate::trials;
use kafka_sse_bridge::kafka::error::{ErrorKind, KafkaError, Location};
use kafka_sse_bridge::kafka::partition::{Bounds, Cut, Lost};
use kafka_sse_bridge::kafka::record::{Feed, TopicId};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        the_leaders_epoch_end_is_parsed_from_librdkafkas_messages,
        reading_returns_to_the_truncation_offset,
        read_epochs_show_where_logs_diverge,
        a_log_of_later_epochs_alone_is_read_from_its_beginning,
        a_truncated_topic_is_read_again_for_a_table,
        an_end_below_the_read_position_is_a_truncation_without_epochs,
        a_shorter_log_is_confirmed_by_the_leaders_epochs,
        a_truncated_partition_without_a_leader_replaces_the_client,
    ]
}

fn the_leaders_epoch_end_is_parsed_from_librdkafkas_messages() {
    // As `rd_kafka_toppar_handle_OffsetForLeaderEpoch` and `rd_kafka_offset_reset` of librdkafka 2.12.1 write them.
    let text = "Partition log truncation detected at offset 50 (leader epoch 3): broker end offset is 10 (offset leader \
                epoch 2). Reset to INVALID.: Local: Partition log truncation detected (broker 2)";
    assert_eq!(Cut::from_text(text), Some(Cut::Diverged { epoch: 2, end: 10 }));
    let text = "No epoch found less or equal to offset 50 (leader epoch 3): broker end offset is -1 (offset leader epoch \
                -1). Reset using configured policy.: Local: Partition log truncation detected (broker 2)";
    assert_eq!(Cut::from_text(text), Some(Cut::Unrelated));
    let text = "fetch failed due to requested offset not available on the broker: Broker: Offset out of range (broker 1)";
    assert_eq!(Cut::from_text(text), None);
    assert_eq!(
        Cut::from_text("broker end offset is x (offset leader epoch y)"),
        None
    );
    assert_eq!(Cut::from_text(""), None);
}

/// The message about partition 0 of `t`.
fn lost(cut: Option<Cut>) -> Poll {
    let kind = ErrorKind::OutOfRange {
        reason: "scripted".to_owned(),
        lost: vec![Lost {
            topic: "t".into(),
            partition: 0,
            cut,
        }],
    };
    let at = Location::partition("t", 0);
    Poll::Fail(KafkaError::new(&"b:1".into(), kind).located(at))
}

/// A topic whose id is known, read up to 9 under the epochs 2, 4 and 5.
fn script() -> Script {
    Script {
        bounds: vec![Bounds { low: 0, high: 9 }],
        id: TopicId::new(1),
        polls: [
            Poll::RecordsOf(2, (0..3).collect()),
            Poll::RecordsOf(4, (3..6).collect()),
            Poll::RecordsOf(5, (6..9).collect()),
        ]
        .into(),
        ..Script::default()
    }
}

type Truncated = (i64, Option<u32>, Option<u32>);

/// The truncations and record offsets of these polls when the log ends at `high`.
fn after(rig: &mut Rig, high: i64, polls: Vec<Poll>, count: usize) -> (Vec<Truncated>, Vec<i64>) {
    rig.offsets(9);
    rig.script(|script| {
        script.bounds[0].high = high;
        script.polls.extend(polls);
    });
    let (mut truncated, mut offsets) = (Vec::new(), Vec::new());
    eventually(secs(30), "the records come", || {
        for feed in rig.received() {
            match feed {
                Feed::Truncated {
                    from, epoch, lost, ..
                } => truncated.push((from, epoch, lost)),
                Feed::Records(batch) => offsets.extend(batch.iter().map(|record| record.offset)),
                Feed::Recreated { .. } => panic!("the topic is the same"),
                _ => {}
            }
        }
        ensure(offsets.len() >= count, format!("{truncated:?} {offsets:?}"))
    });
    (truncated, offsets)
}

fn reading_returns_to_the_truncation_offset() {
    // The log has grown past the offset, so that only the epoch shows the truncation.
    let mut rig = Rig::over(script(), 1024);
    let polls = vec![
        lost(Some(Cut::Diverged { epoch: 5, end: 7 })),
        Poll::RecordsOf(6, (7..20).collect()),
    ];
    let (truncated, offsets) = after(&mut rig, 20, polls, 13);
    assert_eq!(truncated, [(7, Some(5), Some(5))]);
    assert_eq!(offsets, (7..20).collect::<Vec<i64>>());
    assert_eq!(rig.assigned(2), [[0], [7]]);
    assert_eq!(rig.script(|script| script.connects.len()), 1);
    // The same once more, and again.
    for (from, epoch) in [(15, 7), (12, 8)] {
        rig.script(|script| {
            script.polls.extend([
                lost(Some(Cut::Diverged {
                    epoch: epoch - 1,
                    end: from,
                })),
                Poll::RecordsOf(epoch, (from..20).collect()),
            ]);
        });
        assert_eq!(rig.offsets(1)[0], from);
    }
    assert_eq!(rig.script(|script| script.connects.len()), 1);
}

fn read_epochs_show_where_logs_diverge() {
    // Two unclean elections: the leader has an epoch 3 that was never read, and ends there above what is shared.
    let mut rig = Rig::over(script(), 1024);
    let polls = vec![
        lost(Some(Cut::Diverged { epoch: 3, end: 5 })),
        Poll::RecordsOf(3, vec![3, 4]),
    ];
    let (truncated, offsets) = after(&mut rig, 20, polls, 2);
    assert_eq!(truncated, [(3, Some(2), Some(5))]);
    assert_eq!(offsets, [3, 4]);
}

fn a_log_of_later_epochs_alone_is_read_from_its_beginning() {
    let mut rig = Rig::over(script(), 1024);
    let polls = vec![lost(Some(Cut::Unrelated)), Poll::RecordsOf(9, vec![0, 1])];
    let (truncated, offsets) = after(&mut rig, 2, polls, 2);
    assert_eq!(truncated, [(0, None, Some(5))]);
    assert_eq!(offsets, [0, 1]);
}

fn a_truncated_topic_is_read_again_for_a_table() {
    let mut rig = Rig::with_table(script());
    let polls = vec![
        lost(Some(Cut::Diverged { epoch: 5, end: 7 })),
        Poll::RecordsOf(2, (0..7).collect()),
        Poll::RecordsOf(6, vec![7]),
    ];
    let (truncated, offsets) = after(&mut rig, 8, polls, 8);
    assert_eq!(truncated, [(7, Some(5), Some(5))]);
    assert_eq!(offsets, (0..8).collect::<Vec<i64>>());
    assert_eq!(rig.assigned(2), [[0], [0]]);
}

/// As the `kafka` crate reports it: the topic is the same by its id, and its end lies before the offset.
fn an_end_below_the_read_position_is_a_truncation_without_epochs() {
    let script = Script {
        polls: [Poll::Records((0..9).collect())].into(),
        ..script()
    };
    let mut rig = Rig::over(script, 1024);
    let polls = vec![lost(None), Poll::Records(vec![5, 6])];
    let (truncated, offsets) = after(&mut rig, 5, polls, 2);
    assert_eq!(truncated, [(5, None, None)]);
    assert_eq!(offsets, [5, 6]);
    assert_eq!(rig.script(|script| script.connects.len()), 1);
}

fn a_shorter_log_is_confirmed_by_the_leaders_epochs() {
    let mut rig = Rig::over(script(), 1024);
    // The next client reports what the leader answers.
    let polls = vec![
        lost(None),
        lost(Some(Cut::Diverged { epoch: 5, end: 7 })),
        Poll::RecordsOf(6, vec![7]),
    ];
    let (truncated, _) = after(&mut rig, 8, polls, 1);
    assert_eq!(truncated, [(7, Some(5), Some(5))]);
    assert_eq!(rig.script(|script| script.connects.len()), 2);
    // A broker that cannot be asked is believed the second time.
    let mut rig = Rig::over(script(), 1024);
    let polls = vec![lost(None), lost(None), Poll::RecordsOf(6, vec![8])];
    let (truncated, _) = after(&mut rig, 8, polls, 1);
    assert_eq!(truncated, [(8, Some(5), Some(5))]);
    assert_eq!(rig.script(|script| script.connects.len()), 2);
}

fn a_truncated_partition_without_a_leader_replaces_the_client() {
    let mut rig = Rig::over(script(), 1024);
    rig.offsets(9);
    rig.script(|script| {
        script.leaderless = vec![0];
        script
            .polls
            .push_back(lost(Some(Cut::Diverged { epoch: 5, end: 7 })));
    });
    eventually(secs(20), "another client is built", || {
        ensure(rig.script(|script| script.connects.len()) >= 2, "not yet")
    });
    rig.script(|script| script.leaderless.clear());
    assert!(
        !rig.received()
            .iter()
            .any(|feed| matches!(feed, Feed::Truncated { .. }))
    );
}
