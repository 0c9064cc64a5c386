//! Targets of the fuzzer: frames, and the parser of event streams.

use std::time::Duration;

use super::parse::{Event, Item, Parser};
use super::{split, write};

/// Every payload comes back from its frame as the HTML standard reads it, with its line ends as LF, wherever the stream
/// is cut; and so do its parts when finished frames are taken apart again. Payloads are separated by 0xFF.
pub(crate) fn frames(data: &[u8]) {
    let Some((&size, payloads)) = data.split_first() else {
        return;
    };
    let (mut stream, mut events, mut items) = (Vec::new(), Vec::new(), Vec::new());
    let mut last_id = String::new();
    for (index, payload) in payloads.split(|byte| *byte == 0xff).enumerate() {
        let (mut id, mut name) = (String::new(), "message");
        if index % 2 == 0 {
            id = format!("id-{index}");
            last_id.clone_from(&id);
            write::begin(&mut stream, |out| out.extend_from_slice(id.as_bytes()));
        }
        if index % 3 == 0 {
            name = "delete";
            write::write_event(&mut stream, name);
        }
        write::write_data(&mut stream, payload);
        write::end(&mut stream);
        stream.extend_from_slice(write::KEEPALIVE);
        let payload = with_line_feeds(payload);
        items.push(Item::Event(Event {
            name: name.to_owned(),
            data: String::from_utf8_lossy(&payload).into_owned(),
            id: last_id.clone(),
        }));
        items.push(Item::Comment(String::new()));
        events.push((id, name, payload));
    }
    assert_eq!(in_pieces(&stream, size), items);
    let mut scratch = Vec::new();
    let mut found = split::events(&stream);
    for (id, name, payload) in events {
        let event = found.next().expect("as many as were written");
        assert_eq!((event.id, event.name), (id.as_bytes(), name.as_bytes()));
        assert_eq!(write::payload(event.frame, &mut scratch), payload);
    }
    assert_eq!(found.next(), None);
}

/// The parser finds in any bytes what the standard says, wherever they are cut.
pub(crate) fn parser(data: &[u8]) {
    if let Some((&size, stream)) = data.split_first() {
        assert_eq!(in_pieces(stream, size), by_the_standard(stream));
    }
}

fn in_pieces(stream: &[u8], size: u8) -> Vec<Item> {
    let (mut parser, mut items) = (Parser::default(), Vec::new());
    for piece in stream.chunks(usize::from(size).max(1)) {
        parser.feed(piece, &mut items).expect("it is short");
    }
    items
}

/// CR and CRLF become LF.
fn with_line_feeds(payload: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for (index, &byte) in payload.iter().enumerate() {
        match byte {
            b'\r' => out.push(b'\n'),
            b'\n' if index > 0 && payload.get(index - 1) == Some(&b'\r') => {}
            other => out.push(other),
        }
    }
    out
}

/// The items of a stream by the words of the standard (section 9.2.6), from the whole text at once.
fn by_the_standard(stream: &[u8]) -> Vec<Item> {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let text = String::from_utf8_lossy(stream)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    // An unfinished line is discarded.
    lines.pop();
    let (mut items, mut data, mut name, mut id) = (Vec::new(), Vec::new(), "", "");
    for line in lines {
        if line.is_empty() {
            if !data.is_empty() {
                items.push(Item::Event(Event {
                    name: if name.is_empty() { "message" } else { name }.to_owned(),
                    data: data.join("\n"),
                    id: id.to_owned(),
                }));
            }
            (data, name) = (Vec::new(), "");
            continue;
        }
        if let Some(comment) = line.strip_prefix(':') {
            items.push(Item::Comment(comment.to_owned()));
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.push(value),
            "event" => name = value,
            "id" if !value.contains('\0') => id = value,
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                let milliseconds = value.parse().ok().map(Duration::from_millis);
                items.extend(milliseconds.map(Item::Retry));
            }
            _ => {}
        }
    }
    items
}
