//! Open transactions that block a partition: records follow the last stable offset, which does not advance.
//!
//! A hanging transaction hides all later records of the partition from `read_committed` consumers, without any error.
//! Reads no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::lag::End;

/// How long a transaction must block a partition to be reported: the default `transaction.timeout.ms` of producers is a
/// minute.
pub(crate) const REPORT_AFTER: Duration = Duration::from_secs(60);

/// Partitions with records after the last stable offset, by topic.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions(BTreeMap<String, BTreeMap<u32, Blocked>>);

#[derive(Debug)]
struct Blocked {
    last_stable: i64,
    since: Instant,
    is_reported: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionChange {
    /// A transaction has blocked the partition for [`REPORT_AFTER`].
    Blocked,
    Ended,
}

impl OpenTransactions {
    /// Updates the end of a partition; returns a change to log.
    pub(crate) fn update(&mut self, end: &End, now: Instant) -> Option<TransactionChange> {
        let last_stable = end.offset.filter(|&at| end.high.is_some_and(|high| high > at));
        let partitions = self.0.entry(end.topic.clone()).or_default();
        let Some(last_stable) = last_stable else {
            let blocked = partitions.remove(&end.partition);
            return blocked
                .filter(|blocked| blocked.is_reported)
                .map(|_| TransactionChange::Ended);
        };
        let blocked = partitions.entry(end.partition).or_insert(Blocked {
            last_stable,
            since: now,
            is_reported: false,
        });
        if blocked.last_stable != last_stable {
            let was_reported = std::mem::replace(&mut blocked.is_reported, false);
            (blocked.last_stable, blocked.since) = (last_stable, now);
            return was_reported.then_some(TransactionChange::Ended);
        }
        if blocked.is_reported || now.saturating_duration_since(blocked.since) < REPORT_AFTER {
            return None;
        }
        blocked.is_reported = true;
        Some(TransactionChange::Blocked)
    }

    pub(crate) fn forget(&mut self, topic: &str) {
        self.0.remove(topic);
    }

    /// A message per topic for operators.
    pub(crate) fn messages(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|(topic, partitions)| {
            let reported = partitions.iter().filter(|(_, blocked)| blocked.is_reported);
            let at: Vec<String> = reported
                .map(|(partition, blocked)| format!("{partition}:{}", blocked.last_stable))
                .collect();
            (!at.is_empty()).then(|| message(topic, &at.join(" ")))
        })
    }
}

/// The message for a topic, with its blocked partitions and their last stable offsets, as in `0:17 3:5`.
pub(crate) fn message(topic: &str, blocked: &str) -> String {
    format!(
        "kafka: topic {topic:?}: an open transaction has kept records from being read for more than a minute, at \
         {blocked} (partition:offset); end it at its producer, or find and abort it with kafka-transactions.sh \
         (find-hanging, abort)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_blocks_a_partition_for_a_minute_is_reported() {
        let end = |offset, high| End {
            topic: "t".to_owned(),
            partition: 3,
            offset: Some(offset),
            high: Some(high),
            is_reached: true,
            is_fetched: true,
        };
        let mut open = OpenTransactions::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(open.update(&end(7, 9), at(0)), None);
        assert_eq!(open.update(&end(7, 12), at(59)), None);
        assert_eq!(open.messages().count(), 0);
        assert_eq!(open.update(&end(7, 12), at(60)), Some(TransactionChange::Blocked));
        assert_eq!(open.update(&end(7, 12), at(62)), None, "it is reported once");
        let line = open.messages().next().expect("it is reported");
        assert!(line.contains("topic \"t\"") && line.contains(" 3:7 "), "{line}");
        // The next transaction is open already, and has its own minute.
        assert_eq!(open.update(&end(13, 14), at(64)), Some(TransactionChange::Ended));
        assert_eq!(open.update(&end(13, 14), at(123)), None);
        assert_eq!(
            open.update(&end(13, 14), at(124)),
            Some(TransactionChange::Blocked)
        );
        assert_eq!(open.update(&end(20, 20), at(126)), Some(TransactionChange::Ended));
        assert_eq!(open.messages().count(), 0);
        // Transactions that come and go, always one of them open.
        for second in 200..400 {
            let offset = i64::try_from(second).expect("small");
            assert_eq!(open.update(&end(offset, offset + 5), at(second)), None);
        }
    }
}
