//! The index of filters: finds the groups of readers that a record matches.
//!
//! ```text
//! feed ──batch──► FilterIndex ──by key, header or value──► Group ──dirty──► its waiters
//!                                                      └─ matches ◄── cursors of its readers
//! ```
//! A record is offered once. The most selective term of each filter is indexed: the record's key, or the value of a
//! header or path, leads to the few groups that may match, however many others there are. Each of those is checked once
//! for all of its readers and notes the record's number.
//!
//! The values at the paths of all filters are looked up once per record, for a whole batch before the index is locked
//! ([`Lookups`]). The index's lock is held from the first offer of a batch until the log has it, so that a group that
//! joins knows the record from which it is offered all. It is not held while records are encoded or values looked up, with
//! one exception: the delete of a row for groups that matched only what it replaced, which is short and written at most
//! once per record.
//!
//! On a stream with a table a record can delete a reader's row: a group that matched the key's last record, but not
//! this one, notes it as a delete.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::block::{Block, BlockEntry};
use super::filter::{Handle, Matcher, unpack_headers};
use super::filter_names::FilterNames;
use super::gauged::Gauges;
use super::group::Group;
use super::log::Sequence;
use super::noted::{Budget, DeleteFrames};
use super::path_index::{Changes, Lookups, Offered, Replaced, SharedPath, Which};
use super::paths::Slot;
use crate::config::StreamSettings;
use crate::config::filter::Filter;

/// Limits on the filters of one stream; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterLimits {
    /// Different paths of values and names of headers.
    pub max_paths: usize,
    /// Filters that the index does not find by a term.
    pub max_unindexed: usize,
}

impl From<&StreamSettings> for FilterLimits {
    fn from(settings: &StreamSettings) -> Self {
        Self {
            max_paths: settings.max_filter_paths as usize,
            max_unindexed: settings.max_unindexed_filters as usize,
        }
    }
}

/// The limit that a filter exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverLimit {
    /// `max_filter_paths`, or the memory for them
    Paths,
    /// `max_unindexed_filters`
    Unindexed,
}

/// How many filters are in use, and their cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterFigures {
    /// Different filters.
    pub filters: usize,
    /// Different paths of values and names of headers.
    pub paths: usize,
    /// Filters that the index does not find by a term.
    pub unindexed: usize,
    /// Bytes of the noted matches and of the trie of paths.
    pub noted_bytes: usize,
}

/// What the figures are made of.
#[derive(Debug, Default)]
pub(super) struct FilterGauges {
    filters: AtomicUsize,
    paths: AtomicUsize,
    unindexed: AtomicUsize,
    pending_bytes: AtomicUsize,
}

impl Gauges for FilterIndex {
    type Figures = FilterGauges;

    fn update(&self, figures: &FilterGauges) {
        figures.filters.store(self.by_filter.len(), Ordering::Relaxed);
        figures.paths.store(self.names.len(), Ordering::Relaxed);
        figures.unindexed.store(self.others.len(), Ordering::Relaxed);
        let pending = self.names.pending_bytes();
        figures.pending_bytes.store(pending, Ordering::Relaxed);
    }
}

impl FilterGauges {
    /// The figures, with the bytes of notes.
    pub(super) fn figures(&self, budget: &Budget, frames: &DeleteFrames) -> FilterFigures {
        let pending = self.pending_bytes.load(Ordering::Relaxed);
        FilterFigures {
            filters: self.filters.load(Ordering::Relaxed),
            paths: self.paths.load(Ordering::Relaxed),
            unindexed: self.unindexed.load(Ordering::Relaxed),
            noted_bytes: budget.used() + frames.bytes() + budget.paths() + pending,
        }
    }
}

/// Groups that are found by a value of their filter.
type ByValue<K> = HashMap<K, Vec<Arc<Group>>>;

