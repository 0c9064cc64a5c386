//! What the reading threads have counted since the start, those that are gone included: one tally for all
//! that ever read for the daemon, so that no figure goes back when a reload replaces a thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

/// A kind of trouble with Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No broker answers.
    Unreachable,
    /// One partition cannot be read.
    Partition,
    /// A batch is compressed as the client library in use cannot read it.
    Codec,
    /// A batch is larger than the client takes.
    TooLarge,
    /// A login, a certificate or a right is refused.
    Refused,
    /// The client library cannot work with these brokers or settings.
    Unsupported,
    /// What the client library works on by itself.
    Transport,
}

impl Trouble {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::Partition,
        Self::Codec,
        Self::TooLarge,
        Self::Refused,
        Self::Unsupported,
        Self::Transport,
    ];

    /// Its name among figures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
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

/// Figures that only grow.
#[derive(Debug, Default)]
pub struct Tally {
    records: Mutex<BTreeMap<Arc<str>, Arc<AtomicU64>>>,
    holds: Mutex<BTreeMap<Arc<str>, Arc<Holds>>>,
    troubles: [AtomicU64; Trouble::ALL.len()],
    recoveries: AtomicU64,
}

/// How often, and for how long, the topics of one stream were paused because it did not keep up.
#[derive(Debug, Default)]
pub struct Holds {
    count: AtomicU64,
    micros: AtomicU64,
}

impl Holds {
    pub(super) fn count(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add(&self, paused: Duration) {
        let micros = u64::try_from(paused.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How often.
    #[must_use]
    pub fn times(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// For how long in all, without a pause that goes on.
    #[must_use]
    pub fn paused(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

impl Tally {
    fn streams(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Holds>>> {
        self.holds.lock()
    }

    /// The pauses of one stream, by its path.
    #[must_use]
    pub fn holds(&self, stream: &Arc<str>) -> Arc<Holds> {
        Arc::clone(self.streams().entry(Arc::clone(stream)).or_default())
    }

    /// The pauses of every stream that had one.
    #[must_use]
    pub fn all_holds(&self) -> Vec<(Arc<str>, Arc<Holds>)> {
        let streams = self.streams();
        streams
            .iter()
            .map(|(stream, holds)| (Arc::clone(stream), Arc::clone(holds)))
            .collect()
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<AtomicU64>>> {
        self.records.lock()
    }

    /// The counter of a topic's records, to be kept by who reads them: it is added to once per batch.
    #[must_use]
    pub fn topic(&self, topic: &Arc<str>) -> Arc<AtomicU64> {
        Arc::clone(self.topics().entry(Arc::clone(topic)).or_default())
    }

    /// Records read of every topic. What is read again, as for a stream that a reload has built anew, is
    /// counted again.
    #[must_use]
    pub fn records(&self) -> Vec<(Arc<str>, u64)> {
        let topics = self.topics();
        let read =
            |(topic, count): (&Arc<str>, &Arc<AtomicU64>)| (Arc::clone(topic), count.load(Ordering::Relaxed));
        topics.iter().map(read).collect()
    }

    pub(super) fn count(&self, trouble: Trouble) {
        self.troubles[trouble as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each kind of trouble came.
    #[must_use]
    pub fn troubles(&self) -> [(Trouble, u64); Trouble::ALL.len()] {
        Trouble::ALL.map(|trouble| (trouble, self.troubles[trouble as usize].load(Ordering::Relaxed)))
    }

    pub(super) fn count_recovery(&self) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
    }

    /// How often reading went on after trouble.
    #[must_use]
    pub fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Relaxed)
    }
}
