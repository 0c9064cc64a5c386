//! The next piece of the table for a reader: one that others have written, or one of its own.

use std::sync::Arc;

use bytes::Bytes;

use super::pieces::{self, PIECE, SMALL_PIECE};
use super::scan::{Scan, Show};
use super::shared_pieces::{Range, Variant};
use super::table::Table;

impl Table {
    /// The next piece for a reader, of approximately `size` bytes. Returns whether there may be more.
    pub(super) fn piece(&self, scan: &mut Scan, size: usize, show: &mut Show<'_>) -> (Bytes, bool) {
        if show.matcher.is_some() || !scan.wants_all_rows() || scan.cursor >= scan.until {
            return self.write_piece(scan, size, show);
        }
        let pieces = Arc::clone(scan.pieces.get_or_insert_with(|| self.pieces.hold()));
        let found = pieces.find((scan.cursor, scan.until), &scan.position, scan.epochs.as_ref());
        let gap = match found {
            Ok(piece) => {
                show.shown += piece.shown;
                scan.position = piece.after;
                scan.cursor = piece.end;
                return (piece.bytes, scan.cursor < scan.until);
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
            let range = Range::new(scan.cursor, !is_cut && scan.cursor == until);
            let positions = (before, scan.position.clone());
            let variant = Variant::new(positions, scan.epochs.clone(), bytes, show.shown - shown);
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
