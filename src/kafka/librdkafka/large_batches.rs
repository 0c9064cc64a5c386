//! Finds the partitions whose next batch is larger than librdkafka takes (`receive.message.max.bytes`), and keeps them
//! out of what is read, so that the others go on.
//!
//! librdkafka drops an answer that is too large together with the connection, asks for the same again, and does not
//! say which partition it was: all that the broker leads are held up. Only a batch that is first in an answer may exceed
//! `fetch.max.bytes`. So the partitions that do not get on are fetched one at a time, by a handle of their own and a
//! batch each, and one that fails alone is it. Nothing is skipped: it is tried again when it is placed anew, and seldom
//! otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;

use super::batch_probe::{BatchProbe, ProbeResult};
use super::fetch_handle::FetchHandle;
use super::handle_factory::HandleFactory;
use crate::kafka::admin::{AdminThread, PendingRequest};
use crate::kafka::batcher::{Batcher, Place};
use crate::kafka::error::{ErrorKind, KafkaError, Location};
use crate::kafka::partition::Bounds;
use crate::kafka::pulse::Pulse;
use crate::kafka::worker_thread::{PendingCall, WorkerThread};

/// Pause between two searches: others that are held up get on meanwhile.
const SEARCH_PAUSE: Duration = Duration::from_secs(2);

/// How often a partition that is stopped is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(300);

/// Searches in a row that find nothing, after which that is said.
const MAX_IN_VAIN: u32 = 3;

/// Answers were too large as long as the last of them is not older.
const LASTS: Duration = Duration::from_secs(60);

/// A partition that may hold a batch that is too large, with its next offset.
struct SuspectPartition {
    topic: Arc<str>,
    partition: u32,
    next: i64,
    /// When it was placed ([`Place`]).
    placed: u64,
}

impl SuspectPartition {
    fn of(place: &Place<'_>) -> Self {
        Self {
            topic: Arc::clone(place.topic),
            partition: place.partition,
            next: place.next,
            placed: place.placed,
        }
    }

    fn key(&self) -> (Arc<str>, u32) {
        (Arc::clone(&self.topic), self.partition)
    }

    /// Whether the partition has not got on since.
    fn is_there(&self, batcher: &Batcher) -> bool {
        batcher.next_offset(&self.topic, self.partition) == Some(self.next)
    }
}

/// What is being done to find them.
enum Search {
    /// Brokers are asked which partitions hold more than was read.
    Narrowing(Vec<SuspectPartition>, PendingRequest<EndOffsets>),
    /// Partitions are fetched one at a time.
    Probing {
        prober: WorkerThread<BatchProbe>,
        left: Vec<SuspectPartition>,
        probing: Option<(SuspectPartition, PendingCall<ProbeResult>)>,
        has_found: bool,
        /// Whether those are partitions that were found before.
        is_retry: bool,
    },
}

type EndOffsets = BTreeMap<(Arc<str>, u32), i64>;

/// A partition that is not read.
struct Stopped {
    /// When it was placed ([`Place`]).
    placed: u64,
    retry_at: Instant,
}

/// A batch that is too large.
pub(super) struct LargeBatch {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) offset: i64,
    /// What the library said.
    pub(super) reason: String,
}

/// What comes of a step.
pub(super) enum Step {
    Nothing,
    /// This one is to be stopped.
    LargeBatch(LargeBatch),
    /// One that was stopped can be read.
    Resumed,
}

/// What a search needs.
pub(super) struct SearchTools<'a> {
    pub(super) factory: &'a HandleFactory,
    pub(super) admin: &'a AdminThread,
    pub(super) reading: &'a FetchHandle,
    pub(super) pulse: &'a Arc<Pulse>,
}

