//! Heads of requests, through a listener.

use std::cell::OnceCell;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::cors::CorsSettings;
use crate::config::settings::Draft;
use crate::config::{HttpSettings, Start, StreamSettings};
use crate::http::exposure::Surface;
use crate::http::listener::Listener;
use crate::http::router::routes;
use crate::http::server::{Stopping, Transport, handler, serve};
use crate::http::state::AppState;
use crate::stream::Stream;
use crate::stream::live_settings::Pace;

/// How long a response to HTTP/1.1 may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the end of a connection of HTTP/2 is waited for, which its streams may delay.
const HTTP2_PATIENCE: Duration = Duration::from_millis(20);

/// The heads after which a body has no end.
const ENDLESS: [&[u8]; 2] = [
    b"content-type: text/event-stream",
    b"content-type: application/x-ndjson",
];

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

/// A response at most, when only its head counts.
const MOST: usize = 1 << 20;

/// Two listeners and their clients, on one thread.
struct Server {
    runtime: Runtime,
    /// Without HTTP/2, and with it.
    addresses: [SocketAddr; 2],
    _running: [watch::Sender<bool>; 2],
}

thread_local! {
    static SERVER: OnceCell<Server> = const { OnceCell::new() };
}

impl Server {
    fn start() -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let begin = |has_http2: bool| {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("kafka-sse-bridge-fuzzing-{}-{count}", std::process::id());
            let address = SocketAddr::from_abstract_name(name)?;
            let listener = unix::UnixListener::bind_addr(&address)?;
            listener.set_nonblocking(true)?;
            let state = state(has_http2);
            let connections = Arc::clone(&state.connections);
            let routes = routes(Arc::clone(&state), Surface::Public);
            let handler = handler(state, routes, Surface::Public);
            let (switch, stopping) = Stopping::channel();
            let listener = Listener::Unix(listener, None);
            runtime.spawn(serve(
                listener,
                Transport::Plain,
                Surface::Public,
                handler,
                connections,
                stopping,
            ));
            io::Result::Ok((address, switch))
        };
        let ((one, one_switch), (other, other_switch)) = (begin(false)?, begin(true)?);
        Ok(Self {
            runtime,
            addresses: [one, other],
            _running: [one_switch, other_switch],
        })
    }

    /// Sends these bytes and the end of file; returns all that is answered, or its beginning where it has no end.
    fn answer(&self, has_http2: bool, pieces: [&[u8]; 2]) -> io::Result<Vec<u8>> {
        let socket = unix::UnixStream::connect_addr(&self.addresses[usize::from(has_http2)])?;
        socket.set_nonblocking(true)?;
        self.runtime.block_on(async {
            let mut socket = UnixStream::from_std(socket)?;
            for piece in pieces {
                // The daemon may have closed the connection.
                let _ = socket.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            let _ = socket.shutdown().await;
            let mut answer = Vec::new();
            let read = async {
                while !is_endless(&answer) && answer.len() < MOST {
                    match socket.read_buf(&mut answer).await {
                        // It may also have closed it with bytes unread.
                        Ok(0) | Err(_) => break,
                        Ok(_) => {}
                    }
                }
            };
            let patience = if has_http2 { HTTP2_PATIENCE } else { PATIENCE };
            let is_over = timeout(patience, read).await.is_ok();
            assert!(is_over || has_http2, "no end after {}", answer.escape_ascii());
            Ok(answer)
        })
    }
}

fn is_endless(answer: &[u8]) -> bool {
    ENDLESS.iter().any(|head| {
        let begun = memchr::memmem::find(answer, head);
        begun.is_some_and(|begun| memchr::memmem::find(&answer[begun..], END).is_some())
    })
}

fn state(has_http2: bool) -> Arc<AppState> {
    let settings = Draft {
        http: HttpSettings {
            http2: has_http2,
            cors: CorsSettings {
                allow_origins: vec!["https://*.example.org".to_owned()],
                allow_headers: vec!["authorization".to_owned()],
                ..CorsSettings::default()
            },
            ..HttpSettings::default()
        },
        ..Draft::default()
    };
    let stream = |path: &str, filter: &[(&str, &str)]| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), vec![(*value).to_owned()]);
        let settings = StreamSettings {
            path: path.to_owned(),
            topics: vec!["t".to_owned()],
            start: Start::Snapshot,
            filter: filter.iter().map(owned).collect(),
            ..StreamSettings::default()
        };
        Stream::new(settings, Pace::from(&HttpSettings::default()), None)
    };
    let state = AppState::new(&settings);
    let mut shown = state.shown().clone();
    shown.streams = vec![stream("/x", &[]), stream("/u/{id}", &[("key", "{id}")])];
    state.show(shown);
    Arc::new(state)
}

