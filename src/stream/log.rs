//! The log: the recent records of a stream as finished frames, numbered 1, 2, 3… in order of arrival.
//!
//! Pure data: no clock, no lock, no clients. Records lie in immutable [`Block`]s, contiguous bytes
//! with a small index, so that a reader any number of records behind takes one slice for one write.
//! Small blocks are merged with their neighbours as they come (each byte is copied a number of
//! times that grows with the logarithm of the block size), so a slow trickle of records ends up in
//! large blocks too, while a reader at the head takes the newest small one without any copy.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::frame;
use super::position::Position;

/// Most bytes in a block, unless a single record needs more: a stalled socket pins about one.
pub const MAX_BLOCK: usize = 256 * 1024;

/// What a block costs beside its bytes and its entries: counters, pointers, the id before it.
const BLOCK_OVERHEAD: usize = 256;

/// Blocks that left the log, of which it is still known where they stood: a gigabyte's worth of
/// full blocks, so that a reader who fell off knows at least roughly where it was.
const REMEMBERED_BLOCKS: usize = 4096;

/// A record's number in its stream, from 1.
pub type Sequence = u64;

/// Where a record lies in its block, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// End of its frame in the block's bytes; it begins where the one before ends.
    pub end: u32,
    /// Index of its topic in the stream's configuration.
    pub topic: u16,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: i64,
}

/// Frames of successive records in one piece.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// The id of the event before the first: where a reader stands that has read none of these.
    before: Bytes,
    data: Bytes,
    entries: Vec<Entry>,
}

impl Block {
    fn cost(&self) -> usize {
        self.data.len() + self.entries.len() * size_of::<Entry>() + BLOCK_OVERHEAD
    }

    fn start(&self, index: usize) -> usize {
        index
            .checked_sub(1)
            .map_or(0, |before| self.entries[before].end as usize)
    }

    /// The position of a reader that has read all before this block. `None` before the first id.
    fn base(&self) -> Option<Position> {
        Position::parse(&self.before).ok()
    }

    fn merge(&self, later: &Self) -> Self {
        let mut data = Vec::with_capacity(self.data.len() + later.data.len());
        data.extend_from_slice(&self.data);
        data.extend_from_slice(&later.data);
        let mut entries = Vec::with_capacity(self.entries.len() + later.entries.len());
        entries.extend_from_slice(&self.entries);
        let shift = self.start(self.entries.len());
        // Blocks are merged only up to MAX_BLOCK, so the sum fits.
        entries.extend(later.entries.iter().map(|entry| Entry {
            end: entry.end + to_u32(shift),
            ..*entry
        }));
        Self {
            before: self.before.clone(),
            data: data.into(),
            entries,
        }
    }
}

/// Collects the frames of a batch into blocks.
#[derive(Debug)]
pub struct Builder {
    before: Bytes,
    data: Vec<u8>,
    entries: Vec<Entry>,
    finished: Vec<Block>,
}

impl Builder {
    /// A builder that follows the event with the id `before`.
    #[must_use]
    pub fn new(before: Bytes) -> Self {
        Self {
            before,
            data: Vec::new(),
            entries: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// Where the next frame is to be written.
    pub fn frame(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// What was written since the last finished frame.
    #[must_use]
    pub fn unfinished(&self) -> &[u8] {
        &self.data[self.entries.last().map_or(0, |entry| entry.end as usize)..]
    }

    /// Takes back what was written since the last finished frame.
    pub fn discard_frame(&mut self) {
        self.data
            .truncate(self.entries.last().map_or(0, |entry| entry.end as usize));
    }

    /// How many frames were finished.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.finished
            .iter()
            .map(|block| block.entries.len() as u64)
            .sum::<u64>()
            + self.entries.len() as u64
    }

    /// Whether no frame was finished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what was written since the last call as the frame of one record.
    pub fn finish_frame(&mut self, topic: u16, partition: u32, offset: i64) {
        let start = self.entries.last().map_or(0, |entry| entry.end as usize);
        if self.data.len() > MAX_BLOCK && start > 0 {
            let frame = self.data.split_off(start);
            self.finish_block();
            self.data = frame;
        }
        self.entries.push(Entry {
            end: to_u32(self.data.len()),
            topic,
            partition,
            offset,
        });
    }

    fn finish_block(&mut self) {
        let Some(last) = self.entries.len().checked_sub(1) else {
            return;
        };
        let mut block = Block {
            before: std::mem::take(&mut self.before),
            // Exact: a log of half-filled vectors would hold twice what it is allowed.
            data: Bytes::from(std::mem::take(&mut self.data).into_boxed_slice()),
            entries: std::mem::take(&mut self.entries),
        };
        block.entries.shrink_to_fit();
        self.before = Bytes::copy_from_slice(frame::id_of(&block.data[block.start(last)..]));
        self.finished.push(block);
    }

    /// The blocks.
    #[must_use]
    pub fn finish(mut self) -> Vec<Block> {
        self.finish_block();
        self.finished
    }
}

/// What a reader finds at its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Frames, and the cursor behind them.
    Frames(Bytes, Sequence),
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
    cost: usize,
    capacity: usize,
    /// Up to which size blocks are merged: small logs have small blocks, so that they still forget
    /// a part at a time.
    max_block: usize,
    next: Sequence,
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
            capacity,
            max_block: MAX_BLOCK.min(capacity / 4),
            next: 1,
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

    /// Bytes held, index and overhead included.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
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
        let early = self
            .blocks
            .partition_point(|(_, block)| block.base().is_some_and(|base| wanted.has_passed(&base)));
        self.blocks.get(early.checked_sub(1)?).map(|(first, _)| *first)
    }

