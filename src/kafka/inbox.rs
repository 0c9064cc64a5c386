//! Where a source puts what it reads: the tail's own offsets, and the batches on their way out.
//!
//! The inbox is the one place that knows which offset of which partition comes next. A record below
//! that offset was handed on before and is passed over, so a rebuilt client can never double one.
//! It does not know which client fills it, nor what the streams do with a batch.
//!
//! The channels to the streams are bounded, so `send` blocks the reading thread when a stream
//! cannot encode as fast as Kafka delivers: that is the back-pressure, and the only queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::pulse::Pulse;
use super::record::{BEGINNING, Batch, Feed, Stamp, TopicId};
use super::tally::Tally;

/// One topic as the tail reads it.
#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// The next offset of every partition.
    next: Vec<i64>,
    /// When each of them was placed, and when the topic began: see [`Place`].
    placed: Vec<u64>,
    incarnation: u64,
    batch: Batch,
    /// Records taken.
    received: u64,
    /// Records handed on, by all who ever read the topic: added to once per batch.
    handed_on: Arc<AtomicU64>,
    /// The streams that use the topic.
    feeds: Vec<mpsc::Sender<Feed>>,
    /// Of the thread that fills the inbox.
    pulse: Arc<Pulse>,
}

/// A partition that is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its topic.
    pub topic: &'a Arc<str>,
    /// Its number.
    pub partition: u32,
    /// Its next offset.
    pub next: i64,
    /// Differs from what it was before once the partition is to be read from another offset than the one at which
    /// reading has arrived.
    pub placed: u64,
    /// Differs from what it was before once the topic was recreated.
    pub incarnation: u64,
}

/// The tail's offsets, and what was read but not yet handed on.
#[derive(Debug)]
pub struct Inbox {
    topics: Vec<Topic>,
    /// How often a partition was placed.
    places: u64,
    /// Index of the topic that took the last record: runs of one topic are the rule.
    last: usize,
}

impl Inbox {
    /// An inbox for these topics, each with the streams that use it.
    pub fn new(topics: impl IntoIterator<Item = (Arc<str>, Vec<mpsc::Sender<Feed>>)>) -> Self {
        Self::watched(topics, &Arc::default())
    }

    /// The same, filled by a thread with this pulse.
    pub(super) fn watched(
        topics: impl IntoIterator<Item = (Arc<str>, Vec<mpsc::Sender<Feed>>)>,
        pulse: &Arc<Pulse>,
    ) -> Self {
        let topics = topics
            .into_iter()
            .map(|(name, feeds)| Topic {
                batch: Batch::new(name.clone()),
                name,
                next: Vec::new(),
                placed: Vec::new(),
                incarnation: 0,
                received: 0,
                handed_on: Arc::default(),
                feeds,
                pulse: Arc::clone(pulse),
            })
            .collect();
        Self {
            topics,
            places: 0,
            last: 0,
        }
    }

    /// Counts what is handed on among what others have read.
    #[must_use]
    pub fn counted_in(mut self, tally: &Tally) -> Self {
        for topic in &mut self.topics {
            topic.handed_on = tally.topic(&topic.name);
        }
        self
    }

    /// Every topic with the next offset of each of its partitions.
    pub fn positions(&self) -> impl Iterator<Item = (&Arc<str>, &[i64])> {
        self.topics
            .iter()
            .map(|topic| (&topic.name, topic.next.as_slice()))
    }

