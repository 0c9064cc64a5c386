//! Throttled readers of a table: when the next records are due, and where they are read.

use std::time::{Duration, Instant};

use super::group::Group;
use super::log::{Log, Sequence};
use super::position::Position;
use super::shared::Stream;
use super::state::StreamState;
use super::waiters::Ticket;

/// Most records of an interval of a throttled reader in which it is looked up which keys have ceased to pass its
/// filter, and most of these keys: the log is locked meanwhile, for less than a millisecond. Beyond that, a delete is
/// sent for every key that has changed and does not pass.
const MOST_RECORDS: u64 = 1 << 16;
const MOST_DELETES: usize = 4096;

/// Whether a reader may read on, once it has read what it began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// It is not throttled.
    None,
    /// The next records are not due.
    Closed,
    /// They are due: for each key the latest.
    Due,
}

/// The pace of a throttled reader.
#[derive(Debug)]
pub(super) struct Throttle {
    /// The shortest time between two values of a key.
    pub(super) interval: Duration,
    /// When the reader was last sent records, or might have been.
    pub(super) last: Option<Instant>,
    /// Whether there are some that are not due.
    pub(super) is_holding: bool,
    pub(super) ticket: Ticket,
}

impl Throttle {
    /// The pace of a reader that has been sent nothing.
    pub(super) fn new(interval: Duration, stream: &Stream) -> Self {
        Self {
            interval,
            last: None,
            is_holding: false,
            ticket: stream.audience().throttled().enter(),
        }
    }

    /// When the next records are due; `None` before the first.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.last? + self.interval)
    }

    /// Whether the next records are due at `now`.
    pub(super) fn gate(&self, now: Instant) -> Gate {
        if self.due().is_some_and(|due| now < due) {
            Gate::Closed
        } else {
            Gate::Due
        }
    }
}

/// The part of the log that a throttled reader was sent.
#[derive(Debug, Default)]
pub(super) struct Release {
    /// Up to which record it reads the log all the same.
    until: Sequence,
    /// The notices and records without a key in the log when it was last given something.
    only_in_log: u64,
}

/// Where a throttled reader reads what came since its last release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReleaseFrom {
    /// In the log, up to its end.
    Log,
    /// In the table, which has the latest record of each key.
    Table,
    /// Neither has it: the reader begins again.
    Nowhere,
}

impl Release {
    /// Earlier announcements of the log do not concern a reader that begins.
    pub(super) fn begin(&mut self, state: &StreamState) {
        self.only_in_log = state.only_in_log();
    }

    /// Whether a reader at this record waits for its next release.
    pub(super) fn holds(&self, cursor: Sequence, gate: Gate) -> bool {
        gate != Gate::None && cursor >= self.until
    }

    /// Gives the reader, at `cursor` and `position`, what came since: from the table. Notices and records without a key
    /// are in the log alone, a full table may lack keys, and it does not say what a reader that `is_secret` may learn:
    /// then all that came is read from the log, if it reaches back.
    pub(super) fn release(
        &mut self,
        stream: &Stream,
        state: &StreamState,
        (cursor, position): (Sequence, &Position),
        is_secret: bool,
    ) -> ReleaseFrom {
        let only_in_log = state.only_in_log();
        let before = std::mem::replace(&mut self.only_in_log, only_in_log);
        let table = stream.read_table();
        let is_lost =
            table.is_none_or(|table| table.has_lost_since(cursor) || !table.has_kept_since(position));
        let is_lost = is_lost || is_secret;
        if cursor >= state.log.first() && (is_lost || before != only_in_log) {
            self.until = state.log.next();
            ReleaseFrom::Log
        } else if is_lost {
            ReleaseFrom::Nowhere
        } else {
            ReleaseFrom::Table
        }
    }
}

/// The keys of which a record since `cursor` was a delete, or the first that does not pass the filter of the reader's
/// group, by topic and hash: of all others whose latest record does not pass, the reader holds none. `None` where that
/// is not known.
pub(super) fn held_keys(group: &Group, log: &Log, cursor: Sequence) -> Option<Box<[(u16, u64)]>> {
    let until = log.next();
    if until.saturating_sub(cursor) > MOST_RECORDS {
        return None;
    }
    let mut keys = log.deleted_keys(cursor, until)?;
    for sequence in group.deletes(cursor, until, MOST_DELETES)? {
        keys.push(log.key_of(sequence)?);
    }
    keys.sort_unstable();
    Some(keys.into())
}
