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
    /// As EventSource's `lastEventId`, as JSON: of this event, or of the last one that had an id; null before.
    id: Vec<u8>,
    /// Whether the response ends once the client has caught up.
    ends_at_head: bool,
    is_over: bool,
    /// The data of an event that has several lines of it.
    joined: Vec<u8>,
}

impl Lines {
    /// For a connection that follows the stream, or ends at its head.
    pub(super) fn new(ends_at_head: bool) -> Self {
        Self {
            id: b"null".to_vec(),
            ends_at_head,
            is_over: false,
            joined: Vec::new(),
        }
    }

    /// Whether the last line has been written.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The lines of these events, which are complete. Empty where there is nothing to read. A keepalive is an empty
    /// line, which readers of this format pass over. `is_json` says that the data of all events is JSON; otherwise it
    /// is parsed.
    pub(super) fn rewrite(&mut self, piece: &[u8], is_json: bool) -> Bytes {
        if piece == write::KEEPALIVE {
            return Bytes::from_static(b"\n");
        }
        let mut lines = Vec::with_capacity(piece.len() + piece.len() / 8);
        let write_data = if is_json { write_known_json } else { write_json };
        for event in split::events(piece) {
            self.write(&event, write_data, &mut lines);
            if self.is_over {
                break;
            }
        }
        lines.into()
    }

    fn write(&mut self, event: &split::Event<'_>, write_data: fn(&mut Vec<u8>, &[u8]), out: &mut Vec<u8>) {
        if !event.id.is_empty() {
            self.id.clear();
            write_string(&mut self.id, event.id);
        }
        self.is_over = self.ends_at_head && event.name == ControlEvent::CaughtUp.as_str().as_bytes();
        out.extend_from_slice(b"{\"id\":");
        out.extend_from_slice(&self.id);
        out.extend_from_slice(b",\"event\":");
        write_string(out, event.name);
        out.extend_from_slice(b",\"data\":");
        write_data(out, write::payload(event.frame, &mut self.joined));
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
    // Nearly all ids and names.
    if text
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
        return;
    }
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
    fn lines_are_the_same_whether_the_data_is_known_to_be_json_or_not() {
        let mut piece = write::retry(2000).into_bytes();
        let ids = ["Ao-9_w", "[{\"topic\":\"a\",\"partition\":0,\"offset\":1}]", ""];
        let data = ["{\"a\": \"\u{20ac}\"}", "{\r\n\"a\":\n1 }\n", " 7", "\"a b\""];
        for id in ids {
            for data in data {
                if !id.is_empty() {
                    write::begin(&mut piece, |out| out.extend_from_slice(id.as_bytes()));
                }
                write::write_event(&mut piece, "a \"name\"");
                write::write_data(&mut piece, data.as_bytes());
                write::end(&mut piece);
            }
        }
        let [known, parsed] = [true, false].map(|is_json| Lines::new(false).rewrite(&piece, is_json));
        assert_eq!(known, parsed);
        let lines: Vec<serde_json::Value> = known
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), ids.len() * data.len());
        for (index, line) in lines.iter().enumerate() {
            // An event without an id has the one before it.
            assert_eq!(line["id"], ids[(index / data.len()).min(1)], "{line}");
            let expected: serde_json::Value = serde_json::from_str(data[index % data.len()]).expect("JSON");
            assert_eq!((&line["event"], &line["data"]), (&"a \"name\"".into(), &expected));
        }
        let text = Lines::new(false).rewrite(b"data: no JSON\n\n", false);
        assert_eq!(text, "{\"id\":null,\"event\":\"message\",\"data\":\"no JSON\"}\n");
    }

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
