//! The trait that both Kafka clients fill, and how they say what went wrong.
//!
//! A source reads exactly the partitions and offsets it was given; it keeps no group, commits
//! nothing and decides nothing about where to start. That is [`tail`](super::reader)'s work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::batcher::Batcher;
use super::counters::Trouble;
use super::lag::End;
use super::link::Link;
use super::metadata::{self, Asked, Looked};
use super::pulse::Pulse;
use super::record::TopicId;
use super::stopped_partitions::{Cause, Stop};

/// The offsets a partition holds: `low` is the first that exists, `high` the next to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that exists (the log start offset).
    pub low: i64,
    /// The high watermark.
    pub high: i64,
}

/// A partition whose next offset does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: u32,
    /// How its leader's log departs from what was read, where the leader was asked for that.
    pub cut: Option<Cut>,
}

/// How a leader's log departs from what was read (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The greatest leader epoch in that log which is not above that of the last record read ends before that record.
    Diverged {
        /// That epoch.
        epoch: u32,
        /// Where it ends in the log.
        end: i64,
    },
    /// All epochs in that log are above that of the last record read.
    Unrelated,
    /// The log ends before what was read, and no epochs are known.
    Shorter {
        /// Where it ends.
        end: i64,
    },
}

/// What the text of librdkafka's error has before the leader's answer to `OffsetForLeaderEpoch`.
const ANSWER: (&str, &str) = ("broker end offset is ", "(offset leader epoch ");

impl Cut {
    /// How a leader's log departs from what was read, by the text of librdkafka's error: it gives no more of the leader's
    /// answer than that. `None` where the text has no answer.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (end, epoch) = (number_after(text, ANSWER.0)?, number_after(text, ANSWER.1)?);
        // Both are -1 where the leader knows no such epoch.
        match u32::try_from(epoch) {
            Ok(epoch) if end >= 0 => Some(Self::Diverged { epoch, end }),
            _ => Some(Self::Unrelated),
        }
    }
}

/// The number that follows a phrase.
fn number_after(text: &str, phrase: &str) -> Option<i64> {
    let (_, rest) = text.split_once(phrase)?;
    let number = rest.split(|char: char| char != '-' && !char.is_ascii_digit());
    number.into_iter().next()?.parse().ok()
}

/// What went wrong between us and Kafka, with the names a person needs.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No broker answers.
    #[error("kafka {brokers}: {reason}")]
    Unreachable {
        /// The brokers as configured.
        brokers: String,
        /// What the client library or the operating system said.
        reason: String,
    },
    /// One partition cannot be read.
    #[error("kafka {brokers}: {at}: {reason}")]
    Partition {
        /// The brokers as configured.
        brokers: String,
        /// Topic, partition and, where one was asked for, offset.
        at: String,
        /// What the broker or the client library said.
        reason: String,
    },
    /// The offset that was asked for does not exist in its partition: the records there are gone, or the
    /// topic is another.
    #[error("kafka {brokers}: {at}: {reason}")]
    OutOfRange {
        /// The brokers as configured.
        brokers: String,
        /// Topic, partition and offset.
        at: String,
        /// What the broker or the client library said.
        reason: String,
        /// Every partition that this is said of.
        lost: Vec<Lost>,
    },
    /// A batch is compressed as the `kafka` crate cannot read it.
    #[error(
        "kafka {brokers}: topic {topic:?} partition {partition} at offset {offset}: a batch is compressed with \
         {codec}, which the kafka crate cannot read; set client = \"librdkafka\" in [kafka]"
    )]
    Codec {
        /// The brokers as configured.
        brokers: String,
        /// The topic.
        topic: Arc<str>,
        /// Its partition.
        partition: u32,
        /// The offset that was asked for.
        offset: i64,
        /// How it is compressed.
        codec: &'static str,
    },
    /// A batch is larger than the client takes.
    #[error(
        "kafka {brokers}: topic {topic:?} partition {partition} at offset {offset}: a record, or the batch that holds \
         it, is larger than {limit}{size}; {remedy}"
    )]
    TooLarge {
        /// The brokers as configured.
        brokers: String,
        /// The topic.
        topic: Arc<str>,
        /// Its partition.
        partition: u32,
        /// The offset that is read next.
        offset: i64,
        /// What bounds it, with the bound in bytes.
        limit: String,
        /// How large it is, as far as that is known, ready to follow the bound.
        size: String,
        /// What to change.
        remedy: &'static str,
    },
    /// An answer was not waited for, because the thread has something else to do.
    #[error("not waited for: there is something else to do")]
    Interrupted,
    /// A login, a certificate or a right is refused; retrying alone does not help.
    #[error("kafka {brokers}: {reason}; {remedy}")]
    Refused {
        /// The brokers as configured.
        brokers: String,
        /// Who refuses what.
        reason: String,
        /// What to change.
        remedy: String,
    },
    /// The client cannot work with these brokers or settings; retrying alone does not help.
    #[error("kafka {brokers}: {reason}; {remedy}")]
    Unsupported {
        /// The brokers as configured.
        brokers: String,
        /// What does not fit.
        reason: String,
        /// What to change.
        remedy: String,
    },
}

