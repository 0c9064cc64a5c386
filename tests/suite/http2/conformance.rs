//! Frames against RFC 9113: what ends the connection, what ends its stream, and what is passed over.

use super::floods::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, WINDOW_UPDATE, block, frame,
};
use super::{PATIENCE, PREFACE};
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::wait::millis;
use crate::limits::config_of;
use crate::trials;
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    trials![
        frames_against_rfc_9113_end_their_connection_or_their_stream,
        frames_that_rfc_9113_allows_are_answered,
        a_response_keeps_within_the_windows_of_its_client,
        a_client_that_sends_when_its_connection_has_ended_is_not_reset,
    ]
}

const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;

/// Error codes (RFC 9113, section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;

/// A frame that the daemon has sent.
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The error of RST_STREAM or GOAWAY.
    fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

struct Client(TcpStream);

impl Client {
    fn connect(daemon: &Daemon, settings: &[u8]) -> Client {
        let mut socket = TcpStream::connect(("127.0.0.1", daemon.port())).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.write_all(PREFACE).expect("sent");
        socket.write_all(&frame(SETTINGS, 0, 0, settings)).expect("sent");
        Client(socket)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("sent");
    }

    /// The next frame; none at the end of the connection.
    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let mut payload = vec![0; usize::try_from(length).expect("short")];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    #[track_caller]
    fn until(&mut self, is_wanted: impl Fn(&Frame) -> bool) -> Frame {
        let mut seen = Vec::new();
        while let Some(frame) = self.next() {
            if is_wanted(&frame) {
                return frame;
            }
            seen.push(frame);
        }
        panic!("it ended after {seen:?}")
    }

    /// Whether requests are still answered, by status 200.
    #[track_caller]
    fn assert_serves(&mut self, stream: u32) {
        self.send(&get(stream));
        let response = self.until(|frame| frame.stream == stream && frame.kind == HEADERS);
        // An indexed field (RFC 7541, appendix A).
        assert_eq!(response.payload.first(), Some(&0x88), "{response:?}");
    }
}

fn head(stream: u32, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, fields)
}

fn get(stream: u32) -> Vec<u8> {
    head(stream, &block("GET", "/health/live"))
}

/// `GET` with one more field.
fn with(name: &str, value: &str) -> Vec<u8> {
    let mut fields = block("GET", "/health/live");
    fields.push(0);
    for text in [name, value] {
        fields.push(u8::try_from(text.len()).expect("short"));
        fields.extend_from_slice(text.as_bytes());
    }
    head(1, &fields)
}

