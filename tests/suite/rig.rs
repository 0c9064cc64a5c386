//! A stream without Kafka or sockets: the test is its feed, and drives its readers step by step.

use crate::harness::sse::{Event, Item, Parser};
use kafka_sse_bridge::config::filter::{Filter, FilterError, Name};
use kafka_sse_bridge::config::{Start, StreamSettings};
use kafka_sse_bridge::kafka::history::{
    Archive, Busy, OffsetLookup, OffsetRange, OffsetSpec, ReplayRequest, ReplaySlot, SlotLimits,
};
use kafka_sse_bridge::kafka::record::{Batch, Feed, Stamp, TopicId};
use kafka_sse_bridge::stream::history_reads::HistoryReads;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use kafka_sse_bridge::stream::writer::Writer;
use kafka_sse_bridge::stream::{Stream, live_settings::Pace};
use kafka_sse_bridge::writers::write_replay;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// A record to be fed.
#[derive(Clone, Default)]
pub struct Rec {
    pub topic: usize,
    pub partition: u32,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
    /// The epoch of the leader that wrote it.
    pub epoch: Option<u32>,
}

impl fmt::Debug for Rec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (text(name), value.as_ref().map(text)));
        let (key, value) = (self.key.as_ref().map(text), self.value.as_ref().map(text));
        let place = (self.topic, self.partition, self.timestamp);
        write!(
            out,
            "{place:?} {key:?} {value:?} {:?}",
            headers.collect::<Vec<_>>()
        )
    }
}

/// A record with a key and a value.
pub fn rec(key: &str, value: impl Into<Vec<u8>>) -> Rec {
    Rec {
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.into()),
        ..Rec::default()
    }
}

/// A tombstone.
pub fn gone(key: &str) -> Rec {
    Rec {
        value: None,
        ..rec(key, "")
    }
}

impl Rec {
    pub fn topic(mut self, topic: usize) -> Self {
        self.topic = topic;
        self
    }

    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = partition;
        self
    }

    pub fn epoch(mut self, epoch: u32) -> Self {
        self.epoch = Some(epoch);
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.as_bytes().to_vec(), Some(value.into())));
        self
    }

    pub fn push(&self, batch: &mut Batch, offset: i64) {
        let stamp = Stamp {
            partition: self.partition,
            offset,
            timestamp: self.timestamp,
        };
        let headers = self.headers.iter();
        batch.push_of(
            self.epoch,
            stamp,
            self.key.as_deref(),
            self.value.as_deref(),
            headers.map(|(name, value)| (name.as_slice(), value.as_deref())),
        );
    }
}

/// The records of the topics by topic, partition and offset: a broker in memory.
#[derive(Debug, Default)]
pub struct Past {
    records: Mutex<Vec<Vec<Vec<Rec>>>>,
    /// The first offset of every partition that is still there.
    low: Mutex<Vec<Vec<i64>>>,
    /// How often history was read.
    pub reads: AtomicUsize,
}

impl Past {
    /// All records, by topic, partition and offset.
    pub fn records(&self) -> Vec<Vec<Vec<Rec>>> {
        self.records.lock().unwrap().clone()
    }

    fn feeds(&self, request: &ReplayRequest) -> Vec<Feed> {
        let (topics, low) = (self.records.lock().unwrap(), self.low.lock().unwrap());
        let mut feeds = Vec::new();
        for ((name, ranges), (records, low)) in request.topics.iter().zip(topics.iter().zip(&*low)) {
            let from = |(range, low): (&OffsetRange, &i64)| range.from.max((*low).min(range.to));
            let next: Vec<i64> = ranges.iter().zip(low).map(from).collect();
            feeds.push(Feed::Assigned {
                topic: Arc::clone(name),
                id: None,
                next: next.clone(),
                low: low.clone(),
            });
            for ((range, records), next) in ranges.iter().zip(records).zip(next) {
                let wanted = (0..)
                    .zip(records)
                    .filter(|(offset, _)| (next..range.to).contains(offset));
                // Small batches, so that replays take several turns.
                for piece in wanted.collect::<Vec<_>>().chunks(7) {
                    let mut batch = Batch::new(Arc::clone(name));
                    for (offset, record) in piece {
                        record.push(&mut batch, *offset);
                    }
                    feeds.push(Feed::Records(Arc::new(batch)));
                }
            }
        }
        feeds.extend(request.topics.iter().map(|(topic, _)| Feed::Loaded {
            topic: Arc::clone(topic),
        }));
        feeds
    }
}

