//! A bare `BaseConsumer` with the daemon's settings: what librdkafka alone does on this machine.

use crate::measure::{cpu, now};
use kafka::client::fetch::Topic;
use kafka::client::{FetchPartition, KafkaClient};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::time::Duration;

/// As in src/kafka/librdkafka.rs.
const SETTINGS: [(&str, &str); 16] = [
    ("isolation.level", "read_committed"),
    ("group.id", "kafka-sse-bridge-bench"),
    ("client.id", "kafka-sse-bridge-bench"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.timeout.ms", "10000"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.queue.backoff.ms", "10"),
    ("queued.max.messages.kbytes", "4096"),
    ("fetch.max.bytes", "4194304"),
    ("fetch.error.backoff.ms", "100"),
    ("socket.nagle.disable", "true"),
    ("log.connection.close", "false"),
];

const PATIENCE: Duration = Duration::from_secs(10);

pub fn consumer(brokers: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (name, value) in SETTINGS {
        config.set(name, value);
    }
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

/// Takes the connection steps that the daemon takes, reads a topic whole, and says when the first
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
