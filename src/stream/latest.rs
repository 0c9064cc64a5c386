//! The latest table: the newest record of every key, ordered by last update.
//!
//! Pure data, like the [`log`](super::log), and numbered by the same sequence: a row bears the
//! number of the record that made it. A reader walks the rows by number; a row that is updated
//! meanwhile moves behind it, so that nothing is missed and nothing seen twice. Tombstones stay as
//! markers for a while, so that readers who come back hear of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::binary_heap::{BinaryHeap, PeekMut};

use super::encode::{Encoder, Invalid};
use super::filter::{Matcher, key_hash};
use super::log::Sequence;
use super::position::Position;
pub use super::row::{Origin, Row, Update};
use super::rows::Rows;
use crate::config::{StreamSettings, WhenFull};
use crate::kafka::record::{Record, Stamp};

/// At least every so many rows a reader is given an id to come back with.
const ROWS_PER_ID: usize = 100;

/// How much longer than promised (in seconds) deletes are remembered, for those who are on their way
/// through the table when the time is over.
const MARGIN: u64 = 600;

/// Rows looked at before the table is let go for others, shown or not.
const ROWS_AT_ONCE: usize = 4096;

/// Rows that could be looked at in the time in which one is held against a filter.
const COST_OF_ASKING: usize = 15;

/// Most rows that leave the table while its lock is held once: half a millisecond's work.
pub const ROWS_PER_HOLD: usize = 1024;

/// How large a table may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most keys, markers included.
    pub keys: usize,
    /// Most bytes, all told.
    pub bytes: usize,
    /// What happens there.
    pub when_full: WhenFull,
    /// How long, in seconds, deletes are remembered.
    pub delete_retention: u64,
}

impl From<&StreamSettings> for Bounds {
    fn from(settings: &StreamSettings) -> Self {
        Self {
            keys: usize::try_from(settings.max_keys).unwrap_or(usize::MAX),
            bytes: settings.max_table_bytes.as_len(),
            when_full: settings.when_full,
            delete_retention: settings.delete_retention.0.as_secs(),
        }
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is its key's latest.
    Taken,
    /// It is its key's latest; there was no place for it until the oldest keys had left.
    Evicted,
    /// Another partition holds a newer one, which is this.
    Older(Origin),
    /// There is no place for it, and its key is new.
    Refused,
    /// There is no place for it, and its key has left the table: what it had there is no longer true.
    Displaced,
}

/// What had to leave the table, or found no place in it, although it is its key's latest: rows, and deletes that are
/// remembered no longer.
#[derive(Debug, Default)]
struct Lost {
    /// Its last offset, by topic and partition: who has come by that has seen it.
    offsets: BTreeMap<(u16, u32), i64>,
    /// The last number of any.
    sequence: Sequence,
    /// The last number of any row that was in the table.
    row: Sequence,
}

impl Lost {
    /// A record that found no place.
    fn note(&mut self, sequence: Sequence, origin: &Origin) {
        self.sequence = self.sequence.max(sequence);
        let last = self.offsets.entry((origin.topic, origin.partition)).or_default();
        *last = origin.offset.max(*last);
    }

