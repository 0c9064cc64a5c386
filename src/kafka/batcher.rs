//! Where a source puts what it reads: the tail's own offsets, and the batches on their way out.
//!
//! The batcher is the one place that knows which offset of which partition comes next. A record below
//! that offset was handed on before and is passed over, so a rebuilt client can never double one.
//! It does not know which client fills it, nor what the streams do with a batch.
//!
//! The channels to the streams are bounded; what finds no place in them waits in [`stream_queues`](super::stream_queues), and the
//! topics of a stream that cannot encode as fast as Kafka delivers are not among the places to be read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::counters::KafkaCounters;
use super::epochs::{EpochEnd, Epochs};
use super::partition::Cut;
use super::pulse::Pulse;
use super::record::{BEGINNING, Batch, Feed, Stamp, TopicId};
use super::stream_queues::{Change, Outlets, Recipient, Slow};

/// One topic as the tail reads it.
#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// The next offset of every partition.
    next: Vec<i64>,
    /// When each of them was placed, and when the topic began: see [`Place`].
    placed: Vec<u64>,
    incarnation: u64,
    /// The leader epochs of what was read, by partition; shorter where none are known.
    epochs: Vec<Epochs>,
    /// Whether a stream keeps a table of it.
    has_table: bool,
    batch: Batch,
    /// Records taken.
    received: u64,
    /// Records handed on, by all who ever read the topic: added to once per batch.
    handed_on: Arc<AtomicU64>,
    /// The streams that use the topic, by their index among all.
    outlets: Vec<usize>,
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
    /// The leader epoch of the last record that was read, where it is known.
    pub epoch: Option<u32>,
}

/// The tail's offsets, and what was read but not yet handed on.
#[derive(Debug)]
pub struct Batcher {
    topics: Vec<Topic>,
    /// The index of every topic.
    by_name: HashMap<Arc<str>, usize>,
    outlets: Outlets,
    /// How often a partition was placed.
    places: u64,
    /// Index of the topic that took the last record: runs of one topic are the rule.
    last: usize,
}

impl Batcher {
    /// An batcher for these topics, each with the streams that use it.
    pub fn new<R: Into<Recipient>>(topics: impl IntoIterator<Item = (Arc<str>, Vec<R>)>) -> Self {
        let mut outlets = Outlets::default();
        let topics: Vec<Topic> = topics
            .into_iter()
            .map(|(name, recipients)| {
                let recipients: Vec<Recipient> = recipients.into_iter().map(Into::into).collect();
                Topic {
                    batch: Batch::new(name.clone()),
                    name,
                    next: Vec::new(),
                    placed: Vec::new(),
                    incarnation: 0,
                    epochs: Vec::new(),
                    has_table: recipients.iter().any(|recipient| recipient.has_table),
                    received: 0,
                    handed_on: Arc::default(),
                    outlets: recipients
                        .into_iter()
                        .map(|recipient| outlets.add(recipient))
                        .collect(),
                }
            })
            .collect();
        Self {
            by_name: by_name(&topics),
            topics,
            outlets,
            places: 0,
            last: 0,
        }
    }

    /// Counts what is handed on among what others have read.
    #[must_use]
    pub fn counted_in(mut self, counters: &KafkaCounters) -> Self {
        for topic in &mut self.topics {
            topic.handed_on = counters.topic(&topic.name);
        }
        // So that streams which are never paused are counted too.
        for stream in self.outlets.streams() {
            drop(counters.pauses(stream));
        }
        self
    }

    /// Every topic with the next offset of each of its partitions.
    pub fn positions(&self) -> impl Iterator<Item = (&Arc<str>, &[i64])> {
        self.topics
            .iter()
            .map(|topic| (&topic.name, topic.next.as_slice()))
    }

