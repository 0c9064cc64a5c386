//! Requests for records and offsets that are no longer in memory, and the trait that accepts them.
//!
//! Holds no logic: [`pool`](super::pool) serves the requests of a running daemon; tests implement the trait.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::fair_queue::Flow;
use crate::kafka::record::Feed;

/// Most waiting replays, and most waiting lookups. Each keeps clients waiting, and holds their memory.
pub(super) const MAX_WAITING: usize = 1024;

/// A range of offsets of one partition; a negative `from` is the log start offset at the time of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The first offset.
    pub from: i64,
    /// The offset after the last one.
    pub to: i64,
}

/// A request to read ranges of offsets.
#[derive(Debug)]
pub struct ReplayRequest {
    /// The flow of the request in the fair queue.
    pub flow: Flow,
    /// From whose quota it is read.
    pub payer: Arc<Payer>,
    /// Topics, each with a range per partition, from 0.
    pub topics: Vec<(Arc<str>, Vec<OffsetRange>)>,
    /// Receives [`Feed::Assigned`] with the offsets at which reading begins, records, gaps, and
    /// [`Feed::Loaded`] at the end of each topic.
    pub feed: mpsc::Sender<Feed>,
}

impl ReplayRequest {
    /// How many offsets the ranges span, as far as known before reading.
    pub(super) fn offsets(&self) -> u64 {
        let ranges = self.topics.iter().flat_map(|(_, ranges)| ranges);
        ranges
            .map(|range| u64::try_from(range.to.saturating_sub(range.from.max(0))).unwrap_or(0))
            .fold(0, u64::saturating_add)
    }
}

/// The flow from whose quota a replay is read, which is that of one of its readers.
#[derive(Debug)]
pub struct Payer {
    flow: AtomicU64,
    has_others: AtomicBool,
}

impl Payer {
    /// The flow that asks for the replay.
    pub fn new(flow: Flow) -> Self {
        Self {
            flow: AtomicU64::new(flow.0),
            has_others: AtomicBool::new(false),
        }
    }

    /// The client that pays now.
    pub fn flow(&self) -> Flow {
        Flow(self.flow.load(Ordering::SeqCst))
    }

    /// Has another flow pay, whose reader is left.
    pub(crate) fn hand_over(&self, flow: Flow) {
        self.flow.store(flow.0, Ordering::SeqCst);
    }

    /// Notes that a reader of another flow waits for the replay too.
    pub fn note_other(&self) {
        self.has_others.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_others(&self) -> bool {
        self.has_others.load(Ordering::SeqCst)
    }
}

/// The replays of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayLoad {
    /// Read by a thread.
    pub running: usize,
    /// Waiting for a thread or a slot.
    pub waiting: usize,
    /// Waiting because the quota of their flow is used up.
    pub over_flow_quota: usize,
    /// Waiting because the quota of all replays is used up.
    pub over_quota_of_all: usize,
}

/// The bounds on the records that a replay buffers for its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotLimits {
    /// Most bytes buffered; one block may exceed it.
    pub max_bytes: usize,
    /// How long slow readers may delay the replay, or keep records buffered, while others wait.
    pub slow_reader_timeout: Duration,
}

/// The right to buffer a replay's records. Dropping it while the replay waits removes the replay from the queue.
pub struct ReplaySlot {
    limits: SlotLimits,
    release: Option<Box<dyn FnOnce() + Send>>,
}

impl ReplaySlot {
    /// A slot; `release` is called when it is dropped.
    pub fn new(limits: SlotLimits, release: impl FnOnce() + Send + 'static) -> Self {
        Self {
            limits,
            release: Some(Box::new(release)),
        }
    }

    /// The bounds on buffered records.
    pub fn limits(&self) -> SlotLimits {
        self.limits
    }
}

impl fmt::Debug for ReplaySlot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ReplaySlot")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Drop for ReplaySlot {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

/// The requested offset of one partition, as in Kafka's `ListOffsets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// None: the partition is skipped.
    Skip,
    /// The high watermark: the offset of the next record.
    Latest,
    /// The first offset whose record is at or after this time (milliseconds since the epoch); the
    /// high watermark if no record is.
    Timestamp(i64),
}

/// Offsets by topic and partition, in the order of the request; `None` for [`OffsetSpec::Skip`] and for
/// partitions that do not exist.
pub type Offsets = Vec<Vec<Option<i64>>>;

/// Receives the offsets on the thread that looked them up, and must not block.
pub type Reply = Box<dyn FnOnce(Result<Offsets, LookupUnsupported>) + Send>;

/// A request for offsets.
pub struct OffsetLookup {
    /// Topics, each with the requested offset of every partition, from 0.
    pub topics: Vec<(Arc<str>, Vec<OffsetSpec>)>,
    /// Set when a thread begins an attempt, cleared when the attempt fails: while it is clear, the reply will be
    /// newer than the present moment.
    pub is_started: Arc<AtomicBool>,
    /// The lookup is abandoned when no strong reference is left.
    pub wanted: Weak<()>,
    /// Called once, after any number of attempts; dropped uncalled when the lookup is abandoned or the pool closes.
    pub reply: Reply,
}

impl fmt::Debug for OffsetLookup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("OffsetLookup")
            .field("topics", &self.topics)
            .field("is_started", &self.is_started)
            .finish_non_exhaustive()
    }
}

/// The client library in use does not support the lookup. Names the missing feature, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupUnsupported(pub String);

/// The queue is full or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} replays or offset lookups are already waiting")]
pub struct Busy;

/// Accepts requests for records and offsets that are no longer in memory.
pub trait Archive: fmt::Debug + Send + Sync {
    /// Queues a replay. The caller keeps the slot for as long as it buffers the replay's records.
    ///
    /// # Errors
    /// [`Busy`] when too many wait already.
    fn replay(&self, request: ReplayRequest) -> Result<ReplaySlot, Busy>;

    /// Whether replays that may have a turn wait for a thread or a slot.
    fn is_contended(&self) -> bool;

    /// Whether the quota of this flow is used up, so that its replays wait.
    fn is_over_quota(&self, _flow: Flow) -> bool {
        false
    }

    /// Queues a lookup, which is retried with backoff until it succeeds or is abandoned.
    ///
    /// # Errors
    /// [`Busy`] when too many wait already.
    fn look_up(&self, lookup: OffsetLookup) -> Result<(), Busy>;

    /// How many replays run, and how many wait for what.
    fn load(&self) -> ReplayLoad {
        ReplayLoad::default()
    }

    /// Whether the client library in use provides neither times of records (nor offsets by time) nor headers. False
    /// while no library is chosen.
    fn lacks_times_and_headers(&self) -> bool;
}
