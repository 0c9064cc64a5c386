//! Requests to Kafka about single topics: whether they can be read, and a sample of their newest records.
//!
//! Nothing is retried or kept. The functions block for as long as the client library does; [`session`](super::session)
//! sets a time limit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::kafka::admin::AdminThread;
use crate::kafka::auth_error::AuthError;
use crate::kafka::batcher::Batcher;
use crate::kafka::connection::Connection;
use crate::kafka::consumer::Consumer;
use crate::kafka::error::KafkaError;
use crate::kafka::partition::Bounds;
use crate::kafka::record::{BEGINNING, Feed, MAX_BATCH_RECORDS, Record};

/// How many offsets before the end of a partition reading begins: the last ones of a transactional topic are markers.
pub(super) const LOOK_BACK: i64 = 5;

/// How many of the newest records are sampled, spread over the partitions, and at most of one: enough to show a producer
/// whose clock or partitioner differs, and read in about a second.
const SAMPLE_RECORDS: usize = 2000;
const MAX_PER_PARTITION: i64 = 500;

/// Bytes of keys and values after which a sample ends.
const SAMPLE_BYTES: usize = 16 * 1024 * 1024;

/// A sample ends after this time without a record: transaction markers may be at the end of a partition.
const QUIET: Duration = Duration::from_secs(1);

const POLL_WAIT: Duration = Duration::from_millis(100);

/// How long an empty topic is read: a refusal arrives within this time.
const EMPTY_PATIENCE: Duration = Duration::from_secs(1);

/// Capacity for the batches of one poll: at most one for each record.
const CHANNEL: usize = MAX_BATCH_RECORDS + 2;

/// Records of one topic from given offsets.
struct Excerpt {
    batcher: Batcher,
    feeds: mpsc::Receiver<Feed>,
}

impl Excerpt {
    fn assign(
        consumer: &mut dyn Consumer,
        topic: &Arc<str>,
        next: Vec<i64>,
        low: Vec<i64>,
    ) -> Result<Self, KafkaError> {
        let (sender, feeds) = mpsc::channel(CHANNEL);
        let mut batcher = Batcher::new([(Arc::clone(topic), vec![sender])]);
        batcher.assign(topic, None, next, low);
        // A consumer keeps partitions whose `placed` is unchanged; each batcher counts that from the start.
        consumer.assign(&Batcher::new(None::<(Arc<str>, Vec<mpsc::Sender<Feed>>)>))?;
        consumer.assign(&batcher)?;
        Ok(Self { batcher, feeds })
    }

    fn newest(
        consumer: &mut dyn Consumer,
        topic: &Arc<str>,
        bounds: &[Bounds],
        look_back: i64,
    ) -> Result<Self, KafkaError> {
        let next = bounds
            .iter()
            .map(|bounds| (bounds.high - look_back).max(bounds.low));
        let low = bounds.iter().map(|bounds| bounds.low);
        Self::assign(consumer, topic, next.collect(), low.collect())
    }

    fn poll(
        &mut self,
        consumer: &mut dyn Consumer,
        mut each: impl FnMut(&Record<'_>),
    ) -> Result<(), KafkaError> {
        consumer.poll(POLL_WAIT, &mut self.batcher)?;
        self.batcher.flush();
        while let Ok(feed) = self.feeds.try_recv() {
            if let Feed::Records(batch) = feed {
                batch.iter().for_each(|record| each(&record));
            }
        }
        Ok(())
    }
}

/// How many partitions a topic has; 0 if it does not exist.
pub(super) fn partitions(
    admin: &AdminThread,
    connection: &Connection,
    topic: &Arc<str>,
) -> Result<usize, KafkaError> {
    let states = admin.topics(&[Arc::clone(topic)], &BTreeSet::new())?;
    let state = states.into_iter().next().unwrap_or_default();
    if state.is_authorized == Some(false) {
        return Err(unauthorized(connection, topic));
    }
    match state.error {
        Some(error) => Err(KafkaError::unreachable(&connection.bootstrap_servers(), error)),
        None => Ok(state.partitions),
    }
}

/// The result of reading at the ends of a topic's partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    /// Partitions that hold records according to their offsets.
    pub(super) filled: usize,
    /// Partitions of which a record was read.
    pub(super) read: usize,
    /// The latest time of those records, in milliseconds since the epoch, if any has one.
    pub(super) timestamp: Option<i64>,
}

/// Reads the newest records of a topic, for at most `patience`.
pub(super) fn newest(
    consumer: &mut dyn Consumer,
    connection: &Connection,
    topic: &Arc<str>,
    bounds: &[Bounds],
    patience: Duration,
) -> Result<Newest, KafkaError> {
    let mut excerpt = Excerpt::newest(consumer, topic, bounds, LOOK_BACK)?;
    let filled = bounds.iter().filter(|bounds| bounds.low < bounds.high).count();
    let patience = if filled == 0 {
        patience.min(EMPTY_PATIENCE)
    } else {
        patience
    };
    let started = Instant::now();
    let mut read = BTreeSet::new();
    let mut timestamp = None;
    while started.elapsed() < patience && (read.len() < filled || filled == 0) {
        excerpt.poll(consumer, |record| {
            read.insert(record.partition);
            timestamp = timestamp.max(record.timestamp);
        })?;
        if read.is_empty() && !consumer.is_searching() {
            check_retried_error(consumer, connection, topic)?;
        }
    }
    if read.is_empty() {
        check_retried_error(consumer, connection, topic)?;
    }
    Ok(Newest {
        filled,
        read: read.len(),
        timestamp,
    })
}

