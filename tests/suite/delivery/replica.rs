//! A replica of the daemon: the real stream room, fed as the reading thread would feed it.

use super::archive::{Shared, offsets};
use super::clock::{self, DELETE_RETENTION};
use super::model::{Kafka, NOT_BEGUN, Rows, fold};
use super::setup::{self, Place, Setup, TOPICS};
use crate::rig;
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Format, Heartbeat, Start, StreamSettings, WhenFull};
use kafka_sse_bridge::kafka::record::{Batch, Feed, TopicId};
use kafka_sse_bridge::stream::writer::Writer;
use kafka_sse_bridge::stream::{Stream, live_settings::Pace};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The next offset of every partition of every topic.
pub type Next = Vec<Vec<usize>>;

/// The position of a replica at one time.
#[derive(Clone, Debug)]
pub struct Moment {
    pub next: Next,
    /// The latest records among those, on streams with a table.
    pub rows: Rows,
}

/// Some records of one partition.
#[derive(Clone, Debug)]
pub struct Pick {
    pub place: Place,
    pub count: usize,
}

pub struct Replica {
    pub stream: Arc<Stream>,
    writer: Writer,
    /// The next offsets of its stream.
    pub next: Next,
    /// Where it began to read: of what went before it knows nothing.
    pub first: Next,
    /// The ends as of the first contact, until they were reached.
    until: Vec<Option<Vec<usize>>>,
    rows: Rows,
    /// The version of every log with which the records read were last compared.
    pub versions: BTreeMap<Place, usize>,
    /// The first offset of every partition of which a record was read.
    read: BTreeMap<Place, usize>,
    /// Partitions of which no record is left that was read, but Kafka has said the leader epoch of the one before the
    /// next offset.
    placed: BTreeSet<Place>,
    /// How often it has gone back in a topic because a log was truncated.
    pub truncations: [usize; TOPICS.len()],
    /// Where clients begin whose ids say that a partition has not begun.
    pub live: BTreeMap<Place, usize>,
    /// One for every change, once it knows all partitions.
    pub moments: Vec<Moment>,
    /// The moment since which all topics are loaded.
    pub loaded: Option<usize>,
    /// Since when it knows all records that its stream's filter hides: since it began, or last read a topic again. Unix
    /// seconds of its clock.
    pub knows_hidden_since: u64,
    /// When ends were asked for, and those that have still to be passed, by topic.
    ends: Vec<Option<(Instant, Vec<usize>)>>,
}

impl Replica {
    pub fn new(kafka: &Shared) -> Self {
        let stream = Stream::with_clock(
            settings(&kafka.lock().setup),
            Pace {
                keepalive: Duration::from_secs(15),
                retry: Duration::from_secs(2),
                max_lifetime: Duration::ZERO,
            },
            Some(rig::history(Arc::new(kafka.clone()))),
            clock::CLOCKS,
        );
        Self {
            writer: Writer::new(Arc::clone(&stream)),
            stream,
            next: Next::new(),
            first: Next::new(),
            until: Vec::new(),
            rows: Rows::new(),
            versions: BTreeMap::new(),
            read: BTreeMap::new(),
            placed: BTreeSet::new(),
            truncations: [0; TOPICS.len()],
            live: BTreeMap::new(),
            moments: Vec::new(),
            loaded: None,
            knows_hidden_since: (clock::CLOCKS.time_of_day)().as_secs(),
            ends: vec![None; TOPICS.len()],
        }
    }

    /// How many partitions of a topic it knows.
    fn partitions(&self, topic: usize) -> usize {
        self.next.get(topic).map_or(0, Vec::len)
    }

    /// Up to where it has read a partition; `None` before it has begun to read the topic.
    pub fn has_read(&self, place: Place) -> Option<usize> {
        let topic = self.next.get(place.topic)?;
        let next = topic.get(place.partition).copied();
        Some(next.filter(|next| *next != NOT_BEGUN).unwrap_or(0))
    }

    fn feed(&mut self, feed: &Feed) {
        self.writer.take(feed);
        if self.next.len() == TOPICS.len() {
            self.moments.push(Moment {
                next: self.next.clone(),
                rows: self.rows.clone(),
            });
        }
    }

