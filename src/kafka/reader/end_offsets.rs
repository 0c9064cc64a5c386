//! The time up to which a topic is read completely.
//!
//! Streams with a table put that time into their ids. At intervals a metadata refresh also requests the end offsets of
//! partitions; once reading has passed those, it has passed every record written before the refresh began. Event times
//! are unsuitable, because producers set them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::topic::Topic;
use crate::kafka::batcher::Batcher;
use crate::kafka::consumer::Consumer;
use crate::kafka::error::KafkaError;
use crate::kafka::metadata::Looked;

/// How often end offsets are requested: one request per leader, whatever the number of topics.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// End offsets that reading has not passed in this time are requested again: the log may have been truncated.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The end offsets that reading has not passed yet.
#[derive(Debug, Default)]
pub(super) struct EndOffsets {
    begun: Option<Instant>,
    /// By topic: when its end offsets were last requested, and those that are not passed.
    topics: BTreeMap<Arc<str>, (Instant, Option<Vec<i64>>)>,
}

impl EndOffsets {
    /// A refresh begins, or is in progress.
    pub(super) fn refresh_begins(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
    }

    pub(super) fn wants(&self, topic: &str) -> bool {
        self.topics.get(topic).is_none_or(|(at, ends)| {
            let pause = if ends.is_some() { FORGET_AFTER } else { ASK_EVERY };
            at.elapsed() >= pause
        })
    }

    /// Forgets a topic that was recreated, truncated or is no longer read.
    pub(super) fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    pub(super) fn refreshed(&mut self, topics: &[Topic], looked: &Result<Vec<Looked>, KafkaError>) {
        let begun = self.begun.take();
        let (Ok(looked), Some(begun)) = (looked, begun) else {
            return;
        };
        for (topic, looked) in topics.iter().zip(looked) {
            if let Some(ends) = &looked.ends {
                // The ends of partitions without a leader are unknown.
                let ends = ends.iter().copied().collect();
                self.topics.insert(Arc::clone(&topic.name), (begun, ends));
            }
        }
    }

    /// Notifies the streams of every topic whose end offsets are passed.
    pub(super) fn notify(&mut self, batcher: &mut Batcher, consumer: &dyn Consumer) {
        for (name, (at, ends)) in &mut self.topics {
            let Some(wanted) = ends else { continue };
            let next = batcher.next_offsets(name);
            // Metadata is stale, or a partition of the topic is not read.
            if next.len() != wanted.len() || consumer.unauthorized().contains(name) {
                *ends = None;
                continue;
            }
            let mut partitions = (0..).zip(next.iter().zip(&*wanted));
            let is_passed = partitions.all(|(partition, (&next, &end))| {
                next >= end || next >= 0 && consumer.passed(name, partition, next) >= end
            });
            if is_passed {
                *ends = None;
                batcher.at_end(name, *at);
            }
        }
    }
}