impl SourceError {
    /// Its kind, as it is counted.
    #[must_use]
    pub const fn kind(&self) -> Trouble {
        match self {
            // One that was interrupted is none that is counted.
            Self::Unreachable { .. } | Self::Interrupted => Trouble::Unreachable,
            Self::Partition { .. } | Self::OutOfRange { .. } => Trouble::Partition,
            Self::Codec { .. } => Trouble::Codec,
            Self::TooLarge { .. } => Trouble::TooLarge,
            Self::Refused { .. } => Trouble::Refused,
            Self::Unsupported { .. } => Trouble::Unsupported,
        }
    }

    /// The partition that cannot be read on, where it is one batch that stops it and no other.
    #[must_use]
    pub fn stop(&self) -> Option<(&Arc<str>, u32, Stop)> {
        let (topic, partition, offset, cause) = match self {
            Self::Codec {
                topic,
                partition,
                offset,
                ..
            } => (topic, *partition, *offset, Cause::Codec),
            Self::TooLarge {
                topic,
                partition,
                offset,
                ..
            } => (topic, *partition, *offset, Cause::TooLarge),
            _ => return None,
        };
        let why = self.to_string();
        Some((topic, partition, Stop { offset, cause, why }))
    }
}

/// A Kafka client that reads given partitions from given offsets.
///
/// After any error the source is dropped and a new one built, which continues at the tail's own
/// offsets; so a source need not recover by itself, but may.
pub trait Source: Send {
    /// How many partitions each of `topics` has, 0 where it does not exist. Never creates a topic.
    ///
    /// # Errors
    /// When no broker answers within a few seconds.
    fn partitions(&mut self, topics: &[Arc<str>]) -> Result<Vec<usize>, SourceError>;