    fn assign(&mut self, kafka: &Kafka, topic: usize) {
        let low: Vec<usize> = (0..self.next[topic].len())
            .map(|partition| match self.next[topic][partition] {
                NOT_BEGUN => NOT_BEGUN,
                _ if !kafka.has_leader(Place { topic, partition }) => NOT_BEGUN,
                _ => kafka.low(Place { topic, partition }),
            })
            .collect();
        for (partition, &next) in self.next[topic].iter().enumerate() {
            let place = Place { topic, partition };
            if next != NOT_BEGUN {
                self.versions.entry(place).or_insert(kafka.version(place));
            }
        }
        self.feed(&Feed::Assigned {
            topic: TOPICS[topic].into(),
            id: kafka.setup.has_ids.then(|| id(topic)),
            next: offsets(&self.next[topic]),
            low: offsets(&low),
        });
    }

    /// Learns where the next topic begins, until it knows that of all. Returns whether it did before.
    fn contact(&mut self, kafka: &Kafka) -> bool {
        let topic = self.next.len();
        if topic == TOPICS.len() {
            return true;
        }
        let places = (0..kafka.partitions(topic)).map(|partition| Place { topic, partition });
        let begin = |place| match kafka.setup.start {
            _ if !kafka.has_leader(place) => NOT_BEGUN,
            Start::Live => kafka
                .high(place)
                .saturating_sub(kafka.setup.preload)
                .max(kafka.low(place)),
            Start::Earliest | Start::Snapshot => kafka.low(place),
        };
        let next: Vec<usize> = places.clone().map(begin).collect();
        let first = next.iter().map(|&next| if next == NOT_BEGUN { 0 } else { next });
        self.first.push(first.collect());
        let until = places.zip(&next).map(|(place, &next)| match next {
            NOT_BEGUN => 0,
            _ => kafka.high(place),
        });
        self.until.push(Some(until.collect()));
        self.next.push(next);
        self.assign(kafka, topic);
        self.note_loaded(kafka);
        false
    }

    /// Looks for new partitions, and for leaders of those that had none.
    pub fn refresh(&mut self, kafka: &Kafka) {
        for topic in 0..self.next.len() {
            self.validate(kafka, topic);
            self.begin_late(kafka, topic);
            let known = self.next[topic].len();
            for partition in known..kafka.partitions(topic) {
                let low = kafka.low(Place { topic, partition });
                self.next[topic].push(low);
                self.first[topic].push(low);
            }
            if self.next[topic].len() > known {
                self.assign(kafka, topic);
            }
        }
    }

    /// Begins partitions of a topic that have got a leader since it was first read.
    fn begin_late(&mut self, kafka: &Kafka, topic: usize) {
        let places = (0..self.next[topic].len()).map(|partition| Place { topic, partition });
        let is_late =
            |place: &Place| self.next[topic][place.partition] == NOT_BEGUN && kafka.has_leader(*place);
        let late: Vec<Place> = places.filter(is_late).collect();
        for &place in &late {
            let at = kafka.led_at(place).unwrap();
            self.live.insert(place, at);
            self.feed(&Feed::Begun {
                topic: TOPICS[topic].into(),
                partition: u32::try_from(place.partition).unwrap(),
                at: i64::try_from(at).unwrap(),
            });
            let low = kafka.low(place);
            self.next[topic][place.partition] = if kafka.setup.has_table() { low } else { at.max(low) };
            self.first[topic][place.partition] = low;
        }
        if !late.is_empty() {
            self.assign(kafka, topic);
        }
    }

    /// Compares the records read of a topic with the logs of the leaders, as Kafka clients do when a leader changes. Goes
    /// back where logs were truncated; a table needs all records of the topic again.
    fn validate(&mut self, kafka: &Kafka, topic: usize) {
        let mut is_truncated = false;
        for partition in 0..self.next[topic].len() {
            let place = Place { topic, partition };
            is_truncated |= self.next[topic][partition] != NOT_BEGUN && self.go_back(kafka, place);
        }
        if !is_truncated {
            return;
        }
        self.truncations[topic] += 1;
        self.ends[topic] = None;
        if kafka.setup.has_table() {
            self.knows_hidden_since = (clock::CLOCKS.time_of_day)().as_secs() + 1;
            for partition in 0..self.next[topic].len() {
                let place = Place { topic, partition };
                // Of a partition without a leader the first offset is not known.
                let low = if kafka.has_leader(place) {
                    kafka.low(place)
                } else {
                    0
                };
                (self.next[topic][partition], self.first[topic][partition]) = (low, low);
                self.versions.remove(&place);
                self.read.remove(&place);
                self.placed.remove(&place);
            }
            self.rows.retain(|key, _| key.0 != topic);
            if let Some(until) = &mut self.until[topic] {
                let places = (0..self.next[topic].len()).map(|partition| Place { topic, partition });
                *until = places
                    .map(|place| {
                        if kafka.has_leader(place) {
                            kafka.high(place)
                        } else {
                            0
                        }
                    })
                    .collect();
            }
        }
        self.assign(kafka, topic);
    }

