//! Finds partitions whose next batch is larger than librdkafka accepts (`receive.message.max.bytes`), and stops them, so
//! that the others are read.
//!
//! librdkafka drops a response that is too large together with the connection, sends the same request again, and does not
//! report the partition: no partition of that broker advances. Only the first batch in a response may exceed
//! `fetch.max.bytes`. So a separate handle fetches one batch of each partition that does not advance, one at a time; a
//! partition that fails alone holds the large batch. Nothing is skipped: a stopped partition is retried when its
//! position changes, and otherwise rarely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;

use super::batch_probe::{BatchProbe, ProbeResult};
use super::fetch_handle::FetchHandle;
use super::handle_factory::HandleFactory;
use crate::kafka::admin::{AdminThread, PendingRequest};
use crate::kafka::batcher::{Batcher, FetchPosition};
use crate::kafka::error::{ErrorKind, KafkaError, Location};
use crate::kafka::pulse::Pulse;
use crate::kafka::unreadable::{RETRY_EVERY, UnreadablePartitions};
use crate::kafka::worker_thread::{PendingCall, WorkerThread};

/// Pause between two searches, in which other partitions advance.
const SEARCH_PAUSE: Duration = Duration::from_secs(2);

/// Consecutive searches without a result, after which an error is reported.
const MAX_IN_VAIN: u32 = 3;

/// How long a response that was too large counts as recent.
const LASTS: Duration = Duration::from_secs(60);

type TopicPartition = (Arc<str>, u32);

enum Search {
    /// End offsets are being requested: only partitions with more records are probed.
    Narrowing(Vec<FetchPosition>, PendingRequest<BTreeMap<TopicPartition, i64>>),
    Probing(Probing),
}

struct Probing {
    probe: WorkerThread<BatchProbe>,
    left: Vec<FetchPosition>,
    current: Option<(FetchPosition, PendingCall<ProbeResult>)>,
    has_found: bool,
    /// Whether these are retries of stopped partitions.
    is_retry: bool,
}

pub(super) enum Step {
    Nothing,
    Found(KafkaError),
    /// A stopped partition can be read again.
    Resumed,
}

pub(super) struct SearchTools<'a> {
    pub(super) factory: &'a HandleFactory,
    pub(super) admin: &'a AdminThread,
    pub(super) reading: &'a FetchHandle,
    pub(super) pulse: &'a Arc<Pulse>,
}

/// The stopped partitions, and the search for others.
#[derive(Default)]
pub(super) struct LargeBatches {
    brokers: Arc<str>,
    search: Option<Search>,
    stopped: UnreadablePartitions,
    /// The partition that was found last, and its [`FetchPosition::placed`].
    found: Option<(TopicPartition, u64)>,
    reported: Option<Instant>,
    /// Whether a search is due, and the earliest time for it.
    is_due: bool,
    pause_until: Option<Instant>,
    in_vain: u32,
    /// The error after [`MAX_IN_VAIN`] of them.
    unexplained: String,
}

impl LargeBatches {
    pub(super) fn new(brokers: &Arc<str>) -> Self {
        Self {
            brokers: Arc::clone(brokers),
            unexplained: format!(
                "kafka {brokers}: answers are larger than receive.message.max.bytes, although each partition alone can \
                 be read; raise that in [kafka.librdkafka], or lower fetch.max.bytes there, and reload"
            ),
            ..Self::default()
        }
    }

