//! The log: the recent records of a stream as finished frames, numbered 1, 2, 3… in order of arrival.
//!
//! Pure data: no clock, no lock, no clients. Records lie in immutable [`Block`]s, so that a
//! reader any number of records behind takes one slice for one write. Small blocks are merged with
//! their neighbours as they come (each byte is copied a number of times that grows with the
//! logarithm of the block size), so a slow trickle of records ends up in large blocks too, while a
//! reader at the head takes the newest small one without any copy.
//!
//! Ids only increase, which finding a place by an id relies on, until a topic is reset or the log of a partition is
//! truncated: from that *turn* on they are comparable among themselves only.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::block::{Block, BlockEntry, Kind, MAX_BLOCK};
use super::control::gap_since;
use super::filter::Matcher;
use super::pieces::PIECE;
use super::position::Position;
use crate::sse::write;

/// Blocks that have left the log of which the first number and id are kept, so that the position of a reader that fell
/// off the log is known roughly.
const REMEMBERED_BLOCKS: usize = 4096;

/// The part of the log's bytes that these ids may take: an id may be as long as 6 KiB.
const REMEMBERED_PART: usize = 16;

/// Bytes that they may always take (8 KiB), for small logs.
const LEAST_REMEMBERED: usize = 8192;

/// Bytes of a remembered id beside its own: its entry, and its allocation with a reference count.
const ID_OVERHEAD: usize = size_of::<(Sequence, Bytes)>() + 48;

/// A record's number in its stream, from 1.
pub(super) type Sequence = u64;

/// The result of a read at a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// Frames, the cursor behind them, and how many they are.
    Frames(Bytes, Sequence, u64),
    /// Nothing yet.
    AtHead,
    /// Records that have left the log.
    Evicted,
}

/// The recent records of a stream, bounded in bytes.
#[derive(Debug)]
pub(super) struct Log {
    blocks: VecDeque<(Sequence, Arc<Block>)>,
    /// First record and preceding id of blocks that have left.
    left: VecDeque<(Sequence, Bytes)>,
    remembers: bool,
    /// Bytes of the blocks.
    cost: usize,
    /// Bytes of `left`.
    left_cost: usize,
    capacity: usize,
    /// Largest size to which blocks are merged: small logs have small blocks, so that they still evict a part at a
    /// time.
    max_block: usize,
    next: Sequence,
    /// The first record behind the last [`Kind::Reset`] or [`Kind::Cut`].
    turn: Sequence,
    /// The id of the last event: the position of a reader at the head.
    head: Bytes,
}

