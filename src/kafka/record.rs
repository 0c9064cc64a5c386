//! Records as `kafka` sends them to the streams: plain bytes in one arena per batch.
//!
//! A [`Batch`] holds the records of one topic in the order in which they were read. Their bytes share one allocation,
//! so a batch of a thousand records costs three allocations, not thousands. Knows nothing of streams, frames or
//! clients.

use std::num::NonZeroU128;
use std::sync::Arc;
use std::time::Instant;

use super::invalid::Undecodable;

/// The effect of a record on clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effect {
    /// It is their key's latest.
    #[default]
    Shown,
    /// It repeats a delete, which clients get only if they may still hold a record of the key.
    RepeatedDelete,
    /// None: only the position moves.
    None,
}

/// A property of a value that is known without reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// Nothing: it is as a producer wrote it.
    #[default]
    Nothing,
    /// It is JSON, without space around it.
    Json,
    /// It is a JSON object without space between its members, none of which has the name of one that the stream adds.
    Object,
}

/// Most bytes of keys, values and headers in one batch before it is sent (256 KiB): small enough for a full channel to
/// stay small, large enough for the cost per batch to vanish.
pub(crate) const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Most records in one batch, which bounds empty records too.
pub(crate) const MAX_BATCH_RECORDS: usize = 4096;

/// The bytes that a quota counts for every record beside its key, value and headers: the smallest ones cost time too.
const RECORD_BYTES: usize = 32;

/// The next offset of a partition that has not begun: its log start offset, which need not be known.
pub const BEGINNING: i64 = -1;

/// A topic's id (KIP-516): a topic that is deleted and recreated has another. Never zero, which means "unknown" to
/// brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicId(NonZeroU128);

impl TopicId {
    /// From its 128 bits; `None` for zero.
    pub fn new(bits: u128) -> Option<Self> {
        NonZeroU128::new(bits).map(Self)
    }

    /// Its 16 bytes, as Kafka sends them.
    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The topic it was read from.
    pub topic: &'a str,
    /// Its partition, from 0.
    pub partition: u32,
    /// Its offset within the partition, from 0.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; `None` if the record has none or the client library provides none.
    pub timestamp: Option<i64>,
    /// The key, if the record has one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The epoch of the leader that wrote it (KIP-320), if it is known.
    pub epoch: Option<u32>,
    /// Why its key or its value could not be decoded, if so. Both are then without meaning, but the key is right if
    /// there is one.
    pub undecodable: Option<&'a Undecodable>,
    /// Its effect on clients.
    pub effect: Effect,
    /// A known property of its value.
    pub guarantee: Guarantee,
    headers: &'a [HeaderSpan],
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// A tombstone for `key` that no producer wrote, in place of a record that a client may not see.
    pub fn tombstone(topic: &'a str, stamp: Stamp, key: Option<&'a [u8]>) -> Self {
        Self {
            topic,
            partition: stamp.partition,
            offset: stamp.offset,
            timestamp: stamp.timestamp,
            key,
            value: None,
            epoch: None,
            undecodable: None,
            effect: Effect::Shown,
            guarantee: Guarantee::Nothing,
            headers: &[],
            bytes: &[],
        }
    }

    /// A tombstone in place of the record.
    #[must_use]
    pub(crate) fn as_tombstone(&self) -> Self {
        Self {
            value: None,
            undecodable: None,
            effect: Effect::Shown,
            headers: &[],
            ..*self
        }
    }

    /// The headers in the producer's order; names may repeat.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let bytes = self.bytes;
        self.headers.iter().map(move |header| {
            let value_at = header.at + header.name;
            let value = header.value.map(|length| &bytes[value_at..value_at + length]);
            (&bytes[header.at..value_at], value)
        })
    }
}

/// The metadata of a record.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The partition, from 0.
    pub partition: u32,
    /// The offset within the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, if known; negative means unknown.
    pub timestamp: Option<i64>,
}