/// Any bytes get an answer and an end: of HTTP/1.1 a head without an error of the server's, in which nothing stands that
/// the daemon does not write; of HTTP/2 the frames of [`check_frames`]. Of the first byte a bit selects the listener, and the
/// others where the bytes are cut.
pub(crate) fn heads(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else {
        return;
    };
    let has_http2 = how & 1 != 0;
    let (start, rest) = bytes.split_at(usize::from(how >> 1).min(bytes.len()));
    let answer = SERVER.with(|server| {
        let server = server.get_or_init(|| Server::start().expect("a listener"));
        server.answer(has_http2, [start, rest]).expect("a connection")
    });
    if answer.is_empty() {
        return;
    }
    if has_http2 && !answer.starts_with(b"HTTP/") {
        check_frames(&answer);
        return;
    }
    let end = memchr::memmem::find(&answer, END).expect("a whole head");
    let head = std::str::from_utf8(&answer[..end]).expect("text");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = status.and_then(|line| line.split(' ').nth(1));
    let status: u16 = status.and_then(|status| status.parse().ok()).expect("a status");
    assert!((200..500).contains(&status) || status == 503, "{head}");
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a field");
        assert!(HEADERS.contains(&name), "{line:?}");
        assert!(!value.contains(char::is_control), "{line:?}");
    }
}

/// Checks that an answer of HTTP/2 begins with settings, has no frames but those of a server, and no error of the server's:
/// neither INTERNAL_ERROR of a stream or of the connection, nor a status of 5xx. The last frame may be cut.
fn check_frames(answer: &[u8]) {
    const INTERNAL_ERROR: [u8; 4] = [0, 0, 0, 2];
    let mut rest = answer;
    let mut is_first = true;
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let [high, middle, low, kind, _, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        assert!(length <= 16_384, "a frame of {length} bytes");
        let Some((payload, after)) = after.split_at_checked(length) else {
            return;
        };
        let stream = u32::from_be_bytes(stream);
        match kind {
            1 => assert!(!is_server_error(payload), "stream {stream}: {payload:?}"),
            3 => assert_ne!(payload, INTERNAL_ERROR, "stream {stream}"),
            // SETTINGS and PING.
            4 | 6 => assert_eq!(stream, 0),
            7 => assert_ne!(payload.get(4..8), Some(&INTERNAL_ERROR[..]), "{payload:?}"),
            // DATA, WINDOW_UPDATE and CONTINUATION.
            _ => assert!([0, 8, 9].contains(&kind), "a frame of kind {kind}"),
        }
        assert!(!is_first || kind == 4, "kind {kind} before settings");
        is_first = false;
        rest = after;
    }
}

/// Whether the first field of a block, which is the status, is one of 5xx other than 503 (RFC 7541). One of the dynamic table
/// was a literal before, and was checked then.
fn is_server_error(block: &[u8]) -> bool {
    const INDEXED_500: u8 = 0x8e;
    // Names of `:status` in the static table.
    const STATUS: std::ops::RangeInclusive<u8> = 8..=14;
    match block {
        [INDEXED_500, ..] => true,
        [name, length, value @ ..]
            if name & 0x80 == 0 && STATUS.contains(&(name & if name & 0x40 == 0 { 0x0f } else { 0x3f })) =>
        {
            // Five and zero and three, as codes of 6, 5 and 6 bits and padding, or as they are.
            let is_huffman = length & 0x80 != 0;
            match (is_huffman, value) {
                (true, [first, second, third, ..]) => {
                    first >> 2 == 0b01_1011
                        && [*first, *second, *third] != [0b0110_1100, 0b0000_1100, 0b1111_1111]
                }
                (false, [b'5', rest @ ..]) => !rest.starts_with(b"03"),
                _ => false,
            }
        }
        _ => false,
    }
}

/// The header fields of responses.
const HEADERS: [&str; 27] = [
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "etag",
    "location",
    "permissions-policy",
    "referrer-policy",
    "retry-after",
    "timing-allow-origin",
    "transfer-encoding",
    "vary",
    "x-accel-buffering",
    "x-content-type-options",
];
