//! Streams that are opened and closed again as soon as they have begun, beside a bare loop that accepts, answers with the
//! opening and forgets.

use crate::Options;
use crate::audience::OPENED;
use crate::bare::Bare;
use crate::bridge::{Launch, PATH};
use crate::drain::request;
use crate::harness::broker::{Broker, topic_name};
use crate::measure::{Meter, median, median_ratio, now};
use crate::report::{Table, figure};
use memchr::memmem::Finder;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Streams that are open at the same time.
const AT_ONCE: usize = 64;

/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes of an opening, at most.
const OPENING: usize = 16 * 1024;

/// Per round: opens and closes per second, and µs of the server's processor time for each.
#[derive(Default)]
struct Side {
    rate: Vec<f64>,
    cpu: Vec<f64>,
}

struct Server {
    pid: u32,
    port: u16,
    request: String,
    side: Side,
}

impl Server {
    fn new(pid: u32, port: u16, path: &str) -> Server {
        Server {
            pid,
            port,
            request: request(path, None),
            side: Side::default(),
        }
    }

    fn round(&mut self, count: usize) {
        let meter = Meter::start(self.pid);
        let began = now();
        churn(self.port, &self.request, count);
        let seconds = (now() - began) as f64 / 1e9;
        self.side.rate.push(count as f64 / seconds);
        self.side
            .cpu
            .push(meter.used().as_nanos() as f64 / 1e3 / count as f64);
    }
}

/// A stream whose opening has not come whole.
struct Opening {
    socket: TcpStream,
    text: Vec<u8>,
}

impl Opening {
    fn begin(epoll: &OwnedFd, place: usize, port: u16, request: &str) -> Opening {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        socket.write_all(request.as_bytes()).expect("the request is sent");
        let token = epoll::EventData::new_u64(place as u64);
        epoll::add(epoll, &socket, token, epoll::EventFlags::IN).expect("epoll");
        Opening {
            socket,
            text: Vec::new(),
        }
    }
}

/// Opens `count` streams, some at once, and closes each when its opening has come.
fn churn(port: u16, request: &str, count: usize) {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let opened = Finder::new(OPENED);
    let mut open: Vec<Option<Opening>> = (0..AT_ONCE.min(count))
        .map(|place| Some(Opening::begin(&epoll, place, port, request)))
        .collect();
    let (mut begun, mut ended) = (open.len(), 0);
    let mut buffer = vec![0; OPENING];
    let mut events: Vec<epoll::Event> = Vec::with_capacity(AT_ONCE);
    let patience = Timespec::try_from(SILENCE).expect("a short time");
    while ended < count {
        events.clear();
        let ready = epoll::wait(&epoll, spare_capacity(&mut events), Some(&patience)).expect("epoll");
        assert!(ready > 0, "{} streams never opened", count - ended);
        for event in &events {
            let place: usize = event.data.u64().try_into().expect("a place");
            let Some(opening) = &mut open[place] else { continue };
            let read = opening.socket.read(&mut buffer).expect("the stream stays open");
            assert!(read > 0, "the server closed a stream");
            opening.text.extend_from_slice(&buffer[..read]);
            if opened.find(&opening.text).is_none() {
                continue;
            }
            ended += 1;
            open[place] = (begun < count).then(|| Opening::begin(&epoll, place, port, request));
            begun += usize::from(open[place].is_some());
        }
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(20_000, 4000);
    let rounds = options.pick(7, 2);
    let topic = topic_name("churn");
    broker.create_topic(&topic, 1, &[]);
    let bridge = Launch::new(&topic, "live").start(broker);
    let mut bare = Bare::spawn(&["loop", "100", "0"]);
    let bare_port = bare.port();
    let mut ours = Server::new(bridge.pid(), bridge.port, PATH);
    let mut theirs = Server::new(bare.pid(), bare_port, "/");
    // The first pair warms everything up.
    for number in 0..=rounds {
        if number == 1 {
            (ours.side, theirs.side) = (Side::default(), Side::default());
        }
        ours.round(count);
        bridge.wait_alone();
        theirs.round(count);
    }
    let mut table = Table::new(&["", "bridge", "bare loop", "ratio"]);
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>| {
        let (ours, theirs) = (of(&ours.side), of(&theirs.side));
        table.row(&[
            name.to_owned(),
            figure(median(ours)),
            figure(median(theirs)),
            figure(median_ratio(ours, theirs)),
        ]);
    };
    row("opens and closes per s", |side| &side.rate);
    row("processor µs for each", |side| &side.cpu);
    table.print(&format!(
        "churn: streams opened and closed, {AT_ONCE} at once, {rounds} rounds of {count}"
    ));
}
