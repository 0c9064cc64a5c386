//! A table as one JSON document: how soon it begins and how fast it comes, to one client beside a bare loop that writes
//! the same bytes, and to many at once: what they cost in memory, and what they do to the deliveries of another stream.

use crate::Options;
use crate::audience::Audience;
use crate::bare::Bare;
use crate::bridge::{Bridge, Launch, PATH};
use crate::chunks::Chunks;
use crate::harness::broker::{Broker, topic_name};
use crate::harness::produce::Message;
use crate::harness::scratch;
use crate::measure::{Meter, median, median_ratio, memory, now, peak, reset_peak};
use crate::produce::{Flow, Source};
use crate::report::{Table, at_least, at_most, figure};
use flate2::read::GzDecoder;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes of a value, and clients that come at once.
const VALUE: usize = 300;
const CLIENTS: usize = 20;

/// Clients of the other stream, and its records.
const OTHERS: usize = 100;
const FLOW: Flow = Flow {
    length: 100,
    pause: Duration::from_millis(20),
    keys: None,
};
const OTHER_PATH: &str = "/other";

/// Most milliseconds until the first byte, least MB/s to one client, and most growth of memory in MiB for all at once.
const MOST_WAIT: f64 = 50.0;
const LEAST_RATE: f64 = 300.0;
const MOST_GROWTH: f64 = 16.0;

/// Long enough for pages that were freed after loading to be given back.
const SETTLE: Duration = Duration::from_secs(12);

const SILENCE: Duration = Duration::from_secs(30);

/// One answer.
struct Answer {
    /// From before the request to the first byte of the body, and to the last, in seconds.
    first: f64,
    whole: f64,
    /// Bytes without the framing.
    bytes: usize,
}

/// Asks for the document, and hands its parts to `each`. It ends with the answer, or with `length` bytes.
fn fetch(port: u16, encoding: &str, length: Option<usize>, mut each: impl FnMut(&[u8])) -> Answer {
    let began = now();
    let since = |time: u64| (time - began) as f64 / 1e9;
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    socket
        .set_read_timeout(Some(SILENCE))
        .expect("a socket with a timeout");
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: bench\r\nAccept: application/json\r\nAccept-Encoding: {encoding}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("the request is sent");
    let (mut chunks, mut buffer) = (Chunks::new(), vec![0; 256 * 1024]);
    let (mut first, mut bytes) = (None, 0);
    while !chunks.is_over() && length != Some(bytes) {
        let read = socket.read(&mut buffer).expect("the answer continues");
        assert!(read > 0, "the server closed the connection");
        chunks.take(&buffer[..read], |part| {
            first.get_or_insert_with(now);
            bytes += part.len();
            each(part);
        });
    }
    Answer {
        first: since(first.expect("an answer has a body")),
        whole: since(now()),
        bytes,
    }
}

/// The figures of one side, one value per round.
#[derive(Default)]
struct Side {
    /// Milliseconds until the first byte.
    first: Vec<f64>,
    /// MB/s of the document.
    rate: Vec<f64>,
    /// Processor seconds per GB of the document.
    cpu: Vec<f64>,
    /// Bytes sent per byte of the document.
    size: Vec<f64>,
    /// 99th percentile of the other stream's latency meanwhile, in ms.
    p99: Vec<f64>,
}

/// A server of the document.
struct Server {
    pid: u32,
    port: u16,
    encoding: &'static str,
    /// Bytes of the document, of which it knows the end itself or not.
    document: usize,
    length: Option<usize>,
    one: Side,
    many: Side,
}

impl Server {
    fn new(pid: u32, port: u16, encoding: &'static str, document: usize) -> Server {
        Server {
            pid,
            port,
            encoding,
            document,
            length: None,
            one: Side::default(),
            many: Side::default(),
        }
    }

    fn fetch(&self) -> Answer {
        fetch(self.port, self.encoding, self.length, |_| ())
    }

    /// One client.
    fn round(&mut self) {
        let meter = Meter::start(self.pid);
        let answer = self.fetch();
        let megabytes = self.document as f64 / 1e6;
        self.one.cpu.push(meter.used().as_secs_f64() / megabytes * 1e3);
        self.one.first.push(answer.first * 1e3);
        self.one.rate.push(megabytes / answer.whole);
        self.one.size.push(answer.bytes as f64 / self.document as f64);
    }

