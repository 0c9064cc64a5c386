//! Looks through records from before a group of readers came, where that holds up no client.
//!
//! To hold a block of the log against a filter can take milliseconds, and a client that comes back may have the
//! whole log to be looked through. Readers leave that to one task per stream among those that write: it looks
//! through one block, wakes the readers of the group, and lets the others have their turn. A stream that was
//! given no place for tasks looks at once.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::block::Block;
use super::group::Group;
use super::log::Sequence;

/// Records to be held against a filter.
#[derive(Debug)]
pub(super) struct FilterSearch {
    pub(super) group: Arc<Group>,
    pub(super) from: Sequence,
    pub(super) until: Sequence,
    /// The block that holds the first of them, with the number of its first record.
    pub(super) block: (Sequence, Arc<Block>),
}

impl FilterSearch {
    /// Looks, and remembers for the group.
    pub(super) fn run(&self) {
        self.group.look(self.from, self.until, &self.block);
    }
}

/// The looks that a stream's groups wait for: at most one per group.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<SearchQueue>);

#[derive(Debug, Default)]
struct SearchQueue {
    waiting: VecDeque<FilterSearch>,
    /// Whether a task takes them.
    is_taken: bool,
}

impl Looks {
    fn lock(&self) -> MutexGuard<'_, SearchQueue> {
        self.0.lock()
    }

    /// One more look. Returns whether a task is to be started for it.
    pub(super) fn push(&self, look: FilterSearch) -> bool {
        let mut queue = self.lock();
        queue.waiting.push_back(look);
        !std::mem::replace(&mut queue.is_taken, true)
    }

    /// The next look; where there is none, the task that takes them ends.
    pub(super) fn pop(&self) -> Option<FilterSearch> {
        let mut queue = self.lock();
        let look = queue.waiting.pop_front();
        queue.is_taken = look.is_some();
        look
    }
}
