//! Monitors topics and partitions while they are read: lag, load progress, stalled, stopped and unused ones.
//!
//! Reports to the streams, the status and the log. Does not decide from where to read.

use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};

use super::state::KafkaReader;
use super::topic::TopicInfo;
use crate::kafka::consumer::Consumer;
use crate::kafka::error::{KafkaError, Location};
use crate::kafka::lag::{End, Lag};
use crate::kafka::open_transactions::{self, TransactionChange};

impl KafkaReader {
    /// Updates lag, open transactions, resumed partitions and connections from what the client reports. Fails when a
    /// partition is stalled although the client reports no error.
    pub(super) fn update_status(
        &mut self,
        consumer: &mut dyn Consumer,
        found: &[TopicInfo],
    ) -> Result<(), KafkaError> {
        self.update_resumed(consumer);
        if let Some(connections) = consumer.broker_states() {
            self.status.set_broker_states(connections);
        }
        let ends = consumer.ends();
        // A partition may not advance during an error, or with a client that cannot tell markers from records.
        let may_stall = consumer.reconnects() && consumer.retried_error().is_none();
        if !may_stall {
            self.stalls.forget();
        }
        for end in ends {
            let Some(next) = self.batcher.next_offset(&end.topic, end.partition) else {
                continue;
            };
            let lag = Lag::of(&end, next);
            if let Some(lag) = lag {
                self.status.set_lag(&end.topic, end.partition, lag);
            }
            let at = || format!("{}:{}", end.partition, end.offset.unwrap_or_default());
            match self.status.update_end(&end) {
                Some(TransactionChange::Blocked) => {
                    warn!("{}", open_transactions::message(&end.topic, &at()));
                }
                Some(TransactionChange::Ended) => info!(
                    "topic {:?} partition {}: the transaction that held it has ended",
                    end.topic, end.partition
                ),
                None => {}
            }
            let gets_on = end.is_fetched && lag.is_none_or(|lag| lag.records == 0);
            if gets_on || self.batcher.is_paused(&end.topic) || !self.may_be_fetched(consumer, found, &end) {
                self.stalls.is_done(&end.topic, end.partition);
            } else if may_stall && self.stalls.is_stalled(&end.topic, end.partition, next) {
                let reason = match end.offset {
                    Some(offset) if end.is_fetched => {
                        format!("nothing comes, although there are records up to {offset}")
                    }
                    _ => "the client library does not fetch it".to_owned(),
                };
                let at = Location::offset(end.topic, end.partition, next);
                return Err(KafkaError::partition(&self.connect.brokers(), at, reason));
            }
        }
        Ok(())
    }

    fn may_be_fetched(&self, consumer: &dyn Consumer, found: &[TopicInfo], end: &End) -> bool {
        let partition = end.partition as usize;
        let mut topics = self.topics.iter().zip(found);
        let topic = topics.find(|(topic, _)| *topic.name == *end.topic);
        topic.is_some_and(|(topic, found)| {
            partition < found.partitions
                && !topic.leaderless.contains(&partition)
                && !consumer.unauthorized().contains(&topic.name)
        })
    }

    /// Notifies the streams of every topic that is read up to its end as of the start, and reports progress of the
    /// others.
    pub(super) fn update_loading(&mut self, consumer: &dyn Consumer) {
        for topic in &mut self.topics {
            let Some(loading) = &mut topic.loading else {
                continue;
            };
            let next = self.batcher.next_offsets(&topic.name);
            // A load may read millions of records before the client reports the ends.
            self.status.advance_lags(&topic.name, &next);
            let mut is_loaded = true;
            for (partition, (&next, &until)) in (0..).zip(next.iter().zip(loading.until())) {
                let name = &topic.name;
                if next < until
                    && consumer.passed(name, partition, next) < until
                    && !consumer.is_at_end(name, partition, next)
                {
                    is_loaded = false;
                    break;
                }
            }
            let (name, now) = (&topic.name, Instant::now());
            if is_loaded {
                let (records, elapsed) = (self.batcher.received_from(name), loading.elapsed(now));
                // A stream is ready with its other topics.
                if !consumer.unauthorized().contains(name) {
                    let stopped = self.status.stopped_of(name);
                    let except = if stopped.is_empty() {
                        String::new()
                    } else {
                        format!(", but for partitions {stopped:?}, which are not read on")
                    };
                    info!(
                        "topic {name:?} is loaded up to the end it had at the start{except}: {records} records in \
                         {elapsed:.1?}"
                    );
                }
                self.status.set_loaded(name);
                self.batcher.loaded(name);
                topic.loading = None;
            } else {
                self.status.set_loading(name, loading.percent(&next));
                if let Some(progress) = loading.report(&next, now) {
                    info!("topic {name:?}: {progress}");
                }
            }
        }
    }

    /// Stops the partition of an error, and no other.
    pub(super) fn stop_partition(
        &self,
        consumer: &mut dyn Consumer,
        why: &KafkaError,
    ) -> Result<(), KafkaError> {
        let Some((topic, partition, stop)) = why.stop() else {
            return Ok(());
        };
        consumer.stop(topic, partition);
        if self.status.set_stopped(topic, partition, stop) {
            warn!("{why}; until then this partition is not read");
        }
        consumer.assign(&self.batcher)
    }

    fn update_resumed(&self, consumer: &mut dyn Consumer) {
        for (topic, partition) in consumer.resumed() {
            if self.status.set_resumed(&topic, partition) {
                info!("topic {topic:?} partition {partition}: is read again");
            }
        }
    }

    pub(super) fn forget_topics(&mut self, gone: &[Arc<str>]) {
        for name in gone {
            self.status.forget_topic(name);
            self.unauthorized.forget(name);
            self.end_offsets.forget(name);
        }
        self.beside.forget_topics(&self.status, gone);
    }

    /// Removes the topics that no stream uses; returns the remaining ones if any were removed.
    pub(super) fn forget_unused(&mut self, found: &[TopicInfo]) -> Option<Vec<TopicInfo>> {
        let gone = self.batcher.forget_unwanted();
        if gone.is_empty() {
            return None;
        }
        for name in &gone {
            // Another thread may read it, for a stream that a reload rebuilt, or that it has taken over.
            info!(
                "topic {name:?}: this thread reads it no more: the streams it read it for were removed or rebuilt, or \
                 have moved"
            );
        }
        self.forget_topics(&gone);
        let topics = std::mem::take(&mut self.topics);
        let kept = topics
            .into_iter()
            .zip(found)
            .filter(|(topic, _)| !gone.contains(&topic.name));
        let (topics, found) = kept.map(|(topic, &found)| (topic, found)).unzip();
        self.topics = topics;
        Some(found)
    }
}
