//! The latest table: the newest record of every key, ordered by last update.
//!
//! Pure data, like the [`log`](super::log), and numbered by the same sequence: a row bears the
//! number of the record that made it. A reader walks the rows by number; a row that is updated
//! meanwhile moves behind it, so that nothing is missed and nothing seen twice. Tombstones stay as
//! markers for a while, so that readers who come back hear of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::encode::Encoder;
use super::filter::{Candidate, Matcher, key_hash};
use super::log::Sequence;
use super::position::{BEGINNING, Position};
use crate::config::{StreamSettings, WhenFull};
use crate::kafka::record::{Record, Stamp};

/// What a row costs beside its key (which stands there twice as a reference) and its frame.
const ROW_OVERHEAD: usize = size_of::<Row>() + 3 * size_of::<(Sequence, Key)>() + 32;

/// At least every so many rows a reader is given an id to come back with.
const ROWS_PER_ID: usize = 100;

/// How much longer than promised (in seconds) deletes are remembered, for those who are on their way
/// through the table when the time is over.
const MARGIN: u64 = 600;

/// Rows looked at before the table is let go for others, shown or not.
const ROWS_AT_ONCE: usize = 4096;

/// Rows that could be looked at in the time in which one is held against a filter.
const COST_OF_ASKING: usize = 15;

/// A key is that of a topic: two topics may use the same.
type Key = Arc<(u16, Box<[u8]>)>;

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Index of the topic in the stream's configuration.
    pub topic: u16,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the epoch, where known.
    pub timestamp: Option<i64>,
}

impl Origin {
    /// Whether this record is the newer of two of the same key, the same on every replica: within a
    /// partition by offset, between partitions by time, then by partition.
    fn is_newer_than(&self, other: &Self) -> bool {
        if self.partition == other.partition {
            return self.offset > other.offset;
        }
        // Without times, which the `kafka` crate does not give, the one that came later.
        if self.timestamp.is_none() && other.timestamp.is_none() {
            return true;
        }
        (self.timestamp, self.partition, self.offset) > (other.timestamp, other.partition, other.offset)
    }
}

/// The latest record of a key.
#[derive(Debug)]
pub struct Row {
    key: Key,
    origin: Origin,
    /// [`key_hash`] of the key.
    hash: u64,
    /// When the tombstone was made (unix seconds), if it is a tombstone's marker.
    deleted: Option<u64>,
    /// The frame without its id line: what a reader is shown.
    frame: Box<[u8]>,
    /// The record's headers, packed, where filters may ask for them.
    headers: Box<[u8]>,
}

impl Row {
    fn cost(&self) -> usize {
        self.key.1.len() + self.frame.len() + self.headers.len() + ROW_OVERHEAD
    }

    /// The row as filters see it.
    #[must_use]
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate {
            topic: self.origin.topic,
            partition: self.origin.partition,
            key: self.hash,
            is_tombstone: self.deleted.is_some(),
            headers: &self.headers,
            frame: &self.frame,
        }
    }
}

/// What a record says of its key.
#[derive(Debug, Clone, Copy)]
pub struct Update<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Where the record came from.
    pub origin: Origin,
    /// When a tombstone was made (unix seconds).
    pub deleted: Option<u64>,
    /// The record's frame without its id line.
    pub frame: &'a [u8],
    /// Its headers, packed, where filters may ask for them.
    pub headers: &'a [u8],
}

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
    /// Another partition holds a newer one.
    Older,
    /// There is no place for it, and its key is new.
    Refused,
    /// There is no place for it, and its key has left the table: what it had there is no longer true.
    Displaced,
}

/// What had to leave the table, or found no place in it, although it is its key's latest.
#[derive(Debug, Default)]
struct Lost {
    /// Its last offset, by topic and partition: who has come by that has seen it.
    offsets: BTreeMap<(u16, u32), i64>,
    /// The last number of any.
    sequence: Sequence,
}

