//! Events of a stream, counted since the process began.
//!
//! One [`Counters`] per path, whichever streams serve it in succession: a reload that rebuilds a stream, or removes it
//! and adds it again, never decreases a figure. The [`Ledger`] keeps them; it holds one for every path that was ever
//! configured, which the operator's configuration bounds.
//!
//! Counts per write to a client are spread over [`SHARDS`], each on cache lines of its own: otherwise threads that
//! write to different clients at the same time would contend for a line at every write, while the sum is needed only
//! when it is read. A write adds to four numbers of its thread's shard, however many records it contains.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::control::{Goodbye, Reset};
use super::encode::Invalid;

/// Shards of the counts per write: enough that the threads of a few cores seldom share one.
const SHARDS: usize = 8;

/// Upper bounds of the latency histogram's buckets, in microseconds; longer ones have a bucket of their own. Latency is
/// a fraction of a millisecond on a quiet machine, and tens of milliseconds with thousands of clients.
pub(crate) const LATENCIES: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// Why a client disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The client disconnected.
    Left,
    /// Its socket accepted no data for too long.
    WriteTimeout,
    /// The stream ended, with this goodbye.
    Told(Goodbye),
}

impl Departure {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Left,
        Self::WriteTimeout,
        Self::Told(Goodbye::Shutdown),
        Self::Told(Goodbye::Slow),
        Self::Told(Goodbye::StreamRemoved),
        Self::Told(Goodbye::Lifetime),
        Self::Told(Goodbye::Unauthorized),
    ];

    /// Its name in figures; that of a goodbye is its reason on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::WriteTimeout => "write-timeout",
            Self::Told(goodbye) => goodbye.as_str(),
        }
    }

    fn index(self) -> usize {
        let place = Self::ALL.iter().position(|departure| *departure == self);
        // Clients that are overloaded or unavailable have no subscription that could depart.
        place.unwrap_or_default()
    }
}

/// Counts per write. The alignment keeps two shards off one cache line, and off the pairs of lines that processors
/// fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    events: Counter,
    bytes: Counter,
    /// Microseconds in total.
    waited: Counter,
    latencies: [Counter; LATENCIES.len() + 1],
}

/// The sum of the counts per write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Records, and notices among them.
    pub events: u64,
    /// All bytes of responses, including comments and control events.
    pub bytes: u64,
    /// Writes to clients that were waiting for new records, by the time since the arrival: in the order of
    /// [`LATENCIES`], the last beyond those.
    pub latencies: [u64; LATENCIES.len() + 1],
    /// The sum of those times.
    pub waited: Duration,
}

/// The number of events of a kind.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts events; returns how many there were before.
    pub(super) fn add(&self, events: u64) -> u64 {
        self.0.fetch_add(events, Ordering::Relaxed)
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The figures of one path.
#[derive(Debug, Default)]
pub struct Counters {
    shards: [Shard; SHARDS],
    /// Clients that connected.
    pub opened: Counter,
    closed: [AtomicU64; Departure::ALL.len()],
    /// Records shown.
    pub records: Counter,
    /// How often a client fell behind the log and was disconnected, or read the missed records from Kafka.
    pub slow: Counter,
    /// Clients that fell behind the log and received latest values instead.
    pub conflated: Counter,
    /// Records without a key on a stream that keeps a table.
    pub keyless: Counter,
    /// Keys for which the table had no space, or that were evicted from it.
    pub displaced: Counter,
    /// Records that the fixed filter hides.
    pub hidden: Counter,
    /// Records that change no row: heartbeats and the like, of a stream that unwraps change events.
    pub ignored: Counter,
    /// Replays begun.
    pub replays_begun: Counter,
    /// Readers that joined a replay under way.
    pub replays_shared: Counter,
    /// Documents of the table that were begun.
    pub documents: Counter,
    /// Documents that were cut off, because more of the table changed than is kept for them.
    pub cut_documents: Counter,
    /// Ranges of offsets that no longer existed, by [`To`].
    gaps: [Counter; 2],
    resets: [[Counter; Reset::ALL.len()]; 2],
    invalid: [Counter; Invalid::ALL.len()],
    /// Whether the path's formats, of today or before, can have the cause.
    expects_invalid: [AtomicBool; Invalid::ALL.len()],
    /// By topic.
    superseded: Mutex<BTreeMap<String, Superseded>>,
}

/// How long a superseded record counts as a problem: long enough for checks every few minutes to see occasional ones,
/// and short enough that a fixed problem disappears soon.
pub const SUPERSEDED_FOR: Duration = Duration::from_secs(10 * 60);

/// Records of one topic that were not shown because their keys have newer ones in other partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Superseded {
    /// How many.
    pub records: u64,
    /// When the last one arrived that the order of reading partitions does not explain (unix seconds).
    pub last: Option<u64>,
}

/// The recipients of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// All clients; counted once.
    All,
    /// One client, at its own position.
    One,
}

/// The shard of this thread.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

impl Counters {
    /// Counts one write. `waited` is the time since its oldest record arrived, if the client was waiting for it.
    pub(super) fn count_write(&self, events: u64, bytes: usize, waited: Option<Duration>) {
        self.count_writes(1, events, bytes, waited);
    }

