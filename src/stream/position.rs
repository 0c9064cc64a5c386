//! Positions: the content of an event id.
//!
//! A position is the NEXT offset of every partition of a stream, so it means the same to every
//! replica that reads the same topics. On the wire it is base64url without padding (RFC 4648,
//! section 5) of:
//!
//! ```text
//! version (1 byte: 1, or 2 on table streams; 3 or 4 where a partition needs more than its next offset)
//! as_of (varint, versions 2 and 4 only): unix seconds up to which deletes are known
//! then per topic:  CRC-32 of its name (4 bytes, big endian)
//!                  fingerprint of its topic id (4 bytes: CRC-32 of its 16; zero while unknown)
//!                  partition count (varint), then one next offset (varint) per partition
//! ```
//! In versions 3 and 4 a partition is the varint 0 while it is [`NOT_BEGUN`], otherwise 1 more than twice its
//! next offset, or 2 more than that and its mark (varint) where it has one. The mark is 1 more than the leader
//! epoch of the record before the next offset, where that is known.
//!
//! Topics are in the order of the configuration, but are matched by fingerprint.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::varint;
pub use crate::config::fingerprint::fingerprint;
/// Not allowed in an id: an id contains offsets.
pub use crate::kafka::record::BEGINNING;
use crate::kafka::record::TopicId;

/// The next offset of a partition that has had no leader since the stream was first read: it begins at its end when a
/// leader is found.
pub const NOT_BEGUN: i64 = -2;

/// The format of streams without a table, and that of table streams.
const VERSIONS: (u8, u8) = (1, 2);

/// The same where a partition has not begun or its leader epoch is known.
const MARKED_VERSIONS: (u8, u8) = (3, 4);

/// Longest id that is written or accepted: 6 KiB, because proxies limit header lines to 8.
pub const MAX_ID: usize = 6 * 1024;

/// Most bytes of `as_of`: until the year 3058.
const MAX_AS_OF: usize = 5;

/// Bytes reserved for an offset, which may take fewer now: 5 bytes hold 34 billion records.
const ROOM_PER_OFFSET: usize = 5;

/// The highest offset that versions 3 and 4 can have: Kafka has none so high that doubling it takes a 65th bit.
const HIGHEST_MARKED: i64 = i64::MAX >> 1;

/// The mark of a leader epoch; zero where it is unknown.
pub(crate) fn mark_of(epoch: Option<u32>) -> u32 {
    epoch.map_or(0, |epoch| epoch.saturating_add(1))
}

/// Bytes reserved for a leader epoch: 2 bytes hold 16,383 changes of leaders.
const ROOM_PER_EPOCH: usize = 2;

/// The next offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPosition {
    /// CRC-32 (IEEE) of the topic's name.
    pub name: u32,
    /// Fingerprint of the topic's id (KIP-516); zero while unknown.
    pub id: u32,
    /// The next offset of every partition, from 0.
    pub next: Vec<i64>,
    /// Per partition, from 0, the [`mark_of`] the leader epoch of the record before the next offset (KIP-320); missing
    /// at the end where that is unknown. Two logs that hold a record with this offset and this epoch are the same up to
    /// it, so the epoch tells whether the log was truncated since.
    pub marks: Vec<u32>,
}

