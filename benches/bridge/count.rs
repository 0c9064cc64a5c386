//! A bare `BaseConsumer` with the daemon's settings: what librdkafka alone does on this machine.

use crate::measure::{cpu, now};
use kafka::client::fetch::Topic;
use kafka::client::{FetchPartition, KafkaClient};
use kafka_sse_bridge::config::{Client, Isolation};
use kafka_sse_bridge::kafka::client::librdkafka_config;
use kafka_sse_bridge::kafka::connection::{Connection, Purpose};
use kafka_sse_bridge::kafka::security::Credentials;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// How the daemon would reach these brokers with librdkafka, left to its defaults.
pub fn connection(brokers: &str) -> Connection {
    Connection {
        brokers: vec![brokers.to_owned()],
        client: Client::Librdkafka,
        isolation: Isolation::ReadCommitted,
        librdkafka: Vec::new(),
        credentials: Credentials::default(),
        needs_headers: false,
        needs_librdkafka: None,
    }
}

pub fn consumer(brokers: &str) -> BaseConsumer {
    let config = librdkafka_config(&connection(brokers), Purpose::Live).expect("no files are named");
    config.create().expect("a consumer")
}

/// Reads the one partition of a topic from its end as of now.
pub fn assign_end(consumer: &BaseConsumer, topic: &str) {
    let (_, high) = consumer.fetch_watermarks(topic, 0, PATIENCE).expect("watermarks");
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, Offset::Offset(high))
        .expect("an offset");
    consumer.assign(&assignment).expect("an assignment");
}

/// Takes the connection steps that the daemon takes, reads a whole topic, and prints when the first
/// and the last record came, how many there were, their bytes, and how long the processor was used.
pub fn main(brokers: &str, topic: &str, partitions: i32, total: u64) {
    let consumer = consumer(brokers);
    consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        let (low, _) = consumer
            .fetch_watermarks(topic, partition, PATIENCE)
            .expect("watermarks");
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(low))
            .expect("an offset");
    }
    consumer.assign(&assignment).expect("an assignment");
    let (mut first, mut count, mut bytes) = (0, 0, 0);
    while count < total {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                if count == 0 {
                    first = now();
                }
                count += 1;
                bytes += message.payload().map_or(0, <[u8]>::len);
            }
            Some(Err(error)) => eprintln!("bare consumer: {error}"),
            None => {}
        }
    }
    let last = now();
    println!(
        "{first} {last} {count} {bytes} {}",
        cpu(std::process::id()).as_nanos()
    );
}

/// Bytes that one fetch of the `kafka` crate asks for in all, as in src/kafka/kafka_crate.rs.
const FETCH_BYTES: i32 = 8 * 1024 * 1024;

/// The same with a bare `KafkaClient`.
pub fn with_the_crate(brokers: &str, topic: &str, partitions: i32, total: u64) {
    let mut client = KafkaClient::new(vec![brokers.to_owned()]);
    client.set_fetch_min_bytes(1);
    client
        .set_fetch_max_wait_time(Duration::from_millis(100))
        .expect("a wait");
    client.load_metadata_all().expect("metadata");
    let limit = (FETCH_BYTES / partitions).clamp(64 * 1024, 1024 * 1024);
    let mut next: Vec<i64> = vec![0; usize::try_from(partitions).expect("few")];
    let (mut first, mut count, mut bytes) = (0, 0, 0);
    while count < total {
        let asked = (0..)
            .zip(&next)
            .map(|(partition, &next)| FetchPartition::new(topic, partition, next).with_max_bytes(limit));
        let answer = client.fetch_messages(asked).expect("an answer");
        for found in answer
            .iter()
            .flat_map(|answer| answer.topics())
            .flat_map(Topic::partitions)
        {
            let data = found.data().expect("records");
            let next = &mut next[usize::try_from(found.partition()).expect("a partition")];
            for message in data.messages() {
                // A compressed set comes whole.
                if message.offset < *next {
                    continue;
                }
                if count == 0 {
                    first = now();
                }
                *next = message.offset + 1;
                count += 1;
                bytes += message.value.len();
            }
        }
    }
    let last = now();
    println!(
        "{first} {last} {count} {bytes} {}",
        cpu(std::process::id()).as_nanos()
    );
}
