//! The readers of a stream that share a filter, and the records that match it.
//!
//! The [index](super::filter_index) pushes every match as it arrives; a reader asks for the next match and is woken
//! only for matches. Records from before the group joined, and matches beyond its budget, are searched block by block
//! as its readers need them, and the result is kept for the other readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::block::Block;
use super::filter::Matcher;
use super::log::Sequence;
use super::noted::{Budget, DeleteFrames, Numbers};
use super::path_index::Offered;
use super::paths::Slot;
use super::waiters::Waiters;

/// Bytes of a part of the past beside its matches.
const PAST_OVERHEAD: usize = 64;

/// A record that matches a group's filter.
#[derive(Debug, Clone)]
pub(super) struct Match {
    pub(super) sequence: Sequence,
    /// The frame that replaces the record's own, without an id line: the key matched before and no longer does.
    pub(super) delete: Option<Arc<[u8]>>,
}

/// A range of records from before the group joined, with the matches among them.
#[derive(Debug)]
struct Past {
    to: Sequence,
    found: Numbers,
}

impl Past {
    fn bytes(&self) -> usize {
        self.found.bytes() + PAST_OVERHEAD
    }
}

#[derive(Debug)]
struct Matches {
    /// From this record on every match is noted.
    from: Sequence,
    /// In the order of their numbers; at most one word beyond the records of the log.
    recent: Numbers,
    /// The last match that is no longer available; zero if there was none.
    lost: Sequence,
    /// By the number of the first record.
    past: BTreeMap<Sequence, Past>,
    /// Bytes of `past`.
    past_bytes: usize,
    is_dirty: bool,
    /// Whether a look is under way.
    is_looking: bool,
}

impl Matches {
    fn bytes(&self) -> usize {
        self.recent.bytes() + self.past_bytes
    }
}

/// The readers of a stream that have the same filter.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) matcher: Matcher,
    /// The index's slots of the matcher's paths.
    slots: Vec<Slot>,
    pub(super) waiters: Arc<Waiters>,
    /// Whether a search finds matches that were not noted. A search does not find deletes.
    can_look: bool,
    matches: Mutex<Matches>,
    budget: Arc<Budget>,
    /// The frames of records that are noted as deletes.
    frames: Arc<DeleteFrames>,
}

/// The result of a selection from a cursor on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selected {
    /// All matches up to this number were shown, or as many as requested.
    Until(Sequence),
    /// Not known: the records up to this number must be searched first.
    Unknown(Sequence),
    /// A match has left the log.
    Evicted,
}

impl Group {
    /// A group that joins before the record `from`. `slots` are those of the matcher's paths.
    pub(super) fn new(
        matcher: Matcher,
        slots: Vec<Slot>,
        can_look: bool,
        from: Sequence,
        (budget, frames): (&Arc<Budget>, &Arc<DeleteFrames>),
    ) -> Self {
        budget.enter();
        Self {
            matcher,
            slots,
            // A group seldom has more than a few readers: one lock.
            waiters: Waiters::new(1),
            can_look,
            matches: Mutex::new(Matches {
                from,
                recent: Numbers::default(),
                lost: 0,
                past: BTreeMap::new(),
                past_bytes: 0,
                is_dirty: false,
                is_looking: false,
            }),
            budget: Arc::clone(budget),
            frames: Arc::clone(frames),
        }
    }