impl Log {
    /// An empty log of at most `capacity` bytes in total.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            left: VecDeque::new(),
            remembers: true,
            cost: 0,
            left_cost: 0,
            capacity,
            max_block: MAX_BLOCK.min(capacity / 4),
            next: 1,
            turn: 1,
            head: Bytes::new(),
        }
    }

    /// An empty log without a bound that does not remember evicted blocks.
    pub(super) fn unbounded() -> Self {
        Self {
            remembers: false,
            ..Self::new(usize::MAX)
        }
    }

    /// The number the next record gets: the cursor of a reader that has read everything.
    pub(super) fn next(&self) -> Sequence {
        self.next
    }

    /// The number of the oldest record: the cursor of a reader that has read nothing.
    pub(super) fn first(&self) -> Sequence {
        self.blocks.front().map_or(self.next, |(first, _)| *first)
    }

    /// Bytes of memory, including the index, overhead and the ids of evicted blocks.
    pub(super) fn cost(&self) -> usize {
        self.cost + self.left_cost
    }

    /// When the oldest record arrived, or an earlier one of the same small block that has been merged with it.
    pub(super) fn oldest_came(&self) -> Option<Instant> {
        self.blocks.front().map(|(_, block)| block.came)
    }

    /// Where the oldest record came from.
    pub(super) fn oldest(&self) -> Option<BlockEntry> {
        self.blocks
            .front()
            .and_then(|(_, block)| block.entries.first().copied())
    }

    /// The record from which a reader at `wanted` must search the log to miss nothing: the first of the last block
    /// before which nothing is wanted. `None` where a wanted record has left the log.
    pub(super) fn resume_point(&self, wanted: &Position) -> Option<Sequence> {
        let head = Position::parse(&self.head).ok()?;
        if wanted.has_passed(&head) {
            return Some(self.next);
        }
        // Positions only increase, so the blocks that begin early enough come first.
        let early = self.blocks.partition_point(|(first, block)| {
            *first < self.turn || block.base().is_some_and(|base| wanted.has_passed(&base))
        });
        let (first, _) = self.blocks.get(early.checked_sub(1)?)?;
        (*first >= self.turn).then_some(*first)
    }

    /// The record before which nothing is wanted from `wanted` on, as precisely as is known, for callers that read
    /// later records elsewhere. It may have left the log. 1 where nothing is known.
    pub(super) fn walk_point(&self, wanted: &Position) -> Sequence {
        let parse = |id: &Bytes| Position::parse(id).ok();
        // The records of a topic before its reset no longer exist, so all of them count as passed.
        let has_passed = |first: Sequence, before: &Bytes| {
            first < self.turn || parse(before).is_some_and(|base| wanted.has_passed(&base))
        };
        if parse(&self.head).is_some_and(|head| wanted.has_passed(&head)) {
            return self.next;
        }
        let held = self
            .blocks
            .partition_point(|(first, block)| has_passed(*first, &block.before));
        let last = if held > 0 {
            self.blocks.get(held - 1).map(|(first, _)| *first)
        } else {
            let left = self
                .left
                .partition_point(|(first, before)| has_passed(*first, before));
            left.checked_sub(1).map(|last| self.left[last].0)
        };
        // Positions from before that turn are not comparable.
        last.filter(|first| *first >= self.turn).unwrap_or(1)
    }

    /// Whether the log begins exactly at `wanted`, so that no record must be skipped.
    pub(super) fn begins_at(&self, wanted: &Position) -> bool {
        if self.first() < self.turn {
            return false;
        }
        let before = self.blocks.front().map_or(&self.head, |(_, block)| &block.before);
        Position::parse(before).is_ok_and(|base| base.has_passed(wanted))
    }

    /// The record after the event with exactly this id, if it is in the block that begins at `from`. A reader that
    /// returns to the same replica is found by it, and skips nothing.
    pub(super) fn after_id(&self, from: Sequence, id: &[u8]) -> Option<Sequence> {
        if *id == *self.head {
            return Some(self.next);
        }
        let (_, block, _) = self.find(from)?;
        if *id == *block.before {
            return Some(from);
        }
        let place = (0..block.len()).find(|&index| write::id_of(block.frame(index)) == id)?;
        Some(from + place as u64 + 1)
    }

    /// The records from `cursor` to the end of its block, or about [`PIECE`] bytes of them, that `wanted` has not
    /// passed and `matcher` accepts, with ids that never go back. The frames may be empty although there were records.
    /// Nothing is copied for a reader at the log's position.
    pub(super) fn read_wanted(
        &self,
        cursor: Sequence,
        wanted: &mut Position,
        matcher: Option<&Matcher>,
        scratch: &mut Vec<u8>,
    ) -> Read {
        if cursor >= self.next {
            return Read::AtHead;
        }
        let Some((_, block, index)) = self.find(cursor) else {
            return Read::Evicted;
        };
        let next = cursor + (block.len() - index) as u64;
        if matcher.is_none() && self.is_at(cursor, wanted) {
            // The reader is at the log's position: nothing is skipped, and the ids are its own.
            if let Ok(end) = Position::parse(write::id_of(block.frame(block.len() - 1))) {
                *wanted = end;
                return Read::Frames(block.data.slice(block.start(index)..), next, next - cursor);
            }
        }
        let (mut out, mut count) = (Vec::new(), 0);
        for place in index..block.len() {
            let is_accepted = || matcher.is_none_or(|matcher| block.is_for(place, matcher));
            count += u64::from(show_wanted(block, place, wanted, is_accepted, scratch, &mut out));
            if out.len() >= PIECE {
                return Read::Frames(out.into(), cursor + (place - index) as u64 + 1, count);
            }
        }
        Read::Frames(out.into(), next, count)
    }

    /// Whether a reader at `cursor` whose own position is `wanted` has read no more than other readers there.
    fn is_at(&self, cursor: Sequence, wanted: &Position) -> bool {
        self.id_before(cursor)
            .and_then(|id| Position::parse(&id).ok())
            .is_some_and(|base| base.has_passed(wanted))
    }

    /// Writes one record for a reader at `wanted`; nothing if `wanted` has passed it. `delete`, if given, replaces its
    /// frame. Returns false if the record has left the log.
    #[must_use]
    pub(super) fn write_wanted(
        &self,
        sequence: Sequence,
        delete: Option<&[u8]>,
        wanted: &mut Position,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some((_, block, index)) = self.find(sequence) else {
            return false;
        };
        let before = out.len();
        let is_shown = show_wanted(block, index, wanted, || true, scratch, out);
        if let Some(delete) = delete.filter(|_| is_shown) {
            let id = before + write::id_line(&out[before..]).len();
            out.truncate(id);
            out.extend_from_slice(delete);
        }
        true
    }

    /// The frame of one record, without a copy; `None` where it has left the log.
    pub(super) fn frame(&self, sequence: Sequence) -> Option<Bytes> {
        let (_, block, index) = self.find(sequence)?;
        Some(block.data.slice(block.range(index)))
    }

    /// The keys of the tombstones from `cursor` up to `until`, by topic and hash; `None` where some of these records
    /// have left the log. One look at each record's entry.
    pub(super) fn deleted_keys(&self, cursor: Sequence, until: Sequence) -> Option<Vec<(u16, u64)>> {
        let (mut keys, mut next) = (Vec::new(), cursor);
        while next < until {
            let (first, block, index) = self.find(next)?;
            let end = usize::try_from(until - first).map_or(block.len(), |end| end.min(block.len()));
            let tombstones = block.entries[index..end]
                .iter()
                .filter(|entry| entry.kind == Kind::Tombstone);
            keys.extend(tombstones.map(|entry| (entry.topic, entry.key)));
            next = first + block.len() as u64;
        }
        Some(keys)
    }

    /// The topic of a record, and the hash of its key; `None` where it has left the log.
    pub(super) fn key_of(&self, sequence: Sequence) -> Option<(u16, u64)> {
        let (_, block, index) = self.find(sequence)?;
        let entry = block.entries.get(index)?;
        Some((entry.topic, entry.key))
    }

    /// The block that holds a record, and the number of its first.
    pub(super) fn block_at(&self, sequence: Sequence) -> Option<(Sequence, Arc<Block>)> {
        let (first, block, _) = self.find(sequence)?;
        Some((first, Arc::clone(block)))
    }

    /// A position that a reader at `cursor` had certainly reached, where that record has left the log. `None` where
    /// that is forgotten.
    pub(super) fn reached_at(&self, cursor: Sequence) -> Option<Position> {
        let later = self.left.partition_point(|(first, _)| *first <= cursor);
        let (_, before) = self.left.get(later.checked_sub(1)?)?;
        Position::parse(before).ok()
    }

    /// The id of a reader at the head.
    pub(super) fn head(&self) -> &Bytes {
        &self.head
    }

    /// Whether the head is the last record's own id: nothing after it was passed over or hidden.
    pub(super) fn ends_with_head(&self) -> bool {
        let newest = self.blocks.back();
        let last = newest.and_then(|(_, block)| Some(block.frame(block.len().checked_sub(1)?)));
        last.is_some_and(|frame| *write::id_of(frame) == *self.head)
    }

    /// Sets the id of a reader at the head, where it changed without a record.
    pub(super) fn set_head(&mut self, id: Bytes) {
        self.head = id;
    }

    /// Sets the capacity. Excess blocks are evicted at once.
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.max_block = MAX_BLOCK.min(capacity / 4);
        self.evict_surplus();
    }

    /// Marks ids from the next record on as not comparable with earlier ones.
    pub(super) fn turn(&mut self) {
        self.turn = self.next;
    }

    /// Appends what a [`Builder`](super::block::Builder) has built; the oldest blocks leave where the capacity demands
    /// it.
    pub(super) fn append(&mut self, blocks: Vec<Block>, head: Bytes) {
        for block in blocks {
            self.append_block(block);
        }
        self.head = head;
        self.evict_surplus();
    }

    /// Keeps the newest block, however large: otherwise no reader could get its record.
    fn evict_surplus(&mut self) {
        while self.cost() > self.capacity && self.blocks.len() > 1 {
            self.evict();
        }
    }

    /// Evicts the blocks that contain only records before `cursor`.
    pub(super) fn let_go_before(&mut self, cursor: Sequence) {
        while self.blocks.get(1).map_or(self.next, |(first, _)| *first) <= cursor && !self.blocks.is_empty() {
            self.evict();
        }
    }

    fn evict(&mut self) {
        if let Some((first, block)) = self.blocks.pop_front() {
            self.cost -= block.cost();
            if self.remembers {
                self.remember(first, block.before.clone());
            }
        }
    }

    /// Remembers the first number and id of a block. Over the limit, the entry is dropped that leaves the smallest gap
    /// for its age, so old positions become coarser but are not lost.
    fn remember(&mut self, first: Sequence, id: Bytes) {
        self.left_cost += id.len() + ID_OVERHEAD;
        self.left.push_back((first, id));
        let most = (self.capacity / REMEMBERED_PART).max(LEAST_REMEMBERED);
        while self.left_cost > most || self.left.len() > REMEMBERED_BLOCKS {
            let firsts = self.left.iter().map(|(first, _)| *first);
            // One pass takes a few microseconds per block of 256 KiB.
            let gaps = firsts.clone().zip(firsts.clone().skip(1)).zip(firsts.skip(2));
            let gap_by_age = |((before, _), after)| (after - before) as f64 / (self.next - before) as f64;
            let gaps = (1..).zip(gaps.map(gap_by_age));
            let Some((least, _)) = gaps.min_by(|one, other| one.1.total_cmp(&other.1)) else {
                break;
            };
            if let Some((_, id)) = self.left.remove(least) {
                self.left_cost -= id.len() + ID_OVERHEAD;
            }
        }
    }

    fn append_block(&mut self, block: Block) {
        let mut first = self.next;
        self.next += block.entries.len() as u64;
        let mut block = Arc::new(block);
        while let Some((last_first, last)) = self.blocks.back() {
            let merged = last.data.len() + block.data.len();
            let is_turn = first == self.turn;
            if is_turn || merged > self.max_block || last.data.len() > 2 * block.data.len() {
                break;
            }
            first = *last_first;
            block = Arc::new(last.merge(&block));
            self.cost -= last.cost();
            self.blocks.pop_back();
        }
        self.cost += block.cost();
        self.blocks.push_back((first, block));
    }

    /// The block that holds a record, and the record's place in it.
    fn find(&self, sequence: Sequence) -> Option<(Sequence, &Arc<Block>, usize)> {
        // Readers that are woken are at the newest block.
        let newest = self.blocks.back().filter(|(first, _)| *first <= sequence);
        let (first, block) = if let Some(found) = newest {
            found
        } else {
            let later = self.blocks.partition_point(|(first, _)| *first <= sequence);
            self.blocks.get(later.checked_sub(1)?)?
        };
        let index = usize::try_from(sequence - first).ok()?;
        (index < block.len()).then_some((*first, block, index))
    }

    /// Everything from `cursor` to the end of its block.
    pub(super) fn read(&self, cursor: Sequence) -> Read {
        if cursor >= self.next {
            return Read::AtHead;
        }
        match self.find(cursor) {
            // Adds one reference to the block's bytes; nothing is copied or allocated.
            Some((_, block, index)) => {
                let next = cursor + (block.entries.len() - index) as u64;
                Read::Frames(block.data.slice(block.start(index)..), next, next - cursor)
            }
            None => Read::Evicted,
        }
    }

    /// The id of a reader at `cursor`: that of the preceding event. `None` where that was evicted.
    pub(super) fn id_before(&self, cursor: Sequence) -> Option<Bytes> {
        if cursor >= self.next {
            return Some(self.head.clone());
        }
        let (_, block, index) = self.find(cursor)?;
        if index == 0 {
            return Some(block.before.clone());
        }
        Some(Bytes::copy_from_slice(write::id_of(block.frame(index - 1))))
    }
}

