//! Replays: reads the ranges of a request to their ends, and continues at its own offsets after a failure.
//!
//! Knows nothing of the queue or of waiting readers; the pool gives each replay a thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::request::{OffsetRange, Payer, ReplayRequest};
use crate::kafka::admin::AdminThread;
use crate::kafka::batcher::Batcher;
use crate::kafka::client::{Connect, Handles};
use crate::kafka::connection::backoff;
use crate::kafka::counters::KafkaCounters;
use crate::kafka::error::{ErrorKind, KafkaError, Location};
use crate::kafka::partition::Bounds;
use crate::kafka::record::BEGINNING;

/// Longest wait for records in one poll, which bounds the time until a closed channel is noticed.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// How long unfinished ranges may yield nothing: client libraries have lost connections permanently without reporting
/// an error.
const STALLED: Duration = Duration::from_secs(30);

/// Consecutive failures, without a record between, after which a replay gives up its thread.
const MAX_FAILURES: u32 = 6;

/// Reads to the end of the ranges, or until all readers have left, a quota is used up, the pool is closed or reading fails
/// too often. `charge` takes the bytes that were read, and returns whether there may be more.
pub(super) fn run(
    request: ReplayRequest,
    connect: &mut dyn Connect,
    counters: &KafkaCounters,
    is_pool_closed: impl Fn() -> bool,
    charge: impl Fn(&Payer, u64) -> bool,
) {
    let mut replay = RangeReader::new(request, charge);
    let mut failures = 0;
    while !replay.batcher.is_closed() && !replay.is_done && !replay.is_over_quota {
        let received = replay.batcher.received();
        // A client per replay: one kept between replays would continue fetching, or have stale metadata.
        let brokers = connect.brokers();
        let outcome = connect
            .connect()
            .and_then(|mut handles| replay.read(&mut handles, &brokers));
        replay.batcher.flush();
        replay.pay();
        match outcome {
            Ok(()) => {}
            Err(error) if connect.refuse(&error) => debug!("replay: {error}: another client takes over"),
            Err(error) => {
                failures = if replay.batcher.received() > received {
                    1
                } else {
                    failures + 1
                };
                if failures > MAX_FAILURES || is_pool_closed() {
                    if matches!(error.kind, ErrorKind::TooLarge { .. }) {
                        counters.count_error(error.counted_as());
                    }
                    // The readers queue another replay behind the waiting ones, or in another pool.
                    warn!("replay: {error}; giving up, its clients queue again");
                    break;
                }
                debug!("replay: {error}; retrying");
                pause(&replay.batcher, backoff(failures));
            }
        }
    }
}

fn pause(batcher: &Batcher, pause: Duration) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !batcher.is_closed() {
        std::thread::sleep(POLL_WAIT.min(until.saturating_duration_since(Instant::now())));
    }
}

struct RangeReader<C> {
    topics: Vec<(Arc<str>, Vec<OffsetRange>)>,
    batcher: Batcher,
    charge: C,
    payer: Arc<Payer>,
    /// Bytes that were charged for.
    paid: u64,
    has_begun: bool,
    is_done: bool,
    /// The turn is over; the readers queue another replay, which waits.
    is_over_quota: bool,
}

impl<C: Fn(&Payer, u64) -> bool> RangeReader<C> {
    fn new(request: ReplayRequest, charge: C) -> Self {
        let batcher = Batcher::new(
            request
                .topics
                .iter()
                .map(|(name, _)| (Arc::clone(name), vec![request.feed.clone()])),
        );
        Self {
            topics: request.topics,
            batcher,
            charge,
            payer: request.payer,
            paid: 0,
            has_begun: false,
            is_done: false,
            is_over_quota: false,
        }
    }

    /// Pays for what was read since the last time. A turn in which nothing was read yet goes on, although the quota was
    /// used up while it connected: otherwise one that is slow to connect would never read. The quota waits for its bytes.
    fn pay(&mut self) {
        let read = self.batcher.sent_bytes();
        let may_read_more = (self.charge)(&self.payer, read - self.paid);
        self.is_over_quota |= !may_read_more && read > 0;
        self.paid = read;
    }

