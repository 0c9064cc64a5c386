//! Resolves the offsets from which partitions are read: at the first contact, after an error, and whenever topics or
//! partitions have changed.
//!
//! [`topic`](super::topic) derives the offsets of one topic from those read and those that exist. This module requests
//! the latter, decides which responses to trust, notifies the streams and assigns. Knows nothing of records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};

use super::progress::Loading;
use super::refresh::unix_millis;
use super::state::KafkaReader;
use super::topic::{REFRESH, Topic, TopicInfo, ends, live_offsets, looks_recreated};
use crate::kafka::batcher::Batcher;
use crate::kafka::client::Handles;
use crate::kafka::error::{ErrorKind, KafkaError, Location};
use crate::kafka::lag::Lag;
use crate::kafka::metadata::{self, DOUBT, DOUBT_PAUSE, Looked};
use crate::kafka::partition::Bounds;
use crate::kafka::record::{BEGINNING, TopicId};

/// Whether a topic is the one that was read.
enum Identity {
    /// Unknown: its offsets and its id remain unchanged.
    Unknown,
    /// The topic that was read, or the first of its name.
    Same,
    /// The topic was recreated. Holds the id of the deleted one.
    Recreated(TopicId),
    /// Its offsets suggest, for this reason, that it was recreated. Accepted after [`DOUBT`].
    Doubtful(String),
}

impl Identity {
    fn of(topic: &Topic, found: TopicInfo, known: &[i64], bounds: &[Option<Bounds>]) -> Self {
        // A topic may be missing because a broker does not know it yet: its offsets are kept until it is back.
        if bounds.is_empty() {
            return Self::Unknown;
        }
        if bounds.iter().all(Option::is_none) && !known.is_empty() {
            // No leader answers.
            return Self::Unknown;
        }
        if let Some(old) = topic.id.filter(|_| topic.id != found.id) {
            return Self::Recreated(old);
        }
        let sign = looks_recreated(known, bounds);
        match (topic.id, found.is_identified) {
            // The id is the same, so the topic is: fewer partitions are stale metadata, and an end below what was
            // read is a last stable offset after a change of the isolation level.
            (Some(_), true) => Self::Same,
            // An id is better evidence than offsets; believing both would restart the topic twice.
            (Some(_), false) => sign.map_or(Self::Same, |_| Self::Unknown),
            (None, _) => sign.map_or(Self::Same, Self::Doubtful),
        }
    }
}

fn log_growth(topic: &Topic, identity: &Identity, known: &[i64], bounds: &[Option<Bounds>]) {
    let added = bounds.len().saturating_sub(known.len());
    if topic.contacted && !known.is_empty() && added > 0 && matches!(identity, Identity::Same) {
        let (name, count) = (&topic.name, bounds.len());
        info!(
            "topic {name:?} has {count} partitions now, {added} more than before; they are read from their beginning"
        );
    }
}

impl KafkaReader {
    /// Resolves and assigns all topics. Returns them, or `None` if a command is pending.
    pub(super) fn resolve(&mut self, handles: &mut Handles) -> Result<Option<Vec<TopicInfo>>, KafkaError> {
        handles.forget_look();
        let Some(found) = self.find_topics(handles)? else {
            return Ok(None);
        };
        let asked = self.topics.iter().zip(&found);
        let asked: Vec<(Arc<str>, usize)> = asked
            .map(|(topic, found)| (Arc::clone(&topic.name), found.partitions))
            .collect();
        let may_get_leader = |index: usize, partition: usize| {
            let topic = &self.topics[index];
            !topic.leaderless.contains(&partition)
                && u32::try_from(partition)
                    .is_ok_and(|partition| self.batcher.next_offset(&topic.name, partition).is_none())
        };
        let asked_at = unix_millis();
        let pulse = Arc::clone(self.status.pulse());
        let wait = || metadata::turn(&pulse);
        let bounds = metadata::bounds_once_led(&asked, wait, may_get_leader, |topics| {
            handles.admin.bounds(topics)
        })?;
        let resolved = found.iter().copied().zip(bounds).enumerate();
        self.apply(
            handles,
            resolved.map(|(index, (found, bounds))| (index, found, bounds)),
            asked_at,
        )?;
        Ok(Some(found))
    }

    /// Resolves and assigns the topics that a refresh has found changed. The others are not interrupted.
    pub(super) fn resolve_changed(
        &mut self,
        handles: &mut Handles,
        looked: Vec<Looked>,
        asked_at: i64,
    ) -> Result<Vec<TopicInfo>, KafkaError> {
        let found = self.topic_infos(&looked);
        let changed = looked.into_iter().enumerate().filter_map(|(index, looked)| {
            let bounds = looked.bounds?;
            Some((index, found[index], bounds))
        });
        let changed: Vec<(usize, TopicInfo, Vec<Option<Bounds>>)> = changed.collect();
        if !changed.is_empty() {
            self.apply(handles, changed, asked_at)?;
        }
        Ok(found)
    }

