//! The same deliveries over HTTP/1.1, over HTTP/1.1 with TLS, and over HTTP/2 with TLS: processor time per delivery,
//! and the memory of an idle client with TLS.

use crate::Options;
use crate::bridge::{Bridge, Launch, PATH};
use crate::fanout::{CLIENTS, FLOW};
use crate::harness::broker::{Broker, free_port};
use crate::harness::certificates::Certificates;
use crate::harness::gateway::{Link, connect_tls, trusting};
use crate::measure::{Meter, median, median_ratio, memory};
use crate::produce::Source;
use crate::report::{Table, at_most, figure};
use bytes::Bytes;
use memchr::memmem::Finder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// Most processor time per delivery over TLS, as a multiple of that without.
const MOST_CPU: f64 = 2.2;

/// Most KiB per idle client with TLS.
const MOST_MEMORY: f64 = 40.0;

/// Streams of HTTP/2 share this many connections.
const CONNECTIONS: usize = 10;

/// How long a round's records may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough for pages that were freed to be given back, or not.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    Tls,
    Http2,
}

const ALL: [Transport; 3] = [Transport::Plain, Transport::Tls, Transport::Http2];

/// The deliveries of all clients.
#[derive(Default)]
struct Tally {
    opened: AtomicU64,
    delivered: AtomicU64,
    ended: AtomicU64,
}

/// Counts the events of one stream.
struct Counter {
    tally: Arc<Tally>,
    opened: Finder<'static>,
    record: Finder<'static>,
    /// The end of the text, which may be the beginning of a mark.
    carry: Vec<u8>,
}

const OPENED: &str = "event: caught-up\n";
const RECORD: &str = "data: @bench ";

impl Counter {
    fn new(tally: &Arc<Tally>) -> Counter {
        Counter {
            tally: Arc::clone(tally),
            opened: Finder::new(OPENED),
            record: Finder::new(RECORD),
            carry: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.carry.extend_from_slice(bytes);
        let opened = self.opened.find_iter(&self.carry).count() as u64;
        let records = self.record.find_iter(&self.carry).count() as u64;
        self.tally.opened.fetch_add(opened, Ordering::Relaxed);
        self.tally.delivered.fetch_add(records, Ordering::Relaxed);
        // A mark ends at a line's end or a blank, so what is behind the last of these was not counted.
        let end = self
            .carry
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.carry.drain(..end);
        if self.carry.starts_with(RECORD.as_bytes()) {
            // Counted, and its line has not ended.
            self.carry.clear();
        }
    }
}

/// Clients of one transport, in a runtime of their own.
struct Listeners {
    runtime: Option<Runtime>,
    tally: Arc<Tally>,
    count: u64,
}

impl Listeners {
    fn connect(transport: Transport, port: u16, ca: &[u8], count: usize) -> Listeners {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let tally = Arc::<Tally>::default();
        let connections = if transport == Transport::Http2 {
            CONNECTIONS
        } else {
            count
        };
        let protocol: &[u8] = if transport == Transport::Http2 {
            b"h2"
        } else {
            b"http/1.1"
        };
        let config = trusting(ca, &[protocol]);
        for _ in 0..connections {
            let link = runtime.block_on(async {
                match transport {
                    Transport::Plain => {
                        Link::Plain(TcpStream::connect(("127.0.0.1", port)).await.expect("it listens"))
                    }
                    Transport::Tls | Transport::Http2 => {
                        connect_tls(port, Arc::clone(&config)).await.expect("a handshake")
                    }
                }
            });
            if transport == Transport::Http2 {
                runtime.block_on(multiplex(link, count / CONNECTIONS, &tally));
            } else {
                runtime.spawn(follow(link, Arc::clone(&tally)));
            }
        }
        let listeners = Listeners {
            runtime: Some(runtime),
            tally,
            count: count as u64,
        };
        listeners.wait_for(|tally| tally.opened.load(Ordering::Relaxed) == listeners.count);
        listeners
    }

