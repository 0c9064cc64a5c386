//! The pulse of a thread, by which the watchdog recognizes one that hangs: a deadline for its next beat, and a count of
//! its steps.
//!
//! A thread that reads Kafka blocks for times that differ: a poll, a request, a pause. Before each it sets a deadline, so
//! that the watchdog can tell a hanging broker from a hanging thread. A writer has a deadline while it works, and
//! counts a step per record. In the other direction the pulse tells code that waits for the thread whether a command is
//! pending. Knows nothing of Kafka or of the watchdog.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use procfs::process::Process;

/// No deadline: the thread has not begun, rests, or has ended.
const NEVER: u64 = u64::MAX;

const UNKNOWN: i32 = 0;

/// One thread's pulse.
#[derive(Debug)]
pub struct Pulse {
    born: Instant,
    /// The deadline for the next beat, in milliseconds since `born`.
    due: AtomicU64,
    steps: AtomicU64,
    /// The kernel's id of the thread that beat last.
    thread: AtomicI32,
    /// Commands sent to the thread, and those that it has received.
    sent: AtomicU64,
    received: AtomicU64,
    /// State of the watchdog, which alone locks it.
    seen: Mutex<Seen>,
}

/// The result of a look at a pulse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PulseCheck {
    /// How long the thread has been overdue without a step.
    pub late: Duration,
    /// Whether it took a step since the last look.
    pub has_moved: bool,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    steps: u64,
    /// CPU time of the thread, if the kernel reports it.
    ran: Option<Duration>,
    late: Duration,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            due: AtomicU64::new(NEVER),
            steps: AtomicU64::new(0),
            thread: AtomicI32::new(UNKNOWN),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
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
    /// Notes that the thread is alive, and will beat again within this time: zero for work in memory.
    pub fn beat(&self, within: Duration) {
        let due = self.born.elapsed().saturating_add(within).as_millis();
        let due = u64::try_from(due).unwrap_or(NEVER);
        self.thread.store(current_thread(), Ordering::Relaxed);
        self.step();
        self.due.store(due, Ordering::Relaxed);
    }

    /// Notes progress of the thread.
    pub fn step(&self) {
        // Only one thread takes steps, so no increment is lost between these two.
        let steps = self.steps.load(Ordering::Relaxed);
        self.steps.store(steps.wrapping_add(1), Ordering::Relaxed);
    }

    /// Clears the deadline: the thread has ended, or waits for another one, which has a pulse of its own.
    pub fn rest(&self) {
        self.due.store(NEVER, Ordering::Relaxed);
    }

    /// How long the deadline has passed.
    pub fn overdue(&self) -> Option<Duration> {
        let due = self.due.load(Ordering::Relaxed);
        let late = self.born.elapsed().checked_sub(Duration::from_millis(due))?;
        (!late.is_zero()).then_some(late)
    }

    /// Updates and returns how late the thread is. Each look adds at most `tick`: on a machine that is too busy for
    /// timely looks, the thread is no later than the watchdog. Time in which the thread waits for a CPU does not count.
    pub fn look(&self, tick: Duration) -> PulseCheck {
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
            return PulseCheck {
                late: Duration::ZERO,
                has_moved,
            };
        }
        let (ran, is_runnable) = kernel(self.thread.load(Ordering::Relaxed)).unzip();
        let counts = match (seen.ran, ran) {
            // An endless loop uses CPU time; a runnable thread that uses none waits for a CPU.
            (Some(before), Some(ran)) if is_runnable == Some(true) => ran.saturating_sub(before).min(passed),
            _ => passed,
        };
        seen.ran = ran;
        seen.late += counts;
        PulseCheck {
            late: seen.late,
            has_moved,
        }
    }

    pub(super) fn command_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn command_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a command is pending. One that was just sent may be seen a little later.
    pub(super) fn has_command(&self) -> bool {
        self.sent.load(Ordering::Relaxed) > self.received.load(Ordering::Relaxed)
    }
}

/// The kernel's id of the calling thread, cached per thread.
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

/// CPU time of a thread of this process, and whether it is runnable.
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