    /// Every partition that is to be read now: of topics none of whose streams is held.
    pub fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let topics = self.topics.iter().filter(|topic| !topic.is_held(&self.outlets));
        topics.flat_map(|topic| {
            let partitions = (0..).zip(topic.next.iter().zip(&topic.placed));
            partitions
                .filter(|(_, (next, _))| **next != BEGINNING)
                .map(|(partition, (&next, &placed))| Place {
                    topic: &topic.name,
                    partition,
                    next,
                    placed,
                    incarnation: topic.incarnation,
                    epoch: topic.epoch(partition),
                })
        })
    }

    /// The next offset of every partition of a topic; empty where none is read.
    #[must_use]
    pub fn next_offsets(&self, topic: &str) -> Vec<i64> {
        self.topic(topic)
            .map(|topic| topic.next.clone())
            .unwrap_or_default()
    }

    /// The next offset of one partition; `None` where it is not read.
    #[must_use]
    pub fn next_offset(&self, topic: &str, partition: u32) -> Option<i64> {
        self.topic(topic)?.next.get(partition as usize).copied()
    }

    /// The leader epoch of the last record that was read of a partition, where it is known.
    pub(super) fn epoch(&self, topic: &str, partition: u32) -> Option<u32> {
        self.topic(topic)?.epoch(partition)
    }

    /// Whether a stream keeps a table of a topic.
    pub(super) fn has_table(&self, topic: &str) -> bool {
        self.topic(topic).is_some_and(|topic| topic.has_table)
    }

    fn topic(&self, topic: &str) -> Option<&Topic> {
        self.by_name.get(topic).map(|&index| &self.topics[index])
    }

    /// Whether a topic is not read because a stream that uses it is held.
    #[must_use]
    pub fn is_held(&self, topic: &str) -> bool {
        self.topic(topic)
            .is_some_and(|topic| topic.is_held(&self.outlets))
    }

    /// Whether any is not.
    #[must_use]
    pub fn is_any_held(&self) -> bool {
        self.outlets.is_any_held()
    }

    /// How many records were taken since the start.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.topics.iter().map(|topic| topic.received).sum()
    }

    /// How many of them are of this topic.
    #[must_use]
    pub fn received_from(&self, topic: &str) -> u64 {
        self.topic(topic).map_or(0, |topic| topic.received)
    }

    /// Sets where a topic is read from, and tells its streams. `low` holds the first offset of every
    /// partition; `id` is the topic's, where it is known.
    pub fn assign(&mut self, topic: &str, id: Option<TopicId>, next: Vec<i64>, low: Vec<i64>) {
        if let Some(&index) = self.by_name.get(topic) {
            let (topic, outlets) = (&mut self.topics[index], &mut self.outlets);
            topic.flush(outlets);
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
            topic.send(outlets, &feed);
        }
    }

    /// Tells the streams of a topic that one of its partitions, which had no leader, begins: records from `at`
    /// on are live.
    pub fn begun(&mut self, topic: &str, partition: u32, at: i64) {
        if let Some(&index) = self.by_name.get(topic) {
            let (topic, outlets) = (&mut self.topics[index], &mut self.outlets);
            topic.flush(outlets);
            let feed = Feed::Begun {
                topic: topic.name.clone(),
                partition,
                at,
            };
            topic.send(outlets, &feed);
        }
    }

    /// The log of a partition was truncated: goes back to where it agrees with what was read, as far as `cut` and the
    /// epochs that were read say, but not below `low`. Tells the streams of the topic. Returns the offset, or `None`
    /// where reading has not passed it.
    pub(super) fn truncate(&mut self, topic: &str, partition: u32, cut: Cut, low: i64) -> Option<i64> {
        let &found = self.by_name.get(topic)?;
        let (topic, outlets) = (&mut self.topics[found], &mut self.outlets);
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
            // What was read in a later epoch than the last that is shared is not in the log any more.
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
        topic.flush(outlets);
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
        topic.send(outlets, &feed);
        Some(from)
    }

    /// Tells the streams of a topic that it begins anew.
    pub fn recreated(&mut self, topic: &str) {
        if let Some(&index) = self.by_name.get(topic) {
            let (topic, outlets) = (&mut self.topics[index], &mut self.outlets);
            topic.flush(outlets);
            topic.next.clear();
            topic.placed.clear();
            topic.epochs.clear();
            topic.incarnation += 1;
            let feed = Feed::Recreated {
                topic: topic.name.clone(),
            };
            topic.send(outlets, &feed);
        }
    }

    /// Tells the streams of a topic that it has been read up to the end it had at the start.
    pub fn loaded(&mut self, topic: &str) {
        if let Some(&index) = self.by_name.get(topic) {
            let (topic, outlets) = (&mut self.topics[index], &mut self.outlets);
            topic.flush(outlets);
            let feed = Feed::Loaded {
                topic: topic.name.clone(),
            };
            topic.send(outlets, &feed);
        }
    }

    /// Tells the streams of a topic that everything written to it before `at` has been handed on.
    pub fn at_end(&mut self, topic: &str, at: Instant) {
        if let Some(&index) = self.by_name.get(topic) {
            let (topic, outlets) = (&mut self.topics[index], &mut self.outlets);
            topic.flush(outlets);
            let feed = Feed::AtEnd {
                topic: topic.name.clone(),
                at,
            };
            topic.send(outlets, &feed);
        }
    }

    /// Takes one record, unless its partition is not read or it was taken before. Returns whether it was taken.
    pub fn push<'h>(
        &mut self,
        topic: &str,
        stamp: Stamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) -> bool {
        self.push_of(None, topic, stamp, key, value, headers)
    }

    /// The same of a record whose leader epoch is known.
    pub fn push_of<'h>(
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
            topic.flush(&mut self.outlets);
        }
        true
    }

    /// Hands on everything that was read; what finds no place waits.
    pub fn flush(&mut self) {
        self.outlets.drain();
        for topic in &mut self.topics {
            topic.flush(&mut self.outlets);
        }
    }

    /// Hands on everything that was read, and waits until all of it has found its place, or nobody listens any more.
    pub fn flush_all(&mut self) {
        self.flush();
        self.outlets.drain_all();
    }

    /// Waits a moment for streams whose channels are full, and decides which of them are held from now on and which are
    /// no more. Where there is such a change, what is to be read has changed.
    pub(super) fn settle(&mut self, pulse: &Pulse) -> Vec<Change> {
        self.outlets.settle(pulse)
    }

    /// Whether something waits for a stream whose topics are read.
    pub(super) fn is_any_full(&self) -> bool {
        self.outlets.is_any_full()
    }

    /// The path of a stream, by its index among those that the batcher hands to.
    pub(super) fn stream(&self, outlet: usize) -> &Arc<str> {
        self.outlets.stream(outlet)
    }

    /// The topics that this stream uses.
    pub(super) fn topics_of(&self, outlet: usize) -> Vec<Arc<str>> {
        let uses = self.topics.iter().filter(|topic| topic.outlets.contains(&outlet));
        uses.map(|topic| Arc::clone(&topic.name)).collect()
    }

    /// Streams that do not keep up, and in what way.
    pub(super) fn slow(&self) -> impl Iterator<Item = (usize, Slow)> {
        self.outlets.slow()
    }

    /// Takes out the topics that nobody listens to any more, and names them.
    pub fn forget_unwanted(&mut self) -> Vec<Arc<str>> {
        let outlets = &self.outlets;
        let gone = self.topics.extract_if(.., |topic| topic.is_unwanted(outlets));
        let gone: Vec<Arc<str>> = gone.map(|topic| topic.name).collect();
        if !gone.is_empty() {
            self.last = 0;
            self.by_name = by_name(&self.topics);
        }
        gone
    }

    /// Whether nobody listens any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.topics.iter().all(|topic| topic.is_unwanted(&self.outlets))
    }
}