/// Appends a record of `block` unless `wanted` has passed it or it is not accepted; in either case `wanted` moves
/// behind it. Returns whether it was appended.
fn show_wanted(
    block: &Block,
    index: usize,
    wanted: &mut Position,
    is_accepted: impl FnOnce() -> bool,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> bool {
    let entry = &block.entries[index];
    let topic = usize::from(entry.topic);
    let is_reset = entry.kind == Kind::Reset;
    let is_back = is_reset || entry.kind == Kind::Cut;
    if !is_back && entry.offset < wanted.next(topic, entry.partition) {
        return false;
    }
    if entry.kind == Kind::Cut && !block.take_back(index, wanted) {
        return false;
    }
    if !is_accepted() {
        if !is_back {
            wanted.pass(topic, entry.partition, entry.offset);
        }
        return false;
    }
    let frame = block.frame(index);
    // Others may have asked for less: a gap names nothing that this reader has received.
    let own = (entry.kind == Kind::Gap)
        .then(|| gap_since(write::without_id(frame), wanted.next(topic, entry.partition)));
    if let Ok(shared) = Position::parse(write::id_of(frame)) {
        wanted.advance_to(&shared);
        if is_reset
            && let (Some(wanted), Some(shared)) = (wanted.topics.get_mut(topic), shared.topics.get(topic))
        {
            wanted.clone_from(shared);
        }
    }
    out.extend_from_slice(b"id: ");
    wanted.write_id(scratch, out);
    out.push(b'\n');
    match own.flatten() {
        Some(gap) => out.extend_from_slice(&gap),
        None => out.extend_from_slice(write::without_id(frame)),
    }
    true
}

#[cfg(test)]
mod tests;
