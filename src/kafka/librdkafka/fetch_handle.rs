//! The consuming handle, its queue, and the partitions that it reads.
//!
//! The assignment follows [`Batcher::fetch_positions`]: only partitions whose position was set again are stopped and
//! started; reading of the others continues. Knows nothing of requests about topics, nor of earlier errors.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use log::debug;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::assignment::Assignment;
use super::context::Context;
use super::handle_factory::HandleFactory;
use super::settings::REQUEST_TIMEOUT;
use crate::kafka::batcher::{Batcher, FetchPosition};
use crate::kafka::error::{KafkaError, Location};
use crate::kafka::librdkafka::ffi::{self, Fetched, Queue};
use crate::kafka::pulse::Pulse;
use crate::kafka::record::Stamp;

pub(super) struct FetchHandle {
    pub(super) handle: Arc<BaseConsumer<Context>>,
    pub(super) queue: Queue<Context>,
    assigned: Assignment,
    /// Topics that the handle has read: the incarnation, and the number of known partitions.
    met: HashMap<Arc<str>, (u64, u32)>,
    pub(super) ended: Ended,
    pub(super) is_drained: bool,
}

/// The ends of partitions whose records were all taken.
#[derive(Default)]
pub(super) struct Ended(HashMap<Arc<str>, HashMap<u32, i64>>);

impl Ended {
    /// Notes that all records before this offset were taken, and none follows yet. The offset before may be a
    /// transaction marker.
    pub(super) fn note(&mut self, topic: &str, partition: i32, offset: i64) {
        let Ok(partition) = u32::try_from(partition) else {
            return;
        };
        match self.0.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, offset),
            None => self.0.entry(topic.into()).or_default().insert(partition, offset),
        };
    }

    /// The end up to which all records were taken, if one was reached.
    pub(super) fn offset(&self, topic: &str, partition: u32) -> Option<i64> {
        self.0.get(topic)?.get(&partition).copied()
    }

    /// Whether an end at or after `next` was reached.
    pub(super) fn is_before(&self, topic: &str, partition: u32, next: i64) -> bool {
        self.offset(topic, partition).is_some_and(|end| end >= next)
    }

    fn forget(&mut self, topic: &str, partition: u32) {
        if let Some(partitions) = self.0.get_mut(topic) {
            partitions.remove(&partition);
        }
    }
}

pub(super) enum AssignError {
    Library(String, RdKafkaError),
    NoQueue(Location),
    Interrupted,
}

impl FetchHandle {
    pub(super) fn new(factory: &HandleFactory) -> Result<Self, KafkaError> {
        let handle = Arc::new(factory.handle()?);
        let queue = Queue::new(Arc::clone(&handle))
            .ok_or_else(|| KafkaError::unreachable(&factory.brokers, "librdkafka gives no queue"))?;
        Ok(Self {
            handle,
            queue,
            assigned: Assignment::default(),
            met: HashMap::new(),
            ended: Ended::default(),
            is_drained: false,
        })
    }

    /// Assigns the fetch positions of the batcher. Returns whether all of them are assigned: a recreated topic needs
    /// another handle, because the library may keep comparing it with the old topic (the new leader epochs are lower,
    /// and count as outdated).
    ///
    /// Skips stopped positions. `is_described` says whether brokers describe many topics in one request.
    pub(super) fn assign(
        &mut self,
        batcher: &Batcher,
        is_stopped: impl Fn(&FetchPosition) -> bool,
        is_described: bool,
        pulse: &Pulse,
    ) -> Result<bool, AssignError> {
        let is_old = |place: &FetchPosition| matches!(self.met.get(&place.topic), Some((met, _)) if *met != place.incarnation);
        let places = batcher.fetch_positions().filter(|place| !is_stopped(place));
        let (old, wanted): (Vec<FetchPosition>, Vec<FetchPosition>) = places.partition(is_old);
        self.unassign(&wanted)?;
        let fresh = self.assigned.missing(wanted);
        self.begin(&fresh, is_described, pulse)?;
        Ok(old.is_empty())
    }

