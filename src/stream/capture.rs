//! Captures of the table: all rows of one moment, while the table goes on to change.
//!
//! A capture has no copy of the table. It is read piece by piece like the table itself, and the table hands it every row
//! that leaves, or is replaced, before the capture has reached it. So a capture costs memory only for what changes
//! while it is read; beyond a bound it is void, and its reader gets no more of it.
//!
//! The writer puts the records of a batch into the table one by one, and then all of them into the log. A capture begins
//! between two batches, where both say the same, so that it has a position from which a client can go on.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::log::Sequence;
use super::row::Row;

/// The captures of one table.
#[derive(Debug, Default)]
pub(super) struct Captures {
    open: Vec<Weak<Capture>>,
    /// Whether the table has records that the log does not have yet.
    is_ahead: bool,
}

impl Captures {
    /// Notes that a record is put into the table.
    pub(super) fn get_ahead(&mut self) {
        self.is_ahead = true;
    }

    /// Adds a capture, which begins here if the log, which ends before `next` with this id, has all records.
    pub(super) fn add(&mut self, capture: &Arc<Capture>, next: Sequence, head: &Bytes, fingerprint: u64) {
        self.open.retain(|capture| capture.strong_count() > 0);
        self.open.push(Arc::downgrade(capture));
        if !self.is_ahead {
            capture.begin(next, head, fingerprint);
        }
    }

    /// Notes that the log has all records: those that wait begin.
    pub(super) fn settle(&mut self, next: Sequence, head: &Bytes, fingerprint: u64) {
        self.is_ahead = false;
        for capture in self.open.iter().filter_map(Weak::upgrade) {
            capture.begin(next, head, fingerprint);
        }
    }

    /// Keeps a row that leaves the table for those that have yet to read it. `bound` is for the rows that all
    /// of them may keep, in equal parts.
    pub(super) fn keep(&mut self, sequence: Sequence, row: &Row, bound: usize) {
        if self.open.is_empty() || row.candidate().is_tombstone {
            return;
        }
        self.open.retain(|capture| capture.strong_count() > 0);
        let bound = bound / self.open.len().max(1);
        let mut shared = None;
        for capture in self.open.iter().filter_map(Weak::upgrade) {
            let mut reading = capture.reading.lock();
            if capture.begun().is_some_and(|begun| sequence < begun.until) && sequence >= reading.cursor {
                let row = shared.get_or_insert_with(|| Arc::new(row.clone()));
                reading.keep(sequence, Arc::clone(row), bound);
            }
        }
    }

    /// Ends all captures: a whole topic leaves the table.
    pub(super) fn void(&mut self) {
        for capture in self.open.drain(..).filter_map(|capture| capture.upgrade()) {
            capture.reading.lock().void();
        }
    }
}

/// A capture of one table.
#[derive(Debug)]
pub(super) struct Capture {
    begun: OnceLock<Begun>,
    pub(super) reading: Mutex<Reading>,
}

/// The moment of a capture.
#[derive(Debug)]
pub(super) struct Begun {
    /// The number behind the last row.
    pub(super) until: Sequence,
    /// The id of that place.
    pub(super) id: Bytes,
    /// Says which records the table shows.
    pub(super) fingerprint: u64,
}

/// How far a capture has been read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The number of the next row.
    pub(super) cursor: Sequence,
    /// Rows from there on that have left the table.
    kept: BTreeMap<Sequence, Arc<Row>>,
    cost: usize,
    pub(super) is_void: bool,
}

impl Capture {
    /// A capture that is read from a row on.
    pub(super) fn new(cursor: Sequence) -> Arc<Self> {
        Arc::new(Self {
            begun: OnceLock::new(),
            reading: Mutex::new(Reading {
                cursor,
                ..Reading::default()
            }),
        })
    }

    fn begin(&self, until: Sequence, id: &Bytes, fingerprint: u64) {
        self.begun.get_or_init(|| Begun {
            until,
            id: id.clone(),
            fingerprint,
        });
    }

    /// Its moment, once that has come.
    pub(super) fn begun(&self) -> Option<&Begun> {
        self.begun.get()
    }
}

impl Reading {
    fn keep(&mut self, sequence: Sequence, row: Arc<Row>, bound: usize) {
        if self.is_void {
            return;
        }
        self.cost += row.cost();
        if self.cost > bound {
            return self.void();
        }
        self.kept.insert(sequence, row);
    }

    fn void(&mut self) {
        self.is_void = true;
        self.kept.clear();
    }

    /// Takes out the first row that has left the table, if its number is below `until`, and moves behind it.
    pub(super) fn take_before(&mut self, until: Sequence) -> Option<(Sequence, Arc<Row>)> {
        let first = self.kept.first_entry().filter(|first| *first.key() < until)?;
        let (sequence, row) = first.remove_entry();
        self.cost = self.cost.saturating_sub(row.cost());
        self.cursor = sequence + 1;
        Some((sequence, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_begins_between_two_batches() {
        let mut captures = Captures::default();
        let (early, late) = (Capture::new(0), Capture::new(0));
        captures.add(&early, 5, &Bytes::from_static(b"five"), 0);
        captures.get_ahead();
        captures.add(&late, 5, &Bytes::from_static(b"five"), 0);
        assert!(late.begun().is_none(), "the log lacks records of the table");
        captures.settle(7, &Bytes::from_static(b"seven"), 0);
        let begun = |capture: &Capture| capture.begun().map(|begun| (begun.until, begun.id.clone()));
        assert_eq!(begun(&early), Some((5, "five".into())));
        assert_eq!(begun(&late), Some((7, "seven".into())));
    }
}
