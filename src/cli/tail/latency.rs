//! Percentiles of latencies, in a bounded amount of memory.

use std::fmt;

use hdrhistogram::Histogram;

/// Two digits: a percentile is at most 1 % above the true value.
const SIGNIFICANT_DIGITS: u8 = 2;

#[derive(Debug, Clone)]
pub(super) struct Latencies {
    /// Grows with the largest latency, up to tens of kilobytes.
    histogram: Histogram<u64>,
    max: u64,
    /// Latencies below zero: the clock of the timestamp is ahead of ours.
    early: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            histogram: Histogram::new(SIGNIFICANT_DIGITS).expect("up to five digits are valid"),
            max: 0,
            early: 0,
        }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, milliseconds: i64) {
        self.early += u64::from(milliseconds < 0);
        let late = u64::try_from(milliseconds).unwrap_or(0);
        // Fails only where a histogram cannot grow.
        let _ = self.histogram.record(late);
        self.max = self.max.max(late);
    }

    pub(super) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The percentile in milliseconds; 0 without latencies.
    fn percentile(&self, percent: f64) -> u64 {
        self.histogram.value_at_percentile(percent).min(self.max)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "latency of {} events: ", self.count())?;
        for percent in [50.0, 90.0, 99.0] {
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

#[cfg(test)]
mod tests {
    use super::Latencies;

    #[test]
    fn percentiles_are_within_one_percent_and_the_largest_latency_is_exact() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50.0), 0);
        for milliseconds in 1..=10_000 {
            latencies.add(milliseconds);
        }
        for percent in [1_u32, 50, 90, 99] {
            let (found, exact) = (latencies.percentile(percent.into()), u64::from(percent) * 100);
            assert!(
                (exact..=exact + exact / 100 + 1).contains(&found),
                "p{percent}: {found}, not {exact}"
            );
        }
        assert_eq!(latencies.percentile(100.0), 10_000);
        latencies.add(i64::MAX);
        latencies.add(-5);
        let shown = latencies.to_string();
        assert!(
            shown.ends_with(
                "max 9223372036854775807 ms; 1 have timestamps in the future, so the clocks differ"
            ),
            "{shown}"
        );
    }
}