#[derive(Debug)]
struct Head {
    stamp: Stamp,
    at: usize,
    key: Option<usize>,
    value: Option<usize>,
    headers: (usize, usize),
    epoch: Option<u32>,
    /// Its place in [`Batch::undecodable`].
    undecodable: Option<usize>,
    effect: Effect,
    guarantee: Guarantee,
}

#[derive(Debug, Clone, Copy)]
struct HeaderSpan {
    at: usize,
    name: usize,
    value: Option<usize>,
}

/// Records of one topic, in the order in which they were read.
#[derive(Debug)]
pub struct Batch {
    topic: Arc<str>,
    heads: Vec<Head>,
    headers: Vec<HeaderSpan>,
    bytes: Vec<u8>,
    /// Why keys or values could not be decoded.
    undecodable: Vec<Undecodable>,
}

impl Batch {
    /// An empty batch of `topic`.
    pub fn new(topic: Arc<str>) -> Self {
        Self {
            topic,
            heads: Vec::new(),
            headers: Vec::new(),
            bytes: Vec::new(),
            undecodable: Vec::new(),
        }
    }

    /// An empty batch of the same topic, with the capacity that this one uses.
    #[must_use]
    pub(crate) fn another(&self) -> Self {
        Self {
            topic: Arc::clone(&self.topic),
            heads: Vec::with_capacity(self.heads.len()),
            headers: Vec::with_capacity(self.headers.len()),
            bytes: Vec::with_capacity(self.bytes.len()),
            undecodable: Vec::new(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of its records, as quotas count them.
    pub(super) fn quota_bytes(&self) -> u64 {
        (self.bytes.len() + self.heads.len() * RECORD_BYTES) as u64
    }

    /// The topic of all its records.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= MAX_BATCH_BYTES || self.heads.len() >= MAX_BATCH_RECORDS
    }

    /// Copies one record in.
    pub fn push<'h>(
        &mut self,
        stamp: Stamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        self.push_of(None, stamp, key, value, headers);
    }

    /// Like [`push`](Self::push), with the record's leader epoch.
    pub fn push_of<'h>(
        &mut self,
        epoch: Option<u32>,
        stamp: Stamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let lengths = (key.map(<[u8]>::len), value.map(<[u8]>::len));
        self.finish(epoch, stamp, (at, lengths), headers);
    }

    /// Adds a record with another key and value, which the functions append to the bytes that they are given; `None`
    /// is null. `value` returns what is known of it. Where one fails, the record is marked with its error: without a
    /// key if that failed, with an empty value in any case.
    pub(crate) fn push_decoded(
        &mut self,
        record: &Record<'_>,
        effect: Effect,
        key: impl FnOnce(&mut Vec<u8>) -> Result<Option<()>, Undecodable>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<Option<Guarantee>, Undecodable>,
    ) {
        let at = self.bytes.len();
        let mut guarantee = Guarantee::Nothing;
        let (mut undecodable, mut key_length, mut value_length) = (None, None, record.value.map(|_| 0));
        match key(&mut self.bytes) {
            Ok(has_key) => {
                let value_at = self.bytes.len();
                key_length = has_key.map(|()| value_at - at);
                match value(&mut self.bytes) {
                    Ok(written) => {
                        value_length = written.map(|_| self.bytes.len() - value_at);
                        guarantee = written.unwrap_or_default();
                    }
                    Err(error) => {
                        self.bytes.truncate(value_at);
                        undecodable = Some(error);
                    }
                }
            }
            Err(error) => {
                self.bytes.truncate(at);
                undecodable = Some(error);
            }
        }
        let stamp = Stamp {
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
        };
        let lengths = (key_length, value_length);
        self.finish(record.epoch, stamp, (at, lengths), record.headers());
        let Some(head) = self.heads.last_mut() else { return };
        head.effect = effect;
        head.guarantee = guarantee;
        if let Some(error) = undecodable {
            head.undecodable = Some(self.undecodable.len());
            self.undecodable.push(error);
        }
    }

