//! Reading records: the trait that both Kafka clients implement beside [`Admin`](super::admin::Admin).
//!
//! A consumer reads exactly the partitions and offsets that it is given; it joins no group, commits nothing and does
//! not decide where to start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::admin::TopicState;
use super::batcher::Batcher;
use super::error::KafkaError;
use super::lag::End;
use super::reader_status::BrokerState;

/// A Kafka client that reads given partitions from given offsets.
///
/// After an error the consumer is dropped, and another one continues at the batcher's offsets; so a consumer need not
/// recover by itself, but may.
pub trait Consumer: Send {
    /// Assigns the partitions of [`Batcher::fetch_positions`]: starts those whose `placed` has changed at their next
    /// offsets, and continues the others without interruption.
    ///
    /// # Errors
    /// When the client library refuses.
    fn assign(&mut self, batcher: &Batcher) -> Result<(), KafkaError>;

    /// Waits up to `wait` for records, and pushes them into `batcher` in the order of each partition.
    ///
    /// # Errors
    /// When a batch cannot be read, an offset does not exist, or the consumer is unusable. Records pushed before are
    /// valid.
    fn poll(&mut self, wait: Duration, batcher: &mut Batcher) -> Result<(), KafkaError>;

    /// Stops a partition whose next batch cannot be read, from the next [`assign`](Self::assign) on and until its
    /// position changes. A consumer may retry it, rarely.
    fn stop(&mut self, _topic: &Arc<str>, _partition: u32) {}

    /// Stopped partitions that have resumed since the last call.
    fn resumed(&mut self) -> Vec<(Arc<str>, u32)> {
        Vec::new()
    }

    /// The offset before which every readable record of a partition has been pushed: `next`, or a later one where
    /// control records or records of aborted transactions follow, as far as [`poll`](Self::poll) has reached.
    fn passed(&self, _topic: &str, _partition: u32, next: i64) -> i64 {
        next
    }

    /// Whether no readable record follows `next` although the high watermark is higher: only control records, or records
    /// of open or aborted transactions. As far as [`poll`](Self::poll) has reached.
    fn is_at_end(&self, topic: &str, partition: u32, next: i64) -> bool;

    /// The error that the client library is retrying, if any. A client that does not recover by itself returns errors
    /// from [`poll`](Self::poll) instead.
    fn retried_error(&self) -> Option<&str> {
        None
    }

    /// Whether the consumer is searching for the cause of that error, so that [`poll`](Self::poll) may return it soon.
    fn is_searching(&self) -> bool {
        false
    }

    /// Whether that error is a refusal, which an operator must resolve.
    fn is_refused(&self) -> bool {
        false
    }

    /// Ends of partitions that were updated since the last call, at most every few seconds. Makes no request; called
    /// after every poll.
    fn ends(&mut self) -> Vec<End> {
        Vec::new()
    }

    /// Connections, if they were updated since the last call, likewise.
    fn broker_states(&mut self) -> Option<Vec<BrokerState>> {
        None
    }

    /// Updates the consumer with the state of topics from an [`Admin`](super::admin::Admin).
    fn note_topics(&mut self, _topics: &[&TopicState]) {}

    /// Takes over the unauthorized topics of the previous consumer; each counts until it is tested.
    fn remember_unauthorized(&mut self, _topics: &BTreeSet<Arc<str>>) {}

    /// Topics that may not be read, as far as tested. They count as read to their ends, and are tested again.
    fn unauthorized(&self) -> &BTreeSet<Arc<str>> {
        static NONE: BTreeSet<Arc<str>> = BTreeSet::new();
        &NONE
    }

    /// Whether the client library reconnects by itself, so that the consumer is kept when no broker answers.
    fn reconnects(&self) -> bool;
}
