//! Counters of refused clients, and how fetching keys goes: written by this module, shown by `/metrics` and
//! `/health/ready`.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::sse::words::words;

words! {
    /// Why a client may not read a stream.
    Reason {
        /// It sends no credential.
        NoToken = "no-token",
        /// Its token, or a header of its proxy, is not as it should be.
        InvalidToken = "invalid-token",
        /// Its token has ended.
        ExpiredToken = "expired-token",
        /// Its token is signed by an unknown key, or is not in the list.
        UnknownToken = "unknown-token",
        /// Its certificate has ended.
        ExpiredCertificate = "expired-certificate",
        /// Its certificate was verified by a CA that is trusted no longer.
        UntrustedCertificate = "untrusted-certificate",
        /// The stream is not for it.
        NotAllowed = "not-allowed",
        /// It lacks a claim that the stream's filter compares.
        MissingClaim = "missing-claim",
        /// The key of its token is unknown, and keys cannot be fetched now.
        Unavailable = "unavailable",
    }
}

/// Counters and faults.
#[derive(Debug, Default)]
pub struct AuthStatus {
    refused: [AtomicU64; Reason::ALL.len()],
    fetched: AtomicU64,
    failed: AtomicU64,
    keys: AtomicU64,
    /// Since when keys cannot be fetched, and why.
    failing: Mutex<Option<(Instant, String)>>,
    on_change: OnceLock<OnChange>,
}

/// The function to call when rights may have ended.
struct OnChange(
    #[cfg_attr(
        not(any(feature = "jwt", feature = "rustls")),
        expect(dead_code, reason = "keys and CAs change with these features only")
    )]
    Box<dyn Fn() + Send + Sync>,
);

impl fmt::Debug for OnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl AuthStatus {
    /// Has this called whenever rights may have ended, because keys or CAs have changed. Counts once.
    pub fn on_change(&self, call: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_change.set(OnChange(Box::new(call)));
    }

    #[cfg(any(feature = "jwt", feature = "rustls"))]
    pub(super) fn rights_changed(&self) {
        if let Some(OnChange(call)) = self.on_change.get() {
            call();
        }
    }

    /// Counts a client that may not read.
    pub fn count(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Clients that were refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = Reason::ALL.into_iter().zip(&self.refused);
        counts.map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    /// Fetches of keys that have succeeded, and that have failed.
    pub fn fetches(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.fetched), load(&self.failed))
    }

    /// Keys that are in use.
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// How long keys cannot be fetched; zero while they can.
    pub fn failing(&self) -> Duration {
        let failing = self.failing.lock();
        failing
            .as_ref()
            .map_or(Duration::ZERO, |(since, _)| since.elapsed())
    }

    /// The faults, for `/health/ready`.
    pub fn degraded(&self) -> Option<String> {
        let failing = self.failing.lock();
        let (_, reason) = failing.as_ref()?;
        let keys = self.keys();
        let effect = if keys == 0 {
            "clients with tokens are asked to retry"
        } else {
            "the last keys are used"
        };
        Some(format!("auth: {reason}; {effect}"))
    }

    pub(super) fn set_keys(&self, keys: usize) {
        self.keys.store(keys as u64, Ordering::Relaxed);
    }

    #[cfg(feature = "jwt")]
    pub(super) fn has_fetched(&self) -> bool {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        self.failing.lock().take().is_some()
    }

    #[cfg(feature = "jwt")]
    pub(super) fn has_failed(&self, reason: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failing = self.failing.lock();
        let since = failing.take().map_or_else(Instant::now, |(since, _)| since);
        *failing = Some((since, reason));
    }

    /// Keys are not fetched, or from elsewhere.
    pub(super) fn forget_failure(&self) {
        *self.failing.lock() = None;
    }
}
