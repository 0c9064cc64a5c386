//! Requests the metadata of topics: partitions, ids, and the offsets of new or changed topics.
//!
//! Runs on the thread of an [`Admin`] beside reading. Decides nothing; the [`reader`](super::reader) does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;

use super::admin::{Admin, TopicState};
use super::error::KafkaError;
use super::partition::Bounds;
use super::pulse::Pulse;
use super::record::TopicId;

/// How long a topic must seem to be recreated, or to be missing at the start, before it counts as such: a broker that
/// has just started, or a new leader, may have outdated metadata.
pub(super) const DOUBT: Duration = Duration::from_secs(3);

/// Pause between two requests about a topic in doubt.
pub(super) const DOUBT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicQuery {
    /// Its name.
    pub topic: Arc<str>,
    /// Partitions that had no leader.
    pub leaderless: Vec<usize>,
    /// Whether its offsets are requested in any case.
    pub wants_bounds: bool,
    /// Whether the ends of its partitions are requested in any case.
    pub wants_ends: bool,
    /// Its known state; if it has changed, its offsets are requested too.
    pub known: Option<KnownTopic>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownTopic {
    /// How many partitions it has.
    pub partitions: usize,
    /// Its id, if known.
    pub id: Option<TopicId>,
    /// Ids of topics of this name that no longer exist.
    pub past: Vec<TopicId>,
}

impl TopicQuery {
    /// Whether one of the partitions that had no leader has one.
    fn is_led(&self, bounds: &[Option<Bounds>]) -> bool {
        let has_leader = |&partition: &usize| bounds.get(partition).is_some_and(Option::is_some);
        self.leaderless.iter().any(has_leader)
    }

    fn is_changed(&self, looked: &Looked) -> bool {
        self.known.as_ref().is_some_and(|known| {
            let id = looked.state.id.filter(|id| !known.past.contains(id));
            known.partitions != looked.state.partitions || id.is_some_and(|id| known.id != Some(id))
        })
    }

    /// Whether this partition is new, so that its leader may still be elected.
    fn may_get_leader(&self, partition: usize) -> bool {
        let is_read = |known: &KnownTopic| partition < known.partitions;
        !self.leaderless.contains(&partition) && !self.known.as_ref().is_some_and(is_read)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Its partitions and id.
    pub state: TopicState,
    /// The offsets of every partition, if they were requested, the topic has changed, or a partition has its first
    /// leader.
    pub bounds: Option<Vec<Option<Bounds>>>,
    /// The end of every partition, if requested; `None` if no leader answers.
    pub ends: Option<Vec<Option<i64>>>,
}

/// Requests the metadata of topics for a thread with this pulse.
pub(super) fn look(
    admin: &mut dyn Admin,
    asked: &[TopicQuery],
    unauthorized: &BTreeSet<Arc<str>>,
    pulse: &Pulse,
) -> Result<Vec<Looked>, KafkaError> {
    let names: Vec<Arc<str>> = asked.iter().map(|asked| Arc::clone(&asked.topic)).collect();
    let states = admin.topics(&names, unauthorized)?.into_iter();
    let looked = states.map(|state| Looked {
        state,
        bounds: None,
        ends: None,
    });
    let mut looked: Vec<Looked> = looked.collect();
    let wait = || {
        std::thread::sleep(DOUBT_PAUSE);
        !pulse.has_command()
    };
    add_bounds(&mut looked, asked, wait, |topics| admin.bounds(topics))?;
    add_ends(&mut looked, asked, |topics| admin.bounds(topics))?;
    Ok(looked)
}

/// Pauses before a request is repeated; returns false if a command is pending.
pub(super) fn turn(pulse: &Pulse) -> bool {
    pulse.beat(DOUBT_PAUSE);
    std::thread::sleep(DOUBT_PAUSE);
    !pulse.has_command()
}

/// Requests the offsets of changed topics. `wait` is as for [`bounds_once_led`].
fn add_bounds(
    looked: &mut [Looked],
    asked: &[TopicQuery],
    wait: impl FnMut() -> bool,
    ask: impl FnMut(&[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError>,
) -> Result<(), KafkaError> {
    let is_asked_for = |&index: &usize| {
        let asked: &TopicQuery = &asked[index];
        asked.wants_bounds || !asked.leaderless.is_empty() || asked.is_changed(&looked[index])
    };
    let changed: Vec<usize> = (0..looked.len()).filter(is_asked_for).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let topics: Vec<(Arc<str>, usize)> = changed
        .iter()
        .map(|&index| (Arc::clone(&asked[index].topic), looked[index].state.partitions))
        .collect();
    let may_get_leader = |topic: usize, partition| asked[changed[topic]].may_get_leader(partition);
    let bounds = bounds_once_led(&topics, wait, may_get_leader, ask)?;
    for (&index, bounds) in changed.iter().zip(bounds) {
        let (asked, looked) = (&asked[index], &mut looked[index]);
        if asked.wants_bounds || asked.is_changed(looked) || asked.is_led(&bounds) {
            looked.bounds = Some(bounds);
        }
    }
    Ok(())
}

/// Requests the ends of topics that need them. After a failure a later refresh requests them again.
fn add_ends(
    looked: &mut [Looked],
    asked: &[TopicQuery],
    ask: impl FnOnce(&[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError>,
) -> Result<(), KafkaError> {
    let wanted: Vec<usize> = (0..looked.len())
        .filter(|&index| asked[index].wants_ends)
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let topics: Vec<(Arc<str>, usize)> = wanted
        .iter()
        .map(|&index| (Arc::clone(&asked[index].topic), looked[index].state.partitions))
        .collect();
    let bounds = match ask(&topics) {
        Err(error) if error.is_interrupted() => return Err(error),
        Err(error) => {
            debug!("{error}");
            return Ok(());
        }
        Ok(bounds) => bounds,
    };
    for (index, bounds) in wanted.into_iter().zip(bounds) {
        let ends = bounds.into_iter().map(|bounds| bounds.map(|bounds| bounds.high));
        looked[index].ends = Some(ends.collect());
    }
    Ok(())
}

/// The offsets of topics. Repeats the request for a while if a partition may still get its first leader: a new topic
/// gets them one by one. `wait` pauses in between, and returns false if a command is pending.
pub(super) fn bounds_once_led(
    topics: &[(Arc<str>, usize)],
    mut wait: impl FnMut() -> bool,
    may_get_leader: impl Fn(usize, usize) -> bool,
    mut ask: impl FnMut(&[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError>,
) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError> {
    let begun = Instant::now();
    let mut bounds = ask(topics)?;
    loop {
        let lacks = |topic: &usize| {
            let mut partitions = bounds[*topic].iter().enumerate();
            partitions.any(|(partition, bounds)| bounds.is_none() && may_get_leader(*topic, partition))
        };
        let lacking: Vec<usize> = (0..topics.len()).filter(lacks).collect();
        if lacking.is_empty() || begun.elapsed() > DOUBT || !wait() {
            return Ok(bounds);
        }
        let again: Vec<(Arc<str>, usize)> = lacking.iter().map(|&topic| topics[topic].clone()).collect();
        for (topic, found) in lacking.into_iter().zip(ask(&again)?) {
            bounds[topic] = found;
        }
    }
}