/// The newest records of a topic, as far as they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) records: usize,
    /// Distinct keys among them.
    pub(super) keys: usize,
    /// Keys in more than one partition.
    pub(super) spread: usize,
    /// Partition and offset of two records with such a key.
    pub(super) example: Option<[(u32, i64); 2]>,
    /// Records that have a timestamp.
    pub(super) timed: usize,
    /// Records whose timestamp is after the requested time.
    pub(super) late: usize,
    /// The latest of those timestamps (milliseconds since the epoch), with partition and offset.
    pub(super) latest: Option<(i64, u32, i64)>,
}

/// Reads some of the newest records of a topic, as far as `patience` and [`SAMPLE_BYTES`] allow: at most about
/// [`SAMPLE_RECORDS`], unless there are more partitions. Looks for timestamps after `late` (milliseconds since the
/// epoch).
pub(super) fn sample(
    consumer: &mut dyn Consumer,
    topic: &Arc<str>,
    bounds: &[Bounds],
    late: i64,
    patience: Duration,
) -> Result<Sample, KafkaError> {
    let filled = bounds.iter().filter(|bounds| bounds.low < bounds.high).count();
    let share = i64::try_from(SAMPLE_RECORDS / filled.max(1)).unwrap_or(i64::MAX);
    let look_back = share.clamp(LOOK_BACK, MAX_PER_PARTITION);
    let mut excerpt = Excerpt::newest(consumer, topic, bounds, look_back)?;
    let (mut sample, mut bytes) = (Sample::default(), 0);
    let mut places: HashMap<Box<[u8]>, (u32, i64, bool)> = HashMap::new();
    let started = Instant::now();
    let mut quiet_since = started;
    while started.elapsed() < patience && quiet_since.elapsed() < QUIET && bytes < SAMPLE_BYTES {
        let next = excerpt.batcher.next_offsets(topic);
        if next.iter().zip(bounds).all(|(next, bounds)| *next >= bounds.high) {
            break;
        }
        excerpt.poll(consumer, |record| {
            quiet_since = Instant::now();
            bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            sample.add(record, late, &mut places);
        })?;
    }
    sample.keys = places.len();
    Ok(sample)
}

impl Sample {
    /// `places` holds where each key was seen first, and whether it was seen in another partition.
    fn add(&mut self, record: &Record<'_>, late: i64, places: &mut HashMap<Box<[u8]>, (u32, i64, bool)>) {
        self.records += 1;
        self.timed += usize::from(record.timestamp.is_some());
        let here = (record.partition, record.offset);
        if let Some(time) = record.timestamp.filter(|time| *time > late) {
            self.late += 1;
            self.latest = self.latest.max(Some((time, here.0, here.1)));
        }
        let Some(key) = record.key else { return };
        match places.get_mut(key) {
            None => drop(places.insert(key.into(), (here.0, here.1, false))),
            Some((partition, offset, is_spread)) if *partition != here.0 && !*is_spread => {
                *is_spread = true;
                self.spread += 1;
                self.example.get_or_insert([(*partition, *offset), here]);
            }
            Some(_) => {}
        }
    }
}

/// The first record of a partition from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First {
    pub(super) partition: u32,
    pub(super) offset: i64,
    /// Its time, in milliseconds since the epoch, if it has one.
    pub(super) timestamp: Option<i64>,
}

/// Reads the first record of some partitions of a topic, each from an offset on, for at most `patience`. Omits
/// partitions of which none arrives.
pub(super) fn first_from(
    consumer: &mut dyn Consumer,
    topic: &Arc<str>,
    from: &[(u32, i64)],
    patience: Duration,
) -> Result<Vec<First>, KafkaError> {
    let partitions = from.iter().map(|(partition, _)| *partition as usize + 1).max();
    let mut next = vec![BEGINNING; partitions.unwrap_or(0)];
    for &(partition, offset) in from {
        next[partition as usize] = offset;
    }
    let mut excerpt = Excerpt::assign(consumer, topic, next.clone(), next)?;
    let mut first: BTreeMap<u32, First> = BTreeMap::new();
    let started = Instant::now();
    while started.elapsed() < patience && first.len() < from.len() {
        excerpt.poll(consumer, |record| {
            first.entry(record.partition).or_insert(First {
                partition: record.partition,
                offset: record.offset,
                timestamp: record.timestamp,
            });
        })?;
    }
    Ok(first.into_values().collect())
}

/// The number of partitions whose time index has a record.
pub(super) fn times(admin: &AdminThread, topic: &Arc<str>, bounds: &[Bounds]) -> Result<usize, KafkaError> {
    let found = admin.offsets_at(topic, &vec![Some(0); bounds.len()])?;
    let found = found.iter().zip(bounds);
    Ok(found
        .filter(|(offset, bounds)| offset.is_some_and(|offset| offset < bounds.high))
        .count())
}

fn unauthorized(connection: &Connection, topic: &str) -> KafkaError {
    AuthError::topic(topic, &connection.credentials).at(&connection.bootstrap_servers())
}

/// Returns an error that the client library would retry: a single attempt has failed.
fn check_retried_error(
    consumer: &dyn Consumer,
    connection: &Connection,
    topic: &Arc<str>,
) -> Result<(), KafkaError> {
    let brokers = connection.bootstrap_servers();
    if consumer.unauthorized().contains(topic) {
        return Err(unauthorized(connection, topic));
    }
    match consumer.retried_error() {
        None => Ok(()),
        Some(error) => {
            let prefix = format!("kafka {brokers}: ");
            let reason = error.strip_prefix(&prefix).unwrap_or(error);
            Err(KafkaError::unreachable(&brokers, reason))
        }
    }
}
