//! The records of the log that a group's filter selects for one of its readers.

use bytes::Bytes;

use super::group::{Group, Selected};
use super::log::{Log, Read, Sequence};
use super::pieces::PIECE;
use super::position::Position;
use crate::sse::write;

/// The result of a selection for a reader.
pub(super) enum Selection {
    /// Frames, with the number of the last record shown.
    Read(Read, Sequence),
    /// Records up to this one must be looked through first.
    Look(Sequence),
}

fn selection(selected: Selected, frames: Bytes, count: u64, shown: Sequence) -> Selection {
    match selected {
        Selected::Until(next) => Selection::Read(Read::Frames(frames, next, count), shown),
        Selected::Evicted => Selection::Read(Read::Evicted, shown),
        Selected::Unknown(until) => Selection::Look(until),
    }
}

/// The group's matches from `cursor` on. One alone, as it is in live reading, is a slice of its block;
/// several are copied together, for one write.
pub(super) fn select(log: &Log, group: &Group, cursor: Sequence) -> Selection {
    let next = log.next();
    if cursor >= next {
        return Selection::Read(Read::AtHead, 0);
    }
    let (mut alone, mut together, mut shown, mut count) = (Bytes::new(), Vec::new(), 0, 0);
    let selected = group.select(cursor, next, |found| {
        let frame = log.frame(found.sequence).ok_or(())?;
        if !alone.is_empty() {
            together.extend_from_slice(&std::mem::take(&mut alone));
        }
        shown = found.sequence;
        count += 1;
        match &found.delete {
            None if together.is_empty() => alone = frame,
            None => together.extend_from_slice(&frame),
            Some(delete) => {
                together.extend_from_slice(write::id_line(&frame));
                together.extend_from_slice(delete);
            }
        }
        Ok(alone.len() + together.len() < PIECE)
    });
    let frames = if together.is_empty() {
        alone
    } else {
        together.into()
    };
    selection(selected, frames, count, shown)
}

/// The same for a reader with a position of its own.
pub(super) fn select_wanted(
    log: &Log,
    group: &Group,
    cursor: Sequence,
    wanted: &mut Position,
    scratch: &mut Vec<u8>,
) -> Selection {
    let next = log.next();
    if cursor >= next {
        return Selection::Read(Read::AtHead, 0);
    }
    let (mut out, mut shown, mut count) = (Vec::new(), 0, 0);
    let selected = group.select(cursor, next, |found| {
        shown = found.sequence;
        let before = out.len();
        if log.write_wanted(found.sequence, found.delete.as_deref(), wanted, scratch, &mut out) {
            count += u64::from(out.len() > before);
            Ok(out.len() < PIECE)
        } else {
            Err(())
        }
    });
    selection(selected, out.into(), count, shown)
}
