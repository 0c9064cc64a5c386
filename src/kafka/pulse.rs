//! The pulse of a thread: by when it turns again, as it says itself before it may block, and the steps that
//! it takes meanwhile.
//!
//! A thread that reads Kafka blocks for good reasons and for times that differ: a poll, a question, a
//! pause. It names the longest that each may take, so that the watchdog can tell a broker that hangs
//! from a thread that does. A writer is due as long as it works, and takes a step per record. Also carries
//! the other way that there is something else to do, for those who wait on the thread's behalf. Knows nothing
//! of Kafka or of the watchdog.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use procfs::process::Process;

/// Nothing is due: nobody began, or the thread has ended.
const NEVER: u64 = u64::MAX;

/// No thread has this id.
const UNKNOWN: i32 = 0;

/// One thread's pulse.
#[derive(Debug)]
pub struct Pulse {
    born: Instant,
    /// When the thread turns again at the latest, in milliseconds since `born`.
    due: AtomicU64,
    /// Grows with everything that the thread gets done.
    steps: AtomicU64,
    /// The thread that took the last turn, by the kernel's id.
    thread: AtomicI32,
    /// Orders given to the thread, and those of them it has taken.
    given: AtomicU64,
    taken: AtomicU64,
    /// What the watchdog saw: locked by its looks alone.
    seen: Mutex<Seen>,
}

/// What a look at a pulse finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// For how long the thread has been overdue without a step.
    pub late: Duration,
    /// Whether it took one since the look before.
    pub has_moved: bool,
}

/// What the looks at a pulse have seen.
#[derive(Debug)]
struct Seen {
    at: Instant,
    steps: u64,
    /// Processor time of the thread, where the kernel tells it.
    ran: Option<Duration>,
    late: Duration,
}

impl Default for Pulse {
    /// One that nothing is due of.
    fn default() -> Self {
        Self {
            born: Instant::now(),
            due: AtomicU64::new(NEVER),
            steps: AtomicU64::new(0),
            thread: AtomicI32::new(UNKNOWN),
            given: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            seen: Mutex::new(Seen {
                at: Instant::now(),
                steps: 0,
                ran: None,
                late: Duration::ZERO,
            }),
        }
    }
}

impl Pulse {
    /// The thread turns, and will again within this time. In memory that is at once: zero.
    pub fn beat(&self, within: Duration) {
        let due = self.born.elapsed().saturating_add(within).as_millis();
        let due = u64::try_from(due).unwrap_or(NEVER);
        self.thread.store(current_thread(), Ordering::Relaxed);
        self.step();
        self.due.store(due, Ordering::Relaxed);
    }

    /// The thread gets on with what it said it would do.
    pub fn step(&self) {
        // Only the thread that turns takes steps, so nothing is lost between these two.
        let steps = self.steps.load(Ordering::Relaxed);
        self.steps.store(steps.wrapping_add(1), Ordering::Relaxed);
    }

    /// Nothing is due of the thread: it has ended, or waits for another one, which has a pulse of its own.
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

    /// Looks at the thread. Lateness is what looks tell, of which one counts for at most `tick`: on a machine
    /// that is too busy to look in time, the thread is late no more than we are. Time in which the thread waits
    /// for a processor does not count at all.
    pub fn look(&self, tick: Duration) -> Look {
        let mut seen = self.seen.lock();
        let now = Instant::now();
        let passed = now.duration_since(seen.at).min(tick);
        let steps = self.steps.load(Ordering::Relaxed);
        let has_moved = steps != seen.steps;
        seen.at = now;
        seen.steps = steps;
        if has_moved || self.overdue().is_none() {
            seen.late = Duration::ZERO;
            seen.ran = None;
            return Look {
                late: Duration::ZERO,
                has_moved,
            };
        }
        let (ran, is_runnable) = kernel(self.thread.load(Ordering::Relaxed)).unzip();
        let counts = match (seen.ran, ran) {
            // A loop without end runs; what is ready to run and does not run waits for a processor.
            (Some(before), Some(ran)) if is_runnable == Some(true) => ran.saturating_sub(before).min(passed),
            _ => passed,
        };
        seen.ran = ran;
        seen.late += counts;
        Look {
            late: seen.late,
            has_moved,
        }
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

/// The kernel's id of the calling thread; asked for once per thread.
fn current_thread() -> i32 {
    thread_local! {
        static ID: Cell<Option<i32>> = const { Cell::new(None) };
    }
    ID.with(|id| {
        id.get().unwrap_or_else(|| {
            let link = std::fs::read_link("/proc/thread-self").ok();
            let found = link
                .as_deref()
                .and_then(|link| link.file_name()?.to_str()?.parse().ok());
            let found = found.unwrap_or(UNKNOWN);
            id.set(Some(found));
            found
        })
    })
}

/// Processor time of a thread of this process, and whether it runs or is ready to.
fn kernel(thread: i32) -> Option<(Duration, bool)> {
    if thread == UNKNOWN {
        return None;
    }
    let stat = Process::myself().ok()?.task_from_tid(thread).ok()?.stat().ok()?;
    let ticks = u32::try_from(stat.utime + stat.stime).ok()?;
    let per_second = u32::try_from(procfs::ticks_per_second()).ok()?;
    let ran = Duration::from_secs(1) * ticks / per_second.max(1);
    Some((ran, stat.state == 'R'))
}
