//! A bare `BaseConsumer` with the daemon's settings: what librdkafka alone does on this machine.

use crate::measure::{cpu, now};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::time::Duration;

/// As in src/kafka/librdkafka.rs.
const SETTINGS: [(&str, &str); 15] = [
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
