//! Streams that move from one batcher to another, with what waits for them and the next offsets of their topics.
//!
//! A stream that takes too little would hold up the other streams of its topics. Another thread reads on for it, at the
//! same offsets, so that nothing is lost or repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::{Batcher, Topic, by_name};
use crate::kafka::record::Batch;
use crate::kafka::stream_queues::StreamQueues;

impl Batcher {
    /// The streams, by index, that hold up others of their topics for too long, with all whose topics are paused as well.
    pub(in crate::kafka) fn blocking(&self, now: Instant) -> BTreeSet<usize> {
        let queues = &self.queues;
        let mut blocking = BTreeSet::new();
        if !queues.is_any_paused() {
            return blocking;
        }
        for topic in &self.topics {
            let holds_up = |&by: &usize| {
                let mut others = topic.queues.iter();
                others.any(|&other| queues.is_held_up_by(other, by, now))
            };
            if topic.queues.iter().any(holds_up) {
                let paused = topic.queues.iter().filter(|&&queue| queues.is_paused(queue));
                blocking.extend(paused);
            }
        }
        blocking
    }

    /// The other open streams that use a topic of these streams.
    pub(in crate::kafka) fn sharing(&self, with: &BTreeSet<usize>) -> BTreeSet<Arc<str>> {
        let shared = self.topics.iter().filter(|topic| topic.is_used_by(with));
        let queues = shared.flat_map(|topic| &topic.queues);
        queues
            .filter(|queue| !with.contains(queue) && !self.queues.is_closed(**queue))
            .map(|&queue| Arc::clone(self.queues.stream(queue)))
            .collect()
    }

    /// The topics that any of these streams uses.
    pub(in crate::kafka) fn topics_of_any(&self, queues: &BTreeSet<usize>) -> Vec<Arc<str>> {
        let topics = self.topics.iter().filter(|topic| topic.is_used_by(queues));
        topics.map(|topic| Arc::clone(&topic.name)).collect()
    }

    /// Moves streams to a batcher of their own, with copies of their topics.
    pub(in crate::kafka) fn split(&mut self, moving: &BTreeSet<usize>) -> Self {
        let mut split = Self {
            topics: Vec::new(),
            by_name: by_name(&[]),
            queues: StreamQueues::default(),
            places: self.places,
            last: 0,
        };
        let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
        for topic in self.topics.iter_mut().filter(|topic| topic.is_used_by(moving)) {
            // Records accepted before belong to all of its streams.
            topic.flush(&mut self.queues);
        }
        for &queue in moving {
            moved.insert(queue, split.queues.put(self.queues.take(queue)));
        }
        for topic in self.topics.iter_mut().filter(|topic| topic.is_used_by(moving)) {
            let gone = topic.queues.extract_if(.., |queue| moving.contains(queue));
            let queues = gone.filter_map(|queue| moved.get(&queue).copied()).collect();
            let mut copy = topic_like(topic, queues);
            copy.has_table = copy.queues.iter().any(|&queue| split.queues.has_table(queue));
            topic.has_table = topic.queues.iter().any(|&queue| self.queues.has_table(queue));
            split.topics.push(copy);
        }
        split.by_name = by_name(&split.topics);
        split
    }

    /// Takes over the streams of another batcher, which has other topics.
    pub(in crate::kafka) fn absorb(&mut self, other: Self) {
        let first = self.queues.len();
        self.queues.put_all(other.queues);
        self.topics.extend(other.topics.into_iter().map(|mut topic| {
            topic.queues.iter_mut().for_each(|queue| *queue += first);
            topic
        }));
        self.places = self.places.max(other.places);
        self.by_name = by_name(&self.topics);
        self.last = 0;
    }

    /// The streams whose topics are paused now, by index.
    pub(in crate::kafka) fn paused(&self) -> Vec<usize> {
        let all = 0..self.queues.len();
        all.filter(|&queue| self.queues.is_paused(queue)).collect()
    }
}

/// A topic at the same offsets, without unsent records, for these streams.
fn topic_like(topic: &Topic, queues: Vec<usize>) -> Topic {
    Topic {
        name: Arc::clone(&topic.name),
        next: topic.next.clone(),
        placed: topic.placed.clone(),
        incarnation: topic.incarnation,
        epochs: topic.epochs.clone(),
        has_table: topic.has_table,
        batch: Batch::new(Arc::clone(&topic.name)),
        received: topic.received,
        sent: Arc::clone(&topic.sent),
        sent_bytes: topic.sent_bytes,
        queues,
    }
}

impl Topic {
    fn is_used_by(&self, any: &BTreeSet<usize>) -> bool {
        self.queues.iter().any(|queue| any.contains(queue))
    }
}
