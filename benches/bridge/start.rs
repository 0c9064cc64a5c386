//! From exec to ready, with a broker that is up and a small topic.

use crate::Options;
use crate::bare::Bare;
use crate::bridge::Launch;
use crate::harness::broker::{Broker, topic_name};
use crate::ingest::fill;
use crate::measure::{cpu, median, now};
use crate::report::{Table, figure};
use std::time::Duration;

const RECORDS: u64 = 1000;
const LOOK: Duration = Duration::from_micros(500);

pub fn run(broker: &Broker, options: &Options) {
    let rounds = options.pick(15, 3);
    let topic = topic_name("start");
    broker.create_topic(&topic, 1, &[]);
    fill(broker, &topic, 1, RECORDS);
    let (mut listening, mut ready, mut used) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare_ready, mut bare_used) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let began = now();
        let since = |time: u64| (time - began) as f64 / 1e6;
        let bridge = Launch::new(&topic, "earliest").spawn(broker);
        bridge.wait_for("/health/live", LOOK);
        listening.push(since(now()));
        bridge.wait_for("/health/ready", LOOK);
        ready.push(since(now()));
        used.push(cpu(bridge.pid()).as_secs_f64() * 1e3);
        drop(bridge);

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
    table.row(&row("exec to /health/live 200, ms", &listening, &[]));
    table.row(&row(
        "exec to /health/ready 200, or the last record read, ms",
        &ready,
        &bare_ready,
    ));
    table.row(&row("processor until then, ms", &used, &bare_used));
    table.print(&format!("start: a topic of {RECORDS} records, {rounds} rounds"));
}
