//! Five thousand clients with a key each, among five thousand keys: what a record costs that concerns
//! one of them, beside what it costs where everyone gets everything.

use crate::audience::{Audience, Receipts};
use crate::bare::Bare;
use crate::bare_loop::BareLoop;
use crate::bridge::{Bridge, Launch, PATH};
use crate::fanout::id_length;
use crate::harness::broker::Broker;
use crate::harness::daemon::BINARY;
use crate::measure::{Meter, median, median_ratio};
use crate::paths;
use crate::produce::{Flow, Source};
use crate::report::{Table, at_most, figure};
use crate::{Options, Target};
use std::path::Path;
use std::time::Duration;

/// Keys, each of which has a client.
const KEYS: u64 = 5000;

/// Clients whose keys no record has.
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

/// Long enough for one record of every key.
const ROUND: Duration = Duration::from_secs(5);

/// No checkpoint comes into a round: it would go to every client without a record of its own.
const SETTINGS: &str = "checkpoint_interval = \"10m\"";

/// Most processor time of a delivery by key, as a multiple of a bare loop's that writes each record to one client.
const MOST_BY_KEY: f64 = 1.2;

/// Most processor time of the daemon with the quiet clients, as a multiple of one without them.
const MOST_QUIET: f64 = 1.05;

/// Most processor time as a multiple of another build's.
const MOST_OF_OTHER: f64 = 1.03;

/// Processor time of a daemon, in ms per second of a round.
#[derive(Default)]
struct Load(Vec<f64>);

impl Load {
    fn take(&mut self, used: Duration) {
        self.0.push(used.as_secs_f64() * 1e3 / ROUND.as_secs_f64());
    }

    /// The difference. As a thousand deliveries come in a second, it is also in µs per delivery.
    fn beyond(&self, alone: &Load) -> Vec<f64> {
        let pairs = self.0.iter().zip(&alone.0);
        pairs.map(|(with, without)| with - without).collect()
    }
}

/// A daemon with a topic of its own, and clients or none.
struct Party {
    source: Source,
    /// Records of a round.
    records: usize,
    bridge: Bridge,
    audience: Option<Audience>,
    load: Load,
}

impl Party {
    fn new(broker: &Broker, flow: Flow, settings: &str, connect: Option<&dyn Fn(u16) -> Audience>) -> Party {
        Party::of(Path::new(BINARY), broker, flow, settings, connect)
    }

    /// The same, of another build.
    fn of(
        binary: &Path,
        broker: &Broker,
        flow: Flow,
        settings: &str,
        connect: Option<&dyn Fn(u16) -> Audience>,
    ) -> Party {
        let source = Source::new(broker, "filtered", flow);
        let launch = Launch {
            binary,
            settings,
            ..Launch::new(source.topic(), "live")
        };
        let bridge = launch.start(broker);
        Party {
            source,
            records: records(&flow),
            audience: connect.map(|connect| connect(bridge.port)),
            bridge,
            load: Load::default(),
        }
    }

    fn round(&mut self) {
        drop(self.receive());
    }

    /// A round, and what its clients received.
    fn receive(&mut self) -> Option<Receipts> {
        let meter = Meter::start(self.bridge.pid());
        let receipts = if let Some(audience) = &mut self.audience {
            let [receipts] = self.source.round(self.records, [audience]);
            Some(receipts)
        } else {
            self.source.round(self.records, []);
            None
        };
        self.load.take(meter.used());
        receipts
    }
}

/// Records of a round.
fn records(flow: &Flow) -> usize {
    (ROUND.as_millis() / flow.pause.as_millis())
        .try_into()
        .expect("a few thousand")
}

pub fn run(broker: &Broker, options: &Options) {
    let rounds = options.pick(9, 2);
    let by_key = |port| Audience::connect_by_key(port, PATH, KEYS);
    let unfiltered = |port| Audience::connect(port, PATH, UNFILTERED);
    let mut parties = [
        Party::new(broker, KEYED, SETTINGS, None),
        Party::new(broker, KEYED, SETTINGS, Some(&by_key)),
        Party::new(broker, KEYED, SETTINGS, Some(&by_key)),
        Party::new(broker, PLAIN, "", None),
        Party::new(broker, PLAIN, "", Some(&unfiltered)),
    ];
    // In a process of their own: this one has sockets enough.
    let port = parties[2].bridge.port.to_string();
    let mut quiet = Bare::spawn(&["quiet", &port, &QUIET.to_string()]);
    assert_eq!(quiet.numbers(), [QUIET], "the quiet clients are connected");

    // Warms everything up, and does not count.
    parties.iter_mut().for_each(Party::round);
    let bare_loops = [
        (1, &KEYED, &by_key as &dyn Fn(u16) -> Audience),
        (4, &PLAIN, &unfiltered),
    ];
    let mut bare_loops = bare_loops.map(|(like, flow, connect)| {
        let receipts = parties[like].receive().expect("it has clients");
        let id = id_length(receipts.bytes_each()).to_string();
        let mut bare = BareLoop::new("loop", &id, flow, records(flow), |port| Box::new(connect(port)));
        bare.round();
        bare
    });
    for party in &mut parties {
        party.load = Load::default();
    }
    let mut bare = [Load::default(), Load::default()];
    for _ in 0..rounds {
        parties.iter_mut().for_each(Party::round);
        for (bare_loop, load) in bare_loops.iter_mut().zip(&mut bare) {
            load.take(bare_loop.round().1);
        }
    }
    assert!(quiet.is_running(), "a quiet client got something");
    // Most processor time of a delivery, as a multiple of one without a filter.
    let most = options.target(&Target::by_driver(1.5, 1.2, 1.2));
    print(&parties.map(|party| party.load), &bare, most);
    drop(quiet);
    paths::run(broker, options);
}

