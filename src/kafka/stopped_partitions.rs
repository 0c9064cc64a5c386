//! Partitions that are stopped because the client cannot read their next batch.
//!
//! No record is skipped: reading resumes once the client, its settings or the partition has changed. Reads no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Shortest time between two log lines about the same stop, however often the client is rebuilt.
pub(crate) const LOG_EVERY: Duration = Duration::from_secs(600);

/// Why a partition is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopCause {
    /// The client does not support the batch's compression.
    Codec,
    /// The batch is larger than the client accepts.
    TooLarge,
}

impl StopCause {
    /// The value of the label `cause` in `/metrics`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::TooLarge => "too-large",
        }
    }
}

/// Why a partition is stopped, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The next offset to read.
    pub offset: i64,
    /// The cause.
    pub cause: StopCause,
    /// The error message, with location and remedy.
    pub why: String,
}

/// A stopped partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedPartition {
    /// The topic.
    pub topic: String,
    /// The partition, from 0.
    pub partition: u32,
    /// Offset and cause.
    pub stop: Stop,
}

#[derive(Debug, Default)]
pub(crate) struct StoppedPartitions {
    now: BTreeMap<(String, u32), Stop>,
    /// The messages that were logged, and when.
    logged: BTreeMap<(String, u32), (String, Instant)>,
}

impl StoppedPartitions {
    /// Stops a partition; returns whether to log that.
    pub(crate) fn set(&mut self, topic: &str, partition: u32, stop: Stop, now: Instant) -> bool {
        let at = (topic.to_owned(), partition);
        let is_logged = self.logged.get(&at).is_some_and(|(why, since)| {
            *why == stop.why && now.saturating_duration_since(*since) < LOG_EVERY
        });
        if !is_logged {
            self.logged.insert(at.clone(), (stop.why.clone(), now));
        }
        self.now.insert(at, stop);
        !is_logged
    }

    /// Resumes a partition; returns whether it was stopped.
    pub(crate) fn clear(&mut self, topic: &str, partition: u32) -> bool {
        let at = (topic.to_owned(), partition);
        self.logged.remove(&at);
        self.now.remove(&at).is_some()
    }

    pub(crate) fn clear_all(&mut self) {
        self.now.clear();
    }

    pub(crate) fn forget(&mut self, topic: &str) {
        self.now.retain(|(stopped, _), _| stopped != topic);
        self.logged.retain(|(logged, _), _| logged != topic);
    }

    pub(crate) fn of(&self, topic: &str) -> impl Iterator<Item = u32> {
        let from = (topic.to_owned(), 0);
        let of_topic = self.now.range(from..).take_while(move |((of, _), _)| of == topic);
        of_topic.map(|((_, partition), _)| *partition)
    }

    /// A message per partition for operators.
    pub(crate) fn messages(&self) -> impl Iterator<Item = String> {
        self.now.values().map(|stop| stop.why.clone())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = StoppedPartition> {
        self.now
            .iter()
            .map(|((topic, partition), stop)| StoppedPartition {
                topic: topic.clone(),
                partition: *partition,
                stop: stop.clone(),
            })
    }
}
