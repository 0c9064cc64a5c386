//! The latest table: the newest record of every key, ordered by last update.
//!
//! Pure data, like the [`log`](super::log), and numbered by the same sequence: a row bears the
//! number of the record that made it. A reader walks the rows by number; a row that is updated
//! meanwhile moves behind it, so that nothing is missed and nothing seen twice. Tombstones stay as
//! markers for a while, so that readers who come back hear of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::log::Sequence;
use super::position::Position;
use crate::config::{StreamSettings, WhenFull};

/// What a row costs beside its key (which stands there twice as a reference) and its frame.
const ROW_OVERHEAD: usize = size_of::<Row>() + 3 * size_of::<(Sequence, Key)>() + 32;

/// At least every so many rows a reader is given an id to come back with.
const ROWS_PER_ID: usize = 100;

/// How much longer than promised (in seconds) deletes are remembered, for those who are on their way
/// through the table when the time is over.
const MARGIN: u64 = 600;

/// Rows looked at before the table is let go for others, shown or not.
const ROWS_AT_ONCE: usize = 4096;

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

#[derive(Debug)]
struct Row {
    key: Key,
    origin: Origin,
    /// When the tombstone was made (unix seconds), if it is a tombstone's marker.
    deleted: Option<u64>,
    /// The frame without its id line: what a reader is shown.
    frame: Box<[u8]>,
}

impl Row {
    fn cost(&self) -> usize {
        self.key.1.len() + self.frame.len() + ROW_OVERHEAD
    }
}

/// How large a table may become.
#[derive(Debug, Clone, Copy)]
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
    /// It is its key's latest; the table was full and the oldest key left.
    Evicted,
    /// Another partition holds a newer one.
    Older,
    /// The table is full and the key is new.
    Refused,
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
    cost: usize,
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
            cost: 0,
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

    /// Whether another key would be one too many.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.bounds.keys || self.cost >= self.bounds.bytes
    }

    /// Puts a record in under its number, in the place of its key's last one. `deleted` says when a
    /// tombstone was made (unix seconds); `frame` is the record's without its id line.
    pub fn apply(
        &mut self,
        sequence: Sequence,
        key: &[u8],
        origin: Origin,
        deleted: Option<u64>,
        frame: &[u8],
        now: u64,
    ) -> Applied {
        let key: Key = Arc::new((origin.topic, key.into()));
        let known = self.keys.get(&key).copied();
        if let Some(row) = known.and_then(|known| self.rows.get(&known))
            && !origin.is_newer_than(&row.origin)
        {
            return Applied::Older;
        }
        let mut applied = Applied::Taken;
        match known {
            Some(known) => self.remove(known),
            None if self.is_full() => match self.bounds.when_full {
                WhenFull::RefuseNew => {
                    if deleted.is_some() {
                        self.deletes_since = now;
                    }
                    return Applied::Refused;
                }
                WhenFull::EvictOldest => {
                    while self.is_full()
                        && let Some((&oldest, row)) = self.rows.first_key_value()
                    {
                        if row.deleted.is_some() {
                            self.deletes_since = now;
                        }
                        self.remove(oldest);
                    }
                    applied = Applied::Evicted;
                }
            },
            None => {}
        }
        if let Some(deleted) = deleted {
            self.markers.insert((deleted, sequence));
        }
        let row = Row {
            key: Arc::clone(&key),
            origin,
            deleted,
            frame: frame.into(),
        };
        self.cost += row.cost();
        self.rows.insert(sequence, row);
        self.keys.insert(key, sequence);
        applied
    }

    fn remove(&mut self, sequence: Sequence) {
        if let Some(row) = self.rows.remove(&sequence) {
            self.cost -= row.cost();
            self.keys.remove(&row.key);
            if let Some(deleted) = row.deleted {
                self.markers.remove(&(deleted, sequence));
            }
        }
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

    /// Whether every delete since `as_of` (unix seconds) is known at `now`.
    #[must_use]
    pub fn knows_deletes_since(&self, as_of: u64, now: u64) -> bool {
        as_of >= self.deletes_since && as_of.saturating_add(self.bounds.delete_retention) >= now
    }

    /// Appends rows from `walk` on to `out` until about `limit` bytes are there. Returns whether
    /// there may be more.
    pub fn read(&self, walk: &mut Walk, limit: usize, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
        for (looked_at, (&sequence, row)) in self.rows.range(walk.cursor..walk.until).enumerate() {
            if looked_at == ROWS_AT_ONCE {
                return true;
            }
            walk.cursor = sequence + 1;
            let origin = &row.origin;
            let is_new = origin.offset >= walk.wanted.next(usize::from(origin.topic), origin.partition);
            if !is_new || (row.deleted.is_some() && sequence < walk.deletes_from) {
                continue;
            }
            walk.position
                .pass(usize::from(origin.topic), origin.partition, origin.offset);
            // The first row has one too: a client cut off after it must not come back as a stranger.
            if walk.rows_to_id == 0 {
                walk.rows_to_id = ROWS_PER_ID;
                out.extend_from_slice(b"id: ");
                walk.position.write_id(scratch, out);
                out.push(b'\n');
            }
            walk.rows_to_id -= 1;
            out.extend_from_slice(&row.frame);
            if out.len() >= limit {
                return true;
            }
        }
        walk.cursor = walk.until;
        false
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
