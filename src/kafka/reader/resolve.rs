//! Decides from where every partition is read: at the first contact, after trouble, and whenever what exists
//! has changed.
//!
//! What is decided of one topic follows from what was read of it and what exists now, as
//! [`topic`](super::topic) knows; here that is asked for, believed or doubted, and told. Knows nothing of
//! records, nor of how a client is built.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use log::{info, warn};

use super::progress::Loading;
use super::topic::{Found, Topic, ends, live_offsets, looks_recreated};
use super::{REFRESH, Worker};
use crate::kafka::batcher::Batcher;
use crate::kafka::client::Handles;
use crate::kafka::error::{ErrorKind, KafkaError, Location};
use crate::kafka::lag::lag;
use crate::kafka::metadata::{self, DOUBT, DOUBT_PAUSE, Looked};
use crate::kafka::partition::Bounds;
use crate::kafka::record::{BEGINNING, TopicId};

/// What a topic seems to be, held against what was read of it.
enum Sight {
    /// Nothing to go by: its offsets and its id stay as they are.
    Nothing,
    /// The one that was read, or the first of its name.
    Same,
    /// Another one. The id is that of the one that was.
    Another(TopicId),
    /// Another one if this, which its offsets say, goes on for long enough.
    Doubtful(String),
}

impl Sight {
    fn of(topic: &Topic, found: Found, known: &[i64], bounds: &[Option<Bounds>]) -> Self {
        // A topic that is gone may be a broker that does not know it yet: its offsets are kept,
        // and compared with what exists once it is back.
        if bounds.is_empty() {
            return Self::Nothing;
        }
        if bounds.iter().all(Option::is_none) && !known.is_empty() {
            // Nobody can say anything of it.
            return Self::Nothing;
        }
        if let Some(old) = topic.id.filter(|_| topic.id != found.id) {
            return Self::Another(old);
        }
        let sign = looks_recreated(known, bounds);
        match (topic.id, found.is_identified) {
            // The id is the same, so the topic is: a broker that names fewer partitions lags behind, and an end
            // below what was read is the last stable offset where more was read before.
            (Some(_), true) => Self::Same,
            // Offsets tell less than an id, and believing both would begin the topic anew twice.
            (Some(_), false) => sign.map_or(Self::Same, |_| Self::Nothing),
            (None, _) => sign.map_or(Self::Same, Self::Doubtful),
        }
    }
}

/// Logs that a topic which is read has more partitions than before.
fn note_growth(topic: &Topic, sight: &Sight, known: &[i64], bounds: &[Option<Bounds>]) {
    let added = bounds.len().saturating_sub(known.len());
    if topic.contacted && !known.is_empty() && added > 0 && matches!(sight, Sight::Same) {
        let (name, count) = (&topic.name, bounds.len());
        info!(
            "topic {name:?} has {count} partitions now, {added} more than before; they are read from their beginning"
        );
    }
}

