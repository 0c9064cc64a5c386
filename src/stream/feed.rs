//! The writing side of a stream: turns what the Kafka room hands over into blocks of the log.
//!
//! One task per stream runs [`run`]. A [`Feeder`] is the same without tokio, one call per
//! [`Feed`], so that tests can drive it step by step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::{error, warn};
use tokio::sync::mpsc;

use super::encode::{Encoder, Invalid};
use super::frame;
use super::latest::{Applied, Origin};
use super::log::{Builder, Sequence};
use super::opening::now;
use super::position::{MAX_ID, Position, TopicPosition};
use super::stream::Stream;
use crate::kafka::record::{Batch, Feed, Record};
use crate::logging::Seldom;

/// Batches that may wait for a stream: at most 256 KiB of records each, so 4 MiB, enough to keep
/// encoding and fetching apart and little enough to hold for nothing. A full channel stops the
/// fetching thread, which is the back-pressure on Kafka.
pub const CHANNEL_BATCHES: usize = 16;

/// At most one warning about passed-over records in this time, with the number of those unsaid.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

/// Feeds a stream until the other end of the channel is gone.
pub async fn run(mut feeder: Feeder, mut feeds: mpsc::Receiver<Feed>) {
    while let Some(feed) = feeds.recv().await {
        feeder.take(&feed);
    }
}

/// Numbers, encodes and appends the records of one stream.
#[derive(Debug)]
pub struct Feeder {
    stream: Arc<Stream>,
    encoder: Encoder,
    /// In the order of the stream's topics.
    position: Position,
    /// The first offset of every partition when it was assigned.
    low: Position,
    loading: BTreeSet<usize>,
    unassigned: BTreeSet<usize>,
    scratch: Vec<u8>,
    warnings: Seldom,
    table_errors: Seldom,
}

impl Feeder {
    /// The one feeder of `stream`.
    #[must_use]
    pub fn new(stream: Arc<Stream>) -> Self {
        let settings = stream.settings();
        let topics = 0..settings.topics.len();
        // While the topics are loaded, deletes are known up to when that began and no further.
        let as_of = settings.has_table().then(now);
        let unread: Vec<TopicPosition> = settings
            .topics
            .iter()
            .map(|name| TopicPosition::unread(name))
            .collect();
        Self {
            encoder: Encoder::new(settings),
            low: Position {
                as_of: None,
                topics: unread.clone(),
            },
            position: Position {
                as_of,
                topics: unread,
            },
            loading: topics.clone().collect(),
            unassigned: topics.collect(),
            scratch: Vec::new(),
            warnings: Seldom::new(WARNING_PAUSE),
            table_errors: Seldom::new(WARNING_PAUSE),
            stream,
        }
    }

    /// Takes what the Kafka room has to say.
    pub fn take(&mut self, feed: &Feed) {
        if self.stream.failure().is_some() {
            return;
        }
        match feed {
            Feed::Assigned { topic, next, low } => self.assigned(topic, next, low),
            Feed::Records(batch) => self.records(batch),
            Feed::Loaded { topic } => self.loaded(topic),
        }
    }

    fn index(&self, topic: &str) -> Option<usize> {
        self.stream
            .settings()
            .topics
            .iter()
            .position(|name| name == topic)
    }

    fn assigned(&mut self, topic: &str, next: &[i64], low: &[i64]) {
        let Some(index) = self.index(topic) else { return };
        self.position.topics[index].next = next.to_vec();
        self.low.topics[index].next = low.to_vec();
        self.unassigned.remove(&index);
        let length = self.position.id_len_ahead();
        if length > MAX_ID {
            let partitions: usize = self.position.topics.iter().map(|topic| topic.next.len()).sum();
            let why = format!(
                "stream {}: its {partitions} partitions make event ids of {length} bytes, more than the {MAX_ID} \
                 that proxies let through; split its topics over several streams",
                self.stream.settings().path
            );
            error!("{why}");
            self.stream.fail(why);
            return;
        }
        // Ids mean something once every topic has said what partitions it has.
        if self.unassigned.is_empty() {
            let id = self.position.id().into();
            let mut state = self.stream.write();
            state.log.set_head(id);
            state.is_assigned = true;
            state.low = self.low.clone();
            drop(state);
            self.stream.changed();
        }
    }

