//! Batches records by topic and sends the batches to the streams.
//!
//! The batcher alone knows the next offset of every partition. It drops a record below that offset, so that a rebuilt
//! client duplicates none. It knows neither the client that fills it, nor what the streams do with a batch.
//!
//! [`stream_queues`](super::stream_queues) holds the overflow of the bounded channels to the streams, and pauses the
//! topics of a stream that is slower than Kafka; [`fetch_positions`](Batcher::fetch_positions) omits paused topics.

mod moving;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::counters::KafkaCounters;
use super::epochs::{EpochEnd, Epochs};
use super::partition::Cut;
use super::pulse::Pulse;
use super::record::{BEGINNING, Batch, Feed, Stamp, TopicId};
use super::stream_queues::{FlowChange, SlowPeriod, StreamChannel, StreamQueues};

/// A topic, its next offsets and its unsent batch.
#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    next: Vec<i64>,
    /// See [`FetchPosition`].
    placed: Vec<u64>,
    incarnation: u64,
    /// The leader epochs of the records read, by partition; shorter than `next` if later partitions have none.
    epochs: Vec<Epochs>,
    has_table: bool,
    batch: Batch,
    received: u64,
    /// Records sent, for `/metrics`; updated once per batch.
    sent: Arc<AtomicU64>,
    /// Their bytes; updated once per batch.
    sent_bytes: u64,
    /// The streams that use the topic, by their index among all.
    queues: Vec<usize>,
}

/// A partition to read, and its next offset.
#[derive(Debug, Clone)]
pub struct FetchPosition {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: u32,
    /// Its next offset.
    pub next: i64,
    /// Changes when reading must continue at an offset other than the one reached.
    pub placed: u64,
    /// Changes when the topic is recreated.
    pub incarnation: u64,
    /// The leader epoch of the last record read, if known.
    pub epoch: Option<u32>,
}

impl FetchPosition {
    pub(crate) fn key(&self) -> (Arc<str>, u32) {
        (Arc::clone(&self.topic), self.partition)
    }
}

/// The next offsets, and the unsent records.
#[derive(Debug)]
pub struct Batcher {
    topics: Vec<Topic>,
    by_name: HashMap<Arc<str>, usize>,
    queues: StreamQueues,
    /// How often the next offset of a partition was set.
    places: u64,
    /// Index of the topic of the last record: consecutive records usually have the same topic.
    last: usize,
}

impl Batcher {
    /// A batcher for these topics, each with the streams that use it.
    pub fn new<R: Into<StreamChannel>>(topics: impl IntoIterator<Item = (Arc<str>, Vec<R>)>) -> Self {
        let mut queues = StreamQueues::default();
        let topics: Vec<Topic> = topics
            .into_iter()
            .map(|(name, channels)| {
                let channels: Vec<StreamChannel> = channels.into_iter().map(Into::into).collect();
                Topic {
                    batch: Batch::new(name.clone()),
                    name,
                    next: Vec::new(),
                    placed: Vec::new(),
                    incarnation: 0,
                    epochs: Vec::new(),
                    has_table: channels.iter().any(|channel| channel.has_table),
                    received: 0,
                    sent: Arc::default(),
                    sent_bytes: 0,
                    queues: channels.into_iter().map(|channel| queues.add(channel)).collect(),
                }
            })
            .collect();
        Self {
            by_name: by_name(&topics),
            topics,
            queues,
            places: 0,
            last: 0,
        }
    }

    /// Counts records and pauses in counters shared with other batchers.
    #[must_use]
    pub(crate) fn counted_in(mut self, counters: &KafkaCounters) -> Self {
        for topic in &mut self.topics {
            topic.sent = counters.topic(&topic.name);
        }
        // Creates the counters, so that streams that are never paused show zero.
        for stream in self.queues.streams() {
            drop(counters.pauses(stream));
        }
        self
    }

    pub(crate) fn positions(&self) -> impl Iterator<Item = (&Arc<str>, &[i64])> {
        self.topics
            .iter()
            .map(|topic| (&topic.name, topic.next.as_slice()))
    }

    /// Every partition of every topic that is wanted and not paused.
    pub fn fetch_positions(&self) -> impl Iterator<Item = FetchPosition> {
        let is_read = |topic: &&Topic| !topic.is_paused(&self.queues) && !topic.queues.is_empty();
        let topics = self.topics.iter().filter(is_read);
        topics.flat_map(|topic| {
            let partitions = (0..).zip(topic.next.iter().zip(&topic.placed));
            partitions
                .filter(|(_, (next, _))| **next != BEGINNING)
                .map(|(partition, (&next, &placed))| FetchPosition {
                    topic: Arc::clone(&topic.name),
                    partition,
                    next,
                    placed,
                    incarnation: topic.incarnation,
                    epoch: topic.epoch(partition),
                })
        })
    }

    /// The next offset of every partition of a topic; empty if the topic is not read.
    pub fn next_offsets(&self, topic: &str) -> Vec<i64> {
        self.topic(topic)
            .map(|topic| topic.next.clone())
            .unwrap_or_default()
    }

