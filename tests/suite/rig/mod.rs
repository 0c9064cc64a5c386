//! A stream without Kafka or sockets: the test feeds it, and drives its clients step by step.

mod broker;
mod client;
pub mod clock;
mod record;

pub use broker::MemoryBroker;
pub use client::{Client, apply, event, line, run};
pub use record::{Rec, rec, tombstone, value};

use kafka_sse_bridge::config::filter::{Filter, FilterError, Name};
use kafka_sse_bridge::config::{Format, Start, StreamSettings};
use kafka_sse_bridge::decode::feeds::FeedDecoder;
use kafka_sse_bridge::kafka::history::Archive;
use kafka_sse_bridge::kafka::record::{Batch, Feed, TopicId};
use kafka_sse_bridge::stream::history_reads::HistoryReads;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::writer::Writer;
use kafka_sse_bridge::stream::{Stream, live_settings::Pace};
use kafka_sse_bridge::writers::write_replay;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const PACE: Pace = Pace {
    keepalive: Duration::from_secs(15),
    retry: Duration::from_secs(2),
    max_lifetime: Duration::ZERO,
};

/// The settings of a stream over so many topics, which are named `t`, `u` and `v`.
pub fn settings(topics: usize, change: impl FnOnce(&mut StreamSettings)) -> StreamSettings {
    let mut settings = StreamSettings {
        path: "/x".to_owned(),
        topics: ["t", "u", "v"][..topics]
            .iter()
            .map(ToString::to_string)
            .collect(),
        ..StreamSettings::default()
    };
    change(&mut settings);
    settings
}

/// A topic begins to be read at these offsets, and holds nothing before.
pub fn assigned(topic: &str, next: &[i64]) -> Feed {
    Feed::Assigned {
        topic: topic.into(),
        id: None,
        next: next.to_vec(),
        low: vec![0; next.len()],
    }
}

/// A stream, its writer, and the Kafka that both read.
pub struct Rig {
    pub stream: Arc<Stream>,
    pub writer: Writer,
    pub broker: Arc<MemoryBroker>,
    /// The next offset of every partition of every topic.
    pub next: Vec<Vec<i64>>,
    /// The id that all topics have.
    pub id: Option<TopicId>,
}

impl Rig {
    /// With one topic of one partition, empty and loaded.
    pub fn ready(change: impl FnOnce(&mut StreamSettings)) -> Self {
        Self::with(&[1], false, change)
    }

    /// With so many partitions per topic, empty and loaded, and perhaps with Kafka to read history from.
    pub fn with(partitions: &[usize], has_archive: bool, change: impl FnOnce(&mut StreamSettings)) -> Self {
        let mut rig = Self::unassigned(partitions, has_archive, change);
        rig.assign_all();
        rig.load();
        rig
    }

    /// With topic `t` of two partitions and `u` of one, whose records are sent in envelopes.
    pub fn enveloped(start: Start, change: impl FnOnce(&mut StreamSettings)) -> Self {
        Self::with(&[2, 1], true, |settings| {
            settings.format = Format::Envelope;
            settings.start = start;
            change(settings);
        })
    }

    /// With so many partitions per topic, empty and still being loaded.
    pub fn loading(partitions: &[usize], change: impl FnOnce(&mut StreamSettings)) -> Self {
        let mut rig = Self::unassigned(partitions, false, change);
        rig.assign_all();
        rig
    }

    /// With topics that are read from these offsets, hold so many records, and are loaded.
    pub fn starting_at(
        next: &[Vec<i64>],
        counts: &[Vec<usize>],
        has_archive: bool,
        change: impl FnOnce(&mut StreamSettings),
    ) -> Self {
        let partitions: Vec<usize> = next.iter().map(Vec::len).collect();
        let mut rig = Self::unassigned(&partitions, has_archive, change);
        rig.broker.fill(counts);
        rig.next = next.to_vec();
        rig.assign_all();
        rig.load();
        rig
    }

    /// With so many partitions per topic, of which the stream knows nothing yet.
    pub fn unassigned(
        partitions: &[usize],
        has_archive: bool,
        change: impl FnOnce(&mut StreamSettings),
    ) -> Self {
        let broker = MemoryBroker::new(partitions);
        let history = has_archive.then(|| history(Arc::clone(&broker) as _));
        let stream = Stream::new(settings(partitions.len(), change), PACE, history);
        Self::over(stream, broker)
    }

