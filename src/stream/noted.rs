//! Notes the matches of a group of readers in little memory, and bounds the memory of all groups of a stream together.
//!
//! Numbers are kept as one bit each, in words of 64: a group that matches nearly everything needs two bits per record,
//! one that matches little a word per match. No lock, no readers, no filters.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::log::Sequence;

/// Bytes that a group may always use: twice the records of one batch, as bits. So a reader that has read up to the last
/// batch finds the next one noted, however many groups there are.
pub(super) const LEAST: usize = 2 * 4096 / 64 * size_of::<Word>();

/// The part of the log's bytes that all groups together may use beyond that. Up to twice as much is used while new
/// groups have joined and others have not shrunk yet.
const PART_OF_LOG: usize = 8;

/// Bytes that the frames of deletes may take for a log of this size: a quarter, or the tombstones of a batch if that is
/// more.
fn most_frames(log_bytes: usize) -> usize {
    (log_bytes / 4).max(512 * 1024)
}

/// Bytes that the trie of paths may use for a log of this size: a twelfth, so an eighth with its reserve of half as
/// much again.
fn most_paths(log_bytes: usize) -> usize {
    (log_bytes / 12).max(160 * 1024)
}

/// Up to 64 successive numbers.
#[derive(Debug, Clone, Copy)]
struct Word {
    /// The first of them, a multiple of 64.
    base: Sequence,
    /// Which of them are noted.
    bits: u64,
    /// Which of those are shown as deletes.
    deletes: u64,
}

impl Word {
    fn last(self) -> Sequence {
        self.base + 63 - Sequence::from(self.bits.leading_zeros())
    }

    /// The noted numbers from `cursor` on.
    fn from(self, cursor: Sequence) -> impl Iterator<Item = (Sequence, bool)> {
        let passed = cursor.saturating_sub(self.base);
        let mut bits = if passed < 64 {
            self.bits >> passed << passed
        } else {
            0
        };
        std::iter::from_fn(move || {
            (bits != 0).then(|| {
                let place = bits.trailing_zeros();
                bits &= bits - 1;
                (self.base + Sequence::from(place), self.deletes >> place & 1 == 1)
            })
        })
    }
}

/// Numbers of records in ascending order.
#[derive(Debug, Default)]
pub(super) struct Numbers(VecDeque<Word>);

impl Numbers {
    /// Notes a number, not below any before, and whether it is shown as a delete. Returns whether it was new.
    pub(super) fn push(&mut self, number: Sequence, is_delete: bool) -> bool {
        let (base, bit) = (number & !63, 1 << (number & 63));
        let deletes = if is_delete { bit } else { 0 };
        match self.0.back_mut() {
            Some(word) if word.base == base => {
                let is_new = word.bits & bit == 0;
                word.bits |= bit;
                word.deletes |= deletes;
                is_new
            }
            _ => {
                if self.0.len() == self.0.capacity() {
                    // Grows by an eighth instead of doubling: capacity counts too.
                    self.0.reserve_exact(self.0.len() / 8 + 16);
                }
                self.0.push_back(Word {
                    base,
                    bits: bit,
                    deletes,
                });
                true
            }
        }
    }

    /// The last number of the oldest word.
    pub(super) fn oldest(&self) -> Option<Sequence> {
        self.0.front().map(|word| word.last())
    }

    /// Forgets the oldest word.
    pub(super) fn pop(&mut self) {
        self.0.pop_front();
        if self.0.capacity() > 64 && self.0.capacity() / 4 > self.0.len() {
            self.0.shrink_to(self.0.len() * 2);
        }
    }

    /// The numbers from `cursor` on, each with whether it is shown as a delete.
    pub(super) fn from(&self, cursor: Sequence) -> impl Iterator<Item = (Sequence, bool)> {
        let first = self.0.partition_point(|word| word.base + 63 < cursor);
        self.0.range(first..).flat_map(move |word| word.from(cursor))
    }

    /// Bytes of memory in total.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Word>()
    }
}

impl FromIterator<Sequence> for Numbers {
    fn from_iter<I: IntoIterator<Item = Sequence>>(numbers: I) -> Self {
        let mut noted = Self::default();
        for number in numbers {
            noted.push(number, false);
        }
        noted.0.shrink_to_fit();
        noted
    }
}

/// The frames that replace records as deletes: each once for all groups that show it.
#[derive(Debug)]
pub(super) struct DeleteFrames {
    frames: Mutex<Frames>,
    /// Bytes of memory, for those who must not wait.
    bytes: AtomicUsize,
}

#[derive(Debug)]
struct Frames {
    /// In ascending order.
    all: VecDeque<(Sequence, Arc<[u8]>)>,
    bytes: usize,
    most: usize,
    /// The last one that was dropped.
    lost: Sequence,
}

impl Frames {
    fn cost(frame: &[u8]) -> usize {
        size_of::<(Sequence, Arc<[u8]>)>() + frame.len()
    }

