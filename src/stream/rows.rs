//! The rows of one topic: found by their key, scanned in the order of their numbers.
//!
//! Pure data. Numbers only grow, so the order is a tree of short sorted runs: a row costs one slot in a run, without a
//! tree node's overhead. The index contains only numbers and half of each hash, and compares keys in the rows
//! themselves, so each key is kept once. It is split over many small hash tables, because one large table blocks its
//! caller while it moves all its entries to grow. All of them grow at about the same time, as a hash spreads keys
//! evenly, so an entry is moved without a look at its row.
//!
//! Every operation on single rows moves at most a run or one of those small tables. Only dropping all rows takes time
//! proportional to their number; [`Rows::free`] does that in parts.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashTable;

use super::encode::Invalid;
use super::log::Sequence;
use super::row::Row;

/// Most rows in a run: a removal moves half of that many slots, of 24 bytes each.
const RUN: usize = 256;

/// After this many removals a run releases unused memory, and is joined with a neighbour if possible.
const TIDY: usize = 16;

/// Hash tables that the index of a topic is split over: 12,000 entries each, of three million keys.
const SHARDS: usize = 256;

/// The bits of a hash that choose the shard: above those that the index keeps.
const SHARD_SHIFT: u32 = 32;

/// A row in the index.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
struct RowEntry {
    sequence: Sequence,
    /// The lower half of the hash of its key.
    hash: u32,
}

// Each row counts this much of the index.
const _: () = assert!(
    size_of::<RowEntry>() == 12,
    "a row's cost counts 13 bytes per bucket"
);

impl RowEntry {
    const fn new(sequence: Sequence, hash: u64) -> Self {
        Self {
            sequence,
            hash: lower_half(hash),
        }
    }

    const fn table_hash(self) -> u64 {
        table_hash(self.hash)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the rest chooses the shard")]
const fn lower_half(hash: u64) -> u32 {
    hash as u32
}

/// The hash under which a table keeps an entry: it uses the lowest bits for the bucket, and the highest seven.
const fn table_hash(lower_half: u32) -> u64 {
    let half = lower_half as u64;
    half << 32 | half
}

/// Rows of one topic.
#[derive(Debug, Default)]
pub(super) struct Rows {
    order: Order,
    /// Empty until there is a row.
    index: Box<[HashTable<RowEntry>]>,
    /// The markers of deletes, ordered by the time of the delete (unix seconds).
    markers: BTreeSet<(u64, Sequence)>,
    /// How many rows are of records that cannot be shown, by the index of the cause.
    unusable: [usize; Invalid::ALL.len()],
    cost: usize,
    /// The sum of the [fingerprints](Row::fingerprint) of all rows.
    fingerprint: u64,
}

impl Rows {
    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.order.len
    }

    /// Bytes of memory in total.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Says which records are shown, whatever the order in which they came.
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The number of rows of records that cannot be shown for this cause.
    pub(super) fn unusable(&self, cause: Invalid) -> usize {
        self.unusable[cause.index()]
    }

    /// The number and the row of a key whose hash is `hash`.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<(Sequence, &Row)> {
        let shard = self.index.get(shard_of(hash))?;
        let half = lower_half(hash);
        let mut found = None;
        shard.find(table_hash(half), |entry| {
            let (sequence, of) = (entry.sequence, entry.hash);
            if of == half {
                let row = self.order.get(sequence).filter(|row| row.key() == key);
                found = row.map(|row| (sequence, row));
            }
            found.is_some()
        })?;
        found
    }

    /// The row with the lowest number.
    pub(super) fn first(&self) -> Option<(Sequence, &Row)> {
        let (_, run) = self.order.runs.first_key_value()?;
        run.first().map(|(sequence, row)| (*sequence, row))
    }

    /// The rows whose numbers are at least `from` and below `until`.
    pub(super) fn range(&self, from: Sequence, until: Sequence) -> impl Iterator<Item = (Sequence, &Row)> {
        self.order.range(from, until)
    }

    /// The oldest marker: the time of that delete, and its number.
    pub(super) fn oldest_marker(&self) -> Option<(u64, Sequence)> {
        self.markers.first().copied()
    }

    /// Adds a row of a key without one. Its number is higher than all before.
    pub(super) fn insert(&mut self, sequence: Sequence, row: Row) {
        if self.index.is_empty() {
            self.index = std::iter::repeat_with(HashTable::new).take(SHARDS).collect();
        }
        if let Some(deleted) = row.deleted() {
            self.markers.insert((deleted, sequence));
        }
        if let Some(cause) = row.unusable() {
            self.unusable[cause.index()] += 1;
        }
        self.cost += row.cost();
        self.fingerprint = self.fingerprint.wrapping_add(row.fingerprint());
        let hash = row.hash();
        self.order.push(sequence, row);
        let entry = RowEntry::new(sequence, hash);
        self.index[shard_of(hash)].insert_unique(entry.table_hash(), entry, |entry| entry.table_hash());
    }

