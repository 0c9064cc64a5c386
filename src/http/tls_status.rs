//! The state of TLS towards clients: handshakes in numbers, and certificates with their expiry.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client is connected.
    Ok,
    /// The client has sent something else, refused the certificate, or has none that is accepted.
    Failed,
    /// It took longer than `handshake_timeout`.
    Timeout,
    /// The client has begun with HTTP.
    NoTls,
    /// It would have been more than `max_handshakes_per_ip`.
    Refused,
}

impl Outcome {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Ok, Self::Failed, Self::Timeout, Self::NoTls, Self::Refused];

    /// Its name in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::NoTls => "no-tls",
            Self::Refused => "refused",
        }
    }
}

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFigures {
    /// The name of its file.
    pub(crate) file: String,
    /// The names that it is shown for, in lower case.
    pub(crate) names: Vec<String>,
    /// Until when it is valid, as Unix time.
    pub(crate) not_after: Duration,
}

impl CertificateFigures {
    /// The time that is left; `None` once it has expired.
    pub(crate) fn left(&self) -> Option<Duration> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.not_after.checked_sub(now).filter(|left| !left.is_zero())
    }
}

/// Counters of handshakes, and the certificates in use.
#[derive(Debug, Default)]
pub struct TlsStatus {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    resumed: AtomicU64,
    under_way: AtomicU64,
    waits: AtomicU64,
    reads: AtomicU64,
    failed_reads: AtomicU64,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    certificates: Vec<CertificateFigures>,
    /// Why the files as they are now cannot be used.
    fault: Option<String>,
}

#[cfg_attr(
    not(feature = "rustls"),
    expect(dead_code, reason = "without rustls nothing is counted")
)]
impl TlsStatus {
    pub(crate) fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_resumed(&self) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_under_way(&self, count: u64) {
        self.under_way.store(count, Ordering::Relaxed);
    }

    /// Notes the certificates in use, which were read again.
    pub(crate) fn show(&self, certificates: Vec<CertificateFigures>) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        *self.shown.lock() = Shown {
            certificates,
            fault: None,
        };
    }

    /// Notes why files that have changed cannot be used.
    pub(crate) fn fail(&self, fault: String) {
        self.failed_reads.fetch_add(1, Ordering::Relaxed);
        self.shown.lock().fault = Some(fault);
    }

    /// Notes that the files are those in use again.
    pub(crate) fn recover(&self) {
        self.shown.lock().fault = None;
    }
}

impl TlsStatus {
    /// Handshakes since the start, by outcome.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL
            .map(|outcome| (outcome, self.outcomes[outcome as usize].load(Ordering::Relaxed)))
            .into_iter()
    }

    /// Handshakes since the start that resumed a session.
    pub(crate) fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// Handshakes now.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// How often a listener has waited for a handshake to end before it accepted another connection.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// How often the files were read and used, and how often they could not be used.
    pub(crate) fn reads(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.reads), load(&self.failed_reads))
    }

    /// The certificates in use.
    pub(crate) fn certificates(&self) -> Vec<CertificateFigures> {
        self.shown.lock().certificates.clone()
    }

    /// Faults, in words.
    pub(crate) fn degraded(&self) -> Vec<String> {
        let shown = self.shown.lock();
        let fault = shown
            .fault
            .iter()
            .map(|fault| format!("http.tls: {fault}; the certificates that were read before stay in use"));
        let expired = shown
            .certificates
            .iter()
            .filter(|certificate| certificate.left().is_none());
        fault
            .chain(expired.map(|certificate| {
                format!(
                    "http.tls: the certificate in {} has expired; renew it",
                    certificate.file
                )
            }))
            .collect()
    }
}

impl fmt::Display for CertificateFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if !self.names.is_empty() {
            write!(f, " for {}", self.names.join(", "))?;
        }
        Ok(())
    }
}
