//! The trait that both Kafka clients implement.
//!
//! A source reads exactly the partitions and offsets it was given; it keeps no group, commits
//! nothing and decides nothing about where to start. That is [`tail`](super::reader)'s work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::batcher::Batcher;
use super::error::KafkaError;
use super::lag::End;
use super::link::Link;
use super::metadata::{self, Asked, Looked};
use super::partition::Bounds;
use super::pulse::Pulse;
use super::record::TopicId;

/// A Kafka client that reads given partitions from given offsets.
///
/// After any error the source is dropped and a new one built, which continues at the tail's own
/// offsets; so a source need not recover by itself, but may.
pub trait Source: Send {
    /// How many partitions each of `topics` has, 0 where it does not exist. Never creates a topic.
    ///
    /// # Errors
    /// When no broker answers within a few seconds.
    fn partitions(&mut self, topics: &[Arc<str>]) -> Result<Vec<usize>, KafkaError>;

    /// The id of every topic (KIP-516); `None` where it is unknown, because the topic does not exist or
    /// brokers before 2.8 have none.
    ///
    /// # Errors
    /// When no broker answers.
    fn topic_ids(&mut self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicId>>, KafkaError> {
        Ok(vec![None; topics.len()])
    }

    /// Begins to look at what exists, for a thread with this pulse, or returns what was seen since: `None` while that
    /// goes on.
    ///
    /// # Errors
    /// When no broker answers.
    fn look(&mut self, asked: &[Asked], pulse: &Pulse) -> Option<Result<Vec<Looked>, KafkaError>> {
        Some(metadata::now(self, asked, pulse))
    }

    /// Discards a look that goes on: what it shows would be compared with what is no longer known.
    fn forget_look(&mut self) {}

    /// The offsets that every partition of `topic` (`0..partitions`) holds now; `None` where no leader
    /// answers.
    ///
    /// # Errors
    /// When no broker answers.
    fn bounds(&mut self, topic: &str, partitions: usize) -> Result<Vec<Option<Bounds>>, KafkaError>;

    /// The same of several topics, each with the number of its partitions.
    ///
    /// # Errors
    /// When no broker answers.
    fn bounds_of(&mut self, topics: &[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError> {
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
    /// [`KafkaError::Unsupported`] from a client library that knows no times; otherwise when the
    /// leader of a partition does not answer.
    fn offsets_at(&mut self, topic: &str, asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError>;

    /// Reads from now on what `batcher` is to be filled with ([`Batcher::places`]). Partitions that were placed anew since
    /// the last call are read from their next offsets; the others are read on undisturbed.
    ///
    /// # Errors
    /// When the client library refuses.
    fn assign(&mut self, batcher: &Batcher) -> Result<(), KafkaError>;

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
    fn poll(&mut self, wait: Duration, batcher: &mut Batcher) -> Result<(), KafkaError>;

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
    fn is_at_end(&mut self, topic: &str, partition: u32, next: i64) -> Result<bool, KafkaError>;

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
    fn members(&mut self) -> Result<Vec<String>, KafkaError> {
        Ok(Vec::new())
    }

    /// Whether the library reconnects by itself, so that it is kept when no broker answers.
    fn reconnects(&self) -> bool;
}