    fn pop(&mut self) {
        if let Some((number, frame)) = self.all.pop_front() {
            self.bytes -= Self::cost(&frame);
            self.lost = number;
        }
        if self.all.capacity() > 64 && self.all.capacity() / 4 > self.all.len() {
            self.all.shrink_to(self.all.len() * 2);
        }
    }
}

impl DeleteFrames {
    /// No frames, for a log of this size.
    pub(super) fn new(log_bytes: usize) -> Self {
        Self {
            frames: Mutex::new(Frames {
                all: VecDeque::new(),
                bytes: 0,
                most: most_frames(log_bytes),
                lost: 0,
            }),
            bytes: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock()
    }

    pub(super) fn set_log_bytes(&self, log_bytes: usize) {
        self.lock().most = most_frames(log_bytes);
    }

    /// Keeps a frame for a record, whose number is above all before. Drops frames before `first`, the oldest record of
    /// the log, and the oldest ones over the limit.
    pub(super) fn push(&self, number: Sequence, frame: Arc<[u8]>, first: Sequence) {
        let mut frames = self.lock();
        frames.bytes += Frames::cost(&frame);
        frames.all.push_back((number, frame));
        while frames.bytes > frames.most || frames.all.front().is_some_and(|(oldest, _)| *oldest < first) {
            frames.pop();
        }
        self.bytes.store(frames.bytes, Ordering::Relaxed);
    }

    /// The frame of a record.
    ///
    /// # Errors
    /// The last record whose frame was dropped, where this record's was.
    pub(super) fn get(&self, number: Sequence) -> Result<Arc<[u8]>, Sequence> {
        let frames = self.lock();
        let index = frames.all.binary_search_by_key(&number, |(number, _)| *number);
        let found = index.ok().and_then(|index| frames.all.get(index));
        found
            .map(|(_, frame)| Arc::clone(frame))
            .ok_or(frames.lost.max(number))
    }

    /// Bytes of memory in total.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The memory that all groups of a stream use together.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    groups: AtomicUsize,
    most: AtomicUsize,
    most_paths: AtomicUsize,
    /// Bytes that the trie of paths uses.
    used_by_paths: AtomicUsize,
    /// Bytes that the trie holds, its reserve included.
    paths: AtomicUsize,
}

impl Budget {
    /// A budget for groups of a log of this size.
    pub(super) fn new(log_bytes: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            groups: AtomicUsize::new(0),
            most: AtomicUsize::new(log_bytes / PART_OF_LOG),
            most_paths: AtomicUsize::new(most_paths(log_bytes)),
            used_by_paths: AtomicUsize::new(0),
            paths: AtomicUsize::new(0),
        }
    }

    /// Sets the number of bytes that the log may hold.
    pub(super) fn set_log_bytes(&self, log_bytes: usize) {
        self.most.store(log_bytes / PART_OF_LOG, Ordering::Relaxed);
        self.most_paths.store(most_paths(log_bytes), Ordering::Relaxed);
    }

    /// Whether a group that holds so many bytes may note more: at the limit of all groups together, each has an equal
    /// share. The trie of paths takes its part first.
    pub(super) fn allows(&self, held: usize) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let most = most.saturating_sub(self.paths.load(Ordering::Relaxed));
        held < LEAST
            || self.used.load(Ordering::Relaxed) < most
            || held < most / self.groups.load(Ordering::Relaxed).max(1)
    }

    /// Notes that the bytes of a group changed.
    pub(super) fn count(&self, before: usize, now: usize) {
        if now > before {
            self.used.fetch_add(now - before, Ordering::Relaxed);
        } else if now < before {
            self.used.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Whether paths of so many bytes may be added to the trie.
    pub(super) fn allows_paths(&self, bytes: usize) -> bool {
        let most = self.most_paths.load(Ordering::Relaxed);
        self.used_by_paths.load(Ordering::Relaxed) + bytes <= most
    }

    /// Counts paths of at most so many bytes that are about to be added to the trie.
    pub(super) fn add_paths(&self, bytes: usize) {
        self.used_by_paths.fetch_add(bytes, Ordering::Relaxed);
        self.paths.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sets the bytes that the trie uses and holds.
    pub(super) fn set_paths(&self, used: usize, held: usize) {
        self.used_by_paths.store(used, Ordering::Relaxed);
        self.paths.store(held, Ordering::Relaxed);
    }

    /// Bytes that the trie holds.
    pub(super) fn paths(&self) -> usize {
        self.paths.load(Ordering::Relaxed)
    }

    /// Adds a group.
    pub(super) fn enter(&self) {
        self.groups.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes a group, which held so many bytes.
    pub(super) fn leave(&self, held: usize) {
        self.groups.fetch_sub(1, Ordering::Relaxed);
        self.used.fetch_sub(held, Ordering::Relaxed);
    }

    /// Bytes that all groups hold.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
