//! The attacks, each on a thread of its own, until the run is over.

use super::{ASSET, AUDIENCE, FILTERED, OTHERS, SLOW, Stage};
use crate::harness::crowd::{Crowd, Happening};
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::wait::{millis, secs};
use crate::proofs::Report;
use kafka_sse_bridge::stream::position::{Position, TopicPosition, fingerprint};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use socket2::{Domain, Socket, Type};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Partitions of the filtered topic: every set of them is a filter that no index serves.
pub(super) const FILTERED_PARTITIONS: i32 = 8;

/// Bytes of a filtered record.
const RECORD: usize = 1000;

/// Buffer of a client that does not read, so that the daemon feels it at once.
const RECEIVE_BUFFER: usize = 4096;

/// How long a client waits that was turned away or cut off.
const AWAY: Duration = Duration::from_secs(2);

/// How long those stay that do not read.
const STAY: Duration = Duration::from_secs(15);

/// How long `NOTIFY_SOCKET` stays unread.
const DEAF: Duration = Duration::from_secs(20);

/// How often each attack was carried out.
#[derive(Default)]
pub(super) struct Attacks {
    /// Events that clients with filters were sent.
    filtered: AtomicU64,
    /// Streams of theirs that ended or were refused.
    refused: AtomicU64,
    /// Times that a table was deleted or cleared.
    cleared: AtomicU64,
    /// Clients that came back and did not read.
    returned: AtomicU64,
    /// Connections that were left with requests in the pipeline.
    left: AtomicU64,
    /// Answers about the large asset.
    stormed: AtomicU64,
    reloads: AtomicU64,
    /// Records with binary keys, or that cannot be used.
    odd: AtomicU64,
    /// How often `NOTIFY_SOCKET` was read after a pause.
    heard: AtomicU64,
    pub(super) transactions: AtomicU64,
    /// Partitions that were added.
    pub(super) grown: AtomicU64,
    /// Records of one key in two partitions.
    pub(super) contradictions: AtomicU64,
    /// Records larger than a log.
    pub(super) large: AtomicU64,
    /// Answers to requests that mean nothing.
    pub(super) odd_requests: AtomicU64,
    /// Those with another status than success or an error of the client's.
    pub(super) wrong_answers: AtomicU64,
}