/// All groups of a stream.
#[derive(Debug)]
pub(super) struct FilterIndex {
    has_table: bool,
    by_filter: HashMap<Filter, (Arc<Group>, usize)>,
    by_key: ByValue<u64>,
    by_header: HashMap<String, ByValue<String>>,
    by_value: HashMap<Slot, ByValue<String>>,
    others: Vec<Arc<Group>>,
    names: FilterNames,
    budget: Arc<Budget>,
    frames: Arc<DeleteFrames>,
}

impl FilterIndex {
    /// An index without groups, for a stream of these settings.
    pub(super) fn new(settings: &StreamSettings) -> Self {
        Self {
            has_table: settings.has_table(),
            by_filter: HashMap::new(),
            by_key: HashMap::new(),
            by_header: HashMap::new(),
            by_value: HashMap::new(),
            others: Vec::new(),
            names: FilterNames::default(),
            budget: Arc::new(Budget::new(settings.log_bytes.as_len())),
            frames: Arc::new(DeleteFrames::new(settings.log_bytes.as_len())),
        }
    }

    /// Sets the number of bytes that the log may hold.
    pub(super) fn set_log_bytes(&self, log_bytes: usize) {
        self.budget.set_log_bytes(log_bytes);
        self.frames.set_log_bytes(log_bytes);
    }

