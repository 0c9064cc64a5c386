//! A clock that the test of the current thread sets.

use kafka_sse_bridge::stream::clock::Clock;
use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A day of November 2026, in Unix seconds.
pub const NOW: u64 = 1_795_000_000;

/// The same in milliseconds.
pub const NOW_MILLIS: i64 = 1_795_000_000_000;

/// Both of its clocks advance by the same: time passes, and no clock is changed.
pub const CLOCK: Clock = Clock {
    time_of_day: || Duration::from_secs(SECONDS.get()),
    monotonic,
};

thread_local! {
    static SECONDS: Cell<u64> = const { Cell::new(NOW) };
}

/// Sets the clock to so many seconds after [`NOW`].
pub fn set(seconds: u64) {
    SECONDS.set(NOW + seconds);
}

pub fn advance(seconds: u64) {
    SECONDS.set(SECONDS.get() + seconds);
}

pub fn monotonic() -> Instant {
    static AT_NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
    *AT_NOW + Duration::from_secs(SECONDS.get() - NOW)
}
