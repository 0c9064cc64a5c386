//! One topic: its identity, and the offsets from which its partitions are read.
//!
//! Derives these from the offsets read and those that exist. Knows nothing of connections, commands or streams.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::progress::Loading;
use crate::kafka::admin::AdminThread;
use crate::kafka::batcher::Batcher;
use crate::kafka::error::KafkaError;
use crate::kafka::partition::{Bounds, Cut, Lost};
use crate::kafka::record::{BEGINNING, TopicId};

pub(super) const REFRESH: Duration = Duration::from_secs(5);

/// Where reading of a topic starts when the daemon starts. Partitions and topics that appear later are read from their
/// log start offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOffset {
    /// At the log start offset.
    Earliest,
    /// This number of offsets before the end of every partition.
    BeforeEnd(u32),
}

impl StartOffset {
    #[must_use]
    pub(crate) fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::BeforeEnd(one), Self::BeforeEnd(another)) => Self::BeforeEnd(one.max(another)),
            _ => Self::Earliest,
        }
    }

    fn offset(self, bounds: Bounds) -> i64 {
        match self {
            Self::Earliest => bounds.low,
            Self::BeforeEnd(count) => (bounds.high - i64::from(count)).max(bounds.low),
        }
    }
}

/// A topic as metadata describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TopicInfo {
    /// 0 if it does not exist.
    pub(super) partitions: usize,
    /// The id: the known one if metadata has none.
    pub(super) id: Option<TopicId>,
    pub(super) is_identified: bool,
}

/// The state of a topic besides its next offsets.
#[derive(Clone)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) start: StartOffset,
    pub(super) id: Option<TopicId>,
    pub(super) leaderless: Vec<usize>,
    /// When they were last seen without one, in milliseconds since the epoch.
    pub(super) leaderless_at: i64,
    /// Partitions whose next offset is out of range, until they are resolved.
    pub(super) lost: Vec<Lost>,
    /// Partitions and offsets that were out of range before their epochs were validated.
    unvalidated: Vec<(u32, i64)>,
    /// Ids of deleted topics of this name: stale metadata may still name them.
    pub(super) past_ids: Vec<TopicId>,
    /// The load up to the end as of the first contact; `None` before that, and once it is finished.
    pub(super) loading: Option<Loading>,
    pub(super) contacted: bool,
}

impl Topic {
    pub(super) const fn new(name: Arc<str>, start: StartOffset) -> Self {
        Self {
            name,
            start,
            id: None,
            leaderless: Vec::new(),
            leaderless_at: 0,
            lost: Vec::new(),
            unvalidated: Vec::new(),
            past_ids: Vec::new(),
            loading: None,
            contacted: false,
        }
    }

    /// Goes back in partitions whose logs were truncated below the next offset, and notifies the streams. Returns
    /// whether there are any.
    pub(super) fn truncate(
        &mut self,
        batcher: &mut Batcher,
        known: &[i64],
        bounds: &[Option<Bounds>],
    ) -> bool {
        let mut is_truncated = false;
        if self.lost.is_empty() {
            return false;
        }
        let unvalidated = std::mem::take(&mut self.unvalidated);
        for lost in std::mem::take(&mut self.lost) {
            let partition = lost.partition as usize;
            let Some(&next) = known.get(partition) else {
                continue;
            };
            let Some(&Some(bounds)) = bounds.get(partition) else {
                // It has no leader; the next client gets the same error.
                self.lost.push(lost);
                continue;
            };
            // Without an epoch, a log that has grown beyond the offset cannot be distinguished from the one that was read.
            let is_shorter = next > bounds.high;
            let at = (lost.partition, next);
            let cut = match lost.cut {
                Some(cut) => cut,
                None if !is_shorter => continue,
                // It may have grown since it was truncated: the next client validates the epoch with its leader.
                None if batcher.epoch(&self.name, lost.partition).is_some() && !unvalidated.contains(&at) => {
                    self.unvalidated.push(at);
                    self.lost.push(lost);
                    continue;
                }
                None => Cut::Shorter { end: bounds.high },
            };
            if let Some(from) = batcher.truncate(&self.name, lost.partition, cut, bounds.low) {
                warn!(
                    "topic {:?} partition {partition}: its log was truncated at offset {from}, but was read up to \
                     {next}: Kafka has lost the records in between, or has others at their offsets; reading continues \
                     at {from}",
                    self.name
                );
                is_truncated = true;
            }
        }
        is_truncated
    }

