//! A job under way: reads its ranges to their ends, however often the client under it is built anew.
//!
//! Knows nothing of threads or of who waits; [`history`](super::pool) does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;

use super::pool::{Job, Range};
use crate::kafka::batcher::Batcher;
use crate::kafka::record::BEGINNING;
use crate::kafka::source::{Bounds, Source, SourceError};

/// Longest wait for records in one poll, and so the longest before a closed channel is seen.
pub(super) const POLL_WAIT: Duration = Duration::from_millis(100);

/// How long nothing may come of ranges that hold more. A client library has lost its way to brokers for good
/// before, in silence.
const STANDS: Duration = Duration::from_secs(30);

/// A job under way.
pub(super) struct Reading {
    topics: Vec<(Arc<str>, Vec<Range>)>,
    pub(super) batcher: Batcher,
    is_begun: bool,
    /// Set at the end of all ranges.
    pub(super) is_done: bool,
}

impl Reading {
    pub(super) fn new(job: Job) -> Self {
        let batcher = Batcher::new(
            job.topics
                .iter()
                .map(|(name, _)| (Arc::clone(name), vec![job.feed.clone()])),
        );
        Self {
            topics: job.topics,
            batcher,
            is_begun: false,
            is_done: false,
        }
    }

    /// Reads to the end of the ranges, or until nobody listens. `brokers` are named in errors.
    pub(super) fn read(&mut self, source: &mut dyn Source, brokers: &str) -> Result<(), SourceError> {
        for (name, ranges) in &self.topics {
            let bounds = source.bounds(name, ranges.len())?;
            let leaderless =
                |(range, bounds): (&Range, &Option<Bounds>)| range.from < range.to && bounds.is_none();
            if let Some(partition) = ranges.iter().zip(&bounds).position(leaderless) {
                return Err(SourceError::Partition {
                    brokers: brokers.to_owned(),
                    at: format!("topic {name:?} partition {partition}"),
                    reason: "no leader answers".to_owned(),
                });
            }
            let known: Vec<i64> = self.batcher.next_offsets(name);
            let next = ranges
                .iter()
                .zip(&bounds)
                .enumerate()
                .map(|(partition, (range, bounds))| {
                    // Of the others nothing is wanted.
                    let bounds = bounds.unwrap_or(Bounds {
                        low: range.to,
                        high: range.to,
                    });
                    let wanted = known.get(partition).copied().unwrap_or(range.from);
                    // Never beyond the range, where an offset from outside could be one that does not exist;
                    // what lies behind it is not ours to skip to.
                    wanted.max(bounds.low).min(range.to).max(0).min(bounds.high)
                });
            let next: Vec<i64> = next.collect();
            if next != known || !self.is_begun {
                let low = bounds
                    .iter()
                    .map(|bounds| bounds.map_or(BEGINNING, |bounds| bounds.low));
                let low = low.collect();
                self.batcher.assign(name, None, next, low);
            }
        }
        self.is_begun = true;
        source.assign(&self.batcher)?;
        let mut at_end = BTreeSet::new();
        let mut got_on = Instant::now();
        loop {
            let mut pending = Vec::new();
            for (name, ranges) in &self.topics {
                let next = self.batcher.next_offsets(name);
                for (partition, (range, &next)) in (0..).zip(ranges.iter().zip(&next)) {
                    if next < range.to && !at_end.contains(&(Arc::clone(name), partition)) {
                        pending.push((Arc::clone(name), partition, next));
                    }
                }
            }
            if pending.is_empty() {
                for (name, _) in &self.topics {
                    self.batcher.loaded(name);
                }
                self.batcher.flush_all();
                self.is_done = true;
                return Ok(());
            }
            let before = self.batcher.received();
            source.poll(POLL_WAIT, &mut self.batcher)?;
            self.batcher.flush_all();
            if self.batcher.is_closed() {
                debug!("replay: nobody listens any more");
                return Ok(());
            }
            if self.batcher.received() > before {
                // Readers may have kept it waiting meanwhile.
                got_on = Instant::now();
                continue;
            }
            for (name, partition, next) in pending {
                let to = self.topics.iter().find(|(topic, _)| *topic == name);
                let to = to.and_then(|(_, ranges)| Some(ranges.get(partition as usize)?.to));
                let is_passed = to.is_some_and(|to| source.passed(&name, partition, next) >= to);
                if is_passed || source.is_at_end(&name, partition, next)? {
                    at_end.insert((name, partition));
                    got_on = Instant::now();
                } else if got_on.elapsed() > STANDS {
                    return Err(SourceError::Partition {
                        brokers: brokers.to_owned(),
                        at: format!("topic {name:?} partition {partition} at offset {next}"),
                        reason: format!("nothing comes for {STANDS:?}"),
                    });
                }
            }
        }
    }
}
