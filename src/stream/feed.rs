//! The writing side of a stream: turns what the Kafka room hands over into blocks of the log.
//!
//! One task per stream runs [`run`]. A [`Feeder`] is the same without tokio, one call per
//! [`Feed`], so that tests can drive it step by step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use log::{error, warn};
use tokio::sync::mpsc;

use super::encode::{Encoder, Invalid};
use super::log::Builder;
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
    loading: BTreeSet<usize>,
    unassigned: BTreeSet<usize>,
    scratch: Vec<u8>,
    warnings: Seldom,
}

impl Feeder {
    /// The one feeder of `stream`.
    #[must_use]
    pub fn new(stream: Arc<Stream>) -> Self {
        let settings = stream.settings();
        let topics = 0..settings.topics.len();
        Self {
            encoder: Encoder::new(settings),
            position: Position {
                topics: settings
                    .topics
                    .iter()
                    .map(|name| TopicPosition::unread(name))
                    .collect(),
            },
            loading: topics.clone().collect(),
            unassigned: topics.collect(),
            scratch: Vec::new(),
            warnings: Seldom::new(WARNING_PAUSE),
            stream,
        }
    }

    /// Takes what the Kafka room has to say.
    pub fn take(&mut self, feed: &Feed) {
        if self.stream.failure().is_some() {
            return;
        }
        match feed {
            Feed::Assigned { topic, next } => self.assigned(topic, next),
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

    fn assigned(&mut self, topic: &str, next: &[i64]) {
        let Some(index) = self.index(topic) else { return };
        self.position.topics[index].next = next.to_vec();
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
            drop(state);
            self.stream.changed();
        }
    }

    fn records(&mut self, batch: &Batch) {
        let Some(index) = self.index(batch.topic()) else {
            return;
        };
        let mut builder = Builder::new(self.position.id().into());
        for record in batch.iter() {
            self.record(index, &record, &mut builder);
        }
        // The last records may have been passed over; the position moved all the same.
        let head = self.position.id().into();
        self.stream.write().log.append(builder.finish(), head);
        self.stream.changed();
    }

    fn record(&mut self, topic: usize, record: &Record<'_>, builder: &mut Builder) {
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
                builder.finish_frame(topic, record.partition, record.offset);
            }
            Err(cause) => self.passed_over(record, cause),
        }
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
