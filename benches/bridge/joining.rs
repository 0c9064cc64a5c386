//! Ten thousand clients ask for a table at once, as after a restart: bytes per second beside a bare loop that writes the
//! same bytes to as many, and the daemon's memory meanwhile. Then fewer, beside themselves while the table's rows change.

use crate::audience::value;
use crate::bare::Bare;
use crate::bridge::{Launch, PATH};
use crate::drain::{Goal, fetch, request};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::produce::Message;
use crate::harness::scratch;
use crate::report::{Table, at_least, at_most, figure};
use crate::storm::{Server, Side, Storm};
use crate::{Options, Target, audience};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a value.
const VALUE: usize = 100;

/// Updates per second of rows at random, and how often some of them are sent.
const UPDATES: u32 = 2000;
const TICKS: u32 = 100;

/// Long enough for pages that were freed after loading to be given back.
const SETTLE: Duration = Duration::from_secs(12);

pub fn run(broker: &Broker, options: &Options) {
    let rows = options.pick(20_000, 2000);
    let clients = options.pick(10_000, 2000);
    let rounds = options.pick(7, 2);
    let topic = topic_name("joining");
    broker.create_topic(&topic, 1, &[]);
    let records: Vec<Message> = (1..=rows)
        .map(|number| Message::new(key(number), value(number, 0, VALUE)).partition(0))
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
        goal: Goal::Payload(payload.len()),
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

    // Each client must take what changes meanwhile too, so ten thousand might never have caught up.
    let clients = options.pick(2000, 500);
    let storm = Storm {
        clients,
        request: &request,
        goal: Goal::CaughtUp,
    };
    let mut still = Server::new(bridge.pid(), bridge.port);
    let mut changing = Server::new(bridge.pid(), bridge.port);
    for _ in 0..rounds {
        still.storm(&storm);
        bridge.wait_alone();
        while_rows_change(broker, &topic, rows, || changing.storm(&storm));
        bridge.wait_alone();
    }
    print_updates(
        &format!(
            "joining: {clients} clients at once, a table of {rows} rows, {UPDATES} updates/s, {rounds} rounds"
        ),
        &still.side,
        &changing.side,
    );
}

fn key(number: u64) -> String {
    format!("key-{number:08}")
}

/// Updates rows at random while something is done.
fn while_rows_change(broker: &Broker, topic: &str, rows: u64, act: impl FnOnce()) {
    let producer: BaseProducer = broker.client().create().expect("a producer");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = SmallRng::seed_from_u64(1);
            let mut due = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                for _ in 0..UPDATES / TICKS {
                    let number = random.random_range(1..=rows);
                    let (key, value) = (key(number), value(number, 0, VALUE));
                    let record = BaseRecord::to(topic).key(&key).payload(&value).partition(0);
                    producer
                        .send(record)
                        .unwrap_or_else(|(error, _)| panic!("{error}"));
                }
                due += Duration::from_secs(1) / TICKS;
                producer.poll(due.saturating_duration_since(Instant::now()));
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            producer
                .flush(Duration::from_secs(10))
                .expect("records are acknowledged");
        });
        // However it ends.
        let _over = Over(&is_over);
        act();
    });
}

/// Ends the updates when dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn print_updates(title: &str, still: &Side, changing: &Side) {
    let mut table = Table::new(&["", "with updates", "without", "ratio", "target"]);
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>| {
        table.compare(name, of(changing), of(still), |_| None);
    };
    row("GB/s", |side| &side.rate);
    row("seconds", |side| &side.seconds);
    row("processor s per GB", |side| &side.cpu);
    row("growth of memory, MiB", |side| &side.growth);
    table.print(title);
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