    /// The log start offsets. After a truncation, tables need them for the records that the lost ones had replaced.
    pub(super) fn restart(&mut self, bounds: &[Option<Bounds>]) -> Vec<i64> {
        // A new partition without a leader starts at 0.
        let next: Vec<i64> = bounds
            .iter()
            .map(|bounds| bounds.map_or(0, |bounds| bounds.low))
            .collect();
        if self.loading.is_some() {
            self.loading = Some(Loading::new(next.clone(), ends(bounds), Instant::now()));
        }
        next
    }

    /// Notifies the streams that the topic was recreated; returns its log start offsets.
    pub(super) fn recreated(&mut self, batcher: &mut Batcher, bounds: &[Option<Bounds>]) -> Vec<i64> {
        batcher.recreated(&self.name);
        self.restart(bounds)
    }

    /// The next offset of every partition, given those known before, the offsets that exist now, and the first live
    /// offsets of partitions that had no leader.
    pub(super) fn next_offsets(
        &self,
        known: &[i64],
        bounds: &[Option<Bounds>],
        live: &BTreeMap<usize, i64>,
    ) -> Vec<i64> {
        let next = |(partition, bounds): (usize, &Option<Bounds>)| match (known.get(partition), *bounds) {
            // It had no leader at the first contact. Preloaded records would now seem to be new.
            (Some(&BEGINNING), Some(bounds)) => match self.start {
                StartOffset::Earliest => bounds.low,
                StartOffset::BeforeEnd(_) => live
                    .get(&partition)
                    .copied()
                    .unwrap_or(bounds.high)
                    .max(bounds.low),
            },
            (Some(&next), Some(bounds)) if next < bounds.low => {
                warn!(
                    "topic {:?} partition {partition}: records {next} to {} no longer exist; reading goes on at {}",
                    self.name,
                    bounds.low - 1,
                    bounds.low
                );
                bounds.low
            }
            (Some(&next), _) => next,
            (None, None) if !self.contacted => BEGINNING,
            (None, Some(bounds)) if !self.contacted => self.start.offset(bounds),
            // All records of a partition that was added later are new.
            (None, bounds) => bounds.map_or(0, |bounds| bounds.low),
        };
        // Kafka removes no partitions: fewer are stale metadata, and the others keep their offsets.
        let surplus = known.iter().skip(bounds.len()).copied();
        bounds.iter().enumerate().map(next).chain(surplus).collect()
    }
}

/// The first live offsets of partitions with a first leader: that of the first record written since they were last seen
/// without one, or the end if the client library does not support lookups by time.
pub(super) fn live_offsets(
    admin: &AdminThread,
    topic: &Topic,
    known: &[i64],
    bounds: &[Option<Bounds>],
) -> Result<BTreeMap<usize, i64>, KafkaError> {
    let ends = bounds.iter().enumerate().filter_map(|(partition, bounds)| {
        let is_late = topic.contacted && known.get(partition) == Some(&BEGINNING);
        bounds.filter(|_| is_late).map(|bounds| (partition, bounds))
    });
    let ends: BTreeMap<usize, Bounds> = ends.collect();
    if ends.is_empty() {
        return Ok(BTreeMap::new());
    }
    let at = |partition| ends.contains_key(&partition).then_some(topic.leaderless_at);
    let asked: Vec<Option<i64>> = (0..bounds.len()).map(at).collect();
    let found = match admin.offsets_at(&topic.name, &asked) {
        Err(error) if error.is_interrupted() => return Err(error),
        Err(error) => {
            debug!("{error}");
            Vec::new()
        }
        Ok(found) => found,
    };
    let live = ends.into_iter().map(|(partition, bounds)| {
        let found = found.get(partition).copied().flatten().unwrap_or(bounds.high);
        (partition, found.clamp(bounds.low, bounds.high.max(bounds.low)))
    });
    Ok(live.collect())
}

/// The ends of partitions; [`BEGINNING`] if unknown.
pub(super) fn ends(bounds: &[Option<Bounds>]) -> Vec<i64> {
    bounds
        .iter()
        .map(|bounds| bounds.map_or(BEGINNING, |bounds| bounds.high))
        .collect()
}

/// Why a topic that was read up to `known` seems to be recreated, if it does.
pub(super) fn looks_recreated(known: &[i64], bounds: &[Option<Bounds>]) -> Option<String> {
    if known.len() > bounds.len() {
        return Some(format!(
            "has {} partitions where it had {}",
            bounds.len(),
            known.len()
        ));
    }
    let mut ahead = (0..)
        .zip(known.iter().zip(bounds))
        .filter_map(|(partition, (&next, bounds))| {
            let high = (*bounds)?.high;
            (next > high).then_some((partition, next, high))
        });
    let (partition, next, high): (u32, _, _) = ahead.next()?;
    Some(format!(
        "partition {partition} ends at {high}, but was read up to {next}"
    ))
}