    /// Resolves topics, each by its index, and assigns. `asked_at` is when their state was requested, in milliseconds
    /// since the epoch.
    fn apply(
        &mut self,
        handles: &mut Handles,
        topics: impl IntoIterator<Item = (usize, TopicInfo, Vec<Option<Bounds>>)>,
        asked_at: i64,
    ) -> Result<(), KafkaError> {
        let mut is_doubtful = false;
        for (index, found, bounds) in topics {
            let topic = &self.topics[index];
            let known = self.batcher.next_offsets(&topic.name);
            let is_forbidden = handles.consumer.unauthorized().contains(&topic.name);
            let identity = Identity::of(topic, found, &known, &bounds);
            log_growth(topic, &identity, &known, &bounds);
            is_doubtful |= matches!(identity, Identity::Doubtful(_));
            let id = match identity {
                Identity::Unknown => self.topics[index].id,
                _ => found.id,
            };
            let live = if matches!(identity, Identity::Unknown) {
                // Nothing begins yet.
                BTreeMap::new()
            } else {
                live_offsets(&handles.admin, &self.topics[index], &known, &bounds)?
            };
            // No error may return after a truncation until the streams have the offsets that follow it.
            let is_truncated = self.truncate(index, &identity, &known, &bounds);
            let known = self.batcher.next_offsets(&self.topics[index].name);
            let mut next = self.next_offsets(index, identity, &known, (&bounds, &live))?;
            let topic = &mut self.topics[index];
            if is_truncated {
                // They may be beyond the end of the truncated log.
                self.end_offsets.forget(&topic.name);
                if self.batcher.has_table(&topic.name) {
                    next = topic.restart(&bounds);
                }
            }
            for (&partition, &at) in &live {
                let partition = u32::try_from(partition).unwrap_or(u32::MAX);
                self.batcher.begun(&self.topics[index].name, partition, at);
            }
            self.assign_topic(index, id, (&known, is_truncated), next, &bounds);
            self.update_leaders(index, &bounds, asked_at);
            self.update_existence(index, found, is_forbidden);
        }
        if !is_doubtful || self.in_doubt.is_some_and(|since| since.elapsed() >= DOUBT) {
            self.in_doubt = None;
        }
        self.unauthorized
            .note(&*handles.consumer, &*self.connect, &self.status);
        handles.consumer.assign(&self.batcher)?;
        self.update_loading(&*handles.consumer);
        Ok(())
    }

    /// Goes back in truncated logs of the same topic. Returns whether there are any.
    fn truncate(
        &mut self,
        index: usize,
        identity: &Identity,
        known: &[i64],
        bounds: &[Option<Bounds>],
    ) -> bool {
        let topic = &mut self.topics[index];
        match identity {
            Identity::Same => topic.truncate(&mut self.batcher, known, bounds),
            Identity::Unknown => false,
            Identity::Recreated(_) | Identity::Doubtful(_) => {
                topic.lost.clear();
                false
            }
        }
    }

    /// The next offsets of a topic: the log start offsets if it was recreated. Fails while that is in doubt.
    fn next_offsets(
        &mut self,
        index: usize,
        identity: Identity,
        known: &[i64],
        (bounds, live): (&[Option<Bounds>], &BTreeMap<usize, i64>),
    ) -> Result<Vec<i64>, KafkaError> {
        let topic = &mut self.topics[index];
        let brokers = self.connect.brokers();
        let why = match identity {
            Identity::Unknown => return Ok(known.to_vec()),
            Identity::Same => return Ok(topic.next_offsets(known, bounds, live)),
            Identity::Recreated(old) => {
                topic.past_ids.push(old);
                "has another id".to_owned()
            }
            Identity::Doubtful(why) => {
                if self.in_doubt.get_or_insert_with(Instant::now).elapsed() < DOUBT {
                    let at = Location::topic(Arc::clone(&topic.name));
                    return Err(KafkaError::partition(
                        &brokers,
                        at,
                        format!("{why}; asking again"),
                    ));
                }
                why
            }
        };
        warn!(
            "kafka {brokers}: topic {:?}: {why}: it was recreated and is read from its beginning",
            topic.name
        );
        self.end_offsets.forget(&topic.name);
        Ok(topic.recreated(&mut self.batcher, bounds))
    }

