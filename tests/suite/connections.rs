//! Connections that want too much: heads that are slow or large, and more of them than there are
//! descriptors. Whoever behaves notices nothing.

use crate::common::{config, is_record, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually, millis, secs};
use crate::harness::{promise, promise_on};
use crate::limits::config_of;
use kafka_sse_bridge::fd_limit::{left_for_clients, reserve};
use kafka_sse_bridge::kafka::history::MAX_HANDLES;
use libtest_mimic::Trial;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;
use socket2::SockRef;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    vec![
        promise(only_slow_request_heads_time_out),
        promise(a_large_request_head_gets_status_431),
        promise(a_disconnect_behind_pipelined_requests_is_detected),
        promise(pipelined_requests_of_half_closed_clients_are_answered),
        promise(half_closed_clients_get_responses_but_no_event_streams),
        promise(a_request_head_may_have_32_kib_and_not_a_byte_more),
        promise_on(
            Version::V4_4,
            accept_pauses_without_descriptors_and_all_clients_connect_later,
        ),
        promise(descriptors_are_reserved_for_every_broker),
    ]
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

fn only_slow_request_heads_time_out() {
    let daemon = Daemon::start(&config_of("keepalive = \"1s\""));
    let mut kept = Kept::new(&daemon);
    assert_eq!(kept.get("/health/live").expect("it is open").0, 200);
    // One that has not said anything yet, one whose stream is open, and one that has begun to ask for more
    // behind its stream.
    let mut silent = Kept::new(&daemon);
    let mut stream = connect(&daemon);
    let ask = "GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(ask.as_bytes()).expect("a request fits");
    let mut ahead = connect(&daemon);
    ahead
        .write_all(format!("{ask}GET /hea").as_bytes())
        .expect("it fits");

    // A byte at a time, and none any more, and none any more behind a request that was answered.
    let mut dripping = connect(&daemon);
    dripping
        .write_all(b"GET /health/live HTTP/1.1\r\nX: ")
        .expect("it fits");
    let mut stuck = connect(&daemon);
    stuck.write_all(b"GET / HT").expect("it fits");
    let mut second = connect(&daemon);
    let first = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /health/li";
    second.write_all(first).expect("it fits");
    eventually(secs(60), "the one that drips is cut off", || {
        // No client is left to write to after the disconnect.
        let _ = dripping.write_all(b"x");
        ensure(has_ended(&mut dripping, millis(200)), "it is open")
    });
    assert!(has_ended(&mut stuck, secs(60)));
    let mut answer = String::new();
    second.read_to_string(&mut answer).expect("it ends");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");

    // Those had as much time.
    assert_eq!(kept.get("/health/live").expect("it is open").0, 200);
    assert_eq!(silent.get("/health/live").expect("it is open").0, 200);
    for socket in [&mut stream, &mut ahead] {
        // First the records written meanwhile, then more.
        socket.set_nonblocking(true).expect("a socket");
        let mut buffer = vec![0; 64 * 1024];
        while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
        socket.set_nonblocking(false).expect("a socket");
        assert!(!has_ended(socket, secs(20)));
    }
    eventually(secs(20), "each is counted", || {
        let figures = kept.figures();
        ensure(
            figures["head_timeouts"] == 3 && figures["write_timeouts"] == 0,
            figures.to_string(),
        )
    });
}

fn a_large_request_head_gets_status_431() {
    let daemon = Daemon::start(&config_of(""));
    let mut kept = Kept::new(&daemon);
    assert_eq!(kept.get("/health/live").expect("it is open").0, 200);
    let ask = |size: usize| {
        let mut socket = connect(&daemon);
        let head = format!("GET /health/live HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(size));
        socket.write_all(head.as_bytes()).expect("it is read");
        if size < 30_000 {
            socket
                .write_all(b"\r\nConnection: close\r\n\r\n")
                .expect("it is read");
        } else {
            // It never ends, so the answer is to its size.
            socket.shutdown(Shutdown::Write).expect("it is open");
        }
        let mut answer = String::new();
        socket
            .read_to_string(&mut answer)
            .expect("an answer, then a proper end");
        answer
    };
    assert!(ask(28_000).starts_with("HTTP/1.1 200 OK\r\n"));
    for size in [33_000, 60_000, 200_000] {
        let answer = ask(size);
        assert!(
            answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"),
            "{size}: {answer}"
        );
    }
    // Many small fields too.
    let mut socket = connect(&daemon);
    let fields = "x: y\r\n".repeat(200);
    socket
        .write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes())
        .expect("it is read");
    let mut answer = String::new();
    socket
        .read_to_string(&mut answer)
        .expect("an answer, then a proper end");
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    eventually(secs(20), "each is counted", || {
        let figures = kept.figures();
        ensure(figures["large_heads"] == 4, figures.to_string())
    });
}

