//! The log: the recent records of a stream as finished frames, numbered 1, 2, 3… in order of arrival.
//!
//! Pure data: no clock, no lock, no clients. Records lie in immutable [`Block`]s, so that a
//! reader any number of records behind takes one slice for one write. Small blocks are merged with
//! their neighbours as they come (each byte is copied a number of times that grows with the
//! logarithm of the block size), so a slow trickle of records ends up in large blocks too, while a
//! reader at the head takes the newest small one without any copy.
//!
//! Ids only go forward, which is what finding a place by an id rests on, until a topic begins anew or the log of a
//! partition was truncated: from that *turn* on they are compared among themselves only.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::block::{Block, Entry, Kind, MAX_BLOCK};
use super::filter::Matcher;
use super::position::Position;
use crate::sse::write;

/// Blocks that left the log, of which it is still known where they began, so that a reader who fell off
/// knows at least roughly where it was.
const REMEMBERED_BLOCKS: usize = 4096;

/// Which part of the log's bytes their ids may take: an id may be as long as 6 KiB.
const REMEMBERED_PART: usize = 16;

/// What they may take at least (8 KiB), where a log has few bytes.
const LEAST_REMEMBERED: usize = 8192;

/// What an id takes beside its own bytes: its entry, and its allocation with a reference count.
const ID_OVERHEAD: usize = size_of::<(Sequence, Bytes)>() + 48;

/// About how much is copied out for a client at once (64 KiB): what a client on its way costs in memory,
/// beside its socket's buffers.
pub const PIECE: usize = 64 * 1024;

/// A record's number in its stream, from 1.
pub type Sequence = u64;

/// What a reader finds at its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Frames, the cursor behind them, and how many they are.
    Frames(Bytes, Sequence, u64),
    /// Nothing yet.
    AtHead,
    /// Records that have left the log.
    Evicted,
}

/// The recent records of a stream, bounded in bytes.
#[derive(Debug)]
pub struct Log {
    blocks: VecDeque<(Sequence, Arc<Block>)>,
    /// First record and id before it, of blocks that have left.
    left: VecDeque<(Sequence, Bytes)>,
    remembers: bool,
    /// Of the blocks.
    cost: usize,
    /// Of what is remembered of those that have left.
    left_cost: usize,
    capacity: usize,
    /// Up to which size blocks are merged: small logs have small blocks, so that they still forget
    /// a part at a time.
    max_block: usize,
    next: Sequence,
    /// The first record behind the last [`Kind::Reset`] or [`Kind::Cut`].
    turn: Sequence,
    /// The id of the last event: where a reader at the head stands.
    head: Bytes,
}

impl Log {
    /// An empty log of at most `capacity` bytes, all told.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
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

    /// An empty log without bound that remembers nothing of what it lets go.
    #[must_use]
    pub fn unbounded() -> Self {
        Self {
            remembers: false,
            ..Self::new(usize::MAX)
        }
    }

    /// The number the next record gets: the cursor of a reader that has read everything.
    #[must_use]
    pub fn next(&self) -> Sequence {
        self.next
    }

    /// The number of the oldest record: the cursor of a reader that has read nothing.
    #[must_use]
    pub fn first(&self) -> Sequence {
        self.blocks.front().map_or(self.next, |(first, _)| *first)
    }

