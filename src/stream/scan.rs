//! How rows of the table are shown to readers that scan through it.
//!
//! A scan follows the numbers of rows, over the rows of all topics at once, and reads a piece at a time. It does not
//! depend on the reader's phase before and after it.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::sync::Arc;

use super::encode::Encoder;
use super::filter::Matcher;
use super::log::Sequence;
use super::position::Position;
use super::row::Row;
use super::shared_pieces::SharedPieces;
use super::table::Table;
use super::truncation::LogEpochs;
use crate::kafka::record::{Record, Stamp};

/// Most rows between two ids that a reader can resume from.
const ROWS_PER_ID: usize = 100;

/// Rows until the next one with an id, behind one that has one.
const LAST_WITH_ID: usize = ROWS_PER_ID - 1;

/// Rows examined before the table is unlocked for others, shown or not.
const ROWS_AT_ONCE: usize = 4096;

/// Rows that can be examined in the time that matching one against a filter takes.
const COST_OF_ASKING: usize = 15;

impl Table {
    /// Appends rows from `scan` on to `out`, as `show` writes them, until about `limit` bytes are written. Returns
    /// whether there may be more.
    pub(super) fn read(&self, scan: &mut Scan, limit: usize, show: &mut Show<'_>, out: &mut Vec<u8>) -> bool {
        let mut budget = ROWS_AT_ONCE;
        // While the reader scans, a record that does not pass may move a row from ahead of it to behind `until`. If the
        // record that it replaces did not pass either, the log brings no delete, although the reader may hold an older
        // one that passed. So the scan goes on to the end of the table, and shows such rows as deletes; what passes
        // comes from the log.
        let is_secret = show.matcher.is_some_and(Matcher::is_secret);
        let end = if show.matcher.is_some() && !is_secret && scan.may_hold_rows() {
            Sequence::MAX
        } else {
            scan.until
        };
        for (sequence, row) in self.merged(scan.cursor, end) {
            if budget == 0 {
                return true;
            }
            budget -= 1;
            scan.cursor = sequence + 1;
            let origin = row.origin();
            if origin.offset < scan.wanted.next(usize::from(origin.topic), origin.partition) {
                continue;
            }
            let is_in_log = sequence >= scan.until;
            if !is_in_log {
                scan.pass(usize::from(origin.topic), origin.partition, origin.offset);
            }
            let candidate = row.candidate();
            let mut is_delete = candidate.is_tombstone;
            let mut is_hidden = false;
            if let Some(matcher) = show.matcher {
                if !matcher.concerns(origin.topic, candidate.key) {
                    continue;
                }
                if !is_delete {
                    budget = budget.saturating_sub(COST_OF_ASKING);
                    is_hidden = !matcher.accepts(&candidate);
                    is_delete = is_hidden;
                }
            }
            if is_delete && (is_secret || sequence < scan.deletes_from) || is_in_log && !is_hidden {
                continue;
            }
            let is_held = |held: &[(u16, u64)]| held.binary_search(&(origin.topic, candidate.key)).is_ok();
            if is_hidden && !scan.held.as_deref().is_none_or(is_held) {
                continue;
            }
            let before = out.len();
            // The first row has an id too, so that a client that disconnects after it can resume.
            if scan.rows_to_id == 0 {
                out.extend_from_slice(b"id: ");
                scan.position.write_id(&mut show.scratch, out);
                out.push(b'\n');
            }
            if !is_hidden {
                out.extend_from_slice(candidate.frame);
            } else if !show.write_delete(row, out) {
                out.truncate(before);
                continue;
            }
            show.shown += 1;
            scan.rows_to_id = scan.rows_to_id.checked_sub(1).unwrap_or(LAST_WITH_ID);
            if out.len() >= limit {
                return true;
            }
        }
        scan.cursor = scan.cursor.max(scan.until);
        false
    }

