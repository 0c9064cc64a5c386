//! Latency of a record from the producer to a single client: what the bridge adds to a bare consumer.

use crate::Options;
use crate::audience::Audience;
use crate::bare::Bare;
use crate::bridge::{Launch, PATH};
use crate::fanout::{FLOW, Side, round};
use crate::harness::broker::Broker;
use crate::measure::{median, median_ratio};
use crate::produce::Source;
use crate::report::{Table, at_most, figure};

/// Most latency, as a multiple of the bare consumer's with one write(2) behind it.
const MOST: f64 = 1.3;

/// Bytes of an id, about.
const ID: &str = "20";

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(500, 100);
    let rounds = options.pick(7, 3);
    let mut to_bridge = Source::new(broker, "arrival-bridge", FLOW);
    let bridge = Launch::new(to_bridge.topic(), "live").start(broker);
    let mut client = Audience::connect(bridge.port, PATH, 1);

    let mut to_consumer = Source::new(broker, "arrival-consumer", FLOW);
    let mut consumer = Bare::spawn(&["consumer", &broker.bootstrap(), to_consumer.topic(), "1", ID]);
    let mut bare_client = Audience::connect(consumer.port(), "/", 1);
    let consumer_pid = consumer.pid();

    let (mut ours, mut theirs) = (Side::default(), Side::default());
    // The first pair warms everything up.
    for number in 0..=rounds {
        if number == 1 {
            (ours, theirs) = (Side::default(), Side::default());
        }
        round(&mut to_bridge, bridge.pid(), &mut client, count, &mut ours);
        round(
            &mut to_consumer,
            consumer_pid,
            &mut bare_client,
            count,
            &mut theirs,
        );
    }
    let mut table = Table::new(&["", "bridge", "bare consumer", "ratio", "target"]);
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>| {
        let ratio = median_ratio(of(&ours), of(&theirs));
        table.row(&[
            name.to_owned(),
            figure(median(of(&ours))),
            figure(median(of(&theirs))),
            figure(ratio),
            at_most(ratio, MOST),
        ]);
    };
    row("latency p50, ms", |side| &side.p50);
    row("latency p99, ms", |side| &side.p99);
    table.print(&format!(
        "arrival: one client, {} records/s, {rounds} rounds of {count} records",
        1000 / FLOW.pause.as_millis()
    ));
}
