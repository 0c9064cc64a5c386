//! The baseline of the daemon: the least a program could do that writes the same bytes to the
//! same sockets. One thread, no framework, one write(2) per delivery.
//!
//! Runs as a process of its own, which is this binary with [`ROLE`] as its first argument:
//! - `loop`: an epoll loop that writes a record 50 times a second, without Kafka. A request for
//!   `/go/<first>/<count>/<microseconds>` starts a round. Clients with a `?key=` take turns.
//! - `ring`: the same, but it writes by io_uring (see `ring`).
//! - `consumer`: a `BaseConsumer` whose records are written the same way.
//! - `blocks`: an epoll loop that writes a whole stream to every client (see `blocks`).
//! - `count`: a `BaseConsumer` that counts (see `count`).
//! - `quiet`: no server but clients, whose keys no record has (see `filtered`).
//! - `comments`: a comment to everyone once in a while, as a keepalive.
//! - `stalled`: no server, but the daemon's reading thread without a consumer (see `stalled`).
//! - `receivers`: no server but clients, which say what they received (see `receivers`).
//! - `crate`: the `kafka` crate's client, which counts (see `count`).

use crate::audience::{OPENED, value};
use crate::harness::process::Process;
use crate::measure::now;
use crate::ring::Ring;
use crate::{blocks, count, filtered, receivers, stalled};
use rdkafka::Message;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use socket2::SockRef;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::ParseIntError;
use std::os::fd::OwnedFd;
use std::process::{ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The first argument of a bare process.
pub const ROLE: &str = "bare";

/// Entry of a bare process.
pub fn main(arguments: &[String]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["loop", length, id] => Loop::new(number(id)).run(number(length)),
        ["ring", length, id] => Loop::by_ring(number(id)).run(number(length)),
        ["consumer", brokers, topic, audience, id] => {
            Loop::new(number(id)).run_consumer(brokers, topic, number(audience));
        }
        ["blocks", file] => blocks::main(file),
        ["comments", pause] => Loop::new(0).run_comments(Duration::from_micros(number(pause))),
        ["receivers", port, count, ref paths @ ..] => receivers::main(number(port), paths, number(count)),
        ["stalled", brokers, topic] => stalled::main(brokers, topic),
        ["crate", brokers, topic, partitions, total] => {
            count::with_the_crate(brokers, topic, number(partitions), number(total));
        }
        ["quiet", port, count] => filtered::quiet(number(port), number(count)),
        ["count", brokers, topic, partitions, total] => {
            count::main(brokers, topic, number(partitions), number(total));
        }
        _ => panic!("no such role: {arguments:?}"),
    }
}

fn number<T: FromStr<Err = ParseIntError>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// A bare process, killed when dropped.
pub struct Bare {
    process: Process,
    output: BufReader<ChildStdout>,
}

impl Bare {
    pub fn spawn(arguments: &[&str]) -> Bare {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.arg(ROLE).args(arguments).stdout(Stdio::piped());
        let process = Process::spawn(&mut command).expect("this binary starts");
        let output = process
            .take(|child| child.stdout.take())
            .expect("stdout is piped");
        Bare {
            process,
            output: BufReader::new(output),
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The numbers on its next line: the port of a server, the result of a count.
    pub fn numbers(&mut self) -> Vec<u64> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("a bare process says something");
        line.split_whitespace().map(number).collect()
    }

    /// Whether it is still there.
    pub fn is_running(&self) -> bool {
        self.process.try_wait().is_none()
    }

    pub fn port(&mut self) -> u16 {
        self.numbers()
            .first()
            .and_then(|&port| port.try_into().ok())
            .expect("a port")
    }
}

/// Starts a round of a `loop` process.
pub fn go(port: u16, first: u64, count: usize, pause: Duration) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    write!(
        socket,
        "GET /go/{first}/{count}/{} HTTP/1.1\r\n\r\n",
        pause.as_micros()
    )
    .expect("a request");
    // The answer is the end of the connection.
    let _ = socket.read(&mut [0]);
}

pub const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
                    transfer-encoding: chunked\r\n\r\n";

const LISTENER: u64 = u64::MAX;

/// Connections that may wait to be accepted: as many as the daemon's.
const BACKLOG: i32 = 4096;

/// A listener for thousands of clients that come at once.
pub fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    SockRef::from(&listener)
        .listen(BACKLOG)
        .expect("a longer queue than the standard library's");
    listener.set_nonblocking(true).expect("a non-blocking listener");
    listener
}

