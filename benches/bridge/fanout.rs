//! One record to a thousand clients, fifty times a second: processor time per delivery, and latency.

use crate::Effort;
use crate::audience::{Audience, Receipts};
use crate::bare::{Bare, go};
use crate::bridge::{Bridge, PATH};
use crate::harness::broker::{Broker, topic_name};
use crate::measure::{Meter, median, percentile};
use crate::produce::{paced, producer};
use crate::report::{Table, at_most, figure};

use rdkafka::producer::BaseProducer;
use std::thread;
use std::time::Duration;

const CLIENTS: usize = 1000;
const PAUSE: Duration = Duration::from_millis(20);
const VALUE: usize = 100;

/// Bytes of a delivery beside its value and its id: field names, line ends, the chunk's frame.
const AROUND: u64 = 19;

/// Most processor time per delivery, and most latency, as multiples of the bare programs'.
const MOST_CPU: f64 = 1.7;
const MOST_LATENCY: f64 = 2.0;

/// The figures of one side, one value per round.
#[derive(Default)]
struct Side {
    /// Microseconds of processor per delivery.
    cpu: Vec<f64>,
    /// Milliseconds.
    p50: Vec<f64>,
    p99: Vec<f64>,
    spread: Vec<f64>,
    /// Bytes on the wire per delivery.
    bytes: Vec<f64>,
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

/// Numbers records through all rounds of a topic.
struct Source<'a> {
    producer: &'a BaseProducer,
    topic: String,
    next: u64,
}

impl Source<'_> {
    /// A round through Kafka to the clients of the process `pid`. Returns the bytes of a delivery.
    fn round(&mut self, pid: u32, audience: &mut Audience, count: usize, side: &mut Side) -> u64 {
        let (first, topic, producer) = (self.next, &self.topic, self.producer);
        let meter = Meter::start(pid);
        let receipts = thread::scope(|scope| {
            scope.spawn(|| paced(producer, topic, VALUE, first, count, PAUSE));
            audience.receive(first, count)
        });
        side.take(&receipts, meter.used());
        self.next += count as u64;
        receipts.bytes_each()
    }
}

pub fn run(broker: &Broker, effort: Effort) {
    let count = effort.pick(250, 100);
    let rounds = effort.pick(7, 3);
    let producer = producer(broker);
    let source = |hint| {
        let topic = topic_name(hint);
        broker.create_topic(&topic, 1, &[]);
        Source {
            producer: &producer,
            topic,
            next: 1,
        }
    };

    // The daemon, first without clients: what reading the topic costs.
    let mut to_bridge = source("fanout-bridge");
    let bridge = Bridge::start(broker, &to_bridge.topic, "live");
    let alone: Vec<f64> = (0..rounds.min(3))
        .map(|_| {
            let meter = Meter::start(bridge.pid());
            paced(&producer, &to_bridge.topic, VALUE, to_bridge.next, count, PAUSE);
            to_bridge.next += count as u64;
            meter.used().as_nanos() as f64 / 1e3 / (count * CLIENTS) as f64
        })
        .collect();
    let mut listeners = Audience::connect(bridge.port, PATH, CLIENTS);

    // A round that does not count warms everything up and shows how long the daemon's ids are.
    let mut warm = Side::default();
    let bytes = to_bridge.round(bridge.pid(), &mut listeners, count, &mut warm);
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

    let mut to_consumer = source("fanout-consumer");
    let (brokers, clients) = (broker.bootstrap(), CLIENTS.to_string());
    let mut consumer = Bare::spawn(&["consumer", &brokers, &to_consumer.topic, &clients, &id]);
    let mut consumer_listeners = Audience::connect(consumer.port(), "/", CLIENTS);

    bare_round(&mut warm);
    to_consumer.round(consumer.pid(), &mut consumer_listeners, count, &mut warm);

    let (mut ours, mut theirs, mut kafka) = (Side::default(), Side::default(), Side::default());
    for _ in 0..rounds {
        to_bridge.round(bridge.pid(), &mut listeners, count, &mut ours);
        bare_round(&mut theirs);
        to_consumer.round(consumer.pid(), &mut consumer_listeners, count, &mut kafka);
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
    // Rounds next to each other in time are compared, and the middle ratio counts.
    let ratio = |of: fn(&Side) -> &Vec<f64>, to: usize| {
        let pairs = of(sides[0]).iter().zip(of(sides[to]));
        median(&pairs.map(|(ours, theirs)| ours / theirs).collect::<Vec<f64>>())
    };
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>, to: usize, most: Option<f64>| {
        let ratio = ratio(of, to);
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
