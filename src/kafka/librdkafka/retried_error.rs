//! Errors that librdkafka retries by itself, for one partition or all.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::error::Location;
use crate::kafka::partition::{Cut, Lost};

/// The library retries a partition, and repeats its error, within this time.
const TRIED_EVERY: Duration = Duration::from_secs(3);

/// An error that the library retries, and its partition if it concerns one.
pub(super) struct RetriedError {
    at: Option<(String, i32)>,
    what: String,
    /// Whether a login or a certificate is refused.
    is_auth_error: bool,
    reported: Instant,
}

impl RetriedError {
    pub(super) fn new(what: String) -> Self {
        Self {
            at: None,
            what,
            is_auth_error: false,
            reported: Instant::now(),
        }
    }

    pub(super) fn auth_error(what: String) -> Self {
        Self {
            is_auth_error: true,
            ..Self::new(what)
        }
    }

    pub(super) fn of(failed: PartitionError, brokers: &str) -> Self {
        Self {
            what: format!("kafka {brokers}: {}: {}", failed.at(), failed.text),
            at: Some((failed.topic, failed.partition)),
            is_auth_error: false,
            reported: Instant::now(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.what
    }

    /// Whether a login or a certificate is refused.
    pub(super) const fn is_auth_error(&self) -> bool {
        self.is_auth_error
    }

    /// Whether it is the error of a partition, and was reported within [`TRIED_EVERY`].
    pub(super) fn lasts(&self) -> bool {
        self.at.is_some() && self.reported.elapsed() < TRIED_EVERY
    }

    pub(super) fn is_at(&self, topic: &str, partition: i32) -> bool {
        self.at
            .as_ref()
            .is_some_and(|at| at.1 == partition && at.0 == topic)
    }

    /// Whether a record of this partition shows that the error is over.
    pub(super) fn ends_with(&self, topic: &str, partition: i32) -> bool {
        self.at.is_none() || self.is_at(topic, partition)
    }
}

pub(super) struct PartitionError {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) code: RDKafkaErrorCode,
    pub(super) text: String,
}

impl PartitionError {
    /// The partition whose offset does not exist.
    pub(super) fn lost(&self) -> Option<Lost> {
        Some(Lost {
            topic: self.topic.as_str().into(),
            partition: u32::try_from(self.partition).ok()?,
            cut: Cut::from_text(&self.text),
        })
    }

    /// The partition and, where the error has one, the offset.
    pub(super) fn at(&self) -> Location {
        Location {
            topic: self.topic.as_str().into(),
            partition: u32::try_from(self.partition).ok(),
            offset: (self.offset >= 0).then_some(self.offset),
        }
    }
}
