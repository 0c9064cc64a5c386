//! Errors between this process and Kafka, with the brokers, the location and the remedy.

use std::fmt;
use std::sync::Arc;

use super::counters::ErrorClass;
use super::partition::Lost;
use super::stopped_partitions::{Stop, StopCause};

/// The remedy for features that the `kafka` crate lacks.
pub(super) const USE_LIBRDKAFKA: &str = "set client = \"librdkafka\" in [kafka]";

/// An error between this process and Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaError {
    /// The brokers as configured.
    pub brokers: Arc<str>,
    /// The topic that it concerns, with partition and offset if it has them.
    pub at: Option<Location>,
    /// The failure.
    pub kind: ErrorKind,
}

/// A topic, a partition or an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: Option<u32>,
    /// The next offset to read.
    pub offset: Option<i64>,
}

/// The kinds of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// No broker answers.
    Unreachable(String),
    /// One partition cannot be read.
    Partition(String),
    /// The offset does not exist in its partition: the records there were deleted, or the topic was recreated.
    OutOfRange {
        /// The text of the broker or the client library.
        reason: String,
        /// All partitions that it concerns.
        lost: Vec<Lost>,
    },
    /// A batch is compressed with a codec that the `kafka` crate does not support.
    Codec(&'static str),
    /// A batch is larger than the client accepts.
    TooLarge {
        /// The limit in bytes with its name, and the size of the batch where it is known.
        limit: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// The call was abandoned, because its thread has a pending command.
    Interrupted,
    /// A login, a certificate or access to a topic is refused; retrying alone does not help.
    Refused {
        /// Which party refuses, and why.
        reason: String,
        /// The remedy.
        remedy: String,
    },
    /// The client cannot work with these brokers or settings; retrying alone does not help.
    Unsupported {
        /// The unsupported feature or setting.
        reason: String,
        /// The remedy.
        remedy: String,
    },
}

impl KafkaError {
    /// An error that concerns no single topic.
    pub fn new(brokers: &Arc<str>, kind: ErrorKind) -> Self {
        Self {
            brokers: Arc::clone(brokers),
            at: None,
            kind,
        }
    }

    /// The same error, with a location.
    #[must_use]
    pub fn located(self, at: Location) -> Self {
        Self { at: Some(at), ..self }
    }

    /// No broker answers.
    pub fn unreachable(brokers: &Arc<str>, reason: impl Into<String>) -> Self {
        Self::new(brokers, ErrorKind::Unreachable(reason.into()))
    }

    /// One partition cannot be read.
    pub fn partition(brokers: &Arc<str>, at: Location, reason: impl Into<String>) -> Self {
        Self::new(brokers, ErrorKind::Partition(reason.into())).located(at)
    }

    /// The client cannot work with these brokers or settings.
    pub fn unsupported(brokers: &Arc<str>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (reason, remedy) = (reason.into(), remedy.into());
        Self::new(brokers, ErrorKind::Unsupported { reason, remedy })
    }

    /// Whether the call was abandoned, which is not a failure.
    pub(crate) const fn is_interrupted(&self) -> bool {
        matches!(self.kind, ErrorKind::Interrupted)
    }

    /// Whether reading stops at a batch that another client or another setting could read.
    pub(crate) const fn is_of_batch(&self) -> bool {
        matches!(self.kind, ErrorKind::Codec(_) | ErrorKind::TooLarge { .. })
    }

    /// Its kind in `/metrics`.
    pub(crate) const fn counted_as(&self) -> ErrorClass {
        match self.kind {
            ErrorKind::Unreachable(_) | ErrorKind::Interrupted => ErrorClass::Unreachable,
            ErrorKind::Partition(_) | ErrorKind::OutOfRange { .. } => ErrorClass::Partition,
            ErrorKind::Codec(_) => ErrorClass::Codec,
            ErrorKind::TooLarge { .. } => ErrorClass::TooLarge,
            ErrorKind::Refused { .. } => ErrorClass::Refused,
            ErrorKind::Unsupported { .. } => ErrorClass::Unsupported,
        }
    }

    /// The partition at whose next batch reading stops, if it stops at one.
    pub fn stop(&self) -> Option<(&Arc<str>, u32, Stop)> {
        let cause = match self.kind {
            ErrorKind::Codec(_) => StopCause::Codec,
            ErrorKind::TooLarge { .. } => StopCause::TooLarge,
            _ => return None,
        };
        let at = self.at.as_ref()?;
        let (offset, why) = (at.offset?, self.to_string());
        Some((&at.topic, at.partition?, Stop { offset, cause, why }))
    }

    /// The failure and its location, without the brokers and the remedy.
    pub(crate) fn reason(&self) -> String {
        let at = self.at.as_ref().map_or_else(String::new, |at| format!("{at}: "));
        match &self.kind {
            ErrorKind::Unreachable(reason)
            | ErrorKind::Partition(reason)
            | ErrorKind::OutOfRange { reason, .. }
            | ErrorKind::Refused { reason, .. }
            | ErrorKind::Unsupported { reason, .. } => format!("{at}{reason}"),
            ErrorKind::Codec(codec) => {
                format!("{at}a batch is compressed with {codec}, which the kafka crate cannot read")
            }
            ErrorKind::TooLarge { limit, .. } => {
                format!("{at}a record, or the batch that holds it, is larger than {limit}")
            }
            ErrorKind::Interrupted => format!("{at}interrupted by an order to stop or to reconnect"),
        }
    }

    /// The remedy, if retrying alone does not help.
    pub fn remedy(&self) -> Option<&str> {
        match &self.kind {
            ErrorKind::Codec(_) => Some(USE_LIBRDKAFKA),
            ErrorKind::TooLarge { remedy, .. } => Some(remedy),
            ErrorKind::Refused { remedy, .. } | ErrorKind::Unsupported { remedy, .. } => Some(remedy),
            _ => None,
        }
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka {}: {}", self.brokers, self.reason())?;
        match self.remedy() {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for KafkaError {}

impl Location {
    /// A topic.
    pub(crate) fn topic(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            offset: None,
        }
    }

    /// A partition.
    pub fn partition(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self {
            partition: Some(partition),
            ..Self::topic(topic)
        }
    }

    /// An offset of a partition.
    pub fn offset(topic: impl Into<Arc<str>>, partition: u32, offset: i64) -> Self {
        Self {
            offset: Some(offset),
            ..Self::partition(topic, partition)
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {:?}", self.topic)?;
        if let Some(partition) = self.partition {
            write!(f, " partition {partition}")?;
        }
        match self.offset {
            Some(offset) => write!(f, " at offset {offset}"),
            None => Ok(()),
        }
    }
}