    /// Every partition that is to be read now.
    pub fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.topics.iter().flat_map(|topic| {
            let partitions = (0..).zip(topic.next.iter().zip(&topic.placed));
            partitions
                .filter(|(_, (next, _))| **next != BEGINNING)
                .map(|(partition, (&next, &placed))| Place {
                    topic: &topic.name,
                    partition,
                    next,
                    placed,
                    incarnation: topic.incarnation,
                })
        })
    }

    /// The next offset of every partition of a topic; empty where none is read.
    #[must_use]
    pub fn next_offsets(&self, topic: &str) -> Vec<i64> {
        let topic = self.topics.iter().find(|candidate| &*candidate.name == topic);
        topic.map(|topic| topic.next.clone()).unwrap_or_default()
    }

    /// The next offset of one partition; `None` where it is not read.
    #[must_use]
    pub fn next_offset(&self, topic: &str, partition: u32) -> Option<i64> {
        let topic = self.topics.iter().find(|candidate| &*candidate.name == topic)?;
        topic.next.get(partition as usize).copied()
    }

    /// How many records were taken since the start.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.topics.iter().map(|topic| topic.received).sum()
    }

    /// How many of them are of this topic.
    #[must_use]
    pub fn received_from(&self, topic: &str) -> u64 {
        let topic = self.topics.iter().find(|candidate| &*candidate.name == topic);
        topic.map_or(0, |topic| topic.received)
    }

    /// Sets where a topic is read from, and tells its streams. `low` holds the first offset of every
    /// partition; `id` is the topic's, where it is known.
    pub fn assign(&mut self, topic: &str, id: Option<TopicId>, next: Vec<i64>, low: Vec<i64>) {
        if let Some(topic) = self.topics.iter_mut().find(|candidate| &*candidate.name == topic) {
            topic.flush();
            topic.placed.resize(next.len(), 0);
            for (partition, placed) in topic.placed.iter_mut().enumerate() {
                if topic.next.get(partition) != next.get(partition) {
                    self.places += 1;
                    *placed = self.places;
                }
            }
            topic.next.clone_from(&next);
            topic.send(&Feed::Assigned {
                topic: topic.name.clone(),
                id,
                next,
                low,
            });
        }
    }

    /// Tells the streams of a topic that it begins anew.
    pub fn recreated(&mut self, topic: &str) {
        if let Some(topic) = self.topics.iter_mut().find(|candidate| &*candidate.name == topic) {
            topic.flush();
            topic.next.clear();
            topic.placed.clear();
            topic.incarnation += 1;
            topic.send(&Feed::Recreated {
                topic: topic.name.clone(),
            });
        }
    }

    /// Tells the streams of a topic that it has been read up to the end it had at the start.
    pub fn loaded(&mut self, topic: &str) {
        if let Some(topic) = self.topics.iter_mut().find(|candidate| &*candidate.name == topic) {
            topic.flush();
            topic.send(&Feed::Loaded {
                topic: topic.name.clone(),
            });
        }
    }

    /// Takes one record, unless its partition is not read or it was taken before. Blocks while a
    /// full batch finds no place in a stream's channel. Returns whether it was taken.
    pub fn push<'h>(
        &mut self,
        topic: &str,
        stamp: Stamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) -> bool {
        if self.topics.get(self.last).is_none_or(|last| &*last.name != topic) {
            let Some(index) = self.topics.iter().position(|candidate| &*candidate.name == topic) else {
                return false;
            };
            self.last = index;
        }
        let topic = &mut self.topics[self.last];
        let Some(next) = topic.next.get_mut(stamp.partition as usize) else {
            return false;
        };
        if stamp.offset < *next {
            return false;
        }
        *next = stamp.offset.saturating_add(1);
        topic.batch.push(stamp, key, value, headers);
        topic.received += 1;
        if topic.batch.is_full() {
            topic.flush();
        }
        true
    }

    /// Hands on everything that was read.
    pub fn flush(&mut self) {
        for topic in &mut self.topics {
            topic.flush();
        }
    }

    /// Takes out the topics that nobody listens to any more, and names them.
    pub fn forget_unwanted(&mut self) -> Vec<Arc<str>> {
        let is_unwanted = |topic: &Topic| topic.feeds.iter().all(mpsc::Sender::is_closed);
        self.last = 0;
        let gone = self.topics.extract_if(.., |topic| is_unwanted(topic));
        gone.map(|topic| topic.name).collect()
    }

    /// Whether nobody listens any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.topics
            .iter()
            .all(|topic| topic.feeds.iter().all(mpsc::Sender::is_closed))
    }
}

impl Topic {
    fn flush(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::replace(&mut self.batch, Batch::new(self.name.clone()));
            let records = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            self.handed_on.fetch_add(records, Ordering::Relaxed);
            self.send(&Feed::Records(Arc::new(batch)));
        }
    }

    fn send(&mut self, feed: &Feed) {
        self.feeds.retain(|stream| {
            let sent = match stream.try_send(feed.clone()) {
                Err(TrySendError::Full(feed)) => {
                    // The stream has a pulse of its own: one that never takes a batch is late, and we are not.
                    self.pulse.rest();
                    stream.blocking_send(feed).is_ok()
                }
                sent => sent.is_ok(),
            };
            self.pulse.beat(Duration::ZERO);
            sent
        });
    }
}