    /// Bytes held, index, overhead and the ids of what has left included.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost + self.left_cost
    }

    /// When the oldest record came, or one of the same small block before it that has been merged with it.
    #[must_use]
    pub fn oldest_came(&self) -> Option<Instant> {
        self.blocks.front().map(|(_, block)| block.came)
    }

    /// Where the oldest record came from.
    #[must_use]
    pub fn oldest(&self) -> Option<Entry> {
        self.blocks
            .front()
            .and_then(|(_, block)| block.entries.first().copied())
    }

    /// From which record a reader at `wanted` must look through the log to miss nothing: the first
    /// of the last block before which nothing is wanted. `None` where what it wants has left.
    #[must_use]
    pub fn resume_point(&self, wanted: &Position) -> Option<Sequence> {
        let head = Position::parse(&self.head).ok()?;
        if wanted.has_passed(&head) {
            return Some(self.next);
        }
        // Positions only go forward, so the blocks that begin early enough come first.
        let early = self.blocks.partition_point(|(first, block)| {
            *first < self.turn || block.base().is_some_and(|base| wanted.has_passed(&base))
        });
        let (first, _) = self.blocks.get(early.checked_sub(1)?)?;
        (*first >= self.turn).then_some(*first)
    }

    /// The record before which nothing is wanted from `wanted` on, as nearly as is known: for who looks
    /// for what lies behind it elsewhere, and may have left the log. 1 where nothing is known.
    #[must_use]
    pub fn walk_point(&self, wanted: &Position) -> Sequence {
        let parse = |id: &Bytes| Position::parse(id).ok();
        // What a topic held before it began anew is nowhere any more, so all of it counts as passed.
        let has_passed = |first: Sequence, before: &Bytes| {
            first < self.turn || parse(before).is_some_and(|base| wanted.has_passed(&base))
        };
        if parse(&self.head).is_some_and(|head| wanted.has_passed(&head)) {
            return self.next;
        }
        let held = self
            .blocks
            .partition_point(|(first, block)| has_passed(*first, &block.before));
        let last = match held.checked_sub(1) {
            Some(last) => self.blocks.get(last).map(|(first, _)| *first),
            None => self
                .left
                .partition_point(|(first, before)| has_passed(*first, before))
                .checked_sub(1)
                .and_then(|last| self.left.get(last).map(|(first, _)| *first)),
        };
        // Before that turn, positions say nothing of where others stood.
        last.filter(|first| *first >= self.turn).unwrap_or(1)
    }

    /// Whether the log begins just where `wanted` does, so that nothing in it has to be skipped.
    #[must_use]
    pub fn begins_at(&self, wanted: &Position) -> bool {
        if self.first() < self.turn {
            return false;
        }
        let before = self.blocks.front().map_or(&self.head, |(_, block)| &block.before);
        Position::parse(before).is_ok_and(|base| base.has_passed(wanted))
    }

    /// The record after the event with this very id, if it is in the block that begins at `from`.
    /// A reader that comes back to the replica it left is found by it, and needs no skipping.
    #[must_use]
    pub fn after_id(&self, from: Sequence, id: &[u8]) -> Option<Sequence> {
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

    /// What follows `cursor`, up to the end of its block or about [`PIECE`] bytes, of what `wanted` has
    /// not passed and `matcher` accepts, with ids that never go back behind it. The frames may be empty
    /// although there were records. Nothing is copied for a reader that stands where the log does.
    #[must_use]
    pub fn read_wanted(
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
            // The reader stands where the log does: nothing is skipped, and the ids are its own.
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

    /// Whether a reader at `cursor` whose own position is `wanted` has no more than those before it.
    fn is_at(&self, cursor: Sequence, wanted: &Position) -> bool {
        self.id_before(cursor)
            .and_then(|id| Position::parse(&id).ok())
            .is_some_and(|base| base.has_passed(wanted))
    }

    /// One record as a reader sees it that stands at `wanted`: nothing where that has passed it.
    /// `delete` is shown instead of its frame, where given. Returns false where it has left the log.
    #[must_use]
    pub fn write_wanted(
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

    /// The frame of one record, without a copy; `None` where it has left.
    #[must_use]
    pub fn frame(&self, sequence: Sequence) -> Option<Bytes> {
        let (_, block, index) = self.find(sequence)?;
        Some(
            block
                .data
                .slice(block.start(index)..block.entries[index].end as usize),
        )
    }

    /// The block that holds a record, and the number of its first.
    #[must_use]
    pub fn block_at(&self, sequence: Sequence) -> Option<(Sequence, Arc<Block>)> {
        let (first, block, _) = self.find(sequence)?;
        Some((first, Arc::clone(block)))
    }

    /// A position that a reader who stood at `cursor` had certainly reached, although that has left
    /// the log. `None` where even that is forgotten.
    #[must_use]
    pub fn reached_at(&self, cursor: Sequence) -> Option<Position> {
        let before = self
            .left
            .partition_point(|(first, _)| *first <= cursor)
            .checked_sub(1)?;
        Position::parse(&self.left.get(before)?.1).ok()
    }

    /// The id of a reader at the head.
    #[must_use]
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// Whether the head is the last record's own id: nothing was passed over or hidden behind it.
    #[must_use]
    pub fn ends_with_head(&self) -> bool {
        let newest = self.blocks.back();
        let last = newest.and_then(|(_, block)| Some(block.frame(block.len().checked_sub(1)?)));
        last.is_some_and(|frame| *write::id_of(frame) == *self.head)
    }

    /// Sets the id of a reader at the head, where it changed without a record.
    pub fn set_head(&mut self, id: Bytes) {
        self.head = id;
    }

    /// Changes how large it may become. What is too much leaves at once.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.max_block = MAX_BLOCK.min(capacity / 4);
        self.evict_surplus();
    }

    /// Says that ids from the next record on are not to be compared with those before.
    pub fn turn(&mut self) {
        self.turn = self.next;
    }

    /// Appends what a [`Builder`](super::block::Builder) has built; the oldest blocks leave where the capacity demands it.
    pub fn append(&mut self, blocks: Vec<Block>, head: Bytes) {
        for block in blocks {
            self.append_block(block);
        }
        self.head = head;
        self.evict_surplus();
    }

    /// The newest block stays, however large: a record that no reader can get is worse.
    fn evict_surplus(&mut self) {
        while self.cost() > self.capacity && self.blocks.len() > 1 {
            self.evict();
        }
    }

    /// Lets go the blocks that hold only records before `cursor`.
    pub fn let_go_before(&mut self, cursor: Sequence) {
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

    /// Remembers where a block began. Where that becomes too much, the entry goes that leaves the smallest gap
    /// for its age: what is known of long ago becomes coarser, but is not lost.
    fn remember(&mut self, first: Sequence, id: Bytes) {
        self.left_cost += id.len() + ID_OVERHEAD;
        self.left.push_back((first, id));
        let most = (self.capacity / REMEMBERED_PART).max(LEAST_REMEMBERED);
        while self.left_cost > most || self.left.len() > REMEMBERED_BLOCKS {
            let firsts = self.left.iter().map(|(first, _)| *first);
            // A few microseconds of one pass per block of 256 KiB.
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
        // The readers that are woken stand in the newest block.
        let newest = self.blocks.back().filter(|(first, _)| *first <= sequence);
        let (first, block) = match newest {
            Some(found) => found,
            None => self.blocks.get(
                self.blocks
                    .partition_point(|(first, _)| *first <= sequence)
                    .checked_sub(1)?,
            )?,
        };
        let index = usize::try_from(sequence - first).ok()?;
        (index < block.len()).then_some((*first, block, index))
    }

    /// Everything from `cursor` to the end of its block.
    #[must_use]
    pub fn read(&self, cursor: Sequence) -> Read {
        if cursor >= self.next {
            return Read::AtHead;
        }
        match self.find(cursor) {
            // Counts one reference to the block's bytes; nothing is copied or allocated.
            Some((_, block, index)) => {
                let next = cursor + (block.entries.len() - index) as u64;
                Read::Frames(block.data.slice(block.start(index)..), next, next - cursor)
            }
            None => Read::Evicted,
        }
    }

    /// The id of a reader at `cursor`: that of the event before. `None` where that was evicted.
    #[must_use]
    pub fn id_before(&self, cursor: Sequence) -> Option<Bytes> {
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

/// Appends a record of `block` unless `wanted` has passed it or it is not accepted; either way `wanted`
/// has passed it then. Returns whether it was appended.
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
    out.extend_from_slice(write::without_id(frame));
    true
}