    /// Continues the search, or begins one that is due. `is_reported` says whether a response was too large since the
    /// last step. Does not block.
    pub(super) fn step(&mut self, is_reported: bool, batcher: &Batcher, tools: &SearchTools<'_>) -> Step {
        if !is_reported && self.reported.is_none() && self.search.is_none() && self.stopped.is_empty() {
            return Step::Nothing;
        }
        let now = Instant::now();
        if is_reported {
            self.reported = Some(now);
            self.is_due = true;
        }
        match self.search.take() {
            None => {
                if self.reported.is_some_and(|reported| now - reported > LASTS) {
                    (self.reported, self.in_vain) = (None, 0);
                }
                self.begin(now, batcher, tools);
                Step::Nothing
            }
            Some(Search::Narrowing(candidates, request)) => {
                match request.answer() {
                    None => self.search = Some(Search::Narrowing(candidates, request)),
                    Some(answer) => {
                        let ends = answer.unwrap_or_default();
                        // A partition with an unknown end may hold the batch.
                        let may_hold = |candidate: &FetchPosition| {
                            ends.get(&candidate.key()).is_none_or(|&end| candidate.next < end)
                        };
                        self.probe(candidates.into_iter().filter(may_hold).collect(), false, tools);
                    }
                }
                Step::Nothing
            }
            Some(Search::Probing(mut probing)) => {
                let mut step = Step::Nothing;
                if let Some((candidate, call)) = probing.current.take() {
                    let Some(answer) = call.answer() else {
                        probing.current = Some((candidate, call));
                        self.search = Some(Search::Probing(probing));
                        return Step::Nothing;
                    };
                    step = self.evaluate(&candidate, answer.unwrap_or(ProbeResult::Unknown), batcher, tools);
                    probing.has_found |= matches!(step, Step::Found(_));
                }
                self.probe_next(&mut probing, batcher, tools);
                if probing.current.is_some() {
                    self.search = Some(Search::Probing(probing));
                } else if !probing.is_retry {
                    self.end(probing.has_found);
                }
                step
            }
        }
    }

    fn begin(&mut self, now: Instant, batcher: &Batcher, tools: &SearchTools<'_>) {
        if self.is_due && self.pause_until.is_none_or(|until| now >= until) {
            self.is_due = false;
            let candidates = batcher.fetch_positions();
            let candidates: Vec<FetchPosition> =
                candidates.filter(|position| !self.is_stopped(position)).collect();
            let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
            for candidate in &candidates {
                let count = counts.entry(Arc::clone(&candidate.topic)).or_default();
                *count = (*count).max(candidate.partition as usize + 1);
            }
            let topics: Vec<(Arc<str>, usize)> = counts.into_iter().collect();
            let request = tools.admin.begin(move |admin| {
                let bounds = admin.bounds(&topics)?;
                let ends = topics.iter().zip(&bounds).flat_map(|((topic, _), bounds)| {
                    let known = (0..).zip(bounds);
                    known.filter_map(|(partition, bounds)| {
                        Some(((Arc::clone(topic), partition), (*bounds)?.high))
                    })
                });
                Ok(ends.collect())
            });
            match request {
                Ok(request) => self.search = Some(Search::Narrowing(candidates, request)),
                // An earlier request hangs, which is reported elsewhere.
                Err(_) => self.probe(candidates, false, tools),
            }
        } else {
            let due: Vec<FetchPosition> = self.stopped.due(now, batcher).collect();
            if !due.is_empty() {
                self.probe(due, true, tools);
            }
        }
    }

    fn probe(&mut self, left: Vec<FetchPosition>, is_retry: bool, tools: &SearchTools<'_>) {
        let probe = BatchProbe::new(tools.factory.clone(), Arc::clone(tools.pulse));
        match WorkerThread::spawn("kafka-probing", probe, Arc::clone(tools.pulse), |_| None) {
            Ok(probe) => {
                self.search = Some(Search::Probing(Probing {
                    probe,
                    left,
                    current: None,
                    has_found: false,
                    is_retry,
                }));
            }
            Err(error) => {
                debug!("no thread for probing: {error}");
                self.end(false);
            }
        }
    }

