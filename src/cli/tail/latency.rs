//! Percentiles of latencies, in a fixed amount of memory.

use std::fmt;

/// Buckets per doubling: a percentile is at most 1/32 above the true value.
const STEPS: u64 = 32;

/// A histogram of latencies.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies {
    /// Counts by [`bucket`], up to that of the largest latency.
    counts: Vec<u64>,
    count: u64,
    max: u64,
    /// Latencies below zero: the clock of the timestamp is ahead of ours.
    early: u64,
}

impl Latencies {
    /// Adds a latency in milliseconds.
    pub(super) fn add(&mut self, milliseconds: i64) {
        self.early += u64::from(milliseconds < 0);
        let late = u64::try_from(milliseconds).unwrap_or(0);
        let bucket = bucket(late);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(late);
    }

    /// The number of latencies.
    #[must_use]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The percentile in milliseconds; 0 without latencies.
    #[must_use]
    pub(super) fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.count * percent).div_ceil(100);
        let mut passed = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            passed += count;
            if passed >= wanted {
                return greatest(bucket).min(self.max);
            }
        }
        self.max
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "latency of {} events: ", self.count)?;
        for percent in [50, 90, 99] {
            write!(f, "p{percent} {} ms, ", self.percentile(percent))?;
        }
        write!(f, "max {} ms", self.max)?;
        if self.early > 0 {
            write!(
                f,
                "; {} have timestamps in the future, so the clocks differ",
                self.early
            )?;
        }
        Ok(())
    }
}

/// The bucket of a latency: exact below [`STEPS`], by its leading bits above.
fn bucket(late: u64) -> usize {
    let shift = u64::from((late / STEPS).checked_ilog2().unwrap_or(0));
    usize::try_from(shift * STEPS + (late >> shift)).unwrap_or(usize::MAX)
}

/// The largest latency in a bucket.
fn greatest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let leading = bucket - shift * STEPS;
    // Overflows in the last bucket only.
    ((leading + 1) << shift).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::Latencies;

    #[test]
    fn percentiles_are_within_a_32nd() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50), 0);
        for milliseconds in 1..=10_000 {
            latencies.add(milliseconds);
        }
        for percent in [1, 50, 90, 99] {
            let (found, exact) = (latencies.percentile(percent), percent * 100);
            assert!(
                (exact..=exact + exact / 32 + 1).contains(&found),
                "p{percent}: {found}, not {exact}"
            );
        }
        assert_eq!(latencies.percentile(100), 10_000, "the greatest is exact");
        latencies.add(i64::MAX);
        latencies.add(-5);
        assert_eq!(
            latencies.percentile(100),
            u64::try_from(i64::MAX).expect("positive")
        );
        assert!(
            latencies
                .to_string()
                .ends_with("; 1 have timestamps in the future, so the clocks differ")
        );
    }
}
