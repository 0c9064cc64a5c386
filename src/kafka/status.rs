//! How the Kafka room is doing, for those who report it (readiness, the streams page, logs).
//!
//! Written by the tail's thread, read by anyone; never on the path of a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::counters::KafkaCounters;
use super::lag::{End, PartitionLag};
use super::link::Link;
use super::open_transactions::{OpenTransactions, TransactionChange};
use super::pulse::Pulse;
use super::stopped_partitions::{Stop, StoppedPartition, Stops};
use crate::config::Client;

/// The state of the connection to Kafka, shared between the tail and its observers.
#[derive(Debug, Default)]
pub struct Status {
    state: Mutex<State>,
    counters: Arc<KafkaCounters>,
    pulse: Arc<Pulse>,
}

#[derive(Debug, Default)]
struct State {
    client: Option<String>,
    contacted: bool,
    trouble: Option<String>,
    /// Whether the trouble, or one that it began as, was told.
    is_told: bool,
    /// The refusal that was told last, until all is well.
    refusal: Option<String>,
    missing: BTreeSet<String>,
    stops: Stops,
    /// Partitions of which no leader answers.
    leaderless: BTreeMap<String, Vec<usize>>,
    /// What is to be said of topics that may not be read.
    forbidden: BTreeMap<String, String>,
    progress: BTreeMap<String, u8>,
    /// Records that each partition of a topic is behind; `None` where nothing was heard of its end.
    lag: BTreeMap<String, Vec<Option<Lag>>>,
    /// Ends of partitions that open transactions hold.
    transactions: OpenTransactions,
    links: Vec<Link>,
    /// Topics that are paused because of a stream, by its path.
    paused: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// Streams that do not keep up, by their paths.
    slow: BTreeSet<Arc<str>>,
}

/// How far the reading of a partition is behind: the end as far as it may be read, and the high watermark.
type Lag = (u64, u64);

