//! The status of one reading thread, for readiness, `/streams`, metrics and logs.
//!
//! The thread writes it, any other reads it; never on the path of a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::counters::KafkaCounters;
use super::lag::{End, Lag, PartitionLag};
use super::open_transactions::{OpenTransactions, TransactionChange};
use super::pulse::Pulse;
use super::stopped_partitions::{Stop, StoppedPartition, StoppedPartitions};
use crate::config::Client;

/// The status of one reading thread.
#[derive(Debug, Default)]
pub struct ReaderStatus {
    state: Mutex<ReaderState>,
    counters: Arc<KafkaCounters>,
    pulse: Arc<Pulse>,
    beside: Mutex<Vec<Arc<Self>>>,
}

#[derive(Debug, Default)]
struct ReaderState {
    client: Option<String>,
    contacted: bool,
    /// The error from which reading has not recovered.
    error: Option<String>,
    is_logged: bool,
    auth_error: Option<String>,
    missing: BTreeSet<String>,
    stopped: StoppedPartitions,
    leaderless: BTreeMap<String, Vec<usize>>,
    /// Topics without READ permission, each with its message.
    forbidden: BTreeMap<String, String>,
    progress: BTreeMap<String, u8>,
    /// The lag of each partition of a topic; `None` before its end is known.
    lag: BTreeMap<String, Vec<Option<Lag>>>,
    transactions: OpenTransactions,
    broker_states: Vec<BrokerState>,
    paused: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// Streams that do not keep up, each with the streams that wait for it.
    slow: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// The connection to one broker, as the client library reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerState {
    /// `host:port` as the cluster names it.
    pub broker: String,
    /// Whether requests can be sent now.
    pub is_up: bool,
    /// The average round trip of the last seconds, waits for records included; `None` without a response.
    pub round_trip: Option<Duration>,
}

/// A copy of the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The client library in use, once one is chosen.
    pub client: Option<String>,
    /// Whether a broker has ever answered.
    pub contacted: bool,
    /// Messages about current faults: `kafka ...`, `topic ... does not exist`.
    pub degraded: Vec<String>,
    /// Topics that are read up to their end as of the start, with the percentage of offsets passed.
    pub progress: BTreeMap<String, u8>,
}

impl ReaderStatus {
    pub(super) fn counted_in(counters: &Arc<KafkaCounters>) -> Self {
        Self {
            counters: Arc::clone(counters),
            ..Self::default()
        }
    }

    /// The counters of all threads.
    pub fn counters(&self) -> &Arc<KafkaCounters> {
        &self.counters
    }

    /// Whether brokers have answered, and the connection works now.
    pub(crate) fn is_up(&self) -> bool {
        let state = self.state.lock();
        state.contacted && state.error.is_none()
    }

    /// Sets the lag of every partition of a topic.
    pub(crate) fn set_lags(&self, topic: &str, lags: impl Iterator<Item = Lag>) {
        let lags = lags.map(Some).collect();
        self.state.lock().lag.insert(topic.to_owned(), lags);
    }

    pub(crate) fn set_lag(&self, topic: &str, partition: u32, lag: Lag) {
        let mut state = self.state.lock();
        if let Some(lags) = state.lag.get_mut(topic) {
            let index = partition as usize;
            if index >= lags.len() {
                lags.resize(index + 1, None);
            }
            lags[index] = Some(lag);
        }
    }

    /// Subtracts from the lag of a topic what was read since it was set.
    pub(crate) fn advance_lags(&self, topic: &str, next: &[i64]) {
        let mut state = self.state.lock();
        let lags = state.lag.get_mut(topic).into_iter().flatten();
        for (lag, &next) in lags.zip(next) {
            if let Some(lag) = lag {
                lag.advance(next);
            }
        }
    }

    pub(crate) fn update_end(&self, end: &End) -> Option<TransactionChange> {
        self.state.lock().transactions.update(end, Instant::now())
    }

