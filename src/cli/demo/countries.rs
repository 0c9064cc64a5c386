//! Produces the countries at a steady pace, round after round, each round in another order.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use log::warn;
use rand::seq::SliceRandom;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::{Deserialize, Serialize};

use super::broker::{Broker, COUNTRIES};

/// Code, name, continent, population and size (km²), with a header line.
const CSV: &str = include_str!("countries.csv");

/// How long records may take to leave when the demo ends.
const FLUSH: Duration = Duration::from_secs(1);

/// A country, as written to both topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Country {
    /// ISO 3166-1 alpha-2.
    pub code: String,
    /// In English.
    pub name: String,
    /// Inhabitants.
    pub population: u64,
    /// Square kilometres.
    pub size: u64,
    /// The continent's name, which keys the tables.
    pub continent: String,
}

fn countries() -> Result<Vec<Country>, csv::Error> {
    csv::Reader::from_reader(CSV.as_bytes())
        .into_deserialize()
        .collect()
}

/// Starts the thread that produces `rate` countries per second until `stop` is set.
pub(super) fn produce(
    broker: &Broker,
    rate: f64,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, Box<dyn Error>> {
    let mut countries = countries()?;
    let producer = broker.producer()?;
    let pause = Duration::try_from_secs_f64(1.0 / rate)?;
    let work = move || {
        while !stop.load(Ordering::Relaxed) {
            countries.shuffle(&mut rand::rng());
            for country in &countries {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                send(&producer, COUNTRIES, &country.code, country);
                producer.poll(Duration::ZERO);
                pause_unless(&stop, pause);
            }
        }
        if let Err(error) = producer.flush(FLUSH) {
            warn!("demo: {error}");
        }
    };
    Ok(std::thread::Builder::new()
        .name("demo-countries".to_owned())
        .spawn(work)?)
}

/// Sends one JSON record; what cannot be sent is logged and left out.
pub(super) fn send(producer: &BaseProducer, topic: &str, key: &str, value: &impl Serialize) {
    let outcome = serde_json::to_string(value)
        .map_err(|error| error.to_string())
        .and_then(|json| {
            let record = BaseRecord::to(topic).partition(0).key(key).payload(&json);
            producer.send(record).map_err(|(error, _)| error.to_string())
        });
    if let Err(error) = outcome {
        warn!("demo: a record of {topic} was not sent: {error}");
    }
}

/// Sends a tombstone.
pub(super) fn delete(producer: &BaseProducer, topic: &str, key: &str) {
    let record: BaseRecord<'_, str, ()> = BaseRecord::to(topic).partition(0).key(key);
    if let Err((error, _)) = producer.send(record) {
        warn!("demo: a tombstone of {topic} was not sent: {error}");
    }
}

/// Waits, in pieces short enough that the end of the demo is not waited for.
fn pause_unless(stop: &AtomicBool, pause: Duration) {
    const PIECE: Duration = Duration::from_millis(100);
    let mut left = pause;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        let piece = left.min(PIECE);
        std::thread::sleep(piece);
        left -= piece;
    }
}