/// A copy of the state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The client library in use, once one is chosen.
    pub client: Option<String>,
    /// Whether a broker has ever answered.
    pub contacted: bool,
    /// What is wrong now, each ready to be shown: `kafka ...`, `topic ... does not exist`.
    pub degraded: Vec<String>,
    /// Topics that are being read up to the end they had at the start, and how many percent of their
    /// offsets are passed.
    pub progress: BTreeMap<String, u8>,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Where what it does is counted.
    #[must_use]
    pub fn counters(&self) -> &Arc<KafkaCounters> {
        &self.counters
    }

    /// Whether brokers have answered, and nothing is wrong with the connection now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let state = self.lock();
        state.contacted && state.trouble.is_none()
    }

    /// So many records are between the reader and the ends of a topic's partitions.
    pub(crate) fn set_lags(&self, topic: &str, lags: Vec<u64>) {
        let lags = lags.into_iter().map(|lag| Some((lag, lag))).collect();
        self.lock().lag.insert(topic.to_owned(), lags);
    }

    /// The same of one partition.
    pub(crate) fn set_lag(&self, topic: &str, partition: u32, lag: u64, to_high: u64) {
        let mut state = self.lock();
        if let Some(lags) = state.lag.get_mut(topic) {
            let index = partition as usize;
            if index >= lags.len() {
                lags.resize(index + 1, None);
            }
            lags[index] = Some((lag, to_high));
        }
    }

    /// This was heard of the end of a partition; returns whether it is news that a transaction holds it.
    pub(crate) fn update_end(&self, end: &End) -> Option<TransactionChange> {
        self.lock().transactions.update(end, Instant::now())
    }

    /// How far the reading of every partition was behind when that was last heard of: a few seconds ago, or
    /// before an outage. Partitions of which nothing was heard yet are left out.
    #[must_use]
    pub fn lag(&self) -> Vec<PartitionLag> {
        let state = self.lock();
        let partitions = state.lag.iter().flat_map(|(topic, lags)| {
            let known = (0..)
                .zip(lags)
                .filter_map(|(partition, lag)| Some((partition, (*lag)?)));
            known.map(move |(partition, (records, to_high))| PartitionLag {
                topic: topic.clone(),
                partition,
                records,
                to_high,
            })
        });
        partitions.collect()
    }

    /// The pulse of the thread.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Names the client library in use.
    pub(crate) fn set_client(&self, client: &str) {
        self.lock().client = Some(client.to_owned());
    }

    /// How connections are.
    pub(crate) fn set_links(&self, links: Vec<Link>) {
        self.lock().links = links;
    }

    /// Connections to brokers, where the client library tells them.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        self.lock().links.clone()
    }

    /// Another connection is used from now on, maybe with another library. What is wrong with it is news.
    pub(crate) fn forget_client(&self) {
        let mut state = self.lock();
        state.client = None;
        state.links.clear();
        state.is_told = false;
        state.refusal = None;
    }

    /// Whether this is the client library in use. False while none is chosen.
    pub(crate) fn reads_with(&self, client: Client) -> bool {
        self.lock().client.as_deref() == Some(client.as_str())
    }

    /// Brokers answer; returns whether they did not before.
    pub(crate) fn healthy(&self) -> bool {
        let mut state = self.lock();
        state.contacted = true;
        state.is_told = false;
        state.refusal = None;
        state.trouble.take().is_some()
    }

    /// Something is wrong; returns whether nothing was before.
    pub(crate) fn troubled(&self, what: &str) -> bool {
        let mut state = self.lock();
        let is_news = !std::mem::replace(&mut state.is_told, true);
        if state.trouble.as_deref() != Some(what) {
            state.trouble = Some(what.to_owned());
        }
        is_news
    }

    /// A login or a certificate is refused; returns whether that is news, whatever else is wrong.
    pub(crate) fn refused(&self, what: &str) -> bool {
        let mut state = self.lock();
        let is_news = state.refusal.as_deref() != Some(what);
        if is_news {
            state.refusal = Some(what.to_owned());
        }
        if state.trouble.as_deref() != Some(what) {
            state.trouble = Some(what.to_owned());
        }
        is_news
    }

    /// A topic may not be read, of which this is to be said, or it may; returns whether that is news.
    pub(crate) fn set_forbidden(&self, topic: &str, what: Option<String>) -> bool {
        let mut state = self.lock();
        match what {
            Some(what) => state.forbidden.insert(topic.to_owned(), what).is_none(),
            None => state.forbidden.remove(topic).is_some(),
        }
    }

    /// A topic exists or does not; returns whether that is news.
    pub(crate) fn set_missing(&self, topic: &str, missing: bool) -> bool {
        let mut state = self.lock();
        if missing {
            state.missing.insert(topic.to_owned())
        } else {
            state.missing.remove(topic)
        }
    }

    /// Of these partitions no leader answers; returns whether that is news, and bad.
    pub(crate) fn set_leaderless(&self, topic: &str, partitions: &[usize]) -> bool {
        let mut state = self.lock();
        if partitions.is_empty() {
            state.leaderless.remove(topic);
            return false;
        }
        let known = state.leaderless.insert(topic.to_owned(), partitions.to_vec());
        known.is_none_or(|known| known != partitions)
    }

    /// A partition cannot be read; returns whether that is to be logged.
    pub(crate) fn set_stopped(&self, topic: &str, partition: u32, stop: Stop) -> bool {
        self.lock().stops.set(topic, partition, stop, Instant::now())
    }

    /// A partition is read again; returns whether it was stopped.
    pub(crate) fn set_resumed(&self, topic: &str, partition: u32) -> bool {
        self.lock().stops.clear(topic, partition)
    }

    /// All partitions are tried again.
    pub(crate) fn forget_stopped(&self) {
        self.lock().stops.clear_all();
    }

    /// The partitions of a topic at which reading is stopped.
    pub(crate) fn stopped_of(&self, topic: &str) -> Vec<u32> {
        self.lock().stops.of(topic).collect()
    }

    /// Partitions at which reading is stopped.
    #[must_use]
    pub fn stops(&self) -> Vec<StoppedPartition> {
        self.lock().stops.all().collect()
    }

    /// A topic is loaded to so many percent.
    pub(crate) fn set_loading(&self, topic: &str, percent: u8) {
        let mut state = self.lock();
        match state.progress.get_mut(topic) {
            Some(known) => *known = percent,
            None => {
                state.progress.insert(topic.to_owned(), percent);
            }
        }
    }

    /// A topic is loaded.
    pub(crate) fn set_loaded(&self, topic: &str) {
        self.lock().progress.remove(topic);
    }

    /// These topics are paused because of a stream, or none are.
    pub(crate) fn set_paused(&self, stream: &Arc<str>, topics: Option<Vec<Arc<str>>>) {
        let mut state = self.lock();
        match topics {
            Some(topics) => state.paused.insert(Arc::clone(stream), topics),
            None => state.paused.remove(stream),
        };
    }

    /// Topics that are paused because of a stream with this path.
    fn paused_by(&self, stream: &str) -> Vec<Arc<str>> {
        self.lock().paused.get(stream).cloned().unwrap_or_default()
    }

    /// A stream does not keep up, or does again; returns whether that is news.
    pub(crate) fn set_slow(&self, stream: &Arc<str>, is_slow: bool) -> bool {
        let mut state = self.lock();
        if is_slow {
            state.slow.insert(Arc::clone(stream))
        } else {
            state.slow.remove(stream)
        }
    }

    /// A topic is read no more.
    pub(crate) fn forget(&self, topic: &str) {
        let mut state = self.lock();
        state.missing.remove(topic);
        state.leaderless.remove(topic);
        state.stops.forget(topic);
        state.forbidden.remove(topic);
        state.progress.remove(topic);
        state.lag.remove(topic);
        state.transactions.forget(topic);
    }

    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let waiting = (!state.contacted && state.trouble.is_none())
            .then(|| "kafka: no broker has answered yet".to_owned());
        let missing = state
            .missing
            .iter()
            .map(|topic| format!("kafka: topic {topic:?} does not exist"));
        let leaderless = state.leaderless.iter().map(|(topic, partitions)| {
            format!("kafka: topic {topic:?}: no leader answers for partitions {partitions:?}")
        });
        let slow = state
            .slow
            .iter()
            .map(|stream| format!("stream {stream}: does not keep up with its topics, its clients are late"));
        Snapshot {
            client: state.client.clone(),
            contacted: state.contacted,
            degraded: waiting
                .into_iter()
                .chain(state.trouble.iter().cloned())
                .chain(state.forbidden.values().cloned())
                .chain(missing)
                .chain(leaderless)
                .chain(state.stops.lines())
                .chain(slow)
                .chain(state.transactions.messages())
                .collect(),
            progress: state.progress.clone(),
        }
    }
}

