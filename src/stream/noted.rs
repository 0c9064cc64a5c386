//! Which records are for a group of readers, noted in little memory, and a bound on what all groups of a stream
//! note together.
//!
//! Numbers are kept as one bit each, in words of 64: a group that wants nearly everything needs two bits per
//! record, one that wants little a word per match. No lock, no readers, no filters.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::log::Sequence;

/// What a group may always note, in bytes: twice the records that one batch can bring, as bits. So who has
/// taken all up to the last batch finds the next one noted, however many groups there are.
pub(super) const LEAST: usize = 2 * 4096 / 64 * size_of::<Word>();

/// What all groups may note together beyond that, as a part of the bytes of the log they look at: a half here
/// and at most as much again where groups came later and others have not shrunk yet.
const PART_OF_LOG: usize = 8;

/// The bytes that the frames of deletes may take beside a log of so many: a quarter, and what a batch of tombstones
/// can bring.
fn most_frames(log_bytes: usize) -> usize {
    (log_bytes / 4).max(512 * 1024)
}

/// The bytes that the trie of paths may use beside a log of so many: with what it holds in reserve, half as much again,
/// an eighth.
fn most_paths(log_bytes: usize) -> usize {
    (log_bytes / 12).max(160 * 1024)
}

/// Up to 64 numbers that follow each other.
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
    /// Notes a number, which none before is above, and whether it is shown as a delete. Returns whether it was new.
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
                    // By an eighth, not to twice as much: all of it counts.
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

    /// Bytes of memory they take.
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

/// The frames that are shown in the place of records, as deletes: each once for all groups that want it.
#[derive(Debug)]
pub(super) struct DeleteFrames(Mutex<Frames>);

#[derive(Debug)]
struct Frames {
    /// In ascending order.
    all: VecDeque<(Sequence, Arc<[u8]>)>,
    bytes: usize,
    most: usize,
    /// The last that had to go.
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
    /// None yet, beside a log of so many bytes.
    pub(super) fn new(log_bytes: usize) -> Self {
        Self(Mutex::new(Frames {
            all: VecDeque::new(),
            bytes: 0,
            most: most_frames(log_bytes),
            lost: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.0.lock()
    }

    pub(super) fn set_log_bytes(&self, log_bytes: usize) {
        self.lock().most = most_frames(log_bytes);
    }

    /// Keeps a frame for a record, above all before. What is older than `first`, the oldest record of the log,
    /// goes, and so does the oldest of more than they may take.
    pub(super) fn push(&self, number: Sequence, frame: Arc<[u8]>, first: Sequence) {
        let mut frames = self.lock();
        frames.bytes += Frames::cost(&frame);
        frames.all.push_back((number, frame));
        while frames.bytes > frames.most || frames.all.front().is_some_and(|(oldest, _)| *oldest < first) {
            frames.pop();
        }
    }

    /// The frame for a record that has one.
    ///
    /// # Errors
    /// The last record whose frame had to go, where that is one of them.
    pub(super) fn get(&self, number: Sequence) -> Result<Arc<[u8]>, Sequence> {
        let frames = self.lock();
        let index = frames.all.binary_search_by_key(&number, |(number, _)| *number);
        let found = index.ok().and_then(|index| frames.all.get(index));
        found
            .map(|(_, frame)| Arc::clone(frame))
            .ok_or(frames.lost.max(number))
    }

    /// Bytes of memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

/// What all groups of a stream note together.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    groups: AtomicUsize,
    most: AtomicUsize,
    most_paths: AtomicUsize,
    /// What the trie of paths uses.
    used_by_paths: AtomicUsize,
    /// What it holds.
    paths: AtomicUsize,
}

impl Budget {
    /// For groups that look at a log of so many bytes.
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

    /// The log may hold so many bytes from now on.
    pub(super) fn set_log_bytes(&self, log_bytes: usize) {
        self.most.store(log_bytes / PART_OF_LOG, Ordering::Relaxed);
        self.most_paths.store(most_paths(log_bytes), Ordering::Relaxed);
    }

    /// Whether a group that holds so many bytes may note more: where all together hold what they may, each has
    /// its share. The trie of paths takes its part first.
    pub(super) fn allows(&self, held: usize) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let most = most.saturating_sub(self.paths.load(Ordering::Relaxed));
        held < LEAST
            || self.used.load(Ordering::Relaxed) < most
            || held < most / self.groups.load(Ordering::Relaxed).max(1)
    }

    /// A group holds so many bytes, and held others before.
    pub(super) fn count(&self, before: usize, now: usize) {
        if now > before {
            self.used.fetch_add(now - before, Ordering::Relaxed);
        } else if now < before {
            self.used.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Whether paths that take so many bytes may be added to the trie.
    pub(super) fn allows_paths(&self, bytes: usize) -> bool {
        let most = self.most_paths.load(Ordering::Relaxed);
        self.used_by_paths.load(Ordering::Relaxed) + bytes <= most
    }

    /// Paths of at most so many bytes are about to be added to the trie.
    pub(super) fn add_paths(&self, bytes: usize) {
        self.used_by_paths.fetch_add(bytes, Ordering::Relaxed);
        self.paths.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What the trie uses and holds now.
    pub(super) fn set_paths(&self, used: usize, held: usize) {
        self.used_by_paths.store(used, Ordering::Relaxed);
        self.paths.store(held, Ordering::Relaxed);
    }

    /// What the trie holds.
    pub(super) fn paths(&self) -> usize {
        self.paths.load(Ordering::Relaxed)
    }

    /// One group more.
    pub(super) fn enter(&self) {
        self.groups.fetch_add(1, Ordering::Relaxed);
    }

    /// One group less, which held so many bytes.
    pub(super) fn leave(&self, held: usize) {
        self.groups.fetch_sub(1, Ordering::Relaxed);
        self.used.fetch_sub(held, Ordering::Relaxed);
    }

    /// Bytes that all groups hold.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