    fn records(&mut self, batch: &Batch) {
        let Some(index) = self.index(batch.topic()) else {
            return;
        };
        let now = now();
        if let Some(as_of) = self.position.as_of
            && self.loading.is_empty()
        {
            // Behind after an outage, deletes are known only up to what is read now.
            let newest = batch
                .iter()
                .filter_map(|record| u64::try_from(record.timestamp? / 1000).ok())
                .max();
            self.position.as_of = Some(newest.unwrap_or(now).min(now).max(as_of));
        }
        if let Some(mut table) = self.stream.write_table() {
            table.expire(now);
        }
        let mut builder = Builder::new(self.position.id().into());
        // This task is the only one that appends, so the log's next number is ours to count from.
        let first = self.stream.read().log.next();
        for record in batch.iter() {
            self.record(index, &record, first, now, &mut builder);
        }
        // The last records may have been passed over; the position moved all the same.
        let head = self.position.id().into();
        self.stream.write().log.append(builder.finish(), head);
        self.stream.changed();
    }

    fn record(
        &mut self,
        topic: usize,
        record: &Record<'_>,
        first: Sequence,
        now: u64,
        builder: &mut Builder,
    ) {
        let Some(next) = self.position.topics[topic]
            .next
            .get_mut(record.partition as usize)
        else {
            return;
        };
        *next = record.offset + 1;
        let (position, scratch) = (&self.position, &mut self.scratch);
        let written = self
            .encoder
            .write(record, builder.frame(), |out| position.write_id(scratch, out));
        match written {
            Ok(()) => {
                // A stream has far fewer topics than that: their names alone would fill the id.
                let topic = u16::try_from(topic).unwrap_or(u16::MAX);
                let sequence = first + builder.len();
                if !self.keep_latest(sequence, topic, record, now, builder.unfinished()) {
                    builder.discard_frame();
                    return;
                }
                builder.finish_frame(topic, record.partition, record.offset);
            }
            Err(cause) => self.passed_over(record, cause),
        }
    }

    /// Puts the record into the table, where the stream has one. Returns false for a record that is
    /// not its key's latest: another partition held a newer one, and clients must end with that.
    fn keep_latest(
        &mut self,
        sequence: Sequence,
        topic: u16,
        record: &Record<'_>,
        now: u64,
        frame: &[u8],
    ) -> bool {
        let Some(mut table) = self.stream.write_table() else {
            return true;
        };
        let Some(key) = record.key else {
            drop(table);
            if self.stream.keyless.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!(
                    "stream {}: topic {:?} partition {} offset {} has no key: such records are delivered live, \
                     but have no place in the table (said once)",
                    self.stream.settings().path,
                    record.topic,
                    record.partition,
                    record.offset
                );
            }
            return true;
        };
        let origin = Origin {
            topic,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
        };
        // While the topics are loaded, a tombstone's own time, so that a restart does not make old
        // deletes young again; afterwards the time at which clients could hear of it.
        let own = record.timestamp.and_then(|time| u64::try_from(time / 1000).ok());
        let made = own.filter(|_| !self.loading.is_empty()).unwrap_or(now).min(now);
        let deleted = record.value.is_none().then_some(made);
        let applied = table.apply(sequence, key, origin, deleted, frame::without_id(frame), now);
        drop(table);
        if matches!(applied, Applied::Evicted | Applied::Refused) {
            self.stream.displaced.fetch_add(1, Ordering::Relaxed);
            if let Some(unsaid) = self.table_errors.admit() {
                error!(
                    "stream {}: its table is full (max_keys, max_table_bytes): {}{unsaid}",
                    self.stream.settings().path,
                    if applied == Applied::Evicted {
                        "the key that was not updated for the longest time has left"
                    } else {
                        "a new key has no place; it is delivered live only"
                    }
                );
            }
        }
        applied != Applied::Older
    }

    fn passed_over(&mut self, record: &Record<'_>, cause: Invalid) {
        self.stream.count_invalid(cause);
        if let Some(unsaid) = self.warnings.admit() {
            warn!(
                "stream {}: passed over topic {:?} partition {} offset {}: {}{unsaid}",
                self.stream.settings().path,
                record.topic,
                record.partition,
                record.offset,
                cause.as_str()
            );
        }
    }

    fn loaded(&mut self, topic: &str) {
        let Some(index) = self.index(topic) else { return };
        self.loading.remove(&index);
        if self.loading.is_empty() {
            let mut state = self.stream.write();
            let head = state.log.next();
            state.loaded.get_or_insert(head);
            drop(state);
            self.stream.changed();
        }
    }
}