fn by_name(topics: &[Topic]) -> HashMap<Arc<str>, usize> {
    let names = topics.iter().map(|topic| Arc::clone(&topic.name));
    names.zip(0..).collect()
}

impl Topic {
    /// A record is of another leader epoch than the one before it in its partition.
    fn note_epoch(&mut self, partition: usize, epoch: Option<u32>, offset: i64) {
        if self.epochs.len() <= partition {
            self.epochs.resize(partition + 1, Epochs::default());
        }
        self.epochs[partition].note(epoch, offset);
    }

    fn epoch(&self, partition: u32) -> Option<u32> {
        self.epochs.get(partition as usize)?.last()
    }

    fn is_held(&self, outlets: &Outlets) -> bool {
        self.outlets.iter().any(|&outlet| outlets.is_held(outlet))
    }

    fn is_unwanted(&self, outlets: &Outlets) -> bool {
        self.outlets.iter().all(|&outlet| outlets.is_closed(outlet))
    }

    fn flush(&mut self, outlets: &mut Outlets) {
        if !self.batch.is_empty() {
            // The next batch is probably as large: vectors that grow are copied again and again.
            let another = self.batch.another();
            let batch = std::mem::replace(&mut self.batch, another);
            let records = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            self.handed_on.fetch_add(records, Ordering::Relaxed);
            self.send(outlets, &Feed::Records(Arc::new(batch)));
        }
    }

    fn send(&self, outlets: &mut Outlets, feed: &Feed) {
        for &outlet in &self.outlets {
            outlets.send(outlet, feed.clone());
        }
    }
}