/// Milliseconds since the epoch.
pub(super) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Worker {
    /// Decides from where every partition is read, tells the streams, and assigns. Returns what was
    /// found; `None` where there is something else to do first.
    pub(super) fn resolve(&mut self, handles: &mut Handles) -> Result<Option<Vec<Found>>, KafkaError> {
        handles.forget_look();
        let Some(found) = self.look_until_sure(handles)? else {
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
        let sights = found.iter().copied().zip(bounds).enumerate();
        self.settle(
            handles,
            sights.map(|(index, (found, bounds))| (index, found, bounds)),
            asked_at,
        )?;
        Ok(Some(found))
    }

    /// The same of those topics that a look has shown to be something else than is known; the others are read on.
    pub(super) fn resolve_changed(
        &mut self,
        handles: &mut Handles,
        looked: Vec<Looked>,
        asked_at: i64,
    ) -> Result<Vec<Found>, KafkaError> {
        let found = self.found(&looked);
        let changed = looked.into_iter().enumerate().filter_map(|(index, looked)| {
            let bounds = looked.bounds?;
            Some((index, found[index], bounds))
        });
        let changed: Vec<(usize, Found, Vec<Option<Bounds>>)> = changed.collect();
        if !changed.is_empty() {
            self.settle(handles, changed, asked_at)?;
        }
        Ok(found)
    }

    /// Decides of topics, each by its index, from where they are read, and has the consumer read them from there.
    /// `asked_at` is when it was asked what there is, in milliseconds since the epoch.
    fn settle(
        &mut self,
        handles: &mut Handles,
        topics: impl IntoIterator<Item = (usize, Found, Vec<Option<Bounds>>)>,
        asked_at: i64,
    ) -> Result<(), KafkaError> {
        let mut is_doubtful = false;
        for (index, found, bounds) in topics {
            let topic = &self.topics[index];
            let known = self.batcher.next_offsets(&topic.name);
            let is_forbidden = handles.consumer.unauthorized().contains(&topic.name);
            let sight = Sight::of(topic, found, &known, &bounds);
            note_growth(topic, &sight, &known, &bounds);
            is_doubtful |= matches!(sight, Sight::Doubtful(_));
            let id = match sight {
                Sight::Nothing => self.topics[index].id,
                _ => found.id,
            };
            let live = live_offsets(&handles.admin, &self.topics[index], &known, &bounds)?;
            // Nothing fails from here on that would leave streams without the offsets which follow a truncation.
            let is_truncated = self.truncate(index, &sight, &known, &bounds);
            let known = self.batcher.next_offsets(&self.topics[index].name);
            let mut next = self.next_offsets(index, sight, &known, (&bounds, &live))?;
            let topic = &mut self.topics[index];
            if is_truncated {
                // They may be beyond the end of the log as it is now.
                self.ends.forget(&topic.name);
                if self.batcher.has_table(&topic.name) {
                    next = topic.read_anew(&bounds);
                }
            }
            for (&partition, &at) in &live {
                let partition = u32::try_from(partition).unwrap_or(u32::MAX);
                self.batcher.begun(&self.topics[index].name, partition, at);
            }
            self.place(index, id, (&known, is_truncated), next, &bounds);
            self.note_leaders(index, &bounds, asked_at);
            self.note_existence(index, found, is_forbidden);
        }
        if !is_doubtful || self.in_doubt.is_some_and(|since| since.elapsed() >= DOUBT) {
            self.in_doubt = None;
        }
        self.unauthorized
            .note(&*handles.consumer, &*self.connect, &self.status);
        handles.consumer.assign(&self.batcher)?;
        self.note_loaded(&*handles.consumer);
        Ok(())
    }

    /// Goes back where the log of the same topic was truncated. Returns whether that was so.
    fn truncate(&mut self, index: usize, sight: &Sight, known: &[i64], bounds: &[Option<Bounds>]) -> bool {
        let topic = &mut self.topics[index];
        match sight {
            Sight::Same => topic.truncate(&mut self.batcher, known, bounds),
            Sight::Nothing => false,
            Sight::Another(_) | Sight::Doubtful(_) => {
                topic.lost.clear();
                false
            }
        }
    }

    /// The offsets at which one topic is read on, or from its beginning where it turned out to be another.
    ///
    /// # Errors
    /// While that is in doubt: it is to be asked again.
    fn next_offsets(
        &mut self,
        index: usize,
        sight: Sight,
        known: &[i64],
        (bounds, live): (&[Option<Bounds>], &BTreeMap<usize, i64>),
    ) -> Result<Vec<i64>, KafkaError> {
        let topic = &mut self.topics[index];
        let brokers = self.connect.brokers();
        let why = match sight {
            Sight::Nothing => return Ok(known.to_vec()),
            Sight::Same => return Ok(topic.next_offsets(known, bounds, live)),
            Sight::Another(old) => {
                topic.past.push(old);
                "has another id".to_owned()
            }
            Sight::Doubtful(why) => {
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
        self.ends.forget(&topic.name);
        Ok(topic.begin_anew(&mut self.batcher, bounds))
    }

    /// Puts one topic at its next offsets, if those or the topic are others than before, and tells how far it
    /// has to go from there.
    fn place(
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
        // A topic that is gone is read no further, and one that begins anew is at its beginning.
        let lags = next
            .iter()
            .zip(bounds)
            .map(|(&next, bounds)| bounds.map_or(0, |bounds| lag(next, bounds.high)));
        self.status.set_lags(&topic.name, lags.collect());
        if next != known || is_truncated || topic.id != id || !topic.contacted {
            topic.id = id;
            let low = bounds
                .iter()
                .map(|bounds| bounds.map_or(BEGINNING, |bounds| bounds.low));
            let low = low.collect();
            self.batcher.assign(&topic.name, topic.id, next, low);
        }
    }

    /// Remembers which partitions of a topic nobody leads, as of `asked_at`, and tells it where that is news.
    fn note_leaders(&mut self, index: usize, bounds: &[Option<Bounds>], asked_at: i64) {
        let topic = &mut self.topics[index];
        topic.leaderless_at = asked_at;
        let leaderless = bounds.iter().enumerate().filter(|(_, bounds)| bounds.is_none());
        topic.leaderless = leaderless.map(|(partition, _)| partition).collect();
        if self.status.set_leaderless(&topic.name, &topic.leaderless) {
            let brokers = self.connect.brokers();
            let (name, partitions) = (&topic.name, &topic.leaderless);
            warn!(
                "kafka {brokers}: topic {name:?}: no leader answers for partitions {partitions:?}; the others are read"
            );
        }
    }

    /// Remembers that a topic has been met, and tells whether it exists where that is news.
    fn note_existence(&mut self, index: usize, found: Found, is_forbidden: bool) {
        let topic = &mut self.topics[index];
        // What may not be seen has not been met: once it may, it is read from where the streams begin.
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

    /// Looks at what exists; at the first contact, asks again for a while where a topic seems missing.
    /// `None` where there is something else to do first.
    fn look_until_sure(&mut self, handles: &mut Handles) -> Result<Option<Vec<Found>>, KafkaError> {
        let asked = Instant::now();
        loop {
            let found = self.look(handles)?;
            let is_missing = self.topics.iter().zip(&found).any(|(topic, found)| {
                !topic.contacted
                    && found.partitions == 0
                    && !handles.consumer.unauthorized().contains(&topic.name)
            });
            if !is_missing || asked.elapsed() > DOUBT {
                return Ok(Some(found));
            }
            // What is decided at the first contact stays, so nothing is decided in a hurry.
            if self.orders.is_interrupted() {
                return Ok(None);
            }
            self.turns(DOUBT_PAUSE);
            std::thread::sleep(DOUBT_PAUSE);
        }
    }

    /// Where the offset of a partition is out of range: goes on at those that exist, without another
    /// client, so that the other partitions hardly notice.
    ///
    /// # Errors
    /// With `why`, if all offsets are as they should be.
    pub(super) fn find_place(
        &mut self,
        handles: &mut Handles,
        why: KafkaError,
    ) -> Result<Option<Vec<Found>>, KafkaError> {
        let places = |batcher: &Batcher| -> Vec<Vec<i64>> {
            batcher.positions().map(|(_, next)| next.to_vec()).collect()
        };
        let before = places(&self.batcher);
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
        if found.is_some() && (is_left || places(&self.batcher) == before) {
            return Err(why);
        }
        Ok(found)
    }
}
