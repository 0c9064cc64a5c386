//! The paths of values and names of headers that the filters of a stream's clients ask for. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::filter::Matcher;
use super::noted::Budget;
use super::path_index::{Changes, SharedPath};
use super::paths::{Paths, Slot};

/// Names with the number of groups that use each.
#[derive(Debug, Default)]
pub(super) struct FilterNames {
    paths: HashMap<SharedPath, (Slot, usize)>,
    by_slot: BTreeMap<Slot, SharedPath>,
    headers: HashMap<String, usize>,
    /// The number of the next path.
    next: Slot,
    /// The trie contains all paths before this.
    taken: Slot,
    /// Upper bound of the bytes of the paths from `taken` on.
    pending_bytes: usize,
    /// Paths in the trie that no group uses any more.
    removed: Vec<Slot>,
}

impl FilterNames {
    pub(super) fn len(&self) -> usize {
        self.paths.len() + self.headers.len()
    }

    /// Upper bound of the bytes of the paths that the trie does not contain yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// How many names of a matcher no group uses yet, and an upper bound of the bytes of their paths.
    pub(super) fn count_new(&self, matcher: &Matcher) -> (usize, usize) {
        let paths = matcher.paths().filter(|path| !self.paths.contains_key(*path));
        let (paths, bytes) = paths.fold((0, 0), |(count, bytes), path| {
            (count + 1, bytes + Paths::most_bytes(path))
        });
        let headers: BTreeSet<&str> = matcher.headers().collect();
        let headers = headers
            .into_iter()
            .filter(|name| !self.headers.contains_key(*name));
        (paths + headers.count(), bytes)
    }

    /// Adds a group with the names of a matcher. Returns the numbers of its paths.
    pub(super) fn enter(&mut self, matcher: &Matcher) -> Vec<Slot> {
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
            let (slot, shared) = (self.next, SharedPath::from(path));
            self.next += 1;
            self.pending_bytes += Paths::most_bytes(path);
            self.by_slot.insert(slot, Arc::clone(&shared));
            self.paths.insert(shared, (slot, 1));
            slots.push(slot);
        }
        slots
    }

    /// Removes a group. Returns the number of its first path.
    pub(super) fn leave(&mut self, matcher: &Matcher) -> Option<Slot> {
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
            if *groups > 0 {
                continue;
            }
            self.paths.remove(path);
            self.by_slot.remove(&slot);
            if slot < self.taken {
                self.removed.push(slot);
            } else {
                self.pending_bytes -= Paths::most_bytes(path);
            }
        }
        first
    }

    /// Additions and removals since the last call, for the trie; `None` where there are none.
    pub(super) fn changes(&mut self, budget: &Budget) -> Option<Changes> {
        let (added, end) = self.since(self.taken);
        let removed = std::mem::take(&mut self.removed);
        self.taken = end;
        if added.is_empty() && removed.is_empty() {
            return None;
        }
        // A preliminary count, until the trie has counted them.
        budget.add_paths(std::mem::take(&mut self.pending_bytes));
        Some(Changes { added, removed, end })
    }

    /// The paths from a number on, and the number of the next.
    pub(super) fn since(&self, slot: Slot) -> (Vec<(Slot, SharedPath)>, Slot) {
        let paths = self.by_slot.range(slot..);
        let paths = paths.map(|(slot, path)| (*slot, Arc::clone(path)));
        (paths.collect(), self.next)
    }
}