impl Archive for Past {
    fn replay(&self, request: ReplayRequest) -> Result<ReplaySlot, Busy> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let feeds = self.feeds(&request);
        tokio::spawn(async move {
            for feed in feeds {
                if request.feed.send(feed).await.is_err() {
                    return;
                }
            }
        });
        let terms = SlotLimits {
            max_bytes: usize::MAX,
            slow_reader_timeout: Duration::from_secs(3600),
        };
        Ok(ReplaySlot::new(terms, || {}))
    }

    fn is_contended(&self) -> bool {
        false
    }

    fn look_up(&self, lookup: OffsetLookup) -> Result<(), Busy> {
        let topics = self.records.lock().unwrap();
        let end = |records: &Vec<Rec>| i64::try_from(records.len()).expect("few");
        let answer = |(ask, records): (&OffsetSpec, &Vec<Rec>)| match ask {
            OffsetSpec::Skip => None,
            OffsetSpec::Latest => Some(end(records)),
            OffsetSpec::Timestamp(time) => {
                let found = (0..)
                    .zip(records)
                    .find(|(_, record)| record.timestamp >= Some(*time));
                Some(found.map_or(end(records), |(offset, _)| offset))
            }
        };
        let asked = lookup.topics.iter().zip(&*topics);
        let offsets = asked.map(|((_, asks), topic)| asks.iter().zip(topic).map(answer).collect());
        let offsets = offsets.collect();
        drop(topics);
        lookup.is_started.store(true, Ordering::SeqCst);
        (lookup.reply)(Ok(offsets));
        Ok(())
    }

    fn lacks_times_and_headers(&self) -> bool {
        false
    }
}

pub const PACE: Pace = Pace {
    keepalive: Duration::from_secs(15),
    retry: Duration::from_secs(2),
    max_lifetime: Duration::ZERO,
};

/// The stream and what feeds it. Topics are named `t`, `u`, `v`.
pub struct Rig {
    pub stream: Arc<Stream>,
    pub writer: Writer,
    pub past: Arc<Past>,
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

    /// With so many partitions per topic, empty and loaded, and perhaps with Kafka to read the past from.
    pub fn with(partitions: &[usize], has_archive: bool, change: impl FnOnce(&mut StreamSettings)) -> Self {
        let next: Vec<Vec<i64>> = partitions.iter().map(|count| vec![0; *count]).collect();
        let past: Vec<Vec<usize>> = partitions.iter().map(|count| vec![0; *count]).collect();
        Self::begun(&next, &past, has_archive, change)
    }

    /// With so many partitions per topic, empty and still being loaded.
    pub fn loading(partitions: &[usize], change: impl FnOnce(&mut StreamSettings)) -> Self {
        let next: Vec<Vec<i64>> = partitions.iter().map(|count| vec![0; *count]).collect();
        let past: Vec<Vec<usize>> = partitions.iter().map(|count| vec![0; *count]).collect();
        Self::assigned(&next, &past, false, change)
    }

    /// With topics that are read from these offsets, hold so many records, and are loaded.
    pub fn begun(
        next: &[Vec<i64>],
        past_records: &[Vec<usize>],
        has_archive: bool,
        change: impl FnOnce(&mut StreamSettings),
    ) -> Self {
        let mut rig = Self::assigned(next, past_records, has_archive, change);
        rig.loaded();
        rig
    }

    fn assigned(
        next: &[Vec<i64>],
        past_records: &[Vec<usize>],
        has_archive: bool,
        change: impl FnOnce(&mut StreamSettings),
    ) -> Self {
        let partitions: Vec<usize> = next.iter().map(Vec::len).collect();
        let mut settings = StreamSettings {
            path: "/x".to_owned(),
            topics: ["t", "u", "v"][..partitions.len()]
                .iter()
                .map(ToString::to_string)
                .collect(),
            ..StreamSettings::default()
        };
        change(&mut settings);
        let past = Arc::new(Past::default());
        let numbered = |(partition, count): (u32, &usize)| {
            let past = |number| rec("k", format!("past-{number}")).partition(partition);
            (0..*count).map(past).collect()
        };
        let of_topic = |counts: &Vec<usize>| (0..).zip(counts).map(numbered).collect();
        *past.records.lock().unwrap() = past_records.iter().map(of_topic).collect();
        *past.low.lock().unwrap() = partitions.iter().map(|count| vec![0; *count]).collect();
        let history = has_archive.then(|| history(Arc::clone(&past) as _));
        let stream = Stream::new(settings, PACE, history);
        let mut rig = Self {
            past,
            writer: Writer::new(Arc::clone(&stream)),
            stream,
            next: next.to_vec(),
            id: None,
        };
        for topic in 0..partitions.len() {
            rig.assign(topic, &rig.next[topic].clone());
        }
        rig
    }