    /// Many clients, who ask again when they have the document, while the other stream is measured.
    fn crowd(&mut self, other: &mut Other, count: usize) {
        let meter = Meter::start(self.pid);
        let (is_over, began) = (AtomicBool::new(false), now());
        let server = &*self;
        let (p99, fetched) = thread::scope(|scope| {
            let clients = [(); CLIENTS].map(|()| {
                scope.spawn(|| {
                    let mut fetched = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        server.fetch();
                        fetched += 1;
                    }
                    fetched
                })
            });
            let p99 = other.round(count);
            is_over.store(true, Ordering::Relaxed);
            (
                p99,
                clients.map(|client| client.join().expect("all documents come")),
            )
        });
        let megabytes = (fetched.iter().sum::<usize>() * self.document) as f64 / 1e6;
        let seconds = (now() - began) as f64 / 1e9;
        self.many.p99.push(p99);
        self.many.rate.push(megabytes / seconds);
        self.many.cpu.push(meter.used().as_secs_f64() / megabytes * 1e3);
    }
}

/// The other stream and its clients.
struct Other {
    source: Source,
    audience: Audience,
}

impl Other {
    /// The 99th percentile of the latency of so many records, in ms.
    fn round(&mut self, count: usize) -> f64 {
        let [receipts] = self.source.round(count, [&mut self.audience]);
        receipts.p99 as f64 / 1e6
    }
}

/// Words of the text in a record: it compresses as texts do.
const WORDS: [&str; 16] = [
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll",
    "larch", "marsh", "north", "ochre", "prairie",
];

fn record(random: &mut SmallRng, key: usize) -> Message {
    let key = format!("key-{key:08}");
    let price: u32 = random.random_range(1..100_000);
    let mut value = format!("{{\"id\":\"{key}\",\"price\":{price}.25,\"tags\":[\"a\",\"b\"],\"text\":\"");
    while value.len() < VALUE - 2 {
        value.push_str(WORDS[random.random_range(0..WORDS.len())]);
        value.push(' ');
    }
    value.truncate(VALUE - 2);
    Message::new(key, value + "\"}")
}

/// Starts a daemon with the table and the other stream.
fn start(broker: &Broker, rows: usize, other: &Source) -> Bridge {
    let topic = topic_name("document");
    broker.create_topic(&topic, 1, &[]);
    // The same in every run.
    let mut random = SmallRng::seed_from_u64(1);
    let records: Vec<Message> = (0..rows).map(|key| record(&mut random, key)).collect();
    for some in records.chunks(50_000) {
        broker.produce(&topic, some);
    }
    let settings = format!(
        "key_field = \"id\"\nlog_bytes = \"4MiB\"\n\
         [[stream]]\npath = \"{OTHER_PATH}\"\ntopics = [\"{}\"]\nstart = \"live\"",
        other.topic()
    );
    let launch = Launch {
        settings: &settings,
        ..Launch::new(&topic, "snapshot")
    };
    launch.start(broker)
}

