//! Takes the framing off an answer (RFC 9112, section 7.1), so that answers that were cut into chunks
//! differently can be compared.

use memchr::memmem;

/// The next part of a response.
enum State {
    /// The head, as far as it has come.
    Head(Vec<u8>),
    /// A chunk's size, so far.
    Size(usize),
    /// So many bytes of a chunk.
    Data(usize),
    /// So many bytes of the line end behind a chunk.
    End(usize),
    /// Nothing: the last chunk has come.
    Over,
}

/// The decoder of one answer.
pub struct Chunks(State);

impl Chunks {
    pub fn new() -> Chunks {
        Chunks(State::Head(Vec::new()))
    }

    /// Whether the answer is complete.
    pub fn is_over(&self) -> bool {
        matches!(self.0, State::Over)
    }

    /// Hands what was read, without its framing, to `each`.
    pub fn take(&mut self, mut read: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some((&first, rest)) = read.split_first() {
            match &mut self.0 {
                State::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(read);
                    let Some(end) = memmem::find(head, b"\r\n\r\n") else {
                        return;
                    };
                    assert!(
                        head.starts_with(b"HTTP/1.1 200 "),
                        "{}",
                        String::from_utf8_lossy(head)
                    );
                    read = &read[end + 4 - before..];
                    self.0 = State::Size(0);
                }
                State::Size(size) => {
                    match char::from(first).to_digit(16) {
                        Some(digit) => *size = *size * 16 + digit as usize,
                        None if first == b'\n' && *size == 0 => self.0 = State::Over,
                        None if first == b'\n' => self.0 = State::Data(*size),
                        None => assert_eq!(first, b'\r', "a chunk's size"),
                    }
                    read = rest;
                }
                State::Data(left) => {
                    let (data, rest) = read.split_at(read.len().min(*left));
                    each(data);
                    *left -= data.len();
                    if *left == 0 {
                        self.0 = State::End(2);
                    }
                    read = rest;
                }
                State::End(left) => {
                    *left -= 1;
                    if *left == 0 {
                        self.0 = State::Size(0);
                    }
                    read = rest;
                }
                State::Over => return,
            }
        }
    }
}
