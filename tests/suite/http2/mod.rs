//! HTTP/2: flow control and the write timeout of each stream, drain, lifetimes, limits, and abuse.

mod conformance;
mod floods;
mod heads;
mod memory;

use crate::common::config;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::{Daemon, finish};
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{promise, promise_on};
use crate::limits::config_of;
use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Reason, RecvStream};
use http::{Request, StatusCode};
use libtest_mimic::Trial;
use serde_json::Value;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        promise(curl_speaks_http_2_without_tls_only_if_it_is_configured),
        promise_on(
            Version::V4_4,
            a_stream_that_nobody_reads_is_reset_and_its_siblings_continue,
        ),
        promise_on(Version::V4_4, a_slow_reader_gets_every_record_over_http_2),
        promise_on(Version::V4_4, streams_share_a_connection_fairly),
        promise(a_shutdown_says_goodbye_and_goaway),
        promise(requests_over_the_limit_of_a_connection_wait),
        promise(each_stream_of_a_connection_counts_as_a_client),
        promise(a_lifetime_ends_the_connection_and_no_sibling),
        promise(a_client_that_answers_no_goaway_is_not_waited_for),
    ];
    trials.extend(floods::trials());
    trials.extend(heads::trials());
    trials.extend(conformance::trials());
    trials.extend(memory::trials());
    trials
}

const PATIENCE: Duration = secs(30);

type Client = SendRequest<Bytes>;

/// A connection of HTTP/2 whose windows are these; its frames are exchanged by a task.
async fn connect(daemon: &Daemon, stream_window: u32) -> (Client, JoinHandle<Result<(), h2::Error>>) {
    connect_with(daemon, stream_window, 1 << 30).await
}

async fn connect_with(
    daemon: &Daemon,
    stream_window: u32,
    connection_window: u32,
) -> (Client, JoinHandle<Result<(), h2::Error>>) {
    let socket = TcpStream::connect(("127.0.0.1", daemon.port()))
        .await
        .expect("it listens");
    socket.set_nodelay(true).expect("a socket");
    let (client, connection): (Client, Connection<TcpStream>) = h2::client::Builder::new()
        .initial_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .handshake(socket)
        .await
        .expect("a connection");
    (client, tokio::spawn(connection))
}

fn request(path: &str) -> Request<()> {
    Request::get(format!("http://127.0.0.1{path}"))
        .header("accept", "text/event-stream")
        .body(())
        .expect("a request")
}

/// Opens a stream, and returns its body.
async fn open(client: &mut Client, path: &str) -> RecvStream {
    let mut ready = client.clone().ready().await.expect("it is open");
    let (response, _) = ready.send_request(request(path), true).expect("sent");
    let response = timeout(PATIENCE, response)
        .await
        .expect("in time")
        .expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body()
}

/// Reads the body until it contains `text`, and gives its window back.
async fn read_until(body: &mut RecvStream, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let data = timeout(PATIENCE, body.data()).await.expect("in time");
        let data = data.expect("more").expect("data");
        body.flow_control()
            .release_capacity(data.len())
            .expect("a window");
        read.push_str(&String::from_utf8_lossy(&data));
    }
    read
}

async fn figures(daemon: &Daemon) -> Value {
    daemon.get("/streams").await.json()
}

fn curl_speaks_http_2_without_tls_only_if_it_is_configured() {
    for (line, has_http2) in [("", false), ("http2 = true", true)] {
        let daemon = Daemon::start(&config_of(line));
        for (flag, version, works) in [
            ("--http1.1", "1.1", true),
            ("--http2-prior-knowledge", "2", has_http2),
        ] {
            let mut command = Command::new("curl");
            command.args(["--silent", "--max-time", "20", "--noproxy", "*", flag]);
            command.args(["-w", " %{http_version}", &daemon.url("/health/live")]);
            let output = finish(&mut command);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(
                said == format!("{{\"live\":true}} {version}"),
                works,
                "{line} {flag}: {said}"
            );
        }
    }
}

/// A daemon with HTTP/2 and a topic of 20 large records.
fn large(http: &str) -> (Daemon, Arc<Broker>, String) {
    let (text, broker, topic) = large_topic(http);
    let daemon = Daemon::start(&text);
    block_on(daemon.wait_ready(PATIENCE));
    (daemon, broker, topic)
}

/// The configuration for that, the broker, and the topic.
fn large_topic(http: &str) -> (String, Arc<Broker>, String) {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("http2");
    broker.create_topic(&topic, 1, &[]);
    let value = "x".repeat(500_000);
    broker.produce(&topic, &vec![Message::value(value.as_str()); RECORDS]);
    let text = config(&broker, &[&topic], "start = \"earliest\"");
    let text = text.replacen("[http]\n", &format!("[http]\nhttp2 = true\n{http}\n"), 1);
    (text, broker, topic)
}

const RECORDS: usize = 20;

