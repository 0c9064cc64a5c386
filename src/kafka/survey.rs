//! One look at what Kafka holds, for those who want to know whether it can be read.
//!
//! Every function asks once and says what went wrong; nothing is retried, and nothing is kept. They
//! block for as long as the client library does: who calls them bounds that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::inbox::Inbox;
use super::record::{Feed, MAX_BATCH_RECORDS};
use super::refusal::Refusal;
use super::source::{Bounds, Source, SourceError};
use super::tail::Connection;

/// How far before the end of a partition a record is looked for: the last offsets of a transactional
/// topic are markers.
pub const LOOK_BACK: i64 = 5;

/// Longest wait for records in one poll.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// How long an empty topic is read, in which a refusal comes.
const EMPTY_PATIENCE: Duration = Duration::from_secs(1);

/// Feeds that one poll may hand on, which nobody takes meanwhile: a batch for each record at most.
const FEEDS: usize = MAX_BATCH_RECORDS + 2;

/// How many partitions a topic has; 0 where it does not exist.
///
/// # Errors
/// When no broker answers, or the topic may not be seen.
pub fn partitions(
    source: &mut dyn Source,
    connection: &Connection,
    topic: &Arc<str>,
) -> Result<usize, SourceError> {
    let counts = source.partitions(&[Arc::clone(topic)])?;
    fail_of_trouble(source, connection, topic)?;
    Ok(counts.first().copied().unwrap_or(0))
}

/// What was read at the ends of a topic's partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Partitions whose offsets say that they hold something.
    pub filled: usize,
    /// Those of which a record was read.
    pub read: usize,
    /// The latest time of those records, in milliseconds since the epoch, where one has any.
    pub timestamp: Option<i64>,
}

/// Reads the newest records of a topic, for as long as `patience` at most.
///
/// # Errors
/// When reading is refused, or fails.
pub fn newest(
    source: &mut dyn Source,
    connection: &Connection,
    topic: &Arc<str>,
    bounds: &[Bounds],
    patience: Duration,
) -> Result<Newest, SourceError> {
    let (sender, mut feed) = mpsc::channel(FEEDS);
    let mut inbox = Inbox::new([(Arc::clone(topic), vec![sender])]);
    let low = bounds.iter().map(|bounds| bounds.low).collect();
    let next = bounds
        .iter()
        .map(|bounds| (bounds.high - LOOK_BACK).max(bounds.low));
    inbox.assign(topic, None, next.collect(), low);
    source.assign(&inbox)?;
    let filled = bounds.iter().filter(|bounds| bounds.low < bounds.high).count();
    let patience = if filled == 0 {
        patience.min(EMPTY_PATIENCE)
    } else {
        patience
    };
    let started = Instant::now();
    let mut read = BTreeSet::new();
    let mut timestamp = None;
    while started.elapsed() < patience && (read.len() < filled || filled == 0) {
        source.poll(POLL_WAIT, &mut inbox)?;
        inbox.flush();
        while let Ok(fed) = feed.try_recv() {
            if let Feed::Records(batch) = fed {
                for record in batch.iter() {
                    read.insert(record.partition);
                    timestamp = timestamp.max(record.timestamp);
                }
            }
        }
        if read.is_empty() {
            fail_of_trouble(source, connection, topic)?;
        }
    }
    Ok(Newest {
        filled,
        read: read.len(),
        timestamp,
    })
}

/// In how many partitions the time index knows a record.
///
/// # Errors
/// [`SourceError::Unsupported`] from a client library that knows no times; otherwise when a
/// partition's leader does not answer.
pub fn times(source: &mut dyn Source, topic: &str, bounds: &[Bounds]) -> Result<usize, SourceError> {
    let found = source.offsets_at(topic, &vec![Some(0); bounds.len()])?;
    let found = found.iter().zip(bounds);
    Ok(found
        .filter(|(offset, bounds)| offset.is_some_and(|offset| offset < bounds.high))
        .count())
}

/// What a source works on by itself is a failure to who asks once.
fn fail_of_trouble(
    source: &dyn Source,
    connection: &Connection,
    topic: &Arc<str>,
) -> Result<(), SourceError> {
    let brokers = connection.brokers.join(",");
    if source.forbidden().contains(topic) {
        return Err(Refusal::topic(topic, &connection.access).at(&brokers));
    }
    match source.trouble() {
        None => Ok(()),
        Some(trouble) => Err(SourceError::Unreachable {
            reason: trouble
                .strip_prefix(&format!("kafka {brokers}: "))
                .unwrap_or(trouble)
                .to_owned(),
            brokers,
        }),
    }
}
