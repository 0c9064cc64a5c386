//! Where records from a position on are read: in the log, in the table, or from Kafka.
//!
//! Makes decisions only, because the stream's state is locked: it starts nothing.

use bytes::Bytes;

use super::control::Resets;
use super::log::Sequence;
use super::position::{BEGINNING, NOT_BEGUN, Position};
use super::scan::Scan;
use super::shared::Stream;
use super::state::StreamState;

/// Where a reader reads from.
#[derive(Debug)]
pub(super) enum ReadFrom {
    /// The log, from this record on.
    Log(Sequence),
    /// The log from this record on, without what the reader's own position has passed.
    LogBehind(Sequence, Position),
    /// The table, and then the log.
    Table(Box<Scan>),
    /// Kafka, and then the log.
    Kafka {
        from: Position,
        to: Position,
        /// The log's next record.
        joins_at: Sequence,
    },
}

impl ReadFrom {
    /// The id of that position, where the log has it.
    pub(super) fn id(&self, state: &StreamState) -> Option<Bytes> {
        match self {
            Self::Log(cursor) => state.log.id_before(*cursor),
            _ => None,
        }
    }
}

/// Where a reader of everything from `wanted` on reads: in the log if that holds it, otherwise in the table, otherwise
/// from Kafka. `id` is the very id of `wanted`, where a client brought one.
pub(super) fn read_from(
    (stream, is_filtered): (&Stream, bool),
    state: &StreamState,
    here: &Position,
    mut wanted: Position,
    id: Option<&str>,
) -> ReadFrom {
    let has_table = stream.settings().has_table();
    // The client has read nothing of such a partition: it gets the new records, or all rows.
    wanted.replace(NOT_BEGUN, |topic, partition| {
        if has_table {
            BEGINNING
        } else {
            state.live.next(topic, partition)
        }
    });
    let mut from = wanted.clone();
    from.start_at(&state.low);
    // The log does not say what a filter makes of a key's history; the table does. Of the stream's own filter it does,
    // unless the table had forgotten that a key was shown which no longer passes.
    let is_partial = is_filtered || stream.fixed().is_some() && stream.eviction_resets() > 0;
    let in_log = state
        .log
        .resume_point(&from)
        .filter(|_| !(has_table && is_partial));
    if let Some(cursor) = in_log {
        // The very event is in memory: it was this replica that made the id.
        let exact = id.and_then(|id| state.log.after_id(cursor, id.as_bytes()));
        return match exact {
            Some(cursor) => ReadFrom::Log(cursor),
            None if cursor == state.log.first() && state.log.begins_at(&from) => ReadFrom::Log(cursor),
            // Two replicas may have read the partitions of one key in another order: only the table says
            // which record is the latest, so a position that is not of this replica goes through it.
            None if is_in_table(stream, &wanted) => changes(from, wanted, state),
            // Or all that came since: it ends with the latest too, and holds the deletes.
            None if has_table => ReadFrom::Log(cursor),
            None => ReadFrom::LogBehind(cursor, from),
        };
    }
    if has_table {
        return changes(from, wanted, state);
    }
    if stream.history().is_none() {
        return ReadFrom::Log(state.log.first());
    }
    ReadFrom::Kafka {
        from: wanted,
        to: here.clone(),
        joins_at: state.log.next(),
    }
}

/// Whether the stream keeps a table that still has all that happened since `wanted`.
pub(super) fn is_in_table(stream: &Stream, wanted: &Position) -> bool {
    stream
        .read_table()
        .is_some_and(|table| table.knows_all_since(wanted, stream.now()))
}

/// Snapshots that begin within so many seconds claim to know the same deletes, so that their ids are equal and their
/// readers share pieces of the table. The positions of live readers are not more exact.
const AS_OF_STEP: u64 = 30;

/// The whole table.
pub(super) fn snapshot(stream: &Stream, state: &StreamState, here: &Position) -> ReadFrom {
    // Records that were deleted before this replica began to read cannot be resumed from.
    let mut position = here.at_beginning();
    position.start_at(&state.low);
    let now = stream.now();
    let known = stream.read_table().map_or(0, |table| table.deletes_since);
    position.as_of = Some((now - now % AS_OF_STEP).max(known.min(now)));
    let until = state.log.next();
    ReadFrom::Table(Box::new(Scan {
        deletes_from: until,
        ..Scan::new(0, until, position, state.named_epochs())
    }))
}

/// The table's rows since `cursor`, for a reader that has read the log up to there, to `position` at least; and the
/// resets since then.
pub(super) fn scan_since(state: &StreamState, cursor: Sequence, mut position: Position) -> (Scan, Resets) {
    let resets = state.start_over_since(cursor, &mut position, 0);
    let scan = Scan {
        is_conflated: true,
        ..Scan::new(cursor, state.log.next(), position, state.named_epochs())
    };
    (scan, resets)
}

/// The table's rows that are newer than `wanted`.
fn changes(position: Position, wanted: Position, state: &StreamState) -> ReadFrom {
    let cursor = state.log.walk_point(&wanted);
    ReadFrom::Table(Box::new(Scan {
        wanted,
        ..Scan::new(cursor, state.log.next(), position, state.named_epochs())
    }))
}
