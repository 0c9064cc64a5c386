//! The index of filters: which groups of readers a record is for.
//!
//! ```text
//! feed ──batch──► Groups ──by key, header or value──► Group ──dirty──► its waiters
//!                                                      └─ matches ◄── cursors of its readers
//! ```
//! A record is offered once. What tells filters apart best is an index: the record's key, the value of
//! a header or of a path leads to the few groups that may want it, however many others there are; each
//! of those is asked once for all of its readers and notes the record's number.
//!
//! The values at the paths of all filters are looked up once per record, for a whole batch before the index is
//! locked ([`Lookups`]). The lock is held from the first offer of a batch until the log has it, so that a group
//! that comes knows from which record on it hears of all; not while records are encoded or their values looked
//! up.
//!
//! On a stream that keeps a table a record can end what a reader holds: the group that wanted the key's
//! last record, but not this one, notes it as a delete.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::block::{Block, Entry};
use super::filter::{Candidate, Handle, Matcher, payload, unpack_headers};
use super::group::Group;
use super::latest::Row;
use super::log::Sequence;
use super::noted::{Budget, DeleteFrames};
use super::paths::{Found, Paths, Slot, Values};
use crate::config::StreamSettings;
use crate::config::filter::Filter;

/// A row of the table that a record of a batch replaced, or a stand-in for one that had left.
#[derive(Debug)]
pub(super) struct Replaced {
    /// Which frame of the batch did it.
    pub(super) frame: usize,
    /// Which record of the batch that shows.
    pub(super) record: usize,
    pub(super) row: Row,
}

/// The values of a batch's records at the paths of filters.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// The paths; `None` where nothing was looked up.
    paths: Option<Arc<Paths>>,
    frames: Found,
    replaced: Found,
}

impl Lookups {
    /// Looks up these paths in all records of finished blocks, and in the rows that they replaced.
    pub(super) fn new(paths: Arc<Paths>, blocks: &[Block], replaced: &[Replaced]) -> Self {
        let (mut frames, mut rows) = (Found::default(), Found::default());
        let mut scratch = Vec::new();
        let mut look_up = |found: &mut Found, candidate: Option<&Candidate<'_>>| {
            let candidate = candidate.filter(|candidate| !candidate.is_tombstone);
            match candidate.and_then(|candidate| payload(candidate.frame, &mut scratch)) {
                Some(json) => found.look_up(&paths, json),
                None => found.pass_over(),
            }
        };
        for block in blocks {
            for index in 0..block.len() {
                look_up(&mut frames, block.candidate(index).as_ref());
            }
        }
        for replaced in replaced {
            look_up(&mut rows, Some(&replaced.row.candidate()));
        }
        Self {
            paths: Some(paths),
            frames,
            replaced: rows,
        }
    }
}

/// A record as groups see it: its values are looked up once for all of them.
#[derive(Debug)]
pub(super) struct Offered<'a> {
    pub(super) candidate: Candidate<'a>,
    known: Option<Values<'a>>,
    paths: &'a Paths,
    /// The values, where they were not known before.
    late: OnceCell<Found>,
}

impl<'a> Offered<'a> {
    fn new(candidate: Candidate<'a>, known: Option<Values<'a>>, paths: &'a Paths) -> Self {
        Self {
            candidate,
            known,
            paths,
            late: OnceCell::new(),
        }
    }

    /// Its values by the index's numbers of paths.
    pub(super) fn values(&self) -> Values<'_> {
        self.known.unwrap_or_else(|| {
            let found = self.late.get_or_init(|| {
                let (mut found, mut scratch) = (Found::default(), Vec::new());
                match payload(self.candidate.frame, &mut scratch) {
                    Some(json) => found.look_up(self.paths, json),
                    None => found.pass_over(),
                }
                found
            });
            found.values(0)
        })
    }
}

/// Most that filters of one stream may ask for; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterLimits {
    /// Different paths of values and names of headers.
    pub max_paths: usize,
    /// Filters that no index serves.
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

/// The limit of a stream that a filter met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverLimit {
    /// `max_filter_paths`
    Paths,
    /// `max_unindexed_filters`
    Unindexed,
}

/// How many filters are in use, and what they take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterFigures {
    /// Different filters.
    pub filters: usize,
    /// Different paths of values and names of headers.
    pub paths: usize,
    /// Filters that no index serves.
    pub unindexed: usize,
    /// Bytes of what is noted for them.
    pub noted_bytes: usize,
}