/// The states of all reading threads: one for all streams that came together.
#[derive(Debug, Default)]
pub struct Board {
    all: Mutex<Vec<Arc<Status>>>,
    counters: Arc<KafkaCounters>,
}

impl Board {
    /// The status of one more thread, which counts with the others.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::new(Status {
            counters: Arc::clone(&self.counters),
            ..Status::default()
        })
    }

    /// What all that ever read have counted.
    #[must_use]
    pub fn counters(&self) -> &KafkaCounters {
        &self.counters
    }

    /// Whether all threads reach Kafka now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.all().iter().all(|status| status.is_up())
    }

    /// How far the reading of every partition is behind ([`Status::lag`]); of two threads that read the same,
    /// as after a reload, the one that is further behind counts.
    #[must_use]
    pub fn lag(&self) -> Vec<PartitionLag> {
        let mut furthest: BTreeMap<(String, usize), Lag> = BTreeMap::new();
        for lag in self.all().iter().flat_map(|status| status.lag()) {
            let (records, to_high) = furthest.entry((lag.topic, lag.partition)).or_default();
            (*records, *to_high) = (lag.records.max(*records), lag.to_high.max(*to_high));
        }
        let lags = furthest
            .into_iter()
            .map(|((topic, partition), (records, to_high))| PartitionLag {
                topic,
                partition,
                records,
                to_high,
            });
        lags.collect()
    }

    /// Partitions at which reading is stopped; of two threads that read the same, as after a reload, the one that is
    /// further behind counts.
    #[must_use]
    pub fn stops(&self) -> Vec<StoppedPartition> {
        let mut stops: BTreeMap<(String, u32), StoppedPartition> = BTreeMap::new();
        for stopped in self.all().iter().flat_map(|status| status.stops()) {
            let at = (stopped.topic.clone(), stopped.partition);
            let known = stops.entry(at).or_insert_with(|| stopped.clone());
            if stopped.stop.offset < known.stop.offset {
                *known = stopped;
            }
        }
        stops.into_values().collect()
    }

    /// Topics that are paused because a stream with this path does not take batches as fast as they come.
    #[must_use]
    pub fn paused_by(&self, stream: &str) -> Vec<Arc<str>> {
        self.all()
            .iter()
            .flat_map(|status| status.paused_by(stream))
            .collect()
    }

    /// Connections to brokers; of several to one, as after a reload, the one that is worse off counts.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        let mut links: BTreeMap<String, Link> = BTreeMap::new();
        for link in self.all().iter().flat_map(|status| status.links()) {
            match links.get_mut(&link.broker) {
                Some(known) => {
                    known.is_up &= link.is_up;
                    known.round_trip = known.round_trip.max(link.round_trip);
                }
                None => {
                    links.insert(link.broker.clone(), link);
                }
            }
        }
        links.into_values().collect()
    }

    /// How many brokers a thread is or may be connected to, as the client library says; 0 where it says nothing.
    #[must_use]
    pub fn brokers(&self) -> usize {
        let all = self.all();
        all.iter()
            .map(|status| status.lock().links.len())
            .max()
            .unwrap_or(0)
    }

    /// Shows these from now on.
    pub fn set(&self, all: Vec<Arc<Status>>) {
        *self.all() = all;
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Status>>> {
        self.all.lock()
    }

    /// Whether a thread reads with this client library.
    pub(crate) fn reads_with(&self, client: Client) -> bool {
        self.all().iter().any(|status| status.reads_with(client))
    }

    /// For how long a thread has been late, the latest of all; `tick` as for [`Pulse::look`].
    pub fn look(&self, tick: Duration) -> Duration {
        let all = self.all();
        let late = all.iter().map(|status| status.pulse.look(tick).late).max();
        late.unwrap_or_default()
    }

    /// All of them together: the client of the first, contacted if all are.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let all = self.all();
        let mut shots = all.iter().map(|status| status.snapshot());
        let mut first = shots.next().unwrap_or_else(|| Status::default().snapshot());
        for shot in shots {
            first.contacted &= shot.contacted;
            for what in shot.degraded {
                if !first.degraded.contains(&what) {
                    first.degraded.push(what);
                }
            }
            first.progress.extend(shot.progress);
        }
        first
    }
}
