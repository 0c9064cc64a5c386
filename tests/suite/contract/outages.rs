//! A broker that freezes, dies, and is not there yet, in a row: one broker per version serves all three.

use super::reader::{Bench, PATIENCE, Plan, stamped};
use crate::common::numbered;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::produce::{Message, Outcome};
use crate::harness::wait::ensure;
use kafka_sse_bridge::config::Client;
use std::sync::Arc;
use std::thread;

/// Librdkafka gives up a connection in two seconds instead of ten: the same, sooner.
const IMPATIENT: &[(&str, &str)] = &[("socket.timeout.ms", "2000")];

const PARTITIONS: i32 = 2;

pub fn in_a_row(version: Version) {
    let mut bench = Bench::on(Arc::new(Broker::start(version)));
    let topic = topic_name("outages");
    bench.broker.create_topic(&topic, PARTITIONS, &[]);
    write(&mut bench, &topic, 0);
    let read = |bench: &mut Bench| {
        for plan in Plan::all(version) {
            let properties = IMPATIENT;
            bench.read_with(&[&topic], Plan { properties, ..plan });
        }
    };
    read(&mut bench);
    bench.whole(&[&topic]);

    // Frozen until librdkafka has noticed. The crate waits for up to two minutes and goes on.
    bench.broker.freeze();
    let messages: Vec<Message> = (0..PARTITIONS)
        .flat_map(|partition| numbered(partition, 50, 50))
        .map(stamped)
        .collect();
    let writing = {
        let (broker, topic, messages) = (Arc::clone(&bench.broker), topic.clone(), messages.clone());
        thread::spawn(move || broker.produce_with(&topic, &messages, &[("enable.idempotence", "true")]))
    };
    in_trouble(&mut bench, |client| client == Client::Librdkafka);
    bench.broker.thaw();
    let written = writing.join().expect("the records are written");
    bench.note(&topic, &messages, &written, Outcome::Commit);
    bench.whole(&[&topic]);

    // Killed, which all notice; and not there yet, for those who begin meanwhile.
    write(&mut bench, &topic, 100);
    bench.broker.kill9();
    in_trouble(&mut bench, |_| true);
    read(&mut bench);
    in_trouble(&mut bench, |_| true);
    bench.broker.restart();
    write(&mut bench, &topic, 150);
    bench.whole(&[&topic]);
    for reader in &mut bench.readers {
        reader.until(PATIENCE, "nothing is wrong any more", |reader| {
            ensure(reader.troubles().is_empty(), "still in trouble")
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

fn in_trouble(bench: &mut Bench, whose: impl Fn(Client) -> bool) {
    let address = bench.broker.bootstrap();
    for reader in bench.readers.iter_mut().filter(|reader| whose(reader.client)) {
        reader.until(PATIENCE, "it names the broker that does not answer", |reader| {
            let troubles = reader.troubles();
            ensure(
                troubles.contains(&address) && !troubles.contains("has answered yet"),
                troubles,
            )
        });
    }
}