    /// Goes back in a log if it was truncated before the records read. Returns whether it was.
    fn go_back(&mut self, kafka: &Kafka, place: Place) -> bool {
        let version = kafka.version(place);
        let known = self.versions.insert(place, version).unwrap_or(version);
        if known == version {
            return false;
        }
        let next = self.next[place.topic][place.partition];
        let first = self.read.get(&place).copied();
        let knows_epoch = first.is_some() || self.placed.contains(&place);
        let (from, lost) = if knows_epoch {
            let last = &kafka.log(place, known)[next - 1];
            (kafka.divergence(place, known, version), Some(last.epoch))
        } else {
            // It knows no epoch, so it can only be beyond the end.
            (kafka.high(place), None)
        };
        if from >= next {
            return false;
        }
        let is_known = knows_epoch && (first.is_some_and(|first| first < from) || from > kafka.low(place));
        let before = from.checked_sub(1).filter(|_| is_known);
        let epoch = before.and_then(|before| Some(kafka.written(place, before)?.epoch));
        self.writer.take(&Feed::Truncated {
            topic: TOPICS[place.topic].into(),
            partition: u32::try_from(place.partition).unwrap(),
            from: i64::try_from(from).unwrap(),
            epoch,
            lost,
        });
        self.next[place.topic][place.partition] = from;
        let begin = &mut self.first[place.topic][place.partition];
        *begin = from.min(*begin);
        if let Some(live) = self.live.get_mut(&place) {
            *live = from.min(*live);
        }
        if first.is_none_or(|first| first >= from) {
            self.read.remove(&place);
            if epoch.is_some() {
                self.placed.insert(place);
            } else {
                self.placed.remove(&place);
            }
        }
        true
    }

    /// Notices all truncations.
    pub fn validate_all(&mut self, kafka: &Kafka) {
        for topic in 0..self.next.len() {
            self.validate(kafka, topic);
        }
    }

    /// The version of a log that it has read.
    pub fn version(&self, place: Place) -> usize {
        self.versions.get(&place).copied().unwrap_or(0)
    }

    /// The first offset of a partition of which it has read a record.
    pub fn first_read(&self, place: Place) -> Option<usize> {
        self.read.get(&place).copied()
    }

    /// One round of reading: some records of some partitions, handed on after every `split`.
    pub fn read(&mut self, kafka: &Kafka, picks: &[Pick], split: usize) {
        if !self.contact(kafka) {
            return;
        }
        for pick in picks {
            self.validate(kafka, pick.place.topic);
        }
        let mut read = self.next.clone();
        let mut batcher: Vec<(Place, usize)> = Vec::new();
        for pick in picks {
            let place = pick.place;
            if place.partition >= self.partitions(place.topic) {
                continue;
            }
            if read[place.topic][place.partition] == NOT_BEGUN {
                continue;
            }
            for _ in 0..pick.count {
                let next = &mut read[place.topic][place.partition];
                let Some(offset) = kafka.next(place, *next, usize::MAX) else {
                    break;
                };
                *next = offset + 1;
                batcher.push((place, offset));
            }
        }
        for records in batcher.chunks(split.max(1)) {
            for topic in 0..TOPICS.len() {
                self.hand_on(kafka, topic, records);
            }
        }
        self.note_loaded(kafka);
        self.note_at_end(kafka);
    }

