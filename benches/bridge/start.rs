//! From exec to ready, with a broker that is up and a small topic; also of another build of the daemon (`--against`), beside
//! the size of both.

use crate::Options;
use crate::bare::Bare;
use crate::bridge::Launch;
use crate::harness::broker::{Broker, topic_name};
use crate::harness::daemon::BINARY;
use crate::ingest::fill;
use crate::measure::{cpu, median, now};
use crate::report::{Table, at_most, figure};
use std::path::Path;
use std::time::Duration;

const RECORDS: u64 = 1000;
const LOOK: Duration = Duration::from_micros(500);

/// Most time to be ready, and most bytes of the program, as multiples of another build's.
const MOST: f64 = 1.05;

/// The figures of a build, one value per round.
#[derive(Default)]
struct Side {
    /// Milliseconds from exec.
    listening: Vec<f64>,
    ready: Vec<f64>,
    /// Milliseconds of processor until then.
    used: Vec<f64>,
}

impl Side {
    fn start(&mut self, broker: &Broker, topic: &str, binary: &Path) {
        let began = now();
        let since = |time: u64| (time - began) as f64 / 1e6;
        let launch = Launch {
            binary,
            ..Launch::new(topic, "earliest")
        };
        let bridge = launch.spawn(broker);
        bridge.wait_for("/health/live", LOOK);
        self.listening.push(since(now()));
        bridge.wait_for("/health/ready", LOOK);
        self.ready.push(since(now()));
        self.used.push(cpu(bridge.pid()).as_secs_f64() * 1e3);
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let rounds = options.pick(15, 3);
    let topic = topic_name("start");
    broker.create_topic(&topic, 1, &[]);
    fill(broker, &topic, 1, RECORDS);
    let (mut ours, mut other) = (Side::default(), Side::default());
    let (mut bare_ready, mut bare_used) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.start(broker, &topic, Path::new(BINARY));
        if let Some(binary) = &options.against {
            other.start(broker, &topic, binary);
        }

        let began = now();
        let mut bare = Bare::spawn(&["count", &broker.bootstrap(), &topic, "1", &RECORDS.to_string()]);
        let [_, last, _, _, nanoseconds] = bare.numbers()[..] else {
            panic!("the bare consumer says how it went")
        };
        bare_ready.push((last - began) as f64 / 1e6);
        bare_used.push(nanoseconds as f64 / 1e6);
    }
    let mut table = Table::new(&["", "bridge", "bare consumer"]);
    let row = |name: &str, ours: &[f64], theirs: &[f64]| {
        [name.to_owned(), figure(median(ours)), figure(median(theirs))]
    };
    table.row(&row("exec to /health/live 200, ms", &ours.listening, &[]));
    table.row(&row(
        "exec to /health/ready 200, or the last record read, ms",
        &ours.ready,
        &bare_ready,
    ));
    table.row(&row("processor until then, ms", &ours.used, &bare_used));
    table.print(&format!("start: a topic of {RECORDS} records, {rounds} rounds"));
    if let Some(binary) = &options.against {
        compare([&ours, &other], binary);
    }
}

fn compare([ours, other]: [&Side; 2], binary: &Path) {
    let size = |binary: &Path| {
        let file = std::fs::metadata(binary).unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        vec![file.len() as f64 / f64::from(1 << 20)]
    };
    let mut table = Table::new(&["", "this build", "the other", "ratio", "target"]);
    let mut row = |name: &str, ours: &[f64], theirs: &[f64], most: Option<f64>| {
        table.compare(name, ours, theirs, |ratio| Some(at_most(ratio, most?)));
    };
    row(
        "exec to /health/live 200, ms",
        &ours.listening,
        &other.listening,
        None,
    );
    row(
        "exec to /health/ready 200, ms",
        &ours.ready,
        &other.ready,
        Some(MOST),
    );
    row("processor until then, ms", &ours.used, &other.used, None);
    row(
        "the program, MiB",
        &size(Path::new(BINARY)),
        &size(binary),
        Some(MOST),
    );
    table.print(&format!("start: this build and {}", binary.display()));
}
