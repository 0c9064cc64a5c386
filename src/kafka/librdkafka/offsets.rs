//! Offsets of many partitions: their bounds, and offsets by time. Makes one request per leader, whatever the number of
//! topics.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use log::debug;
use rdkafka::consumer::Consumer;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

use super::admin::LibrdkafkaAdmin;
use super::settings::REQUEST_TIMEOUT;
use crate::kafka::error::{KafkaError, Location};
use crate::kafka::partition::Bounds;

/// Timeout of a leader that did not answer the last request, and of other leaders after one did not answer.
const RETRY_TIMEOUT: Duration = Duration::from_millis(300);

/// A partition of a requested topic: the topic's index in the request, and the partition's number.
type IndexedPartition = (usize, i32);

impl LibrdkafkaAdmin {
    /// The bounds of every partition of these topics (`0..count` of each); `None` if no leader answers.
    pub(super) fn bounds_by_leader(
        &mut self,
        asked: &[(Arc<str>, usize)],
    ) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError> {
        let mut bounds: Vec<Vec<Option<Bounds>>> =
            asked.iter().map(|(_, count)| vec![None; *count]).collect();
        let names: Vec<&str> = asked.iter().map(|(name, _)| &**name).collect();
        let mut patience = REQUEST_TIMEOUT;
        // One leader after the other: a request to several fails if one of them does not answer.
        for (leader, led) in self.led(asked)? {
            let limit = if self.silent.contains(&leader) {
                RETRY_TIMEOUT
            } else {
                patience
            };
            let all = |end: Offset| led.iter().map(move |&place| (place, end));
            let lows = self.offsets(&names, all(Offset::Beginning), limit);
            let ends = lows.and_then(|lows| Ok((lows, self.offsets(&names, all(Offset::End), limit)?)));
            match ends {
                Ok((lows, highs)) => {
                    self.silent.remove(&leader);
                    let lows: HashMap<IndexedPartition, i64> = lows.into_iter().collect();
                    for (place @ (topic, partition), high) in highs {
                        let slot = usize::try_from(partition)
                            .ok()
                            .and_then(|partition| bounds[topic].get_mut(partition));
                        if let (Some(&low), Some(slot)) = (lows.get(&place), slot) {
                            *slot = Some(Bounds { low, high });
                        }
                    }
                }
                Err(error) if error.is_interrupted() => return Err(error),
                // Shortens the wait for further leaders, because several may be down.
                Err(error) => {
                    debug!("{error}; broker {leader} leads {} partitions", led.len());
                    self.silent.insert(leader);
                    patience = RETRY_TIMEOUT;
                }
            }
        }
        Ok(bounds)
    }

    fn led(
        &mut self,
        asked: &[(Arc<str>, usize)],
    ) -> Result<BTreeMap<i32, Vec<IndexedPartition>>, KafkaError> {
        let mut led: BTreeMap<i32, Vec<IndexedPartition>> = BTreeMap::new();
        let names: Vec<Arc<str>> = asked.iter().map(|(name, _)| Arc::clone(name)).collect();
        for (topic, described) in self.described(&names)?.into_iter().enumerate() {
            if let Some(described) = described {
                for (partition, leader) in (0..).zip(described.leaders) {
                    if let Some(leader) = leader {
                        led.entry(leader).or_default().push((topic, partition));
                    }
                }
                continue;
            }
            let metadata = self.metadata(&names[topic])?;
            let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            for partition in partitions.filter(|partition| partition.leader() >= 0) {
                led.entry(partition.leader())
                    .or_default()
                    .push((topic, partition.id()));
            }
        }
        Ok(led)
    }

    /// The offsets of partitions at the requested times (milliseconds since the epoch), or their ends, in one request
    /// per leader. Omits partitions that their leaders do not know.
    fn offsets(
        &mut self,
        topics: &[&str],
        asked: impl IntoIterator<Item = (IndexedPartition, Offset)>,
        limit: Duration,
    ) -> Result<Vec<(IndexedPartition, i64)>, KafkaError> {
        self.prepare()?;
        let fails = |error| {
            let others = topics.len().saturating_sub(1);
            let first = topics.first().copied().unwrap_or_default();
            let others = if others == 0 {
                String::new()
            } else {
                format!(" and {others} other topics")
            };
            self.failed(&format!("offsets of {first:?}{others}"), &error)
        };
        let mut list = TopicPartitionList::new();
        for ((topic, partition), asked) in asked {
            // The protocol encodes a partition's ends as times: -1 and -2.
            list.add_partition_offset(topics[topic], partition, asked)
                .map_err(fails)?;
        }
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let indices: HashMap<&str, usize> = topics.iter().copied().zip(0..).collect();
        let found = self.handle.offsets_for_times(list, limit).map_err(fails)?;
        let known = found.elements().into_iter().filter_map(|element| {
            let (topic, partition) = (element.topic(), element.partition());
            if let Err(error) = element.error() {
                debug!("kafka {}: offset of {topic:?}/{partition}: {error}", self.brokers);
                return None;
            }
            match element.offset() {
                Offset::Offset(offset) => Some(((*indices.get(topic)?, partition), offset)),
                // All records are earlier.
                _ => None,
            }
        });
        Ok(known.collect())
    }

    /// See [`Admin::offsets_at`](crate::kafka::admin::Admin::offsets_at).
    pub(super) fn offsets_by_time(
        &mut self,
        topic: &str,
        asked: &[Option<i64>],
    ) -> Result<Vec<Option<i64>>, KafkaError> {
        // The ends first: a record written between the two requests must not be beyond both responses.
        let times = || {
            (0..)
                .zip(asked)
                .filter_map(|(partition, time)| Some(((0, partition), (*time)?)))
        };
        let ends = times().map(|(place, _)| (place, Offset::End));
        let ends = self.offsets(&[topic], ends, REQUEST_TIMEOUT)?;
        // Negative times have other meanings in the protocol.
        let times = times().map(|(place, time)| (place, Offset::Offset(time.max(0))));
        let found = self.offsets(&[topic], times, REQUEST_TIMEOUT)?;
        let mut offsets = vec![None; asked.len()];
        for ((_, partition), offset) in ends.into_iter().chain(found) {
            let partition = usize::try_from(partition).unwrap_or(usize::MAX);
            if let Some(slot) = offsets.get_mut(partition) {
                *slot = Some(offset);
            }
        }
        let lacks_answer =
            |(asked, offset): (&Option<i64>, &Option<i64>)| asked.is_some() && offset.is_none();
        if let Some(partition) = asked.iter().zip(&offsets).position(lacks_answer) {
            let partition = u32::try_from(partition).unwrap_or(u32::MAX);
            return Err(KafkaError::partition(
                &self.brokers,
                Location::partition(topic, partition),
                "its leader says nothing of its offsets",
            ));
        }
        Ok(offsets)
    }
}