/// Descriptors that a process has open.
fn descriptors_of(pid: u32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Seconds of processor that a process has used.
fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name may hold spaces; behind it there are the state, and from the 14th field on the times.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let field = |index: usize| {
        fields
            .split_whitespace()
            .nth(index - 3)
            .and_then(|field| field.parse::<u64>().ok())
    };
    let ticks = field(14).zip(field(15)).map(|(user, system)| user + system);
    // A tick is a hundredth of a second on the machines that Linux commonly runs on (USER_HZ).
    ticks.expect("numbers") as f64 / 100.0
}

fn limit_descriptors(daemon: &Daemon, limit: u64) {
    let pid = i32::try_from(daemon.pid())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process");
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(limit),
        maximum,
    };
    prlimit(Some(pid), Resource::Nofile, limit).unwrap_or_else(|error| panic!("prlimit: {error}"));
}

/// Asks for the stream; the answer comes when the connection is accepted.
fn ask(daemon: &Daemon) -> TcpStream {
    let mut socket = connect(daemon);
    let head = "GET /events?start=live HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    socket.write_all(head.as_bytes()).expect("a request fits");
    socket
}

/// Handles of Kafka clients that a daemon may have: two for live records, and those of replays and lookups.
const HANDLES: usize = 2 + MAX_HANDLES;

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

