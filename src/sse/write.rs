//! The bytes of Server-Sent Events (HTML standard, section 9.2 "Server-sent events").
//!
//! Nothing that comes from a record can leave its field: every line of data gets a `data:` of its
//! own, whatever ends it (LF, CR or CRLF), and ids and event names are ours or checked.

use memchr::memchr2;

/// Writes the data lines of a payload. LF, CR and CRLF all end a line, and a final one gives an
/// empty last line, so that a client joins the lines to the payload with its line ends as LF.
pub(crate) fn write_data(out: &mut Vec<u8>, payload: &[u8]) {
    let mut rest = payload;
    loop {
        out.extend_from_slice(DATA_FIELD);
        let Some(end) = memchr2(b'\r', b'\n', rest) else {
            out.extend_from_slice(rest);
            out.push(b'\n');
            return;
        };
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        let is_crlf = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + if is_crlf { 2 } else { 1 }..];
    }
}

/// Begins a frame with its id, which `write_id` appends.
pub fn begin(out: &mut Vec<u8>, write_id: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(ID_FIELD);
    write_id(out);
    out.push(b'\n');
}

/// Names the event; without a name it is EventSource's `message`.
pub(crate) fn write_event(out: &mut Vec<u8>, event: &str) {
    out.extend_from_slice(EVENT_FIELD);
    out.extend_from_slice(event.as_bytes());
    out.push(b'\n');
}

/// Ends a frame, which makes the client dispatch it.
pub fn end(out: &mut Vec<u8>) {
    out.push(b'\n');
}

/// The id of a finished frame.
pub(crate) fn id_of(frame: &[u8]) -> &[u8] {
    let rest = frame.strip_prefix(ID_FIELD).unwrap_or_default();
    &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())]
}

/// A finished frame without its id line.
pub fn without_id(frame: &[u8]) -> &[u8] {
    &frame[id_line(frame).len()..]
}

/// The id line of a finished frame, its line end included.
pub(crate) fn id_line(frame: &[u8]) -> &[u8] {
    &frame[..memchr::memchr(b'\n', frame).map_or(0, |end| end + 1)]
}

/// The payload of a finished frame, its lines joined by LF: borrowed where it is one line, otherwise put
/// together in `scratch`.
pub fn payload<'a>(frame: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let mut rest = frame;
    let mut first: Option<&[u8]> = None;
    scratch.clear();
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, tail) = rest.split_at(end);
        rest = &tail[1..];
        let Some(data) = line.strip_prefix(DATA_FIELD) else {
            continue;
        };
        match first {
            None => first = Some(data),
            Some(line) => {
                if scratch.is_empty() {
                    scratch.extend_from_slice(line);
                }
                scratch.push(b'\n');
                scratch.extend_from_slice(data);
            }
        }
    }
    if scratch.is_empty() {
        first.unwrap_or_default()
    } else {
        scratch
    }
}

/// The reconnect time, in milliseconds. Not an event: it ends with a single LF.
pub fn retry(milliseconds: u128) -> String {
    format!("retry: {milliseconds}\n")
}

/// A comment that clients do not see. It ends with a single LF: after a blank line some client
/// libraries would dispatch an empty event.
pub const KEEPALIVE: &[u8] = b":\n";

const ID_FIELD: &[u8] = b"id: ";

pub(super) const EVENT_FIELD: &[u8] = b"event: ";

pub(super) const RETRY_FIELD: &[u8] = b"retry: ";

const DATA_FIELD: &[u8] = b"data: ";
