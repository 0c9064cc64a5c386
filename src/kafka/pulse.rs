//! The pulse of a reading thread: by when it turns again, as it says itself before it may block.
//!
//! A thread that reads Kafka blocks for good reasons and for times that differ: a poll, a question, a
//! pause. It names the longest that each may take, so that whoever watches can tell a broker that hangs
//! from a thread that does. Also carries the other way that there is something else to do, for those who
//! wait on the thread's behalf. Knows nothing of Kafka or of who watches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nothing is due: nobody began, or the thread has ended.
const NEVER: u64 = u64::MAX;

/// One thread's pulse.
#[derive(Debug)]
pub struct Pulse {
    born: Instant,
    /// When the thread turns again at the latest, in milliseconds since `born`.
    due: AtomicU64,
    /// Orders given to the thread, and those of them it has taken.
    given: AtomicU64,
    taken: AtomicU64,
}

impl Default for Pulse {
    /// One that nothing is due of.
    fn default() -> Self {
        Self {
            born: Instant::now(),
            due: AtomicU64::new(NEVER),
            given: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// The thread turns, and will again within this time. In memory that is at once: zero.
    pub fn beat(&self, within: Duration) {
        let due = self.born.elapsed().saturating_add(within).as_millis();
        let due = u64::try_from(due).unwrap_or(NEVER);
        self.due.store(due, Ordering::Relaxed);
    }

    /// The thread has ended, as it should.
    pub fn rest(&self) {
        self.due.store(NEVER, Ordering::Relaxed);
    }

    /// For how long the thread should have turned already.
    #[must_use]
    pub fn overdue(&self) -> Option<Duration> {
        let due = self.due.load(Ordering::Relaxed);
        let late = self.born.elapsed().checked_sub(Duration::from_millis(due))?;
        (!late.is_zero()).then_some(late)
    }

    /// The thread was given an order, which it finds where it looks for orders.
    pub(super) fn give(&self) {
        self.given.fetch_add(1, Ordering::Relaxed);
    }

    /// The thread has taken one.
    pub(super) fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether an order waits for the thread. One that was given just now may show a little later.
    pub(super) fn is_called(&self) -> bool {
        self.given.load(Ordering::Relaxed) > self.taken.load(Ordering::Relaxed)
    }
}
