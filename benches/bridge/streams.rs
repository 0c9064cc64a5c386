//! Five hundred streams with twenty clients each, beside one stream with ten thousand: processor time for as many
//! deliveries in a second.

use crate::Options;
use crate::bridge::{Bridge, Launch, PATH};
use crate::harness::broker::Broker;
use crate::measure::{Meter, median, median_ratio};
use crate::produce::{Flow, Source};
use crate::receivers::Receivers;
use crate::report::{Table, figure};
use std::fmt::Write;
use std::time::Duration;

const STREAMS: usize = 500;

/// Clients of all streams together, and of the one.
const CLIENTS: usize = 10_000;

const VALUE: usize = 100;

/// From one record of a stream to its next.
const PAUSE: Duration = Duration::from_secs(1);

/// The figures of a daemon, one value per round.
#[derive(Default)]
struct Side {
    /// ms of processor per second of a round.
    cpu: Vec<f64>,
    /// Milliseconds; none without clients.
    p99: Vec<f64>,
}

/// A daemon with topics of its own, and clients or none.
struct Party {
    source: Source,
    bridge: Bridge,
    receivers: Option<Receivers>,
    side: Side,
}

impl Party {
    fn new(broker: &Broker, streams: usize, clients: usize) -> Party {
        let flow = Flow {
            length: VALUE,
            pause: PAUSE / u32::try_from(streams).expect("few"),
            keys: None,
        };
        let source = Source::over(broker, "streams", flow, streams);
        // The first is the one that every daemon here has.
        let mut paths = vec![PATH.to_owned()];
        let mut settings = String::new();
        for (index, topic) in source.topics.iter().enumerate().skip(1) {
            let path = format!("{PATH}-{index}");
            write!(
                settings,
                "[[stream]]\npath = \"{path}\"\ntopics = [\"{topic}\"]\nstart = \"live\"\n"
            )
            .expect("a string takes everything");
            paths.push(path);
        }
        let launch = Launch {
            settings: &settings,
            ..Launch::new(source.topic(), "live")
        };
        let bridge = launch.start(broker);
        // A record's number says on which stream it comes: a client's first is the one on whose turn it is.
        let receivers = (clients > 0).then(|| Receivers::connect_to_streams(bridge.port, &paths, clients));
        Party {
            source,
            bridge,
            receivers,
            side: Side::default(),
        }
    }

    /// Writes so many records to every stream.
    fn round(&mut self, records: usize) {
        let count = records * self.source.topics.len();
        let meter = Meter::start(self.bridge.pid());
        match &mut self.receivers {
            Some(receivers) => {
                let [receipts] = self.source.round(count, [receivers]);
                self.side.p99.push(receipts.p99 as f64 / 1e6);
            }
            None => drop(self.source.round(count, [])),
        }
        let seconds = PAUSE.as_secs_f64() * records as f64;
        self.side.cpu.push(meter.used().as_secs_f64() * 1e3 / seconds);
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let streams = options.pick(STREAMS, 50);
    let clients = options.pick(CLIENTS, 1000);
    let records = options.pick(5, 3);
    let rounds = options.pick(7, 2);
    let mut parties = [
        Party::new(broker, streams, 0),
        Party::new(broker, streams, clients),
        Party::new(broker, 1, 0),
        Party::new(broker, 1, clients),
    ];
    // Warms everything up, and does not count.
    for party in &mut parties {
        party.round(records);
        party.side = Side::default();
    }
    for _ in 0..rounds {
        for party in &mut parties {
            party.round(records);
        }
    }
    let [many_alone, many, one_alone, one] = parties.map(|party| party.side);
    let beyond = |with: &Side, without: &Side| -> Vec<f64> {
        let pairs = with.cpu.iter().zip(&without.cpu);
        pairs.map(|(with, without)| with - without).collect()
    };
    let mut table = Table::new(&["", &format!("{streams} streams"), "one", "ratio"]);
    let mut row = |name: &str, ours: &[f64], theirs: &[f64]| {
        table.row(&[
            name.to_owned(),
            figure(median(ours)),
            figure(median(theirs)),
            figure(median_ratio(ours, theirs)),
        ]);
    };
    row("processor, ms per s: no clients", &many_alone.cpu, &one_alone.cpu);
    row("processor, ms per s", &many.cpu, &one.cpu);
    row(
        "the difference",
        &beyond(&many, &many_alone),
        &beyond(&one, &one_alone),
    );
    row("latency p99, ms", &many.p99, &one.p99);
    table.print(&format!(
        "streams: {clients} clients over {streams} streams and over one, a record per s on each, {clients} deliveries/s, \
         {rounds} rounds of {records} s"
    ));
}
