//! One look at what Kafka holds, for those who want to know whether it can be read.
//!
//! Every function asks once and says what went wrong; nothing is retried, and nothing is kept. They
//! block for as long as the client library does: who calls them bounds that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::admin::AdminThread;
use super::auth_error::Refusal;
use super::batcher::Batcher;
use super::connection::Connection;
use super::consumer::Consumer;
use super::error::KafkaError;
use super::partition::Bounds;
use super::record::{BEGINNING, Feed, MAX_BATCH_RECORDS, Record};

/// How far before the end of a partition a record is looked for: the last offsets of a transactional
/// topic are markers.
pub const LOOK_BACK: i64 = 5;

/// How many of the newest records are looked at, spread over the partitions, and most of one: enough that a
/// producer whose clock or partitioner differs shows, and read in about a second.
const SAMPLE_RECORDS: usize = 2000;
const MAX_PER_PARTITION: i64 = 500;

/// Most bytes of keys and values among them.
const SAMPLE_BYTES: usize = 16 * 1024 * 1024;

/// How long nothing comes before all is taken as read: markers of transactions end a partition without a record.
const QUIET: Duration = Duration::from_secs(1);

/// Longest wait for records in one poll.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// How long an empty topic is read, in which a refusal comes.
const EMPTY_PATIENCE: Duration = Duration::from_secs(1);

/// Feeds that one poll may hand on, which nobody takes meanwhile: a batch for each record at most.
const FEEDS: usize = MAX_BATCH_RECORDS + 2;

/// How many partitions a topic has; 0 where it does not exist.
///
/// # Errors
/// When no broker answers, or the topic may not be seen.
pub fn partitions(
    admin: &AdminThread,
    connection: &Connection,
    topic: &Arc<str>,
) -> Result<usize, KafkaError> {
    let states = admin.topics(&[Arc::clone(topic)], &BTreeSet::new())?;
    let state = states.into_iter().next().unwrap_or_default();
    if state.is_authorized == Some(false) {
        return Err(forbidden(connection, topic));
    }
    match state.error {
        Some(error) => Err(KafkaError::unreachable(&connection.bootstrap_servers(), error)),
        None => Ok(state.partitions),
    }
}

/// What was read at the ends of a topic's partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Partitions whose offsets say that they hold something.
    pub filled: usize,
    /// Those of which a record was read.
    pub read: usize,
    /// The latest time of those records, in milliseconds since the epoch, where one has any.
    pub timestamp: Option<i64>,
}

/// Reads the newest records of a topic, for as long as `patience` at most.
///
/// # Errors
/// When reading is refused, or fails.
pub fn newest(
    consumer: &mut dyn Consumer,
    connection: &Connection,
    topic: &Arc<str>,
    bounds: &[Bounds],
    patience: Duration,
) -> Result<Newest, KafkaError> {
    let (sender, mut feed) = mpsc::channel(FEEDS);
    let mut batcher = Batcher::new([(Arc::clone(topic), vec![sender])]);
    let low = bounds.iter().map(|bounds| bounds.low).collect();
    let next = bounds
        .iter()
        .map(|bounds| (bounds.high - LOOK_BACK).max(bounds.low));
    batcher.assign(topic, None, next.collect(), low);
    consumer.assign(&batcher)?;
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
        consumer.poll(POLL_WAIT, &mut batcher)?;
        batcher.flush();
        while let Ok(fed) = feed.try_recv() {
            if let Feed::Records(batch) = fed {
                for record in batch.iter() {
                    read.insert(record.partition);
                    timestamp = timestamp.max(record.timestamp);
                }
            }
        }
        if read.is_empty() && !consumer.is_searching() {
            fail_of_trouble(consumer, connection, topic)?;
        }
    }
    if read.is_empty() {
        fail_of_trouble(consumer, connection, topic)?;
    }
    Ok(Newest {
        filled,
        read: read.len(),
        timestamp,
    })
}

/// The newest records of a topic, as far as they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// How many.
    pub records: usize,
    /// Different keys among them.
    pub keys: usize,
    /// Keys in more than one partition.
    pub spread: usize,
    /// Partition and offset of two records that have one of those.
    pub example: Option<[(u32, i64); 2]>,
    /// Records that have a timestamp.
    pub timed: usize,
    /// Records whose timestamp is later than was asked about.
    pub late: usize,
    /// The latest of those timestamps (milliseconds since the epoch), with partition and offset.
    pub latest: Option<(i64, u32, i64)>,
}

