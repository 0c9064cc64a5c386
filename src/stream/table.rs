//! The latest table: the newest record of every key, ordered by last update.
//!
//! Pure data, like the [`log`](super::log), and numbered by the same sequence: a row has the number of the record that
//! made it. A reader scans the rows by number; a row that is updated during the scan moves behind it, so that the
//! reader misses nothing and sees nothing twice. Tombstones stay as markers for a while, so that returning readers
//! receive them.

mod bounds;
mod figures;

use std::sync::Arc;

use bytes::Bytes;

pub(super) use bounds::{Bounds, Reached};
pub(super) use figures::TableFigures;

use super::capture::{Capture, Captures};
use super::encode::Invalid;
use super::evicted::{Evicted, LastRecord};
use super::filter::key_hash;
use super::gauged::Gauges;
use super::hidden::Hidden;
use super::log::Sequence;
use super::lost::Lost;
use super::position::Position;
pub(super) use super::row::{Origin, Row, Update};
use super::rows::Rows;
use super::shared_pieces::PiecesInUse;
use crate::config::WhenFull;

/// Seconds for which deletes are remembered beyond the retention, for readers that scan the table when it ends.
const MARGIN: u64 = 600;

/// Most rows that are removed from the table under one lock: half a millisecond's work.
pub(super) const ROWS_PER_HOLD: usize = 1024;

/// The part of a table's bytes up to which captures keep rows that have left the table: 14 MiB of 256.
const PART_FOR_CAPTURES: usize = 16;

/// The result of adding a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is its key's latest.
    Taken,
    /// It is its key's latest; the oldest keys were evicted for it.
    Evicted,
    /// Another partition holds a newer one, given here.
    Older(Origin),
    /// There is no room for it, and its key is new.
    Refused,
    /// There is no room for it, and its key is no longer in the table: the old row is outdated.
    Displaced,
}

/// The newest record of every key.
#[derive(Debug)]
pub(super) struct Table {
    /// By topic: two topics may use the same key, and a reset topic loses all its rows at once.
    pub(super) topics: Vec<Rows>,
    /// Keys without a row, because the table is full.
    evicted: Evicted,
    /// Keys whose latest record is not shown. One may have the row of an older delete.
    hidden: Hidden,
    /// Unix seconds since when all deletes are known that must still be remembered.
    pub(super) deletes_since: u64,
    lost: Lost,
    /// Whether topics are still being read up to their ends at the start.
    is_loading: bool,
    len: usize,
    cost: usize,
    /// How many keys have a newest record that cannot be shown, by cause, and how often that has changed.
    unusable: ([usize; Invalid::ALL.len()], u64),
    /// The cost of the last record that found no room.
    unplaced: usize,
    /// The bound that the last record without room exceeded.
    met: &'static str,
    bounds: Bounds,
    captures: Captures,
    /// What its readers share.
    pub(super) pieces: PiecesInUse,
}

/// Rows that were removed from the table and are not freed yet.
#[derive(Debug, Default)]
pub(super) struct Cleared(Rows);

impl Cleared {
    /// Frees approximately `limit` rows at most. Returns whether there are more.
    pub(super) fn free(&mut self, limit: usize) -> bool {
        self.0.free(limit)
    }
}