    /// The lag of every partition as it was last known: a few seconds ago, or before an outage. Partitions whose ends
    /// are unknown are left out.
    pub fn lag(&self) -> Vec<PartitionLag> {
        let state = self.state.lock();
        let partitions = state.lag.iter().flat_map(|(topic, lags)| {
            let known = (0..)
                .zip(lags)
                .filter_map(|(partition, lag)| Some((partition, (*lag)?)));
            known.map(move |(partition, lag)| PartitionLag {
                topic: topic.clone(),
                partition,
                records: lag.records,
                to_high: lag.to_high,
            })
        });
        partitions.collect()
    }

    /// The pulse of the thread.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    pub(crate) fn set_client(&self, client: &str) {
        self.state.lock().client = Some(client.to_owned());
    }

    pub(crate) fn set_broker_states(&self, connections: Vec<BrokerState>) {
        self.state.lock().broker_states = connections;
    }

    /// Connections to brokers, if the client library reports them.
    pub(crate) fn broker_states(&self) -> Vec<BrokerState> {
        self.state.lock().broker_states.clone()
    }

    /// Another connection takes over, maybe with another library. Its errors are logged again.
    pub(crate) fn forget_client(&self) {
        let mut state = self.state.lock();
        state.client = None;
        state.broker_states.clear();
        state.is_logged = false;
        state.auth_error = None;
    }

    /// Whether this client library is in use. False while none is chosen.
    pub(crate) fn reads_with(&self, client: Client) -> bool {
        self.state.lock().client.as_deref() == Some(client.as_str())
    }

    /// Brokers answer; returns whether that ends an outage.
    pub(crate) fn set_healthy(&self) -> bool {
        let mut state = self.state.lock();
        state.contacted = true;
        state.is_logged = false;
        state.auth_error = None;
        state.error.take().is_some()
    }

    /// Reading fails; returns whether that begins an outage.
    pub(crate) fn set_error(&self, error: &str) -> bool {
        let mut state = self.state.lock();
        let is_new = !std::mem::replace(&mut state.is_logged, true);
        if state.error.as_deref() != Some(error) {
            state.error = Some(error.to_owned());
        }
        is_new
    }

    /// Authentication fails; returns whether this error is new, even within an outage.
    pub(crate) fn set_auth_error(&self, error: &str) -> bool {
        let mut state = self.state.lock();
        let is_new = state.auth_error.as_deref() != Some(error);
        if is_new {
            state.auth_error = Some(error.to_owned());
        }
        if state.error.as_deref() != Some(error) {
            state.error = Some(error.to_owned());
        }
        is_new
    }

    /// Sets the message for a topic without READ permission, or clears it; returns whether that changes anything.
    pub(crate) fn set_forbidden(&self, topic: &str, message: Option<String>) -> bool {
        let mut state = self.state.lock();
        match message {
            Some(message) => state.forbidden.insert(topic.to_owned(), message).is_none(),
            None => state.forbidden.remove(topic).is_some(),
        }
    }

    /// Sets whether a topic is missing; returns whether that changes anything.
    pub(crate) fn set_missing(&self, topic: &str, missing: bool) -> bool {
        let mut state = self.state.lock();
        if missing {
            state.missing.insert(topic.to_owned())
        } else {
            state.missing.remove(topic)
        }
    }

    /// Sets the partitions without a leader; returns whether others lack one than before.
    pub(crate) fn set_leaderless(&self, topic: &str, partitions: &[usize]) -> bool {
        let mut state = self.state.lock();
        if partitions.is_empty() {
            state.leaderless.remove(topic);
            return false;
        }
        let known = state.leaderless.insert(topic.to_owned(), partitions.to_vec());
        known.is_none_or(|known| known != partitions)
    }

    /// A partition is stopped; returns whether to log that.
    pub(crate) fn set_stopped(&self, topic: &str, partition: u32, stop: Stop) -> bool {
        self.state
            .lock()
            .stopped
            .set(topic, partition, stop, Instant::now())
    }

    /// A partition is resumed; returns whether it was stopped.
    pub(crate) fn set_resumed(&self, topic: &str, partition: u32) -> bool {
        self.state.lock().stopped.clear(topic, partition)
    }

    /// A new client tries all stopped partitions again.
    pub(crate) fn forget_stopped(&self) {
        self.state.lock().stopped.clear_all();
    }

    pub(crate) fn stopped_of(&self, topic: &str) -> Vec<u32> {
        self.state.lock().stopped.of(topic).collect()
    }

    /// All stopped partitions.
    pub fn stopped_partitions(&self) -> Vec<StoppedPartition> {
        self.state.lock().stopped.all().collect()
    }

    pub(crate) fn set_loading(&self, topic: &str, percent: u8) {
        let mut state = self.state.lock();
        match state.progress.get_mut(topic) {
            Some(known) => *known = percent,
            None => {
                state.progress.insert(topic.to_owned(), percent);
            }
        }
    }

    pub(crate) fn set_loaded(&self, topic: &str) {
        self.state.lock().progress.remove(topic);
    }

    pub(crate) fn set_paused(&self, stream: &Arc<str>, topics: Option<Vec<Arc<str>>>) {
        let mut state = self.state.lock();
        match topics {
            Some(topics) => state.paused.insert(Arc::clone(stream), topics),
            None => state.paused.remove(stream),
        };
    }

    pub(super) fn paused_by(&self, stream: &str) -> Vec<Arc<str>> {
        self.state.lock().paused.get(stream).cloned().unwrap_or_default()
    }

    /// Sets whether a stream does not keep up, with the streams that wait for it; returns whether that changes anything.
    pub(crate) fn set_slow(&self, stream: &Arc<str>, waiting: Option<BTreeSet<Arc<str>>>) -> bool {
        let mut state = self.state.lock();
        match waiting {
            Some(waiting) => {
                let before = state.slow.insert(Arc::clone(stream), waiting.clone());
                before.is_none_or(|before| before != waiting)
            }
            None => state.slow.remove(stream).is_some(),
        }
    }

    /// The status of the threads that have taken over streams of this one.
    pub(super) fn beside(&self) -> Vec<Arc<Self>> {
        self.beside.lock().clone()
    }

    pub(super) fn set_beside(&self, beside: Vec<Arc<Self>>) {
        *self.beside.lock() = beside;
    }

    /// Forgets all faults and figures: nothing is read until the thread takes over streams.
    pub(super) fn rest(&self) {
        let mut state = self.state.lock();
        *state = ReaderState {
            client: state.client.take(),
            contacted: true,
            ..ReaderState::default()
        };
    }

    pub(crate) fn forget_topic(&self, topic: &str) {
        let mut state = self.state.lock();
        state.missing.remove(topic);
        state.leaderless.remove(topic);
        state.stopped.forget(topic);
        state.forbidden.remove(topic);
        state.progress.remove(topic);
        state.lag.remove(topic);
        state.transactions.forget(topic);
    }

    /// A copy of the status now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.lock();
        let waiting = (!state.contacted && state.error.is_none())
            .then(|| "kafka: no broker has answered yet".to_owned());
        let missing = state
            .missing
            .iter()
            .map(|topic| format!("kafka: topic {topic:?} does not exist"));
        let leaderless = state.leaderless.iter().map(|(topic, partitions)| {
            format!("kafka: topic {topic:?}: no leader answers for partitions {partitions:?}")
        });
        let slow = state.slow.iter().map(|(stream, waiting)| {
            let also = if waiting.is_empty() {
                String::new()
            } else {
                format!(", and those of streams {waiting:?}, which share topics with it")
            };
            format!("stream {stream}: does not keep up with its topics, its clients are late{also}")
        });
        Snapshot {
            client: state.client.clone(),
            contacted: state.contacted,
            degraded: waiting
                .into_iter()
                .chain(state.error.iter().cloned())
                .chain(state.forbidden.values().cloned())
                .chain(missing)
                .chain(leaderless)
                .chain(state.stopped.messages())
                .chain(slow)
                .chain(state.transactions.messages())
                .collect(),
            progress: state.progress.clone(),
        }
    }
}
