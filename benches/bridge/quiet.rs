//! The usage of an idle daemon: many partitions without records, and a thousand and ten thousand clients
//! that get nothing but comments.

use crate::bare::Bare;
use crate::bridge::{Launch, PATH};
use crate::harness::broker::{Broker, topic_name};
use crate::measure::Meter;
use crate::receivers::Receivers;
use crate::report::{Table, at_most, figure};
use crate::{Options, Target};
use std::thread;
use std::time::Duration;

const PARTITIONS: i32 = 64;

/// Most per cent of a core for those.
const MOST_PERCENT: f64 = 0.5;

const CLIENTS: [usize; 2] = [1000, 10_000];
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Long enough for what a start leaves to be done.
const SETTLE: Duration = Duration::from_secs(3);

pub fn run(broker: &Broker, options: &Options) {
    // Each client gets a comment in it.
    let seconds = options.pick(60, 16);
    let window = Duration::from_secs(seconds);
    let topic = topic_name("quiet");
    broker.create_topic(&topic, PARTITIONS, &[]);
    let bridge = Launch::new(&topic, "live").start(broker);
    thread::sleep(SETTLE);
    let meter = Meter::start(bridge.pid());
    thread::sleep(window);
    let alone = meter.used();
    drop(bridge);

    let percent = |used: Duration| used.as_secs_f64() / window.as_secs_f64() * 100.0;
    let mut table = Table::new(&["", "bridge", "bare loop", "ratio", "target"]);
    table.row(&[
        format!("{PARTITIONS} partitions, no clients, % of a core"),
        figure(percent(alone)),
        String::new(),
        String::new(),
        at_most(percent(alone), MOST_PERCENT),
    ]);
    // Most processor time for keepalives, as a multiple of the bare loop's.
    let most = options.target(&Target::by_driver(3.0, 1.3, 1.2));
    for clients in CLIENTS {
        let (ours, theirs) = keepalives(broker, &topic, clients, window);
        let added = ours.saturating_sub(alone);
        let ratio = added.as_secs_f64() / theirs.as_secs_f64();
        table.row(&[
            format!(
                "{clients} clients more, a comment every {} s, % of a core",
                KEEPALIVE.as_secs()
            ),
            figure(percent(added)),
            figure(percent(theirs)),
            figure(ratio),
            most.map_or_else(String::new, |most| at_most(ratio, most)),
        ]);
    }
    table.print(&format!("quiet: {seconds} s each"));
}

/// The processor time of a daemon and of the bare loop, each with so many clients.
fn keepalives(broker: &Broker, topic: &str, clients: usize, window: Duration) -> (Duration, Duration) {
    let keepalive = format!("{}s", KEEPALIVE.as_secs());
    let launch = Launch {
        keepalive: &keepalive,
        ..Launch::new(topic, "live")
    };
    let bridge = launch.start(broker);
    let mut bare = Bare::spawn(&["comments", &KEEPALIVE.as_micros().to_string()]);
    let bare_port = bare.port();
    let _receivers =
        [(bridge.port, PATH), (bare_port, "/")].map(|(port, path)| Receivers::connect(port, path, clients));
    thread::sleep(SETTLE);
    // Both at once, as both do next to nothing.
    let (ours, theirs) = (Meter::start(bridge.pid()), Meter::start(bare.pid()));
    thread::sleep(window);
    (ours.used(), theirs.used())
}
