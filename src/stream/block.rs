//! Blocks: finished frames of successive records in one allocation, immutable, with a small index.
//!
//! The [`log`](super::log) and replays consist of blocks. For each record a block knows the place of its frame, its
//! origin and the fields that filters use. It knows neither readers nor numbers.

use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;

use super::filter::{Candidate, Matcher, key_hash};
use super::position::Position;
use crate::kafka::record::Record;
use crate::sse::write;

/// Most bytes in a block, unless a single record needs more: a stalled socket pins about one.
pub(super) const MAX_BLOCK: usize = 256 * 1024;

/// Bytes of a block beside its data, its entries and the preceding id: counters and pointers.
const BLOCK_OVERHEAD: usize = 256;

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record with a value.
    Record,
    /// A record without one: a delete.
    Tombstone,
    /// Offsets that no longer exist.
    Gap,
    /// Offsets of a truncated log, which are gone or hold other records: the frame's id is behind the one before.
    Cut,
    /// A reset of a topic: the frame's id may be behind the one before.
    Reset,
}

/// The place of a record in its block, and its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockEntry {
    /// End of its frame in the block's bytes; it begins where the one before ends.
    pub(super) end: u32,
    /// Index of its topic in the stream's configuration.
    pub(super) topic: u16,
    /// The kind of its frame.
    pub(super) kind: Kind,
    /// Its partition.
    pub(super) partition: u32,
    /// Its offset.
    pub(super) offset: i64,
    /// [`key_hash`] of its key.
    pub(super) key: u64,
}

impl BlockEntry {
    /// Whether a notice is for a reader with this filter: a reset concerns a topic, a gap one of its partitions.
    pub(super) fn is_read_by(&self, matcher: &Matcher) -> bool {
        let partition = (self.kind != Kind::Reset).then_some(self.partition);
        matcher.reads(usize::from(self.topic), partition)
    }
}

/// Frames of successive records in one allocation.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// When the first record arrived.
    pub(super) came: Instant,
    /// The id of the event before the first: the position of a reader that has read none of these.
    pub(super) before: Bytes,
    pub(super) data: Bytes,
    pub(super) entries: Vec<BlockEntry>,
    /// Headers of all records, packed, and the end of those of each record; empty where no record has any.
    headers: Vec<u8>,
    header_ends: Vec<u32>,
}

impl Block {
    /// Bytes of memory in total.
    pub(super) fn cost(&self) -> usize {
        self.data.len()
            + self.before.len()
            + self.entries.len() * size_of::<BlockEntry>()
            + self.headers.len()
            + self.header_ends.len() * size_of::<u32>()
            + BLOCK_OVERHEAD
    }

    /// Where a record's frame begins.
    pub(super) fn start(&self, index: usize) -> usize {
        index
            .checked_sub(1)
            .map_or(0, |before| self.entries[before].end as usize)
    }

    /// The place of a record's frame.
    pub(super) fn range(&self, index: usize) -> Range<usize> {
        self.start(index)..self.entries[index].end as usize
    }

    pub(super) fn frame(&self, index: usize) -> &[u8] {
        &self.data[self.range(index)]
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The position of a reader that has read everything before this block. `None` before the first id.
    pub(super) fn base(&self) -> Option<Position> {
        Position::parse(&self.before).ok()
    }

    /// A record as filters see it; `None` for a notice, which concerns all readers of its topic.
    pub(super) fn candidate(&self, index: usize) -> Option<Candidate<'_>> {
        let entry = &self.entries[index];
        let headers = match self.header_ends.get(index) {
            Some(&end) => {
                let start = index.checked_sub(1).map_or(0, |before| self.header_ends[before]);
                &self.headers[start as usize..end as usize]
            }
            None => &[],
        };
        matches!(entry.kind, Kind::Record | Kind::Tombstone).then(|| Candidate {
            topic: entry.topic,
            partition: entry.partition,
            key: entry.key,
            is_tombstone: entry.kind == Kind::Tombstone,
            headers,
            frame: self.frame(index),
        })
    }

