//! Signals changes of a stream to its readers, and wakes them.
//!
//! A reader notes the version, reads the stream, leaves its waker, and compares the version again: a change in between is
//! seen by the comparison or wakes it.
//!
//! A writer has threads of its own. To wake a reader from there costs a lock of the readers' runtime, for each
//! reader and batch. So the writer wakes one task on that runtime, the [announcer](super::announcer), which wakes the
//! readers from within. Without an announcer the writer wakes the readers itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use super::group::Group;
use super::waiters::{AUDIENCE_SHARDS, Waiters};

/// The readers of a stream.
#[derive(Debug)]
pub(super) struct Audience {
    /// Grows with every change that a waiting reader must see.
    version: AtomicU64,
    /// Grows with every such change that is not an appended record. A step compares this alone.
    changes: AtomicU64,
    /// Readers without a filter.
    waiters: Arc<Waiters>,
    /// Readers whose next records are not due: appended records do not wake them.
    throttled: Arc<Waiters>,
    /// Threads that write to the readers who are parked there. The writer wakes them itself: they are few.
    drivers: Arc<Waiters>,
    announcement: Mutex<Announcement>,
}

/// Notifications that the writer leaves to the announcer.
#[derive(Debug, Default)]
struct Announcement {
    /// The announcer's waker, once it runs.
    waker: Option<Waker>,
    has_records: bool,
    /// Groups that are to be woken.
    dirty: Vec<Arc<Group>>,
}

impl Audience {
    pub(super) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            // A new reader has seen none, so that its first step looks at everything.
            changes: AtomicU64::new(1),
            waiters: Waiters::new(AUDIENCE_SHARDS),
            throttled: Waiters::new(AUDIENCE_SHARDS),
            drivers: Waiters::new(1),
            announcement: Mutex::default(),
        }
    }

    pub(super) fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    pub(super) fn throttled(&self) -> &Arc<Waiters> {
        &self.throttled
    }

    pub(super) fn drivers(&self) -> &Arc<Waiters> {
        &self.drivers
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Notes a change other than an appended record, which must be visible already.
    pub(super) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Wakes the readers for appended records: all without a filter, and the `dirty` groups.
    pub(super) fn appended(&self, dirty: &mut Vec<Arc<Group>>) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.drivers.wake_all();
        // A reader that comes after this check waits only after it has seen the version.
        if dirty.is_empty() && self.waiters.is_empty() {
            return;
        }
        if !self.leave_to_announcer(dirty) {
            self.wake(std::mem::take(dirty));
        }
    }

    /// Wakes the readers of a group for which records were looked through.
    pub(super) fn looked(&self, group: &Group) {
        self.version.fetch_add(1, Ordering::SeqCst);
        group.waiters.wake_all();
    }

    /// Wakes all readers: those without a filter, those that are throttled, and the `dirty` groups.
    pub(super) fn wake_all(&self, dirty: Vec<Arc<Group>>) {
        self.throttled.wake_all();
        self.drivers.wake_all();
        self.wake(dirty);
    }

    /// Wakes all readers without a filter, and the `dirty` groups.
    pub(super) fn wake(&self, dirty: Vec<Arc<Group>>) {
        self.waiters.wake_all();
        for group in dirty {
            group.wake();
        }
    }

    fn announcement(&self) -> MutexGuard<'_, Announcement> {
        self.announcement.lock()
    }

    /// Returns false, and leaves `dirty` as it was, where no announcer runs.
    fn leave_to_announcer(&self, dirty: &mut Vec<Arc<Group>>) -> bool {
        let mut announcement = self.announcement();
        let Some(waker) = &announcement.waker else {
            return false;
        };
        // An announcer that was woken before and has not run yet finds this too.
        let waker = (!announcement.has_records).then(|| waker.clone());
        announcement.has_records = true;
        announcement.dirty.append(dirty);
        drop(announcement);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Wakes the readers for what was left since the announcer last ran, and keeps its waker.
    pub(super) fn announce(&self, waker: &Waker) {
        let mut announcement = self.announcement();
        match &mut announcement.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        let has_records = std::mem::take(&mut announcement.has_records);
        let dirty = std::mem::take(&mut announcement.dirty);
        drop(announcement);
        if has_records {
            self.wake(dirty);
        }
    }

    /// The announcer ends: the writer wakes the readers from now on.
    pub(super) fn dismiss_announcer(&self) {
        let announcement = std::mem::take(&mut *self.announcement());
        self.wake(announcement.dirty);
    }
}
