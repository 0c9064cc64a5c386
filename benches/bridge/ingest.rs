//! Loading a topic: records per second from the first to the last, against the client
//! library alone, and against another build of the daemon (`--against`).

use crate::Options;
use crate::bare::Bare;
use crate::bridge::{Asker, Launch};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::BINARY;
use crate::harness::produce::Message;
use crate::measure::{cpu, median, median_ratio, now};
use crate::report::{Table, at_least, figure};
use std::path::Path;
use std::thread;
use std::time::Duration;

const VALUE: usize = 200;

/// Least part of the bare consumer's records per second.
const LEAST: f64 = 0.8;

/// Least part of another build's records per second.
const LEAST_OF_OTHER: f64 = 0.97;

/// Between two looks at the daemon's counters.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Side {
    /// Records per second while they come.
    rate: Vec<f64>,
    /// Seconds from exec to the last record.
    whole: Vec<f64>,
    /// Processor seconds per million records, from exec on.
    cpu: Vec<f64>,
}

impl Side {
    fn take(&mut self, began: u64, span: (u64, u64), counted: u64, total: u64, used: Duration) {
        let (first, last) = span;
        self.rate.push(counted as f64 / ((last - first) as f64 / 1e9));
        self.whole.push((last - began) as f64 / 1e9);
        self.cpu.push(used.as_secs_f64() / (total as f64 / 1e6));
    }
}

/// A client library in both, the broker it can read from, and the records.
#[derive(Clone, Copy)]
struct Library<'a> {
    broker: &'a Broker,
    name: &'static str,
    /// Lines of the daemon's configuration.
    kafka: &'static str,
    /// The role of the bare process.
    role: &'static str,
    records: Records,
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Records {
    /// Digits, without a key.
    Digits,
    /// A JSON object, into which the daemon puts the key.
    Objects,
}

impl Records {
    /// More lines of the daemon's stream.
    const fn settings(self) -> &'static str {
        match self {
            Self::Digits => "",
            Self::Objects => "key_field = \"key\"",
        }
    }

    fn message(self, number: u64) -> Message {
        match self {
            Self::Digits => Message::value(format!("{number:0>VALUE$}")),
            Self::Objects => {
                let text = "x".repeat(VALUE / 2);
                // As many digits in all.
                let id = 100_000_000 + number;
                let value = format!(
                    r#"{{"id":{id},"at":"2026-11-29T17:50:00Z","price":12.50,"open":true,"tags":["a","b"],"text":"{text}"}}"#
                );
                Message::new(format!("key-{number}"), value)
            }
        }
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let total = options.pick(500_000, 100_000);
    let rounds = options.pick(15, 2);
    let mut table = Table::new(&["", "bridge", "bare consumer", "ratio", "target"]);
    let librdkafka = Library {
        broker,
        name: "librdkafka",
        kafka: "client = \"librdkafka\"",
        role: "count",
        records: Records::Digits,
    };
    for partitions in [1, 8, 64] {
        compare(&librdkafka, partitions, total, rounds, options, &mut table);
    }
    let objects = Library {
        name: "JSON objects with key_field",
        records: Records::Objects,
        ..librdkafka
    };
    compare(&objects, 1, total, rounds, options, &mut table);
    let old = Broker::start(Version::V3_9);
    let kafka_crate = Library {
        broker: &old,
        name: "the kafka crate, Kafka 3.9",
        kafka: "client = \"kafka\"\nisolation = \"read_uncommitted\"",
        role: "crate",
        records: Records::Digits,
    };
    for partitions in [1, 8] {
        compare(&kafka_crate, partitions, total, rounds, options, &mut table);
    }
    table.print(&format!(
        "ingest: {total} records of {VALUE} bytes, {rounds} rounds"
    ));
}

