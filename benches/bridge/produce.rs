//! Records at a steady pace, each stamped with the time at which it was handed to the producer.

use crate::audience::value;
use crate::harness::broker::Broker;
use crate::measure::now;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::thread;
use std::time::{Duration, Instant};

/// A producer that sends every record at once.
pub fn producer(broker: &Broker) -> BaseProducer {
    let mut client = broker.client();
    client.set("linger.ms", "0").set("socket.nagle.disable", "true");
    client.create().expect("a producer")
}

/// Writes `count` records numbered from `first`, one every `pause`.
pub fn paced(producer: &BaseProducer, topic: &str, length: usize, first: u64, count: usize, pause: Duration) {
    let mut due = Instant::now();
    for number in (first..).take(count) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += pause;
        let value = value(number, now(), length);
        let record = BaseRecord::<(), str>::to(topic).payload(&value).partition(0);
        producer
            .send(record)
            .unwrap_or_else(|(error, _)| panic!("{error}"));
        producer.poll(Duration::ZERO);
    }
    producer
        .flush(Duration::from_secs(10))
        .expect("records are acknowledged");
}
