//! The client side, the same for the daemon and for the programs that it is compared with: any number of
//! connections in one thread over epoll, each of which must get every record that is meant for it
//! once and in order, and no other.

use crate::measure::{now, percentile};
use memchr::memmem::Finder;
use memchr::memrchr;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The prefix of every record's value; its number and its time follow, 16 hex digits each.
const MARK: &str = "@bench ";

/// The prefix of records' `data:` lines, and the event that ends the opening of a stream.
const RECORD: &str = "data: @bench ";
pub const OPENED: &str = "event: caught-up\n";

/// How long nothing may come before the rest is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// The value of a record, `length` bytes long.
pub fn value(number: u64, time: u64, length: usize) -> String {
    let stamp = format!("{MARK}{number:016x} {time:016x} ");
    format!("{stamp:x<length$}")
}

/// The key of a record where `keys` of them take turns.
pub fn key(number: u64, keys: u64) -> String {
    format!("key-{}", number % keys)
}

fn stamp(text: &[u8]) -> Option<(u64, u64)> {
    let hex = |range| u64::from_str_radix(std::str::from_utf8(text.get(range)?).ok()?, 16).ok();
    Some((hex(0..16)?, hex(17..33)?))
}

/// The buffer of one call of epoll_wait.
fn event_buffer() -> Vec<epoll::Event> {
    Vec::with_capacity(256)
}

fn index(number: u64) -> usize {
    number.try_into().expect("a small number")
}

struct Client {
    socket: TcpStream,
    /// The beginning of a line whose end has not come.
    carry: Vec<u8>,
    /// The number of the next record that is meant for it.
    next: u64,
}

/// The records of one round.
pub struct Receipts {
    pub deliveries: u64,
    /// Percentiles of the time from the stamp in a record to its receipt, in ns.
    pub p50: u64,
    pub p99: u64,
    /// When the first client received each record, and the last one.
    pub spans: Vec<(u64, u64)>,
    /// Bytes on the wire.
    pub bytes: u64,
}

impl Receipts {
    /// Bytes on the wire per delivery.
    pub fn bytes_each(&self) -> u64 {
        self.bytes / self.deliveries
    }
}

/// From the first client's receipt of a record to the last one's, in ns: the median over the records.
pub fn spread(spans: &[(u64, u64)]) -> u64 {
    let mut spreads: Vec<u64> = spans.iter().map(|(first, last)| last - first).collect();
    spreads.sort_unstable();
    percentile(&spreads, 50)
}

/// Clients that can be measured: those of this process, or of another one (see `receivers`).
pub trait Receive: Send {
    /// Receives `count` records, numbered from `first`: each on those connections that it is meant for.
    ///
    /// # Panics
    /// When one is missing, comes twice, in the wrong order, or to somebody else.
    fn receive(&mut self, first: u64, count: usize) -> Receipts;
}

/// Connected clients.
pub struct Audience {
    epoll: OwnedFd,
    clients: Vec<Client>,
    /// How many clients, or streams, share the records: of so many successive ones each gets one. 1 where
    /// every client gets every record.
    shares: u64,
    finder: Finder<'static>,
    buffer: Vec<u8>,
}

impl Audience {
    /// Opens `count` streams that show everything, and waits until each is at the head.
    pub fn connect(port: u16, path: &str, count: usize) -> Audience {
        Audience::open(port, 1, (0..count).map(|_| path.to_owned()))
    }

    /// Opens `count` streams that go round `paths`, as the records do.
    pub fn connect_to_streams(port: u16, paths: &[String], count: usize) -> Audience {
        let turns = paths.iter().cloned().cycle().take(count);
        Audience::open(port, paths.len() as u64, turns)
    }

    /// Opens a stream for each of `keys` that take turns, filtered by it.
    pub fn connect_by_key(port: u16, path: &str, keys: u64) -> Audience {
        let paths = (0..keys).map(|turn| format!("{path}?key={}", key(turn, keys)));
        Audience::open(port, keys, paths)
    }

    /// Opens `count` streams that are filtered by keys that no record has.
    pub fn connect_quiet(port: u16, path: &str, count: u64) -> Audience {
        Audience::open(
            port,
            count,
            (0..count).map(|index| format!("{path}?key=quiet-{index}")),
        )
    }

    /// Opens `count` streams, each filtered by a path of its own, with a value that no record has there.
    pub fn connect_by_path(port: u16, path: &str, count: usize) -> Audience {
        Audience::open(
            port,
            1,
            (0..count).map(|index| format!("{path}?value.p{index}=quiet")),
        )
    }

    fn open(port: u16, shares: u64, paths: impl Iterator<Item = String>) -> Audience {
        let mut audience = Audience {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll"),
            clients: Vec::new(),
            shares,
            finder: Finder::new(RECORD),
            buffer: vec![0; 256 * 1024],
        };
        for (index, path) in (0..).zip(paths) {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
            let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n");
            socket.write_all(request.as_bytes()).expect("the request is sent");
            socket.set_nonblocking(true).expect("a non-blocking socket");
            let token = epoll::EventData::new_u64(index);
            epoll::add(&audience.epoll, &socket, token, epoll::EventFlags::IN).expect("epoll");
            audience.clients.push(Client {
                socket,
                carry: Vec::new(),
                next: 0,
            });
        }
        audience.await_opening();
        audience
    }