/// Groups that are found by a value of theirs.
type ByValue<K> = HashMap<K, Vec<Arc<Group>>>;

/// All groups of a stream.
#[derive(Debug)]
pub(super) struct Groups {
    has_table: bool,
    by_filter: HashMap<Filter, (Arc<Group>, usize)>,
    by_key: ByValue<u64>,
    by_header: HashMap<String, ByValue<String>>,
    by_value: HashMap<Slot, ByValue<String>>,
    others: Vec<Arc<Group>>,
    names: Names,
    budget: Arc<Budget>,
    frames: Arc<DeleteFrames>,
}

impl Groups {
    /// No groups yet, for a stream of these settings.
    pub(super) fn new(settings: &StreamSettings) -> Self {
        Self {
            has_table: settings.has_table(),
            by_filter: HashMap::new(),
            by_key: HashMap::new(),
            by_header: HashMap::new(),
            by_value: HashMap::new(),
            others: Vec::new(),
            names: Names::default(),
            budget: Arc::new(Budget::new(settings.log_bytes.as_len())),
            frames: Arc::new(DeleteFrames::new(settings.log_bytes.as_len())),
        }
    }

    /// The log may hold so many bytes from now on.
    pub(super) fn set_log_bytes(&self, log_bytes: usize) {
        self.budget.set_log_bytes(log_bytes);
        self.frames.set_log_bytes(log_bytes);
    }

    /// Whether nobody filters.
    pub(super) fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
    }

    /// What filters take now.
    pub(super) fn figures(&self) -> FilterFigures {
        FilterFigures {
            filters: self.by_filter.len(),
            paths: self.names.len(),
            unindexed: self.others.len(),
            noted_bytes: self.budget.used() + self.frames.bytes(),
        }
    }

    /// The group of `filter`, with one reader more. `next` is the number of the next record. A filter that is in
    /// use is always let in, and so is any without limits.
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
            let fresh = self.names.count_new(&matcher);
            if fresh > 0 && is_over(self.names.len() + fresh, limits.max_paths) {
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
                // Its first path, which it has.
                let values = self.by_value.entry(first_slot.unwrap_or_default()).or_default();
                for value in wanted {
                    place(values.entry(value.clone()).or_default());
                }
            }
            Handle::None => place(&mut self.others),
        }
        Ok(group)
    }

    /// One reader of `filter` less.
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

    /// The paths that are to be looked up in every record; `None` where a group is found by another term, and
    /// paths are looked up where one of those may want the record.
    pub(super) fn paths_of_every_record(&mut self) -> Option<Arc<Paths>> {
        (!self.by_value.is_empty()).then(|| Arc::clone(self.names.paths()))
    }

    /// Offers the records of finished blocks to all groups, before the log has them. `replaced` are the rows
    /// that they put an end to, where the stream keeps a table; `delete` makes what is shown for a record of the
    /// batch to those who wanted such a row only. Groups that are to be woken are added to `dirty`.
    pub(super) fn offer(
        &mut self,
        (next, first): (Sequence, Sequence),
        blocks: &[Block],
        (replaced, lookups): (&[Replaced], &Lookups),
        mut delete: impl FnMut(usize) -> Option<Arc<[u8]>>,
        dirty: &mut Vec<Arc<Group>>,
    ) {
        if self.is_empty() {
            return;
        }
        let paths = Arc::clone(self.names.paths());
        // A group that came since may have brought other paths.
        let is_known = lookups
            .paths
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &paths));
        let mut replaced = replaced.iter().enumerate().peekable();
        let candidates = blocks
            .iter()
            .flat_map(|block| (0..block.len()).filter_map(|index| block.candidate(index)));
        for (frame, candidate) in candidates.enumerate() {
            let sequence = next + frame as u64;
            let known = is_known.then(|| lookups.frames.values(frame));
            let record = Offered::new(candidate, known, &paths);
            self.candidates(&record, |group| {
                if group.wants(&record) && group.push(sequence, false, first) {
                    dirty.push(Arc::clone(group));
                }
            });
            let Some((index, replaced)) = replaced.next_if(|(_, replaced)| replaced.frame == frame) else {
                continue;
            };
            let known = is_known.then(|| lookups.replaced.values(index));
            let previous = Offered::new(replaced.row.candidate(), known, &paths);
            // Made once, for the first that wants it.
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

    /// Calls `visit` with every group that may want the record, perhaps more than once.
    fn candidates(&self, record: &Offered<'_>, mut visit: impl FnMut(&Arc<Group>)) {
        let candidate = &record.candidate;
        if let Some(groups) = self.by_key.get(&candidate.key) {
            groups.iter().for_each(&mut visit);
        }
        self.others.iter().for_each(&mut visit);
        if candidate.is_tombstone && self.has_table {
            // A delete passes whatever was asked of headers and values.
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
        // Without a table a delete has no value that could be asked for.
        if self.by_value.is_empty() || candidate.is_tombstone {
            return;
        }
        for (slot, value) in record.values().iter() {
            let groups = self.by_value.get(&slot).and_then(|values| values.get(value));
            groups.into_iter().flatten().for_each(&mut visit);
        }
    }

    /// Offers what is no record, the last of a block about to be appended, to whom it concerns.
    pub(super) fn offer_notice(
        &self,
        (sequence, first): (Sequence, Sequence),
        notice: &Entry,
        dirty: &mut Vec<Arc<Group>>,
    ) {
        for (group, _) in self.by_filter.values() {
            if group
                .matcher
                .accepts_notice(notice.kind, notice.topic, notice.partition)
                && group.push(sequence, false, first)
            {
                dirty.push(Arc::clone(group));
            }
        }
    }

    /// Every group.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.by_filter.values().map(|(group, _)| group)
    }
}