/// Which partitions are stopped, and the search for others.
#[derive(Default)]
pub(super) struct LargeBatches {
    search: Option<Search>,
    stopped: BTreeMap<(Arc<str>, u32), Stopped>,
    /// What was found last: the partition, and when it was placed.
    found: Option<((Arc<str>, u32), u64)>,
    resumed: Vec<(Arc<str>, u32)>,
    /// When an answer was too large last.
    heard: Option<Instant>,
    /// Whether that is to be looked into, and not before when.
    is_due: bool,
    pause_until: Option<Instant>,
    /// Searches in a row that have found nothing.
    in_vain: u32,
    /// What is said then.
    unexplained: String,
}

impl LargeBatches {
    /// For a client of these brokers.
    pub(super) fn new(brokers: &str) -> Self {
        Self {
            unexplained: format!(
                "kafka {brokers}: answers are larger than receive.message.max.bytes, although each partition alone can \
                 be read; raise that in [kafka.librdkafka], or lower fetch.max.bytes there, and reload"
            ),
            ..Self::default()
        }
    }

    /// Goes on with the search, where there is one; `is_heard` says whether an answer was too large since the last step.
    /// Blocks for nothing.
    pub(super) fn step(&mut self, is_heard: bool, batcher: &Batcher, tools: &SearchTools<'_>) -> Step {
        if !is_heard && self.heard.is_none() && self.search.is_none() && self.stopped.is_empty() {
            return Step::Nothing;
        }
        let now = Instant::now();
        if is_heard {
            self.heard = Some(now);
            self.is_due = true;
        }
        match self.search.take() {
            None => {
                if self.heard.is_some_and(|heard| now - heard > LASTS) {
                    (self.heard, self.in_vain) = (None, 0);
                }
                self.begin(now, batcher, tools);
                Step::Nothing
            }
            Some(Search::Narrowing(candidates, asked)) => {
                match asked.answer() {
                    None => self.search = Some(Search::Narrowing(candidates, asked)),
                    Some(answer) => {
                        let ends = answer.ok();
                        let is_behind = |candidate: &SuspectPartition| {
                            // One of which nothing is known may be it.
                            let end = ends.as_ref().and_then(|ends| ends.get(&candidate.key()));
                            end.is_none_or(|&end| candidate.next < end)
                        };
                        let left = candidates.into_iter().filter(is_behind).collect();
                        self.probe(left, false, tools);
                    }
                }
                Step::Nothing
            }
            Some(Search::Probing {
                prober,
                mut left,
                probing,
                mut has_found,
                is_retry,
            }) => {
                let mut step = Step::Nothing;
                if let Some((candidate, begun)) = probing {
                    let Some(answer) = begun.answer() else {
                        self.search = Some(Search::Probing {
                            prober,
                            left,
                            probing: Some((candidate, begun)),
                            has_found,
                            is_retry,
                        });
                        return Step::Nothing;
                    };
                    step = self.heed(&candidate, answer.unwrap_or(ProbeResult::Unknown), batcher, tools);
                    has_found |= matches!(step, Step::LargeBatch(_));
                }
                let probing = self.next(&prober, &mut left, is_retry, batcher, tools);
                if probing.is_some() {
                    self.search = Some(Search::Probing {
                        prober,
                        left,
                        probing,
                        has_found,
                        is_retry,
                    });
                } else if !is_retry {
                    self.end(has_found);
                }
                step
            }
        }
    }

