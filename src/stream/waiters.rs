//! Readers that wait at the head of a stream, and are woken once per batch.
//!
//! A waiting subscription leaves its waker in a slot of its own; waking takes all wakers out. That
//! costs one lock and one reference count per wait, no allocation, and the bytes of a slot per
//! subscription. The slots of many are spread over a few locks so that clients on different threads
//! seldom meet. No waker is called while a lock is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use slab::Slab;

/// Locks over which the slots of all readers of a stream are spread.
pub(super) const AUDIENCE_SHARDS: usize = 8;

type Slots = Slab<Option<Waker>>;

/// All slots of readers that wait for the same event.
#[derive(Debug)]
pub(super) struct Waiters {
    shards: Box<[Mutex<Slots>]>,
    next: AtomicUsize,
}

/// A subscription's slot; freed when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    waiters: Arc<Waiters>,
    shard: usize,
    slot: usize,
}

impl Waiters {
    /// No slots, over this many locks.
    #[must_use]
    pub(super) fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
        })
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, Slots> {
        self.shards[index].lock()
    }

    /// A slot for one more subscription.
    #[must_use]
    pub(super) fn enter(self: &Arc<Self>) -> Ticket {
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let slot = self.shard(shard).insert(None);
        Ticket {
            waiters: Arc::clone(self),
            shard,
            slot,
        }
    }

    /// Whether there is no slot.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        (0..self.shards.len()).all(|index| self.shard(index).is_empty())
    }

    /// Wakes all waiting readers.
    pub(super) fn wake_all(&self) {
        let mut woken = Vec::new();
        for index in 0..self.shards.len() {
            let mut shard = self.shard(index);
            woken.extend(shard.iter_mut().filter_map(|(_, waker)| waker.take()));
            drop(shard);
            woken.drain(..).for_each(Waker::wake);
        }
    }
}

impl Ticket {
    /// Wakes `waker` at the next change. Check for a change once more after this call.
    pub(super) fn wait(&self, waker: &Waker) {
        let mut shard = self.waiters.shard(self.shard);
        match &mut shard[self.slot] {
            Some(waiting) => waiting.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiters.shard(self.shard).remove(self.slot);
    }
}
