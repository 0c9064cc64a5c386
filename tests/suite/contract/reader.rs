//! Reading threads of the daemon over real brokers, and an account of all that they deliver.
//!
//! The account is strict: a repeated offset, or one after a skipped offset that may hold a record, fails the test. The
//! expected records follow from the written ones and from the fields that the client library reads.

use crate::harness::broker::{Broker, Version};
use crate::harness::produce::{Message, Outcome, Written};
use crate::harness::wait::{ensure, eventually, secs};
use kafka_sse_bridge::config::{Client, Isolation};
use kafka_sse_bridge::kafka::connection::Connection;
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::kafka::reader_status::ReaderStatus;
use kafka_sse_bridge::kafka::record::{BEGINNING, Feed, Record};
use kafka_sse_bridge::kafka::security::Credentials;
use kafka_sse_bridge::kafka::stream_queues::StreamChannel;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Long enough for the replacement of a client on a busy machine.
pub const PATIENCE: Duration = secs(60);

/// One record, as it was written or as it was handed on.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub offset: i64,
    /// `None` where the client library gives none.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Option<Vec<u8>>| match bytes {
            None => "null".to_owned(),
            Some(bytes) if bytes.len() > 24 => format!("{} bytes", bytes.len()),
            Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        };
        let Self {
            offset, timestamp, ..
        } = self;
        write!(
            f,
            "{offset}: {} {} {timestamp:?}",
            text(&self.key),
            text(&self.value)
        )
    }
}

impl Entry {
    fn of(record: &Record<'_>) -> Self {
        Self {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
        }
    }

    /// By nature the `kafka` crate cannot tell empty from null, and knows no times.
    fn as_seen_by(&self, client: Client) -> Self {
        if client != Client::Kafka {
            return self.clone();
        }
        let present = |bytes: &Option<Vec<u8>>| bytes.clone().filter(|bytes| !bytes.is_empty());
        Self {
            offset: self.offset,
            timestamp: None,
            key: present(&self.key),
            value: present(&self.value),
        }
    }
}

/// Offsets that were passed without a record, and why that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub partition: usize,
    pub from: i64,
    pub to: i64,
    /// Whether the streams learned that reading continues at a later offset.
    pub is_announced: bool,
}

/// The feeds that one reader received for a topic.
#[derive(Default)]
pub struct Received {
    next: Vec<i64>,
    pub records: Vec<Vec<Entry>>,
    pub passed: Vec<Passed>,
    pub assigned: usize,
    pub recreated: usize,
    pub is_loaded: bool,
}

impl Received {
    pub fn count(&self) -> usize {
        self.records.iter().map(Vec::len).sum()
    }

    /// Records of each partition.
    pub fn counts(&self) -> Vec<usize> {
        self.records.iter().map(Vec::len).collect()
    }
}

/// A reading thread.
pub struct Reader {
    pub client: Client,
    pub isolation: Isolation,
    pub status: Arc<ReaderStatus>,
    topics: BTreeMap<String, Received>,
    feeds: mpsc::Receiver<Feed>,
    handle: Option<ReaderHandle>,
}

/// How a reader reads.
#[derive(Clone, Copy)]
pub struct Plan {
    pub client: Client,
    pub isolation: Isolation,
    pub start: StartOffset,
    /// Feeds that wait for the test.
    pub capacity: usize,
}

impl Plan {
    pub fn of(client: Client) -> Self {
        Self {
            client,
            isolation: match client {
                Client::Kafka => Isolation::ReadUncommitted,
                _ => Isolation::ReadCommitted,
            },
            start: StartOffset::Earliest,
            capacity: 1024,
        }
    }

    /// One of each client that can read from these brokers.
    pub fn all(version: Version) -> Vec<Self> {
        let clients: &[Client] = match version {
            Version::V3_9 => &[Client::Librdkafka, Client::Kafka],
            Version::V4_4 => &[Client::Librdkafka],
        };
        clients.iter().copied().map(Self::of).collect()
    }
}

impl Reader {
    pub fn start(brokers: Vec<String>, topics: &[&str], plan: Plan) -> Self {
        let [reader] = Self::beside(brokers, [("/events", topics, plan.capacity)], plan);
        reader
    }