    /// Counts the same write to so many clients.
    pub(super) fn count_writes(&self, writes: u64, events: u64, bytes: usize, waited: Option<Duration>) {
        let shard = &self.shards[shard()];
        shard.bytes.add(writes * bytes as u64);
        if events > 0 {
            shard.events.add(writes * events);
        }
        if let Some(waited) = waited {
            let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            let bucket = LATENCIES.partition_point(|bound| *bound < micros);
            shard.latencies[bucket].add(writes);
            shard.waited.add(writes * micros);
        }
    }

    /// The sum of all writes to clients.
    pub fn sent(&self) -> Sent {
        let mut sent = Sent::default();
        for shard in &self.shards {
            sent.events += shard.events.get();
            sent.bytes += shard.bytes.get();
            sent.waited += Duration::from_micros(shard.waited.get());
            for (sum, count) in sent.latencies.iter_mut().zip(&shard.latencies) {
                *sum += count.get();
            }
        }
        sent
    }

    pub(super) fn count_closed(&self, departure: Departure) {
        // A reader that sees the departure also sees the arrival, so the number of clients is never negative.
        self.closed[departure.index()].fetch_add(1, Ordering::Release);
    }

    /// Clients that disconnected, by reason.
    pub fn closed(&self) -> [(Departure, u64); Departure::ALL.len()] {
        Departure::ALL.map(|why| (why, self.closed[why.index()].load(Ordering::Acquire)))
    }

    pub(super) fn count_reset(&self, reason: Reset, to: To) {
        self.resets[to as usize][reason as usize].add(1);
    }

    /// Resets by reason: sent to all, and to single clients.
    pub fn resets(&self, to: To) -> [(Reset, u64); Reset::ALL.len()] {
        Reset::ALL.map(|reason| (reason, self.resets[to as usize][reason as usize].get()))
    }

    pub(super) fn count_gap(&self, to: To) {
        self.gaps[to as usize].add(1);
    }

    /// Gaps: sent to all, and to single clients.
    pub fn gaps(&self, to: To) -> u64 {
        self.gaps[to as usize].get()
    }

    pub(super) fn count_invalid(&self, cause: Invalid) {
        self.invalid[cause.index()].add(1);
    }

    /// Counts a cause from 0.
    pub(super) fn expect_invalid(&self, cause: Invalid) {
        self.expects_invalid[cause.index()].store(true, Ordering::Relaxed);
    }

    /// Records passed over, by the causes that the path's formats can have.
    pub fn invalid(&self) -> Vec<(Invalid, u64)> {
        let expected = |cause: &Invalid| self.expects_invalid[cause.index()].load(Ordering::Relaxed);
        let causes = Invalid::ALL.into_iter().filter(expected);
        causes
            .map(|cause| (cause, self.invalid[cause.index()].get()))
            .collect()
    }

    /// Counts records of these topics from 0.
    pub(super) fn expect_superseded(&self, topics: &[String]) {
        let mut superseded = self.superseded.lock();
        for topic in topics {
            superseded.entry(topic.clone()).or_default();
        }
    }

    /// Counts a record that has a newer one of its key in another partition; with the time (unix seconds) if an
    /// operator should know. Only readers of the figures contend for this lock.
    pub(super) fn count_superseded(&self, topic: &str, at: Option<u64>) {
        let mut superseded = self.superseded.lock();
        if let Some(superseded) = superseded.get_mut(topic) {
            superseded.records += 1;
            superseded.last = at.or(superseded.last);
        }
    }

    /// Records that have a newer one of their key in another partition, by topic; of streams that keep a table.
    pub fn superseded(&self) -> Vec<(String, Superseded)> {
        let superseded = self.superseded.lock();
        superseded
            .iter()
            .map(|(topic, count)| (topic.clone(), *count))
            .collect()
    }

    /// The topics among `topics` with such a record in the last [`SUPERSEDED_FOR`] that an operator should know of, and
    /// their number of records since the start. `now` in unix seconds.
    pub(super) fn superseded_lately(&self, now: u64, topics: &[String]) -> Vec<(String, u64)> {
        let since = now.saturating_sub(SUPERSEDED_FOR.as_secs());
        let is_late = |count: &Superseded| count.last.is_some_and(|last| last >= since);
        self.superseded()
            .into_iter()
            .filter(|(topic, count)| is_late(count) && topics.contains(topic))
            .map(|(topic, count)| (topic, count.records))
            .collect()
    }
}

/// The counters of all paths that are or were served.
#[derive(Debug, Default)]
pub struct Ledger {
    paths: Mutex<BTreeMap<String, Arc<Counters>>>,
}

impl Ledger {
    /// The counters of a path.
    pub fn of(&self, path: &str) -> Arc<Counters> {
        let mut paths = self.paths.lock();
        if let Some(known) = paths.get(path) {
            return Arc::clone(known);
        }
        Arc::clone(paths.entry(path.to_owned()).or_default())
    }

    /// All of them, by path.
    pub fn all(&self) -> Vec<(String, Arc<Counters>)> {
        let paths = self.paths.lock();
        let pair = |(path, counters): (&String, &Arc<Counters>)| (path.clone(), Arc::clone(counters));
        paths.iter().map(pair).collect()
    }
}
