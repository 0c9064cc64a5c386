//! Counters of the reading threads since the start. All threads share them, so that none decreases when a reload
//! replaces a thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// The kinds of errors that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// No broker answers.
    Unreachable,
    /// One partition cannot be read.
    Partition,
    /// The client library in use does not support a batch's compression.
    Codec,
    /// A batch is larger than the client accepts.
    TooLarge,
    /// Authentication or authorization failed.
    Refused,
    /// The client library cannot work with these brokers or settings.
    Unsupported,
    /// A transport error from which the client library recovers by itself.
    Transport,
}

impl ErrorClass {
    pub(crate) const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::Partition,
        Self::Codec,
        Self::TooLarge,
        Self::Refused,
        Self::Unsupported,
        Self::Transport,
    ];

    /// The value of the label `kind` in `/metrics`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Partition => "partition",
            Self::Codec => "codec",
            Self::TooLarge => "too-large",
            Self::Refused => "refused",
            Self::Unsupported => "unsupported",
            Self::Transport => "transport",
        }
    }
}

/// Counters that only grow.
#[derive(Debug, Default)]
pub struct KafkaCounters {
    records: Mutex<BTreeMap<Arc<str>, Arc<AtomicU64>>>,
    pauses: Mutex<BTreeMap<Arc<str>, Arc<PauseCounters>>>,
    errors: [AtomicU64; ErrorClass::ALL.len()],
    recoveries: AtomicU64,
}

/// How often, and for how long, the topics of one stream were paused because it did not keep up.
#[derive(Debug, Default)]
pub struct PauseCounters {
    count: AtomicU64,
    micros: AtomicU64,
}

impl PauseCounters {
    pub(super) fn count(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add(&self, paused: Duration) {
        let micros = u64::try_from(paused.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How often.
    pub fn times(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Total time, without a pause in progress.
    pub(crate) fn paused(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

impl KafkaCounters {
    pub(crate) fn pauses(&self, stream: &Arc<str>) -> Arc<PauseCounters> {
        Arc::clone(self.pauses.lock().entry(Arc::clone(stream)).or_default())
    }

    /// The pauses of every stream that had one.
    pub fn all_pauses(&self) -> Vec<(Arc<str>, Arc<PauseCounters>)> {
        let streams = self.pauses.lock();
        streams
            .iter()
            .map(|(stream, pauses)| (Arc::clone(stream), Arc::clone(pauses)))
            .collect()
    }

    /// The counter of a topic's records. Readers keep it, and update it once per batch.
    pub(crate) fn topic(&self, topic: &Arc<str>) -> Arc<AtomicU64> {
        Arc::clone(self.records.lock().entry(Arc::clone(topic)).or_default())
    }

    /// Records read of every topic. Records that are read again, as for a stream that a reload rebuilt, count again.
    pub fn records(&self) -> Vec<(Arc<str>, u64)> {
        let topics = self.records.lock();
        let read =
            |(topic, count): (&Arc<str>, &Arc<AtomicU64>)| (Arc::clone(topic), count.load(Ordering::Relaxed));
        topics.iter().map(read).collect()
    }

    pub(super) fn count_error(&self, kind: ErrorClass) {
        self.errors[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Errors of each kind.
    pub fn errors(&self) -> [(ErrorClass, u64); ErrorClass::ALL.len()] {
        ErrorClass::ALL.map(|kind| (kind, self.errors[kind as usize].load(Ordering::Relaxed)))
    }

    pub(super) fn count_recovery(&self) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
    }

    /// How often reading recovered from an error.
    pub fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Relaxed)
    }
}
