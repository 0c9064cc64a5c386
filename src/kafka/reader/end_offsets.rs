//! Up to when everything that was written to a topic has been read.
//!
//! Streams with a table put that into their ids. Now and then a look at what exists asks for the ends of partitions
//! too; once reading has passed the ends, everything has been read that was written before the look began. Event times
//! cannot say that: producers set them. Decides nothing about where to read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Worker;
use crate::kafka::consumer::Consumer;
use crate::kafka::error::KafkaError;
use crate::kafka::metadata::Looked;

/// How often ends are asked for: one request to each leader, whatever the number of topics.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Ends that reading has not passed for so long are asked for again: the log may have been truncated.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The ends of topics that reading has still to pass.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// When the look that is under way was begun.
    begun: Option<Instant>,
    /// When the ends of each topic were last asked for, and those that have still to be passed.
    topics: BTreeMap<Arc<str>, (Instant, Option<Vec<i64>>)>,
}

impl Ends {
    /// A look is about to begin, or is under way.
    pub(super) fn begin_look(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
    }

    /// Whether the ends of a topic are to be asked for.
    pub(super) fn wants(&self, topic: &str) -> bool {
        self.topics.get(topic).is_none_or(|(at, ends)| {
            let patience = if ends.is_some() { FORGET_AFTER } else { ASK_EVERY };
            at.elapsed() >= patience
        })
    }

    /// Forgets a topic: its ends are those of another, or no longer those of its partitions.
    pub(super) fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
    }
}

impl Worker {
    /// Takes in what a look has shown of ends.
    pub(super) fn note_ends(&mut self, looked: &Result<Vec<Looked>, KafkaError>) {
        let begun = self.ends.begun.take();
        let (Ok(looked), Some(begun)) = (looked, begun) else {
            return;
        };
        for (topic, looked) in self.topics.iter().zip(looked) {
            if let Some(ends) = &looked.ends {
                // Where no leader answers, nobody knows what was written.
                let ends = ends.iter().copied().collect();
                self.ends.topics.insert(Arc::clone(&topic.name), (begun, ends));
            }
        }
    }

    /// Tells the streams of every topic that has been read up to the ends that were asked for.
    pub(super) fn note_at_end(&mut self, consumer: &dyn Consumer) {
        for (name, (at, ends)) in &mut self.ends.topics {
            let Some(wanted) = ends else { continue };
            let next = self.batcher.next_offsets(name);
            // Metadata lagged behind, or a partition of the topic is not read.
            if next.len() != wanted.len() || consumer.unauthorized().contains(name) {
                *ends = None;
                continue;
            }
            let mut places = (0..).zip(next.iter().zip(&*wanted));
            let is_passed = places.all(|(partition, (&next, &end))| {
                next >= end || next >= 0 && consumer.passed(name, partition, next) >= end
            });
            if is_passed {
                *ends = None;
                self.batcher.at_end(name, *at);
            }
        }
    }
}
