//! A Kafka of a test's making under the real pool that reads the past: what such a Kafka does whatever the
//! test. Its topics are all alike, and the records of their first partition can be read.

use kafka_sse_bridge::config::Client;
use kafka_sse_bridge::kafka::batcher::Batcher;
use kafka_sse_bridge::kafka::client::Connect;
use kafka_sse_bridge::kafka::error::KafkaError;
use kafka_sse_bridge::kafka::history::History;
use kafka_sse_bridge::kafka::partition::Bounds;
use kafka_sse_bridge::kafka::record::Stamp;
use kafka_sse_bridge::kafka::source::Source;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// As it is named in errors.
pub const BROKERS: &str = "b:1";

/// What the test makes up.
pub trait Kafka: Send + Sync + 'static {
    /// Called for every connection; whether it comes about.
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

    /// The values of what comes at once from that offset on. None is the end.
    fn values(&self, next: i64) -> Vec<Vec<u8>>;

    /// Whether nothing comes any more where no record does.
    fn is_at_end(&self) -> bool {
        true
    }
}

struct Scripted<K>(Arc<K>);

impl<K: Kafka> Connect for Scripted<K> {
    fn connect(&mut self) -> Result<Box<dyn Source>, KafkaError> {
        if self.0.answers() {
            Ok(Box::new(Self(Arc::clone(&self.0))))
        } else {
            Err(KafkaError::unreachable(&self.brokers(), "scripted"))
        }
    }

    fn brokers(&self) -> Arc<str> {
        BROKERS.into()
    }

    fn refuse(&mut self, _why: &KafkaError) -> bool {
        false
    }
}

impl<K: Kafka> Source for Scripted<K> {
    fn partitions(&mut self, topics: &[Arc<str>]) -> Result<Vec<usize>, KafkaError> {
        Ok(vec![self.0.partitions(); topics.len()])
    }

    fn bounds(&mut self, _topic: &str, partitions: usize) -> Result<Vec<Option<Bounds>>, KafkaError> {
        Ok(self.0.ends()[..partitions]
            .iter()
            .map(|&high| Some(Bounds { low: 0, high }))
            .collect())
    }

    fn offsets_at(&mut self, _topic: &str, asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError> {
        self.0.offsets_at(asked)
    }

    fn assign(&mut self, _inbox: &Batcher) -> Result<(), KafkaError> {
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
            batcher.push("t", stamp, None, Some(&value), std::iter::empty());
        }
        Ok(())
    }

    fn is_at_end(&mut self, _topic: &str, _partition: u32, _next: i64) -> Result<bool, KafkaError> {
        Ok(self.0.is_at_end())
    }

    fn trouble(&self) -> Option<&str> {
        None
    }

    fn reconnects(&self) -> bool {
        false
    }
}

/// A pool whose threads are joined in the end.
pub struct Pool(pub Arc<History>);

impl Pool {
    pub fn new(history: History) -> Self {
        Self(Arc::new(history))
    }

    /// Over that Kafka.
    pub fn over<K: Kafka>(kafka: &Arc<K>) -> Self {
        let over = Arc::clone(kafka);
        let connects = move || Box::new(Scripted(Arc::clone(&over))) as Box<dyn Connect>;
        Self::new(History::with(Box::new(connects), Client::Auto, Arc::default()))
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