    /// Stops partitions that are not wanted, or wanted at another position.
    fn unassign(&mut self, wanted: &[FetchPosition]) -> Result<(), AssignError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in self.assigned.take_unwanted(wanted) {
            list.add_partition(&topic, partition.cast_signed());
        }
        if list.count() == 0 {
            return Ok(());
        }
        // The library stops a partition some time after the call, and detaches it from our queue. Calls are answered in
        // order, so by this answer all are stopped.
        self.handle
            .incremental_unassign(&list)
            .and_then(|()| self.handle.assignment())
            .map_err(|error| AssignError::Library("unassigning".to_owned(), error))?;
        Ok(())
    }

    fn begin(
        &mut self,
        fresh: &[FetchPosition],
        is_described: bool,
        pulse: &Pulse,
    ) -> Result<(), AssignError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let mut unmet = BTreeSet::new();
        let mut list = TopicPartitionList::new();
        for place in fresh {
            let (topic, partition) = (&place.topic, place.partition);
            let number = partition.cast_signed();
            self.ended.forget(topic, partition);
            if !self.queue.attach(topic, number) {
                let at = Location::partition(Arc::clone(topic), partition);
                return Err(AssignError::NoQueue(at));
            }
            list.add_partition_offset(topic, number, Offset::Offset(place.next))
                .map_err(|error| AssignError::Library(format!("assigning {topic:?}/{partition}"), error))?;
            let (_, known) = self
                .met
                .entry(Arc::clone(topic))
                .or_insert((place.incarnation, 0));
            if partition >= *known {
                *known = partition + 1;
                unmet.insert(Arc::clone(topic));
            }
        }
        self.learn_leaders(unmet.into_iter().collect(), is_described, pulse)?;
        self.handle
            .incremental_assign(&list)
            .map_err(|error| AssignError::Library("assigning".to_owned(), error))?;
        // A truncated log may have outgrown our offset, which only the epoch shows. Seeking to an offset with an epoch
        // validates it; assigning does not.
        let read = fresh.iter().filter_map(|place| {
            Some(ffi::ReadPosition {
                topic: &place.topic,
                partition: place.partition.cast_signed(),
                next: place.next,
                epoch: place.epoch?,
            })
        });
        let read: Vec<ffi::ReadPosition<'_>> = read.collect();
        if !read.is_empty() {
            pulse.beat(REQUEST_TIMEOUT);
            ffi::validate(&self.handle, &read, REQUEST_TIMEOUT).map_err(|code| {
                AssignError::Library(
                    "validating offsets".to_owned(),
                    RdKafkaError::Seek(code.to_string()),
                )
            })?;
        }
        self.assigned.add(fresh);
        Ok(())
    }

    /// Makes the handle request the leaders of topics, which it would do by itself up to a second later. Does not wait
    /// for the response if one request covers all of them.
    fn learn_leaders(
        &self,
        topics: Vec<Arc<str>>,
        is_described: bool,
        pulse: &Pulse,
    ) -> Result<(), AssignError> {
        if topics.is_empty() {
            return Ok(());
        }
        if is_described {
            if let Err(error) = ffi::request_leaders(&self.handle, &topics, REQUEST_TIMEOUT) {
                debug!("leaders of {} topics: {error}", topics.len());
            }
            return Ok(());
        }
        for topic in topics {
            if pulse.has_command() {
                return Err(AssignError::Interrupted);
            }
            pulse.beat(REQUEST_TIMEOUT);
            self.handle
                .fetch_metadata(Some(&topic), REQUEST_TIMEOUT)
                .map_err(|error| AssignError::Library(format!("metadata of topic {topic:?}"), error))?;
        }
        Ok(())
    }

    /// The next offset of a partition: `next`, or a later one if control records or records of aborted transactions
    /// follow.
    pub(super) fn position(&self, topic: &str, partition: u32, next: i64) -> i64 {
        let position = self.queue.position(topic, partition.cast_signed());
        // The library counts the event of an end like a record at that offset. A marker there is passed once the next end
        // is reached.
        let end = self.ended.offset(topic, partition);
        let is_of_end = |position: &i64| end.is_some_and(|end| *position == end.saturating_add(1));
        let position = position.filter(|position| !is_of_end(position)).or(end);
        position.map_or(next, |position| position.max(next))
    }

    /// Waits at most `limit` until the handle knows brokers, and the leaders of the topics of these positions. Then
    /// starts reading there. For brokers that describe many topics in one request.
    pub(super) fn warm_up(&mut self, places: &[FetchPosition], limit: Duration, pulse: &Pulse) {
        let topics: BTreeSet<Arc<str>> = places.iter().map(|place| Arc::clone(&place.topic)).collect();
        let topics: Vec<Arc<str>> = topics.into_iter().collect();
        if let Err(error) = ffi::describe_topics(&self.handle, &topics, limit) {
            debug!("leaders of {} topics: {error}", topics.len());
        }
        // A failure repeats when the partitions are assigned later, and is handled there.
        if self.begin(places, true, pulse).is_err() {
            debug!("{} partitions are not assigned ahead", places.len());
        }
    }

    /// Closes the handle on its own thread, because that may take a while.
    pub(super) fn dispose(self) {
        let spawned = std::thread::Builder::new()
            .name("kafka-closing".to_owned())
            .spawn(move || drop(self));
        if let Err(error) = spawned {
            // The handle was dropped here.
            debug!("no thread for closing a handle: {error}");
        }
    }
}

pub(super) fn push(batcher: &mut Batcher, record: &Fetched<'_>, with_headers: bool) {
    let Ok(partition) = u32::try_from(record.partition()) else {
        return;
    };
    let stamp = Stamp {
        partition,
        offset: record.offset(),
        timestamp: record.timestamp(),
    };
    let headers = with_headers.then(|| record.headers()).into_iter().flatten();
    let (epoch, topic) = (record.leader_epoch(), record.topic());
    batcher.push(epoch, topic, stamp, record.key(), record.value(), headers);
}