    /// Reads to the end of the ranges, or until all readers have left or a quota is used up. Errors name `brokers`.
    fn read(&mut self, handles: &mut Handles, brokers: &Arc<str>) -> Result<(), KafkaError> {
        self.place(&handles.admin, brokers)?;
        let consumer = &mut handles.consumer;
        consumer.assign(&self.batcher)?;
        let mut at_end = BTreeSet::new();
        let mut advanced = Instant::now();
        loop {
            let pending = self.pending(&at_end);
            if pending.is_empty() {
                for (name, _) in &self.topics {
                    self.batcher.loaded(name);
                }
                self.batcher.flush_all();
                self.is_done = true;
                return Ok(());
            }
            self.pay();
            if self.is_over_quota {
                debug!("replay: a quota is used up, its clients queue again");
                return Ok(());
            }
            let before = self.batcher.received();
            consumer.poll(POLL_WAIT, &mut self.batcher)?;
            self.batcher.flush_all();
            if self.batcher.is_closed() {
                debug!("replay: its readers are gone");
                return Ok(());
            }
            if self.batcher.received() > before {
                // Pushing may have waited for slow readers.
                advanced = Instant::now();
                continue;
            }
            for (name, partition, next, to) in pending {
                if consumer.passed(&name, partition, next) >= to || consumer.is_at_end(&name, partition, next)
                {
                    at_end.insert((name, partition));
                    advanced = Instant::now();
                } else if advanced.elapsed() > STALLED {
                    return Err(KafkaError::partition(
                        brokers,
                        Location::offset(name, partition, next),
                        format!("no record for {STALLED:?}"),
                    ));
                }
            }
        }
    }

    /// Sets the next offsets from the ranges, the records already read, and the offsets that exist.
    fn place(&mut self, admin: &AdminThread, brokers: &Arc<str>) -> Result<(), KafkaError> {
        for (name, ranges) in &self.topics {
            let bounds = admin.bounds_of(name, ranges.len())?;
            let leaderless =
                |(range, bounds): (&OffsetRange, &Option<Bounds>)| range.from < range.to && bounds.is_none();
            if let Some(partition) = ranges.iter().zip(&bounds).position(leaderless) {
                let partition = u32::try_from(partition).unwrap_or(u32::MAX);
                let at = Location::partition(Arc::clone(name), partition);
                return Err(KafkaError::partition(brokers, at, "no leader answers"));
            }
            let known: Vec<i64> = self.batcher.next_offsets(name);
            let next = ranges
                .iter()
                .zip(&bounds)
                .enumerate()
                .map(|(partition, (range, bounds))| {
                    // The range of a partition without a leader is empty.
                    let bounds = bounds.unwrap_or(Bounds {
                        low: range.to,
                        high: range.to,
                    });
                    let wanted = known.get(partition).copied().unwrap_or(range.from);
                    // Clients choose offsets, which may lie beyond the log; a gap must not exceed the range.
                    wanted.max(bounds.low).min(range.to).max(0).min(bounds.high)
                });
            let next: Vec<i64> = next.collect();
            if next != known || !self.has_begun {
                let low = bounds
                    .iter()
                    .map(|bounds| bounds.map_or(BEGINNING, |bounds| bounds.low));
                let low = low.collect();
                self.batcher.assign(name, None, next, low);
            }
        }
        self.has_begun = true;
        Ok(())
    }

    /// Partitions with an unfinished range: topic, partition, next offset and end.
    fn pending(&self, at_end: &BTreeSet<(Arc<str>, u32)>) -> Vec<(Arc<str>, u32, i64, i64)> {
        let mut pending = Vec::new();
        for (name, ranges) in &self.topics {
            let next = self.batcher.next_offsets(name);
            for (partition, (range, &next)) in (0..).zip(ranges.iter().zip(&next)) {
                if next < range.to && !at_end.contains(&(Arc::clone(name), partition)) {
                    pending.push((Arc::clone(name), partition, next, range.to));
                }
            }
        }
        pending
    }
}
