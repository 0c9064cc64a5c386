//! How far the loading of a topic has come: arithmetic on offsets and times, and how it is said.
//!
//! Progress is counted in offsets, as only those are known beforehand. In a compacted topic many of
//! them hold no record any more; passing over those is progress all the same. Nothing here reads a
//! clock, so that every figure can be tested.

use std::fmt;
use std::time::{Duration, Instant};

/// Least time between two lines about a topic, and until the first: what loads sooner says nothing.
pub const TOLD_EVERY: Duration = Duration::from_secs(5);

/// A topic's way from where reading began to the end it had at the start.
#[derive(Debug)]
pub struct Loading {
    from: Vec<i64>,
    until: Vec<i64>,
    begun: Instant,
    /// When progress was last told, and the offsets passed by then.
    told: (Instant, u64),
}

impl Loading {
    /// The way from the offsets `from` to the offsets `until`, one of each per partition.
    #[must_use]
    pub const fn new(from: Vec<i64>, until: Vec<i64>, now: Instant) -> Self {
        Self {
            from,
            until,
            begun: now,
            told: (now, 0),
        }
    }

    /// The offset of each partition at which it is loaded.
    #[must_use]
    pub fn until(&self) -> &[i64] {
        &self.until
    }

    /// How long it has taken so far.
    #[must_use]
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// How many percent of the offsets are passed by a reader that stands at `next`: 100 where there
    /// are none, and not before all are.
    #[must_use]
    pub fn percent(&self, next: &[i64]) -> u8 {
        percent(self.passed(next), self.total())
    }

    /// What there is to be told of a reader that stands at `next`, unless something was told just now.
    pub fn tell(&mut self, next: &[i64], now: Instant) -> Option<Progress> {
        let (told, passed_then) = self.told;
        let pause = now.saturating_duration_since(told);
        if pause < TOLD_EVERY {
            return None;
        }
        let (passed, total) = (self.passed(next), self.total());
        self.told = (now, passed);
        let gained = u128::from(passed.saturating_sub(passed_then));
        let rate = clamp(gained * 1000 / pause.as_millis());
        let left = u128::from(total - passed) * pause.as_millis();
        Some(Progress {
            passed,
            total,
            rate,
            left: (rate > 0).then(|| Duration::from_secs(clamp(left.div_ceil(gained * 1000)))),
        })
    }

    fn ways(&self) -> impl Iterator<Item = (i64, i64)> {
        self.from.iter().copied().zip(self.until.iter().copied())
    }

    fn total(&self) -> u64 {
        self.ways()
            .map(|(from, until)| distance(from, until))
            .fold(0, u64::saturating_add)
    }

    /// Offsets passed. What lies beyond the end is not of this way, and a reader that was put back
    /// behind its beginning has passed none.
    fn passed(&self, next: &[i64]) -> u64 {
        self.ways()
            .zip(next)
            .map(|((from, until), &next)| distance(from, next.min(until)))
            .fold(0, u64::saturating_add)
    }
}

/// How far a topic's loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Offsets passed.
    pub passed: u64,
    /// Offsets to be passed in all.
    pub total: u64,
    /// Offsets per second, since progress was last told.
    pub rate: u64,
    /// How long the rest takes at that rate, to the second; `None` while it stands still.
    pub left: Option<Duration>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            total,
            rate,
            left,
        } = *self;
        let percent = percent(passed, total);
        write!(f, "{percent} % loaded, {passed} of {total} offsets, {rate}/s")?;
        match left {
            Some(left) => write!(f, ", about {} left", humantime::format_duration(left)),
            None => Ok(()),
        }
    }
}

fn distance(from: i64, to: i64) -> u64 {
    if to > from { to.abs_diff(from) } else { 0 }
}

fn percent(passed: u64, total: u64) -> u8 {
    let percent = (u128::from(passed) * 100).checked_div(u128::from(total));
    percent
        .and_then(|percent| u8::try_from(percent).ok())
        .unwrap_or(100)
}

fn clamp(figure: u128) -> u64 {
    u64::try_from(figure).unwrap_or(u64::MAX)
}