impl Lost {
    fn note(&mut self, sequence: Sequence, origin: &Origin) {
        self.sequence = self.sequence.max(sequence);
        let last = self.offsets.entry((origin.topic, origin.partition)).or_default();
        *last = origin.offset.max(*last);
    }
}

/// The newest record of every key.
#[derive(Debug)]
pub struct Table {
    rows: BTreeMap<Sequence, Row>,
    keys: HashMap<Key, Sequence>,
    /// The markers, by when they were made (unix seconds).
    markers: BTreeSet<(u64, Sequence)>,
    /// Since when (unix seconds) all deletes are known that are still to be remembered.
    deletes_since: u64,
    lost: Lost,
    cost: usize,
    /// The cost of the last record that found no place.
    unplaced: usize,
    bounds: Bounds,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            rows: BTreeMap::new(),
            keys: HashMap::new(),
            markers: BTreeSet::new(),
            deletes_since: 0,
            lost: Lost::default(),
            cost: 0,
            unplaced: 0,
            bounds,
        }
    }

    /// How many keys it holds, markers included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes held, all told.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Whether another key would be one too many, or a record like the last that found no place.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.bounds.keys || self.cost + self.unplaced > self.bounds.bytes
    }

    /// The latest record of a key, if it has one. A tombstone's marker is one too.
    #[must_use]
    pub fn row(&self, topic: u16, key: &[u8]) -> Option<&Row> {
        let key: Key = Arc::new((topic, key.into()));
        self.rows.get(self.keys.get(&key)?)
    }

    /// Puts a record in under its number, in the place of its key's last one, which is handed back.
    pub fn apply(&mut self, sequence: Sequence, update: &Update<'_>) -> (Applied, Option<Row>) {
        let Update {
            key,
            mut origin,
            deleted,
            frame,
            headers,
        } = *update;
        let hash = key_hash(Some(key));
        let key: Key = Arc::new((origin.topic, key.into()));
        let known = self.keys.get(&key).copied();
        if let Some(row) = known.and_then(|known| self.rows.get(&known)) {
            if !origin.is_newer_than(&row.origin) {
                return (Applied::Older, None);
            }
            // Times may go back within a partition. The latest it had is what others are compared with, or the
            // outcome would depend on the order in which a replica reads the partitions.
            if origin.partition == row.origin.partition {
                origin.timestamp = origin.timestamp.max(row.origin.timestamp);
            }
        }
        let row = Row {
            key: Arc::clone(&key),
            origin,
            hash,
            deleted,
            frame: frame.into(),
            headers: headers.into(),
        };
        let previous = known.and_then(|known| self.remove(known));
        let cost = row.cost();
        let mut applied = Applied::Taken;
        if !self.has_room(cost) {
            // A record that even an empty table could not take says nothing about this one.
            let could_fit = cost <= self.bounds.bytes;
            if could_fit {
                self.unplaced = cost;
            }
            if !could_fit || self.bounds.when_full == WhenFull::RefuseNew {
                self.lost.note(sequence, &origin);
                let refused = if previous.is_some() {
                    Applied::Displaced
                } else {
                    Applied::Refused
                };
                return (refused, previous);
            }
            self.evict_until(cost);
            applied = Applied::Evicted;
        }
        if let Some(deleted) = deleted {
            self.markers.insert((deleted, sequence));
        }
        self.cost += cost;
        self.rows.insert(sequence, row);
        self.keys.insert(key, sequence);
        (applied, previous)
    }

    /// Whether one more row of this cost would be within the bounds.
    fn has_room(&self, cost: usize) -> bool {
        self.rows.len() < self.bounds.keys && self.cost + cost <= self.bounds.bytes
    }

    /// Lets the oldest rows go until there is room for one of this cost.
    fn evict_until(&mut self, cost: usize) {
        while !self.has_room(cost)
            && let Some((&oldest, _)) = self.rows.first_key_value()
            && let Some(row) = self.remove(oldest)
        {
            self.lost.note(oldest, &row.origin);
        }
    }

    fn remove(&mut self, sequence: Sequence) -> Option<Row> {
        let row = self.rows.remove(&sequence)?;
        self.cost -= row.cost();
        self.keys.remove(&row.key);
        if let Some(deleted) = row.deleted {
            self.markers.remove(&(deleted, sequence));
        }
        Some(row)
    }

    /// Forgets everything about a topic, deletes included: it begins anew.
    pub fn clear(&mut self, topic: u16) {
        let of_topic = self.rows.iter().filter(|(_, row)| row.origin.topic == topic);
        let gone: Vec<Sequence> = of_topic.map(|(sequence, _)| *sequence).collect();
        for sequence in gone {
            self.remove(sequence);
        }
        self.lost.offsets.retain(|(of, _), _| *of != topic);
    }

    /// Forgets deletes that were made longer ago than they are to be remembered. `now` in unix seconds.
    pub fn expire(&mut self, now: u64) {
        while let Some(&(deleted, sequence)) = self.markers.first()
            && deleted
                .saturating_add(self.bounds.delete_retention)
                .saturating_add(MARGIN)
                < now
        {
            self.remove(sequence);
        }
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

    /// Whether the table has all that happened since a client left with this position: its deletes are
    /// remembered long enough (`now` in unix seconds), and nothing had to leave that it has not seen.
    #[must_use]
    pub fn knows_all_since(&self, wanted: &Position, now: u64) -> bool {
        let knows_deletes = wanted.as_of.is_some_and(|as_of| {
            as_of >= self.deletes_since && as_of.saturating_add(self.bounds.delete_retention) >= now
        });
        knows_deletes && self.has_kept_since(wanted)
    }

    /// Whether nothing had to leave that a client with this position has not seen.
    #[must_use]
    pub fn has_kept_since(&self, wanted: &Position) -> bool {
        // Of a partition that it wants from its beginning it holds nothing.
        self.lost.offsets.iter().all(|(&(topic, partition), &last)| {
            let next = wanted.next(usize::from(topic), partition);
            next > last || next == BEGINNING
        })
    }

    /// Whether something had to leave that a reader at this record has not seen.
    #[must_use]
    pub fn has_lost_since(&self, cursor: Sequence) -> bool {
        self.lost.sequence >= cursor
    }

    /// Appends rows from `walk` on to `out` until about `limit` bytes are there, as `show` has it.
    /// Returns whether there may be more.
    pub fn read(&self, walk: &mut Walk, limit: usize, show: &mut Show<'_>, out: &mut Vec<u8>) -> bool {
        let mut budget = ROWS_AT_ONCE;
        for (&sequence, row) in self.rows.range(walk.cursor..walk.until) {
            if budget == 0 {
                return true;
            }
            budget -= 1;
            walk.cursor = sequence + 1;
            let origin = &row.origin;
            if origin.offset < walk.wanted.next(usize::from(origin.topic), origin.partition) {
                continue;
            }
            walk.position
                .pass(usize::from(origin.topic), origin.partition, origin.offset);
            let mut is_delete = row.deleted.is_some();
            let mut is_hidden = false;
            if let Some(matcher) = show.matcher {
                if !matcher.concerns(origin.topic, row.hash) {
                    continue;
                }
                if !is_delete {
                    budget = budget.saturating_sub(COST_OF_ASKING);
                    is_hidden = !matcher.accepts(&row.candidate());
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
                out.extend_from_slice(&row.frame);
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
        let stamp = Stamp {
            partition: row.origin.partition,
            offset: row.origin.offset,
            timestamp: row.origin.timestamp,
        };
        let Some(topic) = self.topics.get(usize::from(row.origin.topic)) else {
            return false;
        };
        let record = Record::tombstone(topic, stamp, Some(&row.key.1));
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
    /// Where the reader stands: the running maximum over the rows walked. Exact, because rows come
    /// in the order of their numbers, and within a partition that is the order of offsets.
    pub position: Position,
    /// Rows until the next one with an id.
    pub rows_to_id: usize,
}
