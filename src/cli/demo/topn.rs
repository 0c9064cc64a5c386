//! Computes the running top three by size of every continent, as a stream processor would: consumes
//! one topic, keeps state, produces to another.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use log::{debug, warn};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use super::broker::{Broker, COUNTRIES, TOP3};
use super::countries::{Country, send};

const TOP: usize = 3;

/// Longest wait for a record, and so the longest before the end of the demo is seen.
const POLL: Duration = Duration::from_millis(100);

/// The record of a continent: its best countries by size, the rest null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Table {
    nrs: [Option<Country>; TOP + 1],
}

/// The countries of one continent that this round has brought so far.
#[derive(Debug, Default)]
struct Continent {
    seen: BTreeSet<String>,
    best: Vec<Country>,
}

impl Continent {
    fn add(&mut self, country: Country) -> Table {
        // Every round brings each country once: one that comes again begins the next round.
        if !self.seen.insert(country.code.clone()) {
            self.seen = BTreeSet::from([country.code.clone()]);
            self.best.clear();
        }
        self.best.push(country);
        self.best
            .sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.code.cmp(&b.code)));
        self.best.truncate(TOP);
        let mut nrs = [const { None }; TOP + 1];
        for (place, country) in nrs.iter_mut().zip(&self.best) {
            *place = Some(country.clone());
        }
        Table { nrs }
    }
}

/// Starts the thread that computes until `stop` is set.
pub(super) fn compute(broker: &Broker, stop: Arc<AtomicBool>) -> Result<JoinHandle<()>, Box<dyn Error>> {
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "demo-topn")
        .set("enable.auto.commit", "false")
        // The mock cluster wakes no waiting fetch when data comes.
        .set("fetch.wait.max.ms", "10")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(COUNTRIES, 0, Offset::Beginning)?;
    consumer.assign(&partitions)?;
    let producer = broker.producer()?;
    let work = move || {
        let mut continents: BTreeMap<String, Continent> = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            let message = match consumer.poll(POLL) {
                None => continue,
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    debug!("demo: {error}");
                    continue;
                }
            };
            match serde_json::from_slice::<Country>(message.payload().unwrap_or_default()) {
                Ok(country) => {
                    let continent = country.continent.clone();
                    let table = continents.entry(continent.clone()).or_default().add(country);
                    send(&producer, TOP3, &continent, &table);
                    producer.poll(Duration::ZERO);
                }
                Err(error) => warn!("demo: malformed country record: {error}"),
            }
        }
        if let Err(error) = producer.flush(Duration::from_secs(1)) {
            warn!("demo: {error}");
        }
    };
    Ok(std::thread::Builder::new()
        .name("demo-topn".to_owned())
        .spawn(work)?)
}