    fn wait_for(&self, is_so: impl Fn(&Tally) -> bool) {
        let began = Instant::now();
        while !is_so(&self.tally) {
            assert_eq!(self.tally.ended.load(Ordering::Relaxed), 0, "no stream ends");
            assert!(
                began.elapsed() < PATIENCE,
                "{} opened, {} delivered",
                self.tally.opened.load(Ordering::Relaxed),
                self.tally.delivered.load(Ordering::Relaxed)
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until every client has `count` records more than at `before`.
    fn receive(&self, before: u64, count: usize) {
        let all = before + self.count * count as u64;
        self.wait_for(|tally| tally.delivered.load(Ordering::Relaxed) >= all);
        assert_eq!(self.delivered(), all, "each once");
    }

    fn delivered(&self) -> u64 {
        self.tally.delivered.load(Ordering::Relaxed)
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Reads a stream of HTTP/1.1 until it ends.
async fn follow(mut link: Link, tally: Arc<Tally>) {
    let mut counter = Counter::new(&tally);
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n");
    if link.write_all(request.as_bytes()).await.is_ok() {
        let mut buffer = vec![0; 2048];
        while let Ok(count @ 1..) = link.read(&mut buffer).await {
            counter.take(&buffer[..count]);
        }
    }
    tally.ended.fetch_add(1, Ordering::Relaxed);
}

/// Opens so many streams on one connection of HTTP/2.
async fn multiplex(link: Link, count: usize, tally: &Arc<Tally>) {
    // The bench counts on one thread, later than frames arrive: no number of small ones is an attack.
    let (client, connection): (h2::client::SendRequest<Bytes>, _) = h2::client::Builder::new()
        .data_frame_budget(usize::MAX)
        .handshake(link)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    for _ in 0..count {
        let request = http::Request::get(format!("https://127.0.0.1{PATH}")).body(());
        let mut ready = client.clone().ready().await.expect("it is open");
        let (response, _) = ready
            .send_request(request.expect("a request"), true)
            .expect("sent");
        let mut counter = Counter::new(tally);
        tokio::spawn(async move {
            let mut body = response.await.expect("a response").into_body();
            while let Some(Ok(data)) = body.data().await {
                counter.take(&data);
                let _ = body.flow_control().release_capacity(data.len());
            }
            counter.tally.ended.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// A daemon with TLS, and its clients.
struct Side {
    source: Source,
    bridge: Bridge,
    listeners: Listeners,
    cpu: Vec<f64>,
}

fn launch(broker: &Broker, topic: &str, certificates: &Certificates) -> (Bridge, u16) {
    let port = free_port();
    let section = certificates
        .section("")
        .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let launch = Launch {
        settings: &section,
        ..Launch::new(topic, "live")
    };
    (launch.start(broker), port)
}

impl Side {
    fn start(broker: &Broker, transport: Transport, certificates: &Certificates) -> Side {
        let source = Source::new(broker, "transports", FLOW);
        let (bridge, tls) = launch(broker, source.topic(), certificates);
        let port = if transport == Transport::Plain {
            bridge.port
        } else {
            tls
        };
        let listeners = Listeners::connect(transport, port, &certificates.ca(), CLIENTS);
        Side {
            source,
            bridge,
            listeners,
            cpu: Vec::new(),
        }
    }

    fn round(&mut self, count: usize) {
        let before = self.listeners.delivered();
        let meter = Meter::start(self.bridge.pid());
        let [] = self.source.round(count, []);
        self.listeners.receive(before, count);
        let deliveries = (count * CLIENTS) as f64;
        self.cpu.push(meter.used().as_nanos() as f64 / 1e3 / deliveries);
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(250, 100);
    let rounds = options.pick(7, 3);
    let certificates = Certificates::new();
    let mut sides = ALL.map(|transport| Side::start(broker, transport, &certificates));
    // Warms everything up, and does not count.
    for side in &mut sides {
        side.round(count);
        side.cpu.clear();
    }
    for _ in 0..rounds {
        for side in &mut sides {
            side.round(count);
        }
    }
    let [plain, tls, http2] = sides.each_ref().map(|side| &side.cpu);
    let mut table = Table::new(&["", "µs per delivery", "ratio to HTTP/1.1", "target"]);
    for (name, cpu, most) in [
        ("HTTP/1.1", plain, None),
        ("HTTP/1.1 with TLS", tls, Some(MOST_CPU)),
        ("HTTP/2 with TLS, 10 connections", http2, None),
    ] {
        let ratio = median_ratio(cpu, plain);
        table.row(&[
            name.to_owned(),
            figure(median(cpu)),
            figure(ratio),
            most.map_or_else(String::new, |most| at_most(ratio, most)),
        ]);
    }
    table.print(&format!(
        "transports: {CLIENTS} clients, 50 records/s of 100 bytes, {rounds} rounds of {count} records"
    ));
    drop(sides);
    idle(broker, options, &certificates);
}

fn idle(broker: &Broker, options: &Options, certificates: &Certificates) {
    let count = options.pick(5000, 1000);
    let mut source = Source::new(broker, "transports-idle", FLOW);
    let (bridge, port) = launch(broker, source.topic(), certificates);
    // A few clients that come and go have every thread set up what it needs.
    drop(Listeners::connect(Transport::Tls, port, &certificates.ca(), 100));
    thread::sleep(SETTLE);
    let before = memory(bridge.pid());
    let listeners = Listeners::connect(Transport::Tls, port, &certificates.ca(), count);
    let start = listeners.delivered();
    let [] = source.round(20, []);
    listeners.receive(start, 20);
    thread::sleep(SETTLE);
    let after = memory(bridge.pid());
    let each = (after.rss as f64 - before.rss as f64) / count as f64;
    let mut table = Table::new(&["", "KiB each", "target"]);
    table.row(&[
        "after 20 records to each".to_owned(),
        figure(each),
        at_most(each, MOST_MEMORY),
    ]);
    table.print(&format!("transports: {count} idle clients with TLS"));
}
