//! Pieces that are copied out of tables for clients, bounded in all.
//!
//! A piece that clients do not [share](super::shared_pieces) belongs to one client until its socket has taken it, so many
//! clients that scan tables at once, or do not read, would hold 64 KiB each. While all pieces together take more than [`AMPLE`], new ones are
//! small instead: every client goes on, none waits for one that does not read, and a client then costs
//! less than its connection's buffer.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Bytes that are copied for a client at once (64 KiB, approximately): the memory of a client that catches up, beside
/// its socket's buffers.
pub const PIECE: usize = 64 * 1024;

/// Bytes in pieces up to which they have their full size: 16 MiB, so 256 clients at once.
pub const AMPLE: usize = 16 * 1024 * 1024;

/// The size of a piece beyond that, unless a single row needs more.
pub const SMALL_PIECE: usize = 4 * 1024;

/// Bytes in pieces of all streams.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Bytes in pieces that clients have not taken yet, of all streams.
pub fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// How large the next piece may become.
#[must_use]
pub(crate) fn next_size() -> usize {
    if held() < AMPLE { PIECE } else { SMALL_PIECE }
}

/// Counts a piece from now until the last reference to its bytes is gone.
#[must_use]
pub fn count(mut piece: Vec<u8>) -> Bytes {
    if piece.is_empty() {
        return Bytes::new();
    }
    if piece.len() < piece.capacity() / 2 {
        piece.shrink_to_fit();
    }
    HELD.fetch_add(piece.capacity(), Ordering::Relaxed);
    Bytes::from_owner(Piece(piece))
}

struct Piece(Vec<u8>);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0.capacity(), Ordering::Relaxed);
    }
}
