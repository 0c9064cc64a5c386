//! Notices: control events that the log holds between records, for all readers.

use super::block::{Builder, Kind};
use super::control::{Control, Gap, GapReason, Reset};
use super::position::Position;

/// A stream has far fewer topics: their names alone would fill an id.
pub(super) fn to_u16(topic: usize) -> u16 {
    u16::try_from(topic).unwrap_or(u16::MAX)
}

/// Appends a `reset` of one topic.
pub(super) fn append_reset(
    position: &Position,
    topic: usize,
    reason: Reset,
    topics: &[String],
    out: &mut Builder,
) {
    let topic_name = topics.get(topic).map(String::as_str);
    let event = Control::Reset {
        reason,
        topic: topic_name,
    };
    out.frame().extend_from_slice(&event.frame(Some(&position.id())));
    out.finish_notice(Kind::Reset, to_u16(topic), 0, 0);
}

/// Appends a `gap` for each partition of a topic of which retention has deleted a range of offsets, with the position
/// behind it. Returns these partitions.
pub(super) fn append_expired(
    position: &mut Position,
    topic: usize,
    ranges: impl IntoIterator<Item = (u32, i64, i64)>,
    topics: &[String],
    out: &mut Builder,
) -> Vec<u32> {
    let mut partitions = Vec::new();
    for (partition, from, to) in ranges {
        // A partition that has not begun misses nothing.
        if from < 0 || from >= to {
            continue;
        }
        let gap = Gap {
            reason: GapReason::Expired,
            topic,
            partition,
            from,
            to,
        };
        // One at a time: the id that goes with it must not claim others.
        position.pass(topic, partition, to - 1);
        let event = Control::Gap { gap: &gap, topics };
        out.frame().extend_from_slice(&event.frame(Some(&position.id())));
        out.finish_notice(Kind::Gap, to_u16(topic), partition, to - 1);
        partitions.push(partition);
    }
    partitions
}

/// Appends the `gap` of a truncated log; `position` is where the partition continues behind it.
pub(super) fn append_truncated(gap: &Gap, position: &Position, topics: &[String], out: &mut Builder) {
    let event = Control::Gap { gap, topics };
    out.frame().extend_from_slice(&event.frame(Some(&position.id())));
    out.finish_notice(Kind::Cut, to_u16(gap.topic), gap.partition, gap.from);
}
