//! One record to a thousand clients, fifty times a second: processor time per delivery, and latency.

use crate::Options;
use crate::audience::{Audience, Receipts};
use crate::bare::{Bare, go};
use crate::bridge::{Launch, PATH};
use crate::harness::broker::Broker;
use crate::measure::{Meter, median, median_ratio, percentile};
use crate::produce::{Flow, Source};
use crate::report::{Table, at_most, figure};
use std::time::Duration;

pub const CLIENTS: usize = 1000;
const PAUSE: Duration = Duration::from_millis(20);
const VALUE: usize = 100;

/// Bytes of a delivery beside its value and its id: field names, line ends, the chunk's frame.
const AROUND: u64 = 19;

/// Most processor time per delivery, and most latency, as multiples of the bare programs'.
const MOST_CPU: f64 = 1.7;
const MOST_LATENCY: f64 = 2.0;

/// The figures of one side, one value per round.
#[derive(Default)]
pub struct Side {
    /// Microseconds of processor per delivery.
    pub cpu: Vec<f64>,
    /// Milliseconds.
    pub p50: Vec<f64>,
    pub p99: Vec<f64>,
    spread: Vec<f64>,
    /// Bytes on the wire per delivery.
    pub bytes: Vec<f64>,
}

impl Side {
    fn take(&mut self, receipts: &Receipts, used: Duration) {
        let deliveries = receipts.latencies.len() as f64;
        self.cpu.push(used.as_nanos() as f64 / 1e3 / deliveries);
        self.p50.push(percentile(&receipts.latencies, 50) / 1e6);
        self.p99.push(percentile(&receipts.latencies, 99) / 1e6);
        self.spread.push(percentile(&receipts.spreads, 50) / 1e6);
        self.bytes.push(receipts.bytes as f64 / deliveries);
    }
}

/// The bytes that every client receives.
pub const FLOW: Flow = Flow {
    length: VALUE,
    pause: PAUSE,
    keys: None,
};

/// A round through Kafka to the clients of the process `pid`. Returns the bytes of a delivery.
pub fn round(source: &mut Source, pid: u32, audience: &mut Audience, count: usize, side: &mut Side) -> u64 {
    let meter = Meter::start(pid);
    let [receipts] = source.round(count, [audience]);
    side.take(&receipts, meter.used());
    receipts.bytes_each()
}

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(250, 100);
    let rounds = options.pick(7, 3);

    // The daemon, first without clients: what reading the topic costs.
    let mut to_bridge = Source::new(broker, "fanout-bridge", FLOW);
    let bridge = Launch::new(&to_bridge.topic, "live").start(broker);
    let alone: Vec<f64> = (0..rounds.min(3))
        .map(|_| {
            let meter = Meter::start(bridge.pid());
            to_bridge.round(count, []);
            meter.used().as_nanos() as f64 / 1e3 / (count * CLIENTS) as f64
        })
        .collect();
    let mut listeners = Audience::connect(bridge.port, PATH, CLIENTS);

    // A round that does not count warms everything up and shows how long the daemon's ids are.
    let mut warm = Side::default();
    let bytes = round(&mut to_bridge, bridge.pid(), &mut listeners, count, &mut warm);
    let id = bytes.saturating_sub(VALUE as u64 + AROUND).to_string();

    let mut bare = Bare::spawn(&["loop", &VALUE.to_string(), &id]);
    let bare_port = bare.port();
    let mut bare_listeners = Audience::connect(bare_port, "/", CLIENTS);
    let mut bare_next = 1;
    let mut bare_round = |side: &mut Side| {
        let meter = Meter::start(bare.pid());
        go(bare_port, bare_next, count, PAUSE);
        let receipts = bare_listeners.receive(bare_next, count);
        side.take(&receipts, meter.used());
        bare_next += count as u64;
    };

    let mut to_consumer = Source::new(broker, "fanout-consumer", FLOW);
    let (brokers, clients) = (broker.bootstrap(), CLIENTS.to_string());
    let mut consumer = Bare::spawn(&["consumer", &brokers, &to_consumer.topic, &clients, &id]);
    let mut consumer_listeners = Audience::connect(consumer.port(), "/", CLIENTS);

    bare_round(&mut warm);
    let consumer_pid = consumer.pid();
    let mut consumer_round = |side: &mut Side| {
        round(
            &mut to_consumer,
            consumer_pid,
            &mut consumer_listeners,
            count,
            side,
        )
    };
    consumer_round(&mut warm);

    let (mut ours, mut theirs, mut kafka) = (Side::default(), Side::default(), Side::default());
    for _ in 0..rounds {
        round(&mut to_bridge, bridge.pid(), &mut listeners, count, &mut ours);
        bare_round(&mut theirs);
        consumer_round(&mut kafka);
    }
    print(count, &alone, [&ours, &theirs, &kafka]);
}

fn print(count: usize, alone: &[f64], sides: [&Side; 3]) {
    let rounds = sides[0].cpu.len();
    let title = format!(
        "fanout: {CLIENTS} clients, {} records/s of {VALUE} bytes, {rounds} rounds of {count} records",
        1000 / PAUSE.as_millis()
    );
    let mut table = Table::new(&["", "bridge", "bare loop", "consumer + loop", "ratio", "target"]);
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>, to: usize, most: Option<f64>| {
        let ratio = median_ratio(of(sides[0]), of(sides[to]));
        let cells = sides.map(|side| figure(median(of(side))));
        let target = most.map_or_else(String::new, |most| at_most(ratio, most));
        table.row(&[vec![name.to_owned()], cells.to_vec(), vec![figure(ratio), target]].concat());
    };
    row(
        "processor per delivery, µs (ratio to loop)",
        |side| &side.cpu,
        1,
        Some(MOST_CPU),
    );
    row("the same (ratio to consumer + loop)", |side| &side.cpu, 2, None);
    row("latency p50, ms (to consumer + loop)", |side| &side.p50, 2, None);
    row(
        "latency p99, ms (to consumer + loop)",
        |side| &side.p99,
        2,
        Some(MOST_LATENCY),
    );
    row(
        "first to last client, ms (to consumer + loop)",
        |side| &side.spread,
        2,
        None,
    );
    row("bytes per delivery", |side| &side.bytes, 1, None);
    table.row(&[
        "of the processor: reading the topic, no clients, µs".to_owned(),
        figure(median(alone)),
    ]);
    table.print(&title);
}
