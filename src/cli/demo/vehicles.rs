//! Produces the vehicles of a simulated fleet, one record for each change, at a steady rate.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::warn;
use rdkafka::producer::Producer;

use super::broker::{Broker, VEHICLES};
use super::countries::{delete, send};
use super::fleet::Fleet;

/// The fleet of every demo.
const SEED: u64 = 15;

/// How long the thread rests at most, so that the end of the demo is not waited for.
const REST: Duration = Duration::from_millis(100);

/// Records that are sent without a rest while the thread makes up for time that it has lost.
const BURST: u32 = 1000;

/// Starts the thread that shows all vehicles at once, and then `rate` of them per second until `stop` is set.
pub(super) fn produce(
    broker: &Broker,
    count: usize,
    rate: f64,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, Box<dyn Error>> {
    let producer = broker.producer()?;
    let pause = Duration::try_from_secs_f64(1.0 / rate)?;
    let work = move || {
        let mut fleet = Fleet::new(count, SEED);
        let (begun, count) = (Instant::now(), fleet.len());
        let mut shown_at = vec![begun; count];
        let mut is_away = vec![false; count];
        let mut show = |index: usize, now: Instant| {
            let (Some(before), Some(was_away)) = (shown_at.get_mut(index), is_away.get_mut(index)) else {
                return;
            };
            let passed = now.duration_since(std::mem::replace(before, now));
            match fleet.step(index, passed.as_secs_f64()) {
                Some((name, Some(report))) => {
                    *was_away = false;
                    send(&producer, VEHICLES, name, &report);
                }
                // Once: it stays away for a while.
                Some((name, None)) if !std::mem::replace(was_away, true) => {
                    delete(&producer, VEHICLES, name);
                }
                _ => {}
            }
        };
        for index in 0..count {
            show(index, begun);
        }
        let mut due = begun + pause;
        let mut vehicles = (0..count).cycle();
        while !stop.load(Ordering::Relaxed) {
            producer.poll(Duration::ZERO);
            let now = Instant::now();
            if due > now {
                std::thread::sleep(REST.min(due - now));
                continue;
            }
            if let Some(index) = vehicles.next() {
                show(index, now);
            }
            due += pause;
            // The machine may have slept: what was missed is not made up for.
            if now.duration_since(due) > pause * BURST {
                due = now;
            }
        }
        if let Err(error) = producer.flush(Duration::from_secs(1)) {
            warn!("demo: {error}");
        }
    };
    Ok(std::thread::Builder::new()
        .name("demo-vehicles".to_owned())
        .spawn(work)?)
}