    /// All topics have been read up to the ends that they had at the start.
    pub fn loaded(&mut self) {
        for topic in 0..self.next.len() {
            let topic = self.name(topic);
            self.writer.take(&Feed::Loaded { topic });
        }
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
            low: self.past.low.lock().unwrap()[topic].clone(),
        });
    }

    /// Adds a partition to a topic without notice to the stream.
    pub fn grow(&mut self, topic: usize) {
        self.past.records.lock().unwrap()[topic].push(Vec::new());
        self.past.low.lock().unwrap()[topic].push(0);
        self.next[topic].push(0);
    }

    /// A partition of the first topic that had no leader has one, and ends at `at`; it is read from `next` on.
    pub fn led(&mut self, partition: u32, at: i64, next: i64) {
        let topic = self.name(0);
        self.writer.take(&Feed::Begun { topic, partition, at });
        self.next[0][partition as usize] = next;
        self.assign(0, &self.next[0].clone());
    }

    /// Hands on records of the first topic that Kafka holds.
    pub fn hand_on(&mut self, partition: u32, offsets: std::ops::Range<i64>) {
        let mut batch = Batch::new(self.name(0));
        for offset in offsets.clone() {
            let at = usize::try_from(offset).expect("not negative");
            self.past.records.lock().unwrap()[0][partition as usize][at]
                .clone()
                .partition(partition)
                .push(&mut batch, offset);
        }
        self.next[0][partition as usize] = offsets.end;
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }

    /// Retention takes what lies before these offsets, and overtakes reading where that is not so far.
    pub fn lose(&mut self, topic: usize, to: &[i64]) {
        let mut next = self.next[topic].clone();
        for (partition, &to) in to.iter().enumerate() {
            let records = &mut self.past.records.lock().unwrap()[topic][partition];
            let length = usize::try_from(to).expect("not negative").max(records.len());
            records.resize(length, Rec::default());
            self.past.low.lock().unwrap()[topic][partition] = to;
            next[partition] = next[partition].max(to);
        }
        self.assign(topic, &next);
    }

    /// A topic is recreated with so many partitions.
    pub fn recreate(&mut self, topic: usize, partitions: usize) {
        self.past.records.lock().unwrap()[topic] = vec![Vec::new(); partitions];
        self.past.low.lock().unwrap()[topic] = vec![0; partitions];
        self.writer.take(&Feed::Recreated {
            topic: self.name(topic),
        });
        self.assign(topic, &vec![0; partitions]);
    }

    /// The log of a partition of the first topic is truncated, up to a record of the one leader epoch; what was lost
    /// ends with the other. A table reads all of it anew.
    pub fn truncate(&mut self, partition: u32, from: i64, epoch: Option<u32>, lost: Option<u32>) {
        let topic = self.name(0);
        let index = partition as usize;
        self.past.records.lock().unwrap()[0][index].truncate(usize::try_from(from).expect("not negative"));
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
                self.hand_on(partition, 0..end);
            }
        } else {
            self.assign(0, &ends);
        }
    }

    /// Another replica of the same topics, which has read what Kafka holds.
    pub fn other(&self, start: Start) -> Self {
        let records = self.past.records();
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
        let records = self.past.records();
        let next: Vec<Vec<i64>> = records.iter().map(|topic| vec![0; topic.len()]).collect();
        let empty: Vec<Vec<usize>> = records.iter().map(|topic| vec![0; topic.len()]).collect();
        let other = Self::assigned(&next, &empty, true, |settings| {
            settings.clone_from(self.stream.settings());
            settings.start = start;
        });
        *other.past.records.lock().unwrap() = records;
        other
    }

    /// Two topics of one partition each, of which nothing is known yet.
    pub fn unassigned(change: impl FnOnce(&mut StreamSettings)) -> Self {
        let mut rig = Self::with(&[1, 1], true, change);
        rig.stream = Stream::new(
            rig.stream.settings().clone(),
            PACE,
            Some(history(Arc::clone(&rig.past) as _)),
        );
        rig.writer = Writer::new(Arc::clone(&rig.stream));
        rig
    }

    /// Kafka has so many partitions of the first topic.
    pub fn grow_to(&mut self, partitions: usize) {
        self.past.records.lock().unwrap()[0].resize(partitions, Vec::new());
        self.past.low.lock().unwrap()[0].resize(partitions, 0);
    }

    /// The id of a reader at the head.
    pub fn position(&self) -> Vec<u8> {
        self.stream.figures().position.expect("a position").id()
    }

    /// One batch; all of one topic.
    pub fn records(&mut self, records: &[Rec]) {
        let topic = records.first().map_or(0, |record| record.topic);
        let mut batch = Batch::new(self.name(topic));
        for record in records {
            let next = &mut self.next[topic][record.partition as usize];
            record.push(&mut batch, *next);
            *next += 1;
            self.past.records.lock().unwrap()[topic][record.partition as usize].push(record.clone());
        }
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }

    pub fn open(&self, opening: Opening) -> Client {
        Client::of(self.stream.subscribe(opening))
    }

    /// A client that begins as the stream does.
    pub fn client(&self, filter: &[(&str, &str)]) -> Client {
        self.open(self.asking(filter))
    }

    pub fn client_at(&self, start: Start, filter: &[(&str, &str)]) -> Client {
        self.open(Opening {
            start: Some(start),
            ..self.asking(filter)
        })
    }

    /// A client that resumes.
    pub fn back(&self, id: &str, filter: &[(&str, &str)]) -> Client {
        self.open(Opening {
            last_event_id: Some(id.to_owned()),
            ..self.asking(filter)
        })
    }

    fn asking(&self, terms: &[(&str, &str)]) -> Opening {
        let filter = filter(terms, &self.stream.settings().topics).expect("a filter");
        Opening {
            filter: (!filter.is_empty()).then_some(filter),
            ..Opening::default()
        }
    }
}