impl TopicPosition {
    /// A topic of which no partition is known yet.
    pub fn unread(name: &str) -> Self {
        Self {
            name: fingerprint(name),
            id: 0,
            next: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// The leader epoch of the record before a partition's next offset, where it is known.
    pub fn epoch(&self, partition: usize) -> Option<u32> {
        self.mark(partition).checked_sub(1)
    }

    /// The mark of that leader epoch.
    pub fn mark(&self, partition: usize) -> u32 {
        self.marks.get(partition).copied().unwrap_or(0)
    }

    /// Sets the mark of that epoch.
    pub(crate) fn set_mark(&mut self, partition: usize, mark: u32) {
        if self.mark(partition) != mark {
            if self.marks.len() <= partition {
                self.marks.resize(partition + 1, 0);
            }
            self.marks[partition] = mark;
        }
    }

    /// Sets the next offset of a partition it has, whose epoch is not known.
    pub fn move_to(&mut self, partition: usize, next: i64) {
        if let Some(known) = self.next.get_mut(partition)
            && *known != next
        {
            *known = next;
            self.set_mark(partition, 0);
        }
    }

    /// Sets all next offsets, whose epochs are not known.
    pub(crate) fn start_over(&mut self, next: Vec<i64>) {
        self.next = next;
        self.marks.clear();
    }

    /// Whether its partitions need more than their next offsets in an id.
    fn is_marked(&self) -> bool {
        self.next.contains(&NOT_BEGUN) || self.marks.iter().any(|&mark| mark > 0)
    }

    /// Whether a partition that it has needs more than its next offset in an id.
    pub(super) fn is_partition_marked(&self, partition: usize) -> bool {
        self.next[partition] == NOT_BEGUN || self.mark(partition) > 0
    }

    /// Appends a partition that it has, in the form that [`is_marked`](Position::is_marked) requires. In the form for
    /// partitions that need more, the first byte is odd for one that does not.
    pub(super) fn write_partition(&self, partition: usize, is_marked: bool, out: &mut Vec<u8>) {
        let next = self.next[partition];
        if !is_marked {
            varint::write(out, next.max(0).unsigned_abs());
            return;
        }
        if next == NOT_BEGUN {
            out.push(0);
            return;
        }
        let offset = next.clamp(0, HIGHEST_MARKED).unsigned_abs();
        let mark = self.mark(partition);
        varint::write(out, (offset << 1 | u64::from(mark > 0)) + 1);
        if mark > 0 {
            varint::write(out, u64::from(mark));
        }
    }

    /// Reads what [`write_partition`](Self::write_partition) wrote of a position that is marked.
    fn read_marked(&mut self, partition: usize, rest: &mut &[u8]) -> Result<(), PositionError> {
        let Some(coded) = read_number(rest)?.checked_sub(1) else {
            self.next.push(NOT_BEGUN);
            return Ok(());
        };
        let next = i64::try_from(coded >> 1).ok();
        let next = next.filter(|next| *next <= HIGHEST_MARKED);
        self.next.push(next.ok_or(PositionError::Damaged)?);
        if coded & 1 == 1 {
            let mark = u32::try_from(read_number(rest)?).map_err(|_| PositionError::Damaged)?;
            self.set_mark(partition, mark);
        }
        Ok(())
    }
}

/// The next offset of every partition of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// Unix seconds up to which deletes are known; `None` on streams without a table.
    pub as_of: Option<u64>,
    /// In the order of the stream's topics.
    pub topics: Vec<TopicPosition>,
}

/// Why a text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Longer than any id we write.
    #[error("is longer than {MAX_ID} bytes")]
    TooLong,
    /// Not base64url.
    #[error("is not base64url without padding")]
    NotBase64,
    /// Another version.
    #[error("is not of a version known here")]
    Version,
    /// Ends too early, or an offset is beyond what Kafka has.
    #[error("is cut off or damaged")]
    Damaged,
}

impl Position {
    /// Appends the position as an event id. Allocates only where the buffers grow.
    pub(crate) fn write_id(&self, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        self.write_bytes(scratch, |_, _| ());
        let at = out.len();
        out.resize(at + encoded_len(scratch.len()), 0);
        encode_part(scratch, &mut out[at..]);
    }

    /// Appends the bytes of the id. `partition` is called with the end of the bytes so far before and behind each one.
    pub(super) fn write_bytes(&self, out: &mut Vec<u8>, mut partition: impl FnMut(usize, usize)) {
        let is_marked = self.is_marked();
        let (plain, table) = if is_marked { MARKED_VERSIONS } else { VERSIONS };
        match self.as_of {
            None => out.push(plain),
            Some(as_of) => {
                out.push(table);
                varint::write(out, as_of);
            }
        }
        for topic in &self.topics {
            out.extend_from_slice(&topic.name.to_be_bytes());
            out.extend_from_slice(&topic.id.to_be_bytes());
            varint::write(out, topic.next.len() as u64);
            for number in 0..topic.next.len() {
                let start = out.len();
                topic.write_partition(number, is_marked, out);
                partition(start, out.len());
            }
        }
    }

    /// Whether ids have the form for partitions that need more than their next offsets.
    pub(super) fn is_marked(&self) -> bool {
        self.topics.iter().any(TopicPosition::is_marked)
    }

    /// The position as an event id.
    pub fn id(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_id(&mut Vec::new(), &mut out);
        out
    }

    /// Upper bound of the id's length while the number of partitions does not change.
    pub fn id_len_ahead(&self) -> usize {
        let topic_len = |topic: &TopicPosition| {
            let offsets = topic
                .next
                .iter()
                .map(|&next| varint::len(next.clamp(0, HIGHEST_MARKED).unsigned_abs() * 2 + 2));
            let marks = topic.marks.iter().filter(|&&mark| mark > 0);
            8 + varint::len(topic.next.len() as u64)
                + offsets.map(|len| len.max(ROOM_PER_OFFSET)).sum::<usize>()
                + marks.map(|&mark| varint::len(u64::from(mark))).sum::<usize>()
        };
        encoded_len(1 + MAX_AS_OF + self.topics.iter().map(topic_len).sum::<usize>())
    }

