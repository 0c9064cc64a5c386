//! One record to a thousand clients, fifty times a second; to ten thousand, four times a second; and to as many as the
//! descriptors of a process allow: processor time per delivery, and latency.

use crate::audience::{Audience, Receipts, Receive, spread};
use crate::bare::Bare;
use crate::bare_loop::BareLoop;
use crate::bridge::{Launch, PATH};
use crate::harness::broker::Broker;
use crate::measure::{Meter, median, median_ratio};
use crate::produce::{Flow, Source};
use crate::receivers::Receivers;
use crate::report::{Table, at_most, figure};
use crate::{Options, Target, descriptors};
use std::time::Duration;

pub const CLIENTS: usize = 1000;
const VALUE: usize = 100;

/// Bytes of a delivery beside its value and its id: field names, line ends, the chunk's frame.
const AROUND: u64 = 19;

/// Bytes of the daemon's ids, of deliveries with so many bytes.
pub fn id_length(bytes: u64) -> u64 {
    bytes.saturating_sub(VALUE as u64 + AROUND)
}

/// Clients, and records.
struct Shape {
    name: &'static str,
    clients: usize,
    flow: Flow,
    /// Records of a round, and rounds.
    count: usize,
    rounds: usize,
    /// Whether it is compared with a loop that writes by io_uring, too.
    with_ring: bool,
    /// Most processor time per delivery, as a multiple of the bare loop's, and of consumer + loop's.
    most_cpu: Option<f64>,
    most_with_kafka: Option<f64>,
    /// Most latency, as multiples of consumer + loop's.
    most_p50: Option<f64>,
    most_p99: Option<f64>,
}

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
        let deliveries = receipts.deliveries as f64;
        self.cpu.push(used.as_nanos() as f64 / 1e3 / deliveries);
        self.p50.push(receipts.p50 as f64 / 1e6);
        self.p99.push(receipts.p99 as f64 / 1e6);
        self.spread.push(spread(&receipts.spans) as f64 / 1e6);
        self.bytes.push(receipts.bytes as f64 / deliveries);
    }
}

/// The bytes that every client receives.
pub const FLOW: Flow = every(Duration::from_millis(20));

pub const fn every(pause: Duration) -> Flow {
    Flow {
        length: VALUE,
        pause,
        keys: None,
    }
}

/// A round through Kafka to the clients of the process `pid`. Returns the bytes of a delivery.
pub fn round(
    source: &mut Source,
    pid: u32,
    audience: &mut dyn Receive,
    count: usize,
    side: &mut Side,
) -> u64 {
    let meter = Meter::start(pid);
    let [receipts] = source.round(count, [audience]);
    side.take(&receipts, meter.used());
    receipts.bytes_each()
}

pub fn run(broker: &Broker, options: &Options) {
    let shape = Shape {
        name: "fanout",
        clients: CLIENTS,
        flow: FLOW,
        count: options.pick(250, 100),
        rounds: options.pick(7, 3),
        with_ring: true,
        most_cpu: options.target(&Target::by_driver(1.7, 1.05, 0.80)),
        most_with_kafka: options.target(&Target::of_engine(1.10, 1.10)),
        most_p50: options.target(&Target::of_engine(1.05, 1.0)),
        most_p99: options.target(&Target::by_driver(2.0, 1.05, 1.0)),
    };
    measure(broker, &shape);
}

pub fn run_large(broker: &Broker, options: &Options) {
    let shape = Shape {
        name: "fanout-10000",
        clients: 10_000,
        flow: every(Duration::from_millis(250)),
        count: options.pick(20, 8),
        rounds: options.pick(7, 2),
        with_ring: true,
        most_cpu: options.target(&Target::of_engine(1.15, 1.0)),
        most_with_kafka: None,
        most_p50: None,
        most_p99: None,
    };
    measure(broker, &shape);
}

pub fn run_largest(broker: &Broker, options: &Options) {
    // The daemon reserves some descriptors, and the others need a few.
    let clients = descriptors().saturating_sub(1000).min(19_000);
    let shape = Shape {
        name: "fanout-19000",
        clients: options.pick(clients, clients.min(4000)),
        flow: every(Duration::from_secs(1)),
        count: options.pick(6, 3),
        rounds: options.pick(5, 2),
        with_ring: false,
        most_cpu: None,
        most_with_kafka: None,
        most_p50: None,
        most_p99: None,
    };
    measure(broker, &shape);
}

/// Clients in this process where it has descriptors enough for three audiences, and otherwise in one of their own.
fn connect(port: u16, path: &str, clients: usize) -> Box<dyn Receive> {
    if clients <= CLIENTS {
        Box::new(Audience::connect(port, path, clients))
    } else {
        Box::new(Receivers::connect(port, path, clients))
    }
}

