//! The time of a simulation, which its thread sets.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::stream::clock::Clock;

/// Both clocks advance by the same.
pub(super) const CLOCK: Clock = Clock {
    time_of_day: || Duration::from_secs(1_795_000_000) + PASSED.get(),
    monotonic: now,
};

thread_local! {
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub(super) fn now() -> Instant {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BEGAN + PASSED.get()
}

pub(super) fn advance(time: Duration) {
    PASSED.set(PASSED.get() + time);
}