/// Takes a group out of a part of the index, and what is empty then.
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

/// The paths of values and names of headers that filters ask for.
#[derive(Debug, Default)]
struct Names {
    /// Paths with their numbers and how many groups ask for them.
    paths: HashMap<Vec<String>, (Slot, usize)>,
    headers: HashMap<String, usize>,
    /// Numbers that were given up.
    free: Vec<Slot>,
    /// The paths to look up; `None` where they have changed.
    trie: Option<Arc<Paths>>,
}

impl Names {
    fn len(&self) -> usize {
        self.paths.len() + self.headers.len()
    }

    /// How many names of a matcher nobody asks for yet.
    fn count_new(&self, matcher: &Matcher) -> usize {
        let paths = matcher.paths().filter(|path| !self.paths.contains_key(*path));
        let headers: BTreeSet<&str> = matcher.headers().collect();
        let headers = headers
            .into_iter()
            .filter(|name| !self.headers.contains_key(*name));
        paths.count() + headers.count()
    }

    /// One group more asks for the names of a matcher. The numbers of its paths.
    fn enter(&mut self, matcher: &Matcher) -> Vec<Slot> {
        for name in matcher.headers() {
            *self.headers.entry(name.to_owned()).or_default() += 1;
        }
        let mut slots = Vec::new();
        for path in matcher.paths() {
            if let Some((slot, groups)) = self.paths.get_mut(path) {
                *groups += 1;
                slots.push(*slot);
                continue;
            }
            let unused = Slot::try_from(self.paths.len()).unwrap_or(Slot::MAX);
            let slot = self.free.pop().unwrap_or(unused);
            self.paths.insert(path.to_vec(), (slot, 1));
            self.trie = None;
            slots.push(slot);
        }
        slots
    }

    /// One group less. The number of its first path.
    fn leave(&mut self, matcher: &Matcher) -> Option<Slot> {
        for name in matcher.headers() {
            if let Some(groups) = self.headers.get_mut(name) {
                *groups -= 1;
                if *groups == 0 {
                    self.headers.remove(name);
                }
            }
        }
        let mut first = None;
        for path in matcher.paths() {
            let Some((slot, groups)) = self.paths.get_mut(path) else {
                continue;
            };
            let slot = *slot;
            first.get_or_insert(slot);
            *groups -= 1;
            if *groups == 0 {
                self.paths.remove(path);
                self.free.push(slot);
                self.trie = None;
            }
        }
        first
    }

    /// The paths to look up. Put together anew where they have changed, at most once per batch, however many
    /// clients come and go.
    fn paths(&mut self) -> &Arc<Paths> {
        self.trie.get_or_insert_with(|| {
            let paths = self.paths.iter();
            Arc::new(Paths::new(
                paths.map(|(path, (slot, _))| (*slot, path.as_slice())),
            ))
        })
    }
}
