//! One client that reads a byte per second among a thousand: its effect on the others' latency.

use crate::Options;
use crate::audience::Audience;
use crate::bridge::{Bridge, Launch, PATH};
use crate::drain::request;
use crate::fanout::{CLIENTS, Side, round};
use crate::harness::broker::Broker;
use crate::measure::send_queue;
use crate::produce::{Flow, Source};
use crate::report::{Table, at_most};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Records that fill the buffers on the way to the slow client within a round.
const FLOW: Flow = Flow {
    length: 1000,
    pause: Duration::from_millis(20),
    keys: None,
};

/// Receive buffer of the slow client, in bytes.
const BUFFER: usize = 4096;

/// From one byte to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// A client that reads so slowly is closed otherwise: the kernel frees space in steps.
const HTTP: &str = "write_timeout = \"30m\"";

/// Most latency, as a multiple of that without the slow client: as much, but for what two daemons differ by.
const MOST: f64 = 1.1;

/// The slow client, until it is dropped.
struct Straggler {
    port: u16,
    end: Option<mpsc::Sender<()>>,
    reading: Option<JoinHandle<()>>,
}

impl Straggler {
    fn connect(server: u16) -> Straggler {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(BUFFER).expect("a small buffer");
        socket
            .connect(&SocketAddr::from(([127, 0, 0, 1], server)).into())
            .expect("a connection");
        let mut socket = TcpStream::from(socket);
        socket
            .write_all(request(PATH, None).as_bytes())
            .expect("the request is sent");
        let port = socket.local_addr().expect("an address").port();
        let (end, ended) = mpsc::channel();
        let reading = thread::spawn(move || {
            while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                socket.read_exact(&mut [0]).expect("the stream stays open");
            }
        });
        Straggler {
            port,
            end: Some(end),
            reading: Some(reading),
        }
    }

    /// The stream waits for the client, so its connection takes no more.
    fn assert_behind(&self, server: u16) {
        assert!(
            send_queue(server, self.port) > 0,
            "the slow client holds its stream up"
        );
    }
}

impl Drop for Straggler {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(Err(error)) = self.reading.take().map(JoinHandle::join) {
            std::panic::resume_unwind(error);
        }
    }
}

/// A daemon with a thousand clients that read.
struct Party {
    source: Source,
    bridge: Bridge,
    audience: Audience,
    side: Side,
}

impl Party {
    fn new(broker: &Broker) -> Party {
        let source = Source::new(broker, "straggler", FLOW);
        let launch = Launch {
            http: HTTP,
            ..Launch::new(source.topic(), "live")
        };
        let bridge = launch.start(broker);
        Party {
            audience: Audience::connect(bridge.port, PATH, CLIENTS),
            source,
            bridge,
            side: Side::default(),
        }
    }

    fn round(&mut self, count: usize) {
        let pid = self.bridge.pid();
        round(&mut self.source, pid, &mut self.audience, count, &mut self.side);
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(250, 100);
    let rounds = options.pick(12, 3);
    let mut parties = [Party::new(broker), Party::new(broker)];
    let server = parties[0].bridge.port;
    let straggler = Straggler::connect(server);
    // Warms everything up, fills the slow client's buffers, and does not count.
    for party in &mut parties {
        party.round(500);
        party.side = Side::default();
    }
    straggler.assert_behind(server);
    for number in 0..rounds {
        // The order alternates from pair to pair.
        let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        for party in order {
            parties[party].round(count);
        }
    }
    straggler.assert_behind(server);
    drop(straggler);
    let [with, without] = parties.each_ref().map(|party| &party.side);
    let mut table = Table::new(&["", "with it", "without", "ratio", "target"]);
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>, most: Option<f64>| {
        table.compare(name, of(with), of(without), |ratio| Some(at_most(ratio, most?)));
    };
    row("latency p50, ms", |side| &side.p50, None);
    row("latency p99, ms", |side| &side.p99, Some(MOST));
    row("processor per delivery, µs", |side| &side.cpu, None);
    table.print(&format!(
        "straggler: one client that reads a byte per second beside {CLIENTS}, {} records/s of {} bytes, {rounds} rounds of \
         {count} records",
        1000 / FLOW.pause.as_millis(),
        FLOW.length
    ));
}
