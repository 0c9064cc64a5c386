//! The table of a stream behind its lock, and its figures beside the lock.
//!
//! The writer locks the table for every record. On a machine without a processor to spare it may lose its own while it
//! holds the lock, for tens of milliseconds. Health and metrics must not wait for that on a thread that serves clients,
//! so they read the figures without the lock.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::encode::Invalid;
use super::table::{Reached, Table};

/// A table and its lock.
#[derive(Debug)]
pub(super) struct GuardedTable {
    table: RwLock<Table>,
    figures: TableFigures,
}

/// As of the last time that the table was changed. Each is right; two may be of different moments.
#[derive(Debug, Default)]
pub(super) struct TableFigures {
    keys: AtomicUsize,
    bytes: AtomicUsize,
    reached: AtomicU8,
    unusable: [AtomicUsize; Invalid::ALL.len()],
}

/// The lock for writing. The figures follow when it is dropped.
pub(super) struct TableWriteGuard<'a> {
    table: RwLockWriteGuard<'a, Table>,
    figures: &'a TableFigures,
}

impl GuardedTable {
    pub(super) fn new(table: Table) -> Self {
        let figures = TableFigures::default();
        figures.follow(&table);
        Self {
            table: RwLock::new(table),
            figures,
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read()
    }

    pub(super) fn write(&self) -> TableWriteGuard<'_> {
        TableWriteGuard {
            table: self.table.write(),
            figures: &self.figures,
        }
    }

    /// Never waits.
    pub(super) fn figures(&self) -> &TableFigures {
        &self.figures
    }
}

impl TableFigures {
    /// Under the lock for writing: no other writer's figures come in between.
    fn follow(&self, table: &Table) {
        self.keys.store(table.len(), Ordering::Relaxed);
        self.bytes
            .store(table.cost() + table.departed_cost(), Ordering::Relaxed);
        self.reached.store(table.reached().bits(), Ordering::Relaxed);
        for (figure, (_, keys)) in self.unusable.iter().zip(table.unusable()) {
            figure.store(keys, Ordering::Relaxed);
        }
    }

    /// How many keys it holds, markers included.
    pub(super) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Bytes of its rows and of its data on keys without a row.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bounds that make it full.
    pub(super) fn reached(&self) -> Reached {
        Reached::from_bits(self.reached.load(Ordering::Relaxed))
    }

    /// How many keys have a latest record that cannot be shown, by cause.
    pub(super) fn unusable(&self) -> [(Invalid, usize); Invalid::ALL.len()] {
        Invalid::ALL.map(|cause| (cause, self.unusable[cause.index()].load(Ordering::Relaxed)))
    }
}

impl Deref for TableWriteGuard<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

impl DerefMut for TableWriteGuard<'_> {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.table
    }
}

impl Drop for TableWriteGuard<'_> {
    fn drop(&mut self) {
        self.figures.follow(&self.table);
    }
}
