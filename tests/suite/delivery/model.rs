//! Kafka as the simulation has it: topics that forget.

use super::clock::{self, DELETE_RETENTION, MAX_LAG, now};
use super::setup::{FIXED, PARTITIONS, Place, Setup, TOPICS, Wants, shade};
use kafka_sse_bridge::kafka::record::{Batch, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// The next offset of a partition that has not begun at a replica, or in an id: no leader was found for it yet.
pub const NOT_BEGUN: usize = usize::MAX;

/// A key is that of a topic.
pub type Key = (usize, u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Value,
    Tombstone,
    /// Not UTF-8: shown in an envelope only. Otherwise it is passed over, and deletes its key from a table.
    Bad,
    /// An offset without a record, as the end of a transaction leaves it.
    Hole,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub key: Option<u8>,
    pub kind: Kind,
    /// Milliseconds; -1 for none.
    pub timestamp: i64,
    /// When it was written, whatever its timestamp says. Unix seconds.
    written: u64,
}

/// The latest record of a key: the partition with the latest time wins, then the later partition, and in
/// it the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    timestamp: i64,
    pub partition: usize,
    pub offset: usize,
    pub is_tombstone: bool,
}

pub type Rows = BTreeMap<Key, Row>;

/// Puts a record in, where it is its key's latest.
pub fn fold(rows: &mut Rows, place: Place, offset: usize, record: &Record) {
    let Some(key) = record.key else { return };
    let row = Row {
        timestamp: record.timestamp,
        partition: place.partition,
        offset,
        is_tombstone: record.kind == Kind::Tombstone,
    };
    let latest = rows.entry((place.topic, key)).or_insert(row);
    *latest = if latest.partition == row.partition {
        let timestamp = latest.timestamp.max(row.timestamp);
        Row { timestamp, ..row }
    } else {
        (*latest).max(row)
    };
}

#[derive(Debug, Default)]
struct Partition {
    /// All that was ever written.
    written: Vec<Record>,
    /// What of it is still there.
    is_there: Vec<bool>,
    low: usize,
}

/// All topics.
#[derive(Debug)]
pub struct Kafka {
    pub setup: Setup,
    topics: Vec<Vec<Partition>>,
    /// Partitions without a leader.
    leaderless: BTreeSet<Place>,
    /// Where partitions ended when they got a leader that had none at first.
    led_at: BTreeMap<Place, usize>,
    /// The latest of every key that was ever written.
    pub latest: Rows,
    /// Keys of which retention took a record: what a replica knows of them depends on when it began.
    pub expired: BTreeSet<Key>,
    /// Whether the history pool takes no more jobs.
    pub is_busy: bool,
    /// How often all jobs under way have failed.
    pub failures: usize,
    /// How many jobs and questions are under way, or wait.
    pub jobs: usize,
    /// Whether a replica has forgotten which keys have left its table.
    pub has_forgotten: bool,
    /// Whether clocks were set back: deletes of that time are forgotten early.
    pub was_behind: bool,
}

impl Kafka {
    pub fn new(setup: Setup) -> Self {
        clock::begin();
        let partitions = |count: &usize| (0..*count).map(|_| Partition::default()).collect();
        let mut kafka = Self {
            topics: setup.partitions.iter().map(partitions).collect(),
            setup,
            leaderless: BTreeSet::new(),
            led_at: BTreeMap::new(),
            latest: Rows::new(),
            expired: BTreeSet::new(),
            is_busy: false,
            failures: 0,
            jobs: 0,
            has_forgotten: false,
            was_behind: false,
        };
        for (place, count) in kafka.setup.leaderless.clone() {
            if place.partition < kafka.partitions(place.topic) {
                let key = |number: usize| Some(u8::try_from(number % 3).unwrap());
                let keys: Vec<_> = (0..count).map(|number| (key(number), Kind::Value)).collect();
                kafka.produce(place, &keys, 0);
                kafka.leaderless.insert(place);
            }
        }
        kafka
    }