    /// The rows of all topics in the order of their numbers, from `from` up to but not including `until`.
    pub(super) fn merged(&self, from: Sequence, until: Sequence) -> impl Iterator<Item = (Sequence, &Row)> {
        let rows = self.topics.iter().map(|rows| rows.range(from, until).peekable());
        let mut topics: Vec<_> = rows.collect();
        let first = (0..).zip(&mut topics);
        let first = first.filter_map(|(topic, rows)| Some(Reverse((rows.peek()?.0, topic))));
        let mut heads: BinaryHeap<Reverse<(Sequence, usize)>> = first.collect();
        std::iter::from_fn(move || {
            let mut head = heads.peek_mut()?;
            let Reverse((next, topic)) = &mut *head;
            let rows = &mut topics[*topic];
            let row = rows.next();
            match rows.peek() {
                Some((sequence, _)) => *next = *sequence,
                None => {
                    PeekMut::pop(head);
                }
            }
            row
        })
    }
}

/// Writes rows for a reader.
pub(super) struct Show<'a> {
    /// The reader's filter. A row that does not match is shown as a delete: the reader may hold an older record of the
    /// key that did.
    pub matcher: Option<&'a Matcher>,
    /// Writes these deletes.
    pub encoder: Encoder,
    /// The names of the stream's topics.
    pub topics: &'a [String],
    /// A buffer for ids.
    pub scratch: Vec<u8>,
    /// How many rows were shown.
    pub shown: u64,
}

impl Show<'_> {
    /// Returns false where the key cannot be shown: then the reader has never seen it.
    fn write_delete(&mut self, row: &Row, out: &mut Vec<u8>) -> bool {
        let origin = row.origin();
        let stamp = Stamp {
            partition: origin.partition,
            offset: origin.offset,
            timestamp: origin.timestamp,
        };
        let Some(topic) = self.topics.get(usize::from(origin.topic)) else {
            return false;
        };
        let record = Record::tombstone(topic, stamp, Some(row.key()));
        self.encoder.write_body(&record, out).is_ok()
    }
}

/// The state of a reader's scan through the table.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    /// The number of the next row to examine.
    pub cursor: Sequence,
    /// Where the scan ends and the log begins.
    pub until: Sequence,
    /// Rows before this position are known to the reader.
    pub wanted: Position,
    /// Deletes with lower numbers are skipped: the reader has never had those keys.
    pub deletes_from: Sequence,
    /// Whether the reader has rows already, and no position that says which: it fell off the log.
    pub is_conflated: bool,
    /// The position of the reader: the running maximum over the rows scanned. Exact, because rows come in the order of
    /// their numbers, and within a partition that is the order of offsets.
    pub position: Position,
    /// Rows until the next one with an id.
    pub rows_to_id: usize,
    /// The leader epochs of the rows, where ids name them. All rows below `until` were read before the scan began.
    pub epochs: Option<Arc<LogEpochs>>,
    /// The keys, by topic and hash and in this order, of which the reader may hold records although a filter keeps the
    /// latest from it; `None` where these may be any.
    pub held: Option<Box<[(u16, u64)]>>,
    /// The pieces that it shares with other readers, once it has read one.
    pub pieces: Option<Arc<SharedPieces>>,
}

impl Scan {
    /// A scan of all rows from `cursor` up to `until`, for a reader at `position`.
    pub(super) fn new(
        cursor: Sequence,
        until: Sequence,
        position: Position,
        epochs: Option<Arc<LogEpochs>>,
    ) -> Self {
        Self {
            cursor,
            until,
            wanted: Position::default(),
            deletes_from: 0,
            is_conflated: false,
            position,
            rows_to_id: 0,
            epochs,
            held: None,
            pieces: None,
        }
    }

    /// Moves the reader behind a row.
    fn pass(&mut self, topic: usize, partition: u32, offset: i64) {
        self.position.pass(topic, partition, offset);
        let Some(epochs) = &self.epochs else { return };
        if self.position.next(topic, partition) == offset.saturating_add(1)
            && let Some(position) = self.position.topics.get_mut(topic)
        {
            position.set_mark(partition as usize, epochs.mark(topic, partition, offset));
        }
    }

    /// Whether the last row that was shown has no id.
    pub(super) fn lacks_id(&self) -> bool {
        !matches!(self.rows_to_id, 0 | LAST_WITH_ID)
    }

    /// Whether the reader gets every row that is no delete, as others do: it holds none yet.
    pub(super) fn wants_all_rows(&self) -> bool {
        self.wanted.topics.is_empty() && self.deletes_from >= self.until && !self.is_conflated
    }

    /// Whether the reader may hold older records of the keys that it scans through.
    fn may_hold_rows(&self) -> bool {
        self.deletes_from < self.until
    }
}
