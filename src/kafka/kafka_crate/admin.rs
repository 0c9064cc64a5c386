//! Requests about topics and offsets through the `kafka` crate, and our own requests for topic ids.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka::client::{FetchOffset, KafkaClient};
use kafka::error::Error;
use log::debug;

use super::open::open;
use crate::kafka::admin::{Admin, TopicState};
use crate::kafka::connection::Connection;
use crate::kafka::error::{KafkaError, USE_LIBRDKAFKA};
use crate::kafka::partition::Bounds;
use crate::kafka::wire_protocol::BrokerClient;

pub(super) struct KafkaCrateAdmin {
    brokers: Arc<str>,
    client: KafkaClient,
    /// For requests that the crate does not support.
    protocol: BrokerClient,
    /// Whether the previous request loaded metadata.
    is_fresh: bool,
}

impl KafkaCrateAdmin {
    /// Creates the client, which connects at its first request.
    pub(super) fn new(connection: &Connection) -> Result<Self, KafkaError> {
        Ok(Self {
            brokers: connection.bootstrap_servers(),
            client: open(connection)?,
            protocol: BrokerClient::new(connection.brokers.clone(), connection.credentials.clone()),
            is_fresh: false,
        })
    }

    fn failed(&self, request: &str, error: &Error) -> KafkaError {
        KafkaError::unreachable(&self.brokers, format!("{request}: {error}"))
    }

    /// Loads the metadata of all topics: a request that names a missing topic would create it.
    fn load_metadata(&mut self) -> Result<(), KafkaError> {
        let loaded = self.client.load_metadata_all();
        loaded.map_err(|error| self.failed("metadata", &error))
    }

    fn offsets(
        &mut self,
        topics: &[(Arc<str>, usize)],
        which: FetchOffset,
    ) -> Result<Vec<Vec<Option<i64>>>, KafkaError> {
        let names: Vec<&str> = topics.iter().map(|(name, _)| &**name).collect();
        let answer = self.client.fetch_offsets(&names, which);
        let answer =
            answer.map_err(|error| self.failed(&format!("offsets of {} topics", topics.len()), &error))?;
        let offsets = topics.iter().map(|(name, partitions)| {
            let mut offsets = vec![None; *partitions];
            for found in answer.get(&**name).into_iter().flatten() {
                let partition = usize::try_from(found.partition).ok();
                if let Some(slot) = partition.and_then(|partition| offsets.get_mut(partition)) {
                    *slot = Some(found.offset);
                }
            }
            offsets
        });
        Ok(offsets.collect())
    }
}

impl Admin for KafkaCrateAdmin {
    fn topics(
        &mut self,
        topics: &[Arc<str>],
        _unauthorized: &BTreeSet<Arc<str>>,
    ) -> Result<Vec<TopicState>, KafkaError> {
        self.load_metadata()?;
        self.is_fresh = true;
        // Without ids a recreated topic is recognised by its offsets alone, but it is read.
        let ids = self.protocol.topic_ids(topics).unwrap_or_else(|error| {
            debug!("kafka {}: ids of topics: {error}", self.brokers);
            vec![None; topics.len()]
        });
        let known = self.client.topics();
        let states = topics.iter().zip(ids).map(|(topic, id)| TopicState {
            topic: Arc::clone(topic),
            partitions: known.partitions(topic).map_or(0, |partitions| partitions.len()),
            id,
            ..TopicState::default()
        });
        Ok(states.collect())
    }

    fn bounds(&mut self, topics: &[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError> {
        // Leaders may have moved since an earlier request.
        if !std::mem::take(&mut self.is_fresh) {
            self.load_metadata()?;
        }
        let low = self.offsets(topics, FetchOffset::Earliest)?;
        let high = self.offsets(topics, FetchOffset::Latest)?;
        let bounds = |(low, high): (Option<i64>, Option<i64>)| {
            Some(Bounds {
                low: low?,
                high: high?,
            })
        };
        let of_topic = |(low, high): (Vec<_>, Vec<_>)| low.into_iter().zip(high).map(bounds).collect();
        Ok(low.into_iter().zip(high).map(of_topic).collect())
    }

    fn offsets_at(&mut self, topic: &str, times: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError> {
        if times.iter().all(Option::is_none) {
            return Ok(vec![None; times.len()]);
        }
        Err(KafkaError::unsupported(
            &self.brokers,
            format!("the kafka crate cannot look up times in topic {topic:?}"),
            USE_LIBRDKAFKA,
        ))
    }

    /// Brokers that lead no partition are unknown to the crate.
    fn brokers(&mut self) -> Result<Vec<String>, KafkaError> {
        self.load_metadata()?;
        let topics = self.client.topics();
        let partitions = topics.iter().flat_map(|topic| topic.partitions().iter());
        let leaders = partitions.filter_map(|partition| Some(partition.leader()?.host().to_owned()));
        Ok(leaders.collect::<BTreeSet<_>>().into_iter().collect())
    }
}
