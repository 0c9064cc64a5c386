//! The figures of a table.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::bounds::Reached;
use crate::stream::encode::Invalid;

#[derive(Debug, Default)]
pub(in crate::stream) struct TableFigures {
    keys: AtomicUsize,
    bytes: AtomicUsize,
    reached: AtomicU8,
    unusable_changes: AtomicU64,
    unusable: [AtomicUsize; Invalid::ALL.len()],
}

impl TableFigures {
    /// Called by one thread at a time, under the table's lock.
    pub(super) fn set(&self, keys: usize, bytes: usize, reached: Reached) {
        self.keys.store(keys, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.reached.store(reached.bits(), Ordering::Relaxed);
    }

    /// Likewise; `changes` says how often these have changed, and seldom differs from one call to the next.
    pub(super) fn set_unusable(&self, unusable: &[usize; Invalid::ALL.len()], changes: u64) {
        if self.unusable_changes.load(Ordering::Relaxed) == changes {
            return;
        }
        self.unusable_changes.store(changes, Ordering::Relaxed);
        for (figure, keys) in self.unusable.iter().zip(unusable) {
            figure.store(*keys, Ordering::Relaxed);
        }
    }

    /// How many keys it holds, markers included.
    pub(in crate::stream) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Bytes of its rows and of its data on keys without a row.
    pub(in crate::stream) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bounds that make it full.
    pub(in crate::stream) fn reached(&self) -> Reached {
        Reached::from_bits(self.reached.load(Ordering::Relaxed))
    }

    /// How many keys have a latest record that cannot be shown, by cause.
    pub(in crate::stream) fn unusable(&self) -> [(Invalid, usize); Invalid::ALL.len()] {
        Invalid::ALL.map(|cause| (cause, self.unusable[cause.index()].load(Ordering::Relaxed)))
    }
}
