//! A client that takes nothing is closed after `write_timeout` and counted, over TCP and over Unix
//! sockets alike; a slow one is not, and other clients are unaffected.

use crate::common::{config, is_record, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::sse::{Event, Item, Parser};
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, millis, secs};
use crate::trials;
use libtest_mimic::Trial;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

pub fn trials() -> Vec<Trial> {
    trials![clients_that_never_read_are_closed_and_slow_ones_get_every_record]
}

fn connect_tcp(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Set before connecting, or the kernel offers a larger window.
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&SockAddr::from(address)).expect("it listens");
    socket.into()
}

/// The records that wait for each client: more than sockets and buffers hold.
const RECORDS: usize = 20;

/// How long the daemon's clients may take nothing. The slow ones take some every 40 ms.
const WRITE_TIMEOUT: &str = "2s";

/// Asks for the stream by HTTP/1.0, whose bodies are not in chunks, and reads nothing.
fn ask<S: Write>(mut socket: S) -> S {
    socket
        .write_all(b"GET /events HTTP/1.0\r\nHost: x\r\n\r\n")
        .expect("a request fits");
    socket
}

fn connect_unix(path: &Path) -> UnixStream {
    UnixStream::connect(path).expect("it listens")
}

/// Reads slowly until signalled, then quickly up to the end of the backlog; returns its events.
fn read_slowly(mut socket: impl Read + Send + 'static, hurry: &Arc<AtomicBool>) -> JoinHandle<Vec<Event>> {
    let hurry = Arc::clone(hurry);
    thread::spawn(move || {
        let (mut head, mut parser, mut events) = (Some(Vec::new()), Parser::new(), Vec::new());
        let mut buffer = vec![0; 8 * 1024];
        loop {
            let read = socket.read(&mut buffer).expect("it stays open");
            assert!(read > 0, "it ended after {} events", events.len());
            let mut bytes = buffer[..read].to_vec();
            if let Some(mut begun) = head.take() {
                begun.extend(bytes);
                let Some(end) = begun.windows(4).position(|window| window == b"\r\n\r\n") else {
                    head = Some(begun);
                    continue;
                };
                bytes = begun.split_off(end + 4);
            }
            for item in parser.feed(&bytes) {
                match item {
                    Item::Event(event) => events.push(event),
                    Item::Violation(what) => panic!("{what}"),
                    Item::Comment(_) | Item::Retry(_) => {}
                }
            }
            if events.last().is_some_and(|event| event.name == "caught-up") {
                return events;
            }
            if !hurry.load(Ordering::Relaxed) {
                // A slow client, which still reads within the write timeout.
                thread::sleep(millis(40));
            }
        }
    })
}

/// The bytes left on a closed connection: less than the backlog, and then its end.
fn read_rest(mut socket: impl Read) -> usize {
    let mut rest = Vec::new();
    if let Err(error) = socket.read_to_end(&mut rest) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    }
    rest.len()
}

fn clients_that_never_read_are_closed_and_slow_ones_get_every_record() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("stalled");
    broker.create_topic(&topic, 1, &[]);
    let large = "x".repeat(500_000);
    broker.produce(&topic, &vec![Message::value(large.as_str()); RECORDS]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bridge.sock");
    let text = config(&broker, &[&topic], "start = \"earliest\"").replacen(
        "listen = [\"127.0.0.1:0\"]",
        &format!(
            "listen = [\"127.0.0.1:0\", \"unix:{}\"]\nwrite_timeout = \"{WRITE_TIMEOUT}\"",
            path.display()
        ),
        1,
    );
    let daemon = Daemon::start(&text);
    let address = SocketAddr::from(([127, 0, 0, 1], daemon.port()));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let figures = async || daemon.get("/streams").await.json()["http"].clone();
        assert_eq!(figures().await["write_timeouts"], 0);

        let hurry = Arc::new(AtomicBool::new(false));
        let slow = [
            read_slowly(ask(connect_tcp(address)), &hurry),
            read_slowly(ask(connect_unix(&path)), &hurry),
        ];
        // Twice, one after the other: so the slow ones are slow for twice the time at least.
        for counted in [2, 4] {
            let tcp = ask(connect_tcp(address));
            let unix = ask(connect_unix(&path));
            eventually_async(secs(60), "both are counted", async || {
                let figures = figures().await;
                ensure(figures["write_timeouts"] == counted, figures.to_string())
            })
            .await;
            for rest in [read_rest(tcp), read_rest(unix)] {
                assert!(rest < RECORDS * large.len(), "{rest}");
            }
        }
        // Other clients get new records meanwhile.
        let mut live = Stream::open(daemon.url("/events?start=live")).await;
        live.collect_until(named("caught-up"), secs(20)).await;
        broker.produce(&topic, &[Message::value("new")]);
        assert_eq!(records(&live.collect_until(is_record, secs(20)).await), ["new"]);

        hurry.store(true, Ordering::Relaxed);
        for slow in slow {
            let events = slow.join().expect("it reads to the end");
            let mut records = records(&events);
            // The new one may have come before the backlog's end was reached.
            records.retain(|record| record != "new");
            assert_eq!(records.len(), RECORDS);
            assert!(records.iter().all(|record| *record == large));
        }
        drop(live);
        eventually_async(secs(20), "a closed client is not counted", async || {
            let figures = figures().await;
            ensure(
                figures["connections"] == 1 && figures["write_timeouts"] == 4,
                figures.to_string(),
            )
        })
        .await;
    });
    daemon.wait_log("closed, took no byte for 2s (write_timeout)", secs(10));
}
