//! Parses librdkafka's statistics (JSON): end offsets, connections, and whether it knows brokers.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::Deserialize;

use crate::kafka::lag::End;
use crate::kafka::reader_status::BrokerState;

#[derive(Deserialize)]
pub(super) struct Statistics {
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
    #[serde(default)]
    brokers: HashMap<String, BrokerStatistics>,
}

#[derive(Deserialize)]
struct BrokerStatistics {
    /// Negative for a connection to an address that is not one the cluster names.
    nodeid: i32,
    nodename: String,
    source: Origin,
    state: String,
    /// Responses that were dropped, for any reason, since the handle was created.
    #[serde(default)]
    rxerrs: u64,
    rtt: Option<Window>,
}

/// The source of a broker's address.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Origin {
    /// From its settings.
    Configured,
    /// From the cluster.
    Learned,
    /// Not a broker.
    #[serde(other)]
    Internal,
}

/// Measurements since the last statistics.
#[derive(Deserialize)]
struct Window {
    /// Microseconds.
    avg: u64,
    cnt: u64,
}

#[derive(Deserialize)]
struct TopicStatistics {
    partitions: HashMap<String, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    partition: i32,
    /// The broker that the partition is fetched from; negative for none.
    broker: i32,
    desired: bool,
    fetch_state: Fetching,
    /// Messages fetched and not yet taken, of all partitions together.
    fetchq_cnt: i64,
    next_offset: i64,
    /// The high watermark, and the last stable offset; negative while unknown.
    hi_offset: i64,
    ls_offset: i64,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Fetching {
    Active,
    /// It waits for a request, or has ended.
    #[serde(other)]
    Not,
}

impl Statistics {
    pub(super) fn has_brokers(&self) -> bool {
        self.brokers
            .values()
            .any(|broker| broker.source != Origin::Internal)
    }

    pub(super) fn receive_errors(&self) -> u64 {
        self.brokers.values().map(|broker| broker.rxerrs).sum()
    }

    pub(super) fn broker_states(&self) -> Vec<BrokerState> {
        let brokers = self.brokers.values().filter(|broker| broker.nodeid >= 0);
        let link = |broker: &BrokerStatistics| BrokerState {
            broker: broker.nodename.clone(),
            is_up: broker.state == "UP",
            round_trip: broker
                .rtt
                .as_ref()
                .filter(|rtt| rtt.cnt > 0)
                .map(|rtt| Duration::from_micros(rtt.avg)),
        };
        brokers.map(link).collect()
    }

    pub(super) fn ends(self, reads_uncommitted: bool) -> Vec<End> {
        let up = self.brokers.values().filter(|broker| broker.state == "UP");
        let up: BTreeSet<i32> = up.map(|broker| broker.nodeid).collect();
        let up = &up;
        let topics = self.topics.into_iter();
        let ends = topics.flat_map(|(topic, statistics)| {
            let partitions = statistics.partitions.into_values();
            partitions.filter_map(move |known| {
                let offset = if reads_uncommitted {
                    known.hi_offset
                } else {
                    known.ls_offset
                };
                known.desired.then_some(End {
                    topic: topic.clone(),
                    // The library has an internal partition without a number.
                    partition: u32::try_from(known.partition).ok()?,
                    offset: (offset >= 0).then_some(offset),
                    high: (!reads_uncommitted && known.hi_offset >= 0).then_some(known.hi_offset),
                    is_reached: known.fetchq_cnt == 0 && known.next_offset >= offset,
                    is_fetched: known.broker >= 0
                        && (known.fetch_state == Fetching::Active || !up.contains(&known.broker)),
                })
            })
        });
        ends.collect()
    }
}