    /// Sets the next offsets of a topic if they or its id have changed, and its lag.
    fn assign_topic(
        &mut self,
        index: usize,
        id: Option<TopicId>,
        (known, is_truncated): (&[i64], bool),
        next: Vec<i64>,
        bounds: &[Option<Bounds>],
    ) {
        let topic = &mut self.topics[index];
        if !topic.contacted {
            topic.loading = Some(Loading::new(next.clone(), ends(bounds), Instant::now()));
        }
        let lags = next
            .iter()
            .zip(bounds)
            .map(|(&next, bounds)| Lag::behind(next, bounds.map_or(next, |bounds| bounds.high)));
        self.status.set_lags(&topic.name, lags);
        if next != known || is_truncated || topic.id != id || !topic.contacted {
            topic.id = id;
            let low = bounds
                .iter()
                .map(|bounds| bounds.map_or(BEGINNING, |bounds| bounds.low));
            let low = low.collect();
            self.batcher.assign(&topic.name, topic.id, next, low);
        }
    }

    /// Sets the partitions that have not begun or have no leader, as of `asked_at`, and logs a change.
    fn update_leaders(&mut self, index: usize, bounds: &[Option<Bounds>], asked_at: i64) {
        let topic = &mut self.topics[index];
        topic.leaderless_at = asked_at;
        let next = self.batcher.next_offsets(&topic.name);
        // A partition that has not begun although its leader answers, because the topic could not be identified, is asked
        // for again as well: nothing else would ever begin it.
        let lacks =
            |&partition: &usize| bounds[partition].is_none() || next.get(partition) == Some(&BEGINNING);
        topic.leaderless = (0..bounds.len()).filter(lacks).collect();
        if self.status.set_leaderless(&topic.name, &topic.leaderless) {
            let brokers = self.connect.brokers();
            let (name, partitions) = (&topic.name, &topic.leaderless);
            warn!(
                "kafka {brokers}: topic {name:?}: no leader answers for partitions {partitions:?}; the others are read"
            );
        }
    }

    fn update_existence(&mut self, index: usize, found: TopicInfo, is_forbidden: bool) {
        let topic = &mut self.topics[index];
        // A hidden topic is not contacted yet: once it is visible, it is read from the start offsets of its streams.
        topic.contacted |= !(is_forbidden && found.partitions == 0);
        let is_missing = found.partitions == 0 && !is_forbidden;
        if self.status.set_missing(&topic.name, is_missing) {
            let brokers = self.connect.brokers();
            let name = &topic.name;
            if is_missing {
                warn!("kafka {brokers}: topic {name:?} does not exist; it is looked for every {REFRESH:?}");
            } else {
                let count = found.partitions;
                info!("kafka {brokers}: topic {name:?} exists now, with {count} partitions");
            }
        }
    }

    /// Requests metadata; at the first contact repeats that for a while if a topic seems to be missing. `None` if a
    /// command is pending.
    fn find_topics(&mut self, handles: &mut Handles) -> Result<Option<Vec<TopicInfo>>, KafkaError> {
        let asked = Instant::now();
        loop {
            let found = self.topic_infos_now(handles)?;
            let is_missing = self.topics.iter().zip(&found).any(|(topic, found)| {
                !topic.contacted
                    && found.partitions == 0
                    && !handles.consumer.unauthorized().contains(&topic.name)
            });
            if !is_missing || asked.elapsed() > DOUBT {
                return Ok(Some(found));
            }
            // The start offsets, once decided, remain.
            if self.commands.is_interrupted() {
                return Ok(None);
            }
            self.beat(DOUBT_PAUSE);
            std::thread::sleep(DOUBT_PAUSE);
        }
    }

    /// Resolves offsets after one was out of range, with the same client: the other partitions continue. Fails with
    /// `why` if all offsets are in range.
    pub(super) fn recover_offsets(
        &mut self,
        handles: &mut Handles,
        why: KafkaError,
    ) -> Result<Option<Vec<TopicInfo>>, KafkaError> {
        let offsets = |batcher: &Batcher| -> Vec<Vec<i64>> {
            batcher.positions().map(|(_, next)| next.to_vec()).collect()
        };
        let before = offsets(&self.batcher);
        if let ErrorKind::OutOfRange { lost, .. } = &why.kind {
            for topic in &mut self.topics {
                let lost = lost.iter().filter(|lost| *lost.topic == *topic.name);
                topic.lost = lost.cloned().collect();
            }
        }
        let found = self.resolve(handles)?;
        let mut is_left = false;
        for topic in &mut self.topics {
            // This client does not report them again.
            is_left |= !std::mem::take(&mut topic.lost).is_empty();
        }
        if found.is_some() && (is_left || offsets(&self.batcher) == before) {
            return Err(why);
        }
        Ok(found)
    }
}