/// Reads some of the newest records of a topic, as far as `patience` and [`SAMPLE_BYTES`] allow: at most about
/// [`SAMPLE_RECORDS`], unless there are more partitions. Looks for timestamps after `late` (milliseconds since the
/// epoch).
///
/// # Errors
/// When reading fails.
pub fn sample(
    consumer: &mut dyn Consumer,
    topic: &Arc<str>,
    bounds: &[Bounds],
    late: i64,
    patience: Duration,
) -> Result<Sample, KafkaError> {
    let (sender, mut feed) = mpsc::channel(FEEDS);
    let mut batcher = Batcher::new([(Arc::clone(topic), vec![sender])]);
    let filled = bounds.iter().filter(|bounds| bounds.low < bounds.high).count();
    let share = i64::try_from(SAMPLE_RECORDS / filled.max(1)).unwrap_or(i64::MAX);
    let look_back = share.clamp(LOOK_BACK, MAX_PER_PARTITION);
    let low = bounds.iter().map(|bounds| bounds.low).collect();
    let next = bounds
        .iter()
        .map(|bounds| (bounds.high - look_back).max(bounds.low));
    batcher.assign(topic, None, next.collect(), low);
    // A consumer leaves a partition where it is that seems to be assigned as before: by another batcher, it is not.
    consumer.assign(&Batcher::new(None::<(Arc<str>, Vec<mpsc::Sender<Feed>>)>))?;
    consumer.assign(&batcher)?;
    let (mut sample, mut bytes) = (Sample::default(), 0);
    let mut places: HashMap<Box<[u8]>, (u32, i64, bool)> = HashMap::new();
    let started = Instant::now();
    let mut quiet_since = started;
    while started.elapsed() < patience && quiet_since.elapsed() < QUIET && bytes < SAMPLE_BYTES {
        let next = batcher.next_offsets(topic);
        if next.iter().zip(bounds).all(|(next, bounds)| *next >= bounds.high) {
            break;
        }
        consumer.poll(POLL_WAIT, &mut batcher)?;
        batcher.flush();
        while let Ok(fed) = feed.try_recv() {
            let Feed::Records(batch) = fed else { continue };
            quiet_since = Instant::now();
            for record in batch.iter() {
                bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                sample.add(&record, late, &mut places);
            }
        }
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
pub struct First {
    /// The partition.
    pub partition: u32,
    /// The record's offset.
    pub offset: i64,
    /// Its time, in milliseconds since the epoch, where it has one.
    pub timestamp: Option<i64>,
}

/// Reads the first record of some partitions of a topic, each from an offset on, for as long as `patience` at most.
/// Partitions of which none came are left out.
///
/// # Errors
/// When reading fails.
pub fn first_from(
    consumer: &mut dyn Consumer,
    topic: &Arc<str>,
    from: &[(u32, i64)],
    patience: Duration,
) -> Result<Vec<First>, KafkaError> {
    let (sender, mut feed) = mpsc::channel(FEEDS);
    let mut batcher = Batcher::new([(Arc::clone(topic), vec![sender])]);
    let partitions = from.iter().map(|(partition, _)| *partition as usize + 1).max();
    let mut next = vec![BEGINNING; partitions.unwrap_or(0)];
    for &(partition, offset) in from {
        next[partition as usize] = offset;
    }
    batcher.assign(topic, None, next.clone(), next);
    // A consumer leaves a partition where it is that seems to be assigned as before: by another batcher, it is not.
    consumer.assign(&Batcher::new(None::<(Arc<str>, Vec<mpsc::Sender<Feed>>)>))?;
    consumer.assign(&batcher)?;
    let mut first: BTreeMap<u32, First> = BTreeMap::new();
    let started = Instant::now();
    while started.elapsed() < patience && first.len() < from.len() {
        consumer.poll(POLL_WAIT, &mut batcher)?;
        batcher.flush();
        while let Ok(fed) = feed.try_recv() {
            let Feed::Records(batch) = fed else { continue };
            for record in batch.iter() {
                first.entry(record.partition).or_insert(First {
                    partition: record.partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                });
            }
        }
    }
    Ok(first.into_values().collect())
}

/// In how many partitions the time index knows a record.
///
/// # Errors
/// [`ErrorKind::Unsupported`](super::error::ErrorKind::Unsupported) from a client library that knows no times; otherwise when a
/// partition's leader does not answer.
pub fn times(admin: &AdminThread, topic: &Arc<str>, bounds: &[Bounds]) -> Result<usize, KafkaError> {
    let found = admin.offsets_at(topic, &vec![Some(0); bounds.len()])?;
    let found = found.iter().zip(bounds);
    Ok(found
        .filter(|(offset, bounds)| offset.is_some_and(|offset| offset < bounds.high))
        .count())
}

fn forbidden(connection: &Connection, topic: &str) -> KafkaError {
    Refusal::topic(topic, &connection.access).at(&connection.bootstrap_servers())
}

/// An error that the client library retries is a failure of a single attempt.
fn fail_of_trouble(
    consumer: &dyn Consumer,
    connection: &Connection,
    topic: &Arc<str>,
) -> Result<(), KafkaError> {
    let brokers = connection.bootstrap_servers();
    if consumer.unauthorized().contains(topic) {
        return Err(forbidden(connection, topic));
    }
    match consumer.trouble() {
        None => Ok(()),
        Some(trouble) => {
            let prefix = format!("kafka {brokers}: ");
            let reason = trouble.strip_prefix(&prefix).unwrap_or(trouble);
            Err(KafkaError::unreachable(&brokers, reason))
        }
    }
}
