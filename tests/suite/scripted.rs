//! A scripted Kafka under the real history pool: the part that is the same for every test. All its topics are alike,
//! and the records of their first partition can be read.

use kafka_sse_bridge::config::Client;
use kafka_sse_bridge::kafka::admin::{Admin, AdminThread, TopicState};
use kafka_sse_bridge::kafka::batcher::Batcher;
use kafka_sse_bridge::kafka::client::{Connect, Handles};
use kafka_sse_bridge::kafka::consumer::Consumer;
use kafka_sse_bridge::kafka::error::KafkaError;
use kafka_sse_bridge::kafka::history::History;
use kafka_sse_bridge::kafka::history::quota::ReplayQuota;
use kafka_sse_bridge::kafka::partition::Bounds;
use kafka_sse_bridge::kafka::record::Stamp;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// As it is named in errors.
pub const BROKERS: &str = "b:1";

/// The test's part of a scripted Kafka.
pub trait Kafka: Send + Sync + 'static {
    /// Called for every connection; whether it succeeds.
    fn answers(&self) -> bool;

    /// How many partitions a topic has.
    fn partitions(&self) -> usize {
        self.ends().len()
    }

    /// Where each of them ends; all begin at 0.
    fn ends(&self) -> Vec<i64>;

    /// The offsets of those times.
    fn offsets_at(&self, times: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError> {
        // The record of every offset was made at that time.
        Ok(times.to_vec())
    }

    /// The values of the records that one poll returns from that offset on. None is the end.
    fn values(&self, next: i64) -> Vec<Vec<u8>>;

    /// The key of the record at that offset.
    fn key(&self, _offset: i64) -> Option<&'static [u8]> {
        None
    }

    /// Whether a poll without records is at the end.
    fn is_at_end(&self) -> bool {
        true
    }
}

struct Scripted<K>(Arc<K>);

impl<K: Kafka> Connect for Scripted<K> {
    fn connect(&mut self) -> Result<Handles, KafkaError> {
        if self.0.answers() {
            let admin =
                AdminThread::spawn(Self(Arc::clone(&self.0)), Connect::brokers(self), &Arc::default())?;
            Ok(Handles::new(Box::new(Self(Arc::clone(&self.0))), admin))
        } else {
            Err(KafkaError::unreachable(&Connect::brokers(self), "scripted"))
        }
    }

    fn brokers(&self) -> Arc<str> {
        BROKERS.into()
    }

    fn refuse(&mut self, _why: &KafkaError) -> bool {
        false
    }
}

impl<K: Kafka> Admin for Scripted<K> {
    fn topics(
        &mut self,
        topics: &[Arc<str>],
        _unauthorized: &BTreeSet<Arc<str>>,
    ) -> Result<Vec<TopicState>, KafkaError> {
        let partitions = self.0.partitions();
        let state = |topic: &Arc<str>| TopicState {
            topic: Arc::clone(topic),
            partitions,
            ..TopicState::default()
        };
        Ok(topics.iter().map(state).collect())
    }

    fn bounds(&mut self, topics: &[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError> {
        let ends = self.0.ends();
        let bounds = |&high: &i64| Some(Bounds { low: 0, high });
        Ok(topics
            .iter()
            .map(|(_, partitions)| ends[..*partitions].iter().map(bounds).collect())
            .collect())
    }

    fn offsets_at(&mut self, _topic: &str, asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError> {
        self.0.offsets_at(asked)
    }
}

impl<K: Kafka> Consumer for Scripted<K> {
    fn assign(&mut self, _batcher: &Batcher) -> Result<(), KafkaError> {
        Ok(())
    }

    fn poll(&mut self, wait: Duration, batcher: &mut Batcher) -> Result<(), KafkaError> {
        let next = batcher.next_offsets("t")[0];
        let values = self.0.values(next);
        if values.is_empty() {
            std::thread::sleep(wait);
        }
        for (offset, value) in (next..).zip(values) {
            let stamp = Stamp {
                partition: 0,
                offset,
                timestamp: None,
            };
            let key = self.0.key(offset);
            batcher.push(None, "t", stamp, key, Some(&value), std::iter::empty());
        }
        Ok(())
    }

    fn is_at_end(&self, _topic: &str, _partition: u32, _next: i64) -> bool {
        self.0.is_at_end()
    }

    fn reconnects(&self) -> bool {
        false
    }
}

/// A pool whose threads are joined when it is dropped.
pub struct Pool(pub Arc<History>);

impl Pool {
    pub fn new(history: History) -> Self {
        Self(Arc::new(history))
    }

    /// Over that Kafka, within a quota.
    pub fn over<K: Kafka>(kafka: &Arc<K>, quota: Arc<ReplayQuota>) -> Self {
        let over = Arc::clone(kafka);
        let connects = move || Box::new(Scripted(Arc::clone(&over))) as Box<dyn Connect>;
        Self::new(History::with(
            Box::new(connects),
            Client::Auto,
            Arc::default(),
            quota,
        ))
    }
}

impl Deref for Pool {
    type Target = History;

    fn deref(&self) -> &History {
        &self.0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for thread in self.0.close() {
            assert!(thread.join().is_ok());
        }
    }
}