fn a_stream_that_nobody_reads_is_reset_and_its_siblings_continue() {
    let (daemon, broker, topic) = large("write_timeout = \"2s\"");
    block_on(async {
        let (mut client, connection) = connect(&daemon, 65_535).await;
        let mut live = open(&mut client, "/events?start=live").await;
        read_until(&mut live, "caught-up").await;
        let mut stalled = open(&mut client, "/events").await;
        // Its window is never given back; the sibling gets what is written meanwhile.
        for number in 0..5 {
            let text = format!("while-one-is-stalled-{number}");
            broker.produce(&topic, &[Message::value(text.as_str())]);
            read_until(&mut live, &text).await;
        }
        let mut read = 0;
        let end = loop {
            match timeout(PATIENCE, stalled.data()).await.expect("in time") {
                Some(Ok(data)) => read += data.len(),
                Some(Err(error)) => break error,
                None => panic!("it ended"),
            }
        };
        assert_eq!(end.reason(), Some(Reason::CANCEL), "{end}");
        assert!(read <= 65_535, "{read}");
        eventually_async(PATIENCE, "it is counted", async || {
            let figures = figures(&daemon).await;
            let is_counted = figures["http"]["write_timeouts"] == 1 && figures["streams"][0]["clients"] == 1;
            ensure(is_counted, figures.to_string())
        })
        .await;
        let metrics = daemon.get("/metrics").await.text();
        let reason = "kafka_sse_bridge_clients_closed_total{stream=\"/events\",reason=\"write-timeout\"} 1";
        assert!(metrics.contains(reason), "{metrics}");
        // The connection is as good as before.
        broker.produce(&topic, &[Message::value("after")]);
        read_until(&mut live, "after").await;
        let mut again = open(&mut client, "/events?start=live").await;
        read_until(&mut again, "caught-up").await;
        connection.abort();
    });
}