    /// Whether there is no filter.
    pub(super) fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
    }

    /// Adds a reader to the group of `filter`. `next` is the number of the next record. A filter that is in use is
    /// always admitted, as is any without limits.
    pub(super) fn join(
        &mut self,
        filter: &Filter,
        settings: &StreamSettings,
        next: Sequence,
        limits: Option<FilterLimits>,
    ) -> Result<Arc<Group>, OverLimit> {
        if let Some((group, readers)) = self.by_filter.get_mut(filter) {
            *readers += 1;
            return Ok(Arc::clone(group));
        }
        let matcher = Matcher::new(filter, settings);
        if let Some(limits) = limits {
            let is_over = |count: usize, most: usize| most > 0 && count > most;
            let is_unindexed = matches!(matcher.handle(), Handle::None);
            if is_unindexed && is_over(self.others.len() + 1, limits.max_unindexed) {
                return Err(OverLimit::Unindexed);
            }
            let (fresh, bytes) = self.names.count_new(&matcher);
            if fresh > 0 && is_over(self.names.len() + fresh, limits.max_paths) {
                return Err(OverLimit::Paths);
            }
            if bytes > 0 && !self.budget.allows_paths(self.names.pending_bytes() + bytes) {
                return Err(OverLimit::Paths);
            }
        }
        let slots = self.names.enter(&matcher);
        let first_slot = slots.first().copied();
        let notes = (&self.budget, &self.frames);
        let group = Arc::new(Group::new(matcher, slots, !self.has_table, next, notes));
        self.by_filter.insert(filter.clone(), (Arc::clone(&group), 1));
        let place = |groups: &mut Vec<Arc<Group>>| groups.push(Arc::clone(&group));
        match group.matcher.handle() {
            Handle::Keys(keys) => {
                for key in keys {
                    place(self.by_key.entry(*key).or_default());
                }
            }
            Handle::Header(name, wanted) => {
                let values = self.by_header.entry(name.to_owned()).or_default();
                for value in wanted {
                    place(values.entry(value.clone()).or_default());
                }
            }
            Handle::Value(wanted) => {
                // The first path, which this filter has.
                let values = self.by_value.entry(first_slot.unwrap_or_default()).or_default();
                for value in wanted {
                    place(values.entry(value.clone()).or_default());
                }
            }
            Handle::None => place(&mut self.others),
        }
        Ok(group)
    }

    /// Removes a reader of `filter`.
    pub(super) fn leave(&mut self, filter: &Filter) {
        let Some((_, readers)) = self.by_filter.get_mut(filter) else {
            return;
        };
        *readers -= 1;
        if *readers > 0 {
            return;
        }
        let Some((group, _)) = self.by_filter.remove(filter) else {
            return;
        };
        let first_slot = self.names.leave(&group.matcher);
        match group.matcher.handle() {
            Handle::Keys(keys) => forget_values(&mut self.by_key, keys, &group),
            Handle::Header(name, wanted) => {
                if let Some(values) = self.by_header.get_mut(name) {
                    forget_values(values, wanted, &group);
                    if values.is_empty() {
                        self.by_header.remove(name);
                    }
                }
            }
            Handle::Value(wanted) => {
                let slot = first_slot.unwrap_or_default();
                if let Some(values) = self.by_value.get_mut(&slot) {
                    forget_values(values, wanted, &group);
                    if values.is_empty() {
                        self.by_value.remove(&slot);
                    }
                }
            }
            Handle::None => self.others.retain(|other| !Arc::ptr_eq(other, &group)),
        }
    }

    /// Whether the values of every record are needed; otherwise groups are found by other terms, and values are looked
    /// up only for records that match those.
    pub(super) fn asks_for_values(&self) -> bool {
        !self.by_value.is_empty()
    }

    /// The paths from a number on, and the number of the next.
    pub(super) fn paths_since(&self, slot: Slot) -> (Vec<(Slot, SharedPath)>, Slot) {
        self.names.since(slot)
    }

    /// Changes that the trie of paths must take over; `None` where there are none.
    pub(super) fn path_changes(&mut self) -> Option<Changes> {
        self.names.changes(&self.budget)
    }

    /// The counter of the bytes of notes and of the trie.
    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The frames of deletes.
    pub(super) fn frames(&self) -> &Arc<DeleteFrames> {
        &self.frames
    }

    /// Offers the records of finished blocks to all groups, before the log has them. `replaced` are the rows that they
    /// replaced, where the stream keeps a table; `delete` makes the delete of a record of the batch for groups that
    /// matched only such a row. Groups that are to be woken are added to `dirty`.
    pub(super) fn offer(
        &self,
        (next, first): (Sequence, Sequence),
        blocks: &[Block],
        (replaced, lookups): (&[Replaced], &Lookups<'_>),
        mut delete: impl FnMut(usize) -> Option<Arc<[u8]>>,
        dirty: &mut Vec<Arc<Group>>,
    ) {
        if self.is_empty() {
            return;
        }
        let mut replaced = replaced.iter().enumerate().peekable();
        let candidates = blocks
            .iter()
            .flat_map(|block| (0..block.len()).filter_map(|index| block.candidate(index)));
        for (frame, candidate) in candidates.enumerate() {
            let sequence = next + frame as u64;
            let record = Offered::new(candidate, Which::Frame(frame), lookups);
            self.candidates(&record, |group| {
                if group.wants(&record) && group.push(sequence, false, first) {
                    dirty.push(Arc::clone(group));
                }
            });
            let Some((index, replaced)) = replaced.next_if(|(_, replaced)| replaced.frame == frame) else {
                continue;
            };
            let previous = Offered::new(replaced.row.candidate(), Which::Replaced(index), lookups);
            // Made once, for the first group that needs it.
            let mut is_made: Option<bool> = None;
            self.candidates(&previous, |group| {
                if !group.wants(&previous) || group.wants(&record) {
                    return;
                }
                let is_made = is_made.get_or_insert_with(|| {
                    let frame = delete(replaced.record);
                    frame
                        .map(|frame| self.frames.push(sequence, frame, first))
                        .is_some()
                });
                if *is_made && group.push(sequence, true, first) {
                    dirty.push(Arc::clone(group));
                }
            });
        }
    }

    /// Calls `visit` with every group that may match the record, perhaps more than once.
    fn candidates(&self, record: &Offered<'_>, mut visit: impl FnMut(&Arc<Group>)) {
        let candidate = &record.candidate;
        if let Some(groups) = self.by_key.get(&candidate.key) {
            groups.iter().for_each(&mut visit);
        }
        self.others.iter().for_each(&mut visit);
        if candidate.is_tombstone && self.has_table {
            // A delete passes terms on headers and values.
            let all = self.by_header.values().chain(self.by_value.values());
            all.flat_map(HashMap::values).flatten().for_each(visit);
            return;
        }
        if !self.by_header.is_empty() {
            for (name, value) in unpack_headers(candidate.headers) {
                let named = std::str::from_utf8(name).ok();
                if let Some(groups) = named.and_then(|name| self.by_header.get(name))
                    && let Ok(value) = std::str::from_utf8(value)
                {
                    groups.get(value).into_iter().flatten().for_each(&mut visit);
                }
            }
        }
        // Without a table a delete has no value that a filter could match.
        if self.by_value.is_empty() || candidate.is_tombstone {
            return;
        }
        for (slot, value) in record.values() {
            let groups = self.by_value.get(&slot).and_then(|values| values.get(value));
            groups.into_iter().flatten().for_each(&mut visit);
        }
    }

    /// Offers a notice, the last entry of a block about to be appended, to the groups it concerns.
    pub(super) fn offer_notice(
        &self,
        (sequence, first): (Sequence, Sequence),
        notice: &BlockEntry,
        dirty: &mut Vec<Arc<Group>>,
    ) {
        for (group, _) in self.by_filter.values() {
            if notice.is_read_by(&group.matcher) && group.push(sequence, false, first) {
                dirty.push(Arc::clone(group));
            }
        }
    }

    /// Every group.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.by_filter.values().map(|(group, _)| group)
    }
}

