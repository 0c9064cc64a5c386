//! Parses `text/event-stream` by the HTML standard (section 9.2.6, "Interpreting an event stream"), in pieces of any
//! size.
//!
//! It knows neither HTTP nor reconnecting nor the daemon's events. It follows browsers instead of the standard in one
//! point: a parser starts with the id of the `Last-Event-ID` that was sent, so that an event without an id keeps it.

use std::mem;
use std::time::Duration;

use memchr::memchr2;

/// Most bytes of an event or a line (64 MiB): more than the largest batch that the daemon reads from Kafka. Without a
/// bound, a server that never ends a line would fill the memory.
pub(crate) const MAX_EVENT: usize = 64 * 1024 * 1024;

/// An item of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event that an EventSource would dispatch.
    Event(Event),
    /// The text after the colon of a comment.
    Comment(String),
    /// A new reconnection time.
    Retry(Duration),
}

/// An event as a listener receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's name; `message` by default.
    pub name: String,
    /// The lines of data, joined by LF.
    pub data: String,
    /// `lastEventId`: the last id so far, of this event or an earlier one.
    pub id: String,
}

/// An event or a line is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT} bytes")]
pub struct TooLong;

/// The parser's state between two pieces of a stream.
#[derive(Debug, Clone, Default)]
pub struct Parser {
    /// The unfinished line.
    line: Vec<u8>,
    /// Whether the last byte was a CR, to which a following LF belongs.
    after_cr: bool,
    /// Whether a line has ended; a byte order mark is allowed before that only.
    is_begun: bool,
    data: String,
    event: String,
    /// The standard's "last event ID buffer".
    id: String,
    /// The standard's "last event ID string": the buffer as of the last blank line.
    last_event_id: String,
}

impl Parser {
    /// A parser for a connection that was opened with this id; empty for none.
    pub fn resuming(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            last_event_id: id.to_owned(),
            ..Self::default()
        }
    }

    /// Appends the items that these bytes complete.
    ///
    /// # Errors
    /// [`TooLong`]; the parser is unusable afterwards.
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
            // Keeps the allocation for the next line.
            self.line = line;
            self.line.clear();
            self.check_length()?;
        }
        self.line.extend_from_slice(bytes);
        self.check_length()
    }

    /// The value of `Last-Event-ID` for a reconnect; empty for none.
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
        // Each `data` line, even an empty one, has appended an LF.
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

#[cfg(test)]
mod tests {
    use super::{Event, Item, MAX_EVENT, Parser, TooLong};
    use std::time::Duration;

    fn event(name: &str, data: &str, id: &str) -> Item {
        Item::Event(Event {
            name: name.to_owned(),
            data: data.to_owned(),
            id: id.to_owned(),
        })
    }

    fn parse(bytes: &[u8]) -> (Vec<Item>, String) {
        let (mut parser, mut items) = (Parser::default(), Vec::new());
        parser.feed(bytes, &mut items).expect("not too long");
        (items, parser.last_event_id().to_owned())
    }

    #[test]
    fn the_parser_follows_the_html_standard() {
        let retry = |milliseconds| Item::Retry(Duration::from_millis(milliseconds));
        let comment = |text: &str| Item::Comment(text.to_owned());
        let cases: Vec<(&[u8], Vec<Item>, &str)> = vec![
            // The standard's own examples.
            (
                b"data: YHOO\ndata: +2\ndata: 10\n\n",
                vec![event("message", "YHOO\n+2\n10", "")],
                "",
            ),
            (
                b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
                vec![
                    comment(" test stream"),
                    event("message", "first event", "1"),
                    event("message", "second event", ""),
                    event("message", " third event", ""),
                ],
                "",
            ),
            (
                b"data\n\ndata\ndata\n\ndata:",
                vec![event("message", "", ""), event("message", "\n", "")],
                "",
            ),
            (
                b"data:test\n\ndata: test\n\n",
                vec![event("message", "test", ""), event("message", "test", "")],
                "",
            ),
            // Ends of lines, and the byte order mark, once and only at the start.
            (
                b"data: a\rdata: b\r\ndata: c\n\r\n",
                vec![event("message", "a\nb\nc", "")],
                "",
            ),
            (
                b"data: a\r\rdata: b\r\n\r\n",
                vec![event("message", "a", ""), event("message", "b", "")],
                "",
            ),
            (b"\xEF\xBB\xBFdata: a\n\n", vec![event("message", "a", "")], ""),
            (
                b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\ndata: b\n\n",
                vec![event("message", "b", "")],
                "",
            ),
            (b"\xEF\xBBdata: a\n\n", vec![], ""),
            (
                b"data: a\n\n\xEF\xBB\xBFdata: b\n\n",
                vec![event("message", "a", "")],
                "",
            ),
            (
                b"data: \xFF\xC3\n\n",
                vec![event("message", "\u{FFFD}\u{FFFD}", "")],
                "",
            ),
            // Ids: kept until another comes, not taken with NUL, taken at the blank line even without data.
            (
                b"id: 1\ndata: a\n\nid: x\0y\ndata: b\n\n",
                vec![event("message", "a", "1"), event("message", "b", "1")],
                "1",
            ),
            (b"id: 1\n\nid: 2\n", vec![], "1"),
            (
                b"id: 1\ndata: a\n\nid:\ndata: b\n\n",
                vec![event("message", "a", "1"), event("message", "b", "")],
                "",
            ),
            // Reconnection times: digits only.
            (b"retry: 1500\n", vec![retry(1500)], ""),
            (
                b"retry: +1\nretry: -1\nretry: 1.5\nretry: 0x1\nretry:\nretry: 1 \nretry:  1\n",
                vec![],
                "",
            ),
            (b"retry: 99999999999999999999999\n", vec![], ""),
            // Names: the last of a block counts, and a block without data takes its name along.
            (b"event: a\nevent: b\ndata: x\n\n", vec![event("b", "x", "")], ""),
            (b"event: a\n\ndata: x\n\n", vec![event("message", "x", "")], ""),
            (
                b"event: a\nevent:\ndata: x\n\n",
                vec![event("message", "x", "")],
                "",
            ),
            // Unknown fields are ignored; names are case-sensitive.
            (b"Data: x\ndata : x\n data: x\nfoo: x\nfoo\n\n", vec![], ""),
            (b":\n::\n", vec![comment(""), comment(":")], ""),
            (b"data: never ended\n", vec![], ""),
        ];
        for (bytes, items, id) in cases {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(parse(bytes), (items, id.to_owned()), "{shown:?}");
        }
        let (mut parser, mut items) = (Parser::resuming("before"), Vec::new());
        parser.feed(b"data: a\n\n", &mut items).expect("short");
        assert_eq!(items, [event("message", "a", "before")]);
        assert_eq!(parser.last_event_id(), "before");
    }

    #[test]
    fn lines_and_events_that_never_end_are_refused() {
        let (mut parser, mut items) = (Parser::default(), Vec::new());
        let piece = vec![b'x'; MAX_EVENT / 4];
        for _ in 0..4 {
            parser.feed(&piece, &mut items).expect("up to the limit");
        }
        assert_eq!(parser.feed(b"x", &mut items), Err(TooLong), "a line");

        let mut parser = Parser::default();
        let mut line = b"data: ".to_vec();
        line.resize(MAX_EVENT / 4, b'x');
        line.push(b'\n');
        let outcome = (0..5).try_for_each(|_| parser.feed(&line, &mut items));
        assert_eq!(outcome, Err(TooLong), "an event");
    }
}
