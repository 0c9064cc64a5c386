//! Numbered records at a steady pace, and the latest record of every key.

use crate::harness::broker::Broker;
use crate::harness::wait::{millis, secs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The records to write.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub partitions: u32,
    /// Bytes of a value, at least.
    pub bytes: usize,
    /// Keys to choose from; with 0 the records have none, and partitions are chosen instead.
    pub keys: u32,
    /// One record in so many is a tombstone; with 0 none is.
    pub tombstones: u32,
}

impl Shape {
    /// Records without keys, and no tombstones.
    pub fn unkeyed(partitions: u32, bytes: usize) -> Self {
        Self {
            partitions,
            bytes,
            keys: 0,
            tombstones: 0,
        }
    }
}

/// How Kafka takes records.
#[derive(Default)]
pub struct Taking {
    /// Records that were not taken.
    failures: AtomicU64,
    /// The longest time until one was, in milliseconds.
    slowest: AtomicU64,
}

impl Taking {
    /// The longest time since the last call until a record was taken.
    pub fn slowest(&self) -> Duration {
        millis(self.slowest.swap(0, Ordering::Relaxed))
    }
}

impl ClientContext for Taking {}

impl ProducerContext for Taking {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.map_or(0, |now| now.as_millis());
                let written = message.timestamp().to_millis();
                let written = written.and_then(|written| u128::try_from(written).ok());
                let took = now.saturating_sub(written.unwrap_or(now));
                self.slowest
                    .fetch_max(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            Err(_) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The state that readers must end with.
#[derive(Clone, Debug)]
pub struct Written {
    /// The number the next record of each partition would have.
    pub next: Vec<u32>,
    /// For each key, one more than the number of its latest record; 0 if it has none. One key per
    /// partition is added, which only the last record of the partition has.
    pub table: Vec<u32>,
    pub tombstones: u32,
}

/// Writes to one topic, and to nothing else.
pub struct Writer {
    producer: BaseProducer<Taking>,
    topic: String,
    shape: Shape,
    rng: StdRng,
    began: Instant,
    written: Written,
    value: String,
}

impl Writer {
    /// Times in records are counted from `began`.
    pub fn new(broker: &Broker, topic: &str, shape: Shape, seed: u64, began: Instant) -> Writer {
        Writer::with(broker.client(), topic, shape, seed, began)
    }

    /// The same over any connection.
    pub fn with(mut client: ClientConfig, topic: &str, shape: Shape, seed: u64, began: Instant) -> Writer {
        client
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("socket.nagle.disable", "true");
        let keys = if shape.keys == 0 {
            0
        } else {
            shape.keys + shape.partitions
        };
        Writer {
            producer: client.create_with_context(Taking::default()).expect("a producer"),
            topic: topic.to_owned(),
            shape,
            rng: StdRng::seed_from_u64(seed),
            began,
            written: Written {
                next: vec![0; shape.partitions as usize],
                table: vec![0; keys as usize],
                tombstones: 0,
            },
            value: String::new(),
        }
    }

    /// How Kafka takes the records, which other threads may read meanwhile.
    pub fn taking(&self) -> Arc<Taking> {
        Arc::clone(self.producer.context())
    }

    /// One record: of a key chosen at random, or in a partition chosen at random.
    pub fn write_any(&mut self) {
        if self.shape.keys == 0 {
            let partition = self.rng.random_range(0..self.shape.partitions);
            return self.value(partition, 0);
        }
        let key = self.rng.random_range(0..self.shape.keys);
        if self.shape.tombstones > 0 && self.rng.random_range(0..self.shape.tombstones) == 0 {
            self.tombstone(key);
        } else {
            self.update(key);
        }
    }

    /// A new value of a key.
    pub fn update(&mut self, key: u32) {
        let partition = key % self.shape.partitions;
        self.value(partition, key);
    }

    fn tombstone(&mut self, key: u32) {
        self.written.tombstones += 1;
        self.written.table[key as usize] = 0;
        let partition = key % self.shape.partitions;
        let key = key.to_string();
        self.send(
            BaseRecord::<str, str>::to(&self.topic.clone()).key(&key),
            partition,
        );
    }

    fn value(&mut self, partition: u32, key: u32) {
        let next = &mut self.written.next[partition as usize];
        let number = *next;
        *next += 1;
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        let time = self.began.elapsed().as_micros();
        write!(value, "{partition} {number} {key} {time} ").expect("memory");
        let length = value.len().max(self.shape.bytes);
        value.extend(std::iter::repeat_n('x', length - value.len()));
        let topic = self.topic.clone();
        let record = BaseRecord::<str, str>::to(&topic).payload(&value);
        if self.shape.keys == 0 {
            self.send(record, partition);
        } else {
            self.written.table[key as usize] = number + 1;
            self.send(record.key(&key.to_string()), partition);
        }
        self.value = value;
    }

    fn send(&self, record: BaseRecord<'_, str, str>, partition: u32) {
        let mut record = record.partition(partition.try_into().expect("few partitions"));
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(millis(10));
                }
                Err((error, _)) => panic!("a record is not taken: {error}"),
            }
        }
    }

    /// Records at `rate` a second while `goes_on` holds, which receives the number of written ones.
    pub fn pace(&mut self, rate: u32, mut goes_on: impl FnMut(u32) -> bool) {
        let (started, mut written) = (Instant::now(), 0);
        while goes_on(written) {
            // At least one, so that a rate that cannot be kept is one without pauses.
            self.write_any();
            written += 1;
            self.producer.poll(Duration::ZERO);
            let due = Duration::from_secs(written.into()) / rate;
            let early = due.saturating_sub(started.elapsed());
            // A sleep takes milliseconds: records that became due meanwhile follow at once.
            if early > millis(2) {
                thread::sleep(early);
            }
        }
    }

    /// Ends every partition with a record of a key that has no other, and returns what was written.
    ///
    /// # Panics
    /// If Kafka has not taken everything.
    pub fn finish(&mut self) -> Written {
        for partition in 0..self.shape.partitions {
            let key = if self.shape.keys == 0 {
                0
            } else {
                self.shape.keys + partition
            };
            self.value(partition, key);
        }
        self.flush();
        self.written.clone()
    }

    /// # Panics
    /// If Kafka has not taken everything.
    pub fn flush(&self) {
        self.producer.flush(secs(60)).expect("records are acknowledged");
        let failures = self.producer.context().failures.load(Ordering::Relaxed);
        assert_eq!(failures, 0, "records were not acknowledged");
    }
}
