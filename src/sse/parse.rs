//! Interprets `text/event-stream` as the HTML standard says (section 9.2.6, "Interpreting an event
//! stream"), byte for byte and over any boundary between pieces.
//!
//! Knows nothing of HTTP, of reconnecting, or of what our own events mean. One thing is taken from
//! browsers rather than from the standard's letter: a parser begins with the id that its connection
//! was resumed with, so that an event without an id does not take the place back to nothing.

use std::mem;
use std::time::Duration;

use memchr::memchr2;

/// Most bytes of one event, or of one line (64 MiB): beyond the largest batch that the daemon reads
/// from Kafka. Without a bound, a server that never ends a line would fill the memory.
pub const MAX_EVENT: usize = 64 * 1024 * 1024;

/// What a stream yields, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// What an EventSource would dispatch.
    Event(Event),
    /// The text after the colon of a comment.
    Comment(String),
    /// A new reconnection time.
    Retry(Duration),
}

/// What a listener would be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `message` unless the block named one.
    pub name: String,
    /// The lines of data, joined by LF.
    pub data: String,
    /// `lastEventId`: the last id so far, this block's or an earlier one's.
    pub id: String,
}

/// An event or a line does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT} bytes")]
pub struct TooLong;

/// The state between two pieces of a stream.
#[derive(Debug, Clone, Default)]
pub struct Parser {
    /// Bytes of the line not ended yet.
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// Whether a line has ended: only before that may a byte order mark stand.
    is_begun: bool,
    data: String,
    event: String,
    /// The standard's "last event ID buffer".
    id: String,
    /// The standard's "last event ID string": the buffer as of the last blank line.
    last_event_id: String,
}

impl Parser {
    /// A parser of a connection that was opened with this id; empty for none.
    #[must_use]
    pub fn resuming(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            last_event_id: id.to_owned(),
            ..Self::default()
        }
    }

    /// Appends all that these bytes complete to `items`.
    ///
    /// # Errors
    /// [`TooLong`]; the parser is of no further use then.
    pub fn feed(&mut self, mut bytes: &[u8], items: &mut Vec<Item>) -> Result<(), TooLong> {
        if bytes.is_empty() {
            return Ok(());
        }
        if mem::take(&mut self.after_cr) {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr2(b'\r', b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            self.line.extend_from_slice(line);
            let is_cr = rest.first() == Some(&b'\r');
            bytes = &rest[1..];
            if is_cr {
                self.after_cr = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let line = mem::take(&mut self.line);
            self.end_line(&line, items);
            // The allocation is worth keeping: lines come one after another.
            self.line = line;
            self.line.clear();
            self.check_length()?;
        }
        self.line.extend_from_slice(bytes);
        self.check_length()
    }

    /// What an EventSource would send as `Last-Event-ID` now; empty for nothing.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    fn check_length(&self) -> Result<(), TooLong> {
        if self.line.len() + self.data.len() > MAX_EVENT {
            return Err(TooLong);
        }
        Ok(())
    }

    fn end_line(&mut self, mut line: &[u8], items: &mut Vec<Item>) {
        // "UTF-8 decode": one byte order mark at the very start is dropped, bad sequences are replaced.
        if !mem::replace(&mut self.is_begun, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            return self.dispatch(items);
        }
        match line.split_once(':') {
            Some(("", comment)) => items.push(Item::Comment(comment.to_owned())),
            Some((field, value)) => self.field(field, value.strip_prefix(' ').unwrap_or(value), items),
            None => self.field(&line, "", items),
        }
    }

    fn field(&mut self, field: &str, value: &str, items: &mut Vec<Item>) {
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // "only ASCII digits": parse() alone would take a plus sign as well.
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                if let Ok(milliseconds) = value.parse() {
                    items.push(Item::Retry(Duration::from_millis(milliseconds)));
                }
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, items: &mut Vec<Item>) {
        self.last_event_id.clone_from(&self.id);
        let event = mem::take(&mut self.event);
        let mut data = mem::take(&mut self.data);
        // A `data` line, even an empty one, has left an LF here; none means that there was none.
        if data.pop().is_none() {
            return;
        }
        items.push(Item::Event(Event {
            name: if event.is_empty() {
                "message".to_owned()
            } else {
                event
            },
            data,
            id: self.last_event_id.clone(),
        }));
    }
}