    /// Adds the record whose key and value, of these lengths, were appended at `at`.
    fn finish<'h>(
        &mut self,
        epoch: Option<u32>,
        stamp: Stamp,
        (at, (key, value)): (usize, (Option<usize>, Option<usize>)),
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        let first_header = self.headers.len();
        for (name, value) in headers {
            let at = self.bytes.len();
            self.bytes.extend_from_slice(name);
            self.bytes.extend_from_slice(value.unwrap_or_default());
            self.headers.push(HeaderSpan {
                at,
                name: name.len(),
                value: value.map(<[u8]>::len),
            });
        }
        self.heads.push(Head {
            stamp: Stamp {
                // Kafka's protocol has -1 for a record without a timestamp.
                timestamp: stamp.timestamp.filter(|time| *time >= 0),
                ..stamp
            },
            at,
            key,
            value,
            headers: (first_header, self.headers.len()),
            epoch,
            undecodable: None,
            effect: Effect::Shown,
            guarantee: Guarantee::Nothing,
        });
    }

    /// The records in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.heads.iter().map(|head| self.record(head))
    }

    /// A record by its number in that order, from 0.
    pub(crate) fn get(&self, number: usize) -> Option<Record<'_>> {
        self.heads.get(number).map(|head| self.record(head))
    }

    fn record(&self, head: &Head) -> Record<'_> {
        let value_at = head.at + head.key.unwrap_or_default();
        Record {
            topic: &self.topic,
            partition: head.stamp.partition,
            offset: head.stamp.offset,
            timestamp: head.stamp.timestamp,
            key: head.key.map(|length| &self.bytes[head.at..head.at + length]),
            value: head.value.map(|length| &self.bytes[value_at..value_at + length]),
            epoch: head.epoch,
            effect: head.effect,
            guarantee: head.guarantee,
            undecodable: head.undecodable.and_then(|place| self.undecodable.get(place)),
            headers: &self.headers[head.headers.0..head.headers.1],
            bytes: &self.bytes,
        }
    }
}

/// A message from `kafka` to a stream.
#[derive(Debug, Clone)]
pub enum Feed {
    /// A topic was deleted and recreated. [`Feed::Assigned`] follows.
    Recreated {
        /// The topic.
        topic: Arc<str>,
    },
    /// A partition that had no leader when reading began has one. [`Feed::Assigned`] follows, perhaps with an
    /// earlier offset.
    Begun {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// Its end when it was last seen without a leader: records from here on are live.
        at: i64,
    },
    /// The log of a partition was truncated, as by an unclean election or a power loss: records from `from` on are
    /// lost, or other records have their offsets. [`Feed::Assigned`] follows.
    Truncated {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The first offset that holds another record, or none.
        from: i64,
        /// The leader epoch of the record before `from`, if it is known.
        epoch: Option<u32>,
        /// The leader epoch of the last lost record, if it is known. Later records have later epochs.
        lost: Option<u32>,
    },
    /// The topic is read from these offsets: one per partition, from 0. Empty while the topic does not exist. Sent first
    /// for every topic, and again when partitions are added, offsets are skipped, or the topic's id becomes known.
    Assigned {
        /// The topic.
        topic: Arc<str>,
        /// Its id, if it is known.
        id: Option<TopicId>,
        /// The next offset of every partition; [`BEGINNING`] while it is not known.
        next: Vec<i64>,
        /// The log start offset of every partition; [`BEGINNING`] likewise.
        low: Vec<i64>,
    },
    /// Records, shared with the other streams that use the topic.
    Records(Arc<Batch>),
    /// The topic has been read up to the end offsets it had when reading began.
    Loaded {
        /// The topic.
        topic: Arc<str>,
    },
    /// All records that were written to the topic before `at` were sent.
    AtEnd {
        /// The topic.
        topic: Arc<str>,
        /// By the monotonic clock.
        at: Instant,
    },
}

impl Feed {
    /// The topic that it is about.
    pub fn topic(&self) -> &str {
        match self {
            Self::Records(batch) => batch.topic(),
            Self::Recreated { topic }
            | Self::Begun { topic, .. }
            | Self::Truncated { topic, .. }
            | Self::Assigned { topic, .. }
            | Self::Loaded { topic }
            | Self::AtEnd { topic, .. } => topic,
        }
    }
}
