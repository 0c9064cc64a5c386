//! Topics of a broker, and their records.

use super::broker::Broker;
use super::wait::{ensure, eventually, secs};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

impl Broker {
    /// Every topic, asked in the one way that never creates one.
    pub fn topics(&self) -> Vec<String> {
        let metadata = self.metadata();
        metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .collect()
    }

    /// Offsets of the first record that still exists and of the next to be written, per partition.
    pub fn watermarks(&self, topic: &str, partitions: i32) -> Vec<(i64, i64)> {
        let consumer = self.consumer();
        (0..partitions)
            .map(|partition| {
                consumer
                    .fetch_watermarks(topic, partition, secs(10))
                    .unwrap_or_else(|error| panic!("{topic}/{partition}: {error}"))
            })
            .collect()
    }

    /// All that is in the topic, partition by partition (committed records only).
    pub fn read(&self, topic: &str, partitions: i32) -> Vec<OwnedMessage> {
        let consumer = self.consumer();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .expect("a valid offset");
        }
        consumer.assign(&assignment).expect("assignment");
        let mut records = Vec::new();
        let mut ended = 0;
        while ended < partitions {
            match consumer.poll(secs(20)) {
                Some(Ok(record)) => records.push(record.detach()),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => panic!("{topic}: {error}"),
                None => panic!("{topic}: nothing within 20 s, {} records so far", records.len()),
            }
        }
        records.sort_by_key(|record| (record.partition(), record.offset()));
        records
    }

    /// Waits until the topic has that many partitions, each with a leader.
    pub(super) fn await_partitions(&self, name: &str, count: i32) {
        let consumer = self.consumer();
        eventually(secs(20), "partitions have leaders", || {
            let metadata = consumer
                .fetch_metadata(None, secs(5))
                .map_err(|error| error.to_string())?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name);
            let led = topic.map_or(0, |topic| {
                let led = |partition: &&rdkafka::metadata::MetadataPartition| partition.leader() >= 0;
                topic.partitions().iter().filter(led).count()
            });
            ensure(
                i32::try_from(led) == Ok(count),
                format!("{led} of {count} of {name}"),
            )
        });
    }

    fn metadata(&self) -> Metadata {
        self.consumer()
            .fetch_metadata(None, secs(10))
            .unwrap_or_else(|error| panic!("metadata: {error}"))
    }

    fn consumer(&self) -> BaseConsumer {
        self.client()
            // assign() wants one; nothing is ever committed to it.
            .set("group.id", "suite")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            // Without it, the end of a partition is reported half a second late.
            .set("fetch.wait.max.ms", "10")
            .set("isolation.level", "read_committed")
            .create()
            .expect("a consumer")
    }
}
