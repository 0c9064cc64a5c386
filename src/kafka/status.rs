//! The status of all reading threads together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::counters::KafkaCounters;
use super::lag::PartitionLag;
use super::reader_status::{BrokerState, ReaderStatus, Snapshot};
use super::stopped_partitions::StoppedPartition;
use crate::config::Client;

/// The status of all reading threads. A reload that adds streams adds a thread.
#[derive(Debug, Default)]
pub struct KafkaStatus {
    all: Mutex<Vec<Arc<ReaderStatus>>>,
    counters: Arc<KafkaCounters>,
}

impl KafkaStatus {
    /// The status of one more thread, with the shared counters.
    pub fn reader(&self) -> Arc<ReaderStatus> {
        Arc::new(ReaderStatus::counted_in(&self.counters))
    }

    /// The counters of all threads since the start.
    pub fn counters(&self) -> &KafkaCounters {
        &self.counters
    }

    /// All threads, with those that have taken over streams of others.
    fn threads(&self) -> Vec<Arc<ReaderStatus>> {
        let all = self.all.lock().clone();
        let threads = all.into_iter().flat_map(|status| {
            let beside = status.beside();
            std::iter::once(status).chain(beside)
        });
        threads.collect()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.threads().iter().all(|status| status.is_up())
    }

    /// The lag of every partition ([`ReaderStatus::lag`]). If two threads read the same one, as after a reload, the
    /// greater counts.
    pub fn lag(&self) -> Vec<PartitionLag> {
        let mut furthest: BTreeMap<(String, usize), (u64, u64)> = BTreeMap::new();
        for lag in self.threads().iter().flat_map(|status| status.lag()) {
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

    /// All stopped partitions. If two threads read the same one, the lesser offset counts.
    pub fn stopped_partitions(&self) -> Vec<StoppedPartition> {
        let mut stops: BTreeMap<(String, u32), StoppedPartition> = BTreeMap::new();
        for stopped in self
            .threads()
            .iter()
            .flat_map(|status| status.stopped_partitions())
        {
            let at = (stopped.topic.clone(), stopped.partition);
            let known = stops.entry(at).or_insert_with(|| stopped.clone());
            if stopped.stop.offset < known.stop.offset {
                *known = stopped;
            }
        }
        stops.into_values().collect()
    }

    /// Topics that are paused because of a stream.
    pub fn paused_by(&self, stream: &str) -> Vec<Arc<str>> {
        self.threads()
            .iter()
            .flat_map(|status| status.paused_by(stream))
            .collect()
    }

    /// Connections to brokers. Of several to one broker, the worse state counts.
    pub(crate) fn broker_states(&self) -> Vec<BrokerState> {
        let mut connections: BTreeMap<String, BrokerState> = BTreeMap::new();
        for connection in self.threads().iter().flat_map(|status| status.broker_states()) {
            match connections.get_mut(&connection.broker) {
                Some(known) => {
                    known.is_up &= connection.is_up;
                    known.round_trip = known.round_trip.max(connection.round_trip);
                }
                None => {
                    connections.insert(connection.broker.clone(), connection);
                }
            }
        }
        connections.into_values().collect()
    }

    /// Most brokers that a thread connects to; 0 if the client library does not report them.
    pub(crate) fn brokers(&self) -> usize {
        let all = self.threads();
        all.iter()
            .map(|status| status.broker_states().len())
            .max()
            .unwrap_or(0)
    }

    /// Replaces the threads.
    pub fn set(&self, all: Vec<Arc<ReaderStatus>>) {
        *self.all.lock() = all;
    }

    pub(crate) fn reads_with(&self, client: Client) -> bool {
        self.threads().iter().any(|status| status.reads_with(client))
    }

    /// How late the latest thread is; `tick` as for [`Pulse::look`](super::pulse::Pulse::look).
    pub fn look(&self, tick: Duration) -> Duration {
        let all = self.threads();
        let late = all.iter().map(|status| status.pulse().look(tick).late).max();
        late.unwrap_or_default()
    }

    /// All threads in one: the client of the first, contacted if all are.
    pub fn snapshot(&self) -> Snapshot {
        let all = self.threads();
        let mut shots = all.iter().map(|status| status.snapshot());
        let mut first = shots.next().unwrap_or_else(|| ReaderStatus::default().snapshot());
        for shot in shots {
            first.contacted &= shot.contacted;
            for message in shot.degraded {
                if !first.degraded.contains(&message) {
                    first.degraded.push(message);
                }
            }
            first.progress.extend(shot.progress);
        }
        first
    }
}
