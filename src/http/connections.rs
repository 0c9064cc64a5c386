//! The connections of all listeners: how many are open, why the daemon closed others, and whether one more can be
//! accepted.
//!
//! A [`Connection`] is what the parts of one connection share, or those of one stream of a connection of HTTP/2. It is
//! written when the connection begins and ends and once per request, never by a delivery.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use log::{debug, info, warn};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::connection_limit::{ConnectionLimit, Share};
use super::flood::Flood;
use super::peer::Peer;
use super::send_queues::SendQueues;
use crate::auth::certificate::ClientCertificate;
use crate::config::HttpSettings;
use crate::delivery::Delivery;
use crate::fd_limit;
use crate::logging::Seldom;

/// Shortest time between two log lines of one kind: a network failure stalls thousands of clients at once.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Settings and counters of the connections of all listeners.
#[derive(Debug)]
pub struct Connections {
    /// In milliseconds.
    write_timeout: AtomicU64,
    /// Whether HTTP/2 is spoken without TLS too.
    has_http2: AtomicBool,
    http2_streams: AtomicU32,
    open: AtomicU64,
    /// Descriptors that are not for clients.
    reserve: AtomicU64,
    write_timeouts: AtomicU64,
    head_timeouts: AtomicU64,
    large_heads: AtomicU64,
    http2_floods: [AtomicU64; Flood::ALL.len()],
    http2_ping_timeouts: AtomicU64,
    accept_pauses: AtomicU64,
    /// The threads to which event streams are handed over. They hold connections, so these do not hold them.
    delivery: OnceLock<Weak<Delivery>>,
    send_queues: Arc<SendQueues>,
    per_address: Arc<ConnectionLimit>,
    /// Connections closed because their address had too many.
    refused: AtomicU64,
    /// Locked for a log line about refused connections, and by nothing else.
    refusal_log: Mutex<Seldom>,
    /// Locked for a log line about accept pauses, and by nothing else.
    pause_log: Mutex<Seldom>,
    /// Locked for a log line about write timeouts, and by nothing else.
    timeout_log: Mutex<Seldom>,
}

impl From<&HttpSettings> for Connections {
    fn from(http: &HttpSettings) -> Self {
        let connections = Self::new(http.write_timeout.0);
        connections.apply(http);
        connections
    }
}

impl Connections {
    /// No connection is open. A connection is closed once it takes no byte for `write_timeout`.
    pub fn new(write_timeout: Duration) -> Self {
        Self {
            write_timeout: AtomicU64::new(milliseconds(write_timeout)),
            has_http2: AtomicBool::new(false),
            http2_streams: AtomicU32::new(1),
            open: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            write_timeouts: AtomicU64::new(0),
            head_timeouts: AtomicU64::new(0),
            large_heads: AtomicU64::new(0),
            http2_floods: Default::default(),
            http2_ping_timeouts: AtomicU64::new(0),
            accept_pauses: AtomicU64::new(0),
            delivery: OnceLock::new(),
            send_queues: Arc::default(),
            per_address: Arc::default(),
            refused: AtomicU64::new(0),
            refusal_log: Mutex::new(Seldom::new(LOG_EVERY)),
            pause_log: Mutex::new(Seldom::new(LOG_EVERY)),
            timeout_log: Mutex::new(Seldom::new(LOG_EVERY)),
        }
    }

    /// Applies the settings of connections to those that are accepted from now on.
    pub(crate) fn apply(&self, http: &HttpSettings) {
        let timeout = milliseconds(http.write_timeout.0);
        self.write_timeout.store(timeout, Ordering::Relaxed);
        self.has_http2.store(http.http2, Ordering::Relaxed);
        self.http2_streams
            .store(http.http2_max_concurrent_streams, Ordering::Relaxed);
        self.per_address.apply(http);
    }