    /// Begins what is due.
    fn begin(&mut self, now: Instant, batcher: &Batcher, tools: &SearchTools<'_>) {
        if self.is_due && self.pause_until.is_none_or(|until| now >= until) {
            self.is_due = false;
            let places = batcher.places().filter(|place| !self.is_stopped(place));
            let candidates: Vec<SuspectPartition> =
                places.map(|place| SuspectPartition::of(&place)).collect();
            let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
            for candidate in &candidates {
                let count = counts.entry(Arc::clone(&candidate.topic)).or_default();
                *count = (*count).max(candidate.partition as usize + 1);
            }
            let topics: Vec<(Arc<str>, usize)> = counts.into_iter().collect();
            let asked = tools.admin.begin(move |admin| {
                let bounds = admin.bounds(&topics)?;
                Ok(ends(&topics, &bounds))
            });
            match asked {
                Ok(asked) => self.search = Some(Search::Narrowing(candidates, asked)),
                // One that is full hangs in a question, which says so itself.
                Err(_) => self.probe(candidates, false, tools),
            }
            return;
        }
        let is_due = |place: &Place<'_>| {
            let stopped = self.stopped.get(&(Arc::clone(place.topic), place.partition));
            stopped.is_some_and(|stopped| now >= stopped.retry_at)
        };
        if !self.stopped.is_empty() {
            let due: Vec<SuspectPartition> = batcher
                .places()
                .filter(is_due)
                .map(|place| SuspectPartition::of(&place))
                .collect();
            if !due.is_empty() {
                self.probe(due, true, tools);
            }
        }
    }

    /// Begins to fetch these one at a time.
    fn probe(&mut self, left: Vec<SuspectPartition>, is_retry: bool, tools: &SearchTools<'_>) {
        let prober = BatchProbe::new(tools.factory.clone(), Arc::clone(tools.pulse));
        match WorkerThread::spawn("kafka-probing", prober, Arc::clone(tools.pulse), |_| None) {
            Ok(prober) => {
                self.search = Some(Search::Probing {
                    prober,
                    left,
                    probing: None,
                    has_found: false,
                    is_retry,
                });
            }
            Err(error) => {
                debug!("no thread for probing: {error}");
                self.end(false);
            }
        }
    }

    /// Takes in what has come of a candidate.
    fn heed(
        &mut self,
        candidate: &SuspectPartition,
        probed: ProbeResult,
        batcher: &Batcher,
        tools: &SearchTools<'_>,
    ) -> Step {
        let key = candidate.key();
        if let Some(stopped) = self.stopped.get_mut(&key) {
            if matches!(probed, ProbeResult::Readable) {
                self.stopped.remove(&key);
                self.resumed.push(key);
                return Step::Resumed;
            }
            stopped.retry_at = Instant::now() + RETRY_EVERY;
            return Step::Nothing;
        }
        match probed {
            ProbeResult::TooLarge(reason) if candidate.is_there(batcher) => {
                self.found = Some((key, candidate.placed));
                let (topic, partition) = (&candidate.topic, candidate.partition);
                Step::LargeBatch(LargeBatch {
                    topic: Arc::clone(topic),
                    partition,
                    offset: tools.reading.position(topic, partition, candidate.next),
                    reason,
                })
            }
            _ => Step::Nothing,
        }
    }

    /// Begins to fetch the next candidate that has not got on meanwhile.
    fn next(
        &self,
        prober: &WorkerThread<BatchProbe>,
        left: &mut Vec<SuspectPartition>,
        is_retry: bool,
        batcher: &Batcher,
        tools: &SearchTools<'_>,
    ) -> Option<(SuspectPartition, PendingCall<ProbeResult>)> {
        while let Some(candidate) = left.pop() {
            let is_stopped = self.stopped.contains_key(&candidate.key());
            if is_stopped != is_retry || !candidate.is_there(batcher) {
                continue;
            }
            let (topic, partition) = candidate.key();
            let from = tools.reading.position(&topic, partition, candidate.next);
            let probing = prober.begin(move |prober| prober.probe(&topic, partition.cast_signed(), from));
            return Some((candidate, probing.ok()?));
        }
        None
    }

    fn end(&mut self, has_found: bool) {
        self.pause_until = Some(Instant::now() + SEARCH_PAUSE);
        // What was heard meanwhile is of what was found.
        self.is_due &= !has_found;
        self.in_vain = if has_found {
            0
        } else {
            self.in_vain.saturating_add(1)
        };
    }

    /// Leaves out the partition that was found last.
    pub(super) fn stop(&mut self, topic: &str, partition: u32) {
        if let Some((key, placed)) = self
            .found
            .take_if(|((of, number), _)| **of == *topic && *number == partition)
        {
            let stopped = Stopped {
                placed,
                retry_at: Instant::now() + RETRY_EVERY,
            };
            self.stopped.insert(key, stopped);
        }
    }

    /// Forgets partitions that are placed anew, or not read any more.
    pub(super) fn forget_moved(&mut self, batcher: &Batcher) {
        if self.stopped.is_empty() {
            return;
        }
        let mut moved: Vec<(Arc<str>, u32)> = Vec::new();
        for place in batcher.places() {
            let key = (Arc::clone(place.topic), place.partition);
            let stopped = self.stopped.get(&key);
            if stopped.is_some_and(|stopped| stopped.placed != place.placed) {
                moved.push(key);
            }
        }
        // What is held is not among the places, but known.
        let gone = self.stopped.keys();
        moved.extend(
            gone.filter(|(topic, partition)| batcher.next_offset(topic, *partition).is_none())
                .cloned(),
        );
        for key in moved {
            self.stopped.remove(&key);
            self.resumed.push(key);
        }
    }

    /// Partitions that were stopped and are read again, since the last call.
    pub(super) fn take_resumed(&mut self) -> Vec<(Arc<str>, u32)> {
        std::mem::take(&mut self.resumed)
    }

    /// Whether a partition is left out.
    pub(super) fn has_stopped(&self, topic: &str, partition: u32) -> bool {
        !self.stopped.is_empty() && self.stopped.contains_key(&(Arc::from(topic), partition))
    }

    /// Whether a search is under way, or about to begin.
    pub(super) const fn is_searching(&self) -> bool {
        self.is_due || self.search.is_some()
    }

    /// Said while answers are too large although no partition's next batch is.
    pub(super) fn trouble(&self) -> Option<&str> {
        (self.in_vain >= MAX_IN_VAIN).then_some(&*self.unexplained)
    }

    /// Whether a place is left out.
    pub(super) fn is_stopped(&self, place: &Place<'_>) -> bool {
        if self.stopped.is_empty() {
            return false;
        }
        let stopped = self.stopped.get(&(Arc::clone(place.topic), place.partition));
        stopped.is_some_and(|stopped| stopped.placed == place.placed)
    }
}