impl Attacks {
    /// Starts all.
    pub(super) fn start<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        stage: &'env Stage<'env>,
    ) {
        scope.spawn(|| self.filter(stage));
        scope.spawn(|| write_filtered(stage));
        scope.spawn(|| self.clear(stage));
        scope.spawn(|| self.come_back(stage));
        scope.spawn(|| self.leave(stage));
        scope.spawn(|| self.storm(stage));
        scope.spawn(|| self.reload(stage));
        scope.spawn(|| self.write_odd(stage));
        scope.spawn(|| self.be_deaf(stage));
        scope.spawn(|| self.transact(stage));
        scope.spawn(|| self.grow(stage));
        scope.spawn(|| self.contradict(stage));
        scope.spawn(|| self.write_large(stage));
        scope.spawn(|| self.ask_oddly(stage));
    }

    /// How often each was, which must not be never.
    pub(super) fn report(&self, report: &mut Report) {
        for (name, count) in [
            ("events to clients with filters", &self.filtered),
            ("tables deleted or cleared", &self.cleared),
            ("returns that do not read", &self.returned),
            ("pipelines that were left", &self.left),
            ("answers about the large asset", &self.stormed),
            ("reloads", &self.reloads),
            ("odd records", &self.odd),
            ("pauses of reading NOTIFY_SOCKET", &self.heard),
            ("transactions", &self.transactions),
            ("partitions added", &self.grown),
            ("records of keys in two partitions", &self.contradictions),
            ("records larger than a log", &self.large),
            ("answers to odd requests", &self.odd_requests),
        ] {
            let count = count.load(Ordering::Relaxed);
            report.figure(name, count);
            report.demand(count > 0, format!("{name}: never"));
        }
        let wrong = self.wrong_answers.load(Ordering::Relaxed);
        report.demand(
            wrong == 0,
            format!("{wrong} odd requests were answered by an error of the server"),
        );
        report.figure(
            "filtered streams that ended",
            self.refused.load(Ordering::Relaxed),
        );
    }

    /// Clients with a value filter each, others with filters that no index serves, and some on the other streams.
    /// Refused clients try again.
    fn filter(&self, stage: &Stage<'_>) {
        let plan = stage.plan;
        let path = |client: usize| {
            if let Some(number) = client.checked_sub(plan.filters) {
                match number.checked_sub(plan.unindexed) {
                    Some(number) => OTHERS[number % OTHERS.len()].to_owned(),
                    None => unindexed(number + 1),
                }
            } else {
                format!("{FILTERED}?value.p{client}=x")
            }
        };
        let mut crowd = Crowd::new(plan.filters + plan.unindexed + 2 * OTHERS.len());
        let mut away: Vec<Instant> = vec![Instant::now(); plan.filters + plan.unindexed + 2 * OTHERS.len()];
        while !stage.is_over() {
            let now = Instant::now();
            for (client, until) in away.iter_mut().enumerate() {
                if !crowd.is_connected(client) && now >= *until {
                    *until = now + AWAY;
                    if crowd
                        .connect(client, stage.daemon.port(), &path(client), None)
                        .is_err()
                    {
                        self.refused.fetch_add(1, Ordering::Relaxed);
                        // The system's queue is full, or the daemon has ended.
                        break;
                    }
                }
            }
            crowd.poll(millis(100), |client, happening| match happening {
                Happening::Event(_) => {
                    self.filtered.fetch_add(1, Ordering::Relaxed);
                }
                Happening::Ended(_) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    away[client] = Instant::now() + AWAY;
                }
            });
        }
    }

    /// Fills the table, deletes every key, fills it again, and recreates the topic.
    fn clear(&self, stage: &Stage<'_>) {
        const PIECE: usize = 5000;
        let topic = &stage.topics.table;
        let keys: Vec<usize> = (0..stage.plan.keys).collect();
        let write = |of: &dyn Fn(usize) -> Message| {
            for piece in keys.chunks(PIECE) {
                if stage.is_over() {
                    return;
                }
                let messages: Vec<Message> = piece.iter().map(|&key| of(key)).collect();
                stage.broker.produce(topic, &messages);
            }
        };
        let row = |key: usize| {
            Message::new(
                key.to_string(),
                format!("{{\"row\":{key},\"text\":\"some text\"}}"),
            )
        };
        let mut turn = 0;
        while !stage.is_over() {
            write(&row);
            stage.rest(secs(2));
            if stage.is_over() {
                return;
            }
            if turn % 2 == 0 {
                write(&|key| Message::tombstone(key.to_string()));
            } else {
                stage.broker.delete_topic(topic);
                stage.broker.create_topic(topic, 4, &[]);
            }
            turn += 1;
            self.cleared.fetch_add(1, Ordering::Relaxed);
            stage.rest(secs(2));
        }
    }

    /// Clients resume at distinct positions and do not read.
    fn come_back(&self, stage: &Stage<'_>) {
        let mut rng = StdRng::seed_from_u64(stage.plan.seed ^ 2);
        while !stage.is_over() {
            let written = i64::from(stage.written.load(Ordering::Relaxed) / stage.plan.partitions);
            if written < 10 {
                stage.rest(millis(200));
                continue;
            }
            let mut sockets = Vec::new();
            for _ in 0..stage.plan.returning {
                // Partitions are chosen at random: none is much behind the others.
                let next = (0..stage.plan.partitions).map(|_| rng.random_range(0..written * 9 / 10));
                let position = Position {
                    as_of: None,
                    topics: vec![TopicPosition {
                        name: fingerprint(&stage.topics.audience),
                        id: 0,
                        next: next.collect(),
                        marks: Vec::new(),
                    }],
                };
                let id = String::from_utf8(position.id()).expect("base64");
                let request = format!(
                    "GET {AUDIENCE} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nLast-Event-ID: {id}\r\n\r\n"
                );
                if let Ok(socket) = ask(stage.daemon.port(), request.as_bytes(), Some(RECEIVE_BUFFER)) {
                    sockets.push(socket);
                    self.returned.fetch_add(1, Ordering::Relaxed);
                }
            }
            stage.rest(STAY);
        }
    }

    /// Sends many requests at once over a connection, reads nothing and leaves.
    fn leave(&self, stage: &Stage<'_>) {
        let request = "GET /streams HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
        while !stage.is_over() {
            if ask(stage.daemon.port(), request.as_bytes(), Some(RECEIVE_BUFFER)).is_ok() {
                self.left.fetch_add(1, Ordering::Relaxed);
            }
            stage.rest(millis(100));
        }
    }

    /// Asks for a large asset over many connections at once: by HEAD, with a condition, and whole.
    fn storm(&self, stage: &Stage<'_>) {
        let head = |method: &str, more: &str| {
            format!(
                "{method} /assets/{ASSET} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\n{more}\r\n"
            )
        };
        let requests = [
            head("HEAD", ""),
            head("GET", "If-None-Match: *\r\n"),
            head("HEAD", "If-None-Match: *\r\n"),
            head("GET", ""),
        ];
        while !stage.is_over() {
            let asked = (0..stage.plan.storming).map(|number| {
                // Few ask for all of it, and these leave before it has come.
                let request = &requests[if number % 25 == 24 { 3 } else { number % 3 }];
                ask(stage.daemon.port(), request.as_bytes(), None)
            });
            let sockets: Vec<TcpStream> = asked.filter_map(Result::ok).collect();
            for mut socket in sockets {
                // Shorter than a storm on a daemon without a cache, so that the storm is repeated.
                let _ = socket.set_read_timeout(Some(secs(2)));
                if socket.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    self.stormed.fetch_add(1, Ordering::Relaxed);
                }
                if stage.is_over() {
                    return;
                }
            }
            stage.rest(millis(100));
        }
    }

    fn reload(&self, stage: &Stage<'_>) {
        for turn in 1.. {
            stage.rest(stage.plan.reload);
            if stage.is_over() || !stage.daemon.is_running() {
                break;
            }
            let config = stage.topics.config(stage.broker, stage.assets, turn);
            stage.daemon.rewrite_config(&config);
            stage.daemon.signal(Signal::HUP);
            self.reloads.fetch_add(1, Ordering::Relaxed);
        }
        if !stage.daemon.is_running() {
            return;
        }
        // The first configuration again, for the checks at the end.
        stage
            .daemon
            .rewrite_config(&stage.topics.config(stage.broker, stage.assets, 0));
        stage.daemon.signal(Signal::HUP);
    }

    /// Records with keys that are no text, with none, and with values that are no JSON object; and updates of keys
    /// whose newest record cannot be used.
    fn write_odd(&self, stage: &Stage<'_>) {
        let mut number: u64 = 0;
        while !stage.is_over() {
            let mut messages = Vec::new();
            for _ in 0..25 {
                number += 1;
                let binary = (number % 300).to_be_bytes();
                let text = format!("key {}", number % 50);
                messages.extend([
                    Message::new(binary, format!("{{\"n\":{number}}}")),
                    Message::new([0xff, 0xfe, u8::try_from(number % 256).expect("a byte")], "{}"),
                    Message::new(text.clone(), format!("{{\"n\":{number}}}")),
                    Message::new(text.clone(), "{\"n\":NaN}"),
                    Message::new(text.clone(), "[1,2]"),
                    Message::new(text.clone(), [b'{', 0xe4, b'}']),
                    Message::new(text.clone(), "null").timestamp(-1),
                    Message::new(text, "\u{feff}{\"mark\":true}"),
                    Message::value("{\"no\":\"key\"}"),
                    Message::tombstone((number % 150).to_be_bytes()),
                    Message::tombstone("\0\r\n: id: x"),
                ]);
            }
            stage.broker.produce(&stage.topics.odd, &messages);
            self.odd.fetch_add(messages.len() as u64, Ordering::Relaxed);
            stage.rest(millis(500));
        }
    }

    /// Lets the messages of the daemon pile up, reads them all, and again.
    fn be_deaf(&self, stage: &Stage<'_>) {
        while !stage.is_over() {
            stage.rest(DEAF.min(stage.plan.lasts / 4));
            let mut read = 0;
            while stage.systemd.try_next(millis(1)).is_some() && read < 10_000 {
                read += 1;
            }
            self.heard.fetch_add(u64::from(read > 0), Ordering::Relaxed);
        }
    }
}

