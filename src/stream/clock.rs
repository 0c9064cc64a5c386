//! Where a stream takes the time from: the system's clocks, or those of a simulation.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The two clocks of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Unix seconds: what deletes are remembered by. May be set, ahead and back.
    pub unix: fn() -> u64,
    /// What deadlines are counted by. Only goes forward.
    pub monotonic: fn() -> Instant,
}

impl Clock {
    /// The clocks of the system.
    pub const SYSTEM: Self = Self {
        unix: unix_seconds,
        monotonic: Instant::now,
    };
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