    /// Whether the log begins just where `wanted` does, so that nothing in it has to be skipped.
    #[must_use]
    pub fn begins_at(&self, wanted: &Position) -> bool {
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
        let (block, _) = self.find(from)?;
        if *id == *block.before {
            return Some(from);
        }
        let place =
            (0..block.entries.len()).find(|&index| frame::id_of(&block.data[block.start(index)..]) == id)?;
        Some(from + place as u64 + 1)
    }

    /// Everything from `cursor` to the end of its block that `wanted` has not passed, with ids that
    /// never go back behind it. The frames may be empty although there were records.
    #[must_use]
    pub fn read_wanted(&self, cursor: Sequence, wanted: &mut Position, scratch: &mut Vec<u8>) -> Read {
        if cursor >= self.next {
            return Read::AtHead;
        }
        let Some((block, index)) = self.find(cursor) else {
            return Read::Evicted;
        };
        let mut out = Vec::new();
        for (place, entry) in block.entries.iter().enumerate().skip(index) {
            if entry.offset < wanted.next(usize::from(entry.topic), entry.partition) {
                continue;
            }
            let frame = &block.data[block.start(place)..entry.end as usize];
            if let Ok(shared) = Position::parse(frame::id_of(frame)) {
                wanted.advance_to(&shared);
            }
            out.extend_from_slice(b"id: ");
            wanted.write_id(scratch, &mut out);
            out.push(b'\n');
            out.extend_from_slice(frame::without_id(frame));
        }
        Read::Frames(out.into(), cursor + (block.entries.len() - index) as u64)
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

    /// Sets the id of a reader at the head, where it changed without a record.
    pub fn set_head(&mut self, id: Bytes) {
        self.head = id;
    }

    /// Appends what a [`Builder`] has built; the oldest blocks leave where the capacity demands it.
    pub fn append(&mut self, blocks: Vec<Block>, head: Bytes) {
        for block in blocks {
            self.append_block(block);
        }
        self.head = head;
        // The newest block stays, however large: a record that no reader can get is worse.
        while self.cost > self.capacity && self.blocks.len() > 1 {
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
                if self.left.len() == REMEMBERED_BLOCKS {
                    self.left.pop_front();
                }
                self.left.push_back((first, block.before.clone()));
            }
        }
    }

    fn append_block(&mut self, block: Block) {
        let mut first = self.next;
        self.next += block.entries.len() as u64;
        let mut block = Arc::new(block);
        while let Some((last_first, last)) = self.blocks.back() {
            let merged = last.data.len() + block.data.len();
            if merged > self.max_block || last.data.len() > 2 * block.data.len() {
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
    fn find(&self, sequence: Sequence) -> Option<(&Block, usize)> {
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
        (index < block.entries.len()).then_some((block, index))
    }

    /// Everything from `cursor` to the end of its block.
    #[must_use]
    pub fn read(&self, cursor: Sequence) -> Read {
        if cursor >= self.next {
            return Read::AtHead;
        }
        match self.find(cursor) {
            // Counts one reference to the block's bytes; nothing is copied or allocated.
            Some((block, index)) => {
                let next = cursor + (block.entries.len() - index) as u64;
                Read::Frames(block.data.slice(block.start(index)..), next)
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
        let (block, index) = self.find(cursor)?;
        if index == 0 {
            return Some(block.before.clone());
        }
        let frame = &block.data[block.start(index - 1)..];
        Some(Bytes::copy_from_slice(frame::id_of(frame)))
    }
}

/// A place in a block. Kafka's largest record is below 2 GiB, and frames are cut off at
/// [`MAX_BLOCK`] otherwise.
fn to_u32(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
