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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static TIME_OF_DAY: Cell<u64> = const { Cell::new(0) };
        static ELAPSED: Cell<u64> = const { Cell::new(0) };
        static START: Instant = Instant::now();
    }

    const CLOCK: Clock = Clock {
        time_of_day: || Duration::from_secs(TIME_OF_DAY.get()),
        monotonic: || START.with(|start| *start + Duration::from_secs(ELAPSED.get())),
    };

    const START_UNIX: u64 = 1_000_000;

    fn guarded() -> Guarded {
        TIME_OF_DAY.set(START_UNIX);
        ELAPSED.set(0);
        Guarded::new(CLOCK)
    }

    /// Lets time pass, in seconds; both clocks advance.
    fn pass(seconds: u64) {
        TIME_OF_DAY.set(TIME_OF_DAY.get() + seconds);
        ELAPSED.set(ELAPSED.get() + seconds);
    }

    /// Sets the time of day this number of seconds ahead, or back.
    fn set(seconds: i64) {
        TIME_OF_DAY.set(TIME_OF_DAY.get().saturating_add_signed(seconds));
    }

    #[test]
    fn the_time_of_day_is_followed_while_it_drifts() {
        let guarded = guarded();
        assert_eq!(guarded.unix(), START_UNIX);
        pass(10);
        assert_eq!(guarded.unix(), START_UNIX + 10);
        // Each time by as much as it may, and never as much at once as a clock that was set.
        for _ in 0..100 {
            pass(10);
            set(DRIFT.cast_signed());
            assert_eq!(guarded.unix(), TIME_OF_DAY.get());
        }
    }

    #[test]
    fn a_clock_that_is_set_ahead_and_back_is_not_followed() {
        let guarded = guarded();
        pass(10);
        set(86_400);
        for _ in 0..3 {
            pass(600);
            assert_eq!(guarded.unix(), START_UNIX + ELAPSED.get());
        }
        set(-86_400);
        pass(1);
        assert_eq!(guarded.unix(), START_UNIX + ELAPSED.get());
        // The hour of another jump begins when that is seen.
        set(86_400);
        assert_eq!(guarded.unix(), START_UNIX + ELAPSED.get());
        pass(HOLD.as_secs() - 1);
        assert_eq!(guarded.unix(), START_UNIX + ELAPSED.get());
    }

    #[test]
    fn a_clock_that_is_set_ahead_is_believed_after_an_hour() {
        let guarded = guarded();
        set(86_400);
        assert_eq!(guarded.unix(), START_UNIX);
        pass(HOLD.as_secs() - 1);
        assert_eq!(guarded.unix(), START_UNIX + ELAPSED.get());
        pass(1);
        assert_eq!(guarded.unix(), TIME_OF_DAY.get());
        pass(10);
        assert_eq!(guarded.unix(), TIME_OF_DAY.get());
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed_at_once() {
        let guarded = guarded();
        pass(100);
        guarded.unix();
        set(-5000);
        assert_eq!(guarded.unix(), START_UNIX + 100 - 5000);
        pass(7);
        assert_eq!(guarded.unix(), START_UNIX + 107 - 5000);
    }
}