fn print(loads: &[Load; 5], bare: &[Load; 2], most: Option<f64>) {
    let [alone, with_clients, with_quiet, plain_alone, plain_clients] = loads;
    let rounds = alone.0.len();
    let mut table = Table::new(&["", "by key", "everything", "ratio", "target"]);
    // That of the medians, as reading hides small differences of single rounds. One within the noise proves nothing, and
    // meets no target.
    let ratio_of = |ours: &[f64], theirs: &[f64]| {
        let ours = median(ours);
        if ours > 0.0 {
            ours / median(theirs)
        } else {
            f64::NAN
        }
    };
    let mut row = |name: String, ours: &[f64], theirs: &[f64]| {
        table.row(&[name, figure(median(ours)), figure(median(theirs))]);
    };
    row(
        "processor, ms per s: no clients".to_owned(),
        &alone.0,
        &plain_alone.0,
    );
    row(
        format!("processor, ms per s: {KEYS} by key, {UNFILTERED} for everything"),
        &with_clients.0,
        &plain_clients.0,
    );
    let by_key = with_clients.beyond(alone);
    let everything = plain_clients.beyond(plain_alone);
    let ratio = ratio_of(&by_key, &everything);
    table.row(&[
        "the difference, µs per delivery".to_owned(),
        figure(median(&by_key)),
        figure(median(&everything)),
        figure(ratio),
        most.map_or_else(String::new, |most| at_most(ratio, most)),
    ]);
    let [bare_by_key, bare_plain] = bare;
    table.row(&[
        "a bare loop, µs per delivery".to_owned(),
        figure(median(&bare_by_key.0)),
        figure(median(&bare_plain.0)),
        figure(ratio_of(&bare_by_key.0, &bare_plain.0)),
    ]);
    let to_bare = ratio_of(&by_key, &bare_by_key.0);
    table.row(&[
        "the difference, to the bare loop".to_owned(),
        figure(to_bare),
        figure(ratio_of(&everything, &bare_plain.0)),
        String::new(),
        at_most(to_bare, MOST_BY_KEY),
    ]);
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
        &with_quiet.beyond(alone),
        &with_clients.beyond(alone),
        None,
    );
    table.print(&format!(
        "filtered: 1000 deliveries/s of {} bytes, {rounds} rounds of {} s",
        KEYED.length,
        ROUND.as_secs()
    ));
}

/// This build and another one, each with a client per key, in alternating rounds.
pub fn compare(broker: &Broker, options: &Options, other: &Path) {
    let rounds = options.pick(12, 4);
    let by_key = |port| Audience::connect_by_key(port, PATH, KEYS);
    let mut builds =
        [Path::new(BINARY), other].map(|binary| Party::of(binary, broker, KEYED, SETTINGS, Some(&by_key)));
    // Warms everything up, and does not count.
    for build in &mut builds {
        build.round();
        build.load = Load::default();
    }
    for _ in 0..rounds {
        builds.iter_mut().for_each(Party::round);
        // The order alternates from pair to pair.
        builds.swap(0, 1);
    }
    let [ours, theirs] = builds.map(|build| build.load.0);
    let ratio = median_ratio(&ours, &theirs);
    let mut table = Table::new(&["", "this build", "the other", "ratio", "target"]);
    table.row(&[
        "processor, ms per s".to_owned(),
        figure(median(&ours)),
        figure(median(&theirs)),
        figure(ratio),
        at_most(ratio, MOST_OF_OTHER),
    ]);
    table.print(&format!(
        "compare: {KEYS} clients by key of this build and of {}, {rounds} rounds of {} s",
        other.display(),
        ROUND.as_secs()
    ));
}

/// The bare process that is the quiet clients: says how many they are once all are connected, and
/// ends when one of them is sent anything.
pub fn quiet(port: u16, count: u64) {
    let audience = Audience::connect_quiet(port, PATH, count);
    println!("{count}");
    audience.await_anything();
}
