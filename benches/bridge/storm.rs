//! A whole audience comes back at once, and each wants the same megabytes: from memory, beside a bare
//! loop that writes as much to as many; and from Kafka, where the broker should hardly notice.

use crate::audience::{check, value};
use crate::bare::Bare;
use crate::bridge::{Launch, PATH};
use crate::drain::{self, Drained, Goal, fetch, request};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::produce::Message;
use crate::harness::scratch;
use crate::measure::{cpu, median, median_ratio, memory, peak, reset_peak, written};
use crate::report::{Table, at_least, at_most, figure};
use crate::{Options, Target};

const CLIENTS: usize = 200;
const VALUE: usize = 1000;

/// Most times that the range is read from the broker, and most growth of the daemon in MiB.
const MOST_READS: f64 = 2.0;
const MOST_GROWTH: f64 = 64.0;

/// The figures of one side, one value per round.
#[derive(Default)]
pub struct Side {
    /// GB/s over all clients.
    pub rate: Vec<f64>,
    /// From the first request to the last client's last byte.
    pub seconds: Vec<f64>,
    /// Processor seconds per GB.
    pub cpu: Vec<f64>,
    /// Peak of resident memory over that before the first round, in MiB.
    pub growth: Vec<f64>,
    /// How many times as many bytes the broker sent as when the range is read once.
    reads: Vec<f64>,
}

/// The clients, the request of each, and when each has everything.
pub struct Storm<'a> {
    pub clients: usize,
    pub request: &'a str,
    pub goal: Goal,
}

/// A server that storms come over.
pub struct Server {
    pid: u32,
    port: u16,
    /// Resident memory before the first storm, in KiB.
    rest: u64,
    pub side: Side,
}

impl Server {
    pub fn new(pid: u32, port: u16) -> Server {
        Server {
            pid,
            port,
            rest: memory(pid).rss,
            side: Side::default(),
        }
    }

    pub fn storm(&mut self, storm: &Storm<'_>) {
        reset_peak(self.pid);
        let before = cpu(self.pid);
        let Drained { seconds, bytes } = drain::storm(self.port, storm.request, storm.clients, storm.goal);
        let used = cpu(self.pid).saturating_sub(before);
        let gigabytes = bytes as f64 / 1e9;
        self.side.rate.push(gigabytes / seconds);
        self.side.seconds.push(seconds);
        self.side.cpu.push(used.as_secs_f64() / gigabytes);
        let grown = peak(self.pid).saturating_sub(self.rest);
        self.side.growth.push(grown as f64 / 1024.0);
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let records = options.pick(20_000, 2000);
    let rounds = options.pick(5, 2);
    let topic = topic_name("storm");
    broker.create_topic(&topic, 1, &[]);
    let messages: Vec<Message> = (1..=records)
        .map(|number| Message::value(value(number, 0, VALUE)).partition(0))
        .collect();
    broker.produce(&topic, &messages);

    let in_memory = Launch::new(&topic, "earliest").start(broker);
    // They resume with the id of the first record.
    let all = fetch(in_memory.port, &request(&format!("{PATH}?start=earliest"), None));
    check(&all, 1, records);
    let request = request(PATH, Some(&first_id(&all)));
    let payload = fetch(in_memory.port, &request);
    check(&payload, 2, records - 1);

    // The bare loop sends the very same.
    let directory = scratch::directory("storm");
    let file = directory.path().join("payload");
    std::fs::write(&file, &payload).expect("payload");
    let mut bare = Bare::spawn(&["blocks", file.to_str().expect("a path in UTF-8")]);
    let bare_port = bare.port();

    let mut ours = Server::new(in_memory.pid(), in_memory.port);
    let mut theirs = Server::new(bare.pid(), bare_port);
    let storm = Storm {
        clients: CLIENTS,
        request: &request,
        goal: Goal::Payload(payload.len()),
    };
    for _ in 0..rounds {
        ours.storm(&storm);
        in_memory.wait_alone();
        theirs.storm(&storm);
    }
    drop(in_memory);

    let from_kafka = from_kafka(broker, &topic, records, &storm, rounds);
    // The least part of the bare loop's throughput, from memory.
    let least = options.target(&Target::by_driver(0.5, 0.95, 1.0));
    print(payload.len(), least, [&ours.side, &theirs.side, &from_kafka]);
}

/// The same storm over a daemon whose log holds nearly nothing of it.
fn from_kafka(broker: &Broker, topic: &str, records: u64, storm: &Storm<'_>, rounds: usize) -> Side {
    let launch = Launch {
        settings: "log_bytes = \"512KiB\"",
        ..Launch::new(topic, "live")
    };
    let bridge = launch.start(broker);
    let mut server = Server::new(bridge.pid(), bridge.port);
    // Bytes from the broker are counted where they are sent, and those of one reading, by a consumer that reads
    // everything once.
    let sent = |act: &mut dyn FnMut()| {
        let before = written(broker.pid());
        act();
        (written(broker.pid()) - before) as f64
    };
    let once = sent(&mut || {
        let mut bare = Bare::spawn(&["count", &broker.bootstrap(), topic, "1", &records.to_string()]);
        let said = bare.numbers();
        assert_eq!(said.get(2), Some(&records), "the bare consumer read everything");
    });
    let least = records as f64 * VALUE as f64;
    assert!(
        once > least,
        "the broker's counter shows what it sends: {once} of {least}"
    );
    for _ in 0..rounds {
        let bytes = sent(&mut || {
            server.storm(storm);
            bridge.wait_alone();
        });
        server.side.reads.push(bytes / once);
    }
    server.side
}

/// The id of the first record.
fn first_id(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    let id = text.lines().find_map(|line| line.strip_prefix("id: "));
    id.expect("events have ids").to_owned()
}

fn print(payload: usize, least: Option<f64>, sides: [&Side; 3]) {
    let rounds = sides[0].rate.len();
    let mut table = Table::new(&[
        "",
        "from memory",
        "bare loop",
        "from Kafka",
        "ratio or most",
        "target",
    ]);
    let most = |values: &[f64]| values.iter().copied().fold(f64::NAN, f64::max);
    let mut row = |name: &str, cells: [f64; 3], figures: Option<(f64, String)>| {
        let (value, target) =
            figures.map_or_else(Default::default, |(value, target)| (figure(value), target));
        let cells = cells.map(|cell| {
            if cell.is_nan() {
                String::new()
            } else {
                figure(cell)
            }
        });
        table.row(&[vec![name.to_owned()], cells.to_vec(), vec![value, target]].concat());
    };
    let middle = |of: fn(&Side) -> &Vec<f64>| sides.map(|side| median(of(side)));
    let ratio = median_ratio(&sides[0].rate, &sides[1].rate);
    row(
        "GB/s (memory to bare loop)",
        middle(|side| &side.rate),
        Some((
            ratio,
            least.map_or_else(String::new, |least| at_least(ratio, least)),
        )),
    );
    row("seconds", middle(|side| &side.seconds), None);
    row("processor s per GB", middle(|side| &side.cpu), None);
    let growth = sides.map(|side| most(&side.growth));
    row(
        "most growth of memory, MiB (from Kafka)",
        growth,
        Some((growth[2], at_most(growth[2], MOST_GROWTH))),
    );
    let reads = most(&sides[2].reads);
    row(
        "range read from the broker, times",
        [f64::NAN, f64::NAN, median(&sides[2].reads)],
        Some((reads, at_most(reads, MOST_READS))),
    );
    table.print(&format!(
        "storm: {CLIENTS} clients at once, {} MB to each, {rounds} rounds",
        figure(payload as f64 / 1e6)
    ));
}