    /// Removes a row.
    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Row> {
        let hash = self.order.get(sequence)?.hash();
        let shard = self.index.get_mut(shard_of(hash))?;
        let is_it = |entry: &RowEntry| {
            let of = entry.sequence;
            of == sequence
        };
        if let Ok(entry) = shard.find_entry(RowEntry::new(sequence, hash).table_hash(), is_it) {
            entry.remove();
        }
        if shard.capacity() > 4 * shard.len() + TIDY {
            // Half full afterwards, so that neither the next insertion nor the next removal moves all entries again.
            shard.shrink_to(2 * shard.len(), |entry| entry.table_hash());
        }
        let row = self.order.remove(sequence)?;
        self.cost -= row.cost();
        self.fingerprint = self.fingerprint.wrapping_sub(row.fingerprint());
        if let Some(deleted) = row.deleted() {
            self.markers.remove(&(deleted, sequence));
        }
        if let Some(cause) = row.unusable() {
            self.unusable[cause.index()] -= 1;
        }
        Some(row)
    }

    /// Frees approximately `limit` rows at most, in any order; the rest must only be freed too. Returns whether there
    /// are more.
    pub(super) fn free(&mut self, limit: usize) -> bool {
        self.index = Box::default();
        for _ in 0..limit {
            if self.markers.pop_first().is_none() {
                break;
            }
        }
        let mut freed = 0;
        while freed < limit
            && let Some((_, run)) = self.order.runs.pop_first()
        {
            freed += run.len();
        }
        !(self.order.runs.is_empty() && self.markers.is_empty())
    }
}

/// The shard of a hash.
fn shard_of(hash: u64) -> usize {
    // The remainder is far below `usize::MAX`.
    usize::try_from((hash >> SHARD_SHIFT) % SHARDS as u64).unwrap_or(0)
}

/// Rows in the order of their numbers.
#[derive(Debug, Default)]
struct Order {
    /// Sorted runs. A run's key is not above its first number, and above all numbers of the run before.
    runs: BTreeMap<Sequence, Vec<(Sequence, Row)>>,
    len: usize,
}

impl Order {
    fn run_of(&self, sequence: Sequence) -> Option<&Vec<(Sequence, Row)>> {
        Some(self.runs.range(..=sequence).next_back()?.1)
    }

    fn get(&self, sequence: Sequence) -> Option<&Row> {
        let run = self.run_of(sequence)?;
        let place = place_of(run, sequence)?;
        Some(&run[place].1)
    }

    fn push(&mut self, sequence: Sequence, row: Row) {
        debug_assert!(
            self.runs
                .last_key_value()
                .is_none_or(|(_, run)| run.last().is_none_or(|(last, _)| *last < sequence))
        );
        self.len += 1;
        if let Some(mut last) = self.runs.last_entry()
            && last.get().len() < RUN
        {
            last.get_mut().push((sequence, row));
            return;
        }
        self.runs.insert(sequence, vec![(sequence, row)]);
    }

    fn remove(&mut self, sequence: Sequence) -> Option<Row> {
        let (&first, run) = self.runs.range_mut(..=sequence).next_back()?;
        let place = place_of(run, sequence)?;
        let (_, row) = run.remove(place);
        self.len -= 1;
        let len = run.len();
        if len == 0 {
            self.runs.remove(&first);
        } else if len.is_multiple_of(TIDY) {
            run.shrink_to_fit();
            self.join(first, len);
        }
        Some(row)
    }

    /// Joins a run with a neighbour if together they fit into one run.
    fn join(&mut self, first: Sequence, len: usize) {
        let fits = |run: &Vec<_>| run.len() + len <= RUN;
        let before = self.runs.range(..first).next_back();
        let (into, from) = if let Some((&before, _)) = before.filter(|(_, run)| fits(run)) {
            (before, first)
        } else if let Some((&after, _)) = self.runs.range(first + 1..).next().filter(|(_, run)| fits(run)) {
            (first, after)
        } else {
            return;
        };
        let Some(rows) = self.runs.remove(&from) else {
            return;
        };
        if let Some(run) = self.runs.get_mut(&into) {
            run.reserve_exact(rows.len());
            run.extend(rows);
        }
    }

    fn range(&self, from: Sequence, until: Sequence) -> impl Iterator<Item = (Sequence, &Row)> {
        let first = self
            .runs
            .range(..=from)
            .next_back()
            .map_or(from, |(first, _)| *first);
        self.runs
            .range(first..until.max(first))
            .flat_map(|(_, run)| run)
            .map(|(sequence, row)| (*sequence, row))
            .skip_while(move |(sequence, _)| *sequence < from)
            .take_while(move |(sequence, _)| *sequence < until)
    }
}

fn place_of(run: &[(Sequence, Row)], sequence: Sequence) -> Option<usize> {
    run.binary_search_by_key(&sequence, |(sequence, _)| *sequence)
        .ok()
}
