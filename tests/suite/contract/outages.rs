//! A broker that freezes, dies, and is not there yet, in a row: one broker per version serves all three.

use super::reader::{Bench, PATIENCE, stamped};
use crate::common::numbered;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::produce::{Message, Outcome};
use crate::harness::wait::{ensure, secs};
use kafka_sse_bridge::config::Client;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 2;

/// Longer than librdkafka waits for an answer.
const FROST: Duration = secs(30);

/// The crate waits for up to two minutes.
const PATIENCE_OF_THE_CRATE: Duration = secs(180);

pub fn a_freezing_failing_or_late_broker_neither_loses_nor_repeats_records(version: Version) {
    let mut bench = Bench::on(Arc::new(Broker::start(version)));
    let topic = topic_name("outages");
    bench.broker.create_topic(&topic, PARTITIONS, &[]);
    write(&mut bench, &topic, 0);
    bench.read(&[&topic]);
    bench.whole(&[&topic]);

    // Frozen until all readers have noticed, and longer than librdkafka waits for a response.
    bench.broker.freeze();
    let frozen = Instant::now();
    in_trouble(&mut bench, PATIENCE, |client| client == Client::Librdkafka);
    in_trouble(&mut bench, PATIENCE_OF_THE_CRATE, |_| true);
    thread::sleep(FROST.saturating_sub(frozen.elapsed()));
    // Records written meanwhile are available as soon as it thaws.
    let messages: Vec<Message> = (0..PARTITIONS)
        .flat_map(|partition| numbered(partition, 50, 50))
        .map(stamped)
        .collect();
    let writing = {
        let (broker, topic, messages) = (Arc::clone(&bench.broker), topic.clone(), messages.clone());
        thread::spawn(move || broker.produce_with(&topic, &messages, &[("enable.idempotence", "true")]))
    };
    bench.broker.thaw();
    let written = writing.join().expect("the records are written");
    bench.note(&topic, &messages, &written, Outcome::Commit);
    bench.whole(&[&topic]);

    // Killed, which all readers notice; new readers find no broker yet.
    write(&mut bench, &topic, 100);
    bench.broker.kill9();
    in_trouble(&mut bench, PATIENCE, |_| true);
    bench.read(&[&topic]);
    in_trouble(&mut bench, PATIENCE, |_| true);
    bench.broker.restart();
    write(&mut bench, &topic, 150);
    bench.whole(&[&topic]);
    for reader in &mut bench.readers {
        reader.until(PATIENCE, "nothing is wrong any more", |reader| {
            ensure(reader.troubles().is_empty(), "problems remain")
        });
    }
    write(&mut bench, &topic, 200);
    bench.whole(&[&topic]);
}

fn write(bench: &mut Bench, topic: &str, first: usize) {
    for partition in 0..PARTITIONS {
        bench.write(topic, &numbered(partition, first, 50), &[]);
    }
}

fn in_trouble(bench: &mut Bench, within: Duration, whose: impl Fn(Client) -> bool) {
    let address = bench.broker.bootstrap();
    for reader in bench.readers.iter_mut().filter(|reader| whose(reader.client)) {
        reader.until(within, "it names the broker that does not answer", |reader| {
            let troubles = reader.troubles();
            ensure(
                troubles.contains(&address) && !troubles.contains("has answered yet"),
                troubles,
            )
        });
    }
}