    fn hand_on(&mut self, kafka: &Kafka, topic: usize, records: &[(Place, usize)]) {
        let mut batch = Batch::new(TOPICS[topic].into());
        for &(place, offset) in records.iter().filter(|(place, _)| place.topic == topic) {
            kafka.push(&mut batch, place, offset);
            self.next[topic][place.partition] = offset + 1;
            self.read.entry(place).or_insert(offset);
            if kafka.setup.has_table()
                && let Some(record) = kafka.written(place, offset)
            {
                fold(&mut self.rows, place, offset, record);
            }
        }
        if !batch.is_empty() {
            self.feed(&Feed::Records(Arc::new(batch)));
        }
    }

    /// Everything that there is to read.
    pub fn read_all(&mut self, kafka: &Kafka) {
        while !self.contact(kafka) {}
        self.refresh(kafka);
        let all = |place| Pick {
            place,
            count: usize::MAX,
        };
        let picks: Vec<Pick> = kafka.places().map(all).collect();
        self.read(kafka, &picks, usize::MAX);
        self.ask_ends(kafka);
    }

    /// Asks for the ends of all partitions that there are, as the reading thread does now and then.
    pub fn ask_ends(&mut self, kafka: &Kafka) {
        for topic in 0..TOPICS.len() {
            let places = (0..kafka.partitions(topic)).map(|partition| Place { topic, partition });
            let ends = places.map(|place| kafka.high(place)).collect();
            self.ends[topic].get_or_insert((clock::instant(), ends));
        }
        self.note_at_end(kafka);
    }

    fn note_at_end(&mut self, kafka: &Kafka) {
        if self.next.len() < TOPICS.len() {
            return;
        }
        for (topic, name) in TOPICS.iter().enumerate() {
            let Some((at, ends)) = &self.ends[topic] else {
                continue;
            };
            if ends.len() != self.next[topic].len() || self.next[topic].contains(&NOT_BEGUN) {
                self.ends[topic] = None;
                continue;
            }
            let is_passed = |(partition, &end): (usize, &usize)| {
                let next = self.next[topic][partition];
                kafka.next(Place { topic, partition }, next, end).is_none()
            };
            if ends.iter().enumerate().all(is_passed) {
                let at = *at;
                self.ends[topic] = None;
                self.writer.take(&Feed::AtEnd {
                    topic: (*name).into(),
                    at,
                });
            }
        }
    }

    fn note_loaded(&mut self, kafka: &Kafka) {
        for (topic, name) in TOPICS.iter().enumerate().take(self.until.len()) {
            let Some(until) = &self.until[topic] else { continue };
            let is_read = |(partition, &until): (usize, &usize)| {
                let next = self.next[topic][partition];
                kafka.next(Place { topic, partition }, next, until).is_none()
            };
            // As the reading thread: of no topic before it has begun with all.
            if self.next.len() == TOPICS.len() && until.iter().enumerate().all(is_read) {
                self.until[topic] = None;
                for (partition, &next) in self.next[topic].iter().enumerate() {
                    let from = next
                        .saturating_sub(kafka.setup.preload)
                        .max(self.first[topic][partition]);
                    if next != NOT_BEGUN {
                        self.live.entry(Place { topic, partition }).or_insert(from);
                    }
                }
                if self.until.iter().all(Option::is_none) {
                    self.loaded = Some(self.moments.len());
                }
                self.feed(&Feed::Loaded {
                    topic: (*name).into(),
                });
            }
        }
    }
}

/// The id of a topic.
fn id(topic: usize) -> TopicId {
    TopicId::new(1 + topic as u128).unwrap()
}

fn settings(setup: &Setup) -> StreamSettings {
    let unbounded = (u64::MAX, 1 << 30, WhenFull::RefuseNew);
    let (max_keys, max_table_bytes, when_full) = setup.bounds.unwrap_or(unbounded);
    StreamSettings {
        path: "/x".to_owned(),
        topics: TOPICS.map(str::to_owned).to_vec(),
        start: setup.start,
        format: if setup.is_envelope {
            Format::Envelope
        } else {
            Format::Value
        },
        log_bytes: Size(setup.log_bytes),
        max_keys,
        max_table_bytes: Size(max_table_bytes),
        when_full,
        filter: if setup.is_fixed {
            setup::fixed()
        } else {
            BTreeMap::new()
        },
        delete_retention: Span::seconds(DELETE_RETENTION),
        lag: Some(setup.lag),
        heartbeat: Heartbeat::Event,
        heartbeat_interval: Span::seconds(10),
        ..StreamSettings::default()
    }
}
