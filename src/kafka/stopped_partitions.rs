//! Partitions at which reading is stopped, because the client cannot take the batch that is next.
//!
//! Nothing is skipped: such a partition is read on once the client, its settings or the partition has changed. Reads no
//! clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a stop that has been logged is not logged again, however often the client is built anew meanwhile.
pub const TOLD_EVERY: Duration = Duration::from_secs(600);

/// Why a partition is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The batch is compressed as the client cannot read it.
    Codec,
    /// The batch is larger than the client takes.
    TooLarge,
}

impl Cause {
    /// Its name among figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::TooLarge => "too-large",
        }
    }
}

/// A partition that is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The offset that is read next.
    pub offset: i64,
    /// Why.
    pub cause: Cause,
    /// The same for people, with place and remedy.
    pub why: String,
}

/// A stop with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedPartition {
    /// The topic.
    pub topic: String,
    /// The partition, from 0.
    pub partition: u32,
    /// Where and why.
    pub stop: Stop,
}

/// The partitions of one reading thread that are stopped.
#[derive(Debug, Default)]
pub struct Stops {
    now: BTreeMap<(String, u32), Stop>,
    /// What was logged, and when.
    told: BTreeMap<(String, u32), (String, Instant)>,
}

impl Stops {
    /// A partition is stopped; returns whether that is to be logged.
    pub fn set(&mut self, topic: &str, partition: u32, stop: Stop, now: Instant) -> bool {
        let at = (topic.to_owned(), partition);
        let is_told = self.told.get(&at).is_some_and(|(why, since)| {
            *why == stop.why && now.saturating_duration_since(*since) < TOLD_EVERY
        });
        if !is_told {
            self.told.insert(at.clone(), (stop.why.clone(), now));
        }
        self.now.insert(at, stop);
        !is_told
    }

    /// A partition is read again; returns whether it was stopped.
    pub fn clear(&mut self, topic: &str, partition: u32) -> bool {
        let at = (topic.to_owned(), partition);
        self.told.remove(&at);
        self.now.remove(&at).is_some()
    }

    /// All are tried again.
    pub fn clear_all(&mut self) {
        self.now.clear();
    }

    /// Forgets a topic.
    pub fn forget(&mut self, topic: &str) {
        self.now.retain(|(stopped, _), _| stopped != topic);
        self.told.retain(|(told, _), _| told != topic);
    }

    /// The partitions of a topic that are stopped.
    pub fn of(&self, topic: &str) -> impl Iterator<Item = u32> {
        let from = (topic.to_owned(), 0);
        let of_topic = self.now.range(from..).take_while(move |((of, _), _)| of == topic);
        of_topic.map(|((_, partition), _)| *partition)
    }

    /// What an operator should know, a line per partition.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.now.values().map(|stop| stop.why.clone())
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = StoppedPartition> {
        self.now
            .iter()
            .map(|((topic, partition), stop)| StoppedPartition {
                topic: topic.clone(),
                partition: *partition,
                stop: stop.clone(),
            })
    }
}
