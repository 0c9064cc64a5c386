//! The state that the writer of a stream changes and its readers read.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use super::arrivals::Arrivals;
use super::control::{Reset, Resets};
use super::gauged::Gauges;
use super::log::{Log, Sequence};
use super::position::{BEGINNING, NOT_BEGUN, Position};
use super::truncation::{LogEpochs, Truncations};

/// The shared state of a stream, behind one lock.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) log: Log,
    pub(super) arrivals: Arrivals,
    /// Whether Kafka has said what partitions there are, so that positions mean something.
    pub(super) is_assigned: bool,
    /// The first offset of every partition when it was assigned.
    pub(super) low: Position,
    /// Where a client begins to read a partition that its id says has not begun; final once loaded.
    pub(super) live: Position,
    /// Partitions that began after others were read, in the order of the log.
    pub(super) begins: Vec<Begin>,
    /// Truncations of the logs that the stream reads.
    pub(super) truncations: Truncations,
    /// For every topic the first record behind its last reset, and the reason of that.
    pub(super) turns: Vec<(Sequence, Reset)>,
    /// Notices in the log that are no records.
    pub(super) notices: u64,
    /// Records in the log that have no place in the table, because they have no key.
    pub(super) keyless: u64,
}

/// The figures of the log.
#[derive(Debug, Clone, Default)]
pub(super) struct LogFigures {
    /// Records that arrived since the start, less notices.
    pub(super) records: u64,
    /// Records in memory.
    pub(super) in_memory: u64,
    pub(super) bytes: usize,
    /// When the oldest in memory came.
    pub(super) came: Option<Instant>,
    /// Topic index, partition and offset of the oldest in memory.
    pub(super) oldest: Option<(u16, u32, i64)>,
    /// The id of the last event; `None` until Kafka has said what partitions there are.
    pub(super) head: Option<Bytes>,
}

impl Gauges for StreamState {
    /// Locked for as long as they are copied or replaced.
    type Figures = Mutex<LogFigures>;

    fn update(&self, figures: &Mutex<LogFigures>) {
        let log = &self.log;
        let oldest = log.oldest();
        let now = LogFigures {
            records: log.next() - 1 - self.notices,
            in_memory: log.next() - log.first(),
            bytes: log.cost(),
            came: log.oldest_came(),
            oldest: oldest.map(|entry| (entry.topic, entry.partition, entry.offset)),
            head: self.is_assigned.then(|| log.head().clone()),
        };
        let before = std::mem::replace(&mut *figures.lock(), now);
        drop(before);
    }
}

/// A partition that had no leader when the stream was first read, and begins in mid-log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    /// The first record behind which it may have records.
    pub(super) sequence: Sequence,
    /// Index of its topic in the stream's configuration.
    pub(super) topic: usize,
    pub(super) partition: u32,
    /// Its first offset in the log.
    pub(super) at: i64,
}

impl StreamState {
    /// The state of a stream before anything is known of it.
    pub(super) fn new(log: Log, topics: usize) -> Self {
        Self {
            log,
            arrivals: Arrivals::new(),
            is_assigned: false,
            low: Position::default(),
            live: Position::default(),
            begins: Vec::new(),
            truncations: Truncations::default(),
            turns: vec![(0, Reset::Recreated); topics],
            notices: 0,
            keyless: 0,
        }
    }

    /// Whether a reader at `cursor` and `wanted` needs records of a partition from before the place where that begins
    /// in the log.
    pub(super) fn begins_behind(&self, cursor: Sequence, wanted: &Position) -> bool {
        self.begins.iter().any(|begin| {
            let next = match wanted.next(begin.topic, begin.partition) {
                BEGINNING => self.low.next(begin.topic, begin.partition),
                next => next,
            };
            begin.sequence >= cursor && next != NOT_BEGUN && next < begin.at
        })
    }

    /// Events in the log that the table does not have: notices, and records without a key.
    pub(super) fn only_in_log(&self) -> u64 {
        self.notices + self.keyless
    }

    /// The leader epochs of what was read until now, which ids may name; `None` where ids would become too long.
    pub(super) fn named_epochs(&self) -> Option<Arc<LogEpochs>> {
        let here = Position::parse(self.log.head()).unwrap_or_default();
        here.names_epochs().then(|| self.truncations.epochs())
    }

    /// The position of a reader at a record of the log; the last that is known, if that has left the log.
    pub(super) fn position_at(&self, cursor: Sequence) -> Position {
        let here = self.log.id_before(cursor);
        here.and_then(|id| Position::parse(&id).ok())
            .or_else(|| self.log.reached_at(cursor))
            .unwrap_or_default()
    }

    /// Sets a position that was reached at record `since` to `next` in all partitions of the topics that were reset
    /// behind that record. Returns these, and why.
    pub(super) fn start_over_since(&self, since: Sequence, position: &mut Position, next: i64) -> Resets {
        let here = Position::parse(self.log.head()).unwrap_or_default();
        let mut resets = Vec::new();
        for (topic, &(turn, reason)) in self.turns.iter().enumerate() {
            if turn > since
                && let (Some(position), Some(here)) = (position.topics.get_mut(topic), here.topics.get(topic))
            {
                position.id = here.id;
                position.start_over(vec![next; here.next.len()]);
                resets.push((reason, Some(topic)));
            }
        }
        resets
    }
}
