//! The outcomes of reloads, and the settings in force: written by the daemon, read by `/metrics`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The outcomes of all reloads since the start.
#[derive(Debug, Default)]
pub struct Reloads {
    succeeded: AtomicU64,
    failed: AtomicU64,
    has_last_failed: AtomicBool,
    /// Milliseconds since the epoch.
    applied_at: AtomicU64,
    fingerprint: AtomicU32,
}

impl Reloads {
    /// The settings with this fingerprint are in force from now on: at the start, and after a reload.
    pub fn apply(&self, fingerprint: u32) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self.applied_at.store(now, Ordering::Relaxed);
        self.fingerprint.store(fingerprint, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, has_succeeded: bool) {
        let counter = if has_succeeded {
            &self.succeeded
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.has_last_failed.store(!has_succeeded, Ordering::Relaxed);
    }

    /// Whether the last one failed, so that the daemon runs with other settings than the file has.
    pub(crate) fn has_last_failed(&self) -> bool {
        self.has_last_failed.load(Ordering::Relaxed)
    }

    pub(crate) fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Reloads that failed and changed nothing.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// When the settings were applied, since the epoch.
    pub(crate) fn applied_at(&self) -> Duration {
        Duration::from_millis(self.applied_at.load(Ordering::Relaxed))
    }

    /// The settings' [fingerprint](crate::config::print::fingerprint).
    pub fn fingerprint(&self) -> u32 {
        self.fingerprint.load(Ordering::Relaxed)
    }
}