    /// A row that had to leave.
    fn note_row(&mut self, sequence: Sequence, origin: &Origin) {
        self.note(sequence, origin);
        self.row = self.row.max(sequence);
    }
}

/// The newest record of every key.
#[derive(Debug)]
pub struct Table {
    /// By topic: two topics may use the same key, and one that begins anew loses all its rows at once.
    topics: Vec<Rows>,
    /// Since when (unix seconds) all deletes are known that are still to be remembered.
    deletes_since: u64,
    lost: Lost,
    len: usize,
    cost: usize,
    /// The cost of the last record that found no place.
    unplaced: usize,
    /// The bound that the last record without a place met.
    met: &'static str,
    bounds: Bounds,
}

/// Rows that have left the table, and are still to be freed.
#[derive(Debug, Default)]
pub struct Cleared(Rows);

impl Cleared {
    /// Frees at most about `limit` rows. Returns whether there are more.
    pub fn free(&mut self, limit: usize) -> bool {
        self.0.free(limit)
    }
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            topics: Vec::new(),
            deletes_since: 0,
            lost: Lost::default(),
            len: 0,
            cost: 0,
            unplaced: 0,
            met: "",
            bounds,
        }
    }

    /// How many keys it holds, markers included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many keys have a latest record that cannot be shown, by cause.
    #[must_use]
    pub fn unusable(&self) -> [(Invalid, usize); Invalid::ALL.len()] {
        let count = |cause| self.topics.iter().map(|rows| rows.unusable(cause)).sum();
        Invalid::ALL.map(|cause| (cause, count(cause)))
    }

    /// Bytes held, all told.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Whether another key would be one too many, or a record like the last that found no place.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.reached().is_some()
    }

    /// The bounds that make it full, by their keys in the configuration.
    #[must_use]
    pub fn reached(&self) -> Option<&'static str> {
        self.bound_against(self.unplaced)
    }

    /// The bound that the last record without a place met.
    #[must_use]
    pub fn met(&self) -> &'static str {
        self.met
    }

    /// The latest record of a key, if it has one. A tombstone's marker is one too.
    #[must_use]
    pub fn row(&self, topic: u16, key: &[u8]) -> Option<&Row> {
        let rows = self.topics.get(usize::from(topic))?;
        rows.find(key_hash(Some(key)), key).map(|(_, row)| row)
    }

    /// Puts a record in under its number, in the place of its key's last one, which is handed back.
    pub fn apply(&mut self, sequence: Sequence, update: &Update<'_>) -> (Applied, Option<Row>) {
        let mut update = *update;
        let topic = usize::from(update.origin.topic);
        if self.topics.len() <= topic {
            self.topics.resize_with(topic + 1, Rows::default);
        }
        let hash = key_hash(Some(update.key));
        let known = self.topics[topic].find(hash, update.key);
        if let Some((_, row)) = known {
            let (origin, known) = (&mut update.origin, row.origin());
            if !origin.is_newer_than(&known) {
                return (Applied::Older(known), None);
            }
            // Times may go back within a partition. The latest it had is what others are compared with, or the
            // outcome would depend on the order in which a replica reads the partitions.
            if origin.partition == known.partition {
                origin.timestamp = origin.timestamp.max(known.timestamp);
            }
        }
        let known = known.map(|(known, _)| known);
        let previous = known.and_then(|known| self.remove(topic, known));
        let cost = Row::cost_of(&update);
        let mut applied = Applied::Taken;
        if let Some(met) = self.bound_against(cost) {
            self.met = met;
            // A record that even an empty table could not take says nothing about this one.
            let could_fit = cost <= self.bounds.bytes;
            if could_fit {
                self.unplaced = cost;
            }
            if !could_fit || self.bounds.when_full == WhenFull::RefuseNew {
                self.lost.note(sequence, &update.origin);
                let refused = if previous.is_some() {
                    Applied::Displaced
                } else {
                    Applied::Refused
                };
                return (refused, previous);
            }
            self.evict(cost);
            applied = Applied::Evicted;
        }
        self.len += 1;
        self.cost += cost;
        self.topics[topic].insert(sequence, Row::new(&update, hash));
        (applied, previous)
    }

    /// Whether one more row of this cost would be within the bounds.
    fn has_room(&self, cost: usize) -> bool {
        self.bound_against(cost).is_none()
    }

    /// The bound that one more row of this cost would exceed.
    fn bound_against(&self, cost: usize) -> Option<&'static str> {
        let (is_long, is_large) = (self.len >= self.bounds.keys, self.cost + cost > self.bounds.bytes);
        match (is_long, is_large) {
            (true, true) => Some("max_keys and max_table_bytes"),
            (true, false) => Some("max_keys"),
            (false, true) => Some("max_table_bytes"),
            (false, false) => None,
        }
    }

    /// Lets the oldest rows go until there is room for one of this cost, or [`ROWS_PER_HOLD`] have left.
    fn evict(&mut self, cost: usize) {
        for _ in 0..ROWS_PER_HOLD {
            if self.has_room(cost) {
                break;
            }
            // Few streams have more than a few topics.
            let firsts = self.topics.iter().enumerate();
            let oldest = firsts
                .filter_map(|(topic, rows)| Some((rows.first()?.0, topic)))
                .min();
            let Some((oldest, topic)) = oldest else { break };
            if let Some(row) = self.remove(topic, oldest) {
                self.lost.note_row(oldest, &row.origin());
            }
        }
    }

    fn remove(&mut self, topic: usize, sequence: Sequence) -> Option<Row> {
        let row = self.topics.get_mut(topic)?.remove(sequence)?;
        self.len -= 1;
        self.cost -= row.cost();
        Some(row)
    }

    /// Forgets everything about a topic, deletes included: it begins anew. The rows are to be freed when
    /// the table is not locked.
    #[must_use = "freeing millions of rows takes a second, in which nobody can read the table"]
    pub fn clear(&mut self, topic: u16) -> Cleared {
        self.lost.offsets.retain(|(of, _), _| *of != topic);
        let rows = self.topics.get_mut(usize::from(topic));
        let rows = rows.map(std::mem::take).unwrap_or_default();
        self.len -= rows.len();
        self.cost -= rows.cost();
        Cleared(rows)
    }

    /// Does a piece of what can wait: forgets deletes that were made longer ago than they are to be
    /// remembered (`now` in unix seconds), and lets the oldest rows go where the bounds have become
    /// smaller. Returns whether there is more to do.
    pub fn tidy(&mut self, now: u64) -> bool {
        if self.expire(now) {
            return true;
        }
        if self.bounds.when_full == WhenFull::EvictOldest && !self.is_within_bounds() {
            self.evict(0);
        }
        self.bounds.when_full == WhenFull::EvictOldest && !self.is_within_bounds()
    }

    fn is_within_bounds(&self) -> bool {
        self.len <= self.bounds.keys && self.cost <= self.bounds.bytes
    }

    /// Forgets deletes that were made longer ago than they are to be remembered, at most
    /// [`ROWS_PER_HOLD`]. `now` in unix seconds. Returns whether there may be more.
    pub fn expire(&mut self, now: u64) -> bool {
        let mut left = ROWS_PER_HOLD;
        for topic in 0..self.topics.len() {
            while let Some((deleted, sequence)) = self.topics[topic].oldest_marker()
                && deleted
                    .saturating_add(self.bounds.delete_retention)
                    .saturating_add(MARGIN)
                    < now
            {
                if left == 0 {
                    return true;
                }
                left -= 1;
                if let Some(row) = self.remove(topic, sequence) {
                    // Who has not come by it must not take the key for unchanged.
                    self.lost.note_row(sequence, &row.origin());
                }
            }
        }
        false
    }

    /// Changes how large it may become, and how long deletes are remembered. What is too much stays, but
    /// new keys find no place, or the place of others. `now` in unix seconds.
    pub fn set_bounds(&mut self, bounds: Bounds, now: u64) {
        // What was forgotten does not come back by being remembered for longer from now on.
        let known_since = now.saturating_sub(self.bounds.delete_retention);
        self.knows_nothing_before(known_since);
        self.bounds = bounds;
    }

    /// Says that nothing is known of what was deleted before `time` (unix seconds).
    pub fn knows_nothing_before(&mut self, time: u64) {
        self.deletes_since = self.deletes_since.max(time);
    }

    /// Says that the topics are loaded at `now` (unix seconds): deletes that are older than they are to be remembered
    /// may have been compacted before. Later ones are forgotten one by one, each with its offset.
    pub fn loaded(&mut self, now: u64) {
        self.knows_nothing_before(now.saturating_sub(self.bounds.delete_retention));
    }

    /// Whether the table has all that happened since a client left with this position: no delete since then was gone
    /// before it could be read, and nothing had to leave that it has not seen, deletes included. `now` in unix
    /// seconds: who claims to know of later deletes had them from a wrong clock.
    #[must_use]
    pub fn knows_all_since(&self, wanted: &Position, now: u64) -> bool {
        let knows_deletes = wanted
            .as_of
            .is_some_and(|as_of| as_of >= self.deletes_since && as_of <= now.saturating_add(MARGIN));
        knows_deletes && self.has_kept_since(wanted)
    }

    /// Whether nothing had to leave that a client with this position has not seen.
    #[must_use]
    pub fn has_kept_since(&self, wanted: &Position) -> bool {
        // Of a partition that it wants from its beginning it holds nothing.
        // Times decide nothing here: clocks may have been set back since.
        self.lost.offsets.iter().all(|(&(topic, partition), &last)| {
            let next = wanted.next(usize::from(topic), partition);
            next > last || next < 0
        })
    }

    /// Whether something had to leave that a reader at this record has not seen.
    #[must_use]
    pub fn has_lost_since(&self, cursor: Sequence) -> bool {
        self.lost.sequence >= cursor
    }

    /// Whether a row had to leave that a reader on its way has not come to, although it may show an older record of
    /// that key.
    #[must_use]
    pub fn has_overtaken(&self, walk: &Walk) -> bool {
        walk.is_conflated && self.lost.row >= walk.cursor
    }

    /// Appends rows from `walk` on to `out` until about `limit` bytes are there, as `show` has it.
    /// Returns whether there may be more.
    pub fn read(&self, walk: &mut Walk, limit: usize, show: &mut Show<'_>, out: &mut Vec<u8>) -> bool {
        let mut budget = ROWS_AT_ONCE;
        for (sequence, row) in self.merged(walk.cursor, walk.until) {
            if budget == 0 {
                return true;
            }
            budget -= 1;
            walk.cursor = sequence + 1;
            let origin = row.origin();
            if origin.offset < walk.wanted.next(usize::from(origin.topic), origin.partition) {
                continue;
            }
            walk.position
                .pass(usize::from(origin.topic), origin.partition, origin.offset);
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
            if is_delete && sequence < walk.deletes_from {
                continue;
            }
            let before = out.len();
            // The first row has one too: a client cut off after it must not come back as a stranger.
            if walk.rows_to_id == 0 {
                out.extend_from_slice(b"id: ");
                walk.position.write_id(&mut show.scratch, out);
                out.push(b'\n');
            }
            if !is_hidden {
                out.extend_from_slice(candidate.frame);
            } else if !show.write_delete(row, out) {
                out.truncate(before);
                continue;
            }
            show.shown += 1;
            walk.rows_to_id = walk.rows_to_id.checked_sub(1).unwrap_or(ROWS_PER_ID - 1);
            if out.len() >= limit {
                return true;
            }
        }
        walk.cursor = walk.until;
        false
    }

    /// The rows of all topics in the order of their numbers, from `from` up to but not including `until`.
    fn merged(&self, from: Sequence, until: Sequence) -> impl Iterator<Item = (Sequence, &Row)> {
        let mut heads: BinaryHeap<_> = self
            .topics
            .iter()
            .filter_map(|rows| Head::of(rows.range(from, until)))
            .collect();
        std::iter::from_fn(move || {
            let mut head = heads.peek_mut()?;
            let next = head.rest.next();
            Some(match next {
                Some(next) => std::mem::replace(&mut head.row, next),
                None => PeekMut::pop(head).row,
            })
        })
    }
}

