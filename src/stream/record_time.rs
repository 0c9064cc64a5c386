//! The time when a record was written, as far as its timestamp is plausible.
//!
//! A table compares the timestamps of records that have the same key in different partitions. A producer
//! that writes microseconds, or whose clock is years ahead, would win against all others for ever.

use std::time::Duration;

use log::warn;

use crate::kafka::record::Record;
use crate::logging::Seldom;

/// How far a timestamp may lie ahead of this machine's clock: further than any time zone mistaken for UTC.
pub(crate) const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// How far it may lie ahead of us without anything being wrong: clocks of a cluster are never quite the same.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(120);

/// At most one warning in this time.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

/// Tells the times of a stream's records.
#[derive(Debug)]
pub(super) struct RecordTimes {
    /// The latest that could be believed, in milliseconds, by topic and partition; 0 where there was none.
    latest: Vec<Vec<i64>>,
    warnings: Seldom,
}

impl RecordTimes {
    pub(super) fn new(topics: usize) -> Self {
        Self {
            latest: vec![Vec::new(); topics],
            warnings: Seldom::new(WARNING_PAUSE),
        }
    }

    /// Forgets a topic that is reset.
    pub(super) fn forget(&mut self, topic: usize) {
        if let Some(latest) = self.latest.get_mut(topic) {
            latest.clear();
        }
    }

    /// The latest time of a partition's records that could be believed, in milliseconds; 0 where there was none.
    pub(super) fn latest(&self, topic: usize, partition: u32) -> i64 {
        let latest = self
            .latest
            .get(topic)
            .and_then(|topic| topic.get(partition as usize));
        latest.copied().unwrap_or(0)
    }

    /// The time of a record in milliseconds since the epoch, on a machine whose clock says `now` (milliseconds too). A
    /// timestamp too far ahead is replaced by the time of arrival. While its topic is loaded that is unknown, so the
    /// latest timestamp before it in its partition is used: that is the same on every replica.
    pub(super) fn of(
        &mut self,
        topic: usize,
        record: &Record<'_>,
        now: impl FnOnce() -> i64,
        is_loading: bool,
    ) -> Option<i64> {
        let time = record.timestamp?;
        let partition = record.partition as usize;
        let partitions = self.latest.get_mut(topic)?;
        if partitions.len() <= partition {
            partitions.resize(partition + 1, 0);
        }
        let latest = &mut partitions[partition];
        if time <= *latest {
            return Some(time);
        }
        let now = now();
        if time <= now.saturating_add(i64::try_from(MAX_AHEAD.as_millis()).unwrap_or(i64::MAX)) {
            *latest = time;
            return Some(time);
        }
        let arrival = if is_loading && *latest > 0 { *latest } else { now };
        if let Some(unsaid) = self.warnings.admit() {
            warn!(
                "topic {:?} partition {} offset {}: its timestamp {time} lies more than a day ahead of this machine's \
                 clock, and counts as {arrival}; correct the clock or the unit (milliseconds) of the producer{unsaid}",
                record.topic, record.partition, record.offset
            );
        }
        Some(arrival)
    }
}

/// Milliseconds since the epoch, of which the seconds are `now`, by a clock that may have moved on to the next second.
pub(super) fn millis(now: u64, time_of_day: Duration) -> i64 {
    let millis = if time_of_day.as_secs().abs_diff(now) <= 1 {
        time_of_day.as_millis()
    } else {
        u128::from(now) * 1000
    };
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// The unix seconds of a record's timestamp. Kafka has -1 where there is none.
pub(super) fn seconds(timestamp: i64) -> Option<u64> {
    Some(u64::try_from(timestamp).ok()? / 1000)
}
