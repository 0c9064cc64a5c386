//! The filters of a stream's clients: the groups of readers that share one, and the trie of the paths that they compare.
//!
//! The locks are taken in the order trie, index. Clients take that of the index, and never wait for the trie, which the
//! writer holds while it looks up the values of a batch.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::filter_index::{FilterFigures, FilterIndex, FilterLimits, OverLimit};
use super::gauged::{Gauged, GaugedGuard};
use super::group::Group;
use super::log::Sequence;
use super::noted::{Budget, DeleteFrames};
use super::path_index::Trie;
use crate::config::StreamSettings;
use crate::config::filter::Filter;

#[derive(Debug)]
pub(super) struct Filters {
    index: Gauged<FilterIndex>,
    trie: Mutex<Trie>,
    budget: Arc<Budget>,
    frames: Arc<DeleteFrames>,
}

impl Filters {
    pub(super) fn new(settings: &StreamSettings) -> Self {
        let index = FilterIndex::new(settings);
        Self {
            trie: Mutex::new(Trie::new(Arc::clone(index.budget()))),
            budget: Arc::clone(index.budget()),
            frames: Arc::clone(index.frames()),
            index: Gauged::new(index),
        }
    }

    /// Locks the index. The writer holds this lock from when it offers an encoded batch until the log has it, so that a
    /// group that joins knows the record from which it is offered all.
    pub(super) fn index(&self) -> GaugedGuard<'_, FilterIndex> {
        self.index.write()
    }

    /// The figures, which are read without a lock.
    pub(super) fn figures(&self) -> FilterFigures {
        self.index.figures().figures(&self.budget, &self.frames)
    }

    /// The group of a filter, with one reader more, within these limits. `next` returns the number of the next record.
    pub(super) fn join(
        &self,
        filter: &Filter,
        settings: &StreamSettings,
        next: impl FnOnce() -> Sequence,
        limits: Option<FilterLimits>,
    ) -> Result<Arc<Group>, OverLimit> {
        let mut index = self.index();
        let group = index.join(filter, settings, next(), limits)?;
        drop(index);
        self.apply_changes();
        Ok(group)
    }

    /// Removes a reader of a filter.
    pub(super) fn leave(&self, filter: &Filter) {
        self.index().leave(filter);
        self.apply_changes();
    }

    /// Applies changed paths to the trie, unless it is in use; its user applies them then.
    fn apply_changes(&self) {
        if let Some(mut trie) = self.trie.try_lock() {
            self.update(&mut trie);
        }
    }

    /// Locks the trie, up to date.
    pub(super) fn trie(&self) -> MutexGuard<'_, Trie> {
        let mut trie = self.trie.lock();
        self.update(&mut trie);
        trie.tidy();
        trie
    }

    fn update(&self, trie: &mut Trie) {
        let changes = self.index().path_changes();
        if let Some(changes) = changes {
            trie.apply(changes);
        }
    }
}
