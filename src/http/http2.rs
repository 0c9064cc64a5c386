//! Connections of HTTP/2 (RFC 9113): their limits, and the write timeout of each of their streams.
//!
//! ```text
//! frames ──► hyper ──► a task per stream: handler, then its body, in pieces ──► frames, as far as the client's windows
//!                      └─ watched: takes the client nothing of the body for write_timeout, the stream is reset
//! ```
//! hyper asks a body for more only while the client's windows and [`SEND_BUFFER`] have space for it, so a stream whose
//! client does not read costs its cursor and that much, and holds up no other stream. A client whose window for the
//! whole connection is used up by one stream holds up its own others; until that one is reset.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Method, Request, Response, Uri};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use log::debug;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::connections::{Connection, Limit};
use super::frames::{Frames, Suspect};
use super::router::Handler;

/// Bytes of a body that are passed on at once: a frame. A client that takes so many within the write timeout is slow,
/// not gone.
const PIECE: usize = 16 * 1024;

/// Most bytes of a body that wait for the client's windows, per stream; a piece more may. What waits when a response has
/// ended is under no timeout but that of the connection, so this is small.
const SEND_BUFFER: usize = PIECE;

/// What a client may send of bodies, which nothing here reads, per stream and per connection; the least that RFC 9113
/// allows for a connection.
const STREAM_WINDOW: u32 = 16 * 1024;
const CONNECTION_WINDOW: u32 = 65_535;

/// A client that is silent for this time is asked whether it still exists, and has the second time to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Streams that the client has reset before they were handled, and those that were reset for errors of the client: more
/// close the connection (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
const MAX_ERROR_RESETS: usize = 128;

/// How long a connection may take to end once it is asked to, if it has no streams.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The limits that a connection has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_streams: u32,
    pub(super) max_head: u32,
    /// How long a connection may have no stream.
    pub(super) idle_timeout: Duration,
    /// How long a client may take nothing of a stream.
    pub(super) write_timeout: Duration,
}

/// Serves a connection until it ends. `ending` becomes true when it should, once its streams have ended; `_watcher` is
/// held until it has.
pub(super) async fn serve<T>(
    transport: T,
    connection: Arc<Connection>,
    handler: Handler,
    limits: Limits,
    mut ending: watch::Receiver<bool>,
    _watcher: Watcher,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let streams = Arc::new(StreamCount::default());
    let executor = Streams {
        connection: Arc::clone(&connection),
        count: Arc::clone(&streams),
        write_timeout: limits.write_timeout,
    };
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(answer(&handler, request).await) }
    });
    let suspect = Arc::<Suspect>::default();
    let frames = Frames::new(
        transport,
        Arc::clone(&connection),
        limits.max_streams,
        Arc::clone(&suspect),
    );
    let served = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_head)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(frames), service);
    let mut served = pin!(served);
    let mut idle = pin!(sleep(limits.idle_timeout));
    let mut seen = streams.ended();
    let mut is_ending = false;
    let result = loop {
        // The task of the stream that retired the connection has woken this one after that.
        let or_retired = poll_fn(|cx| match served.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if connection.is_retired() && !is_ending => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        tokio::select! {
            biased;
            result = or_retired => {
                let Some(result) = result else {
                    is_ending = true;
                    served.as_mut().graceful_shutdown();
                    idle.as_mut().reset(Instant::now() + LAST_WORDS);
                    continue;
                };
                break result;
            }
            _ = ending.wait_for(|&is_ending| is_ending), if !is_ending => {
                is_ending = true;
                served.as_mut().graceful_shutdown();
                // A client that has not begun ends nothing by itself.
                idle.as_mut().reset(Instant::now() + LAST_WORDS);
            }
            () = idle.as_mut() => {
                // Whose last frames may still be under way if one has ended since.
                let had_streams = streams.open() > 0 || streams.ended() != seen;
                if !had_streams {
                    if is_ending {
                        break Ok(());
                    }
                    is_ending = true;
                    served.as_mut().graceful_shutdown();
                }
                seen = streams.ended();
                let pause = if is_ending { LAST_WORDS } else { limits.idle_timeout };
                idle.as_mut().reset(Instant::now() + pause);
            }
        }
    };
    // A client may leave at any time, so an error is nothing to log above debug.
    if let Err(error) = result {
        debug!("{}: {error}", connection.peer());
        if is_flood(&error) {
            connection.close_by(Limit::Http2Flood(suspect.get()));
        } else if error.is_timeout() {
            connection.close_by(Limit::Http2Ping);
        }
    }
}