    pub fn has_leader(&self, place: Place) -> bool {
        !self.leaderless.contains(&place)
    }

    /// A partition that has no leader gets one.
    pub fn lead(&mut self, place: Place) {
        if self.leaderless.remove(&place) {
            self.led_at.insert(place, self.high(place));
        }
    }

    pub fn lead_all(&mut self) {
        while let Some(&place) = self.leaderless.first() {
            self.lead(place);
        }
    }

    /// Where a partition ended when it got a leader, if it had none at first.
    pub fn led_at(&self, place: Place) -> Option<usize> {
        self.led_at.get(&place).copied()
    }

    pub fn partitions(&self, topic: usize) -> usize {
        self.topics[topic].len()
    }

    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let counts: Vec<usize> = self.topics.iter().map(Vec::len).collect();
        let places = |(topic, count)| (0..count).map(move |partition| Place { topic, partition });
        counts.into_iter().enumerate().flat_map(places)
    }

    pub fn add_partition(&mut self, topic: usize) {
        if self.topics[topic].len() < PARTITIONS {
            self.topics[topic].push(Partition::default());
        }
    }

    fn partition(&self, place: Place) -> &Partition {
        &self.topics[place.topic][place.partition]
    }

    fn partition_mut(&mut self, place: Place) -> Option<&mut Partition> {
        self.topics[place.topic].get_mut(place.partition)
    }

    pub fn low(&self, place: Place) -> usize {
        self.partition(place).low
    }

    /// The end offset.
    pub fn high(&self, place: Place) -> usize {
        self.partition(place).written.len()
    }

    /// The record at an offset, whether it is still there or not.
    pub fn written(&self, place: Place, offset: usize) -> Option<&Record> {
        self.topics
            .get(place.topic)?
            .get(place.partition)?
            .written
            .get(offset)
    }

    /// The first record from `from` on, below `to`, that is still there.
    pub fn next(&self, place: Place, from: usize, to: usize) -> Option<usize> {
        if !self.has_leader(place) {
            return None;
        }
        let partition = self.partition(place);
        (from..to.min(partition.written.len())).find(|&offset| partition.is_there[offset])
    }

    /// Writes records with these keys. Their time is up to `skew` milliseconds ago.
    pub fn produce(&mut self, place: Place, keys: &[(Option<u8>, Kind)], skew: i64) {
        let (is_spread, is_envelope) = (self.setup.is_spread, self.setup.is_envelope);
        let has_table = self.setup.has_table();
        // Of a backfill into another partition than that of a delete nobody knows that it is older, once the delete is
        // forgotten.
        let skew = if is_spread { skew % 5000 } else { skew };
        let time = i64::try_from(now()).unwrap() * 1000 - skew;
        let time = if self.setup.has_times { time } else { -1 };
        if !self.has_leader(place) {
            return;
        }
        let Some(partition) = self.topics[place.topic].get_mut(place.partition) else {
            return;
        };
        for &(key, kind) in keys {
            let kind = match kind {
                // Shown by its key alone, it could not be told from others.
                Kind::Tombstone if !is_envelope && !has_table => Kind::Value,
                kind => kind,
            };
            // Without spreading a key belongs to one partition, as a partitioner sees to.
            let own = |key: u8| {
                if is_spread {
                    key
                } else {
                    key * 4 + u8::try_from(place.partition).unwrap()
                }
            };
            let offset = partition.written.len();
            let record = Record {
                key: key.map(own),
                kind,
                timestamp: time,
                written: now(),
            };
            partition.is_there.push(kind != Kind::Hole);
            if kind != Kind::Hole {
                fold(&mut self.latest, place, offset, &record);
            }
            partition.written.push(record);
        }
    }

    /// Lets the records before `to` go.
    pub fn retain(&mut self, place: Place, to: usize) {
        let Some(partition) = self.topics[place.topic].get_mut(place.partition) else {
            return;
        };
        for offset in partition.low..to {
            if std::mem::replace(&mut partition.is_there[offset], false)
                && let Some(key) = partition.written[offset].key
            {
                self.expired.insert((place.topic, key));
            }
        }
        partition.low = partition.low.max(to);
    }

    /// Before `to`, lets all but the last record of each key go, and tombstones whose time is over.
    pub fn compact(&mut self, place: Place, to: usize) {
        let Some(partition) = self.partition_mut(place) else {
            return;
        };
        let mut last: BTreeMap<u8, usize> = BTreeMap::new();
        for offset in 0..to {
            // Records without a key are not compacted; brokers refuse them on such topics.
            let key = partition.written[offset]
                .key
                .filter(|_| partition.is_there[offset]);
            if let Some(key) = key
                && let Some(before) = last.insert(key, offset)
                // What had a later time says that its partition is the one to go by, while it is there.
                && partition.written[before].timestamp <= partition.written[offset].timestamp
            {
                partition.is_there[before] = false;
            }
        }
        let old = now() - (DELETE_RETENTION + MAX_LAG).min(now());
        for (key, offset) in last {
            let record = &self.partition(place).written[offset];
            let is_old = record.kind == Kind::Tombstone && record.written < old;
            // Brokers never compact the newest segment, so the last record of all stays. Where another partition
            // holds an older record of the key, that would be back: an operator's fault.
            let is_last = self.high(place) == offset + 1;
            if is_old && !is_last && self.count(place.topic, key) == 1 {
                self.topics[place.topic][place.partition].is_there[offset] = false;
            }
        }
    }

    /// How many records of a key are there.
    fn count(&self, topic: usize, key: u8) -> usize {
        let there = |partition: &Partition| {
            let records = partition.written.iter().zip(&partition.is_there);
            records
                .filter(|(record, is_there)| **is_there && record.key == Some(key))
                .count()
        };
        self.topics[topic].iter().map(there).sum()
    }

    /// Whether retention took what makes a key's latest record: a replica that began later does not know
    /// of it, or goes by what other partitions still have.
    pub fn is_unknown(&self, key: Key, latest: &Row) -> bool {
        let place = Place {
            topic: key.0,
            partition: latest.partition,
        };
        let is_there = self.partition(place).is_there[latest.offset];
        self.expired.contains(&key) && (self.setup.is_spread || !is_there)
    }

    /// Whether a client may keep an older record of a key whose latest does not pass its filter or the stream's: retention
    /// took a record of the key, and a replica that began later does not know that one had passed.
    pub fn may_be_left(&self, wants: Wants, key: Key, latest: &Row) -> bool {
        let place = Place {
            topic: key.0,
            partition: latest.partition,
        };
        let is_delete = self
            .written(place, latest.offset)
            .is_some_and(|record| record.kind == Kind::Tombstone);
        let has_filter = matches!(wants, Wants::Shade(_) | Wants::Partition(_)) && !is_delete;
        self.expired.contains(&key) && (self.setup.is_fixed || has_filter)
    }

    /// Whether a delete was written, or a record that may be shown as one, from an offset on whose timestamp is older
    /// than deletes are remembered.
    pub fn has_old_delete(&self, place: Place, from: usize) -> bool {
        let written = &self.partition(place).written;
        let is_old = |record: &Record| {
            let time = u64::try_from(record.timestamp / 1000);
            let is_delete = record.kind == Kind::Tombstone || self.setup.is_fixed;
            is_delete && time.is_ok_and(|time| time + DELETE_RETENTION < now())
        };
        written.iter().skip(from).any(is_old)
    }

    /// Whether the table may forget keys whose latest record the stream's own filter hides: half of a sixteenth of its bytes
    /// is certain to hold what was hidden last, at 54 bytes per key.
    pub fn may_forget_hidden(&self) -> bool {
        let keys = TOPICS.len() * usize::from(super::KEYS);
        let bytes = self.setup.bounds.map_or(u64::MAX, |(_, bytes, _)| bytes);
        self.setup.is_fixed && bytes / 16 / 2 / 54 < keys as u64
    }

    /// Whether a record from an offset on is hidden by the stream's own filter and of a key of which another partition has
    /// one that passes: a client to which a replica has shown that one may have to be told by another that it is outdated.
    pub fn hides_since(&self, place: Place, from: usize) -> bool {
        let records = self.partition(place).written.iter().enumerate().skip(from);
        let mut hidden = records.filter(|(offset, record)| {
            record.kind != Kind::Hole && record.key.is_some() && !self.is_let_through(place, *offset)
        });
        hidden.any(|(_, record)| {
            let mut others = self
                .places()
                .filter(|other| other.topic == place.topic && *other != place);
            others.any(|other| {
                let passes = |(offset, one): (usize, &Record)| {
                    one.key == record.key && self.is_let_through(other, offset)
                };
                self.partition(other).written.iter().enumerate().any(passes)
            })
        })
    }

    /// Whether a client is to see a record, that is there or was: its stream shows it, and it passes.
    pub fn is_for(&self, wants: Wants, place: Place, offset: usize) -> bool {
        self.written(place, offset).is_some_and(|record| {
            let is_shown = match record.kind {
                Kind::Value | Kind::Tombstone => true,
                Kind::Bad => self.setup.is_envelope,
                Kind::Hole => false,
            };
            is_shown && self.is_let_through(place, offset) && wants.passes(place, offset, record)
        })
    }

    /// Whether the stream's own filter lets a record through.
    fn is_let_through(&self, place: Place, offset: usize) -> bool {
        let record = self.written(place, offset);
        !self.setup.is_fixed || record.is_some_and(|record| FIXED.passes(place, offset, record))
    }

    /// Whether one of the key's records was let through before this time, so that a delete of it tells nothing.
    pub fn may_be_deleted(&self, key: Key) -> bool {
        let mut places = self.places().filter(|place| place.topic == key.0);
        places.any(|place| {
            let is_of_key = |&offset: &usize| {
                let record = self.written(place, offset);
                record.is_some_and(|record| record.key == Some(key.1)) && self.is_let_through(place, offset)
            };
            (0..self.high(place)).any(|offset| is_of_key(&offset))
        })
    }

    /// Where the value stands that a client is to show of a key with this latest record.
    pub fn value(&self, wants: Wants, key: Key, latest: &Row) -> Option<(usize, usize)> {
        let place = Place {
            topic: key.0,
            partition: latest.partition,
        };
        let is_shown = !latest.is_tombstone && self.is_for(wants, place, latest.offset);
        is_shown.then_some((latest.partition, latest.offset))
    }

    /// Puts a record that is there into a batch.
    pub fn push(&self, batch: &mut Batch, place: Place, offset: usize) {
        let record = &self.partition(place).written[offset];
        let stamp = Stamp {
            partition: u32::try_from(place.partition).unwrap(),
            offset: i64::try_from(offset).unwrap(),
            timestamp: Some(record.timestamp),
        };
        let key = record.key.map(|key| key.to_string());
        let value = serde_json::json!({
            "topic": TOPICS[place.topic], "partition": place.partition, "offset": offset, "key": key,
            "shade": shade(offset), "padding": "x".repeat(self.setup.padding),
        })
        .to_string();
        let value = match record.kind {
            Kind::Tombstone | Kind::Hole => None,
            Kind::Value => Some(value.as_bytes()),
            Kind::Bad => Some(b"\xff".as_slice()),
        };
        batch.push(
            stamp,
            key.as_ref().map(String::as_bytes),
            value,
            std::iter::empty(),
        );
    }
}