impl Table {
    /// An empty table.
    #[must_use]
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            topics: Vec::new(),
            evicted: Evicted::new(bounds.departed_bytes),
            hidden: Hidden::new(bounds.hidden_bytes),
            deletes_since: 0,
            lost: Lost::default(),
            is_loading: true,
            len: 0,
            cost: 0,
            unusable: Default::default(),
            unplaced: 0,
            met: "",
            bounds,
            captures: Captures::default(),
            pieces: PiecesInUse::default(),
        }
    }

    /// How many keys it holds, markers included.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of its rows in total.
    #[must_use]
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Bytes of data on keys without a row.
    #[must_use]
    pub(super) fn departed_cost(&self) -> usize {
        self.evicted.cost() + self.hidden.cost()
    }

    /// How often it has dropped the data on evicted keys.
    #[must_use]
    pub(super) fn eviction_resets(&self) -> u64 {
        self.evicted.eviction_resets()
    }

    /// Whether it has no room for another key, or for a record like the last that found no room.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.reached().name().is_some()
    }

    /// The bounds that make it full.
    #[must_use]
    pub(super) fn reached(&self) -> Reached {
        self.bounds_against(self.unplaced)
    }

    /// The bound that the last record without room exceeded.
    #[must_use]
    pub(super) fn met(&self) -> &'static str {
        self.met
    }

    /// The latest record of a key, if there is one. A tombstone's marker counts.
    #[must_use]
    pub(super) fn row(&self, topic: u16, key: &[u8]) -> Option<&Row> {
        let rows = self.topics.get(usize::from(topic))?;
        rows.find(key_hash(Some(key)), key).map(|(_, row)| row)
    }

    /// Whether clients may hold a record of a key: its row is that of a value, or was when it was evicted.
    #[must_use]
    pub(super) fn may_be_held(&self, topic: u16, key: &[u8]) -> bool {
        match self.row(topic, key) {
            Some(row) => !row.candidate().is_tombstone,
            None => self
                .evicted
                .find(topic, key_hash(Some(key)))
                .is_some_and(|departed| departed.is_held),
        }
    }

    /// Adds a record under its number in place of its key's last one, which is returned: for an evicted key a
    /// [stand-in](Row::stand_in), if clients may hold a record of it.
    pub(super) fn apply(&mut self, sequence: Sequence, update: &Update<'_>) -> (Applied, Option<Row>) {
        let mut update = *update;
        self.captures.get_ahead();
        let topic = usize::from(update.origin.topic);
        if self.topics.len() <= topic {
            self.topics.resize_with(topic + 1, Rows::default);
        }
        let hash = key_hash(Some(update.key));
        let row = self.topics[topic].find(hash, update.key);
        let row = row.map(|(number, row)| (number, row.origin()));
        let departed = match row {
            Some(_) => None,
            None => self.evicted.find(update.origin.topic, hash),
        };
        let hidden = self.hidden.find(update.origin.topic, hash);
        let newer = hidden.filter(|hidden| !update.origin.is_newer_than(hidden));
        let known = row.map(|(_, origin)| origin);
        let known = known.or(departed.map(|departed| departed.origin));
        // The delete of a record that is older than a hidden one takes its place in the table; that one goes on to count.
        let known = if update.deleted.is_some() {
            known
        } else {
            hidden.or(known)
        };
        if let Some(known) = known
            && !update.origin.supersedes(&known)
        {
            return (Applied::Older(known), None);
        }
        match (hidden, newer) {
            // A client to which another replica has shown the older record may resume after the hidden one.
            (_, Some(newer)) => self.lost.note(0, &newer),
            (Some(_), None) => self.hidden.remove(update.origin.topic, hash),
            (None, None) => {}
        }
        let mut previous = row.and_then(|(number, _)| self.remove(topic, number));
        if let Some(departed) = departed {
            self.evicted.remove(update.origin.topic, hash);
            previous = departed.is_held.then(|| Row::stand_in(departed.origin, hash));
        }
        let cost = Row::cost_of(&update);
        let mut applied = Applied::Taken;
        if let Some(met) = self.bounds_against(cost).name() {
            self.met = met;
            // A record that does not fit into an empty table says nothing about this one.
            let could_fit = cost <= self.bounds.bytes;
            if could_fit {
                self.unplaced = cost;
            }
            if !could_fit || self.bounds.when_full == WhenFull::RefuseNew {
                self.lost.note(sequence, &update.origin);
                self.evicted.note(
                    hash,
                    LastRecord {
                        origin: update.origin,
                        is_held: update.deleted.is_none() && update.unusable.is_none(),
                    },
                );
                let refused = if row.is_some() {
                    Applied::Displaced
                } else {
                    Applied::Refused
                };
                return (refused, previous);
            }
            self.evict(|table| table.has_room(cost));
            applied = Applied::Evicted;
        }
        self.len += 1;
        self.cost += cost;
        if let Some(cause) = update.unusable {
            self.count_unusable(cause, |keys| keys + 1);
        }
        self.topics[topic].insert(sequence, Row::new(&update, hash));
        (applied, previous)
    }

    /// Remembers a record that the stream's own filter hides, of a key of which clients hold no record.
    pub(super) fn hide(&mut self, key: &[u8], mut origin: Origin) {
        let hash = key_hash(Some(key));
        let known = self.hidden.find(origin.topic, hash);
        let known = known.or_else(|| self.row(origin.topic, key).map(Row::origin));
        let known = known.or_else(|| Some(self.evicted.find(origin.topic, hash)?.origin));
        if known.is_none_or(|known| origin.supersedes(&known)) {
            self.hidden.note(hash, origin);
        }
    }

    /// The hidden record of a key that is newer than one with this origin.
    #[must_use]
    pub(super) fn hidden_since(&self, key: &[u8], origin: &Origin) -> Option<Origin> {
        let hidden = self.hidden.find(origin.topic, key_hash(Some(key)));
        hidden.filter(|hidden| !origin.is_newer_than(hidden))
    }

    /// Whether one more row of this cost would be within the bounds.
    fn has_room(&self, cost: usize) -> bool {
        self.bounds_against(cost).name().is_none()
    }

    /// The bounds that one more row of this cost would exceed.
    fn bounds_against(&self, cost: usize) -> Reached {
        Reached {
            keys: self.len >= self.bounds.keys,
            bytes: self.cost + cost > self.bounds.bytes,
        }
    }

    /// Evicts the oldest rows until that is enough, or [`ROWS_PER_HOLD`] are evicted.
    fn evict(&mut self, is_enough: impl Fn(&Self) -> bool) {
        for _ in 0..ROWS_PER_HOLD {
            if is_enough(self) {
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
                self.depart(&row);
            }
        }
    }

    /// Remembers the key of an evicted row.
    fn depart(&mut self, row: &Row) {
        let departed = LastRecord {
            origin: row.origin(),
            is_held: !row.candidate().is_tombstone,
        };
        self.evicted.note(row.hash(), departed);
    }

    fn count_unusable(&mut self, cause: Invalid, change: impl FnOnce(usize) -> usize) {
        let (keys, changes) = &mut self.unusable;
        keys[cause.index()] = change(keys[cause.index()]);
        *changes += 1;
    }

    fn remove(&mut self, topic: usize, sequence: Sequence) -> Option<Row> {
        let row = self.topics.get_mut(topic)?.remove(sequence)?;
        self.len -= 1;
        self.cost -= row.cost();
        if let Some(cause) = row.unusable() {
            self.count_unusable(cause, |keys| keys - 1);
        }
        self.captures
            .keep(sequence, &row, self.bounds.bytes / PART_FOR_CAPTURES);
        self.pieces.forget_row(sequence);
        Some(row)
    }

    /// Begins a capture once the log, which ends before `next` with the id `head`, has all records of the table.
    pub(super) fn capture(&mut self, capture: &Arc<Capture>, next: Sequence, head: &Bytes) {
        let fingerprint = self.fingerprint();
        self.captures.add(capture, next, head, fingerprint);
    }

    /// Notes that the log has all records of the table.
    pub(super) fn settle(&mut self, next: Sequence, head: &Bytes) {
        let fingerprint = self.fingerprint();
        self.captures.settle(next, head, fingerprint);
    }

    /// Says which records it shows: two tables of a stream that show the same ones have the same, on every replica.
    fn fingerprint(&self) -> u64 {
        let topics = self.topics.iter();
        topics.fold(0, |sum, rows| sum.wrapping_add(rows.fingerprint()))
    }

    /// Resets a topic: forgets everything about it, including deletes. The caller frees the rows while the table is not
    /// locked.
    #[must_use = "freeing millions of rows takes a second, in which nobody can read the table"]
    pub(super) fn clear(&mut self, topic: u16) -> Cleared {
        self.lost.forget(topic);
        self.evicted.clear(topic);
        self.hidden.clear(topic);
        self.captures.void();
        self.pieces.clear();
        let rows = self.topics.get_mut(usize::from(topic));
        let rows = rows.map(std::mem::take).unwrap_or_default();
        self.len -= rows.len();
        self.cost -= rows.cost();
        for cause in Invalid::ALL {
            self.count_unusable(cause, |keys| keys - rows.unusable(cause));
        }
        Cleared(rows)
    }

    /// Does a bounded part of the deferred work: forgets deletes older than the retention (`now` in unix seconds), and
    /// evicts the oldest rows if the bounds have shrunk. Returns whether there is more to do.
    pub(super) fn tidy(&mut self, now: u64) -> bool {
        if self.expire(now) {
            return true;
        }
        if self.bounds.when_full == WhenFull::EvictOldest && !self.is_within_bounds() {
            self.evict(Self::is_within_bounds);
        }
        self.bounds.when_full == WhenFull::EvictOldest && !self.is_within_bounds()
    }

    fn is_within_bounds(&self) -> bool {
        self.len <= self.bounds.keys && self.cost <= self.bounds.bytes
    }

    /// Forgets deletes older than the retention, at most [`ROWS_PER_HOLD`]. `now` in unix seconds. Returns whether
    /// there may be more.
    pub(super) fn expire(&mut self, now: u64) -> bool {
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
                    if self.is_loading {
                        // An older record of the key may still come from another partition.
                        self.depart(&row);
                    }
                    // A client that has not passed it must not take the key for unchanged.
                    self.lost.note_row(sequence, &row.origin());
                }
            }
        }
        false
    }

    /// Changes the bounds, and how long deletes are remembered. Excess rows stay, but new keys find no room, or
    /// displace others. `now` in unix seconds.
    pub(super) fn set_bounds(&mut self, bounds: Bounds, now: u64) {
        // A longer retention does not restore forgotten deletes.
        let known_since = now.saturating_sub(self.bounds.delete_retention);
        self.knows_nothing_before(known_since);
        self.bounds = bounds;
        self.evicted.set_bytes(bounds.departed_bytes);
        self.hidden.set_bytes(bounds.hidden_bytes);
    }

    /// Marks deletes before `time` (unix seconds) as unknown.
    pub(super) fn knows_nothing_before(&mut self, time: u64) {
        self.deletes_since = self.deletes_since.max(time);
    }

    /// Marks the topics as loaded at `now` (unix seconds): deletes older than the retention may have been compacted
    /// before. Later ones are forgotten one by one, each with its offset.
    pub(super) fn loaded(&mut self, now: u64) {
        self.is_loading = false;
        self.knows_nothing_before(now.saturating_sub(self.bounds.delete_retention));
    }

    /// Whether the table has all changes since a client left with this position: every delete since then was read, and
    /// the client has seen all evicted records, including deletes. `now` in unix seconds: a client that claims to know
    /// of later deletes had them from a wrong clock.
    #[must_use]
    pub(super) fn knows_all_since(&self, wanted: &Position, now: u64) -> bool {
        let knows_deletes = wanted
            .as_of
            .is_some_and(|as_of| as_of >= self.deletes_since && as_of <= now.saturating_add(MARGIN));
        knows_deletes && self.has_kept_since(wanted)
    }

    /// Whether a client with this position has seen all evicted records.
    #[must_use]
    pub(super) fn has_kept_since(&self, wanted: &Position) -> bool {
        self.lost.is_behind(wanted)
    }

    /// Whether a record was evicted that a reader at this record has not seen.
    #[must_use]
    pub(super) fn has_lost_since(&self, cursor: Sequence) -> bool {
        self.lost.sequence >= cursor
    }

    /// Whether a row was evicted that a scan at this record has not reached.
    #[must_use]
    pub(super) fn has_lost_row_since(&self, cursor: Sequence) -> bool {
        self.lost.row >= cursor
    }
}

impl Gauges for Table {
    type Figures = TableFigures;

    fn update(&self, figures: &TableFigures) {
        let bytes = self.cost() + self.departed_cost();
        figures.set(self.len(), bytes, self.reached());
        figures.set_unusable(&self.unusable.0, self.unusable.1);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
pub(super) mod tests;