/// Whether the connection was closed because the client did more of something than any client needs to.
fn is_flood(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(<dyn Error>::downcast_ref::<h2::Error>);
    cause.is_some_and(|cause| !cause.is_remote() && cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// Handles the request of a stream, in the stream's task.
async fn answer(handler: &Handler, mut request: Request<Incoming>) -> Response<Pieces<WarpBody>> {
    let exchange = EXCHANGE.with(Arc::clone);
    as_http1(&mut request);
    let connection = &exchange.connection;
    request.extensions_mut().insert(Arc::clone(connection));
    let is_head = request.method() == Method::HEAD;
    let mut response = handler(request).await;
    // hyper leaves bodies out for HTTP/1.1 only.
    if is_head && let Some(length) = response.body().size_hint().exact() {
        let length = HeaderValue::from(length);
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length);
    }
    response.map(|body| Pieces {
        body: (!is_head).then_some(body),
        rest: Bytes::new(),
        exchange,
    })
}

type WarpBody = <warp::reply::Response as IntoBody>::Body;

/// The type of a response's body, which warp does not name.
trait IntoBody {
    type Body;
}

impl<B> IntoBody for Response<B> {
    type Body = B;
}

/// Makes a request look as one of HTTP/1.1 does: the host in a field of the header too, and a target with a path. The
/// authority stays in the target: a field that contradicts it is refused where hosts are checked.
fn as_http1(request: &mut Request<Incoming>) {
    if let Some(host) = request.uri().authority()
        && !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::try_from(host.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    // `CONNECT` has none, and warp panics when it looks for one.
    if request.uri().path_and_query().is_none() {
        *request.uri_mut() = Uri::from_static("*");
    }
}

tokio::task_local! {
    /// The exchange of the stream that the task is of.
    static EXCHANGE: Arc<Exchange>;
}

/// A request and its response, shared by the task of their stream and the response's body.
#[derive(Debug)]
struct Exchange {
    connection: Arc<Connection>,
    /// Pieces of the body that were passed on.
    pieces: AtomicU64,
    /// Whether hyper has not asked for more since it got a piece: the client's windows are full.
    is_stalled: AtomicBool,
}

/// The streams of a connection, in numbers.
#[derive(Debug, Default)]
struct StreamCount {
    opened: AtomicU64,
    ended: AtomicU64,
}

impl StreamCount {
    fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    fn open(&self) -> u64 {
        self.opened.load(Ordering::Relaxed) - self.ended()
    }
}

/// Counts one stream until it is dropped.
struct CountedStream(Arc<StreamCount>);

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs each stream of a connection as a task, under the write timeout.
#[derive(Debug, Clone)]
struct Streams {
    connection: Arc<Connection>,
    count: Arc<StreamCount>,
    write_timeout: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.count.opened.fetch_add(1, Ordering::Relaxed);
        let counted = CountedStream(Arc::clone(&self.count));
        let exchange = Arc::new(Exchange {
            connection: self.connection.stream(),
            pieces: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
        });
        let stall = Stall::new(self.write_timeout);
        tokio::spawn(async move {
            run(stream, &exchange, stall).await;
            drop(counted);
        });
    }
}

/// Polls a stream to its end, or until its client took nothing for the write timeout. A stream that is dropped is reset.
async fn run(stream: impl Future<Output = ()>, exchange: &Arc<Exchange>, mut stall: Stall) {
    let mut stream = pin!(EXCHANGE.scope(Arc::clone(exchange), stream));
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if stall.poll(exchange, cx).is_pending() {
            return Poll::Pending;
        }
        exchange.connection.close_by(Limit::WriteTimeout);
        Poll::Ready(())
    })
    .await;
}

/// How long the client of a stream has taken nothing.
#[derive(Debug)]
struct Stall {
    timeout: Duration,
    /// Since when, and the pieces that it had been passed then.
    since: Option<(Instant, u64)>,
    /// Not reset when the stall ends, because most end at once; so it may fire early.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            since: None,
            alarm: None,
        }
    }

    /// Ready once the timeout is over. To be called whenever the stream was polled.
    fn poll(&mut self, exchange: &Exchange, cx: &mut Context<'_>) -> Poll<()> {
        if !exchange.is_stalled.load(Ordering::Relaxed) {
            self.since = None;
            if self.alarm.as_ref().is_some_and(|alarm| alarm.is_elapsed()) {
                self.alarm = None;
            }
            return Poll::Pending;
        }
        let pieces = exchange.pieces.load(Ordering::Relaxed);
        let since = match self.since {
            Some((since, before)) if before == pieces => since,
            _ => {
                let now = Instant::now();
                self.since = Some((now, pieces));
                now
            }
        };
        let until = since + self.timeout;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() >= until {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(until);
        }
        Poll::Pending
    }
}

