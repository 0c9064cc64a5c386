//! The source of time of a stream: the system's clocks, or those of a simulation.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// The two clocks of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The time of day since the epoch, by which deletes are remembered. May be set ahead and back.
    pub time_of_day: fn() -> Duration,
    /// The time of deadlines. Only increases.
    pub monotonic: fn() -> Instant,
}

impl Clock {
    /// The clocks of the system.
    pub const SYSTEM: Self = Self {
        time_of_day,
        monotonic: Instant::now,
    };
}

/// How far (in seconds) the time of day may get ahead of the monotonic clock without having been set.
const DRIFT: u64 = 5;

/// How long a clock that was set ahead must stay so until it is believed.
const HOLD: Duration = Duration::from_secs(3600);

/// Unix seconds that do not follow a clock that is set ahead and back: what an id claims to know must never lie in the
/// future, and nothing is to be forgotten too early. A clock that is set back is followed at once.
#[derive(Debug)]
pub(super) struct Guarded {
    clock: Clock,
    /// When the time of day was last believed, and what it was. Locked once per batch of records.
    believed: Mutex<Believed>,
}

#[derive(Debug)]
struct Believed {
    at: Instant,
    unix: u64,
    /// Since when the time of day has been ahead.
    ahead_since: Option<Instant>,
}

impl Guarded {
    pub(super) fn new(clock: Clock) -> Self {
        let believed = Believed {
            at: (clock.monotonic)(),
            unix: (clock.time_of_day)().as_secs(),
            ahead_since: None,
        };
        Self {
            clock,
            believed: Mutex::new(believed),
        }
    }

    /// Unix seconds.
    pub(super) fn unix(&self) -> u64 {
        let (unix, now) = (self.time_of_day().as_secs(), self.instant());
        let mut believed = self.believed.lock();
        let elapsed = now.saturating_duration_since(believed.at).as_secs();
        let expected = believed.unix.saturating_add(elapsed);
        if unix > expected.saturating_add(DRIFT) {
            let since = *believed.ahead_since.get_or_insert(now);
            if now.saturating_duration_since(since) < HOLD {
                return expected;
            }
        }
        *believed = Believed {
            at: now,
            unix,
            ahead_since: None,
        };
        unix
    }

    /// The time of day since the epoch, as the clock is set.
    pub(super) fn time_of_day(&self) -> Duration {
        (self.clock.time_of_day)()
    }

    /// The time of deadlines.
    pub(super) fn instant(&self) -> Instant {
        (self.clock.monotonic)()
    }
}

fn time_of_day() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