fn a_request_head_may_have_32_kib_and_not_a_byte_more() {
    let daemon = Daemon::start(&config_of(""));
    let (start, end) = (
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX: ",
        "\r\nConnection: close\r\n\r\n",
    );
    for (size, status) in [
        (32_768, 200),
        (32_769, 431),
        (40_000, 431),
        (45_037, 431),
        (50_000, 431),
    ] {
        for piece in [size, 1000, 7001] {
            let head = format!("{start}{}{end}", "x".repeat(size - start.len() - end.len()));
            let mut socket = connect(&daemon);
            socket.set_nodelay(true).expect("a socket");
            for bytes in head.as_bytes().chunks(piece) {
                // It may be answered before its end.
                if socket.write_all(bytes).is_err() {
                    break;
                }
            }
            let mut answer = String::new();
            socket
                .read_to_string(&mut answer)
                .expect("an answer, then a proper end");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{size} by {piece}: {answer}"
            );
        }
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

fn descriptors_are_reserved_for_every_broker() {
    // Four replays have two handles each, two lookups one each. A handle has a connection to each broker.
    assert_eq!(MAX_HANDLES, 10);
    for brokers in [1, 3, 20, 100] {
        assert!(reserve(brokers, HANDLES) >= (HANDLES * brokers) as u64);
    }
    // Both clients and Kafka get half of what is not enough.
    assert_eq!(
        (left_for_clients(200, 190), left_for_clients(10_000, 190)),
        (100, 9_810)
    );

    // librdkafka makes a cluster of so many for the daemon.
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("reserved");
    let text = config(&broker, &[&topic], "start = \"live\"");
    let kafka = "[kafka]\nclient = \"librdkafka\"\nlibrdkafka = { \"test.mock.num.brokers\" = \"20\" }\n";
    let text = format!(
        "{}[log]\nlevel = \"debug\"\n",
        text.replacen("[kafka]\n", kafka, 1)
            .replacen("[http]\n", "[http]\nmax_clients = 19999\n", 1)
    );
    let daemon = Daemon::with(&text).start();
    let says = |brokers: usize| {
        let reserve = reserve(brokers, HANDLES);
        format!("{reserve} are reserved, for {HANDLES} handles of Kafka clients with {brokers} brokers")
    };
    daemon.wait_log(&says(1), secs(20));
    daemon.wait_log(&says(20), secs(30));
}

fn accept_pauses_without_descriptors_and_all_clients_connect_later() {
    /// Fewer than the daemon keeps for itself twice, so half of them are for clients.
    const LIMIT: u64 = 200;
    const PAUSES: u64 = 15;
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("descriptors");
    broker.create_topic(&topic, 1, &[]);
    let daemon = Daemon::start(&config(&broker, &[&topic], "start = \"live\""));
    let mut kept = Kept::new(&daemon);
    kept.figures();
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream
            .collect_until(|event| event.name == "caught-up", secs(20))
            .await;
        // In the first round the daemon stops by itself before the descriptors run out, in the second it
        // has none left at all.
        for round in 0..2 {
            let before = kept.figures();
            let open = before["connections"].as_u64().expect("a number");
            let limit = if round == 0 {
                LIMIT
            } else {
                // Where the next one would be.
                let used = descriptors_of(daemon.pid());
                let free = (0..LIMIT)
                    .find(|number| !used.contains(number))
                    .expect("one is free");
                assert!(
                    left_for_clients(free, reserve(1, HANDLES)) > open + 3,
                    "it does not stop by itself"
                );
                free
            };
            limit_descriptors(&daemon, limit);
            let places = if round == 0 { LIMIT / 2 - open } else { 0 };
            let mut sockets: Vec<TcpStream> = (0..places + 10).map(|_| ask(&daemon)).collect();

            let pauses = |figures: &Value| figures["accept_pauses"].as_u64().expect("a number");
            let from = eventually(secs(60), "accepting pauses", || {
                let now = pauses(&kept.figures());
                ensure(now > pauses(&before), now.to_string()).map(|()| now)
            });
            let (began, used) = (Instant::now(), processor_seconds(daemon.pid()));
            let now = eventually(secs(60), "it tries again and again", || {
                let now = pauses(&kept.figures());
                ensure(now >= from + PAUSES, now.to_string()).map(|()| now)
            });
            let (elapsed, used) = (began.elapsed(), processor_seconds(daemon.pid()) - used);
            println!("{PAUSES} pauses in {elapsed:.1?}, {used:.2} s of processor");
            // Which is to pause, not to spin: a pause lasts 100 ms, whatever the machine.
            assert!(
                u128::from(now - from) <= elapsed.as_millis() / 100 + 1,
                "{now} {from} {elapsed:?}"
            );
            assert!(used < elapsed.as_secs_f64() / 2.0, "{used} s of {elapsed:?}");
            let accepted = kept.figures()["connections"].as_u64().expect("a number") - open;
            if round == 0 {
                assert_eq!(accepted, places, "clients that are not accepted wait");
                let used = descriptors_of(daemon.pid()).len() as u64;
                assert!(used <= LIMIT - 20, "{used}: some are left for Kafka");
            } else {
                // librdkafka may give one back at any time.
                assert!(accepted < 4, "{accepted}: clients that are not accepted wait");
            }

            // Connected clients continue.
            broker.produce(&topic, &[Message::value(format!("meanwhile-{round}"))]);
            let events = stream.collect_until(is_record, secs(20)).await;
            assert_eq!(records(&events), [format!("meanwhile-{round}")]);

            // A place that becomes free is taken, in the order they came.
            let mut waiting = sockets.split_off(usize::try_from(places).expect("few"));
            let freed = if round == 0 { 5 } else { 0 };
            drop(sockets.drain(..freed));
            let (first, others) = waiting.split_at_mut(freed);
            for socket in first {
                assert!(!has_ended(socket, secs(60)), "it is accepted and answered");
            }
            // And all are, once there are more.
            limit_descriptors(&daemon, 1000);
            for socket in others {
                assert!(!has_ended(socket, secs(60)), "it is accepted and answered");
            }
            drop((sockets, waiting));
            eventually(secs(60), "disconnected clients are not counted", || {
                let figures = kept.figures();
                ensure(figures["connections"] == open, figures.to_string())
            });
        }
    });
    let log = daemon.log();
    for why in [
        "the limit of descriptors leaves no room for more",
        "Too many open files",
    ] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(why)).collect();
        assert!(lines.len() <= 4, "{lines:#?}");
    }
    assert!(log.contains("accept paused at 100 connections"), "{log}");
}
