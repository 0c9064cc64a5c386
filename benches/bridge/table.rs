//! The cost of a table compared with the cost that the daemon reports: growth of resident memory over growth of the bytes
//! that `/streams` names, with small keys, fresh and after updates in random order.

use crate::Options;
use crate::bridge::{Asker, Bridge, Launch};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::produce::Message;
use crate::measure::memory;
use crate::report::{Table, at_most, figure};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::thread;
use std::time::{Duration, Instant};

/// Most growth of resident memory, as a multiple of the growth of what is counted.
const MOST: f64 = 1.15;

/// Bytes of a value; a frame has some more.
const VALUE: usize = 64;

/// Records in one go of the producer.
const CHUNK: usize = 50_000;

/// Records of one key that fill the log, and have every thread set up what it needs.
const FIRST: usize = 400_000;

/// How often all keys are written again.
const UPDATES: usize = 3;

/// Long enough for pages that were freed to be given back.
const SETTLE: Duration = Duration::from_secs(12);

const PATIENCE: Duration = Duration::from_secs(120);

/// A log that the first records fill, and a table that all keys fit into.
const SETTINGS: &str = "log_bytes = \"16MiB\"\nmax_keys = 2_000_000\nmax_table_bytes = \"1GiB\"";

/// Bytes of the daemon.
#[derive(Clone, Copy)]
struct Use {
    resident: f64,
    counted: f64,
}

pub fn run(broker: &Broker, options: &Options) {
    let keys = options.pick(1_200_000, 200_000);
    let topic = topic_name("table");
    broker.create_topic(&topic, 1, &[]);
    let launch = Launch {
        settings: SETTINGS,
        ..Launch::new(&topic, "snapshot")
    };
    let bridge = launch.start(broker);
    let mut asker = bridge.asker().expect("a connection");
    let mut written = 0;
    let mut write = |keys: &[usize]| {
        for some in keys.chunks(CHUNK) {
            let records: Vec<Message> = some.iter().map(|&key| record(key)).collect();
            broker.produce(&topic, &records);
            written += some.len();
        }
        settled(&bridge, &mut asker, written as u64)
    };
    let before = write(&vec![0; FIRST]);
    let mut table = Table::new(&["", "resident, MiB", "counted, MiB", "ratio", "target"]);
    let mut row = |name: &str, now: Use| {
        let resident = now.resident - before.resident;
        let counted = now.counted - before.counted;
        table.row(&[
            name.to_owned(),
            figure(resident / f64::from(1 << 20)),
            figure(counted / f64::from(1 << 20)),
            figure(resident / counted),
            at_most(resident / counted, MOST),
        ]);
    };
    let mut order: Vec<usize> = (0..keys).collect();
    // The same order in every run.
    let mut random = SmallRng::seed_from_u64(1);
    order.shuffle(&mut random);
    row("every key once", write(&order));
    for _ in 1..UPDATES {
        order.shuffle(&mut random);
        write(&order);
    }
    order.shuffle(&mut random);
    row(
        &format!("every key {UPDATES} times more, in random order"),
        write(&order),
    );
    table.print(&format!(
        "table: {keys} keys of 20 bytes with values of {VALUE} bytes, growth of the daemon's memory"
    ));
}

fn record(key: usize) -> Message {
    Message::new(format!("key-{key:016}"), format!("{key:0>VALUE$}"))
}

/// Waits until the stream has so many records, and memory has settled.
fn settled(bridge: &Bridge, asker: &mut Asker, records: u64) -> Use {
    let began = Instant::now();
    while stream(asker)["records"].as_u64().unwrap_or(0) < records {
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {records} records"
        );
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(SETTLE);
    let stream = stream(asker);
    let bytes = |part: &str| stream[part]["bytes"].as_u64().expect("a number of bytes");
    Use {
        resident: (memory(bridge.pid()).rss * 1024) as f64,
        counted: (bytes("table") + bytes("log")) as f64,
    }
}

fn stream(asker: &mut Asker) -> serde_json::Value {
    let (_, body) = asker.get("/streams").expect("the daemon answers");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    answer["streams"][0].clone()
}
