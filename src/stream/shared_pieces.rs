//! Pieces of the table that readers share while they scan it at once.
//!
//! A reader that wants all rows, without a filter, gets the same bytes as any other that is at the same row and
//! position. So each piece is written once, and a reader holds no more than a reference to it. A piece is dropped when one
//! of its rows leaves the table; the next reader that comes there writes it again, up to the next piece that is still
//! there, so that readers do not lose step with each other.
//!
//! All pieces of a table are freed when the last of these readers lets go of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::log::Sequence;
use super::pieces::{AMPLE, PIECE, SMALL_PIECE};
use super::position::Position;
use super::truncation::LogEpochs;

/// How long a reader that has read the table keeps the pieces for others: those that connect at once do not all scan at
/// the same instant, because the buffers of a socket may take a whole table.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(2);

/// Most bytes of the pieces of one table.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Most bytes of the pieces of all tables: below [`AMPLE`], so that kept pieces alone never make the pieces of other readers
/// small. What clients hold beside them is no reason to keep less: they would hold more, each a copy of its own.
const MOST_BYTES_OF_ALL: usize = AMPLE / 4 * 3;

/// Bytes of the pieces of all tables.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Most readers at one row whose positions differ, each with its own piece. They differ where the last row of a partition
/// has moved after some readers had read it.
const MOST_VARIANTS: usize = 4;

/// The pieces of one table, while a reader holds them.
#[derive(Debug, Default)]
pub(super) struct PiecesInUse(Mutex<Weak<SharedPieces>>);

/// The pieces of one table, held by its readers.
#[derive(Debug, Default)]
pub(super) struct SharedPieces(Mutex<Pieces>);

#[derive(Debug, Default)]
struct Pieces {
    /// By their first row; none overlaps another.
    ranges: BTreeMap<Sequence, Range>,
    cost: usize,
    /// Counts uses.
    clock: u64,
}

/// Consecutive rows.
#[derive(Debug)]
pub(super) struct Range {
    /// The number behind the last row.
    end: Sequence,
    /// Whether it ends because its reader did: then there may be space for later rows.
    is_tail: bool,
    variants: Vec<Variant>,
}

/// The rows of a range for readers at one position.
#[derive(Debug)]
pub(super) struct Variant {
    before: Position,
    epochs: Option<Arc<LogEpochs>>,
    after: Position,
    shown: u64,
    bytes: Bytes,
    last_use: u64,
}

/// A piece that others have written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SharedPiece {
    pub(super) bytes: Bytes,
    /// How many rows it shows.
    pub(super) shown: u64,
    /// The number behind its last row.
    pub(super) end: Sequence,
    /// The reader's position behind it.
    pub(super) after: Position,
}

/// What a reader writes itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) end: Sequence,
    /// Whether others may want it too.
    pub(super) is_shared: bool,
    /// Whether others, at another position, have a piece that ends there: this one may be a little larger.
    pub(super) is_variant: bool,
}

impl Variant {
    /// The bytes of a range, which take a reader from one position to another and show so many rows.
    pub(super) fn new(
        (before, after): (Position, Position),
        epochs: Option<Arc<LogEpochs>>,
        bytes: Bytes,
        shown: u64,
    ) -> Self {
        Self {
            before,
            epochs,
            after,
            shown,
            bytes,
            last_use: 0,
        }
    }

    fn is_for(&self, position: &Position, epochs: Option<&Arc<LogEpochs>>) -> bool {
        let has_same_epochs = match (&self.epochs, epochs) {
            (Some(mine), Some(other)) => Arc::ptr_eq(mine, other),
            (None, None) => true,
            _ => false,
        };
        has_same_epochs && self.before == *position
    }

    /// Its bytes at least, so that there are never many pieces.
    fn cost(&self) -> usize {
        self.bytes.len().max(SMALL_PIECE)
    }
}

impl PiecesInUse {
    /// The pieces, which exist for as long as one reader holds them.
    pub(super) fn hold(&self) -> Arc<SharedPieces> {
        let mut pieces = self.0.lock();
        pieces.upgrade().unwrap_or_else(|| {
            let new = Arc::default();
            *pieces = Arc::downgrade(&new);
            new
        })
    }

    /// Drops the piece that shows a row which leaves the table.
    pub(super) fn forget_row(&mut self, row: Sequence) {
        if let Some(pieces) = self.0.get_mut().upgrade() {
            pieces.forget_row(row);
        }
    }