    /// The id of every topic (KIP-516); `None` where it is unknown, because the topic does not exist or
    /// brokers before 2.8 have none.
    ///
    /// # Errors
    /// When no broker answers.
    fn topic_ids(&mut self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicId>>, SourceError> {
        Ok(vec![None; topics.len()])
    }

    /// Begins to look at what exists, for a thread with this pulse, or returns what was seen since: `None` while that
    /// goes on.
    ///
    /// # Errors
    /// When no broker answers.
    fn look(&mut self, asked: &[Asked], pulse: &Pulse) -> Option<Result<Vec<Looked>, SourceError>> {
        Some(metadata::now(self, asked, pulse))
    }

    /// Discards a look that goes on: what it shows would be compared with what is no longer known.
    fn forget_look(&mut self) {}

    /// The offsets that every partition of `topic` (`0..partitions`) holds now; `None` where no leader
    /// answers.
    ///
    /// # Errors
    /// When no broker answers.
    fn bounds(&mut self, topic: &str, partitions: usize) -> Result<Vec<Option<Bounds>>, SourceError>;

    /// The same of several topics, each with the number of its partitions.
    ///
    /// # Errors
    /// When no broker answers.
    fn bounds_of(&mut self, topics: &[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, SourceError> {
        let topics = topics.iter();
        topics
            .map(|(topic, partitions)| self.bounds(topic, *partitions))
            .collect()
    }

    /// Per partition of `topic`, from 0, the first offset whose record is at or after the time asked
    /// for (milliseconds since the epoch), and the high watermark where there is none. `None` where
    /// nothing is asked.
    ///
    /// # Errors
    /// [`SourceError::Unsupported`] from a client library that knows no times; otherwise when the
    /// leader of a partition does not answer.
    fn offsets_at(&mut self, topic: &str, asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, SourceError>;

    /// Reads from now on what `batcher` is to be filled with ([`Batcher::places`]). Partitions that were placed anew since
    /// the last call are read from their next offsets; the others are read on undisturbed.
    ///
    /// # Errors
    /// When the client library refuses.
    fn assign(&mut self, batcher: &Batcher) -> Result<(), SourceError>;

    /// Reads a partition no more, of which [`poll`](Self::poll) said that it cannot be read, until it is placed anew.
    /// Takes effect with the next [`assign`](Self::assign). A source may try it again by itself, seldom.
    fn stop(&mut self, _topic: &Arc<str>, _partition: u32) {}

    /// Partitions that were stopped and are read again, since the last call.
    fn resumed(&mut self) -> Vec<(Arc<str>, u32)> {
        Vec::new()
    }

    /// Waits up to `wait` for records and puts what is there into `batcher`, in partition order.
    ///
    /// # Errors
    /// When the source is of no further use. What was put into the batcher before is still right.
    fn poll(&mut self, wait: Duration, batcher: &mut Batcher) -> Result<(), SourceError>;

    /// The offset before which all of a partition has been given that can be read: `next`, or a later one where control
    /// records, or records of aborted transactions, follow that. As far as [`poll`](Self::poll) has met them.
    fn passed(&mut self, _topic: &str, _partition: u32, next: i64) -> i64 {
        next
    }

    /// Whether a reader that stands at `next` has nothing left to read although the high watermark
    /// is further on: only control records, or records of open or aborted transactions, lie there. As far as
    /// [`poll`](Self::poll) has heard; nobody is asked.
    ///
    /// # Errors
    /// When that could not be found out.
    fn is_at_end(&mut self, topic: &str, partition: u32, next: i64) -> Result<bool, SourceError>;

    /// Transport trouble that the client library works on by itself; `None` while all is well.
    /// A client that does not recover by itself never reports any: its errors end it.
    fn trouble(&self) -> Option<&str>;

    /// Whether it is finding out what that trouble comes of, so that [`poll`](Self::poll) may name it soon.
    fn is_searching(&self) -> bool {
        false
    }

    /// Whether that trouble is a refusal, which needs a person.
    fn is_refused(&self) -> bool {
        false
    }

    /// What has been heard of the ends of partitions since the last call, every few seconds at most. Asks
    /// nobody; called after every poll.
    fn ends(&mut self) -> Vec<End> {
        Vec::new()
    }

    /// What has been heard of connections since the last call, likewise; `None` is no news.
    fn links(&mut self) -> Option<Vec<Link>> {
        None
    }

    /// Takes over what the source before it has found of that; it counts until it is tried.
    fn remember_forbidden(&mut self, _topics: &BTreeSet<Arc<str>>) {}

    /// Topics that may not be read, as far as it has been tried. They count as having nothing to read, and
    /// are tried on.
    fn forbidden(&self) -> &BTreeSet<Arc<str>> {
        static NONE: BTreeSet<Arc<str>> = BTreeSet::new();
        &NONE
    }

    /// `host:port` of the brokers that Kafka names, as far as the library tells.
    ///
    /// # Errors
    /// When no broker answers within a few seconds.
    fn members(&mut self) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    /// Whether the library reconnects by itself, so that it is kept when no broker answers.
    fn reconnects(&self) -> bool;
}

/// As a broker's address is written; a bare IPv6 address in brackets.
pub(super) fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