/// A response's body in pieces of at most [`PIECE`], which notes how far it is.
#[derive(Debug)]
struct Pieces<B> {
    /// None in the response to HEAD.
    body: Option<B>,
    /// The part of the body's last data that was not passed on.
    rest: Bytes,
    exchange: Arc<Exchange>,
}

impl<B> Body for Pieces<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        this.exchange.is_stalled.store(false, Ordering::Relaxed);
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        while this.rest.is_empty() {
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => return other,
            };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
        let piece = this.rest.split_to(PIECE.min(this.rest.len()));
        this.exchange.pieces.fetch_add(1, Ordering::Relaxed);
        this.exchange.is_stalled.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let Some(body) = &self.body else {
            return SizeHint::with_exact(0);
        };
        let mut hint = body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::server::graceful::GracefulShutdown;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use warp::reply::Reply;

    use super::super::connection_limit::Share;
    use super::super::connections::Connections;
    use super::super::peer::Peer;
    use super::super::protocol::PREFACE;
    use super::*;

    const IDLE: Duration = Duration::from_secs(75);

    /// A client's end of a connection that is served, and what keeps it from ending.
    fn served() -> (DuplexStream, Arc<Connections>, watch::Sender<bool>) {
        let connections = Arc::new(Connections::new(Duration::from_secs(30)));
        let (ours, theirs) = duplex(64 * 1024);
        let (end, ending) = watch::channel(false);
        let handler: Handler = Arc::new(|_| Box::pin(async { warp::reply().into_response() }));
        let limits = Limits {
            max_streams: 100,
            max_head: 32 * 1024,
            idle_timeout: IDLE,
            write_timeout: Duration::from_secs(30),
        };
        let connection = connections.accept(Share::unlimited(Peer::Unix), None, false);
        let watcher = GracefulShutdown::new().watcher();
        tokio::spawn(serve(ours, connection, handler, limits, ending, watcher));
        (theirs, connections, end)
    }

    /// The clock goes on meanwhile: a client that does not leave is waited for.
    async fn until_closed(connections: &Connections) {
        while connections.open() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_told_to_go_away() {
        let (theirs, connections, _end) = served();
        let (mut client, connection) = h2::client::handshake(theirs).await.expect("a connection");
        let connection = tokio::spawn(connection);
        let begun = Instant::now();
        let request = Request::get("http://x/").body(()).expect("a request");
        let (response, _) = client.send_request(request, true).expect("sent");
        assert_eq!(response.await.expect("a response").status(), 200);
        // Without an error, as the client answers pings.
        let ended = connection.await.expect("a task");
        ended.expect("no error");
        let lasted = begun.elapsed();
        assert!((IDLE..3 * IDLE).contains(&lasted), "{lasted:?}");
        until_closed(&connections).await;
        assert_eq!(connections.http2_ping_timeouts(), 0);
    }

    /// The time until a client is closed that sends these frames and answers no ping. It reads on, so only its silence is
    /// noticed.
    async fn until_silence_is_noticed(frames: &[u8]) -> Duration {
        let (mut theirs, connections, _end) = served();
        let begun = Instant::now();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        for bytes in [PREFACE, &settings, frames] {
            theirs.write_all(bytes).await.expect("space");
        }
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.expect("an end");
        let lasted = begun.elapsed();
        until_closed(&connections).await;
        assert_eq!(connections.http2_ping_timeouts(), 1);
        let lingered = (begun + lasted).elapsed();
        assert!(lingered <= Duration::from_secs(3), "{lingered:?}");
        lasted
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_no_ping_is_closed_and_counted() {
        let lasted = until_silence_is_noticed(&[]).await;
        assert_eq!(lasted.as_secs(), (PING_EVERY + PING_TIMEOUT).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_over_http_2_is_not_waited_for() {
        // HEADERS without END_HEADERS, and half of a frame.
        for frames in [
            &[0, 0, 1, 1, 1, 0, 0, 0, 1, 0x82][..],
            &[0, 0, 9, 1, 5, 0, 0, 0, 1, 0x82],
        ] {
            let lasted = until_silence_is_noticed(frames).await;
            assert_eq!(lasted.as_secs(), (PING_EVERY + PING_TIMEOUT).as_secs());
        }
    }
}
