//! The chunks of a body of HTTP/1.1 (RFC 9112, section 7.1).

use std::io::Write;
use std::ops::Deref;

use bytes::Bytes;

use crate::stream::pieces::PIECE;

/// Ends a chunk.
pub(super) const END: &[u8] = b"\r\n";

/// The last chunk, which ends the body.
pub(super) const LAST: &[u8] = b"0\r\n\r\n";

/// The most bytes of the line before a chunk: the digits of a 64-bit number, and the end of the line.
const MAX_LINE: usize = 18;

/// The line before a chunk of so many bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    bytes: [u8; MAX_LINE],
    len: u8,
}

impl Line {
    pub(super) fn new(len: usize) -> Self {
        let mut bytes = [0; MAX_LINE];
        let mut rest = &mut bytes[..];
        // It has room for the largest number.
        let _ = write!(rest, "{len:x}\r\n");
        let left = rest.len();
        Self {
            bytes,
            len: u8::try_from(MAX_LINE - left).unwrap_or(0),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// `data` as one chunk. Copied: for bytes that go to many.
pub(super) fn framed(data: &[u8]) -> Bytes {
    let line = Line::new(data.len());
    let mut chunk = Vec::with_capacity(line.as_bytes().len() + data.len() + END.len());
    chunk.extend_from_slice(line.as_bytes());
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(END);
    chunk.into()
}

/// Most pieces of data that are one chunk.
const PIECES: usize = 16;

/// Most parts of what is written at once: the line, the pieces and the end.
pub(super) const PARTS: usize = PIECES + 2;

/// Bytes of a chunk from which on it takes no more.
const ENOUGH: usize = PIECE / 2;

/// So few bytes have a copy of their own (16 KiB): the kernel holds more for a client that does not read.
const FEW: usize = 16 * 1024;

/// What is left of a chunk, or of other bytes, that a socket has not taken.
#[derive(Debug)]
pub(super) struct Unwritten {
    line: Line,
    /// Whether the data is not a chunk, or is one with its line and its end.
    is_raw: bool,
    /// Whether the data is a copy of what was left.
    pub(super) is_own: bool,
    data: Bytes,
    /// Further pieces of the chunk.
    more: Vec<Bytes>,
    /// Bytes of all pieces.
    len: usize,
    /// How much is written, of all parts.
    written: usize,
}

impl Unwritten {
    /// A chunk, which is not copied.
    pub(super) fn chunk(data: Bytes) -> Self {
        Self {
            line: Line::new(data.len()),
            is_raw: false,
            is_own: false,
            len: data.len(),
            data,
            more: Vec::new(),
            written: 0,
        }
    }

    /// Bytes as they are, of which some are written.
    pub(super) fn raw(data: Bytes, written: usize) -> Self {
        Self {
            line: Line::new(0),
            is_raw: true,
            is_own: false,
            len: data.len(),
            data,
            more: Vec::new(),
            written,
        }
    }

    /// Whether a chunk of which nothing is written is so small that it should have another piece.
    pub(super) fn takes_more(&self) -> bool {
        self.len < ENOUGH && self.more.len() + 1 < PIECES
    }

    /// Adds a piece to a chunk of which nothing is written.
    pub(super) fn add(&mut self, data: Bytes) {
        self.len += data.len();
        self.line = Line::new(self.len);
        self.more.push(data);
    }

    /// The parts that are left.
    pub(super) fn parts(&self) -> Parts<'_> {
        let (line, end): (&[u8], &[u8]) = if self.is_raw {
            (&[], &[])
        } else {
            (self.line.as_bytes(), END)
        };
        let data = std::iter::once(&self.data).chain(&self.more);
        let data = data.map(|piece| &piece[..]);
        let mut skip = self.written;
        let mut parts = Parts {
            parts: [&[]; PARTS],
            count: 0,
        };
        for part in std::iter::once(line).chain(data).chain([end]) {
            let skipped = skip.min(part.len());
            skip -= skipped;
            if skipped < part.len() {
                parts.parts[parts.count] = &part[skipped..];
                parts.count += 1;
            }
        }
        parts
    }

    /// Copies what is left, if that is little or nothing else has the data: a part of a block keeps all of it in memory
    /// (up to 256 KiB), also after it has left the log. Of a piece of a table, so few bytes are no longer counted.
    pub(super) fn detach(&mut self) {
        if !self.is_own {
            let parts = self.parts();
            let left: usize = parts.iter().map(|part| part.len()).sum();
            let mut pieces = std::iter::once(&self.data).chain(&self.more);
            if left <= FEW || pieces.all(Bytes::is_unique) {
                let copy = parts.concat().into();
                *self = Self::raw(copy, 0);
                self.is_own = true;
            }
        }
    }

    /// The socket has taken so many more bytes; returns whether it has all.
    pub(super) fn advance(&mut self, count: usize) -> bool {
        self.written += count;
        let framing = if self.is_raw {
            0
        } else {
            self.line.as_bytes().len() + END.len()
        };
        self.written >= self.len + framing
    }
}

/// Parts to be written one after the other; none is empty.
pub(super) struct Parts<'a> {
    parts: [&'a [u8]; PARTS],
    count: usize,
}

impl<'a> Deref for Parts<'a> {
    type Target = [&'a [u8]];

    fn deref(&self) -> &[&'a [u8]] {
        &self.parts[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_has_its_length_in_hexadecimal_digits() {
        assert_eq!(&framed(b":\n")[..], b"2\r\n:\n\r\n");
        assert_eq!(
            &framed(&[b'x'; 255])[..],
            [b"ff\r\n", &[b'x'; 255][..], END].concat()
        );
        assert_eq!(Line::new(usize::MAX).as_bytes(), b"ffffffffffffffff\r\n");
    }

    #[test]
    fn a_chunk_of_several_pieces_is_their_bytes_wherever_it_was_cut() {
        let pieces: Vec<Bytes> = (0..2 * PIECES).map(|number| vec![b'a'; number].into()).collect();
        let mut chunk = Unwritten::chunk(pieces[0].clone());
        let mut count = 1;
        while chunk.takes_more() {
            chunk.add(pieces[count].clone());
            count += 1;
        }
        assert_eq!(count, PIECES);
        let whole = framed(&pieces[..count].concat());
        let mut left = whole.clone();
        while !left.is_empty() {
            assert_eq!(chunk.parts().concat(), left);
            let cut = left.len().min(7);
            assert_eq!(chunk.advance(cut), cut == left.len());
            left = left.slice(cut..);
        }
        assert!(!Unwritten::chunk(vec![b'a'; ENOUGH].into()).takes_more());
    }

    #[test]
    fn a_copy_of_what_is_left_keeps_no_block() {
        let line = "1000\r\n".len();
        for (left, is_shared, is_copied) in
            [(FEW, true, true), (FEW + 1, true, false), (FEW + 1, false, true)]
        {
            let blocks: Vec<Bytes> = (0..2).map(|_| vec![b'a'; 1 << 18].into()).collect();
            let mut chunk = Unwritten::chunk(blocks[0].slice(1..=0x1000));
            chunk.add(blocks[1].slice(..FEW + END.len()));
            let more = FEW + END.len() + END.len() - left;
            assert!(!chunk.advance(line + 0x1000 + more));
            let whole = chunk.parts().concat();
            assert_eq!(whole.len(), left);
            let watched = if is_shared {
                blocks
            } else {
                drop(blocks);
                Vec::new()
            };
            chunk.detach();
            assert_eq!(chunk.is_own, is_copied, "{left} {is_shared}");
            assert_eq!(chunk.parts().concat(), whole);
            assert!(watched.iter().all(|block| block.is_unique() == is_copied));
            assert!(chunk.advance(left));
        }
    }

    #[test]
    fn what_is_left_of_a_chunk_is_its_end_wherever_it_was_cut() {
        let whole = framed(b"id: 1\ndata: x\n\n");
        for cut in 0..whole.len() {
            let mut chunk = Unwritten::chunk(Bytes::from_static(b"id: 1\ndata: x\n\n"));
            assert!(!chunk.advance(cut), "{cut}");
            assert_eq!(chunk.parts().concat(), &whole[cut..]);
            assert!(chunk.advance(whole.len() - cut));
            let raw = Unwritten::raw(whole.clone(), cut);
            assert_eq!(raw.parts().concat(), &whole[cut..]);
        }
    }
}
