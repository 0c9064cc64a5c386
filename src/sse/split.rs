//! Takes finished events apart again, as [`write`](mod@super::write) has written them: for other forms of a response.

use memchr::{memchr, memmem};

use super::write::{EVENT_FIELD, RETRY_FIELD, id_line, id_of};

/// The name that the HTML standard gives to an event without one.
const UNNAMED: &[u8] = b"message";

/// An event, borrowed from finished bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// Its id; empty where it has none, so that a client keeps its last one.
    pub id: &'a [u8],
    /// Its name; `message` where it has none.
    pub name: &'a [u8],
    /// All its lines, for [`payload`](super::write::payload).
    pub frame: &'a [u8],
}

/// The events of a piece that holds whole ones, without the reconnect times and comments between them.
pub(crate) fn events(piece: &[u8]) -> impl Iterator<Item = Event<'_>> {
    let mut rest = piece;
    std::iter::from_fn(move || {
        while rest.starts_with(RETRY_FIELD) || rest.starts_with(b":") {
            rest = &rest[memchr(b'\n', rest)? + 1..];
        }
        let end = memmem::find(rest, b"\n\n")? + 2;
        let (frame, tail) = rest.split_at(end);
        rest = tail;
        Some(event(frame))
    })
}

fn event(frame: &[u8]) -> Event<'_> {
    let after_id = if id_of(frame).is_empty() {
        frame
    } else {
        &frame[id_line(frame).len()..]
    };
    let name = after_id.strip_prefix(EVENT_FIELD).map(|name| {
        let end = memchr(b'\n', name).unwrap_or(name.len());
        &name[..end]
    });
    Event {
        id: id_of(frame),
        name: name.unwrap_or(UNNAMED),
        frame,
    }
}

#[cfg(test)]
mod tests {
    use super::super::write;
    use super::*;

    #[test]
    fn events_are_found_between_reconnect_times_and_comments() {
        let mut piece = write::retry(2000).into_bytes();
        piece.extend_from_slice(b": kafka-sse-bridge 1\n");
        write::begin(&mut piece, |out| out.extend_from_slice(b"a1"));
        write::write_data(&mut piece, b"one\n\ntwo");
        write::end(&mut piece);
        piece.extend_from_slice(write::KEEPALIVE);
        write::write_event(&mut piece, "delete");
        write::write_data(&mut piece, b"");
        write::end(&mut piece);
        let mut scratch = Vec::new();
        let found: Vec<_> = events(&piece)
            .map(|event| {
                let data = write::payload(event.frame, &mut scratch).to_vec();
                [event.id.to_vec(), event.name.to_vec(), data]
                    .map(|part| String::from_utf8(part).expect("text"))
            })
            .collect();
        assert_eq!(found, [["a1", "message", "one\n\ntwo"], ["", "delete", ""]]);
    }
}