fn a_slow_reader_gets_every_record_over_http_2() {
    let (daemon, _broker, _topic) = large("write_timeout = \"2s\"");
    block_on(async {
        let (mut client, connection) = connect(&daemon, 65_535).await;
        let mut slow = open(&mut client, "/events").await;
        let (mut read, mut turns) = (0, 0_u32);
        while read < RECORDS * 500_000 {
            let data = timeout(PATIENCE, slow.data()).await.expect("in time");
            let data = data.expect("more").expect("it is not reset");
            read += data.len();
            slow.flow_control()
                .release_capacity(data.len())
                .expect("a window");
            // Slow for longer than the write timeout, and then in a hurry.
            if turns < 40 {
                turns += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        assert_eq!(figures(&daemon).await["http"]["write_timeouts"], 0);
        connection.abort();
    });
}

/// However little their connection takes at once, and whoever began first.
fn streams_share_a_connection_fairly() {
    const STREAMS: usize = 4;
    const ALL: usize = RECORDS * 500_000;
    let (daemon, _broker, _topic) = large("");
    block_on(async {
        let (mut client, connection) = connect_with(&daemon, 1 << 24, 65_535).await;
        let mut bodies = Vec::new();
        for _ in 0..STREAMS {
            bodies.push(open(&mut client, "/events").await);
        }
        let read = Arc::new([const { AtomicUsize::new(0) }; STREAMS]);
        let mut readers = JoinSet::new();
        for (place, mut body) in bodies.into_iter().enumerate() {
            let read = Arc::clone(&read);
            readers.spawn(async move {
                while read[place].load(Ordering::Relaxed) < ALL {
                    let data = timeout(PATIENCE, body.data()).await.expect("in time");
                    let data = data.expect("more").expect("data");
                    body.flow_control()
                        .release_capacity(data.len())
                        .expect("a window");
                    read[place].fetch_add(data.len(), Ordering::Relaxed);
                }
            });
        }
        readers.join_next().await.expect("a reader").expect("no panic");
        let read: Vec<usize> = read.iter().map(|read| read.load(Ordering::Relaxed)).collect();
        assert!(read.iter().all(|read| *read >= ALL / 2), "{read:?}");
        connection.abort();
    });
}

fn a_shutdown_says_goodbye_and_goaway() {
    let mut daemon = Daemon::start(&config_of("http2 = true"));
    block_on(async {
        let (mut client, connection) = connect(&daemon, 65_535).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(open(&mut client, "/events?start=live").await);
        }
        let (mut idle, idle_connection) = connect(&daemon, 65_535).await;
        // Until it is accepted, the end of the listener resets it.
        drop(open(&mut idle, "/health/live").await);
        daemon.signal(Signal::TERM);
        for stream in &mut streams {
            let read = read_until(stream, "event: goodbye").await;
            assert!(!read.contains("overloaded"), "{read}");
            // A proper end, perhaps by an empty frame.
            while let Some(data) = timeout(PATIENCE, stream.data()).await.expect("in time") {
                data.expect("it is not reset");
            }
        }
        // GOAWAY without an error ends a connection properly.
        for connection in [connection, idle_connection] {
            let ended = timeout(PATIENCE, connection)
                .await
                .expect("in time")
                .expect("a task");
            ended.expect("no error");
        }
    });
    assert!(daemon.wait_exit(secs(20)).success());
}

fn requests_over_the_limit_of_a_connection_wait() {
    let daemon = Daemon::start(&config_of("http2 = true\nhttp2_max_concurrent_streams = 2"));
    block_on(async {
        let (mut client, connection) = connect(&daemon, 65_535).await;
        let first = open(&mut client, "/events?start=live").await;
        let _second = open(&mut client, "/events?start=live").await;
        // The client of this suite keeps the limit that the daemon has told it.
        let third = timeout(secs(1), client.clone().ready()).await;
        let sent = match third {
            Ok(ready) => {
                let (response, _) = ready
                    .expect("open")
                    .send_request(request("/health/live"), true)
                    .expect("sent");
                timeout(secs(1), response).await.is_ok()
            }
            Err(_) => false,
        };
        assert!(!sent, "it waits");
        drop(first);
        eventually_async(PATIENCE, "one is gone", async || {
            let figures = figures(&daemon).await;
            ensure(figures["streams"][0]["clients"] == 1, figures.to_string())
        })
        .await;
        drop(open(&mut client, "/health/live").await);
        connection.abort();
    });
}

fn each_stream_of_a_connection_counts_as_a_client() {
    let daemon = Daemon::start(&config_of("http2 = true\nmax_clients_per_ip = 3"));
    block_on(async {
        let (mut client, connection) = connect(&daemon, 65_535).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(open(&mut client, "/events?start=live").await);
        }
        let mut refused = open(&mut client, "/events?start=live").await;
        read_until(&mut refused, "overloaded").await;
        // Refusing one closes none of the others.
        let figures = figures(&daemon).await;
        assert_eq!(figures["http"]["limits"]["clients"], 3, "{figures}");
        drop(streams);
        drop(client);
        drop(refused);
        connection.abort();
        eventually_async(PATIENCE, "all are gone", async || {
            let figures = daemon.get("/streams").await.json();
            ensure(figures["http"]["limits"]["clients"] == 0, figures.to_string())
        })
        .await;
    });
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A load balancer gives new requests to another daemon once a connection is told to go away.
fn a_lifetime_ends_the_connection_and_no_sibling() {
    let daemon = Daemon::start(&config_of(
        "http2 = true\nmax_lifetime = \"6s\"\nkeepalive = \"1s\"",
    ));
    block_on(async {
        let (mut client, connection) = connect(&daemon, 65_535).await;
        let mut first = open(&mut client, "/events?start=live").await;
        // A sibling that is younger by more than the tenth by which a lifetime may be shortened.
        tokio::time::sleep(secs(3)).await;
        let mut younger = open(&mut client, "/events?start=live").await;
        let read = read_until(&mut first, "event: goodbye").await;
        assert!(read.contains(r#"{"reason":"lifetime"}"#), "{read}");
        while let Some(data) = timeout(PATIENCE, first.data()).await.expect("in time") {
            data.expect("a proper end");
        }
        eventually_async(PATIENCE, "the connection takes no more requests", async || {
            let is_refused = match client.clone().ready().await {
                Ok(mut ready) => ready.send_request(request("/health/live"), true).is_err(),
                Err(_) => true,
            };
            ensure(is_refused, "it does")
        })
        .await;
        // The younger one goes on, to its own end: it got a keepalive in every second of more than half a lifetime.
        let read = read_until(&mut younger, "event: goodbye").await;
        assert!(read.contains(r#"{"reason":"lifetime"}"#), "{read}");
        assert!(read.matches(":\n").count() > 3, "{read}");
        let ended = timeout(PATIENCE, connection).await.expect("in time");
        ended.expect("a task").expect("no error");
        // A new connection is as good as the first.
        let (mut client, connection) = connect(&daemon, 65_535).await;
        drop(open(&mut client, "/events?start=live").await);
        connection.abort();
    });
}

fn a_client_that_answers_no_goaway_is_not_waited_for() {
    let daemon = Daemon::start(&config_of("http2 = true\nmax_lifetime = \"2s\""));
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", daemon.port())).expect("it listens");
    socket.set_read_timeout(Some(secs(90))).expect("a socket");
    socket.write_all(PREFACE).expect("sent");
    // Settings, and the head of a request.
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).expect("sent");
    socket.write_all(&floods::get("/events")).expect("sent");
    let mut read = Vec::new();
    socket.read_to_end(&mut read).expect("a proper end");
    assert!(String::from_utf8_lossy(&read).contains("event: goodbye"));
    // Not because of the pings that it does not answer either.
    let figures = block_on(figures(&daemon));
    assert_eq!(figures["http"]["http2"]["ping_timeouts"], 0, "{figures}");
}