    /// Several streams of one reading thread, each with its path, its topics and how many feeds wait for it.
    pub fn beside<const N: usize>(
        brokers: Vec<String>,
        streams: [(&str, &[&str], usize); N],
        plan: Plan,
    ) -> [Self; N] {
        let channels = streams.map(|(stream, topics, capacity)| (stream, topics, mpsc::channel(capacity)));
        let mut plans: BTreeMap<&str, TopicPlan> = BTreeMap::new();
        for (stream, topics, (feed, _)) in &channels {
            for &name in *topics {
                let topic = plans.entry(name).or_insert_with(|| TopicPlan {
                    name: name.into(),
                    start: plan.start,
                    feeds: Vec::new(),
                });
                topic.feeds.push(StreamChannel {
                    stream: (*stream).into(),
                    feed: feed.clone(),
                    has_table: false,
                });
            }
        }
        let plans: Vec<TopicPlan> = plans.into_values().collect();
        let connection = Connection {
            brokers,
            client: plan.client,
            isolation: plan.isolation,
            credentials: Credentials::default(),
            librdkafka: Vec::new(),
            needs_headers: false,
            needs_librdkafka: None,
        };
        let status = Arc::new(ReaderStatus::default());
        let reader = ReaderHandle::spawn(connection, plans, Arc::clone(&status)).expect("a thread");
        // The first one to go ends the thread.
        let mut reader = Some(reader);
        channels.map(|(_, topics, (_, feeds))| Self {
            client: plan.client,
            isolation: plan.isolation,
            topics: topics
                .iter()
                .map(|&name| (name.to_owned(), Received::default()))
                .collect(),
            status: Arc::clone(&status),
            feeds,
            handle: reader.take(),
        })
    }

    /// How many feeds wait to be taken.
    pub fn waiting(&self) -> usize {
        self.feeds.len()
    }

    pub fn received(&self, topic: &str) -> &Received {
        &self.topics[topic]
    }

    /// The problems with Kafka, as the daemon reports them.
    pub fn troubles(&self) -> String {
        self.status.snapshot().degraded.join("; ")
    }

    /// Takes all that was handed on since.
    pub fn take(&mut self) {
        while let Ok(feed) = self.feeds.try_recv() {
            self.receive(&feed);
        }
    }

    /// Takes until `holds`.
    #[track_caller]
    pub fn until(&mut self, within: Duration, what: &str, holds: impl Fn(&Self) -> Result<(), String>) {
        eventually(within, &format!("{}: {what}", self.client), || {
            self.take();
            let had = self.status.counters().errors();
            holds(self).map_err(|why| format!("{why}; wrong now: {:?}; was: {had:?}", self.troubles()))
        });
    }