/// The next row of a topic, and those after it; ordered so that a heap gives the lowest number first.
struct Head<'a, I> {
    row: (Sequence, &'a Row),
    rest: I,
}

impl<'a, I: Iterator<Item = (Sequence, &'a Row)>> Head<'a, I> {
    fn of(mut rows: I) -> Option<Self> {
        let row = rows.next()?;
        Some(Self { row, rest: rows })
    }
}

impl<I> PartialEq for Head<'_, I> {
    fn eq(&self, other: &Self) -> bool {
        self.row.0 == other.row.0
    }
}

impl<I> Eq for Head<'_, I> {}

impl<I> PartialOrd for Head<'_, I> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<I> Ord for Head<'_, I> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        Reverse(self.row.0).cmp(&Reverse(other.row.0))
    }
}

/// How rows are shown to a reader.
pub struct Show<'a> {
    /// The reader's filter. A row it does not want is shown as a delete: the reader may hold an older
    /// record of the key that it wanted.
    pub matcher: Option<&'a Matcher>,
    /// Writes those.
    pub encoder: Encoder,
    /// The names of the stream's topics.
    pub topics: &'a [String],
    /// Where ids are put together.
    pub scratch: Vec<u8>,
    /// How many rows were shown.
    pub shown: u64,
}

impl Show<'_> {
    /// Returns false where the key cannot be shown: then the reader never saw it.
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

/// A reader on its way through the table.
#[derive(Debug, Clone)]
pub struct Walk {
    /// The number of the next row to look at.
    pub cursor: Sequence,
    /// Where the walk ends and the log begins.
    pub until: Sequence,
    /// Rows before this position are known to the reader.
    pub wanted: Position,
    /// Deletes with lower numbers are of no concern: the reader has never had those keys.
    pub deletes_from: Sequence,
    /// Whether the reader has rows already, and no position that says which: it fell off the log.
    pub is_conflated: bool,
    /// Where the reader stands: the running maximum over the rows walked. Exact, because rows come
    /// in the order of their numbers, and within a partition that is the order of offsets.
    pub position: Position,
    /// Rows until the next one with an id.
    pub rows_to_id: usize,
}
