//! Floods: what a client of HTTP/2 may send too much of closes its connection, is counted by its kind, and costs no memory.

use super::{PATIENCE, PREFACE, connect, figures, open, read_until, request};
use crate::harness::daemon::Daemon;
use crate::harness::memory::{mebibytes, peak, reset_peak};
use crate::harness::promise;
use crate::harness::wait::{block_on, ensure, eventually_async};
use crate::limits::config_of;
use h2::Reason;
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use tokio::time::timeout;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_rapid_reset_closes_the_connection_and_is_counted),
        promise(a_flood_of_requests_that_are_opened_and_reset_is_counted),
        promise(endless_continuations_close_the_connection_and_are_counted),
        promise(a_head_that_grows_by_its_compression_is_counted),
        promise(requests_beyond_the_limit_are_refused_and_a_flood_of_them_is_counted),
        promise(a_flood_of_empty_data_is_counted),
        promise(a_flood_of_settings_is_counted),
        promise(a_flood_of_pings_is_counted),
        promise(a_flood_of_window_updates_is_counted),
        promise(a_flood_of_priorities_is_counted),
        promise(a_flood_of_unknown_frames_is_counted),
    ]
}

/// A frame of RFC 9113, section 4.1.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// `GET /health/live` or another method, as a block of fields (RFC 7541): indexed ones, and two literal ones.
fn head(method: &str) -> Vec<u8> {
    block(method, "/health/live")
}

/// The frame of a `GET` by the first stream.
pub(super) fn get(path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block("GET", path))
}

pub(super) fn block(method: &str, path: &str) -> Vec<u8> {
    let mut block = vec![0x86];
    for (index, text) in [(2, method), (4, path), (1, "127.0.0.1")] {
        block.extend([index, u8::try_from(text.len()).expect("short")]);
        block.extend_from_slice(text.as_bytes());
    }
    block
}

/// A client that writes frames, and has what comes read by a thread.
struct Flooder {
    socket: TcpStream,
    reader: thread::JoinHandle<Vec<u8>>,
}

impl Flooder {
    fn connect(daemon: &Daemon) -> Flooder {
        let mut socket = TcpStream::connect(("127.0.0.1", daemon.port())).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let mut ours = socket.try_clone().expect("a socket");
        socket.write_all(PREFACE).expect("sent");
        socket.write_all(&frame(SETTINGS, 0, 0, &[])).expect("settings");
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            // Its end, or a reset.
            let _ = ours.read_to_end(&mut read);
            read
        });
        Flooder { socket, reader }
    }

    /// Sends these bytes many times, or until the daemon takes no more.
    fn send(&mut self, bytes: &[u8], times: usize) {
        for _ in 0..times {
            if self.socket.write_all(bytes).is_err() {
                break;
            }
        }
    }
}

/// Most memory that a flood may cost, in MiB: what a process needs anyway while it serves a few connections.
const MOST_MEMORY: f64 = 8.0;

