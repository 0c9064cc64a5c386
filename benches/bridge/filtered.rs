//! Five thousand clients with a key each, among five thousand keys: what a record costs that concerns
//! one of them, beside what it costs where everyone gets everything.

use crate::Options;
use crate::audience::Audience;
use crate::bare::Bare;
use crate::bridge::{Bridge, Launch, PATH};
use crate::harness::broker::Broker;
use crate::measure::{Meter, median, median_ratio};
use crate::produce::{Flow, Source};
use crate::report::{Table, at_most, figure};
use std::time::Duration;

/// Keys, each of which has a client.
const KEYS: u64 = 5000;

/// Clients whose keys never come.
const QUIET: u64 = 10_000;

/// Clients without a filter.
const UNFILTERED: usize = 1000;

/// Either way a thousand deliveries in a second.
const KEYED: Flow = Flow {
    length: 100,
    pause: Duration::from_millis(1),
    keys: Some(KEYS),
};
const PLAIN: Flow = Flow {
    length: 100,
    pause: Duration::from_secs(1),
    keys: None,
};

/// No checkpoint comes into a round: it would go to every client without a record of its own.
const SETTINGS: &str = "checkpoint_interval = \"10m\"";

/// Most processor time of a delivery, as a multiple of one without a filter; and of the daemon with
/// the quiet clients, as a multiple of one without them.
const MOST: f64 = 1.5;
const MOST_QUIET: f64 = 1.05;

/// Processor time of a daemon, in ms per second of a round.
#[derive(Default)]
struct Load(Vec<f64>);

impl Load {
    fn take(&mut self, used: Duration, seconds: f64) {
        self.0.push(used.as_secs_f64() * 1e3 / seconds);
    }

    /// What this has more, in µs per delivery, where `rate` come per second.
    fn beyond(&self, alone: &Load, rate: f64) -> Vec<f64> {
        let pairs = self.0.iter().zip(&alone.0);
        pairs
            .map(|(with, without)| (with - without) * 1e3 / rate)
            .collect()
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let rounds = options.pick(7, 2);
    // As many seconds as make every key come equally often.
    let seconds = options.pick(10, 5);
    let mut keyed = Source::new(broker, "filtered", KEYED);
    let mut plain = Source::new(broker, "unfiltered", PLAIN);

    // Daemons that read the same records in the same seconds, and differ in their clients only: what
    // one uses more than the other is what those cost, however busy the machine is.
    let start = |source: &Source, settings| {
        let launch = Launch {
            settings,
            ..Launch::new(&source.topic, "live")
        };
        launch.start(broker)
    };
    let [alone, with_clients, with_quiet] = [(); 3].map(|()| start(&keyed, SETTINGS));
    let [plain_alone, plain_clients] = [(); 2].map(|()| start(&plain, ""));
    let mut clients = Audience::connect_by_key(with_clients.port, PATH, KEYS);
    let mut same_clients = Audience::connect_by_key(with_quiet.port, PATH, KEYS);
    let mut everyone = Audience::connect(plain_clients.port, PATH, UNFILTERED);
    // In a process of their own: this one has sockets enough.
    let mut quiet = Bare::spawn(&["quiet", &with_quiet.port.to_string(), &QUIET.to_string()]);
    assert_eq!(quiet.numbers(), [QUIET], "the quiet clients are connected");

    let mut loads = <[Load; 5]>::default();
    // The first round warms everything up.
    for round in 0..=rounds {
        let meters = [&alone, &with_clients, &with_quiet].map(|bridge| Meter::start(bridge.pid()));
        keyed.round(seconds * 1000, [&mut clients, &mut same_clients]);
        let used = meters.map(|meter| meter.used());

        let plain_meters = [&plain_alone, &plain_clients].map(|bridge: &Bridge| Meter::start(bridge.pid()));
        plain.round(seconds, [&mut everyone]);
        let plain_used = plain_meters.map(|meter| meter.used());

        if round > 0 {
            for (load, used) in loads.iter_mut().zip(used.into_iter().chain(plain_used)) {
                load.take(used, seconds as f64);
            }
        }
    }
    assert!(quiet.is_running(), "a quiet client got something");
    print(&loads, seconds);
}

fn print(loads: &[Load; 5], seconds: usize) {
    let [alone, with_clients, with_quiet, plain_alone, plain_clients] = loads;
    let rounds = alone.0.len();
    let mut table = Table::new(&["", "by key", "everything", "ratio", "target"]);
    let mut row = |name: String, ours: &[f64], theirs: &[f64], most: Option<f64>| {
        let ratio = most.map(|most| (median_ratio(ours, theirs), most));
        table.row(&[
            name,
            figure(median(ours)),
            figure(median(theirs)),
            ratio.map_or_else(String::new, |(ratio, _)| figure(ratio)),
            ratio.map_or_else(String::new, |(ratio, most)| at_most(ratio, most)),
        ]);
    };
    row(
        "processor, ms per s: no clients".to_owned(),
        &alone.0,
        &plain_alone.0,
        None,
    );
    row(
        format!("processor, ms per s: {KEYS} by key, {UNFILTERED} for everything"),
        &with_clients.0,
        &plain_clients.0,
        None,
    );
    row(
        "the difference, µs per delivery".to_owned(),
        &with_clients.beyond(alone, 1000.0),
        &plain_clients.beyond(plain_alone, 1000.0),
        Some(MOST),
    );
    let mut quiet = |name: String, ours: &[f64], theirs: &[f64], most: Option<f64>| {
        let ratio = median_ratio(ours, theirs);
        let target = most.map_or_else(String::new, |most| at_most(ratio, most));
        table.row(&[name, figure(median(ours)), String::new(), figure(ratio), target]);
    };
    quiet(
        format!("{QUIET} more, quiet: processor, ms per s (ratio to without)"),
        &with_quiet.0,
        &with_clients.0,
        Some(MOST_QUIET),
    );
    quiet(
        "the same, less reading the topic".to_owned(),
        &with_quiet.beyond(alone, 1000.0),
        &with_clients.beyond(alone, 1000.0),
        None,
    );
    table.print(&format!(
        "filtered: 1000 deliveries/s of {} bytes, {rounds} rounds of {seconds} s",
        KEYED.length
    ));
}

/// The bare process that is the quiet clients: says how many they are once all are connected, and
/// ends when one of them is sent anything.
pub fn quiet(port: u16, count: u64) {
    let audience = Audience::connect_quiet(port, PATH, count);
    println!("{count}");
    audience.await_anything();
}
