//! Who filters alike: the readers of a stream that share a filter, and which records are for them.
//!
//! ```text
//! feed ──record──► Groups ──by key, header or value──► Group ──dirty──► its waiters
//!                                                       └─ matches ◄── cursors of its readers
//! ```
//! A record is offered once. What tells filters apart best is an index: the record's key, the value of
//! a header or of a path leads to the few groups that may want it, however many others there are; each
//! of those is asked once for all of its readers and notes the record's number. A reader asks its group
//! what comes next, and is woken for nothing else.
//!
//! What lies in the log from before a group came, or more than it can note, is looked through block by
//! block as its readers need it, and remembered for the others.
//!
//! On a stream that keeps a table a record can end what a reader holds: the group that wanted the key's
//! last record, but not this one, notes it as a delete.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::block::Block;
use super::filter::{Candidate, Handle, Matcher, header_values, payload, scalar_at};
use super::log::Sequence;
use super::waiters::Waiters;
use crate::config::StreamSettings;
use crate::config::filter::Filter;

/// Most matches a group notes (192 KiB), twice what one batch can bring: many broad filters must not
/// take more than the log they look at.
const MAX_NOTED: usize = 8192;

/// A record that is for a group.
#[derive(Debug, Clone)]
pub(super) struct Match {
    pub(super) sequence: Sequence,
    /// What is shown instead of the record's own frame, without an id line: its key was wanted and is
    /// not any more.
    pub(super) delete: Option<Arc<[u8]>>,
}

/// Records before the group came, of which it is known which are for it.
#[derive(Debug)]
struct Past {
    to: Sequence,
    found: Vec<Sequence>,
}

#[derive(Debug)]
struct Matches {
    /// From this record on every match is noted.
    from: Sequence,
    /// In the order of their numbers; no more than the log has.
    recent: VecDeque<Match>,
    /// The last match that cannot be had any more; zero if none was.
    lost: Sequence,
    /// By the number of the first record.
    past: BTreeMap<Sequence, Past>,
    /// Matches in those.
    past_found: usize,
    is_dirty: bool,
}

/// The readers of a stream that have the same filter.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) matcher: Matcher,
    pub(super) waiters: Arc<Waiters>,
    /// Whether what was not noted can be found by looking: not which deletes there were.
    can_look: bool,
    matches: Mutex<Matches>,
}

/// What is known about the records from a cursor on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selected {
    /// All matches up to this number were shown, or as many as were wanted.
    Until(Sequence),
    /// Nothing: the records up to this number must be looked at first.
    Unknown(Sequence),
    /// A match has left the log.
    Evicted,
}

impl Group {
    fn new(filter: &Filter, settings: &StreamSettings, from: Sequence) -> Self {
        Self {
            matcher: Matcher::new(filter, settings),
            // Seldom more than a few readers: one lock.
            waiters: Waiters::new(1),
            can_look: !settings.has_table(),
            matches: Mutex::new(Matches {
                from,
                recent: VecDeque::new(),
                lost: 0,
                past: BTreeMap::new(),
                past_found: 0,
                is_dirty: false,
            }),
        }
    }

    fn matches(&self) -> MutexGuard<'_, Matches> {
        // Poisoned only by a panic, which has ended the process or the test.
        self.matches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a match; returns whether the readers are still to be woken for it. `first` is the oldest
    /// record of the log: what is older is forgotten.
    fn push(&self, sequence: Sequence, delete: Option<&Arc<[u8]>>, first: Sequence) -> bool {
        let mut matches = self.matches();
        while let Some(oldest) = matches.recent.front().map(|oldest| oldest.sequence) {
            if oldest < first {
                matches.lost = oldest;
            } else if matches.recent.len() < MAX_NOTED {
                break;
            } else if self.can_look {
                matches.from = oldest + 1;
            } else {
                matches.lost = oldest;
            }
            matches.recent.pop_front();
        }
        while let Some(past) = matches.past.first_entry().filter(|past| past.get().to <= first) {
            let past = past.remove();
            matches.past_found -= past.found.len();
        }
        if matches
            .recent
            .back()
            .is_some_and(|last| last.sequence == sequence)
        {
            return false;
        }
        matches.recent.push_back(Match {
            sequence,
            delete: delete.cloned(),
        });
        !std::mem::replace(&mut matches.is_dirty, true)
    }

