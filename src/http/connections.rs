//! How many connections there are, and how many were given up: one count for all listeners.
//!
//! Written when a connection begins and ends, never while it is served; read by `/streams`.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log::{debug, info};

use super::listener::Peer;
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
    write_timeouts: AtomicU64,
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
            write_timeouts: AtomicU64::new(0),
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

    /// Counts a connection for as long as what is returned lives.
    pub(super) fn enter(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the cause is a socket's timeout: [`Patient`](super::patience::Patient)'s own, or the
/// kernel's `ETIMEDOUT` for a peer that acknowledged nothing, whether a write or a read met it.
fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
    })
}

/// One connection that is open.
#[derive(Debug)]
pub(super) struct Open(Arc<Connections>);

impl Open {
    /// Tells with what error it ended, which is counted if it did because the peer took nothing.
    pub(super) fn failed(&self, peer: Peer, error: &(dyn Error + 'static)) {
        if !is_timeout(error) {
            return;
        }
        let all = &self.0;
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