    /// Drops all pieces.
    pub(super) fn clear(&mut self) {
        if let Some(pieces) = self.0.get_mut().upgrade() {
            *pieces.0.lock() = Pieces::default();
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.subtract(self.cost);
    }
}

impl SharedPieces {
    /// The piece of a reader whose scan is at a row and a position, and ends at another row; or what it has to write
    /// itself.
    pub(super) fn find(
        &self,
        (cursor, until): (Sequence, Sequence),
        position: &Position,
        epochs: Option<&Arc<LogEpochs>>,
    ) -> Result<SharedPiece, Gap> {
        let mut pieces = self.0.lock();
        let pieces = &mut *pieces;
        let own = |end| Gap {
            end,
            is_shared: false,
            is_variant: false,
        };
        if let Some((&start, range)) = pieces.ranges.range_mut(..=cursor).next_back()
            && cursor < range.end
        {
            let end = range.end;
            if start < cursor || end > until {
                return Err(own(end.min(until)));
            }
            if range.is_tail && end < until {
                pieces.drop_range(start);
            } else if let Some(variant) = range.variant(position, epochs) {
                pieces.clock += 1;
                variant.last_use = pieces.clock;
                return Ok(SharedPiece {
                    bytes: variant.bytes.clone(),
                    shown: variant.shown,
                    end,
                    after: variant.after.clone(),
                });
            } else {
                return Err(Gap {
                    end,
                    is_shared: true,
                    is_variant: true,
                });
            }
        }
        let next = pieces.ranges.range(cursor..).next();
        Err(Gap {
            end: next.map_or(until, |(&next, _)| next.min(until)),
            is_shared: true,
            is_variant: false,
        })
    }

    /// Adds a piece that begins at `start`, unless others have changed meanwhile. Returns the bytes that all share.
    pub(super) fn add(&self, start: Sequence, mut new: Range, mut variant: Variant) -> Bytes {
        let bytes = variant.bytes.clone();
        let mut pieces = self.0.lock();
        let pieces = &mut *pieces;
        pieces.clock += 1;
        variant.last_use = pieces.clock;
        if let Some((&before, range)) = pieces.ranges.range_mut(..new.end).next_back()
            && range.end > start
        {
            if (before, range.end) != (start, new.end) {
                return bytes;
            }
            if let Some(same) = range.variant(&variant.before, variant.epochs.as_ref()) {
                same.last_use = pieces.clock;
                return same.bytes.clone();
            }
            let cost = variant.cost();
            range.variants.push(variant);
            if range.variants.len() > MOST_VARIANTS {
                let oldest = range.variants.remove(0);
                pieces.subtract(oldest.cost());
            }
            pieces.add(cost);
        } else {
            pieces.add(variant.cost());
            new.variants.push(variant);
            pieces.ranges.insert(start, new);
        }
        let others = KEPT.load(Ordering::Relaxed).saturating_sub(pieces.cost);
        let most = MOST_BYTES_OF_ALL.saturating_sub(others).clamp(PIECE, MOST_BYTES);
        while pieces.cost > most && pieces.drop_least_recently_used() {}
        bytes
    }

    /// Drops the piece that shows a row.
    fn forget_row(&self, row: Sequence) {
        let mut pieces = self.0.lock();
        if let Some((&start, range)) = pieces.ranges.range(..=row).next_back()
            && row < range.end
        {
            pieces.drop_range(start);
        }
    }
}

impl Range {
    /// Rows that nobody has written yet, up to `end`.
    pub(super) fn new(end: Sequence, is_tail: bool) -> Self {
        Self {
            end,
            is_tail,
            variants: Vec::new(),
        }
    }

    fn variant(&mut self, position: &Position, epochs: Option<&Arc<LogEpochs>>) -> Option<&mut Variant> {
        let mut variants = self.variants.iter_mut();
        variants.find(|variant| variant.is_for(position, epochs))
    }

    fn cost(&self) -> usize {
        self.variants.iter().map(Variant::cost).sum()
    }
}

impl Pieces {
    fn add(&mut self, cost: usize) {
        self.cost += cost;
        KEPT.fetch_add(cost, Ordering::Relaxed);
    }

    fn subtract(&mut self, cost: usize) {
        self.cost -= cost;
        KEPT.fetch_sub(cost, Ordering::Relaxed);
    }

    fn drop_range(&mut self, start: Sequence) {
        if let Some(range) = self.ranges.remove(&start) {
            self.subtract(range.cost());
        }
    }

    /// Returns false if there is none.
    fn drop_least_recently_used(&mut self) -> bool {
        let last_use = |range: &Range| range.variants.iter().map(|variant| variant.last_use).max();
        let oldest = self.ranges.iter().min_by_key(|(_, range)| last_use(range));
        let oldest = oldest.map(|(&start, _)| start);
        oldest.inspect(|&start| self.drop_range(start)).is_some()
    }
}

#[cfg(test)]
mod tests;