/// Removes a group from a part of the index, and entries that are empty then.
fn forget_values<'a, K, Q>(
    index: &mut ByValue<K>,
    wanted: impl IntoIterator<Item = &'a Q>,
    group: &Arc<Group>,
) where
    K: Eq + std::hash::Hash + std::borrow::Borrow<Q>,
    Q: Eq + std::hash::Hash + ?Sized + 'a,
{
    for value in wanted {
        let Some(groups) = index.get_mut(value) else {
            continue;
        };
        groups.retain(|other| !Arc::ptr_eq(other, group));
        if groups.is_empty() {
            index.remove(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::{Candidate, key_hash};
    use super::*;
    use crate::config::Start;
    use crate::config::filter::Name;
    use crate::stream::path_index::Trie;

    /// How many groups of clients with a filter by key, by a header and by a value each are asked whether they want a
    /// tombstone of that key, on a stream that starts so.
    fn asked(start: Start) -> usize {
        let settings = StreamSettings {
            topics: vec!["orders".to_owned()],
            start,
            ..StreamSettings::default()
        };
        let mut index = FilterIndex::new(&settings);
        let names = [
            Name::Key,
            Name::Header("kind".to_owned()),
            Name::Value(vec!["status".to_owned()]),
        ];
        for name in names {
            let mut filter = Filter::default();
            filter.add(name, "wanted", &settings.topics).expect("a term");
            index.join(&filter, &settings, 1, None).expect("no limits");
        }
        let trie = Trie::new(Arc::clone(index.budget()));
        let lookups = Lookups::new(&trie);
        let tombstone = Candidate {
            topic: 0,
            partition: 0,
            key: key_hash(Some(b"wanted")),
            is_tombstone: true,
            headers: &[],
            frame: b"",
        };
        let mut asked = 0;
        index.candidates(&Offered::new(tombstone, Which::Frame(0), &lookups), |_| {
            asked += 1;
        });
        asked
    }

    #[test]
    fn a_tombstone_is_offered_to_filters_of_headers_and_values_only_where_it_deletes_a_row() {
        assert_eq!(asked(Start::Live), 1, "by its key alone");
        assert_eq!(
            asked(Start::Snapshot),
            3,
            "a delete passes terms on headers and values"
        );
    }
}