/// Lets a client flood a daemon, which counts it by its kind, alone, and serves others all the time. Returns what it has
/// answered.
fn flood(kind: &str, act: impl Fn(&mut Flooder)) -> Vec<u8> {
    let daemon = Daemon::start(&config_of("http2 = true\nkeepalive = \"1s\""));
    block_on(async {
        let (mut client, connection) = connect(&daemon, 65_535).await;
        let mut sibling = open(&mut client, "/events?start=live").await;
        drop(open(&mut client, "/health/live").await);
        let before = peak(daemon.pid());
        reset_peak(daemon.pid());
        let mut flooder = Flooder::connect(&daemon);
        act(&mut flooder);
        let answer = flooder.reader.join().expect("it was closed");
        eventually_async(PATIENCE, "it is counted", async || {
            let figures = figures(&daemon).await;
            let floods = figures["http"]["http2"]["floods"].as_object().expect("kinds");
            let all: u64 = floods.values().filter_map(serde_json::Value::as_u64).sum();
            ensure(floods[kind] == 1 && all == 1, figures.to_string())
        })
        .await;
        let cost = mebibytes(peak(daemon.pid()).saturating_sub(before));
        assert!(cost < MOST_MEMORY, "{cost} MiB");
        // Another connection is unaffected, and so is its stream.
        drop(open(&mut client, "/health/live").await);
        read_until(&mut sibling, ":\n").await;
        connection.abort();
        let metrics = daemon.get("/metrics").await.text();
        let line = format!("kafka_sse_bridge_http2_floods_total{{kind=\"{kind}\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
        answer
    })
}

fn a_rapid_reset_closes_the_connection_and_is_counted() {
    let daemon = Daemon::start(&config_of("http2 = true"));
    block_on(async {
        let (mut client, connection) = connect(&daemon, 65_535).await;
        // Then it knows how many requests it may have open: more would be refused, which is another flood.
        drop(open(&mut client, "/health/live").await);
        let mut sent = 0;
        for _ in 0..20_000 {
            let Ok(mut ready) = client.clone().ready().await else {
                break;
            };
            let Ok((_, mut stream)) = ready.send_request(request("/events?start=live"), true) else {
                break;
            };
            stream.send_reset(Reason::CANCEL);
            sent += 1;
        }
        let ended = timeout(PATIENCE, connection)
            .await
            .expect("in time")
            .expect("a task");
        // The reason may be lost, because the client still sends when the connection is closed.
        let error = ended.expect_err("it was closed");
        assert!(sent < 20_000, "{error} after {sent}");
        eventually_async(PATIENCE, "it is counted", async || {
            let figures = figures(&daemon).await;
            ensure(
                figures["http"]["http2"]["floods"]["reset"] == 1,
                figures.to_string(),
            )
        })
        .await;
        // Others are served.
        let (mut client, connection) = connect(&daemon, 65_535).await;
        drop(open(&mut client, "/health/live").await);
        connection.abort();
    });
}

/// Requests that are handled before they are reset, which no library counts.
fn a_flood_of_requests_that_are_opened_and_reset_is_counted() {
    let daemon = Daemon::start(&config_of("http2 = true"));
    block_on(async {
        let (mut client, connection) = connect(&daemon, 65_535).await;
        let mut opened = 0;
        while opened < 5000 {
            let Ok(mut ready) = client.clone().ready().await else {
                break;
            };
            let Ok((response, mut stream)) = ready.send_request(request("/events?start=live"), true) else {
                break;
            };
            if response.await.is_err() {
                break;
            }
            stream.send_reset(Reason::CANCEL);
            opened += 1;
        }
        assert!((1000..5000).contains(&opened), "{opened}");
        let _ = timeout(PATIENCE, connection).await.expect("it ends");
        eventually_async(PATIENCE, "it is counted", async || {
            let figures = figures(&daemon).await;
            let is_counted = figures["http"]["http2"]["floods"]["reset"] == 1;
            let is_left = figures["streams"][0]["clients"] == 0;
            ensure(is_counted && is_left, figures.to_string())
        })
        .await;
        client = connect(&daemon, 65_535).await.0;
        drop(open(&mut client, "/health/live").await);
    });
}

fn endless_continuations_close_the_connection_and_are_counted() {
    // A head that never ends: a field whose value is a byte (RFC 7541, section 6.2.2), again and again.
    let field = b"\x00\x01x\x01y".repeat(100);
    flood("head", |flooder| {
        flooder.send(&frame(HEADERS, END_STREAM, 1, &field), 1);
        flooder.send(&frame(CONTINUATION, 0, 1, &field), 20_000);
    });
}

fn a_head_that_grows_by_its_compression_is_counted() {
    // A field of 3 KiB for the table, and then a byte for each repetition of it: 15 KiB that mean 35 MiB.
    let mut block = head("GET");
    // With its length of 3000 as an integer with a prefix of 7 bits, and the index 62.
    block.extend([0x40, 1, b'x', 0x7f, 0xb9, 0x16]);
    block.extend([b'y'; 3000]);
    block.extend([0xbe; 12_000]);
    flood("head", |flooder| {
        flooder.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block), 1);
    });
}

/// By a client that does not keep to `SETTINGS_MAX_CONCURRENT_STREAMS` (RFC 9113, section 5.1.2).
fn requests_beyond_the_limit_are_refused_and_a_flood_of_them_is_counted() {
    const OPEN: u32 = 128;
    const REFUSED: [u8; 4] = [0, 0, 0, 7];
    let answer = flood("head", |flooder| flooder.send(&requests(OPEN + 1000), 1));
    let refusal = |number: u32| frame(3, 0, 2 * number + 1, &REFUSED);
    let has = |frame: &[u8]| answer.windows(frame.len()).any(|found| found == frame);
    assert!(!has(&refusal(OPEN - 1)));
    for number in OPEN..OPEN + 128 {
        assert!(has(&refusal(number)), "{number}");
    }
    assert!(!has(&refusal(OPEN + 128)));
}

/// As many requests for event streams, at once.
fn requests(count: u32) -> Vec<u8> {
    let fields = block("GET", "/events?start=live");
    let request = |number: u32| frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &fields);
    (0..count).flat_map(request).collect()
}

fn a_flood_of_empty_data_is_counted() {
    flood("data", |flooder| {
        flooder.send(&frame(HEADERS, END_HEADERS, 1, &head("POST")), 1);
        flooder.send(&frame(DATA, 0, 1, &[]), 20_000);
    });
}

fn a_flood_of_settings_is_counted() {
    // The initial window, up and down (RFC 9113, section 6.5.2).
    let settings = [[0, 4, 0, 0, 0xff, 0xff], [0, 4, 0, 0, 0, 1]].map(|one| frame(SETTINGS, 0, 0, &one));
    flood("settings", |flooder| flooder.send(&settings.concat(), 10_000));
}

fn a_flood_of_pings_is_counted() {
    for flags in [0, 1] {
        flood("ping", |flooder| {
            flooder.send(&frame(PING, flags, 0, &[7; 8]), 20_000);
        });
    }
}

fn a_flood_of_window_updates_is_counted() {
    flood("window-update", |flooder| {
        flooder.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 20_000);
    });
}

fn a_flood_of_priorities_is_counted() {
    flood("priority", |flooder| {
        flooder.send(&frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]), 20_000);
    });
}

fn a_flood_of_unknown_frames_is_counted() {
    // PRIORITY_UPDATE (RFC 9218), and a kind that does not exist.
    for kind in [0x10, 0x42] {
        flood("other", |flooder| {
            flooder.send(&frame(kind, 0, 0, &[0; 64]), 20_000);
        });
    }
}