/// The ends of partitions, as far as they are known.
fn ends(topics: &[(Arc<str>, usize)], bounds: &[Vec<Option<Bounds>>]) -> BTreeMap<(Arc<str>, u32), i64> {
    let topics = topics.iter().zip(bounds);
    let ends = topics.flat_map(|((topic, _), bounds)| {
        let known = (0..).zip(bounds);
        known.filter_map(move |(partition, bounds)| Some(((Arc::clone(topic), partition), (*bounds)?.high)))
    });
    ends.collect()
}

impl LargeBatch {
    /// As it is said to people.
    pub(super) fn error(self, brokers: &Arc<str>) -> KafkaError {
        // "Invalid response size 2000123 (0..1000512): increase receive.message.max.bytes"
        let figure = |before: &str| {
            let (_, rest) = self.reason.split_once(before)?;
            rest.split(|other: char| !other.is_ascii_digit()).next()
        };
        let size = figure("response size ").map_or_else(String::new, |size| {
            format!(" (an answer with that alone takes {size} bytes)")
        });
        let limit = figure("(0..").map_or_else(String::new, |limit| format!(" = {limit}"));
        let kind = ErrorKind::TooLarge {
            limit: format!("receive.message.max.bytes{limit}{size}"),
            remedy: "raise that in [kafka.librdkafka] above the topic's max.message.bytes, and reload",
        };
        KafkaError::new(brokers, kind).located(Location::offset(self.topic, self.partition, self.offset))
    }
}
