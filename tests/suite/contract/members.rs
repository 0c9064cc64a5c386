//! A cluster that names no broker for a while, as one that counts itself out after a frost.

use super::reader::{Bench, PATIENCE, Plan, Reader};
use crate::common::numbered;
use crate::harness::between::Between;
use crate::harness::broker::{Version, topic_name};
use crate::harness::wait::{ensure, secs};
use kafka_sse_bridge::config::Client;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many, that a client is still busy with the answer while the brokers that it drops for it go.
const PARTITIONS: i32 = 200;

const ROUNDS: usize = 2;

/// How long librdkafka may win the race; it is no promise of ours that it loses.
const PROVOCATION: Duration = secs(300);

/// How often connections are closed, so that it asks again: every response is another chance for the race.
const AGAIN: Duration = secs(2);

/// Metadata responses name no broker, until librdkafka has none left and would never find one again. That is a race
/// between its threads, which it loses once in a few responses. A release without the race needs neither this test nor
/// the workaround.
pub fn reading_continues_after_metadata_without_brokers(version: Version) {
    let between = Between::start(version);
    let mut bench = Bench::on(Arc::clone(&between.broker));
    let topic = topic_name("unnamed");
    bench.broker.create_topic(&topic, PARTITIONS, &[]);
    let write = |bench: &mut Bench, round: usize| {
        for partition in [0, 1, PARTITIONS - 1] {
            bench.write(&topic, &numbered(partition, round, 1), &[]);
        }
    };
    write(&mut bench, 0);
    for plan in Plan::all(version) {
        let brokers = vec![between.bootstrap()];
        bench.readers.push(Reader::start(brokers, &[&topic], plan));
    }
    bench.whole(&[&topic]);
    for round in 1..=ROUNDS {
        between.name_nobody();
        // The crate continues with the brokers that it knew.
        let librdkafka = |reader: &&mut Reader| reader.client == Client::Librdkafka;
        let provoked = Cell::new(Instant::now());
        for reader in bench.readers.iter_mut().filter(librdkafka) {
            reader.until(PROVOCATION, "it is left without a broker", |reader| {
                if provoked.get().elapsed() > AGAIN {
                    provoked.set(Instant::now());
                    between.name_nobody();
                }
                ensure(reader.troubles().contains("has forgotten all"), "not yet")
            });
        }
        between.name_all();
        write(&mut bench, round);
        bench.whole(&[&topic]);
    }
    for reader in &mut bench.readers {
        reader.until(PATIENCE, "nothing is wrong any more", |reader| {
            ensure(reader.troubles().is_empty(), "problems remain")
        });
    }
}
