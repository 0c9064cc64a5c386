//! The usage of an idle daemon: many partitions without records, and a thousand clients
//! that get nothing but comments.

use crate::Options;
use crate::audience::Audience;
use crate::bare::Bare;
use crate::bridge::{Launch, PATH};
use crate::harness::broker::{Broker, topic_name};
use crate::measure::Meter;
use crate::report::{Table, at_most, figure};
use std::thread;
use std::time::Duration;

const PARTITIONS: i32 = 64;

/// Most per cent of a core for those.
const MOST_PERCENT: f64 = 0.5;

const CLIENTS: usize = 1000;
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Most processor time for keepalives, as a multiple of the bare loop's.
const MOST_CPU: f64 = 3.0;

/// Long enough for what a start leaves to be done.
const SETTLE: Duration = Duration::from_secs(3);

pub fn run(broker: &Broker, options: &Options) {
    let seconds = options.pick(60, 30);
    let window = Duration::from_secs(seconds);
    let topic = topic_name("quiet");
    broker.create_topic(&topic, PARTITIONS, &[]);
    let bridge = Launch::new(&topic, "live").start(broker);
    thread::sleep(SETTLE);
    let meter = Meter::start(bridge.pid());
    thread::sleep(window);
    let alone = meter.used();
    drop(bridge);

    let keepalive = format!("{}s", KEEPALIVE.as_secs());
    let launch = Launch {
        keepalive: &keepalive,
        ..Launch::new(&topic, "live")
    };
    let bridge = launch.start(broker);
    let mut bare = Bare::spawn(&["comments", &KEEPALIVE.as_micros().to_string()]);
    let bare_port = bare.port();
    let audience = Audience::connect(bridge.port, PATH, CLIENTS);
    let bare_audience = Audience::connect(bare_port, "/", CLIENTS);
    thread::sleep(SETTLE);
    // Both at once, as both do next to nothing.
    let (ours, theirs) = (Meter::start(bridge.pid()), Meter::start(bare.pid()));
    thread::sleep(window);
    let (ours, theirs) = (ours.used(), theirs.used());
    drop((audience, bare_audience));

    let percent = |used: Duration| used.as_secs_f64() / window.as_secs_f64() * 100.0;
    let mut table = Table::new(&["", "bridge", "bare loop", "ratio", "target"]);
    table.row(&[
        format!("{PARTITIONS} partitions, no clients, % of a core"),
        figure(percent(alone)),
        String::new(),
        String::new(),
        at_most(percent(alone), MOST_PERCENT),
    ]);
    let added = ours.saturating_sub(alone);
    let ratio = added.as_secs_f64() / theirs.as_secs_f64();
    table.row(&[
        format!("{CLIENTS} clients more, a comment every {keepalive}, % of a core"),
        figure(percent(added)),
        figure(percent(theirs)),
        figure(ratio),
        at_most(ratio, MOST_CPU),
    ]);
    table.print(&format!("quiet: {seconds} s each"));
}