    fn matches(&self) -> MutexGuard<'_, Matches> {
        self.matches.lock()
    }

    /// Whether a record matches the group's filter.
    pub(super) fn wants(&self, record: &Offered<'_>) -> bool {
        self.matcher.accepts_by(&record.candidate, |term| {
            let slot = *self.slots.get(term)?;
            record.value(slot)
        })
    }

    /// Notes a match; returns whether the readers must be woken for it. Matches before `first`, the oldest record of
    /// the log, are forgotten.
    pub(super) fn push(&self, sequence: Sequence, is_delete: bool, first: Sequence) -> bool {
        let mut matches = self.matches();
        let before = matches.bytes();
        while let Some(oldest) = matches.recent.oldest().filter(|oldest| *oldest < first) {
            matches.lost = oldest;
            matches.recent.pop();
        }
        while let Some(past) = matches.past.first_entry().filter(|past| past.get().to <= first) {
            let past = past.remove();
            matches.past_bytes -= past.bytes();
        }
        while !self.budget.allows(matches.bytes()) {
            if let Some((_, past)) = matches.past.pop_first() {
                matches.past_bytes -= past.bytes();
                continue;
            }
            let Some(oldest) = matches.recent.oldest() else {
                break;
            };
            if self.can_look {
                matches.from = oldest + 1;
            } else {
                matches.lost = oldest;
            }
            matches.recent.pop();
        }
        let is_new = matches.recent.push(sequence, is_delete);
        self.budget.count(before, matches.bytes());
        is_new && !std::mem::replace(&mut matches.is_dirty, true)
    }

    /// Wakes the readers.
    pub(super) fn wake(&self) {
        self.matches().is_dirty = false;
        self.waiters.wake_all();
    }

    /// Shows every match from `cursor` up to `next` until `show` returns false. `show` returns `Err` where the record
    /// has left the log.
    pub(super) fn select(
        &self,
        cursor: Sequence,
        next: Sequence,
        mut show: impl FnMut(&Match) -> Result<bool, ()>,
    ) -> Selected {
        let mut matches = self.matches();
        if cursor >= matches.from {
            if matches.lost >= cursor {
                return Selected::Evicted;
            }
            let matches = &mut *matches;
            let found = matches.recent.from(cursor);
            for (sequence, is_delete) in found.take_while(|(sequence, _)| *sequence < next) {
                let delete = match is_delete.then(|| self.frames.get(sequence)).transpose() {
                    Ok(delete) => delete,
                    Err(lost) => {
                        matches.lost = lost;
                        return Selected::Evicted;
                    }
                };
                match show(&Match { sequence, delete }) {
                    Ok(true) => {}
                    Ok(false) => return Selected::Until(sequence + 1),
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
        for (sequence, _) in past.found.from(cursor) {
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

    /// The records from `cursor` up to `until` at which a key ceased to match; `None` where not all of them are known,
    /// or they are more than `most`.
    pub(super) fn deletes(&self, cursor: Sequence, until: Sequence, most: usize) -> Option<Vec<Sequence>> {
        let matches = self.matches();
        if cursor < matches.from || cursor <= matches.lost {
            return None;
        }
        let noted = matches
            .recent
            .from(cursor)
            .take_while(|(sequence, _)| *sequence < until);
        let deletes = noted.filter_map(|(sequence, is_delete)| is_delete.then_some(sequence));
        let deletes: Vec<Sequence> = deletes.take(most + 1).collect();
        (deletes.len() <= most).then_some(deletes)
    }

    /// The last match that is no longer available; zero if there was none.
    pub(super) fn lost(&self) -> Sequence {
        self.matches().lost
    }

    /// Begins a look. Returns false if one is under way.
    pub(super) fn begin_look(&self) -> bool {
        !std::mem::replace(&mut self.matches().is_looking, true)
    }

    /// Searches the records of a block from `cursor` up to `until`, and keeps the matches for other readers.
    pub(super) fn look(&self, cursor: Sequence, until: Sequence, (first, block): &(Sequence, Arc<Block>)) {
        let to = until.min(first + block.len() as u64);
        let found: Numbers = (cursor..to)
            .filter(|sequence| {
                usize::try_from(sequence - first).is_ok_and(|index| block.is_for(index, &self.matcher))
            })
            .collect();
        let mut matches = self.matches();
        matches.is_looking = false;
        let before = matches.bytes();
        if !self.budget.allows(before) {
            matches.past.clear();
            matches.past_bytes = 0;
        }
        let past = Past { to, found };
        matches.past_bytes += past.bytes();
        if let Some(raced) = matches.past.insert(cursor, past) {
            matches.past_bytes -= raced.bytes();
        }
        self.budget.count(before, matches.bytes());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.budget.leave(self.matches().bytes());
    }
}