    /// Reads an event id.
    ///
    /// # Errors
    /// When the text was not written by [`Position::write_id`] of a known version.
    pub fn parse(id: &[u8]) -> Result<Self, PositionError> {
        if id.len() > MAX_ID {
            return Err(PositionError::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(id).map_err(|_| PositionError::NotBase64)?;
        let (&version, mut rest) = bytes.split_first().ok_or(PositionError::Damaged)?;
        let (has_as_of, is_marked) = match version {
            version if version == VERSIONS.0 => (false, false),
            version if version == VERSIONS.1 => (true, false),
            version if version == MARKED_VERSIONS.0 => (false, true),
            version if version == MARKED_VERSIONS.1 => (true, true),
            _ => return Err(PositionError::Version),
        };
        let as_of = has_as_of.then(|| read_number(&mut rest)).transpose()?;
        let mut topics = Vec::new();
        while !rest.is_empty() {
            let name = read_fingerprint(&mut rest)?;
            let id = read_fingerprint(&mut rest)?;
            let count = read_number(&mut rest)?;
            // Every offset takes at least a byte, so a forged count cannot cause a large allocation.
            if count > rest.len() as u64 {
                return Err(PositionError::Damaged);
            }
            let mut topic = TopicPosition {
                name,
                id,
                next: Vec::new(),
                marks: Vec::new(),
            };
            for partition in 0..usize::try_from(count).map_err(|_| PositionError::Damaged)? {
                if is_marked {
                    topic.read_marked(partition, &mut rest)?;
                } else {
                    let next = read_number(&mut rest)?;
                    topic
                        .next
                        .push(i64::try_from(next).map_err(|_| PositionError::Damaged)?);
                }
            }
            topics.push(topic);
        }
        Ok(Self { as_of, topics })
    }
}

impl Position {
    /// The next offset of one partition; [`BEGINNING`] where it is missing.
    pub fn next(&self, topic: usize, partition: u32) -> i64 {
        let topic = self.topics.get(topic);
        topic
            .and_then(|topic| topic.next.get(partition as usize))
            .copied()
            .unwrap_or(BEGINNING)
    }

    /// The mark of the leader epoch of the record before that.
    pub fn mark(&self, topic: usize, partition: u32) -> u32 {
        let topic = self.topics.get(topic);
        topic.map_or(0, |topic| topic.mark(partition as usize))
    }

    /// Moves a partition to a next offset, with the mark of the record before.
    pub fn set(&mut self, topic: usize, partition: u32, next: i64, mark: u32) {
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.move_to(partition as usize, next);
            topic.set_mark(partition as usize, mark);
        }
    }

    /// Every partition, as the index of its topic, its number and its next offset.
    pub fn partitions(&self) -> impl Iterator<Item = (usize, u32, i64)> {
        self.topics.iter().enumerate().flat_map(|(index, topic)| {
            let partitions = (0..).zip(&topic.next);
            partitions.map(move |(partition, &next)| (index, partition, next))
        })
    }

    /// Whether this position has passed `other`: no partition is behind. A partition that has not begun is behind one
    /// that has, or that is wanted from its beginning. A missing partition is behind any offset, even the first: an id
    /// with that offset must keep it, because only the id shows what retention deletes. Both must be of the same
    /// stream.
    pub fn has_passed(&self, other: &Self) -> bool {
        let reached = |mine: Option<&i64>| match mine {
            None => BEGINNING,
            Some(&BEGINNING) => 0,
            Some(&next) => next,
        };
        other.topics.iter().enumerate().all(|(index, topic)| {
            let mine = self.topics.get(index).map_or(&[] as &[i64], |mine| &mine.next);
            topic
                .next
                .iter()
                .enumerate()
                .all(|(partition, &next)| reached(mine.get(partition)) >= next)
        })
    }

    /// The number of offsets by which this position is ahead of `other`, over the partitions where it is ahead.
    pub(crate) fn offsets_ahead_of(&self, other: &Self) -> u64 {
        let ahead = self.partitions().map(|(topic, partition, next)| {
            let ahead = next.saturating_sub(other.next(topic, partition).max(0));
            ahead.max(0).unsigned_abs()
        });
        ahead.fold(0, u64::saturating_add)
    }

    /// Advances to `other` in every partition where that is ahead.
    pub(crate) fn advance_to(&mut self, other: &Self) {
        for (mine, other) in self.topics.iter_mut().zip(&other.topics) {
            if mine.next.len() < other.next.len() {
                mine.next.resize(other.next.len(), BEGINNING);
            }
            for (partition, &next) in other.next.iter().enumerate() {
                let reached = mine.next[partition];
                if next > reached {
                    mine.next[partition] = next;
                    mine.set_mark(partition, other.mark(partition));
                } else if next == reached && mine.mark(partition) == 0 {
                    mine.set_mark(partition, other.mark(partition));
                }
            }
        }
        self.as_of = self.as_of.max(other.as_of);
    }

    /// Moves back to `other` in every partition where that is behind. A partition that has not begun in `other` is
    /// wanted from its first offset on, but a client may have seen part of it.
    pub(crate) fn retreat_to(&mut self, other: &Self) {
        for (index, topic) in self.topics.iter_mut().enumerate() {
            for partition in 0..topic.next.len() {
                let number = u32::try_from(partition).unwrap_or(u32::MAX);
                let to = other.next(index, number).max(0);
                if to < topic.next[partition] {
                    topic.next[partition] = to;
                    topic.set_mark(partition, other.mark(index, number));
                }
            }
        }
    }

    /// Whether a partition that has begun was not read up to `low`.
    pub(crate) fn misses_before(&self, low: &Self) -> bool {
        let mut partitions = self.partitions();
        partitions.any(|(topic, partition, next)| next >= 0 && next < low.next(topic, partition))
    }

    /// The same partitions, from their beginning.
    #[must_use]
    pub(crate) fn at_beginning(&self) -> Self {
        let mut position = self.clone();
        for topic in &mut position.topics {
            topic.start_over(vec![BEGINNING; topic.next.len()]);
        }
        position
    }

    /// Sets the partitions that are wanted from their beginning to their first offsets, as far as known.
    pub(crate) fn start_at(&mut self, low: &Self) {
        self.replace(BEGINNING, |index, partition| low.next(index, partition));
    }

    /// Sets the partitions whose next offset is `from` to the result of `to` for the topic and the partition.
    pub fn replace(&mut self, from: i64, to: impl Fn(usize, u32) -> i64) {
        for (index, topic) in self.topics.iter_mut().enumerate() {
            for (partition, next) in (0..).zip(&mut topic.next) {
                if *next == from {
                    *next = to(index, partition);
                }
            }
        }
    }

    /// Moves behind one record.
    pub fn pass(&mut self, topic: usize, partition: u32, offset: i64) {
        if let Some(topic) = self.topics.get_mut(topic) {
            let partition = partition as usize;
            if topic.next.len() <= partition {
                topic.next.resize(partition + 1, BEGINNING);
            }
            let next = topic.next[partition].max(offset.saturating_add(1));
            topic.move_to(partition, next);
        }
    }

    /// Whether it has a leader epoch.
    pub(crate) fn names_epochs(&self) -> bool {
        self.topics
            .iter()
            .any(|topic| topic.marks.iter().any(|&mark| mark > 0))
    }

    /// Whether ids stay short enough with a leader epoch for every partition.
    pub(crate) fn has_room_for_epochs(&self) -> bool {
        let mut plain = self.clone();
        plain.forget_epochs();
        plain.id_len_ahead() + encoded_len(self.partitions().count() * ROOM_PER_EPOCH) <= MAX_ID
    }

    /// Removes all leader epochs.
    pub(crate) fn forget_epochs(&mut self) {
        self.topics.iter_mut().for_each(|topic| topic.marks.clear());
    }
}

/// The fingerprint of a topic's id (KIP-516): the CRC-32 of its bytes; zero, which means "unknown", where there is
/// none.
///
/// Unlike names, which people choose, ids are random (KIP-516): a topic that is deleted and created again has the
/// fingerprint of its predecessor once in 4 billion times, and even then only a client that was disconnected misses the
/// change. The reading thread compares whole ids.
pub fn id_fingerprint(id: Option<TopicId>) -> u32 {
    id.map_or(0, |id| crc32fast::hash(&id.to_bytes()).max(1))
}

/// Length of so many bytes in an id.
pub(super) const fn encoded_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Writes bytes as in an id, into a slice of the [`encoded_len`].
pub(super) fn encode_part(bytes: &[u8], out: &mut [u8]) {
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, out);
    debug_assert_eq!(written, Ok(encoded_len(bytes.len())));
}

fn read_number(rest: &mut &[u8]) -> Result<u64, PositionError> {
    varint::read(rest).ok_or(PositionError::Damaged)
}

fn read_fingerprint(rest: &mut &[u8]) -> Result<u32, PositionError> {
    let (bytes, tail) = rest.split_first_chunk::<4>().ok_or(PositionError::Damaged)?;
    *rest = tail;
    Ok(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