struct Peer {
    socket: TcpStream,
    request: Vec<u8>,
    /// Bytes that the socket did not accept.
    pending: Vec<u8>,
}

/// Records to be made without Kafka.
struct Round {
    next: u64,
    end: u64,
    pause: Duration,
    due: Instant,
}

struct Loop {
    epoll: OwnedFd,
    listener: TcpListener,
    /// All connected clients.
    peers: HashMap<u64, Peer>,
    /// Subscribed clients in order of arrival, except those with a key.
    audience: Vec<u64>,
    /// Those with a key, by the number in it: each record goes to one.
    by_key: HashMap<u64, u64>,
    /// Writes to all, if given.
    ring: Option<Ring>,
    stalled: usize,
    accepted: u64,
    events: Vec<epoll::Event>,
    /// Stands for the id that the daemon gives an event.
    id: String,
    round: Option<Round>,
}

impl Loop {
    fn new(id: usize) -> Loop {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        let listener = listener();
        let token = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, token, epoll::EventFlags::IN).expect("epoll");
        Loop {
            epoll,
            listener,
            peers: HashMap::new(),
            audience: Vec::new(),
            by_key: HashMap::new(),
            ring: None,
            stalled: 0,
            accepted: 0,
            events: Vec::with_capacity(256),
            id: "x".repeat(id),
            round: None,
        }
    }

    fn by_ring(id: usize) -> Loop {
        Loop {
            ring: Some(Ring::new().expect("io_uring")),
            ..Loop::new(id)
        }
    }

    fn announce(&self) {
        println!("{}", self.listener.local_addr().expect("an address").port());
    }

    fn run(mut self, length: usize) -> ! {
        self.announce();
        loop {
            let wait = self
                .round
                .as_ref()
                .map(|round| round.due.saturating_duration_since(Instant::now()));
            self.turn(wait);
            let Some(round) = &mut self.round else { continue };
            if Instant::now() < round.due {
                continue;
            }
            let number = round.next;
            round.due += round.pause;
            round.next += 1;
            if round.next == round.end {
                self.round = None;
            }
            let value = value(number, now(), length);
            let frame = self.frame(value.as_bytes());
            if self.by_key.is_empty() {
                self.send_all(&frame);
            } else {
                self.send(self.by_key[&(number % self.by_key.len() as u64)], &frame);
            }
        }
    }

    fn run_comments(mut self, pause: Duration) -> ! {
        self.announce();
        let mut due = Instant::now() + pause;
        loop {
            self.turn(Some(due.saturating_duration_since(Instant::now())));
            if Instant::now() >= due {
                due += pause;
                self.send_all(b"2\r\n:\n\r\n");
            }
        }
    }

    fn run_consumer(mut self, brokers: &str, topic: &str, audience: usize) -> ! {
        let consumer = count::consumer(brokers);
        count::assign_end(&consumer, topic);
        self.announce();
        while self.audience.len() < audience {
            self.turn(None);
        }
        assert!(
            consumer.poll(Duration::ZERO).is_none(),
            "a record before its audience"
        );
        loop {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let frame = self.frame(message.payload().unwrap_or_default());
                    self.send_all(&frame);
                }
                Some(Err(error)) => eprintln!("bare consumer: {error}"),
                None => {}
            }
            if self.stalled > 0 {
                self.turn(Some(Duration::ZERO));
            }
        }
    }

    /// The event of a record, as a chunk.
    fn frame(&self, value: &[u8]) -> Vec<u8> {
        let body = 4 + self.id.len() + 7 + value.len() + 2;
        let mut frame = format!("{body:X}\r\nid: {}\ndata: ", self.id).into_bytes();
        frame.extend_from_slice(value);
        frame.extend_from_slice(b"\n\n\r\n");
        frame
    }

    fn send_all(&mut self, bytes: &[u8]) {
        let audience = std::mem::take(&mut self.audience);
        if let Some(ring) = &mut self.ring {
            let ready = |token: &&u64| self.peers.get(token).is_some_and(|peer| peer.pending.is_empty());
            let (ready, waiting): (Vec<u64>, Vec<u64>) = audience.iter().partition(ready);
            let unwritten = ring.write_to_all(&ready, bytes);
            for (token, written) in unwritten {
                self.keep(token, &bytes[written..]);
            }
            for token in waiting {
                self.send(token, bytes);
            }
        } else {
            for &token in &audience {
                self.send(token, bytes);
            }
        }
        self.audience = audience;
    }

    fn send(&mut self, token: u64, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&token) else {
            return;
        };
        if !peer.pending.is_empty() {
            peer.pending.extend_from_slice(bytes);
            return;
        }
        let written = match peer.socket.write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return self.forget(token),
        };
        if written < bytes.len() {
            self.keep(token, &bytes[written..]);
        }
    }

    /// Keeps what a socket with nothing pending did not accept.
    fn keep(&mut self, token: u64, bytes: &[u8]) {
        let peer = self.peers.get_mut(&token).expect("a client that was written to");
        peer.pending.extend_from_slice(bytes);
        self.stalled += 1;
        self.watch(token, epoll::EventFlags::IN | epoll::EventFlags::OUT);
    }

    fn flush(&mut self, token: u64) {
        let Some(peer) = self.peers.get_mut(&token) else {
            return;
        };
        if let Ok(written) = peer.socket.write(&peer.pending) {
            peer.pending.drain(..written);
        }
        if peer.pending.is_empty() {
            self.stalled -= 1;
            self.watch(token, epoll::EventFlags::IN);
        }
    }

    fn watch(&self, token: u64, flags: epoll::EventFlags) {
        epoll::modify(
            &self.epoll,
            &self.peers[&token].socket,
            epoll::EventData::new_u64(token),
            flags,
        )
        .expect("epoll");
    }

    fn forget(&mut self, token: u64) {
        if let Some(peer) = self.peers.remove(&token) {
            if let Some(ring) = &self.ring {
                ring.forget(token);
            }
            self.stalled -= usize::from(!peer.pending.is_empty());
        }
    }

    /// Waits for sockets, and serves them.
    fn turn(&mut self, wait: Option<Duration>) {
        self.events.clear();
        let wait = wait.map(|wait| Timespec::try_from(wait).expect("a short time"));
        let waited = epoll::wait(&self.epoll, spare_capacity(&mut self.events), wait.as_ref());
        let Ok(count) = waited else { return };
        for event in 0..count {
            let epoll::Event { flags, data, .. } = self.events[event];
            match data.u64() {
                LISTENER => self.accept(),
                token if flags.contains(epoll::EventFlags::OUT) => self.flush(token),
                token => self.read(token),
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            socket
                .set_nonblocking(true)
                .and_then(|()| socket.set_nodelay(true))
                .expect("socket options");
            let token = self.accepted;
            self.accepted += 1;
            epoll::add(
                &self.epoll,
                &socket,
                epoll::EventData::new_u64(token),
                epoll::EventFlags::IN,
            )
            .expect("epoll");
            if let Some(ring) = &self.ring {
                ring.add(token, &socket);
            }
            self.peers.insert(
                token,
                Peer {
                    socket,
                    request: Vec::new(),
                    pending: Vec::new(),
                },
            );
        }
    }

    fn read(&mut self, token: u64) {
        let Some(peer) = self.peers.get_mut(&token) else {
            return;
        };
        let mut buffer = [0; 1024];
        let read = match peer.socket.read(&mut buffer) {
            Ok(read) if read > 0 => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            _ => return self.forget(token),
        };
        peer.request.extend_from_slice(&buffer[..read]);
        if !peer.request.ends_with(b"\r\n\r\n") {
            return;
        }
        let request = String::from_utf8_lossy(&std::mem::take(&mut peer.request)).into_owned();
        let path = request.split(' ').nth(1).unwrap_or_default();
        if let Some(round) = path.strip_prefix("/go/") {
            self.round = Some(Round::parse(round));
            return self.forget(token);
        }
        match path.split_once("?key=key-") {
            Some((_, turn)) => drop(self.by_key.insert(number(turn), token)),
            None => self.audience.push(token),
        }
        let opening = format!("{HEAD}{:X}\r\n{OPENED}\n\r\n", OPENED.len() + 1);
        self.send(token, opening.as_bytes());
    }
}

impl Round {
    fn parse(text: &str) -> Round {
        let numbers: Vec<u64> = text.split('/').map(number).collect();
        let [first, count, pause] = numbers[..] else {
            panic!("a round is {text:?}")
        };
        Round {
            next: first,
            end: first + count,
            pause: Duration::from_micros(pause),
            due: Instant::now(),
        }
    }
}
