//! Metadata refreshes: which topics and partitions exist now.
//!
//! Requests metadata and interprets the answers; [`resolve`](super::resolve) applies them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use log::debug;

use super::state::KafkaReader;
use super::topic::{Topic, TopicInfo};
use crate::kafka::client::Handles;
use crate::kafka::error::KafkaError;
use crate::kafka::metadata::{KnownTopic, Looked, TopicQuery};

pub(super) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl KafkaReader {
    /// Begins or continues a refresh; returns its result with the time at which it began, in milliseconds since the
    /// epoch, or `None` while it is in progress.
    pub(super) fn refresh_metadata(
        &mut self,
        handles: &mut Handles,
        known: &[TopicInfo],
    ) -> Option<(Result<Vec<Looked>, KafkaError>, i64)> {
        let begun = *self.refresh_begun.get_or_insert_with(unix_millis);
        self.end_offsets.refresh_begins();
        let looked = handles.look(&self.request(known))?;
        self.refresh_begun = None;
        self.end_offsets.refreshed(&self.topics, &looked);
        if let Ok(looked) = &looked {
            for (topic, looked) in self.topics.iter_mut().zip(looked) {
                // Its partitions had no leader when the refresh began.
                if !topic.leaderless.is_empty() && looked.bounds.is_none() {
                    topic.leaderless_at = begun;
                }
            }
        }
        Some((looked, begun))
    }

    /// Whether another client gets answers that the present one does not: client libraries have lost their connections
    /// for good before.
    pub(super) fn does_another_client_work(&mut self) -> bool {
        self.beat(self.connect.patience());
        let is_answered = self.connect.connect_admin().is_ok_and(|admin| {
            let names: Vec<Arc<str>> = self.topics.iter().map(|topic| Arc::clone(&topic.name)).collect();
            admin.topics(&names, &BTreeSet::new()).is_ok()
        });
        debug!("another client gets answers: {is_answered}");
        is_answered
    }

    fn request(&self, known: &[TopicInfo]) -> Vec<TopicQuery> {
        let topics = self.topics.iter().zip(known);
        topics
            .map(|(topic, known)| TopicQuery {
                topic: Arc::clone(&topic.name),
                leaderless: topic.leaderless.clone(),
                // Fetch responses would tell these offsets, but such partitions are not fetched.
                wants_bounds: self.batcher.is_paused(&topic.name)
                    || !self.status.stopped_of(&topic.name).is_empty(),
                wants_ends: self.batcher.has_table(&topic.name) && self.end_offsets.wants(&topic.name),
                known: Some(KnownTopic {
                    partitions: known.partitions,
                    id: topic.id,
                    past: topic.past_ids.clone(),
                }),
            })
            .collect()
    }

    /// Interprets the answers: the id of a deleted topic, which a broker may still report, is ignored.
    pub(super) fn topic_infos(&self, looked: &[Looked]) -> Vec<TopicInfo> {
        let topics = self.topics.iter().zip(looked);
        topics
            .map(|(topic, looked)| {
                let id = looked.state.id.filter(|id| !topic.past_ids.contains(id));
                TopicInfo {
                    partitions: looked.state.partitions,
                    id: id.or(topic.id),
                    is_identified: id.is_some(),
                }
            })
            .collect()
    }

    pub(super) fn topic_infos_now(&self, handles: &mut Handles) -> Result<Vec<TopicInfo>, KafkaError> {
        // The caller resolves all partitions, so neither offsets nor differences are requested.
        let request = |topic: &Topic| TopicQuery {
            topic: Arc::clone(&topic.name),
            leaderless: Vec::new(),
            wants_bounds: false,
            wants_ends: false,
            known: None,
        };
        let request: Vec<TopicQuery> = self.topics.iter().map(request).collect();
        handles.look_now(&request).map(|looked| self.topic_infos(&looked))
    }
}
