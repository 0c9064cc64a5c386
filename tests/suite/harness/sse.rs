//! A strict parser of `text/event-stream`: it does what a browser does, and reports violations that a browser ignores.
//!
//! The first half follows the HTML standard, section 9.2.6 ("Interpreting an event stream"), byte for
//! byte and over any chunk boundary. The second is the rules of docs/wire.md, which every
//! stream of ours must keep although a browser would swallow the breach: each is a [`Item::Violation`].

use std::mem;

/// An item of a stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Event(Event),
    /// The text after the colon, unchanged.
    Comment(String),
    /// A new reconnection time in milliseconds.
    Retry(u64),
    /// A broken rule of docs/wire.md.
    Violation(String),
}

/// The event type, as for `addEventListener`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `message` unless the block named one.
    pub name: String,
    pub data: String,
    /// `lastEventId`: the last `id` so far, this block's or an earlier one's.
    pub id: String,
    /// Whether this very block carried the `id`.
    pub own_id: bool,
}

/// At most this many events in a row may leave the id to a later one.
const EVENTS_WITHOUT_ID: usize = 100;

#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// Bytes of the line not ended yet, and before the first line perhaps part of a byte order mark.
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    past_first_line: bool,
    data: String,
    event: String,
    last_event_id: String,
    /// Fields of the block so far, for the rules of docs/wire.md.
    block: Block,
    without_id: usize,
    items: Vec<Item>,
}

#[derive(Clone, Debug, Default)]
struct Block {
    lines: usize,
    ids: usize,
    events: usize,
    datas: usize,
}

impl Parser {
    pub fn new() -> Parser {
        Parser::default()
    }

    /// All that these bytes complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        for &byte in bytes {
            let after_cr = mem::take(&mut self.after_cr);
            match byte {
                b'\n' if after_cr => {}
                b'\n' => self.end_line(),
                b'\r' => {
                    self.after_cr = true;
                    self.violation("a line ended by CR");
                    self.end_line();
                }
                byte => self.line.push(byte),
            }
        }
        mem::take(&mut self.items)
    }

    /// The `Last-Event-ID` that an `EventSource` would send now. Empty: none.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Whether the stream, if it ended here, would end within a line or a block (which a browser discards).
    pub fn inside_block(&self) -> bool {
        !self.line.is_empty() || self.block.datas + self.block.ids + self.block.events > 0
    }

    fn violation(&mut self, what: impl Into<String>) {
        self.items.push(Item::Violation(what.into()));
    }

    fn end_line(&mut self) {
        let bytes = mem::take(&mut self.line);
        let mut bytes = bytes.as_slice();
        // "UTF-8 decode": one byte order mark at the very start is dropped, bad sequences are replaced.
        if !mem::replace(&mut self.past_first_line, true)
            && let Some(rest) = bytes.strip_prefix(b"\xEF\xBB\xBF")
        {
            bytes = rest;
            self.violation("a byte order mark");
        }
        let line = String::from_utf8_lossy(bytes);
        if std::str::from_utf8(bytes).is_err() {
            self.violation(format!("not UTF-8: {line}"));
        }
        if line.is_empty() {
            return self.dispatch();
        }
        self.block.lines += 1;
        match line.split_once(':') {
            Some(("", comment)) => self.items.push(Item::Comment(comment.to_owned())),
            Some((field, value)) => self.field(field, value.strip_prefix(' ').unwrap_or(value)),
            None => self.field(&line, ""),
        }
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => {
                self.block.events += 1;
                value.clone_into(&mut self.event);
                if matches!(value, "error" | "open") {
                    self.violation(format!("an event named {value}, which EventSource has itself"));
                }
            }
            "data" => {
                self.block.datas += 1;
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if value.contains('\0') => self.violation("an id with NUL"),
            "id" => {
                self.block.ids += 1;
                value.clone_into(&mut self.last_event_id);
            }
            "retry" => match value.parse() {
                // "only ASCII digits": parse() alone would take a plus sign as well.
                Ok(milliseconds) if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                    self.items.push(Item::Retry(milliseconds));
                }
                _ => self.violation(format!("retry that is not digits: {value}")),
            },
            _ => self.violation(format!("unknown field: {field}")),
        }
    }

    fn dispatch(&mut self) {
        let block = mem::take(&mut self.block);
        let mut data = mem::take(&mut self.data);
        let event = mem::take(&mut self.event);
        if block.datas == 0 {
            self.violation(if block.lines == 0 {
                "a blank line that ends no block"
            } else {
                "a block without data"
            });
        }
        if block.ids > 1 || block.events > 1 {
            self.violation("a field twice in one block");
        }
        // The standard's own test: no data, no event. A `data` line, even an empty one, leaves an LF here.
        if data.is_empty() {
            return;
        }
        data.pop();
        self.without_id = if block.ids > 0 { 0 } else { self.without_id + 1 };
        if self.without_id == EVENTS_WITHOUT_ID {
            self.violation(format!("{EVENTS_WITHOUT_ID} events in a row without an id"));
        }
        self.items.push(Item::Event(Event {
            name: if event.is_empty() {
                "message".to_owned()
            } else {
                event
            },
            data,
            id: self.last_event_id.clone(),
            own_id: block.ids > 0,
        }));
    }
}

impl Event {
    /// The data as JSON.
    ///
    /// # Panics
    /// If the data is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }
}
