//! One topic as the tail knows it: which it is, and from where each of its partitions is read.
//!
//! Decides by what was read before and what exists now. Knows nothing of connections, orders or streams.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, warn};

use super::progress::Loading;
use crate::kafka::admin::AdminThread;
use crate::kafka::batcher::Batcher;
use crate::kafka::error::KafkaError;
use crate::kafka::partition::{Bounds, Cut, Lost};
use crate::kafka::record::{BEGINNING, TopicId};

/// Where reading of a topic begins when the daemon starts. What appears later is new and always
/// read from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the first record that exists.
    Earliest,
    /// So many offsets before the end of every partition.
    Newest(u32),
}

impl Begin {
    /// The earlier of two.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::Newest(one), Self::Newest(another)) => Self::Newest(one.max(another)),
            _ => Self::Earliest,
        }
    }

    fn offset(self, bounds: Bounds) -> i64 {
        match self {
            Self::Earliest => bounds.low,
            Self::Newest(count) => (bounds.high - i64::from(count)).max(bounds.low),
        }
    }
}

/// What Kafka says of a topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// 0 where it does not exist.
    pub(super) partitions: usize,
    /// The id, the one known before where no answer named one.
    pub(super) id: Option<TopicId>,
    /// Whether this very answer named the id.
    pub(super) is_identified: bool,
}

/// What the thread knows of a topic besides its offsets.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) begin: Begin,
    pub(super) id: Option<TopicId>,
    /// Partitions of which no leader answered when they were to be begun.
    pub(super) leaderless: Vec<usize>,
    /// When they were last seen to have none, in milliseconds since the epoch.
    pub(super) leaderless_at: i64,
    /// Partitions whose next offset was said not to exist, until it is decided where they are read on.
    pub(super) lost: Vec<Lost>,
    /// Partitions and offsets that were said not to exist although the leader was to be asked for their epochs first.
    unvalidated: Vec<(u32, i64)>,
    /// Ids of topics of this name that are no more: a broker that lags behind may still tell them.
    pub(super) past: Vec<TopicId>,
    /// The way to the end as of the first contact; `None` before it, and once that was reached.
    pub(super) loading: Option<Loading>,
    pub(super) contacted: bool,
}

impl Topic {
    /// One of which nothing is known yet.
    pub(super) const fn new(name: Arc<str>, begin: Begin) -> Self {
        Self {
            name,
            begin,
            id: None,
            leaderless: Vec::new(),
            leaderless_at: 0,
            lost: Vec::new(),
            unvalidated: Vec::new(),
            past: Vec::new(),
            loading: None,
            contacted: false,
        }
    }

    /// Goes back in partitions whose logs were truncated below what was read, and tells the streams. Returns whether
    /// there were any.
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
                // It has no leader; the next client is told the same.
                self.lost.push(lost);
                continue;
            };
            // Without an epoch a log that has outgrown the offset looks like the one that was read.
            let is_shorter = next > bounds.high;
            let at = (lost.partition, next);
            let cut = match lost.cut {
                Some(cut) => cut,
                None if !is_shorter => continue,
                // It may have grown since it was truncated: the next client asks its leader where.
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

    /// The offsets at which tables are read anew after that: they need the records that those which are lost had
    /// replaced.
    pub(super) fn read_anew(&mut self, bounds: &[Option<Bounds>]) -> Vec<i64> {
        // What has no leader yet has nothing either.
        let next: Vec<i64> = bounds
            .iter()
            .map(|bounds| bounds.map_or(0, |bounds| bounds.low))
            .collect();
        if self.loading.is_some() {
            self.loading = Some(Loading::new(next.clone(), ends(bounds), Instant::now()));
        }
        next
    }

    /// Tells the streams that this is another topic; the offsets at which it begins.
    pub(super) fn begin_anew(&mut self, batcher: &mut Batcher, bounds: &[Option<Bounds>]) -> Vec<i64> {
        batcher.recreated(&self.name);
        self.read_anew(bounds)
    }

    /// The next offset of every partition, given those known before, what exists now, and the first live
    /// offsets of partitions that had no leader.
    pub(super) fn next_offsets(
        &self,
        known: &[i64],
        bounds: &[Option<Bounds>],
        live: &BTreeMap<usize, i64>,
    ) -> Vec<i64> {
        let next = |(partition, bounds): (usize, &Option<Bounds>)| match (known.get(partition), *bounds) {
            // It had no leader at the first contact, and streams have been read since: what they preload then
            // would seem to be new.
            (Some(&BEGINNING), Some(bounds)) => match self.begin {
                Begin::Earliest => bounds.low,
                Begin::Newest(_) => live
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
            (None, Some(bounds)) if !self.contacted => self.begin.offset(bounds),
            // A partition that comes later is new, and so are all its records.
            (None, bounds) => bounds.map_or(0, |bounds| bounds.low),
        };
        // Kafka removes no partitions: a broker that names fewer lags behind, and offsets of the rest stay.
        let surplus = known.iter().skip(bounds.len()).copied();
        bounds.iter().enumerate().map(next).chain(surplus).collect()
    }
}

/// Where records of partitions are live that had no leader and have one now: from the first record that was
/// written since they were last seen without, or from the end where the client library knows no times.
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

/// Where partitions end; before everything where that is not known.
pub(super) fn ends(bounds: &[Option<Bounds>]) -> Vec<i64> {
    bounds
        .iter()
        .map(|bounds| bounds.map_or(BEGINNING, |bounds| bounds.high))
        .collect()
}

/// Why a topic seems to be another than the one that was read up to `known`, if it does.
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
