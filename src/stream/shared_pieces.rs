//! Pieces of the table that readers share while they scan it at once.
//!
//! A reader that wants all rows, without a filter, gets the same bytes as any other that is at the same row and
//! position. So each piece is written once, and a reader holds no more than a reference to it. A piece is dropped when one
//! of its rows leaves the table; the next reader that comes there writes it again, up to the next piece that is still
//! there, so that readers do not lose step with each other.
//!
//! All pieces of a table are freed when the last of these readers lets go of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::log::Sequence;
use super::pieces::{self, AMPLE, PIECE, SMALL_PIECE};
use super::position::Position;
use super::scan::{Scan, Show};
use super::table::Table;
use super::truncation::LogEpochs;

/// How long a reader that has read the table keeps the pieces for others: those that connect at once do not all scan at
/// the same instant, because the buffers of a socket may take a whole table.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(2);

/// Most bytes of the pieces of one table.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Bytes in pieces of all streams, including those that clients have not taken, up to which more are kept: below
/// [`AMPLE`], so that kept pieces alone never make the pieces of other readers small.
const MOST_BYTES_OF_ALL: usize = AMPLE / 4 * 3;

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
struct Range {
    /// The number behind the last row.
    end: Sequence,
    /// Whether it ends because its reader did: then there may be space for later rows.
    is_tail: bool,
    variants: Vec<Variant>,
}

/// The rows of a range for readers at one position.
#[derive(Debug)]
struct Variant {
    before: Position,
    epochs: Option<Arc<LogEpochs>>,
    after: Position,
    shown: u64,
    bytes: Bytes,
    last_use: u64,
}

/// What a reader writes itself.
#[derive(Debug, PartialEq, Eq)]
struct Gap {
    end: Sequence,
    /// Whether others may want it too.
    is_shared: bool,
    /// Whether others, at another position, have a piece that ends there: this one may be a little larger.
    is_variant: bool,
}

impl Variant {
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

impl Table {
    /// The next piece for a reader, of approximately `size` bytes. Returns whether there may be more.
    pub(super) fn piece(&self, scan: &mut Scan, size: usize, show: &mut Show<'_>) -> (Bytes, bool) {
        if show.matcher.is_some() || !scan.wants_all_rows() || scan.cursor >= scan.until {
            return self.write_piece(scan, size, show);
        }
        let pieces = Arc::clone(scan.pieces.get_or_insert_with(|| self.pieces.hold()));
        let gap = match pieces.find(scan) {
            Ok((bytes, shown)) => {
                show.shown += shown;
                return (bytes, scan.cursor < scan.until);
            }
            Err(gap) => gap,
        };
        // Every piece begins with an id, so that pieces depend less on each other.
        scan.rows_to_id = 0;
        let start = scan.cursor;
        let before = gap.is_shared.then(|| scan.position.clone());
        let until = std::mem::replace(&mut scan.until, gap.end);
        // To the very end of a piece that others have, unless memory is short.
        let may_be_larger = gap.is_variant && size > SMALL_PIECE;
        let size = if may_be_larger { 2 * size } else { size };
        let shown = show.shown;
        let (mut bytes, is_cut) = self.write_piece(scan, size, show);
        scan.until = until;
        if let Some(before) = before {
            let range = Range {
                end: scan.cursor,
                is_tail: !is_cut && scan.cursor == until,
                variants: Vec::new(),
            };
            let variant = Variant {
                before,
                epochs: scan.epochs.clone(),
                after: scan.position.clone(),
                shown: show.shown - shown,
                bytes,
                last_use: 0,
            };
            bytes = pieces.add(start, range, variant);
        }
        (bytes, scan.cursor < scan.until)
    }

    fn write_piece(&self, scan: &mut Scan, size: usize, show: &mut Show<'_>) -> (Bytes, bool) {
        let mut out = Vec::with_capacity(size.min(PIECE));
        // The last row may go beyond the limit, and must not double the memory.
        let may_have_more = self.read(scan, size - size / 16, show, &mut out);
        (pieces::count(out), may_have_more)
    }
}

impl PiecesInUse {
    /// The pieces, which exist for as long as one reader holds them.
    fn hold(&self) -> Arc<SharedPieces> {
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

impl SharedPieces {
    /// The piece that a reader gets next, which moves the reader behind it, or what it has to write itself.
    fn find(&self, scan: &mut Scan) -> Result<(Bytes, u64), Gap> {
        let mut pieces = self.0.lock();
        let pieces = &mut *pieces;
        let own = |end| Gap {
            end,
            is_shared: false,
            is_variant: false,
        };
        if let Some((&start, range)) = pieces.ranges.range_mut(..=scan.cursor).next_back()
            && scan.cursor < range.end
        {
            let end = range.end;
            if start < scan.cursor || end > scan.until {
                return Err(own(end.min(scan.until)));
            }
            if range.is_tail && end < scan.until {
                pieces.drop_range(start);
            } else if let Some(variant) = range.variant(&scan.position, scan.epochs.as_ref()) {
                pieces.clock += 1;
                variant.last_use = pieces.clock;
                scan.position.clone_from(&variant.after);
                scan.cursor = end;
                return Ok((variant.bytes.clone(), variant.shown));
            } else {
                return Err(Gap {
                    end,
                    is_shared: true,
                    is_variant: true,
                });
            }
        }
        let next = pieces.ranges.range(scan.cursor..).next();
        Err(Gap {
            end: next.map_or(scan.until, |(&next, _)| next.min(scan.until)),
            is_shared: true,
            is_variant: false,
        })
    }

    /// Adds a piece that begins at `start`, unless others have changed meanwhile. Returns the bytes that all share.
    fn add(&self, start: Sequence, mut new: Range, mut variant: Variant) -> Bytes {
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
            pieces.cost += variant.cost();
            range.variants.push(variant);
            if range.variants.len() > MOST_VARIANTS {
                pieces.cost -= range.variants.remove(0).cost();
            }
        } else {
            pieces.cost += variant.cost();
            new.variants.push(variant);
            pieces.ranges.insert(start, new);
        }
        let others = pieces::held().saturating_sub(pieces.cost);
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
    fn variant(&mut self, position: &Position, epochs: Option<&Arc<LogEpochs>>) -> Option<&mut Variant> {
        let mut variants = self.variants.iter_mut();
        variants.find(|variant| variant.is_for(position, epochs))
    }

    fn cost(&self) -> usize {
        self.variants.iter().map(Variant::cost).sum()
    }
}

impl Pieces {
    fn drop_range(&mut self, start: Sequence) {
        if let Some(range) = self.ranges.remove(&start) {
            self.cost -= range.cost();
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
