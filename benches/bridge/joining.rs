//! Ten thousand clients ask for a table at once, as after a restart: bytes per second beside a bare loop that writes the
//! same bytes to as many, and the daemon's memory meanwhile.

use crate::audience::value;
use crate::bare::Bare;
use crate::bridge::{Launch, PATH};
use crate::drain::{fetch, request};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::produce::Message;
use crate::harness::scratch;
use crate::report::{Table, at_least, at_most, figure};
use crate::storm::{Server, Side, Storm};
use crate::{Options, Target, audience};
use std::thread;
use std::time::Duration;

/// Bytes of a value.
const VALUE: usize = 100;

/// Long enough for pages that were freed after loading to be given back.
const SETTLE: Duration = Duration::from_secs(12);

pub fn run(broker: &Broker, options: &Options) {
    let rows = options.pick(20_000, 2000);
    let clients = options.pick(10_000, 2000);
    let rounds = options.pick(3, 2);
    let topic = topic_name("joining");
    broker.create_topic(&topic, 1, &[]);
    let records: Vec<Message> = (1..=rows)
        .map(|number| Message::new(format!("key-{number:08}"), value(number, 0, VALUE)).partition(0))
        .collect();
    broker.produce(&topic, &records);

    let bridge = Launch::new(&topic, "snapshot").start(broker);
    let request = request(PATH, None);
    let payload = fetch(bridge.port, &request);
    audience::check(&payload, 1, rows);

    let directory = scratch::directory("joining");
    let file = directory.path().join("payload");
    std::fs::write(&file, &payload).expect("payload");
    let mut bare = Bare::spawn(&["blocks", file.to_str().expect("a path in UTF-8")]);
    let bare_port = bare.port();
    thread::sleep(SETTLE);

    let mut ours = Server::new(bridge.pid(), bridge.port);
    let mut theirs = Server::new(bare.pid(), bare_port);
    let storm = Storm {
        clients,
        request: &request,
        payload: payload.len(),
    };
    for _ in 0..rounds {
        ours.storm(&storm);
        bridge.wait_alone();
        theirs.storm(&storm);
    }
    let title = format!(
        "joining: {clients} clients at once, a table of {rows} rows, {} MB to each, {rounds} rounds",
        figure(payload.len() as f64 / 1e6)
    );
    print(&title, options, &ours.side, &theirs.side);
}

fn print(title: &str, options: &Options, ours: &Side, theirs: &Side) {
    let least_rate = options.target(&Target::of_engine(0.8, 0.85));
    let most_growth = options.target(&Target::of_engine(64.0, 64.0));
    let mut table = Table::new(&["", "bridge", "bare loop", "ratio", "target"]);
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>, target: &dyn Fn(f64) -> Option<String>| {
        table.compare(name, of(ours), of(theirs), target);
    };
    row("GB/s", |side| &side.rate, &|ratio| {
        least_rate.map(|least| at_least(ratio, least))
    });
    row("seconds", |side| &side.seconds, &|_| None);
    row("processor s per GB", |side| &side.cpu, &|_| None);
    let most = |side: &Side| side.growth.iter().copied().fold(f64::NAN, f64::max);
    table.row(&[
        "most growth of memory, MiB".to_owned(),
        figure(most(ours)),
        figure(most(theirs)),
        String::new(),
        most_growth.map_or_else(String::new, |limit| at_most(most(ours), limit)),
    ]);
    table.print(title);
}
