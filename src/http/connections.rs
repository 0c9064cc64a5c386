//! How many connections there are, how many were given up and why, and whether there is room for more:
//! one count for all listeners.
//!
//! Written when a connection begins and ends, never while it is served; read by `/streams`.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log::{debug, info, warn};

use super::head_timeout::SlowHead;
use super::peer::Peer;
use crate::fd_limit;
use crate::logging::Seldom;

/// Least time between two lines about clients that took nothing: a network that fails takes
/// thousands of them at once.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What the listeners' connections have in common.
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
    /// Locked for a line about descriptors that ran out, and by nothing else.
    short: Mutex<Seldom>,
    /// Locked for a line about a client that took nothing, and by nothing else.
    told: Mutex<Seldom>,
}

impl Connections {
    /// None yet. A connection that takes no byte for `write_timeout` is given up.
    #[must_use]
    pub fn new(write_timeout: Duration) -> Self {
        Self {
            write_timeout: AtomicU64::new(milliseconds(write_timeout)),
            open: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            write_timeouts: AtomicU64::new(0),
            head_timeouts: AtomicU64::new(0),
            large_heads: AtomicU64::new(0),
            accept_pauses: AtomicU64::new(0),
            short: Mutex::new(Seldom::new(TOLD_EVERY)),
            told: Mutex::new(Seldom::new(TOLD_EVERY)),
        }
    }

    /// How long a socket may take nothing.
    #[must_use]
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout.load(Ordering::Relaxed))
    }

    /// Changes how long a socket may take nothing, for connections that are made from now on.
    pub fn set_write_timeout(&self, write_timeout: Duration) {
        self.write_timeout
            .store(milliseconds(write_timeout), Ordering::Relaxed);
    }

    /// Keeps so many descriptors from clients, from now on; returns how many it were before.
    pub fn set_reserve(&self, reserve: u64) -> u64 {
        self.reserve.swap(reserve, Ordering::Relaxed)
    }

    /// Descriptors that are kept from clients.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Relaxed)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that were given up because they took nothing, since the start.
    #[must_use]
    pub fn write_timeouts(&self) -> u64 {
        self.write_timeouts.load(Ordering::Relaxed)
    }

    /// Connections that were given up because a request's head took too long, since the start.
    #[must_use]
    pub fn head_timeouts(&self) -> u64 {
        self.head_timeouts.load(Ordering::Relaxed)
    }

    /// Requests that were refused for their heads' size, since the start.
    #[must_use]
    pub fn large_heads(&self) -> u64 {
        self.large_heads.load(Ordering::Relaxed)
    }

    /// How often a listener paused because there was no descriptor for a connection, since the start.
    #[must_use]
    pub fn accept_pauses(&self) -> u64 {
        self.accept_pauses.load(Ordering::Relaxed)
    }

    /// Whether there is a descriptor for one more, less those that are not for clients. The limit may be
    /// changed from outside (`prlimit`), so it is asked for; that costs less than accepting.
    pub(super) fn has_room(&self) -> bool {
        fd_limit::limit().is_none_or(|limit| self.open() < fd_limit::left_for_clients(limit, self.reserve()))
    }

    /// Counts a pause in accepting, and tells why.
    pub(super) fn pauses(&self, why: &dyn fmt::Display) {
        self.accept_pauses.fetch_add(1, Ordering::Relaxed);
        let mut short = self.short.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = short.admit() {
            let open = self.open();
            warn!("accepting pauses, with {open} connections open: {why}; who is connected goes on{unsaid}");
        }
    }

    /// Counts a connection for as long as what is returned lives.
    pub(super) fn enter(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why a connection was given up, as far as that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivenUp {
    /// By a socket's timeout: [`Patient`](super::write_timeout::Patient)'s own, or the kernel's `ETIMEDOUT` for
    /// a peer that acknowledged nothing, whether a write or a read met it.
    TookNothing,
    /// By [`Heads`](super::head_timeout::Heads).
    SlowHead,
    /// By hyper.
    LargeHead,
}

impl GivenUp {
    fn why(error: &(dyn Error + 'static)) -> Option<Self> {
        if error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse_too_large)
        {
            return Some(Self::LargeHead);
        }
        let causes = std::iter::successors(Some(error), |&error| error.source());
        let cause = causes
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .find(|cause| cause.kind() == io::ErrorKind::TimedOut)?;
        Some(match cause.get_ref() {
            Some(inner) if inner.is::<SlowHead>() => Self::SlowHead,
            _ => Self::TookNothing,
        })
    }
}

/// One connection that is open.
#[derive(Debug)]
pub(super) struct Open(Arc<Connections>);

impl Open {
    /// Tells with what error it ended, which is counted if the connection was given up.
    pub(super) fn failed(&self, peer: Peer, error: &(dyn Error + 'static)) {
        let all = &self.0;
        match GivenUp::why(error) {
            None => return,
            Some(GivenUp::SlowHead) => {
                all.head_timeouts.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Some(GivenUp::LargeHead) => {
                all.large_heads.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Some(GivenUp::TookNothing) => {}
        }
        all.write_timeouts.fetch_add(1, Ordering::Relaxed);
        // Plain values: they are right whatever another thread did.
        let mut told = all.told.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = all.write_timeout();
        match told.admit() {
            Some(unsaid) => info!("{peer}: closed, it took nothing for {timeout:?} (write_timeout){unsaid}"),
            None => debug!("{peer}: closed, it took nothing for {timeout:?} (write_timeout)"),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