/// SETTINGS with one setting.
fn setting(name: u16, value: u32) -> Vec<u8> {
    let payload = [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// The section that each is against, the frames, and the error of the connection. The crate h2 says PROTOCOL_ERROR for some that
/// have errors of their own, and takes a name in capitals for an error of the connection.
fn against_the_connection() -> Vec<(&'static str, Vec<u8>, u32)> {
    let unfinished = frame(HEADERS, END_STREAM, 1, &block("GET", "/health/live"));
    vec![
        (
            "4.2, a frame above the size that was allowed",
            frame(DATA, 0, 1, "x".repeat(16_385).as_bytes()),
            FRAME_SIZE_ERROR,
        ),
        (
            "4.3, an index that is not in the table",
            head(1, &[0xff, 0x7f]),
            PROTOCOL_ERROR,
        ),
        (
            "5.1, data of a stream that is idle",
            frame(DATA, 0, 1, b"x"),
            PROTOCOL_ERROR,
        ),
        ("5.1.1, a stream of the server's", get(2), PROTOCOL_ERROR),
        ("6.1, data of no stream", frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        ("6.2, a head of no stream", get(0), PROTOCOL_ERROR),
        (
            "6.4, a reset of a stream that is idle",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            PROTOCOL_ERROR,
        ),
        (
            "6.5, settings of a stream",
            frame(SETTINGS, 0, 1, &[]),
            PROTOCOL_ERROR,
        ),
        (
            "6.5, half a setting",
            frame(SETTINGS, 0, 0, &[0; 5]),
            PROTOCOL_ERROR,
        ),
        ("6.5.2, ENABLE_PUSH = 2", setting(2, 2), PROTOCOL_ERROR),
        (
            "6.5.2, a window that is too large",
            setting(4, 1 << 31),
            PROTOCOL_ERROR,
        ),
        (
            "6.6, a promise of the client's",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]),
            PROTOCOL_ERROR,
        ),
        ("6.7, a short ping", frame(PING, 0, 0, &[0; 7]), PROTOCOL_ERROR),
        ("6.9, an increment of nothing", window(0, 0), PROTOCOL_ERROR),
        (
            "6.9.1, a window that grows too large",
            window(0, (1 << 31) - 1),
            FLOW_CONTROL_ERROR,
        ),
        (
            "6.10, the rest of no head",
            frame(CONTINUATION, END_HEADERS, 1, &block("GET", "/")),
            PROTOCOL_ERROR,
        ),
        (
            "6.2, another frame within a head",
            [unfinished, frame(PING, 0, 0, &[0; 8])].concat(),
            PROTOCOL_ERROR,
        ),
        ("8.2.1, a name in capitals", with("Name", "x"), PROTOCOL_ERROR),
    ]
}

/// Likewise, with the error of the stream, whose connection goes on.
fn against_a_stream() -> Vec<(&'static str, Vec<u8>)> {
    let without_path = [0x82, 0x86, 0x01, 1, b'x'];
    let mut late = vec![0];
    for text in ["x", "y"] {
        late.push(1);
        late.extend_from_slice(text.as_bytes());
    }
    late.extend(block("GET", "/health/live"));
    vec![
        (
            "8.2.2, a field of the connection",
            with("connection", "keep-alive"),
        ),
        ("8.2.2, te", with("te", "gzip")),
        ("8.3.1, no path", head(1, &without_path)),
        ("8.3, a pseudo-field of a response", with(":status", "200")),
        ("8.3, a pseudo-field behind others", head(1, &late)),
        ("8.3.1, the path twice", with(":path", "/")),
    ]
}

fn frames_against_rfc_9113_end_their_connection_or_their_stream() {
    let daemon = Daemon::start(&config_of("http2 = true"));
    let mut wrong = Vec::new();
    for (section, frames, error) in against_the_connection() {
        let mut client = Client::connect(&daemon, &[]);
        client.send(&frames);
        let end = client.until(|frame| frame.kind == GOAWAY);
        let has_ended = client.next().is_none();
        if end.error() != error || !has_ended {
            wrong.push(format!("{section}: {end:?}, end {has_ended}"));
        }
    }
    for (section, frames) in against_a_stream() {
        let mut client = Client::connect(&daemon, &[]);
        client.send(&frames);
        let end = client.until(|frame| frame.stream == 1 || frame.kind == GOAWAY);
        if (end.kind, end.stream, end.error()) == (RST_STREAM, 1, PROTOCOL_ERROR) {
            client.assert_serves(3);
        } else {
            wrong.push(format!("{section}: {end:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn frames_that_rfc_9113_allows_are_answered() {
    let daemon = Daemon::start(&config_of("http2 = true"));
    let mut client = Client::connect(&daemon, &[]);
    // Section 6.5.3, and 6.7.
    client.until(|frame| frame.kind == SETTINGS && frame.flags == ACK);
    client.send(&frame(PING, 0, 0, b"opaque!!"));
    let pong = client.until(|frame| frame.kind == PING);
    assert_eq!((pong.flags, &*pong.payload), (ACK, &b"opaque!!"[..]));
    // Sections 4.1 and 5.5: kinds, flags and settings that are unknown.
    client.send(&frame(0x42, 0xff, 0, b"what"));
    client.send(&setting(0x42, 7));
    client.assert_serves(1);
    // Section 6.2: a head in two frames, with padding and a priority.
    let fields = block("GET", "/health/live");
    let (first, second) = fields.split_at(5);
    let padded = [&[3, 0, 0, 0, 0, 16][..], first, &[0; 3]].concat();
    client.send(&frame(HEADERS, END_STREAM | 0x8 | 0x20, 3, &padded));
    client.send(&frame(CONTINUATION, END_HEADERS, 3, second));
    let response = client.until(|frame| frame.stream == 3);
    assert_eq!((response.kind, response.payload[0]), (HEADERS, 0x88));
    // Section 5.1.1: streams may be left out, and then come no more.
    client.assert_serves(101);
    client.send(&get(99));
    let end = client.until(|frame| frame.kind == GOAWAY);
    assert_eq!(end.error(), PROTOCOL_ERROR, "{end:?}");
}

/// Section 6.9: of a stream, and of its connection.
fn a_response_keeps_within_the_windows_of_its_client() {
    const WHOLE: usize = r#"{"live":true}"#.len();
    let daemon = Daemon::start(&config_of("http2 = true"));
    // An initial window of five bytes.
    let mut client = Client::connect(&daemon, &[0, 4, 0, 0, 0, 5]);
    client.send(&[get(1), get(3)].concat());
    let mut got = BTreeMap::from([(1, 0), (3, 0)]);
    let mut read = |client: &mut Client, until: [usize; 2]| {
        while [got[&1], got[&3]] != until {
            let data = client.until(|frame| frame.kind == DATA);
            *got.get_mut(&data.stream).expect("one of both") += data.payload.len();
            assert!(got[&1] <= until[0] && got[&3] <= until[1], "{got:?}");
        }
    };
    read(&mut client, [5, 5]);
    client.send(&window(3, 2));
    read(&mut client, [5, 7]);
    // Of all streams, by a setting (section 6.9.2).
    client.send(&setting(4, 6));
    read(&mut client, [6, 8]);
    client.send(&[window(1, 100), window(3, 100)].concat());
    read(&mut client, [WHOLE, WHOLE]);
}

/// It may not have read the end yet: closing with bytes unread would take that away.
fn a_client_that_sends_when_its_connection_has_ended_is_not_reset() {
    let mut daemon = Daemon::start(&config_of("http2 = true"));
    let mut client = Client::connect(&daemon, &[]);
    client.assert_serves(1);
    daemon.signal(Signal::TERM);
    let end = client.until(|frame| frame.kind == GOAWAY);
    assert_eq!(end.error(), 0, "{end:?}");
    // The daemon closes once the client has answered its ping, and so has read the GOAWAY (RFC 9113, section 6.8).
    while let Some(read) = client.next() {
        if read.kind == PING && read.flags & ACK == 0 {
            client.send(&frame(PING, ACK, 0, &read.payload));
        }
    }
    // Nothing tells when a daemon that does not read on would close its socket, so these come before and after.
    let began = Instant::now();
    while began.elapsed() < millis(300) {
        client.send(&frame(PING, 0, 0, b"too late"));
        thread::sleep(millis(5));
    }
    client.0.shutdown(Shutdown::Write).expect("a socket");
    assert!(daemon.wait_exit(PATIENCE).success());
    let error = client.0.take_error().expect("a socket");
    assert!(error.is_none(), "{error:?}");
}