/// The filter of a set of partitions, by its bits.
fn unindexed(set: usize) -> String {
    let partitions = (0..FILTERED_PARTITIONS).filter(|partition| set >> partition & 1 == 1);
    let terms: Vec<String> = partitions
        .map(|partition| format!("partition={partition}"))
        .collect();
    format!("{SLOW}?{}", terms.join("&"))
}

/// Records of JSON that hold a value for some of the filters each.
fn write_filtered(stage: &Stage<'_>) {
    /// Records that are written at once.
    const PIECE: u32 = 50;
    let mut rng = StdRng::seed_from_u64(stage.plan.seed ^ 3);
    let pause = secs(1) * PIECE / stage.plan.filtered_rate;
    while !stage.is_over() {
        let began = Instant::now();
        let record = |rng: &mut StdRng| {
            let mut value = String::from("{");
            for _ in 0..10 {
                let filter = rng.random_range(0..stage.plan.filters.max(1));
                write!(value, "\"p{filter}\":\"x\",").expect("memory");
            }
            value.push_str("\"pad\":\"");
            value.extend(std::iter::repeat_n('x', RECORD.saturating_sub(value.len() + 2)));
            value.push_str("\"}");
            Message::value(value).partition(rng.random_range(0..FILTERED_PARTITIONS))
        };
        let messages: Vec<Message> = (0..PIECE).map(|_| record(&mut rng)).collect();
        stage.broker.produce(&stage.topics.filtered, &messages);
        stage.rest(pause.saturating_sub(began.elapsed()));
    }
}

/// Sends a request over a connection of its own and leaves the response unread.
pub(super) fn ask(port: u16, request: &[u8], receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    // A queue of the system's that is full must not hold up the attack.
    socket.connect_timeout(&address.into(), secs(1))?;
    let mut socket = TcpStream::from(socket);
    socket.set_write_timeout(Some(secs(1)))?;
    socket.write_all(request)?;
    Ok(socket)
}