fn measure(broker: &Broker, shape: &Shape) {
    let (clients, count, rounds) = (shape.clients, shape.count, shape.rounds);

    // The daemon, first without clients: what reading the topic costs.
    let mut to_bridge = Source::new(broker, "fanout-bridge", shape.flow);
    let bridge = Launch::new(to_bridge.topic(), "live").start(broker);
    let alone: Vec<f64> = (0..rounds.min(3))
        .map(|_| {
            let meter = Meter::start(bridge.pid());
            to_bridge.round(count, []);
            meter.used().as_nanos() as f64 / 1e3 / (count * clients) as f64
        })
        .collect();
    let mut listeners = connect(bridge.port, PATH, clients);

    // A round that does not count warms everything up and shows how long the daemon's ids are.
    let mut warm = Side::default();
    let bytes = round(&mut to_bridge, bridge.pid(), &mut *listeners, count, &mut warm);
    let id = id_length(bytes).to_string();

    let bare_loop = |role: &str| {
        let mut bare = BareLoop::new(role, &id, &shape.flow, count, |port| connect(port, "/", clients));
        // Does not count.
        bare.round();
        bare
    };
    let mut bare = bare_loop("loop");
    let mut ring = shape.with_ring.then(|| bare_loop("ring"));

    let mut to_consumer = Source::new(broker, "fanout-consumer", shape.flow);
    let (brokers, all) = (broker.bootstrap(), clients.to_string());
    let mut consumer = Bare::spawn(&["consumer", &brokers, to_consumer.topic(), &all, &id]);
    let mut consumer_listeners = connect(consumer.port(), "/", clients);

    let consumer_pid = consumer.pid();
    let mut consumer_round = |side: &mut Side| {
        round(
            &mut to_consumer,
            consumer_pid,
            &mut *consumer_listeners,
            count,
            side,
        )
    };
    consumer_round(&mut warm);

    let (mut ours, mut theirs, mut kafka) = (Side::default(), Side::default(), Side::default());
    let mut by_ring = Side::default();
    for _ in 0..rounds {
        round(&mut to_bridge, bridge.pid(), &mut *listeners, count, &mut ours);
        let (receipts, used) = bare.round();
        theirs.take(&receipts, used);
        if let Some(ring) = &mut ring {
            let (receipts, used) = ring.round();
            by_ring.take(&receipts, used);
        }
        consumer_round(&mut kafka);
    }
    let by_ring = shape.with_ring.then_some(&by_ring);
    print(shape, &alone, [&ours, &theirs, &kafka], by_ring);
}

fn print(shape: &Shape, alone: &[f64], sides: [&Side; 3], by_ring: Option<&Side>) {
    let title = format!(
        "{}: {} clients, {} records/s of {VALUE} bytes, {} rounds of {} records",
        shape.name,
        shape.clients,
        1000 / shape.flow.pause.as_millis(),
        shape.rounds,
        shape.count
    );
    let mut table = Table::new(&["", "bridge", "bare loop", "consumer + loop", "ratio", "target"]);
    let row = |table: &mut Table, name: &str, of: fn(&Side) -> &Vec<f64>, to: usize, most: Option<f64>| {
        let ratio = median_ratio(of(sides[0]), of(sides[to]));
        let cells = sides.map(|side| figure(median(of(side))));
        let target = most.map_or_else(String::new, |most| at_most(ratio, most));
        table.row(&[vec![name.to_owned()], cells.to_vec(), vec![figure(ratio), target]].concat());
    };
    row(
        &mut table,
        "processor per delivery, µs (ratio to loop)",
        |side| &side.cpu,
        1,
        shape.most_cpu,
    );
    row(
        &mut table,
        "the same (ratio to consumer + loop)",
        |side| &side.cpu,
        2,
        shape.most_with_kafka,
    );
    if let Some(by_ring) = by_ring {
        let of_bare = |sides: [&Side; 2]| figure(median_ratio(&sides[0].cpu, &sides[1].cpu));
        table.row(&[
            "the same (ratio to the loop by io_uring)".to_owned(),
            figure(median(&sides[0].cpu)),
            figure(median(&by_ring.cpu)),
            String::new(),
            of_bare([sides[0], by_ring]),
        ]);
        table.row(&[
            "the loop by io_uring (ratio to loop)".to_owned(),
            figure(median(&by_ring.cpu)),
            figure(median(&sides[1].cpu)),
            String::new(),
            of_bare([by_ring, sides[1]]),
        ]);
    }
    row(
        &mut table,
        "latency p50, ms (to consumer + loop)",
        |side| &side.p50,
        2,
        shape.most_p50,
    );
    row(
        &mut table,
        "latency p99, ms (to consumer + loop)",
        |side| &side.p99,
        2,
        shape.most_p99,
    );
    row(
        &mut table,
        "first to last client, ms (to loop)",
        |side| &side.spread,
        1,
        None,
    );
    row(
        &mut table,
        "the same (to consumer + loop)",
        |side| &side.spread,
        2,
        None,
    );
    row(&mut table, "bytes per delivery", |side| &side.bytes, 1, None);
    table.row(&[
        "of the processor: reading the topic, no clients, µs".to_owned(),
        figure(median(alone)),
    ]);
    table.print(&title);
}
