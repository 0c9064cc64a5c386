//! The clock of a simulation, and the clocks of its replicas.

use kafka_sse_bridge::stream::clock::Clock;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long (in seconds) deletes are remembered, by the streams and at least by the topics.
pub const DELETE_RETENTION: u64 = 1000;

/// How far (in seconds) a replica may lag behind: markers of deletes outlive their time by more.
pub const MAX_LAG: u64 = 100;

/// How long (in seconds) a client waits for a replica to read past its id.
pub const LOADING_PATIENCE: u64 = 60;

/// When a simulation begins.
const BEGINNING_OF_TIME: u64 = 1_000_000;

thread_local! {
    /// A simulation runs in one thread, so these are its own.
    static CLOCK: Cell<u64> = const { Cell::new(BEGINNING_OF_TIME) };
    static ORIGIN: Instant = Instant::now();
    /// By how many seconds the clocks of the replicas are wrong.
    static ERROR: Cell<i64> = const { Cell::new(0) };
}

/// The clocks of the replicas.
pub const CLOCKS: Clock = Clock {
    time_of_day,
    monotonic: instant,
};

/// The time of day, as the replicas are told.
fn time_of_day() -> Duration {
    Duration::from_secs(now().saturating_add_signed(ERROR.get()))
}

/// Sets the clocks of the replicas wrong by so many seconds.
pub fn set_wrong(by: i64) {
    ERROR.set(by);
}

/// Unix seconds.
pub fn now() -> u64 {
    CLOCK.get()
}

/// Seconds since the simulation began.
pub fn elapsed() -> u64 {
    now() - BEGINNING_OF_TIME
}

/// The clock of deadlines.
pub fn instant() -> Instant {
    ORIGIN.with(|origin| *origin) + Duration::from_secs(elapsed())
}

pub fn pass(seconds: u64) {
    CLOCK.set(now() + seconds);
}

/// Begins a simulation: the clocks are right.
pub fn begin() {
    CLOCK.set(BEGINNING_OF_TIME);
    ERROR.set(0);
}