    /// Whether a record is for a reader with this filter. A notice is for all readers of its topic or partition.
    pub(super) fn is_for(&self, index: usize, matcher: &Matcher) -> bool {
        if let Some(candidate) = self.candidate(index) {
            return matcher.accepts(&candidate);
        }
        self.entries[index].is_read_by(matcher)
    }

    /// Moves a reader back to where the log of a partition was truncated, as this [`Kind::Cut`] says. Returns false for
    /// a reader that has not seen the lost records.
    pub(super) fn take_back(&self, index: usize, wanted: &mut Position) -> bool {
        let entry = &self.entries[index];
        let topic = usize::from(entry.topic);
        let position = |id: &[u8]| Position::parse(id).unwrap_or_default();
        let mark = |position: &Position| position.mark(topic, entry.partition);
        let before = match index.checked_sub(1) {
            Some(before) => position(write::id_of(self.frame(before))),
            None => position(&self.before),
        };
        // A reader with a later epoch than the lost records has read the current log.
        let lost = mark(&before);
        if wanted.next(topic, entry.partition) <= entry.offset || lost > 0 && mark(wanted) > lost {
            return false;
        }
        let shared = mark(&position(write::id_of(self.frame(index))));
        wanted.set(topic, entry.partition, entry.offset, shared);
        true
    }

    pub(super) fn merge(&self, later: &Self) -> Self {
        let mut data = Vec::with_capacity(self.data.len() + later.data.len());
        data.extend_from_slice(&self.data);
        data.extend_from_slice(&later.data);
        let mut entries = Vec::with_capacity(self.entries.len() + later.entries.len());
        entries.extend_from_slice(&self.entries);
        let shift = to_u32(self.start(self.entries.len()));
        // Blocks are merged only up to MAX_BLOCK, so the sum fits.
        entries.extend(later.entries.iter().map(|entry| BlockEntry {
            end: entry.end + shift,
            ..*entry
        }));
        let (mut headers, mut header_ends) = (Vec::new(), Vec::new());
        if !self.header_ends.is_empty() || !later.header_ends.is_empty() {
            header_ends.reserve_exact(entries.len());
            headers.reserve_exact(self.headers.len() + later.headers.len());
            for part in [self, later] {
                let shift = to_u32(headers.len());
                headers.extend_from_slice(&part.headers);
                // A block without headers has no ends either: the headers of its records are empty.
                let end = |index| part.header_ends.get(index).copied().unwrap_or(0);
                header_ends.extend((0..part.len()).map(|index| shift + end(index)));
            }
        }
        Self {
            came: self.came,
            before: self.before.clone(),
            data: data.into(),
            entries,
            headers,
            header_ends,
        }
    }
}

/// Collects the frames of a batch into blocks.
#[derive(Debug)]
pub(super) struct Builder {
    came: Instant,
    before: Bytes,
    data: Vec<u8>,
    entries: Vec<BlockEntry>,
    headers: Vec<u8>,
    header_ends: Vec<u32>,
    finished: Vec<Block>,
    /// Bytes of frames that are expected to follow.
    expected: usize,
}

impl Builder {
    /// A builder for records that arrived at that time and follow the event with the id `before`.
    pub(super) fn new(before: Bytes, came: Instant) -> Self {
        Self {
            came,
            before,
            data: Vec::new(),
            entries: Vec::new(),
            headers: Vec::new(),
            header_ends: Vec::new(),
            finished: Vec::new(),
            expected: 0,
        }
    }

    /// The same, with capacity for about so many bytes of frames, in as many blocks as necessary.
    pub(super) fn with_room(before: Bytes, came: Instant, frames: usize) -> Self {
        let mut builder = Self::new(before, came);
        builder.expected = frames;
        builder.data.reserve(builder.room());
        builder
    }

    /// Expected bytes of the next block; its last frame may go into the block after it.
    fn room(&self) -> usize {
        self.expected.min(MAX_BLOCK + MAX_BLOCK / 4)
    }

    /// When the records arrived.
    pub(super) fn came(&self) -> Instant {
        self.came
    }