    fn receive(&mut self, feed: &Feed) {
        let client = self.client;
        match feed {
            Feed::Recreated { topic } => {
                let received = self.topics.get_mut(&**topic).expect("a topic of ours");
                *received = Received {
                    assigned: received.assigned,
                    recreated: received.recreated + 1,
                    is_loaded: received.is_loaded,
                    ..Received::default()
                };
            }
            Feed::Begun { .. } | Feed::Truncated { .. } | Feed::AtEnd { .. } => {}
            Feed::Assigned { topic, next, .. } => {
                let received = self.topics.get_mut(&**topic).expect("a topic of ours");
                received.assigned += 1;
                assert!(next.len() >= received.next.len(), "{client}: {topic} shrinks");
                for (partition, (&old, &new)) in received.next.iter().zip(next).enumerate() {
                    assert!(
                        new >= old,
                        "{client}: {topic}/{partition} goes back from {old} to {new}"
                    );
                    if new > old && old != BEGINNING {
                        received.passed.push(Passed {
                            partition,
                            from: old,
                            to: new,
                            is_announced: true,
                        });
                    }
                }
                received.next.clone_from(next);
                received.records.resize(next.len(), Vec::new());
            }
            Feed::Records(batch) => {
                let received = self.topics.get_mut(&**batch.topic()).expect("a topic of ours");
                for record in batch.iter() {
                    let (partition, offset) = (record.partition as usize, record.offset);
                    let next = &mut received.next[partition];
                    assert!(
                        offset >= *next,
                        "{client}: {} / {partition}: {offset} comes after {}",
                        record.topic,
                        *next - 1
                    );
                    if offset > *next && *next != BEGINNING {
                        received.passed.push(Passed {
                            partition,
                            from: *next,
                            to: offset,
                            is_announced: false,
                        });
                    }
                    *next = offset + 1;
                    received.records[partition].push(Entry::of(&record));
                }
            }
            Feed::Loaded { topic } => {
                self.topics.get_mut(&**topic).expect("a topic of ours").is_loaded = true;
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.feeds.close();
        while self.feeds.try_recv().is_ok() {}
        if let Some(reader) = self.handle.take() {
            let thread = reader.stop();
            // One that hangs in the `kafka` crate for two minutes is not waited for after a failure.
            if !std::thread::panicking() {
                let _ = thread.join();
            }
        }
    }
}

/// The records written to a topic.
#[derive(Default)]
struct Content {
    partitions: Vec<Vec<(Entry, Outcome)>>,
}

/// A broker, the records that the test has written there, and readers that must deliver them.
pub struct Bench {
    pub broker: Arc<Broker>,
    pub readers: Vec<Reader>,
    written: BTreeMap<String, Content>,
}

impl Bench {
    /// On the broker that all tests share.
    pub fn shared(version: Version) -> Self {
        Self::on(Broker::shared(version))
    }

    pub fn on(broker: Arc<Broker>) -> Self {
        Self {
            broker,
            readers: Vec::new(),
            written: BTreeMap::new(),
        }
    }

    /// Lets one reader of every client begin.
    pub fn read(&mut self, topics: &[&str]) {
        for plan in Plan::all(self.broker.version()) {
            self.read_with(topics, plan);
        }
    }

    pub fn read_with(&mut self, topics: &[&str], plan: Plan) {
        let brokers = vec![self.broker.bootstrap()];
        self.readers.push(Reader::start(brokers, topics, plan));
    }

    /// Writes, with times of the test's own, and expects that every reader is given it.
    pub fn write(&mut self, topic: &str, messages: &[Message], properties: &[(&str, &str)]) -> Vec<Written> {
        let messages: Vec<Message> = messages.iter().cloned().map(stamped).collect();
        let written = self.broker.produce_with(topic, &messages, properties);
        self.note(topic, &messages, &written, Outcome::Commit);
        written
    }

    /// The same in a transaction.
    pub fn write_transaction(&mut self, topic: &str, messages: &[Message], outcome: Outcome) {
        let messages: Vec<Message> = messages.iter().cloned().map(stamped).collect();
        let written = self.broker.produce_transaction(topic, &messages, outcome);
        self.note(topic, &messages, &written, outcome);
    }

    /// Expects that readers deliver records that another program has written.
    pub fn note(&mut self, topic: &str, messages: &[Message], written: &[Written], outcome: Outcome) {
        let content = self.written.entry(topic.to_owned()).or_default();
        for (message, place) in messages.iter().zip(written) {
            let partition = usize::try_from(place.partition).expect("a partition");
            if content.partitions.len() <= partition {
                content.partitions.resize(partition + 1, Vec::new());
            }
            let entry = Entry {
                offset: place.offset,
                timestamp: message.timestamp,
                key: message.key.clone(),
                value: message.value.clone(),
            };
            content.partitions[partition].push((entry, outcome));
        }
        for partition in &mut content.partitions {
            partition.sort_by_key(|(entry, _)| entry.offset);
        }
    }

    /// Expects no longer any record written so far.
    pub fn forget(&mut self, topic: &str) {
        self.written.remove(topic);
    }

    /// The records written to one partition, as a reader must receive them.
    pub fn expected(&self, topic: &str, partition: usize, reader: &Reader) -> Vec<Entry> {
        let content = self.written.get(topic);
        let entries = content.and_then(|content| content.partitions.get(partition));
        entries
            .into_iter()
            .flatten()
            .filter(|(_, outcome)| {
                *outcome == Outcome::Commit || reader.isolation == Isolation::ReadUncommitted
            })
            .map(|(entry, _)| entry.as_seen_by(reader.client))
            .collect()
    }

    /// All readers are given all of these topics: each record once, in order, and nothing else; no offset is
    /// passed over.
    #[track_caller]
    pub fn whole(&mut self, topics: &[&str]) {
        self.given(topics);
        for reader in &self.readers {
            for &topic in topics {
                let passed = &reader.received(topic).passed;
                assert!(passed.is_empty(), "{}: {topic}: {passed:?}", reader.client);
            }
        }
    }

    /// The same, but there may be offsets without a record.
    #[track_caller]
    pub fn given(&mut self, topics: &[&str]) {
        self.given_within(PATIENCE, topics);
    }

    #[track_caller]
    pub fn given_within(&mut self, within: Duration, topics: &[&str]) {
        let mut readers = std::mem::take(&mut self.readers);
        for reader in &mut readers {
            for &topic in topics {
                let count = self
                    .written
                    .get(topic)
                    .map_or(0, |content| content.partitions.len());
                let expected: Vec<Vec<Entry>> = (0..count)
                    .map(|partition| self.expected(topic, partition, reader))
                    .collect();
                let all: usize = expected.iter().map(Vec::len).sum();
                reader.until(within, &format!("all of {topic} is handed on"), |reader| {
                    let received = reader.received(topic);
                    ensure(
                        received.count() >= all && received.is_loaded,
                        format!("{:?} of {all}, loaded: {}", received.counts(), received.is_loaded),
                    )
                });
                for (partition, expected) in expected.iter().enumerate() {
                    let records = &reader.received(topic).records[partition];
                    same(
                        records,
                        expected,
                        &format!("{}: {topic}/{partition}", reader.client),
                    );
                }
            }
        }
        self.readers = readers;
    }
}

/// # Panics
/// Where they first differ, without all that is equal.
#[track_caller]
pub fn same(records: &[Entry], expected: &[Entry], at: &str) {
    for (index, (record, expected)) in records.iter().zip(expected).enumerate() {
        assert_eq!(record, expected, "{at}: record {index}");
    }
    assert_eq!(records.len(), expected.len(), "{at}: how many");
}

/// With a time, so that it can be compared.
pub fn stamped(message: Message) -> Message {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_millis();
    Message {
        timestamp: message.timestamp.or(i64::try_from(now).ok()),
        ..message
    }
}