    /// The next offset of one partition; `None` if it is not read.
    pub(crate) fn next_offset(&self, topic: &str, partition: u32) -> Option<i64> {
        self.topic(topic)?.next.get(partition as usize).copied()
    }

    /// The leader epoch of the last record read of a partition, if known.
    pub(super) fn epoch(&self, topic: &str, partition: u32) -> Option<u32> {
        self.topic(topic)?.epoch(partition)
    }

    pub(super) fn has_table(&self, topic: &str) -> bool {
        self.topic(topic).is_some_and(|topic| topic.has_table)
    }

    fn topic(&self, topic: &str) -> Option<&Topic> {
        self.by_name.get(topic).map(|&index| &self.topics[index])
    }

    /// Whether a topic is paused because a stream that uses it does not keep up.
    pub fn is_paused(&self, topic: &str) -> bool {
        self.topic(topic)
            .is_some_and(|topic| topic.is_paused(&self.queues))
    }

    pub(crate) fn is_any_paused(&self) -> bool {
        self.queues.is_any_paused()
    }

    pub(crate) fn received(&self) -> u64 {
        self.topics.iter().map(|topic| topic.received).sum()
    }

    /// The bytes of all records sent, as quotas count them.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.topics.iter().map(|topic| topic.sent_bytes).sum()
    }

    pub(crate) fn received_from(&self, topic: &str) -> u64 {
        self.topic(topic).map_or(0, |topic| topic.received)
    }

    /// Sets the next offsets of a topic, and notifies its streams. `low` holds the log start offset of every
    /// partition; `id` is the topic's id, if known.
    pub fn assign(&mut self, topic: &str, id: Option<TopicId>, next: Vec<i64>, low: Vec<i64>) {
        if let Some(&index) = self.by_name.get(topic) {
            let (topic, queues) = (&mut self.topics[index], &mut self.queues);
            topic.flush(queues);
            topic.placed.resize(next.len(), 0);
            for (partition, placed) in topic.placed.iter_mut().enumerate() {
                if topic.next.get(partition) != next.get(partition) {
                    self.places += 1;
                    *placed = self.places;
                    if let Some(epochs) = topic.epochs.get_mut(partition) {
                        match (topic.next.get(partition), next.get(partition)) {
                            (Some(known), Some(&next)) if next < *known => epochs.go_back(next),
                            _ => epochs.forget(),
                        }
                    }
                }
            }
            topic.next.clone_from(&next);
            let feed = Feed::Assigned {
                topic: topic.name.clone(),
                id,
                next,
                low,
            };
            topic.send(queues, &feed);
        }
    }

    /// Notifies the streams of a topic that a partition has its first leader: records from `at` on are live.
    pub(crate) fn begun(&mut self, topic: &str, partition: u32, at: i64) {
        self.notify(topic, |topic| Feed::Begun { topic, partition, at });
    }

    /// Handles a truncated log: goes back to the offset up to which the log and the records read agree, according to
    /// `cut` and the epochs read, but not below `low`. Notifies the streams of the topic. Returns the offset, or `None`
    /// if reading has not passed it.
    pub(super) fn truncate(&mut self, topic: &str, partition: u32, cut: Cut, low: i64) -> Option<i64> {
        let &found = self.by_name.get(topic)?;
        let (topic, queues) = (&mut self.topics[found], &mut self.queues);
        let index = partition as usize;
        let to = *topic.next.get(index)?;
        if topic.epochs.len() <= index {
            topic.epochs.resize(index + 1, Epochs::default());
        }
        let epochs = &mut topic.epochs[index];
        let lost = epochs.last();
        let from = match cut {
            Cut::Shorter { end } => end,
            Cut::Unrelated => low,
            // Records read in a later epoch than the last common one are no longer in the log.
            Cut::Diverged { epoch, end } => match epochs.end_of(epoch) {
                EpochEnd::At(first) | EpochEnd::Before(first) => end.min(first),
                EpochEnd::Open | EpochEnd::Unknown => end,
            },
        };
        let from = from.max(low);
        if from >= to {
            return None;
        }
        epochs.go_back(from);
        if let Cut::Diverged { epoch, end } = cut
            && epochs.last().is_none()
            && from == end
        {
            epochs.note(Some(epoch), from - 1);
        }
        let epoch = epochs.last();
        topic.flush(queues);
        topic.next[index] = from;
        self.places += 1;
        topic.placed[index] = self.places;
        let feed = Feed::Truncated {
            topic: topic.name.clone(),
            partition,
            from,
            epoch,
            lost,
        };
        topic.send(queues, &feed);
        Some(from)
    }

    pub(crate) fn recreated(&mut self, topic: &str) {
        if let Some(&index) = self.by_name.get(topic) {
            let (topic, queues) = (&mut self.topics[index], &mut self.queues);
            topic.flush(queues);
            topic.next.clear();
            topic.placed.clear();
            topic.epochs.clear();
            topic.incarnation += 1;
            let feed = Feed::Recreated {
                topic: topic.name.clone(),
            };
            topic.send(queues, &feed);
        }
    }

    /// Notifies the streams of a topic that reading has reached the end offsets as of the start.
    pub(crate) fn loaded(&mut self, topic: &str) {
        self.notify(topic, |topic| Feed::Loaded { topic });
    }

    /// Notifies the streams of a topic that all records written before `at` are sent.
    pub(crate) fn at_end(&mut self, topic: &str, at: Instant) {
        self.notify(topic, |topic| Feed::AtEnd { topic, at });
    }

    /// Sends a notice to the streams of a topic, after the records accepted before.
    fn notify(&mut self, topic: &str, notice: impl FnOnce(Arc<str>) -> Feed) {
        if let Some(&index) = self.by_name.get(topic) {
            let (topic, queues) = (&mut self.topics[index], &mut self.queues);
            topic.flush(queues);
            topic.send(queues, &notice(topic.name.clone()));
        }
    }

    /// Accepts a record, with its leader epoch where that is known, unless its partition is not read or its offset is
    /// below the next one. Returns whether it did.
    pub fn push<'h>(
        &mut self,
        epoch: Option<u32>,
        topic: &str,
        stamp: Stamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) -> bool {
        if self.topics.get(self.last).is_none_or(|last| &*last.name != topic) {
            let Some(&index) = self.by_name.get(topic) else {
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
        if topic.epoch(stamp.partition) != epoch {
            topic.note_epoch(stamp.partition as usize, epoch, stamp.offset);
        }
        topic.batch.push_of(epoch, stamp, key, value, headers);
        topic.received += 1;
        if topic.batch.is_full() {
            topic.flush(&mut self.queues);
        }
        true
    }

    /// Sends all accepted records, without waiting for full channels.
    pub fn flush(&mut self) {
        self.queues.drain();
        for topic in &mut self.topics {
            topic.flush(&mut self.queues);
        }
    }

    /// Sends all accepted records, and waits for full channels.
    pub(crate) fn flush_all(&mut self) {
        self.flush();
        self.queues.drain_all();
    }

    /// Waits briefly for full channels, then pauses and resumes topics. A change affects [`Self::fetch_positions`].
    pub(super) fn update_paused(&mut self, pulse: &Pulse) -> Vec<FlowChange> {
        self.queues.update_paused(pulse)
    }

    pub(super) fn is_any_full(&self) -> bool {
        self.queues.is_any_full()
    }

    pub(super) fn stream(&self, queue: usize) -> &Arc<str> {
        self.queues.stream(queue)
    }

    pub(super) fn topics_of(&self, queue: usize) -> Vec<Arc<str>> {
        let uses = self.topics.iter().filter(|topic| topic.queues.contains(&queue));
        uses.map(|topic| Arc::clone(&topic.name)).collect()
    }

    pub(super) fn slow(&self) -> impl Iterator<Item = (usize, SlowPeriod)> {
        self.queues.slow()
    }

    /// Removes the topics that no stream uses, and returns their names.
    pub(crate) fn forget_unwanted(&mut self) -> Vec<Arc<str>> {
        let queues = &self.queues;
        let gone = self.topics.extract_if(.., |topic| topic.is_unwanted(queues));
        let gone: Vec<Arc<str>> = gone.map(|topic| topic.name).collect();
        if !gone.is_empty() {
            self.last = 0;
            self.by_name = by_name(&self.topics);
        }
        gone
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.topics.iter().all(|topic| topic.is_unwanted(&self.queues))
    }
}

fn by_name(topics: &[Topic]) -> HashMap<Arc<str>, usize> {
    let names = topics.iter().map(|topic| Arc::clone(&topic.name));
    names.zip(0..).collect()
}

impl Topic {
    /// The leader epoch changes with this record.
    fn note_epoch(&mut self, partition: usize, epoch: Option<u32>, offset: i64) {
        if self.epochs.len() <= partition {
            self.epochs.resize(partition + 1, Epochs::default());
        }
        self.epochs[partition].note(epoch, offset);
    }

    fn epoch(&self, partition: u32) -> Option<u32> {
        self.epochs.get(partition as usize)?.last()
    }

    fn is_paused(&self, queues: &StreamQueues) -> bool {
        self.queues.iter().any(|&queue| queues.is_paused(queue))
    }

    fn is_unwanted(&self, queues: &StreamQueues) -> bool {
        self.queues.iter().all(|&queue| queues.is_closed(queue))
    }

    fn flush(&mut self, queues: &mut StreamQueues) {
        if !self.batch.is_empty() {
            // The next batch is probably as large, and growing its vectors would copy them repeatedly.
            let another = self.batch.another();
            let batch = std::mem::replace(&mut self.batch, another);
            let records = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            self.sent.fetch_add(records, Ordering::Relaxed);
            self.sent_bytes += batch.quota_bytes();
            self.send(queues, &Feed::Records(Arc::new(batch)));
        }
    }

    fn send(&self, queues: &mut StreamQueues, feed: &Feed) {
        for &queue in &self.queues {
            queues.send(queue, feed.clone());
        }
    }
}