    /// Over a stream of the test's making, whose topics have so many partitions and are still being loaded.
    pub fn of(stream: Arc<Stream>, partitions: &[usize]) -> Self {
        let mut rig = Self::over(stream, MemoryBroker::new(partitions));
        rig.assign_all();
        rig
    }

    fn over(stream: Arc<Stream>, broker: Arc<MemoryBroker>) -> Self {
        let records = broker.records();
        Self {
            writer: Writer::new(Arc::clone(&stream)),
            stream,
            broker,
            next: records.iter().map(|topic| vec![0; topic.len()]).collect(),
            id: None,
        }
    }

    fn assign_all(&mut self) {
        for topic in 0..self.next.len() {
            self.assign(topic, &self.next[topic].clone());
        }
    }

    /// All topics have been read up to the ends that they had at the start.
    pub fn load(&mut self) {
        for topic in 0..self.next.len() {
            let topic = self.name(topic);
            self.writer.take(&Feed::Loaded { topic });
        }
    }

    /// A topic was read to the end that it had at that time.
    pub fn at_end(&mut self, topic: usize, at: Instant) {
        let topic = self.name(topic);
        self.writer.take(&Feed::AtEnd { topic, at });
    }

    fn name(&self, topic: usize) -> Arc<str> {
        self.stream.settings().topics[topic].as_str().into()
    }

    /// Reading of a topic continues at these offsets.
    pub fn assign(&mut self, topic: usize, next: &[i64]) {
        self.next[topic] = next.to_vec();
        self.writer.take(&Feed::Assigned {
            topic: self.name(topic),
            id: self.id,
            next: next.to_vec(),
            low: self.broker.low.lock().unwrap()[topic].clone(),
        });
    }

    /// Adds partitions to a topic, up to so many, without notice to the stream.
    pub fn grow(&mut self, topic: usize, partitions: usize) {
        self.broker.records.lock().unwrap()[topic].resize(partitions, Vec::new());
        self.broker.low.lock().unwrap()[topic].resize(partitions, 0);
        self.next[topic].resize(partitions, 0);
    }

    /// A partition of the first topic that had no leader gets one. It ends at `at` and is read from `next`.
    pub fn elect(&mut self, partition: u32, at: i64, next: i64) {
        let topic = self.name(0);
        self.writer.take(&Feed::Begun { topic, partition, at });
        self.next[0][partition as usize] = next;
        self.assign(0, &self.next[0].clone());
    }

    /// Delivers records of the first topic that Kafka holds.
    pub fn deliver(&mut self, partition: u32, offsets: std::ops::Range<i64>) {
        let mut batch = Batch::new(self.name(0));
        for offset in offsets.clone() {
            let at = usize::try_from(offset).expect("not negative");
            self.broker.records.lock().unwrap()[0][partition as usize][at]
                .clone()
                .partition(partition)
                .push(&mut batch, offset);
        }
        self.next[0][partition as usize] = offsets.end;
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }

    /// Retention deletes the records before these offsets, including those that have not been read.
    pub fn expire(&mut self, topic: usize, to: &[i64]) {
        let mut next = self.next[topic].clone();
        for (partition, &to) in to.iter().enumerate() {
            let records = &mut self.broker.records.lock().unwrap()[topic][partition];
            let length = usize::try_from(to).expect("not negative").max(records.len());
            records.resize(length, Rec::default());
            self.broker.low.lock().unwrap()[topic][partition] = to;
            next[partition] = next[partition].max(to);
        }
        self.assign(topic, &next);
    }

    /// A topic is recreated with so many partitions.
    pub fn recreate(&mut self, topic: usize, partitions: usize) {
        self.broker.records.lock().unwrap()[topic] = vec![Vec::new(); partitions];
        self.broker.low.lock().unwrap()[topic] = vec![0; partitions];
        self.writer.take(&Feed::Recreated {
            topic: self.name(topic),
        });
        self.assign(topic, &vec![0; partitions]);
    }