    /// How long a socket may take no byte.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout.load(Ordering::Relaxed))
    }

    /// Hands event streams over to these threads from now on.
    pub(crate) fn set_delivery(&self, delivery: &Arc<Delivery>) {
        // Set once, before anything is served.
        let _ = self.delivery.set(Arc::downgrade(delivery));
    }

    /// What the kernel holds for clients.
    pub(super) fn send_queues(&self) -> &Arc<SendQueues> {
        &self.send_queues
    }

    /// Whether connections without TLS may speak HTTP/2.
    pub(super) fn has_http2(&self) -> bool {
        self.has_http2.load(Ordering::Relaxed)
    }

    /// Most requests that a connection of HTTP/2 may have open.
    pub(super) fn http2_streams(&self) -> u32 {
        self.http2_streams.load(Ordering::Relaxed)
    }

    /// Changes how many descriptors are kept from clients; returns how many they were.
    pub(crate) fn set_reserve(&self, reserve: u64) -> u64 {
        self.reserve.swap(reserve, Ordering::Relaxed)
    }

    pub(crate) fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Relaxed)
    }

    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections, and streams of HTTP/2, closed by the write timeout, since the start.
    pub(crate) fn write_timeouts(&self) -> u64 {
        self.write_timeouts.load(Ordering::Relaxed)
    }

    /// Connections closed because a request's head took too long, since the start.
    pub(crate) fn head_timeouts(&self) -> u64 {
        self.head_timeouts.load(Ordering::Relaxed)
    }

    /// Requests refused for the size of their heads, since the start.
    pub(crate) fn large_heads(&self) -> u64 {
        self.large_heads.load(Ordering::Relaxed)
    }

    /// Connections of HTTP/2 closed because of floods, since the start, by kind.
    pub(crate) fn http2_floods(&self) -> impl Iterator<Item = (Flood, u64)> {
        let counts = Flood::ALL.into_iter().zip(&self.http2_floods);
        counts.map(|(kind, count)| (kind, count.load(Ordering::Relaxed)))
    }

    /// Connections of HTTP/2 closed because a ping was not answered, since the start.
    pub(crate) fn http2_ping_timeouts(&self) -> u64 {
        self.http2_ping_timeouts.load(Ordering::Relaxed)
    }

    /// How often a listener paused because no descriptor was left, since the start.
    pub(crate) fn accept_pauses(&self) -> u64 {
        self.accept_pauses.load(Ordering::Relaxed)
    }

    /// Connections closed because their address had too many, since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The share of a connection that was accepted; `None`, counted and logged, if it would be one too many for its
    /// address.
    pub(super) fn admit(&self, peer: Peer) -> Option<Share> {
        let address = match self.per_address.enter(peer) {
            Ok(share) => return Some(share),
            Err(address) => address,
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        match self.refusal_log.lock().admit() {
            Some(held_back) => {
                warn!("{address}: connection refused, max_connections_per_ip reached{held_back}");
            }
            None => debug!("{address}: connection refused, max_connections_per_ip reached"),
        }
        None
    }

    /// Whether the limit of descriptors, less the reserve, leaves one for another connection. `prlimit` may change the
    /// limit at any time, so it is read each time, which costs less than accepting.
    pub(super) fn can_accept(&self) -> bool {
        fd_limit::limit().is_none_or(|limit| self.open() < fd_limit::left_for_clients(limit, self.reserve()))
    }

    pub(super) fn count_accept_pause(&self, cause: &dyn fmt::Display) {
        self.accept_pauses.fetch_add(1, Ordering::Relaxed);
        let mut log = self.pause_log.lock();
        if let Some(held_back) = log.admit() {
            let open = self.open();
            warn!("accept paused at {open} connections: {cause}; open connections are unaffected{held_back}");
        }
    }

    /// Counts a connection, to this port of a listener without TLS, until the last reference to it is dropped.
    pub(super) fn accept(self: &Arc<Self>, share: Share, port: Option<u16>, is_tls: bool) -> Arc<Connection> {
        self.open.fetch_add(1, Ordering::Relaxed);
        let write_timeout = u32::try_from(self.write_timeout().as_millis()).unwrap_or(u32::MAX);
        let counted = Counted::new(self, share, write_timeout, false);
        Arc::new(Connection::new(counted, port, is_tls))
    }

    fn count_end(&self, peer: Peer, closed_by: Limit, write_timeout: Duration) {
        let counter = match closed_by {
            Limit::WriteTimeout => &self.write_timeouts,
            Limit::HeadTimeout => &self.head_timeouts,
            Limit::HeadSize => &self.large_heads,
            Limit::Http2Flood(kind) => &self.http2_floods[kind as usize],
            Limit::Http2Ping => &self.http2_ping_timeouts,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if closed_by == Limit::WriteTimeout {
            let mut log = self.timeout_log.lock();
            match log.admit() {
                Some(held_back) => {
                    info!("{peer}: closed, took no byte for {write_timeout:?} (write_timeout){held_back}");
                }
                None => debug!("{peer}: closed, took no byte for {write_timeout:?} (write_timeout)"),
            }
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A stream that is to be handed over.
pub(super) trait Offer: fmt::Debug + Send {
    /// Takes the socket, to which the head of the response is written.
    fn take(self: Box<Self>, socket: BorrowedFd<'_>) -> io::Result<()>;
}

/// A limit that closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// The socket took no byte for `write_timeout`, or the kernel reported `ETIMEDOUT`: the peer acknowledged nothing.
    /// Or the client of a stream of HTTP/2 took nothing of it for that time.
    WriteTimeout,
    HeadTimeout,
    HeadSize,
    /// More of something than any client needs.
    Http2Flood(Flood),
    /// A ping of HTTP/2 was not answered.
    Http2Ping,
}

/// What is counted of an open connection, or of a stream of HTTP/2, until the last reference to it is dropped. Whoever
/// has the socket holds it.
#[derive(Debug)]
pub(super) struct Counted {
    connections: Arc<Connections>,
    /// Its peer, and its part of the connections of the peer's address.
    share: Share,
    /// In milliseconds, as configured when it began. Four bytes, because every client has one.
    write_timeout: u32,
    /// Whether it is a stream of HTTP/2.
    is_stream: bool,
    /// Dropped with this, for which the listener waits.
    serving: OnceLock<watch::Receiver<bool>>,
    /// Two bytes, because every client has one. Locked when a limit closes the connection, and at its end.
    closed_by: Mutex<Option<Limit>>,
}

impl Counted {
    fn new(connections: &Arc<Connections>, share: Share, write_timeout: u32, is_stream: bool) -> Arc<Self> {
        Arc::new(Self {
            connections: Arc::clone(connections),
            share,
            write_timeout,
            is_stream,
            serving: OnceLock::new(),
            closed_by: Mutex::new(None),
        })
    }

    /// A stream of this connection of HTTP/2.
    fn stream(&self) -> Arc<Self> {
        let share = Share::unlimited(self.peer());
        Self::new(&self.connections, share, self.write_timeout, true)
    }

    pub(super) const fn peer(&self) -> Peer {
        self.share.peer()
    }

    /// How long the socket may take no byte.
    pub(super) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout.into())
    }

    /// Notes the limit that closes the connection; the first one counts.
    pub(super) fn close_by(&self, limit: Limit) {
        self.closed_by.lock().get_or_insert(limit);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(limit) = *self.closed_by.get_mut() {
            self.connections
                .count_end(self.peer(), limit, self.write_timeout());
        }
        if !self.is_stream {
            self.connections.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One open connection, shared by its socket, its requests and their responses; or one stream of a connection of
/// HTTP/2, with its request and response.
#[derive(Debug)]
pub(super) struct Connection {
    counted: Arc<Counted>,
    /// The port of the listener, where pages could have it in their own address: not with TLS, which a name needs a
    /// certificate for, nor with a Unix socket.
    port: Option<u16>,
    is_tls: bool,
    /// That of the client, which was verified.
    client_certificate: OnceLock<Arc<ClientCertificate>>,
    /// The connection that this is a stream of.
    of: Option<Arc<Self>>,
    /// Whether it takes no more requests. Unused for a stream.
    is_retired: AtomicBool,
    /// Whether a head was complete since the socket last looked.
    has_request: AtomicBool,
    /// Whether a response is under way that has no end.
    is_streaming: AtomicBool,
    /// Whether the response to the request under way may be handed over.
    may_hand_over: AtomicBool,
    /// The stream to be handed over once the head of its response is written; locked for that alone.
    offer: Mutex<Option<Box<dyn Offer>>>,
    has_offer: AtomicBool,
    is_handed_over: AtomicBool,
}

impl Connection {
    fn new(counted: Arc<Counted>, port: Option<u16>, is_tls: bool) -> Self {
        Self {
            counted,
            port,
            is_tls,
            client_certificate: OnceLock::new(),
            of: None,
            is_retired: AtomicBool::new(false),
            has_request: AtomicBool::new(false),
            is_streaming: AtomicBool::new(false),
            may_hand_over: AtomicBool::new(false),
            offer: Mutex::new(None),
            has_offer: AtomicBool::new(false),
            is_handed_over: AtomicBool::new(false),
        }
    }

    /// What is counted of it.
    pub(super) fn counted(&self) -> &Arc<Counted> {
        &self.counted
    }

    pub(super) fn peer(&self) -> Peer {
        self.counted.peer()
    }

    /// The port that the client has connected to, without TLS.
    pub(super) const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether requests arrive over TLS.
    pub(super) const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The client's certificate, if it was asked for and has one.
    pub(super) fn client_certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.client_certificate.get()
    }

    /// Notes the client's certificate, before the first request.
    #[cfg(feature = "rustls")]
    pub(super) fn set_client_certificate(&self, certificate: ClientCertificate) {
        let _ = self.client_certificate.set(Arc::new(certificate));
    }

    /// A stream of this connection of HTTP/2.
    pub(super) fn stream(self: &Arc<Self>) -> Arc<Self> {
        let counted = self.counted.stream();
        Arc::new(Self {
            client_certificate: self.client_certificate.clone(),
            of: Some(Arc::clone(self)),
            ..Self::new(counted, self.port, self.is_tls)
        })
    }

    /// Has the connection end once the responses have that are under way: the client connects again, perhaps to another
    /// daemon, and perhaps with another certificate. To be called before the response in question ends.
    pub(super) fn retire(&self) {
        let whole = self.of.as_deref().unwrap_or(self);
        whole.is_retired.store(true, Ordering::Relaxed);
    }

    /// Whether the connection should end. Read by the task that exchanges its bytes, which ends responses.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    pub(super) fn note_request(&self) {
        self.has_request.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_streaming(&self, is_streaming: bool) {
        self.is_streaming.store(is_streaming, Ordering::Relaxed);
    }

    /// Whether an event stream is under way. Every write and flush reads it; the task that writes it is the same.
    pub(super) fn is_streaming(&self) -> bool {
        self.is_streaming.load(Ordering::Relaxed)
    }

    /// Has the listener of `serving` wait for the connection, whoever holds it.
    pub(super) fn hold_open(&self, serving: watch::Receiver<bool>) {
        let _ = self.counted.serving.set(serving);
    }

    /// Notes whether the response to the next request may be handed over.
    pub(super) fn set_may_hand_over(&self, may: bool) {
        self.may_hand_over.store(may, Ordering::Relaxed);
    }

    /// The threads to hand the response to the request under way over to, if it may be.
    pub(super) fn delivery(&self) -> Option<Arc<Delivery>> {
        let may = self.may_hand_over.load(Ordering::Relaxed);
        self.counted.connections.delivery.get().filter(|_| may)?.upgrade()
    }

    /// Offers a stream, to be taken once everything before it is written.
    pub(super) fn offer(&self, offer: Box<dyn Offer>) {
        *self.offer.lock() = Some(offer);
        self.has_offer.store(true, Ordering::Release);
    }

    /// The stream to be handed over, if there is one.
    pub(super) fn take_offer(&self) -> Option<Box<dyn Offer>> {
        // Every flush reads it; the task that offers is the same.
        if !self.has_offer.load(Ordering::Acquire) {
            return None;
        }
        self.offer.lock().take()
    }

    /// Notes that the socket has another owner: hyper's end of the connection is none.
    pub(super) fn note_handed_over(&self) {
        self.is_handed_over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(Ordering::Relaxed)
    }

    /// Whether a head was complete since the last call.
    pub(super) fn take_request(&self) -> bool {
        // Every poll of the connection reads it, few write it. All of them are of one task.
        let has_request = self.has_request.load(Ordering::Relaxed);
        if has_request {
            self.has_request.store(false, Ordering::Relaxed);
        }
        has_request
    }

    /// Notes the limit that closes the connection; the first one counts.
    pub(super) fn close_by(&self, limit: Limit) {
        self.counted.close_by(limit);
    }

    /// Whether the write timeout has closed it, or the connection that it is a stream of.
    pub(super) fn has_timed_out(&self) -> bool {
        let of = self.of.as_ref();
        *self.counted.closed_by.lock() == Some(Limit::WriteTimeout) || of.is_some_and(|of| of.has_timed_out())
    }
}