    fn evaluate(
        &mut self,
        candidate: &FetchPosition,
        result: ProbeResult,
        batcher: &Batcher,
        tools: &SearchTools<'_>,
    ) -> Step {
        let key = candidate.key();
        if self.stopped.contains(&key.0, key.1) {
            let is_readable = matches!(result, ProbeResult::Readable);
            self.stopped.tried(key, is_readable, Instant::now());
            return if is_readable { Step::Resumed } else { Step::Nothing };
        }
        match result {
            ProbeResult::TooLarge(reason) if !has_advanced(candidate, batcher) => {
                let (topic, partition) = key.clone();
                self.found = Some((key, candidate.placed));
                let offset = tools.reading.position(&topic, partition, candidate.next);
                let error = KafkaError::new(&self.brokers, too_large(&reason));
                Step::Found(error.located(Location::offset(topic, partition, offset)))
            }
            _ => Step::Nothing,
        }
    }

    /// Begins to fetch the next candidate that still has not advanced.
    fn probe_next(&self, probing: &mut Probing, batcher: &Batcher, tools: &SearchTools<'_>) {
        while let Some(candidate) = probing.left.pop() {
            let (topic, partition) = candidate.key();
            let is_stopped = self.stopped.contains(&topic, partition);
            if is_stopped != probing.is_retry || has_advanced(&candidate, batcher) {
                continue;
            }
            let from = tools.reading.position(&topic, partition, candidate.next);
            let call = probing
                .probe
                .begin(move |probe| probe.probe(&topic, partition.cast_signed(), from));
            probing.current = call.ok().map(|call| (candidate, call));
            return;
        }
    }

    fn end(&mut self, has_found: bool) {
        self.pause_until = Some(Instant::now() + SEARCH_PAUSE);
        // Reports during the search concern the batch that was found.
        self.is_due &= !has_found;
        self.in_vain = if has_found {
            0
        } else {
            self.in_vain.saturating_add(1)
        };
    }

    /// Stops the partition that was found last.
    pub(super) fn stop(&mut self, topic: &str, partition: u32) {
        let is_found = |((of, number), _): &mut (TopicPartition, u64)| **of == *topic && *number == partition;
        if let Some((key, placed)) = self.found.take_if(is_found) {
            let retry_at = Instant::now() + RETRY_EVERY;
            self.stopped.insert(key, Some(placed), Some(retry_at));
        }
    }

    /// Forgets stopped partitions whose position has changed, or that are no longer read.
    pub(super) fn forget_moved(&mut self, batcher: &Batcher) {
        self.stopped.forget_moved(batcher);
    }

    /// Partitions that were stopped and have resumed since the last call.
    pub(super) fn take_resumed(&mut self) -> Vec<TopicPartition> {
        self.stopped.take_resumed()
    }

    pub(super) fn has_stopped(&self, topic: &str, partition: u32) -> bool {
        self.stopped.contains(topic, partition)
    }

    pub(super) const fn is_searching(&self) -> bool {
        self.is_due || self.search.is_some()
    }

    /// The error while responses are too large although no single batch is.
    pub(super) fn error(&self) -> Option<&str> {
        (self.in_vain >= MAX_IN_VAIN).then_some(&*self.unexplained)
    }

    pub(super) fn is_stopped(&self, position: &FetchPosition) -> bool {
        self.stopped.is_at(position)
    }
}

fn has_advanced(position: &FetchPosition, batcher: &Batcher) -> bool {
    batcher.next_offset(&position.topic, position.partition) != Some(position.next)
}

/// The error for librdkafka's text, as in
/// `Invalid response size 2000123 (0..1000512): increase receive.message.max.bytes`.
fn too_large(reason: &str) -> ErrorKind {
    let figure = |before: &str| {
        let (_, rest) = reason.split_once(before)?;
        rest.split(|other: char| !other.is_ascii_digit()).next()
    };
    let size = figure("response size ").map_or_else(String::new, |size| {
        format!(" (an answer with that alone takes {size} bytes)")
    });
    let limit = figure("(0..").map_or_else(String::new, |limit| format!(" = {limit}"));
    ErrorKind::TooLarge {
        limit: format!("receive.message.max.bytes{limit}{size}"),
        remedy: "raise that in [kafka.librdkafka] above the topic's max.message.bytes, and reload",
    }
}
