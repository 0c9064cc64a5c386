//! An audience connects all at once and takes the snapshot of a large table that still changes. Every table must be
//! right, and the daemon's memory must not grow with the audience's snapshots.

use super::readers::{Promise, Readers};
use super::writer::{Shape, Writer};
use super::{Report, launch};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::memory::{mebibytes, peak, reset_peak, resident};
use crate::harness::wait::{block_on, secs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

const PATH: &str = "/table";

/// The most by which the daemon's memory may grow while they take their snapshots.
const MOST_GROWTH: u64 = 32 << 20;

/// How much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// The daemon's `http.delivery`.
    pub delivery: &'static str,
    pub clients: usize,
    pub partitions: u32,
    pub keys: u32,
    /// Bytes of a value.
    pub bytes: usize,
    /// Records a second while they come.
    pub rate: u32,
}

/// Runs it.
pub fn run(broker: &Broker, plan: &Plan) -> Report {
    let mut report = Report::default();
    report.figure("seed", plan.seed);
    report.figure("http.delivery", plan.delivery);
    let topic = topic_name("joining");
    let partitions = plan.partitions.try_into().expect("few partitions");
    broker.create_topic(&topic, partitions, &[("cleanup.policy", "compact")]);
    let began = Instant::now();
    let shape = Shape {
        partitions: plan.partitions,
        bytes: plan.bytes,
        keys: plan.keys,
        tombstones: 20,
    };
    let mut writer = Writer::new(broker, &topic, shape, plan.seed, began);
    for key in 0..plan.keys {
        writer.update(key);
    }
    for _ in 0..plan.keys / 4 {
        writer.write_any();
    }
    writer.flush();
    let config = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n[[stream]]\npath = \"{PATH}\"\n\
         topics = [\"{topic}\"]\nstart = \"snapshot\"\nlog_bytes = \"8MiB\"\n",
        broker.bootstrap()
    );
    let daemon = launch(&config, plan.delivery).start();
    block_on(daemon.wait_ready(secs(60)));
    let mut readers = Readers::new(
        &vec![Promise::TABLE; plan.clients],
        plan.partitions,
        plan.keys,
        began,
    );
    let before = resident(daemon.pid());
    reset_peak(daemon.pid());
    let came = Instant::now();
    let connected = readers.connect(daemon.port(), |_| PATH, None);
    connected.expect("the daemon accepts them all");
    let have_all = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| writer.pace(plan.rate, |_| !have_all.load(Ordering::Relaxed)));
        let outcome = readers.catch_up();
        have_all.store(true, Ordering::Relaxed);
        outcome
    });
    let took = came.elapsed();
    let rows = readers.tally.deliveries;
    let outcome = outcome.and_then(|()| readers.finish(&writer.finish()));
    if let Err(why) = outcome {
        report.wrong.push(why);
        report.wrong.extend(readers.tally.problems);
        report.wrong.push(format!("the daemon's log:\n{}", daemon.log()));
        return report;
    }
    let growth = peak(daemon.pid()).saturating_sub(before);
    let streams = block_on(daemon.get("/streams")).json();
    let table = &streams["streams"][0]["table"];
    report.figure("clients", plan.clients);
    report.figure("keys in the table", &table["keys"]);
    report.figure("bytes of the table", &table["bytes"]);
    report.figure("seconds until all had it", format!("{:.1}", took.as_secs_f64()));
    report.figure(
        "rows a second",
        format!("{:.0}", rows as f64 / took.as_secs_f64()),
    );
    report.figure("memory before, MiB", format!("{:.1}", mebibytes(before)));
    report.figure("growth at most, MiB", format!("{:.1}", mebibytes(growth)));
    report.demand(
        growth < MOST_GROWTH,
        format!("memory grew by {:.1} MiB, not below 32", mebibytes(growth)),
    );
    readers.tally.report(&mut report);
    report
}