    /// Wakes the readers.
    pub(super) fn wake(&self) {
        self.matches().is_dirty = false;
        self.waiters.wake_all();
    }

    /// Shows every match from `cursor` up to `next` until `show` wants no more: it says where to go
    /// on then, or `Err` where the record has left the log.
    pub(super) fn select(
        &self,
        cursor: Sequence,
        next: Sequence,
        mut show: impl FnMut(&Match) -> Result<bool, ()>,
    ) -> Selected {
        let matches = self.matches();
        if cursor >= matches.from {
            if matches.lost >= cursor {
                return Selected::Evicted;
            }
            let start = matches.recent.partition_point(|found| found.sequence < cursor);
            for found in matches.recent.range(start..) {
                if found.sequence >= next {
                    break;
                }
                match show(found) {
                    Ok(true) => {}
                    Ok(false) => return Selected::Until(found.sequence + 1),
                    Err(()) => return Selected::Evicted,
                }
            }
            return Selected::Until(next);
        }
        let known = matches.past.range(..=cursor).next_back();
        let Some((_, past)) = known.filter(|(_, past)| cursor < past.to) else {
            let later = matches.past.range(cursor..).next().map(|(first, _)| *first);
            return Selected::Unknown(later.unwrap_or(matches.from));
        };
        let start = past.found.partition_point(|found| *found < cursor);
        for &sequence in &past.found[start..] {
            let found = Match {
                sequence,
                delete: None,
            };
            match show(&found) {
                Ok(true) => {}
                Ok(false) => return Selected::Until(sequence + 1),
                Err(()) => return Selected::Evicted,
            }
        }
        Selected::Until(past.to)
    }

    /// The last match that cannot be had any more; zero if none was.
    pub(super) fn lost(&self) -> Sequence {
        self.matches().lost
    }

    /// Looks through the records of a block from `cursor` up to `until`, for all who come after.
    pub(super) fn look(&self, cursor: Sequence, until: Sequence, (first, block): &(Sequence, Arc<Block>)) {
        let to = until.min(first + block.len() as u64);
        let found: Vec<Sequence> = (cursor..to)
            .filter(|sequence| {
                usize::try_from(sequence - first).is_ok_and(|index| block.is_for(index, &self.matcher))
            })
            .collect();
        let mut matches = self.matches();
        if matches.past_found > MAX_NOTED {
            matches.past.clear();
            matches.past_found = 0;
        }
        matches.past_found += found.len();
        if let Some(raced) = matches.past.insert(cursor, Past { to, found }) {
            matches.past_found -= raced.found.len();
        }
    }
}

/// Groups that are found by a value of theirs.
type ByValue<K> = HashMap<K, Vec<Arc<Group>>>;

/// All groups of a stream.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_filter: HashMap<Filter, (Arc<Group>, usize)>,
    by_key: ByValue<u64>,
    by_header: BTreeMap<String, ByValue<String>>,
    by_value: BTreeMap<Vec<String>, ByValue<String>>,
    others: Vec<Arc<Group>>,
}

