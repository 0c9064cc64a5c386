//! What a client has received: the chunks of a body, and the events in them.

use serde_json::Value;

use crate::sse::parse::{Item, Parser};

/// An event without those that come by the time alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) name: String,
    pub(super) data: String,
    pub(super) id: String,
}

impl Received {
    /// The key and the offset of a record or a delete.
    pub(super) fn record(&self) -> Option<(String, i64)> {
        if !matches!(self.name.as_str(), "message" | "delete") {
            return None;
        }
        let data: Value = serde_json::from_str(&self.data).expect("JSON");
        let key = data["k"].as_str().expect("a key");
        Some((key.to_owned(), data["o"].as_i64().expect("an offset")))
    }
}

/// The data of the chunks, and whether the last one has come. Panics where the bytes are not the beginning of a body.
pub(super) fn dechunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    while !bytes.is_empty() {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            let is_digit = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'\r';
            assert!(bytes.iter().all(is_digit), "no length: {bytes:?}");
            break;
        };
        let line = bytes[..end].strip_suffix(b"\r").expect("CR before LF");
        let digits = std::str::from_utf8(line).expect("digits");
        let len = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("no length: {digits:?}"));
        bytes = &bytes[end + 1..];
        let (chunk, rest) = bytes.split_at(len.min(bytes.len()));
        data.extend_from_slice(chunk);
        let end = &rest[..rest.len().min(2)];
        assert!(b"\r\n".starts_with(end), "no end of a chunk: {end:?}");
        if len == 0 {
            let is_whole = rest == b"\r\n";
            assert!(is_whole || rest.len() < 2, "bytes after the end");
            return (data, is_whole);
        }
        bytes = &rest[end.len()..];
    }
    (data, false)
}

/// The events in the data of a body.
pub(super) fn events(data: &[u8]) -> Vec<Received> {
    let (mut parser, mut items) = (Parser::default(), Vec::new());
    parser.feed(data, &mut items).expect("short events");
    let events = items.into_iter().filter_map(|item| match item {
        Item::Event(event) => Some(Received {
            name: event.name,
            data: event.data,
            id: event.id,
        }),
        Item::Comment(_) | Item::Retry(_) => None,
    });
    events
        .filter(|event| !matches!(event.name.as_str(), "heartbeat" | "checkpoint"))
        .collect()
}
