//! The connections of all listeners: how many are open, why the daemon closed others, and whether one more can be
//! accepted.
//!
//! A [`Connection`] is what the parts of one connection share. It is written when the connection begins and ends and
//! once per request, never by a delivery.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use log::{debug, info, warn};
use parking_lot::Mutex;

use super::peer::Peer;
use crate::fd_limit;
use crate::logging::Seldom;

/// Shortest time between two log lines of one kind: a network failure stalls thousands of clients at once.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Settings and counters of the connections of all listeners.
#[derive(Debug)]
pub struct Connections {
    /// In milliseconds.
    write_timeout: AtomicU64,
    open: AtomicU64,
    /// Descriptors that are not for clients.
    reserve: AtomicU64,
    write_timeouts: AtomicU64,
    head_timeouts: AtomicU64,
    large_heads: AtomicU64,
    accept_pauses: AtomicU64,
    /// Locked for a log line about accept pauses, and by nothing else.
    pause_log: Mutex<Seldom>,
    /// Locked for a log line about write timeouts, and by nothing else.
    timeout_log: Mutex<Seldom>,
}

impl Connections {
    /// No connection is open. A connection is closed once it takes no byte for `write_timeout`.
    pub fn new(write_timeout: Duration) -> Self {
        Self {
            write_timeout: AtomicU64::new(milliseconds(write_timeout)),
            open: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            write_timeouts: AtomicU64::new(0),
            head_timeouts: AtomicU64::new(0),
            large_heads: AtomicU64::new(0),
            accept_pauses: AtomicU64::new(0),
            pause_log: Mutex::new(Seldom::new(LOG_EVERY)),
            timeout_log: Mutex::new(Seldom::new(LOG_EVERY)),
        }
    }

    /// How long a socket may take no byte.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout.load(Ordering::Relaxed))
    }

    /// Changes the write timeout of connections that are accepted from now on.
    pub(crate) fn set_write_timeout(&self, write_timeout: Duration) {
        self.write_timeout
            .store(milliseconds(write_timeout), Ordering::Relaxed);
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

    /// Connections closed by the write timeout, since the start.
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

    /// How often a listener paused because no descriptor was left, since the start.
    pub(crate) fn accept_pauses(&self) -> u64 {
        self.accept_pauses.load(Ordering::Relaxed)
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

    /// Counts a connection until the last reference to it is dropped.
    pub(super) fn accept(self: &Arc<Self>, peer: Peer) -> Arc<Connection> {
        self.open.fetch_add(1, Ordering::Relaxed);
        Arc::new(Connection {
            connections: Arc::clone(self),
            peer,
            has_request: AtomicBool::new(false),
            is_streaming: AtomicBool::new(false),
            closed_by: OnceLock::new(),
        })
    }

    fn count_end(&self, peer: Peer, closed_by: Limit) {
        let counter = match closed_by {
            Limit::WriteTimeout => &self.write_timeouts,
            Limit::HeadTimeout => &self.head_timeouts,
            Limit::HeadSize => &self.large_heads,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if closed_by == Limit::WriteTimeout {
            let timeout = self.write_timeout();
            let mut log = self.timeout_log.lock();
            match log.admit() {
                Some(held_back) => {
                    info!("{peer}: closed, took no byte for {timeout:?} (write_timeout){held_back}");
                }
                None => debug!("{peer}: closed, took no byte for {timeout:?} (write_timeout)"),
            }
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A limit that closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// The socket took no byte for `write_timeout`, or the kernel reported `ETIMEDOUT`: the peer acknowledged nothing.
    WriteTimeout,
    HeadTimeout,
    HeadSize,
}

/// One open connection, shared by its socket, its requests and their responses.
#[derive(Debug)]
pub(super) struct Connection {
    connections: Arc<Connections>,
    peer: Peer,
    /// Whether a head was complete since the socket last looked.
    has_request: AtomicBool,
    /// Whether a response is under way that has no end.
    is_streaming: AtomicBool,
    closed_by: OnceLock<Limit>,
}

impl Connection {
    pub(super) const fn peer(&self) -> Peer {
        self.peer
    }

    pub(super) fn note_request(&self) {
        self.has_request.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_streaming(&self, is_streaming: bool) {
        self.is_streaming.store(is_streaming, Ordering::Relaxed);
    }

    /// Whether an event stream is under way. Every flush reads it; the task that writes it is the same.
    pub(super) fn is_streaming(&self) -> bool {
        self.is_streaming.load(Ordering::Relaxed)
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
        let _ = self.closed_by.set(limit);
    }

    pub(super) fn has_timed_out(&self) -> bool {
        self.closed_by.get() == Some(&Limit::WriteTimeout)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(limit) = self.closed_by.get() {
            self.connections.count_end(self.peer, *limit);
        }
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
    }
}