/// Runs a test that reads history on one thread, so that what is to come has come after some turns.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a tokio runtime").block_on(future)
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

#[derive(Default)]
pub struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Drives a subscription as a driver would, at a time of the test's choosing.
pub struct Client {
    pub subscription: Subscription,
    parser: Parser,
    pub now: Instant,
    wakes: Arc<Wakes>,
}

impl Client {
    pub fn of(subscription: Subscription) -> Self {
        Self {
            subscription,
            parser: Parser::new(),
            now: Instant::now(),
            wakes: Arc::default(),
        }
    }

    /// The next thing there is to do.
    pub fn step(&mut self) -> (Vec<Item>, Step) {
        let step = self.subscription.step(self.now);
        match &step {
            Step::Send(bytes) => (self.parser.feed(bytes), step),
            _ => (Vec::new(), step),
        }
    }

    /// Everything there is to send now, and what comes after.
    pub fn items(&mut self) -> (Vec<Item>, Step) {
        let mut items = Vec::new();
        for _ in 0..100_000 {
            let (more, step) = self.step();
            items.extend(more);
            if !matches!(step, Step::Send(_) | Step::Yield) {
                return (items, step);
            }
        }
        panic!("endless: {} items", items.len())
    }

    pub fn events(&mut self) -> Vec<Event> {
        self.items().0.into_iter().filter_map(event).collect()
    }

    /// Names and data, in short.
    pub fn told(&mut self) -> Vec<String> {
        self.events().iter().map(said).collect()
    }

    /// The events of a reader that may have to wait for history.
    pub async fn events_at_last(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        // How many turns the tasks of a replay need is theirs to say.
        for _ in 0..300 {
            events.extend(self.events());
            tokio::task::yield_now().await;
        }
        events
    }

    /// The same, in short.
    pub async fn told_at_last(&mut self) -> Vec<String> {
        self.events_at_last().await.iter().map(said).collect()
    }

    /// The records and deletes among the due events.
    pub fn shown(&mut self) -> Vec<String> {
        let is_record = |event: &Event| matches!(event.name.as_str(), "message" | "delete");
        let events = self.events();
        events.iter().filter(|event| is_record(event)).map(said).collect()
    }

    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Waits as a driver does.
    pub fn wait(&mut self) {
        let waker = Waker::from(Arc::clone(&self.wakes));
        while !self.subscription.wait(&waker) {
            let (items, _) = self.items();
            assert!(items.is_empty(), "tell the client first: {items:?}");
        }
    }

    /// How often it was woken since it was asked last.
    pub fn wakes(&self) -> usize {
        self.wakes.0.swap(0, Ordering::SeqCst)
    }
}

pub fn event(item: Item) -> Option<Event> {
    match item {
        Item::Event(event) => Some(event),
        Item::Violation(what) => panic!("{what}"),
        Item::Comment(_) | Item::Retry(_) => None,
    }
}

/// The state of a browser of a table stream with `key_field = "id"` after these events.
pub fn apply(table: &mut BTreeMap<String, String>, events: &[Event]) {
    for event in events {
        let id = || event.json()["id"].as_str().expect("a key").to_owned();
        match event.name.as_str() {
            "message" => drop(table.insert(id(), event.data.clone())),
            "delete" => drop(table.remove(&id())),
            _ => {}
        }
    }
}

pub fn said(event: &Event) -> String {
    format!("{} {}", event.name, event.data)
}

/// A past that `archive` reads, with replays on the caller's runtime.
pub fn history(archive: Arc<dyn Archive>) -> HistoryReads {
    HistoryReads::new(archive, Box::new(|task| drop(tokio::spawn(write_replay(task)))))
}