pub fn run(broker: &Broker, options: &Options) {
    let rows = options.pick(100_000, 10_000);
    let (rounds, crowds, count) = (options.pick(15, 3), options.pick(5, 2), options.pick(250, 50));
    let source = Source::new(broker, "document-other", FLOW);
    let bridge = start(broker, rows, &source);
    let mut other = Other {
        audience: Audience::connect(bridge.port, OTHER_PATH, OTHERS),
        source,
    };
    other.round(count);
    thread::sleep(SETTLE);
    let rest = memory(bridge.pid()).rss;
    reset_peak(bridge.pid());

    let (mut document, mut packed) = (Vec::new(), Vec::new());
    fetch(bridge.port, "identity", None, |part| {
        document.extend_from_slice(part);
    });
    fetch(bridge.port, "gzip", None, |part| packed.extend_from_slice(part));
    check(&document, &packed, rows);

    // The bare loop sends the very same.
    let directory = scratch::directory("document");
    let file = directory.path().join("document");
    std::fs::write(&file, &document).expect("a file");
    let mut bare = Bare::spawn(&["blocks", file.to_str().expect("a path in UTF-8")]);
    let length = document.len();
    let bare_port = bare.port();
    let mut plain = Server::new(bridge.pid(), bridge.port, "identity", length);
    let mut gzip = Server::new(bridge.pid(), bridge.port, "gzip", length);
    let mut theirs = Server {
        length: Some(length),
        ..Server::new(bare.pid(), bare_port, "identity", length)
    };
    for _ in 0..rounds {
        plain.round();
        theirs.round();
        gzip.round();
    }
    let mut quiet = Vec::new();
    for _ in 0..crowds {
        quiet.push(other.round(count));
        plain.crowd(&mut other, count);
        theirs.crowd(&mut other, count);
        gzip.crowd(&mut other, count);
    }
    let growth = peak(bridge.pid()).saturating_sub(rest) as f64 / 1024.0;
    print(rows, length, [&plain, &theirs, &gzip], &quiet, growth);
}

/// Asserts that both are documents of so many rows, and the same ones.
fn check(document: &[u8], packed: &[u8], rows: usize) {
    let mut unpacked = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut unpacked).expect("gzip");
    let rows_of = |document: &[u8]| {
        let mut document: serde_json::Value = serde_json::from_slice(document).expect("JSON");
        document["rows"].take()
    };
    let ours = rows_of(document);
    assert_eq!(ours.as_array().map(Vec::len), Some(rows), "every row");
    assert!(ours == rows_of(&unpacked), "the same rows in gzip");
}

fn print(rows: usize, length: usize, sides: [&Server; 3], quiet: &[f64], growth: f64) {
    let [plain, bare, gzip] = sides;
    let mut table = Table::new(&["", "plain", "bare loop", "gzip", "ratio or most", "target"]);
    let mut row = |name: &str, of: fn(&Server) -> &Vec<f64>, figures: (f64, String)| {
        let cells = [plain, bare, gzip].map(|side| figure(median(of(side))));
        let (value, target) = figures;
        table.row(&[vec![name.to_owned()], cells.to_vec(), vec![figure(value), target]].concat());
    };
    let to_bare = |of: fn(&Server) -> &Vec<f64>| (median_ratio(of(plain), of(bare)), String::new());
    let slowest = plain.one.first.iter().copied().fold(f64::NAN, f64::max);
    row(
        "first byte, ms (the slowest)",
        |side| &side.one.first,
        (slowest, at_most(slowest, MOST_WAIT)),
    );
    let rate = median(&plain.one.rate);
    row(
        "one client: MB/s of the document (to bare loop)",
        |side| &side.one.rate,
        (to_bare(|side| &side.one.rate).0, at_least(rate, LEAST_RATE)),
    );
    row(
        "processor s per GB of it",
        |side| &side.one.cpu,
        to_bare(|side| &side.one.cpu),
    );
    row(
        "bytes sent per byte of it",
        |side| &side.one.size,
        to_bare(|side| &side.one.size),
    );
    row(
        &format!("{CLIENTS} clients: MB/s of the document"),
        |side| &side.many.rate,
        to_bare(|side| &side.many.rate),
    );
    row(
        "processor s per GB of it",
        |side| &side.many.cpu,
        to_bare(|side| &side.many.cpu),
    );
    row(
        "another stream's p99 meanwhile, ms",
        |side| &side.many.p99,
        to_bare(|side| &side.many.p99),
    );
    let mut single = |name: &str, value: f64, target: String| {
        let empty = String::new;
        table.row(&[name.to_owned(), figure(value), empty(), empty(), empty(), target]);
    };
    single("its p99 without, ms", median(quiet), String::new());
    single(
        "most growth of memory in all rounds, MiB",
        growth,
        at_most(growth, MOST_GROWTH),
    );
    table.print(&format!(
        "document: {rows} rows, {} MB, {} rounds of one client, {} of {CLIENTS}",
        figure(length as f64 / 1e6),
        plain.one.rate.len(),
        quiet.len()
    ));
}
