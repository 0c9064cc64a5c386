//! The client side, the same for the daemon and for what it is compared with: any number of
//! connections in one thread over epoll, each of which must get every record once and in order.

use crate::measure::now;
use memchr::memmem::Finder;
use memchr::memrchr;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// What every record's value begins with; then come its number and its time, 16 hex digits each.
const MARK: &str = "@bench ";

/// What `data:` lines of records look like, and the event that ends the opening of a stream.
const RECORD: &str = "data: @bench ";
pub const OPENED: &str = "event: caught-up\n";

/// How long nothing may come before the rest is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// The value of a record, `length` bytes long.
pub fn value(number: u64, time: u64, length: usize) -> String {
    let stamp = format!("{MARK}{number:016x} {time:016x} ");
    format!("{stamp:x<length$}")
}

fn stamp(text: &[u8]) -> Option<(u64, u64)> {
    let hex = |range| u64::from_str_radix(std::str::from_utf8(text.get(range)?).ok()?, 16).ok();
    Some((hex(0..16)?, hex(17..33)?))
}

fn index(number: u64) -> usize {
    number.try_into().expect("a small number")
}

struct Client {
    socket: TcpStream,
    /// The beginning of a line whose end has not come.
    carry: Vec<u8>,
    /// The number of the last record.
    last: u64,
}

/// What came in a round.
pub struct Receipts {
    /// From the stamp in the record to its receipt, in ns, sorted.
    pub latencies: Vec<u64>,
    /// From the first client's receipt of a record to the last one's, in ns, sorted.
    pub spreads: Vec<u64>,
    /// Bytes on the wire.
    pub bytes: u64,
}

impl Receipts {
    /// Bytes on the wire per delivery.
    pub fn bytes_each(&self) -> u64 {
        self.bytes / self.latencies.len() as u64
    }
}

/// Connected clients.
pub struct Audience {
    epoll: OwnedFd,
    clients: Vec<Client>,
    finder: Finder<'static>,
    buffer: Vec<u8>,
    events: Vec<epoll::Event>,
}

impl Audience {
    /// Opens `count` streams and waits until each is at the head.
    pub fn connect(port: u16, path: &str, count: usize) -> Audience {
        let mut audience = Audience {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll"),
            clients: Vec::with_capacity(count),
            finder: Finder::new(RECORD),
            buffer: vec![0; 256 * 1024],
            events: Vec::with_capacity(256),
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n");
        for index in 0..count {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
            socket.write_all(request.as_bytes()).expect("the request is sent");
            socket.set_nonblocking(true).expect("a non-blocking socket");
            let token = epoll::EventData::new_u64(index as u64);
            epoll::add(&audience.epoll, &socket, token, epoll::EventFlags::IN).expect("epoll");
            audience.clients.push(Client {
                socket,
                carry: Vec::new(),
                last: 0,
            });
        }
        audience.await_opening();
        audience
    }

    fn await_opening(&mut self) {
        let opened = Finder::new(OPENED);
        let mut waiting = self.clients.len();
        while waiting > 0 {
            let count = self.wait(SILENCE);
            assert!(count > 0, "{waiting} clients never saw {OPENED:?}");
            for event in 0..count {
                let client = &mut self.clients[index(self.events[event].data.u64())];
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

    fn wait(&mut self, within: Duration) -> usize {
        self.events.clear();
        let timeout = Timespec::try_from(within).expect("a short time");
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => panic!("epoll: {error}"),
        }
    }

    /// Receives `count` records, numbered from `first`, on every connection.
    ///
    /// # Panics
    /// When one is missing, comes twice or in the wrong order.
    pub fn receive(&mut self, first: u64, count: usize) -> Receipts {
        let expected = count * self.clients.len();
        let mut latencies = Vec::with_capacity(expected);
        // First and last receipt of each record.
        let mut seen = vec![(u64::MAX, 0); count];
        let mut bytes = 0;
        for client in &mut self.clients {
            client.last = first - 1;
        }
        let mut heard = Instant::now();
        while latencies.len() < expected {
            let ready = self.wait(Duration::from_millis(500));
            if ready > 0 {
                heard = Instant::now();
            }
            assert!(
                heard.elapsed() < SILENCE,
                "{} of {expected} deliveries are missing",
                expected - latencies.len()
            );
            for event in 0..ready {
                let client = &mut self.clients[index(self.events[event].data.u64())];
                let read = match client.socket.read(&mut self.buffer) {
                    Ok(0) => panic!("the server closed a stream"),
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => panic!("a stream broke: {error}"),
                };
                let time = now();
                bytes += read as u64;
                client.take(&self.buffer[..read], &self.finder, |number, stamped| {
                    latencies.push(time.saturating_sub(stamped));
                    let (earliest, latest) = &mut seen[index(number - first)];
                    *earliest = time.min(*earliest);
                    *latest = time.max(*latest);
                });
            }
        }
        latencies.sort_unstable();
        let mut spreads: Vec<u64> = seen.iter().map(|(earliest, latest)| latest - earliest).collect();
        spreads.sort_unstable();
        Receipts {
            latencies,
            spreads,
            bytes,
        }
    }
}

impl Client {
    /// Takes the records out of what came; the last line may be cut off and then waits for its end.
    fn take(&mut self, read: &[u8], finder: &Finder<'_>, mut each: impl FnMut(u64, u64)) {
        let whole = memrchr(b'\n', read).map_or(0, |at| at + 1);
        let joined;
        let lines = if self.carry.is_empty() {
            &read[..whole]
        } else {
            self.carry.extend_from_slice(&read[..whole]);
            if whole == 0 {
                self.carry.extend_from_slice(read);
                return;
            }
            joined = std::mem::take(&mut self.carry);
            &joined[..]
        };
        for at in finder.find_iter(lines) {
            let (number, time) = stamp(&lines[at + RECORD.len()..]).expect("a record of this benchmark");
            assert_eq!(number, self.last + 1, "records out of order");
            self.last = number;
            each(number, time);
        }
        self.carry.extend_from_slice(&read[whole..]);
    }
}
