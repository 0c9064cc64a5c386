//! The rows of one topic: found by their key, scanned in the order of their numbers.
//!
//! Pure data. Numbers only grow, so the order is a tree of short sorted runs: a row costs one slot in a
//! run, not a tree node's overhead. The index holds numbers only and compares keys in the rows
//! themselves, so no key is kept twice. It is split over many small hash tables, because one large
//! table stops its caller for as long as it takes to move all its entries whenever it grows.
//!
//! Every operation on single rows moves at most a run or one of those small tables. Only dropping all
//! rows takes as long as there are rows; [`Rows::free`] does that in pieces.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashTable;

use super::encode::Invalid;
use super::log::Sequence;
use super::row::Row;

/// Most rows in a run: a removal moves half of that many slots, of 24 bytes each.
const RUN: usize = 256;

/// After so many removals a run gives back the memory of what has left it, and looks for a neighbour
/// to be joined with.
const TIDY: usize = 16;

/// Hash tables that the index of a topic is split over: 12,000 entries each, of three million keys.
const SHARDS: usize = 256;

/// Which bits of a hash choose the shard: neither the lowest nor the highest, which the tables use.
const SHARD_SHIFT: u32 = 32;

/// Rows of one topic.
#[derive(Debug, Default)]
pub(super) struct Rows {
    order: Order,
    /// Empty until there is a row.
    index: Box<[HashTable<Sequence>]>,
    /// The markers of deletes, by when those were made (unix seconds).
    markers: BTreeSet<(u64, Sequence)>,
    /// How many rows are of records that cannot be shown, by the index of the cause.
    unusable: [usize; Invalid::ALL.len()],
    cost: usize,
}

impl Rows {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.order.len
    }

    /// Bytes of memory they take, all told.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// How many are of records that cannot be shown for this cause.
    pub(super) fn unusable(&self, cause: Invalid) -> usize {
        self.unusable[cause.index()]
    }

    /// The number and the row of a key whose hash is `hash`.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<(Sequence, &Row)> {
        let shard = self.index.get(shard_of(hash))?;
        let is_it = |sequence: &Sequence| self.order.get(*sequence).is_some_and(|row| row.key() == key);
        let &sequence = shard.find(hash, is_it)?;
        Some((sequence, self.order.get(sequence)?))
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

    /// The oldest marker: when that delete was made, and its number.
    pub(super) fn oldest_marker(&self) -> Option<(u64, Sequence)> {
        self.markers.first().copied()
    }

    /// Adds a row of a key that has none. Its number is higher than all before.
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
        let hash = row.hash();
        self.order.push(sequence, row);
        let order = &self.order;
        let hash_of = |sequence: &Sequence| order.get(*sequence).map_or(0, Row::hash);
        self.index[shard_of(hash)].insert_unique(hash, sequence, hash_of);
    }

    /// Removes a row.
    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Row> {
        let hash = self.order.get(sequence)?.hash();
        let shard = self.index.get_mut(shard_of(hash))?;
        let order = &self.order;
        let hash_of = |sequence: &Sequence| order.get(*sequence).map_or(0, Row::hash);
        if let Ok(entry) = shard.find_entry(hash, |other| *other == sequence) {
            entry.remove();
        }
        if shard.capacity() > 4 * shard.len() + TIDY {
            // Half full afterwards, so that neither the next insertion nor the next removal moves all again.
            shard.shrink_to(2 * shard.len(), hash_of);
        }
        let row = self.order.remove(sequence)?;
        self.cost -= row.cost();
        if let Some(deleted) = row.deleted() {
            self.markers.remove(&(deleted, sequence));
        }
        if let Some(cause) = row.unusable() {
            self.unusable[cause.index()] -= 1;
        }
        Some(row)
    }

    /// Frees at most about `limit` rows, in any order, which makes what is left useless for anything
    /// else. Returns whether there are more.
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

/// Which shard a hash belongs to.
fn shard_of(hash: u64) -> usize {
    // The remainder is far below any usize.
    usize::try_from((hash >> SHARD_SHIFT) % SHARDS as u64).unwrap_or(0)
}

/// Rows in the order of their numbers.
#[derive(Debug, Default)]
struct Order {
    /// Sorted runs, each under a number that is not above its first and above all of the run before.
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

    /// Joins a run with a neighbour where both together are no longer than a run.
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