fn compare(
    library: &Library<'_>,
    partitions: i32,
    total: u64,
    rounds: usize,
    options: &Options,
    table: &mut Table,
) {
    let topic = topic_name("ingest");
    library.broker.create_topic(&topic, partitions, &[]);
    fill_with(library.broker, &topic, partitions, total, |number| {
        library.records.message(number)
    });
    let (mut ours, mut theirs, mut others) = (Side::default(), Side::default(), Side::default());
    // The first pair fills the page cache.
    for round in 0..=rounds {
        if round == 1 {
            (ours, theirs, others) = (Side::default(), Side::default(), Side::default());
        }
        load(library, Path::new(BINARY), &topic, total, &mut ours);
        if let Some(other) = &options.against {
            load(library, other, &topic, total, &mut others);
        }
        count(library, &topic, partitions, total, &mut theirs);
    }
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>, unit: f64, least: Option<f64>| {
        let ratio = median_ratio(of(&ours), of(&theirs));
        let target = least.map_or_else(String::new, |least| at_least(ratio, least));
        let plural = if partitions == 1 { "" } else { "s" };
        table.row(&[
            format!("{}, {partitions} partition{plural}: {name}", library.name),
            figure(median(of(&ours)) / unit),
            figure(median(of(&theirs)) / unit),
            figure(ratio),
            target,
        ]);
    };
    // What is put into objects is no work of a consumer.
    let least = (library.records == Records::Digits).then_some(LEAST);
    row("thousand records/s", |side| &side.rate, 1e3, least);
    row("exec to last record, s", |side| &side.whole, 1.0, None);
    row("processor s per million", |side| &side.cpu, 1.0, None);
    if options.against.is_some() {
        let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>, least: Option<f64>| {
            let ratio = median_ratio(of(&ours), of(&others));
            table.row(&[
                format!("{}, {partitions}: {name}, to the other build", library.name),
                figure(median(of(&ours))),
                figure(median(of(&others))),
                figure(ratio),
                least.map_or_else(String::new, |least| at_least(ratio, least)),
            ]);
        };
        row("records/s", |side| &side.rate, Some(LEAST_OF_OTHER));
        row("processor s per million", |side| &side.cpu, None);
    }
}

/// Spreads records of digits evenly.
pub fn fill(broker: &Broker, topic: &str, partitions: i32, total: u64) {
    fill_with(broker, topic, partitions, total, |number| {
        Records::Digits.message(number)
    });
}

fn fill_with(broker: &Broker, topic: &str, partitions: i32, total: u64, message: impl Fn(u64) -> Message) {
    let mut left = total;
    while left > 0 {
        let chunk = left.min(50_000);
        let messages: Vec<Message> = (0..chunk)
            .zip((0..partitions).cycle())
            .map(|(number, partition)| message(number).partition(partition))
            .collect();
        broker.produce(topic, &messages);
        left -= chunk;
    }
}

/// The daemon, from exec to loaded. Its first figures stand for the first record, so that how often
/// it is asked does not count.
fn load(library: &Library<'_>, binary: &Path, topic: &str, total: u64, side: &mut Side) {
    let began = now();
    let launch = Launch {
        binary,
        kafka: library.kafka,
        settings: library.records.settings(),
        ..Launch::new(topic, "earliest")
    };
    let bridge = launch.spawn(library.broker);
    bridge.wait_for("/health/live", LOOK);
    let mut asker = bridge.asker().expect("a connection");
    let mut first = None;
    let (last, records) = loop {
        let (records, is_loaded) = figures(&mut asker);
        let time = now();
        if records > 0 && first.is_none() {
            first = Some((time, records));
        }
        if is_loaded {
            break (time, records);
        }
        thread::sleep(LOOK);
    };
    let used = cpu(bridge.pid());
    assert_eq!(records, total, "the daemon read everything");
    let (first, already) = first.expect("records came");
    side.take(began, (first, last), records - already, total, used);
}

fn figures(asker: &mut Asker) -> (u64, bool) {
    let (_, body) = asker.get("/streams").expect("the daemon answers");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let stream = &answer["streams"][0];
    (
        stream["records"].as_u64().unwrap_or(0),
        stream["loaded"].as_bool().unwrap_or(false),
    )
}

fn count(library: &Library<'_>, topic: &str, partitions: i32, total: u64, side: &mut Side) {
    let began = now();
    let words = [
        library.broker.bootstrap(),
        topic.to_owned(),
        partitions.to_string(),
        total.to_string(),
    ];
    let mut bare = Bare::spawn(&[library.role, &words[0], &words[1], &words[2], &words[3]]);
    let [first, last, counted, _, used] = bare.numbers()[..] else {
        panic!("the bare consumer says how it went")
    };
    side.take(began, (first, last), counted, total, Duration::from_nanos(used));
}
