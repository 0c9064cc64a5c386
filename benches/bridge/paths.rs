//! Five hundred clients, each with a filter by a path of its own, beside one client: what a record costs that
//! concerns none of them. A value is walked once, however many paths filters ask for.

use crate::Options;
use crate::audience::Audience;
use crate::bridge::{Bridge, Launch, PATH};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::produce::Message;
use crate::measure::{Meter, median, median_ratio};
use crate::report::{Table, at_most, figure};
use std::thread;
use std::time::{Duration, Instant};

/// Clients, each with a path of its own.
const CLIENTS: usize = 500;

/// Of the members that clients ask for, so many are in a record.
const MEMBERS: usize = 10;

/// Bytes of a record's value.
const LENGTH: usize = 1024;

/// Most processor time of the daemon, as a multiple of that with one client.
const MOST: f64 = 3.0;

const PATIENCE: Duration = Duration::from_secs(120);

struct Side {
    bridge: Bridge,
    /// None of them is ever sent a record.
    _audience: Audience,
    used: Vec<f64>,
}

impl Side {
    fn new(broker: &Broker, topic: &str, clients: usize) -> Side {
        let launch = Launch {
            settings: "checkpoint_interval = \"10m\"",
            ..Launch::new(topic, "live")
        };
        let bridge = launch.start(broker);
        Side {
            _audience: Audience::connect_by_path(bridge.port, PATH, clients),
            bridge,
            used: Vec::new(),
        }
    }

    /// Waits until the stream has so many records.
    fn wait(&self, records: u64) {
        let mut asker = self.bridge.asker().expect("a connection");
        let began = Instant::now();
        loop {
            let (_, body) = asker.get("/streams").expect("the daemon answers");
            let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let has = answer["streams"][0]["records"].as_u64().unwrap_or(0);
            if has >= records {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{has} of {records} records");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A record with some of the members that clients ask for, with other values than they want.
fn record(number: usize) -> Message {
    let members = (0..MEMBERS).map(|member| {
        let name = (number * MEMBERS + member) % CLIENTS;
        format!("\"p{name}\":\"v{number}\"")
    });
    let mut value = format!("{{{},\"text\":\"", members.collect::<Vec<_>>().join(","));
    while value.len() < LENGTH - 2 {
        value.push('x');
    }
    Message::value(value + "\"}")
}

pub fn run(broker: &Broker, options: &Options) {
    let (rounds, count) = (options.pick(9, 2), options.pick(20_000, 5_000));
    let topic = topic_name("paths");
    broker.create_topic(&topic, 1, &[]);
    let mut sides = [1, CLIENTS].map(|clients| Side::new(broker, &topic, clients));
    let records: Vec<Message> = (0..count).map(record).collect();
    // The first round warms everything up, and does not count.
    for round in 0..=rounds {
        let meters = sides.each_ref().map(|side| Meter::start(side.bridge.pid()));
        broker.produce(&topic, &records);
        for (side, meter) in sides.iter_mut().zip(meters) {
            side.wait((count * (round + 1)) as u64);
            if round > 0 {
                side.used.push(meter.used().as_secs_f64() * 1e6 / count as f64);
            }
        }
    }
    let [one, many] = sides.map(|side| side.used);
    let ratio = median_ratio(&many, &one);
    let mut table = Table::new(&["", "500 filters", "one", "ratio", "target"]);
    table.row(&[
        "processor, µs per record".to_owned(),
        figure(median(&many)),
        figure(median(&one)),
        figure(ratio),
        at_most(ratio, MOST),
    ]);
    table.print(&format!(
        "filtered: {CLIENTS} distinct value filters vs one, {rounds} rounds of {count} records of {LENGTH} bytes"
    ));
}
