//! Open transactions that block a partition: records follow the last stable offset, and that does not advance.
//!
//! A hanging transaction hides all later records of the partition from consumers that read committed records, without an
//! error anywhere. Reads no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::lag::End;

/// How long a transaction must block a partition to be reported: producers' `transaction.timeout.ms` is a minute by
/// default.
pub const REPORT_AFTER: Duration = Duration::from_secs(60);

/// Partitions of which records follow the last stable offset, by topic.
#[derive(Debug, Default)]
pub struct OpenTransactions(BTreeMap<String, BTreeMap<u32, Blocked>>);

#[derive(Debug)]
struct Blocked {
    last_stable: i64,
    since: Instant,
    is_reported: bool,
}

/// A change that is to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionChange {
    /// A transaction has blocked the partition for [`REPORT_AFTER`].
    Blocked,
    /// One that was reported has ended.
    Ended,
}

impl OpenTransactions {
    /// Updates the end of a partition; returns a change that is to be logged.
    pub fn update(&mut self, end: &End, now: Instant) -> Option<TransactionChange> {
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

    /// Forgets a topic.
    pub fn forget(&mut self, topic: &str) {
        self.0.remove(topic);
    }

    /// A message per topic for operators.
    pub fn messages(&self) -> impl Iterator<Item = String> {
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
#[must_use]
pub fn message(topic: &str, blocked: &str) -> String {
    format!(
        "kafka: topic {topic:?}: an open transaction has kept records from being read for more than a minute, at \
         {blocked} (partition:offset); end it at its producer, or find and abort it with kafka-transactions.sh \
         (find-hanging, abort)"
    )
}
