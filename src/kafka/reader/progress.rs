//! Progress of the initial load of a topic, from its start offsets to the end offsets as of the start.
//!
//! Progress is counted in offsets, as only those are known in advance. In a compacted topic many of them hold no record;
//! passing those is progress too. Reads no clock.

use std::fmt;
use std::time::{Duration, Instant};

/// Shortest time between two reports about a topic, and until the first: a short load is not reported.
const REPORT_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct Loading {
    from: Vec<i64>,
    until: Vec<i64>,
    begun: Instant,
    /// When progress was last reported, and the offsets passed by then.
    reported: (Instant, u64),
}

impl Loading {
    /// A load from the offsets `from` to the offsets `until`, one of each per partition.
    pub(super) const fn new(from: Vec<i64>, until: Vec<i64>, now: Instant) -> Self {
        Self {
            from,
            until,
            begun: now,
            reported: (now, 0),
        }
    }

    /// The offset of each partition at which it is loaded.
    pub(super) fn until(&self) -> &[i64] {
        &self.until
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// The percentage of offsets before `next`: 100 only if all are, or there are none.
    pub(super) fn percent(&self, next: &[i64]) -> u8 {
        percent(self.passed(next), self.total())
    }

    /// The progress up to the next offsets, if a report is due.
    pub(super) fn report(&mut self, next: &[i64], now: Instant) -> Option<Progress> {
        let (reported, passed_then) = self.reported;
        let pause = now.saturating_duration_since(reported);
        if pause < REPORT_EVERY {
            return None;
        }
        let (passed, total) = (self.passed(next), self.total());
        self.reported = (now, passed);
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

    fn ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        self.from.iter().copied().zip(self.until.iter().copied())
    }

    fn total(&self) -> u64 {
        self.ranges()
            .map(|(from, until)| distance(from, until))
            .fold(0, u64::saturating_add)
    }

    fn passed(&self, next: &[i64]) -> u64 {
        self.ranges()
            .zip(next)
            .map(|((from, until), &next)| distance(from, next.min(until)))
            .fold(0, u64::saturating_add)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    passed: u64,
    total: u64,
    /// Offsets per second since the last report.
    rate: u64,
    /// Seconds left at that rate; `None` while it is zero.
    left: Option<Duration>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from: &[i64], until: &[i64], next: &[i64], elapsed: Duration) -> String {
        let begun = Instant::now();
        let mut loading = Loading::new(from.to_vec(), until.to_vec(), begun);
        let progress = loading.report(next, begun + elapsed).expect("it is time");
        progress.to_string()
    }

    #[test]
    fn a_report_has_percent_offsets_rate_and_time_left() {
        for (from, until, next, elapsed, expected) in [
            // One partition, from the beginning of its log, and from the middle.
            (
                &[0][..],
                &[29_000][..],
                &[12_345][..],
                Duration::from_secs(5),
                "42 % loaded, 12345 of 29000 offsets, 2469/s, about 7s left",
            ),
            (
                &[1_000],
                &[2_000],
                &[1_500],
                Duration::from_secs(10),
                "50 % loaded, 500 of 1000 offsets, 50/s, about 10s left",
            ),
            // Several: offsets beyond the end of one do not count for another.
            (
                &[0, 100, 7],
                &[1_000, 1_100, 7],
                &[5_000, 350, 9],
                Duration::from_secs(5),
                "62 % loaded, 1250 of 2000 offsets, 250/s, about 3s left",
            ),
            // A partition that was added later does not count.
            (
                &[0],
                &[100],
                &[50, 1_000],
                Duration::from_secs(5),
                "50 % loaded, 50 of 100 offsets, 10/s, about 5s left",
            ),
            // A compacted topic: offsets count, not records.
            (
                &[0],
                &[1_000_000],
                &[999_999],
                Duration::from_secs(5),
                "99 % loaded, 999999 of 1000000 offsets, 199999/s, about 1s left",
            ),
            // It does not advance, or hardly.
            (
                &[0],
                &[100],
                &[0],
                Duration::from_secs(5),
                "0 % loaded, 0 of 100 offsets, 0/s",
            ),
            (
                &[0],
                &[100],
                &[4],
                Duration::from_secs(5),
                "4 % loaded, 4 of 100 offsets, 0/s",
            ),
            // Back before its start: the topic was recreated.
            (
                &[50],
                &[100],
                &[0],
                Duration::from_secs(5),
                "0 % loaded, 0 of 50 offsets, 0/s",
            ),
            // At the end, which the thread logs separately.
            (
                &[0],
                &[100],
                &[100],
                Duration::from_secs(5),
                "100 % loaded, 100 of 100 offsets, 20/s, about 0s left",
            ),
            (
                &[5],
                &[5],
                &[5],
                Duration::from_secs(5),
                "100 % loaded, 0 of 0 offsets, 0/s",
            ),
            (
                &[],
                &[],
                &[],
                Duration::from_secs(5),
                "100 % loaded, 0 of 0 offsets, 0/s",
            ),
            // Long loads.
            (
                &[0],
                &[10_000_000],
                &[10_000],
                Duration::from_secs(10),
                "0 % loaded, 10000 of 10000000 offsets, 1000/s, about 2h 46m 30s left",
            ),
            (
                &[0],
                &[i64::MAX],
                &[i64::MAX / 2],
                Duration::from_millis(5_001),
                "49 % loaded, 4611686018427387903 of 9223372036854775807 offsets, 922152773130851410/s, \
                 about 6s left",
            ),
        ] {
            assert_eq!(line(from, until, next, elapsed), expected);
        }
    }

    #[test]
    fn reports_are_rate_limited_and_a_short_load_has_none() {
        let begun = Instant::now();
        let mut loading = Loading::new(vec![0], vec![1_000], begun);
        let just_before = REPORT_EVERY.saturating_sub(Duration::from_nanos(1));
        assert_eq!(loading.report(&[0], begun), None);
        assert_eq!(loading.report(&[900], begun + just_before), None);
        assert!(loading.report(&[900], begun + REPORT_EVERY).is_some());
        assert_eq!(loading.report(&[990], begun + REPORT_EVERY + just_before), None);
        assert!(loading.report(&[990], begun + 2 * REPORT_EVERY).is_some());
        assert_eq!(loading.elapsed(begun + 2 * REPORT_EVERY), 2 * REPORT_EVERY);
    }

    #[test]
    fn the_rate_is_that_since_the_last_report() {
        let begun = Instant::now();
        let mut loading = Loading::new(vec![0], vec![10_000], begun);
        let mut rate = |next, after| {
            let progress = loading.report(&[next], begun + after).expect("it is time");
            (progress.rate, progress.left)
        };
        assert_eq!(
            rate(5_000, Duration::from_secs(5)),
            (1_000, Some(Duration::from_secs(5)))
        );
        assert_eq!(rate(5_000, Duration::from_secs(10)), (0, None), "it stalled");
        assert_eq!(
            rate(6_000, Duration::from_secs(20)),
            (100, Some(Duration::from_secs(40))),
            "it goes on"
        );
        assert_eq!(rate(2_000, Duration::from_secs(25)), (0, None), "it was put back");
        assert_eq!(
            rate(4_000, Duration::from_secs(30)),
            (400, Some(Duration::from_secs(15)))
        );
    }

    #[test]
    fn percentages_span_all_partitions_and_reach_100_only_at_the_end() {
        let loading = Loading::new(vec![0, 0], vec![100, 900], Instant::now());
        for (next, percent) in [
            ([0, 0], 0),
            ([9, 0], 0),
            ([10, 0], 1),
            ([100, 0], 10),
            ([0, 900], 90),
            ([100, 899], 99),
            ([100, 900], 100),
            ([200, 900], 100),
        ] {
            assert_eq!(loading.percent(&next), percent, "{next:?}");
        }
        assert_eq!(loading.until(), [100, 900]);
    }
}
