//! Kafka as the simulation has it: topics that forget.

use super::clock::{self, DELETE_RETENTION, MAX_LAG, now};
use super::setup::{PARTITIONS, Place, Setup, TOPICS, shade};
use kafka_sse_bridge::kafka::record::{Batch, Stamp};
use std::collections::{BTreeMap, BTreeSet};

mod shown;

/// Most truncations of one log: their numbers are bits of a word in what clients hold.
const MAX_TRUNCATIONS: usize = 60;

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
    /// The epoch of the leader that wrote it.
    pub epoch: u32,
    pub shade: usize,
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
    pub epoch: u32,
}

pub type Rows = BTreeMap<Key, Row>;

/// The record of a key that a client shows: its partition, offset and leader epoch.
pub type Shown = (usize, usize, u32);

/// Puts a record in, where it is its key's latest.
pub fn fold(rows: &mut Rows, place: Place, offset: usize, record: &Record) {
    let Some(key) = record.key else { return };
    let row = Row {
        timestamp: record.timestamp,
        partition: place.partition,
        offset,
        is_tombstone: record.kind == Kind::Tombstone,
        epoch: record.epoch,
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
    /// All that was ever written to the log and not lost by a truncation.
    written: Vec<Record>,
    /// The records that still exist.
    is_there: Vec<bool>,
    low: usize,
    /// Before this offset, records may have been compacted.
    compacted: usize,
    /// The leader's epoch.
    epoch: u32,
    /// The versions of the log before the present one, oldest first.
    truncated: Vec<Truncated>,
}

/// A version of a log that ended by a truncation.
#[derive(Debug)]
struct Truncated {
    written: Vec<Record>,
    /// The first offset that was lost.
    from: usize,
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

    /// The number of the present version of a log: how often it was truncated.
    pub fn version(&self, place: Place) -> usize {
        let partition = self.topics[place.topic].get(place.partition);
        partition.map_or(0, |partition| partition.truncated.len())
    }

    /// All that was written to a version of a log, whether it is still there or not.
    pub fn log(&self, place: Place, version: usize) -> &[Record] {
        let partition = self.partition(place);
        let truncated = partition.truncated.get(version);
        truncated.map_or(&partition.written, |truncated| &truncated.written)
    }

    /// The first offset at which two versions of a log differ, whatever they contain before it.
    pub fn divergence(&self, place: Place, one: usize, other: usize) -> usize {
        let between = &self.partition(place).truncated[one.min(other)..one.max(other)];
        let from = between.iter().map(|truncated| truncated.from);
        from.min().unwrap_or(usize::MAX)
    }

    /// The record at an offset of the present log, whether it is still there or not.
    pub fn written(&self, place: Place, offset: usize) -> Option<&Record> {
        self.topics
            .get(place.topic)?
            .get(place.partition)?
            .written
            .get(offset)
    }

    /// The record at an offset that was written under a leader epoch, even if it was lost.
    pub fn record(&self, place: Place, offset: usize, epoch: u32) -> Option<&Record> {
        let partition = self.topics.get(place.topic)?.get(place.partition)?;
        let truncated = partition.truncated.iter().map(|truncated| &truncated.written);
        let mut logs = std::iter::once(&partition.written).chain(truncated);
        logs.find_map(|log| log.get(offset).filter(|record| record.epoch == epoch))
    }

    /// The records of all versions of a log from an offset on, with their offsets. Those of several versions come
    /// repeatedly.
    fn ever(&self, place: Place, from: usize) -> impl Iterator<Item = (usize, &Record)> {
        let logs = (0..=self.version(place)).map(move |version| self.log(place, version));
        logs.flat_map(move |log| log.iter().enumerate().skip(from))
    }

    /// Another leader is elected, which has all records.
    pub fn elect(&mut self, place: Place) {
        let has_leader = self.has_leader(place);
        if let Some(partition) = self.partition_mut(place).filter(|_| has_leader) {
            partition.epoch += 1;
        }
    }

    /// Another leader is elected, which lacks the last records: all but so many eighths of those that retention and
    /// compaction have left as they were.
    pub fn truncate(&mut self, place: Place, eighths: usize) {
        let is_possible = self.setup.has_epochs && self.has_leader(place);
        let Some(partition) = self.partition_mut(place).filter(|_| is_possible) else {
            return;
        };
        partition.epoch += 1;
        let (first, end) = (partition.low.max(partition.compacted), partition.written.len());
        let from = first + (end - first) * eighths / 8;
        if from == end || partition.truncated.len() == MAX_TRUNCATIONS {
            return;
        }
        partition.truncated.push(Truncated {
            written: partition.written.clone(),
            from,
        });
        partition.written.truncate(from);
        partition.is_there.truncate(from);
        if let Some(at) = self.led_at.get_mut(&place) {
            *at = from.min(*at);
        }
        self.latest.retain(|key, _| key.0 != place.topic);
        let mut latest = std::mem::take(&mut self.latest);
        for place in self.places().filter(|other| other.topic == place.topic) {
            let records = self.partition(place).written.iter().enumerate();
            for (offset, record) in records.filter(|(_, record)| record.kind != Kind::Hole) {
                fold(&mut latest, place, offset, record);
            }
        }
        self.latest = latest;
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
            let (offset, epoch) = (partition.written.len(), partition.epoch);
            let record = Record {
                key: key.map(own),
                kind,
                timestamp: time,
                epoch,
                shade: shade(offset, epoch),
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
        partition.compacted = partition.compacted.max(to);
        for offset in 0..to {
            // Records without a key are not compacted; brokers refuse them on such topics.
            let key = partition.written[offset]
                .key
                .filter(|_| partition.is_there[offset]);
            if let Some(key) = key
                && let Some(before) = last.insert(key, offset)
                // The record with the later timestamp decides, while it exists.
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
            "epoch": record.epoch, "shade": record.shade, "padding": "x".repeat(self.setup.padding),
        })
        .to_string();
        let value = match record.kind {
            Kind::Tombstone | Kind::Hole => None,
            Kind::Value => Some(value.as_bytes()),
            Kind::Bad => Some(b"\xff".as_slice()),
        };
        // Envelopes show it of records without a value too.
        let epoch = record.epoch.to_string();
        let header = (b"epoch".as_slice(), Some(epoch.as_bytes()));
        batch.push_of(
            self.setup.has_epochs.then_some(record.epoch),
            stamp,
            key.as_ref().map(String::as_bytes),
            value,
            std::iter::once(header).filter(|_| self.setup.is_envelope),
        );
    }
}
