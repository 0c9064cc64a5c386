//! Abusive connections: slow or large request heads, more connections than file descriptors, and clients that do not read. Other
//! clients are not affected.

mod descriptors;
mod heads;
mod idle;
mod send_queues;

use crate::common::config;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::promise;
use crate::harness::wait::{block_on, ensure, eventually, secs};
use crate::limits::config_of;
use libtest_mimic::Trial;
use serde_json::Value;
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        promise(a_disconnect_behind_pipelined_requests_is_detected),
        promise(pipelined_requests_of_half_closed_clients_are_answered),
        promise(half_closed_clients_get_responses_but_no_event_streams),
    ];
    trials.extend(heads::trials());
    trials.extend(idle::trials());
    trials.extend(descriptors::trials());
    trials.extend(send_queues::trials());
    trials
}

/// A connection that is kept, to ask over when there are no more to be had.
struct Kept(TcpStream);

impl Kept {
    fn new(daemon: &Daemon) -> Kept {
        Kept(connect(daemon))
    }

    /// The answer's status and body; `None` if the connection has ended.
    fn get(&mut self, path: &str) -> Option<(u16, String)> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.0.write_all(head.as_bytes()).ok()?;
        let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let count = self.0.read(&mut buffer).ok().filter(|count| *count > 0)?;
            read.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&read);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").parse().expect("a number");
            if body.len() >= length {
                let status = head.split(' ').nth(1).expect("a status");
                return Some((status.parse().expect("a number"), body.to_owned()));
            }
        }
    }

    fn figures(&mut self) -> Value {
        let (status, body) = self.get("/streams").expect("it is open");
        assert_eq!(status, 200);
        serde_json::from_str::<Value>(&body).expect("JSON")["http"].clone()
    }
}

fn connect(daemon: &Daemon) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", daemon.port())).expect("it listens");
    socket.set_read_timeout(Some(secs(60))).expect("a socket");
    socket
}

/// Whether the peer has ended the connection, which it is given `within` for.
fn has_ended(socket: &mut TcpStream, within: Duration) -> bool {
    socket.set_read_timeout(Some(within)).expect("a socket");
    match socket.read(&mut [0; 1024]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    }
}

/// Asks for the stream; the answer comes when the connection is accepted.
fn ask(daemon: &Daemon) -> TcpStream {
    let mut socket = connect(daemon);
    let head = "GET /events?start=live HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    socket.write_all(head.as_bytes()).expect("a request fits");
    socket
}

/// Waits until this many streams are open.
fn await_clients(daemon: &Daemon, clients: u64, what: &str) {
    eventually(secs(20), what, || {
        let text = block_on(daemon.get("/streams")).text();
        let streams: Value = serde_json::from_str(&text).expect("JSON");
        ensure(streams["streams"][0]["clients"] == clients, text)
    });
}

fn a_disconnect_behind_pipelined_requests_is_detected() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("pipelined");
    broker.create_topic(&topic, 1, &[]);
    // Nothing is written meanwhile, so no write can fail.
    let text = config(&broker, &[&topic], "start = \"live\"");
    let with =
        |keepalive: &str| text.replacen("[http]\n", &format!("[http]\nkeepalive = \"{keepalive}\"\n"), 1);
    let daemon = Daemon::start(&with("1h"));
    block_on(daemon.wait_ready(secs(30)));
    let next = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    for behind in ["", "GET /health", next, &next.repeat(10)] {
        let mut socket = ask(&daemon);
        socket.write_all(behind.as_bytes()).expect("it fits");
        await_clients(&daemon, 1, "it is there");
        drop(socket);
        await_clients(&daemon, 0, "it is gone");
    }
    // Bytes that arrive while the stream is open.
    let mut socket = ask(&daemon);
    await_clients(&daemon, 1, "it is there");
    for _ in 0..3 {
        socket.write_all(next.as_bytes()).expect("it fits");
    }
    drop(socket);
    await_clients(&daemon, 0, "it is gone");
    drop(daemon);

    // More than is read ahead: the end is seen with the next write.
    let daemon = Daemon::start(&with("1s"));
    block_on(daemon.wait_ready(secs(30)));
    let mut socket = ask(&daemon);
    socket.write_all(next.repeat(1200).as_bytes()).expect("it fits");
    await_clients(&daemon, 1, "it is there");
    drop(socket);
    await_clients(&daemon, 0, "it is gone");
}

/// send(2): more follows, so nothing leaves yet.
const MSG_MORE: i32 = 0x8000;

/// As `nc -N` and simple health checks do.
fn half_closed_clients_get_responses_but_no_event_streams() {
    let daemon = Daemon::start(&config_of(""));
    let paths = ["/health/live", "/metrics", "/", "/streams", "/about", "/nothing"];
    for round in 0..300 {
        let path = paths[round % paths.len()];
        let mut socket = connect(&daemon);
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        // The head and the end leave in one packet, or in two.
        let flags = if (round / paths.len()).is_multiple_of(2) {
            MSG_MORE
        } else {
            0
        };
        let sent = SockRef::from(&socket).send_with_flags(head.as_bytes(), flags);
        assert_eq!(sent.expect("it fits"), head.len());
        socket.shutdown(Shutdown::Write).expect("it is half closed");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("the end comes");
        let status = if path == "/nothing" { "404" } else { "200" };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{round} {path}: {answer:?}"
        );
        assert!(
            answer.contains("\r\n\r\n") && !answer.ends_with("\r\n\r\n"),
            "it has a body: {answer}"
        );
    }
    // A stream ends.
    for behind in ["", "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut socket = ask(&daemon);
        socket.write_all(behind.as_bytes()).expect("it fits");
        socket.shutdown(Shutdown::Write).expect("it is half closed");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("the end comes");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        await_clients(&daemon, 0, "it is gone");
    }
}

fn pipelined_requests_of_half_closed_clients_are_answered() {
    let daemon = Daemon::start(&config_of(""));
    let mut socket = connect(&daemon);
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    socket.write_all(request.repeat(20).as_bytes()).expect("they fit");
    socket.shutdown(Shutdown::Write).expect("it is half closed");
    socket.set_read_timeout(Some(secs(20))).expect("a timeout");
    let mut answers = String::new();
    socket.read_to_string(&mut answers).expect("the end comes");
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 20, "{answers}");
}