    /// The buffer for the next frame.
    pub(super) fn frame(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// The buffer for the next record's headers.
    pub(super) fn headers(&mut self) -> &mut Vec<u8> {
        &mut self.headers
    }

    /// Bytes of the finished frames of the current block, and of their headers.
    fn finished_data(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.end as usize)
    }

    fn finished_headers(&self) -> usize {
        self.header_ends.last().map_or(0, |&end| end as usize)
    }

    /// The frame that was written since the last finished one.
    pub(super) fn unfinished(&self) -> &[u8] {
        &self.data[self.finished_data()..]
    }

    /// The headers that were packed since the last finished frame.
    pub(super) fn unfinished_headers(&self) -> &[u8] {
        &self.headers[self.finished_headers()..]
    }

    /// Discards everything written since the last finished frame.
    pub(super) fn discard_frame(&mut self) {
        self.data.truncate(self.finished_data());
        self.headers.truncate(self.finished_headers());
    }

    /// How many frames were finished.
    pub(super) fn len(&self) -> u64 {
        let finished: usize = self.finished.iter().map(Block::len).sum();
        (finished + self.entries.len()) as u64
    }

    /// The record whose frame was written, as filters see it.
    pub(super) fn candidate(&self, record: &Record<'_>, topic: u16) -> Candidate<'_> {
        Candidate {
            topic,
            partition: record.partition,
            key: key_hash(record.key),
            is_tombstone: record.value.is_none(),
            headers: self.unfinished_headers(),
            frame: self.unfinished(),
        }
    }

    /// Finishes the current frame as that of a record.
    pub(super) fn finish_record(&mut self, record: &Record<'_>, topic: u16) {
        let kind = if record.value.is_none() {
            Kind::Tombstone
        } else {
            Kind::Record
        };
        self.finish_frame(BlockEntry {
            end: 0,
            topic,
            kind,
            partition: record.partition,
            offset: record.offset,
            key: key_hash(record.key),
        });
    }

    /// Finishes the current frame as that of a notice.
    pub(super) fn finish_notice(&mut self, kind: Kind, topic: u16, partition: u32, offset: i64) {
        self.finish_frame(BlockEntry {
            end: 0,
            topic,
            kind,
            partition,
            offset,
            key: 0,
        });
    }

    fn finish_frame(&mut self, entry: BlockEntry) {
        let start = self.finished_data();
        if self.data.len() > MAX_BLOCK && start > 0 {
            self.expected = self.expected.saturating_sub(start);
            let mut frame = Vec::with_capacity(self.room().max(self.data.len() - start));
            frame.extend_from_slice(&self.data[start..]);
            self.data.truncate(start);
            let headers = self.headers.split_off(self.finished_headers());
            self.finish_block();
            self.data = frame;
            self.headers = headers;
        }
        self.entries.push(BlockEntry {
            end: to_u32(self.data.len()),
            ..entry
        });
        self.header_ends.push(to_u32(self.headers.len()));
    }

    fn finish_block(&mut self) {
        let Some(last) = self.entries.len().checked_sub(1) else {
            return;
        };
        let mut block = Block {
            came: self.came,
            before: std::mem::take(&mut self.before),
            // Exact: a log of half-filled vectors would take twice its limit.
            data: Bytes::from(std::mem::take(&mut self.data).into_boxed_slice()),
            entries: std::mem::take(&mut self.entries),
            headers: std::mem::take(&mut self.headers),
            header_ends: std::mem::take(&mut self.header_ends),
        };
        if block.headers.is_empty() {
            block.header_ends = Vec::new();
        }
        block.entries.shrink_to_fit();
        block.headers.shrink_to_fit();
        block.header_ends.shrink_to_fit();
        self.before = Bytes::copy_from_slice(write::id_of(block.frame(last)));
        self.finished.push(block);
    }

    pub(super) fn finish(mut self) -> Vec<Block> {
        self.finish_block();
        self.finished
    }
}

/// An offset in a block. Kafka's largest record is below 2 GiB, and blocks are otherwise limited to [`MAX_BLOCK`].
fn to_u32(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