    /// The log of a partition of the first topic is truncated at `from`, behind a record of leader epoch `epoch`. The
    /// last lost record has epoch `lost`. A table reads the topic again from its beginning.
    pub fn truncate(&mut self, partition: u32, from: i64, epoch: Option<u32>, lost: Option<u32>) {
        let topic = self.name(0);
        let index = partition as usize;
        self.broker.records.lock().unwrap()[0][index].truncate(usize::try_from(from).expect("not negative"));
        self.writer.take(&Feed::Truncated {
            topic,
            partition,
            from,
            epoch,
            lost,
        });
        self.next[0][index] = from;
        let ends = self.next[0].clone();
        if self.stream.settings().has_table() {
            self.assign(0, &vec![0; ends.len()]);
            for (partition, end) in (0..).zip(ends) {
                self.deliver(partition, 0..end);
            }
        } else {
            self.assign(0, &ends);
        }
    }

    /// Another replica of the same topics, which has read what Kafka holds.
    pub fn other(&self, start: Start) -> Self {
        let records = self.broker.records();
        let partitions: Vec<usize> = records.iter().map(Vec::len).collect();
        let mut other = Self::with(&partitions, true, |settings| {
            settings.clone_from(self.stream.settings());
            settings.start = start;
        });
        for (topic, partitions) in records.iter().enumerate() {
            for record in partitions.iter().flatten() {
                other.records(std::slice::from_ref(&record.clone().topic(topic)));
            }
        }
        other
    }

    /// Another replica of the same topics, which has read nothing yet of what Kafka holds.
    pub fn unread(&self, start: Start) -> Self {
        let records = self.broker.records();
        let partitions: Vec<usize> = records.iter().map(Vec::len).collect();
        let mut other = Self::unassigned(&partitions, true, |settings| {
            settings.clone_from(self.stream.settings());
            settings.start = start;
        });
        other.broker.set_records(records);
        other.assign_all();
        other
    }

    /// The id of a client at the head.
    pub fn position(&self) -> Vec<u8> {
        self.stream.figures().position.expect("a position").id()
    }

    /// Writes records of one topic, and delivers them in one batch.
    pub fn records(&mut self, records: &[Rec]) {
        let topic = records.first().map_or(0, |record| record.topic);
        let mut batch = Batch::new(self.name(topic));
        for record in records {
            let next = &mut self.next[topic][record.partition as usize];
            record.push(&mut batch, *next);
            *next += 1;
            self.broker.records.lock().unwrap()[topic][record.partition as usize].push(record.clone());
        }
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }

    /// Writes more than a small log holds.
    pub fn flood(&mut self, topic: usize) {
        for number in 0..20 {
            let value = format!("\"{number}{}\"", "x".repeat(100_000));
            self.records(&[rec("flood", value).topic(topic)]);
        }
    }

    pub fn open(&self, opening: Opening) -> Client {
        Client::of(self.stream.subscribe(opening))
    }

    /// A client that starts as the stream does.
    pub fn client(&self, filter: &[(&str, &str)]) -> Client {
        self.open(self.opening(filter))
    }

    pub fn client_at(&self, start: Start, filter: &[(&str, &str)]) -> Client {
        self.open(Opening {
            start: Some(start),
            ..self.opening(filter)
        })
    }

    /// A client that resumes.
    pub fn resume(&self, id: &str, filter: &[(&str, &str)]) -> Client {
        self.open(Opening {
            last_event_id: Some(id.to_owned()),
            ..self.opening(filter)
        })
    }

    fn opening(&self, terms: &[(&str, &str)]) -> Opening {
        let filter = filter(terms, &self.stream.settings().topics).expect("a filter");
        Opening {
            filter: (!filter.is_empty()).then_some(filter),
            ..Opening::default()
        }
    }
}

/// The filter of these names and values, as a query would have it.
pub fn filter(terms: &[(&str, &str)], topics: &[String]) -> Result<Filter, FilterError> {
    let mut filter = Filter::default();
    for (name, value) in terms {
        let name = Name::parse(name)?.expect("a filter's name");
        filter.add(name, value, topics)?;
    }
    Ok(filter)
}

/// History that is read from `archive`, with replays on the caller's runtime.
pub fn history(archive: Arc<dyn Archive>) -> HistoryReads {
    // Records are decoded before they are given to a rig.
    let decoder = || FeedDecoder::new(&StreamSettings::default(), None);
    HistoryReads::new(
        archive,
        Box::new(move |task| drop(tokio::spawn(write_replay(task, decoder())))),
    )
}
