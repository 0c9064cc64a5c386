//! Events as newline-delimited JSON, for programs that read lines: one object `{"id","event","data"}` per line.
//!
//! A subscription writes Server-Sent Events. [`Lines`] rewrites them for one client, so only clients that ask for lines
//! pay for them.

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use memchr::memchr2;
use serde_json::value::RawValue;
use warp::reply::Response;

use super::response::unbuffered;
use crate::sse::control::ControlEvent;
use crate::sse::{split, write};

/// The media type. It is not registered, but tools agree on it.
pub(super) const MEDIA_TYPE: &str = "application/x-ndjson";

/// Rewrites the events of one connection.
#[derive(Debug)]
pub(super) struct Lines {
    /// As EventSource's `lastEventId`: of this event, or of the last one that had an id.
    id: Vec<u8>,
    /// Whether the response ends once the client has caught up.
    ends_at_head: bool,
    is_over: bool,
    /// The data of an event that has several lines of it.
    joined: Vec<u8>,
}

impl Lines {
    /// For a connection that follows the stream, or ends at its head.
    pub(super) const fn new(ends_at_head: bool) -> Self {
        Self {
            id: Vec::new(),
            ends_at_head,
            is_over: false,
            joined: Vec::new(),
        }
    }

    /// Whether the last line has been written.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The lines of these events, which are complete. Empty where there is nothing to read. A keepalive is an empty line,
    /// which readers of this format pass over.
    pub(super) fn rewrite(&mut self, piece: &[u8]) -> Bytes {
        if piece == write::KEEPALIVE {
            return Bytes::from_static(b"\n");
        }
        let mut lines = Vec::with_capacity(piece.len() + piece.len() / 8);
        for event in split::events(piece) {
            self.write(&event, &mut lines);
            if self.is_over {
                break;
            }
        }
        lines.into()
    }

    fn write(&mut self, event: &split::Event<'_>, out: &mut Vec<u8>) {
        if !event.id.is_empty() {
            self.id.clear();
            self.id.extend_from_slice(event.id);
        }
        self.is_over = self.ends_at_head && event.name == ControlEvent::CaughtUp.as_str().as_bytes();
        out.extend_from_slice(b"{\"id\":");
        if self.id.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            write_string(out, &self.id);
        }
        out.extend_from_slice(b",\"event\":");
        write_string(out, event.name);
        out.extend_from_slice(b",\"data\":");
        write_json(out, write::payload(event.frame, &mut self.joined));
        out.extend_from_slice(b"}\n");
    }
}

/// Writes data as JSON on one line: as it is where it is JSON, otherwise as a string.
pub(super) fn write_json(out: &mut Vec<u8>, data: &[u8]) {
    match serde_json::from_slice::<&RawValue>(data) {
        Ok(json) => write_known_json(out, json.get().as_bytes()),
        Err(_) => write_string(out, data),
    }
}

/// The same, of data that is JSON: to find that out takes most of the time.
pub(super) fn write_known_json(out: &mut Vec<u8>, json: &[u8]) {
    let json = json.trim_ascii();
    if memchr2(b'\n', b'\r', json).is_none() {
        return out.extend_from_slice(json);
    }
    // Line ends in JSON are outside of its strings.
    let without_line_ends = json
        .iter()
        .map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte });
    out.extend(without_line_ends);
}

/// Writes text as a JSON string. Ids, names and data that a stream sends are UTF-8.
fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    // Serializing a string into memory cannot fail.
    let written = serde_json::to_writer(out, &String::from_utf8_lossy(text));
    debug_assert!(written.is_ok());
}

/// Sets the header fields of a response of lines.
pub(super) fn as_lines(response: Response) -> Response {
    let mut response = unbuffered(response);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_json_is_written_like_any_other() {
        for json in [
            " {\"a\":1}\n",
            "{\n  \"a\":\r\n\t1\n}",
            "[1, \"\\n\"]",
            "\r7\t",
            "\"\u{a0}\"",
        ] {
            let (mut known, mut found) = (Vec::new(), Vec::new());
            write_known_json(&mut known, json.as_bytes());
            write_json(&mut found, json.as_bytes());
            assert_eq!(known, found, "{json:?}");
            serde_json::from_slice::<serde_json::Value>(&known).expect("JSON");
        }
    }
}