impl Groups {
    /// Whether nobody filters.
    pub(super) fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
    }

    /// The group of `filter`, with one reader more. `next` is the number of the next record.
    pub(super) fn join(&mut self, filter: &Filter, settings: &StreamSettings, next: Sequence) -> Arc<Group> {
        if let Some((group, readers)) = self.by_filter.get_mut(filter) {
            *readers += 1;
            return Arc::clone(group);
        }
        let group = Arc::new(Group::new(filter, settings, next));
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
            Handle::Value(path, wanted) => {
                let values = self.by_value.entry(path.to_vec()).or_default();
                for value in wanted {
                    place(values.entry(value.clone()).or_default());
                }
            }
            Handle::None => place(&mut self.others),
        }
        group
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
        let is_gone = |group: &Arc<Group>, groups: &mut Vec<Arc<Group>>| {
            groups.retain(|other| !Arc::ptr_eq(other, group));
            groups.is_empty()
        };
        match group.matcher.handle() {
            Handle::Keys(keys) => {
                for key in keys {
                    if self
                        .by_key
                        .get_mut(key)
                        .is_some_and(|groups| is_gone(&group, groups))
                    {
                        self.by_key.remove(key);
                    }
                }
            }
            Handle::Header(name, wanted) => forget(&mut self.by_header, name, wanted, &group),
            Handle::Value(path, wanted) => forget(&mut self.by_value, path, wanted, &group),
            Handle::None => {
                is_gone(&group, &mut self.others);
            }
        }
    }

    /// Calls `visit` with every group that may want the record, perhaps more than once.
    fn candidates(&self, record: &Candidate<'_>, mut visit: impl FnMut(&Arc<Group>)) {
        if let Some(groups) = self.by_key.get(&record.key) {
            groups.iter().for_each(&mut visit);
        }
        self.others.iter().for_each(&mut visit);
        if record.is_tombstone {
            // It has no value, and a delete may pass whatever was asked of headers.
            let all = self.by_header.values().chain(self.by_value.values());
            all.flat_map(HashMap::values).flatten().for_each(visit);
            return;
        }
        for (name, groups) in &self.by_header {
            for value in header_values(record.headers, name) {
                groups.get(value).into_iter().flatten().for_each(&mut visit);
            }
        }
        if self.by_value.is_empty() {
            return;
        }
        let mut scratch = Vec::new();
        let Some(payload) = payload(record.frame, &mut scratch) else {
            return;
        };
        for (path, groups) in &self.by_value {
            if let Some(value) = scalar_at(payload, path) {
                groups.get(&*value).into_iter().flatten().for_each(&mut visit);
            }
        }
    }

    /// Offers a record to all groups, before the log has it. `previous` is its key's last record where
    /// the stream keeps a table; `delete` makes what is shown to those who wanted that one only. Groups
    /// that are to be woken are added to `dirty`.
    pub(super) fn offer(
        &self,
        (sequence, first): (Sequence, Sequence),
        record: &Candidate<'_>,
        previous: Option<&Candidate<'_>>,
        delete: impl FnOnce() -> Option<Arc<[u8]>>,
        dirty: &mut Vec<Arc<Group>>,
    ) {
        self.candidates(record, |group| {
            if group.matcher.accepts(record) && group.push(sequence, None, first) {
                dirty.push(Arc::clone(group));
            }
        });
        let Some(previous) = previous.filter(|previous| !previous.is_tombstone) else {
            return;
        };
        let mut delete = Some(delete);
        let mut made: Option<Arc<[u8]>> = None;
        self.candidates(previous, |group| {
            if !group.matcher.accepts(previous) || group.matcher.accepts(record) {
                return;
            }
            if let Some(delete) = delete.take() {
                made = delete();
            }
            if let Some(made) = &made
                && group.push(sequence, Some(made), first)
            {
                dirty.push(Arc::clone(group));
            }
        });
    }

    /// Offers what is no record, the last of a block about to be appended, to whom it concerns.
    pub(super) fn offer_notice(
        &self,
        (sequence, first): (Sequence, Sequence),
        notice: &super::block::Entry,
        dirty: &mut Vec<Arc<Group>>,
    ) {
        for (group, _) in self.by_filter.values() {
            if group
                .matcher
                .accepts_notice(notice.kind, notice.topic, notice.partition)
                && group.push(sequence, None, first)
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
fn forget<K, Q>(
    index: &mut BTreeMap<K, ByValue<String>>,
    name: &Q,
    wanted: &std::collections::BTreeSet<String>,
    group: &Arc<Group>,
) where
    K: Ord + std::borrow::Borrow<Q>,
    Q: Ord + ?Sized,
{
    let Some(values) = index.get_mut(name) else { return };
    for value in wanted {
        let Some(groups) = values.get_mut(value) else {
            continue;
        };
        groups.retain(|other| !Arc::ptr_eq(other, group));
        if groups.is_empty() {
            values.remove(value);
        }
    }
    if values.is_empty() {
        index.remove(name);
    }
}