    fn await_opening(&mut self) {
        let opened = Finder::new(OPENED);
        let mut waiting = self.clients.len();
        let mut events = event_buffer();
        while waiting > 0 {
            let count = self.wait(&mut events, SILENCE);
            assert!(count > 0, "{waiting} clients never saw {OPENED:?}");
            for event in &events {
                let client = &mut self.clients[index(event.data.u64())];
                let read = client
                    .socket
                    .read(&mut self.buffer)
                    .expect("the stream stays open");
                assert!(read > 0, "the server closed a stream");
                client.carry.extend_from_slice(&self.buffer[..read]);
                if opened.find(&client.carry).is_some() {
                    waiting -= 1;
                    // An idle client holds nothing.
                    client.carry = Vec::new();
                }
            }
        }
    }

    /// Returns when a client is sent something, or its stream ends.
    pub fn await_anything(&self) {
        let mut events = event_buffer();
        while self.wait(&mut events, SILENCE) == 0 {}
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, within: Duration) -> usize {
        events.clear();
        let timeout = Timespec::try_from(within).expect("a short time");
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => panic!("epoll: {error}"),
        }
    }
}

impl Receive for Audience {
    fn receive(&mut self, first: u64, count: usize) -> Receipts {
        let shares = self.shares;
        assert_eq!(count as u64 % shares, 0, "everybody gets as many");
        let expected = count / index(shares) * self.clients.len();
        let mut latencies = Vec::with_capacity(expected);
        let mut spans = vec![(u64::MAX, 0); count];
        let mut bytes = 0;
        for (turn, client) in (0..).zip(&mut self.clients) {
            // The first number from `first` on whose turn it is.
            client.next = first + (turn % shares + shares - first % shares) % shares;
        }
        let mut events = event_buffer();
        let mut heard = Instant::now();
        while latencies.len() < expected {
            let ready = self.wait(&mut events, Duration::from_millis(500));
            if ready > 0 {
                heard = Instant::now();
            }
            assert!(
                heard.elapsed() < SILENCE,
                "{} of {expected} deliveries are missing",
                expected - latencies.len()
            );
            for event in &events {
                let client = &mut self.clients[index(event.data.u64())];
                let read = match client.socket.read(&mut self.buffer) {
                    Ok(0) => panic!("the server closed a stream"),
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => panic!("a stream broke: {error}"),
                };
                let time = now();
                bytes += read as u64;
                let Client { carry, next, .. } = client;
                take(carry, &self.buffer[..read], &self.finder, |number, stamped| {
                    assert_eq!(number, *next, "the next record that is meant for this client");
                    *next += shares;
                    latencies.push(time.saturating_sub(stamped));
                    let (earliest, latest) = &mut spans[index(number - first)];
                    *earliest = time.min(*earliest);
                    *latest = time.max(*latest);
                });
            }
        }
        latencies.sort_unstable();
        Receipts {
            deliveries: latencies.len() as u64,
            p50: percentile(&latencies, 50),
            p99: percentile(&latencies, 99),
            spans,
            bytes,
        }
    }
}

impl Audience {
    /// Receives until each client has the latest record of each of the `keys` that take turns in the `count` records from
    /// `first` on. Returns the number of deliveries.
    ///
    /// # Panics
    /// When the latest of a key does not come, or an older one comes behind it.
    pub fn receive_latest(&mut self, first: u64, count: u64, keys: u64) -> u64 {
        assert!(count.is_multiple_of(keys), "every key gets as many records");
        let last_turn = first + count - keys;
        let mut latest = vec![vec![0; index(keys)]; self.clients.len()];
        let (mut deliveries, mut missing) = (0, keys * self.clients.len() as u64);
        let mut events = event_buffer();
        while missing > 0 {
            let ready = self.wait(&mut events, SILENCE);
            assert!(ready > 0, "the latest records of {missing} keys are missing");
            for event in &events {
                let turn = index(event.data.u64());
                let (client, latest) = (&mut self.clients[turn], &mut latest[turn]);
                let read = match client.socket.read(&mut self.buffer) {
                    Ok(0) => panic!("the server closed a stream"),
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => panic!("a stream broke: {error}"),
                };
                take(
                    &mut client.carry,
                    &self.buffer[..read],
                    &self.finder,
                    |number, _| {
                        let known = &mut latest[index(number % keys)];
                        assert!(
                            number > *known,
                            "a later record of its key than {known}: {number}"
                        );
                        *known = number;
                        deliveries += 1;
                        missing -= u64::from(number >= last_turn);
                    },
                );
            }
        }
        deliveries
    }
}

/// Asserts that an answer holds `count` records, numbered from `first`, and no other.
pub fn check(payload: &[u8], first: u64, count: u64) {
    let finder = Finder::new(RECORD);
    let stamps = finder
        .find_iter(payload)
        .map(|at| stamp(&payload[at + RECORD.len()..]));
    let numbers = stamps.map(|stamp| stamp.map(|(number, _)| number));
    assert!(
        numbers.eq((first..first + count).map(Some)),
        "every record from {first} on, once and in order"
    );
}

/// Parses the records of the received bytes; an incomplete last line is kept in `carry` for the next call.
fn take(carry: &mut Vec<u8>, read: &[u8], finder: &Finder<'_>, mut each: impl FnMut(u64, u64)) {
    let whole = memrchr(b'\n', read).map_or(0, |at| at + 1);
    let joined;
    let lines = if carry.is_empty() {
        &read[..whole]
    } else {
        carry.extend_from_slice(&read[..whole]);
        if whole == 0 {
            carry.extend_from_slice(read);
            return;
        }
        joined = std::mem::take(carry);
        &joined[..]
    };
    for at in finder.find_iter(lines) {
        let (number, time) = stamp(&lines[at + RECORD.len()..]).expect("a record of this benchmark");
        each(number, time);
    }
    carry.extend_from_slice(&read[whole..]);
}
