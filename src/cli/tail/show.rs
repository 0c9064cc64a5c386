//! Formats an event as text or as a JSON object.
//!
//! Records are not trusted: control characters are escaped, so that the terminal does not interpret them.

use std::fmt::Write;

use serde_json::json;

use crate::logging::printable;
use crate::sse::parse::Event;
use crate::stream::position::{Position, TopicPosition};

/// Longer ids are shortened to this length, with [`CUT`] in the middle; it is enough for a dozen partitions.
const SHORT_ID: usize = 64;

/// The mark of a shortened id. No id contains it.
pub(super) const CUT: char = '…';

#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) is_json: bool,
    pub(super) shows_positions: bool,
    /// Show the latency of each event that has a timestamp.
    pub(super) shows_latency: bool,
}

impl Style {
    /// Appends an event to `out`, with a newline at its end.
    pub(super) fn write(self, out: &mut String, event: &Event, latency: Option<i64>) {
        let position = Some(event.id.as_bytes())
            .filter(|_| self.shows_positions)
            .and_then(|id| Position::parse(id).ok());
        let latency = latency.filter(|_| self.shows_latency);
        if self.is_json {
            write_json(out, event, position.as_ref(), latency);
            return;
        }
        let id = position.as_ref().map_or_else(|| short(&event.id), readable);
        // Writing into a string cannot fail.
        let _ = write!(out, "{:10} {id}", printable(&event.name));
        if let Some(latency) = latency {
            let _ = write!(out, " {latency:+} ms");
        }
        for (number, line) in event.data.split('\n').enumerate() {
            let line = printable(line);
            let _ = if number == 0 {
                writeln!(out, " {line}")
            } else {
                writeln!(out, "    {line}")
            };
        }
    }
}

fn write_json(out: &mut String, event: &Event, position: Option<&Position>, latency: Option<i64>) {
    let mut json = json!({ "event": event.name, "id": event.id, "data": event.data });
    if let Some(position) = position {
        let topics = position.topics.iter().map(|topic| {
            let name = format!("{:08x}", topic.name);
            json!({ "name": name, "next": topic.next })
        });
        json["position"] = json!({ "as_of": position.as_of, "topics": topics.collect::<Vec<_>>() });
    }
    if let Some(latency) = latency {
        json["latency_ms"] = latency.into();
    }
    let _ = writeln!(out, "{json}");
}

/// Shortens an id to its beginning, with version and topic, and its end, with the last partitions.
fn short(id: &str) -> String {
    if id.is_empty() {
        return "-".to_owned();
    }
    let id: Vec<char> = printable(id).chars().collect();
    if id.len() <= SHORT_ID {
        return id.iter().collect();
    }
    let half = SHORT_ID / 2;
    let (start, end) = (&id[..half - 1], &id[id.len() - half..]);
    start.iter().chain(&[CUT]).chain(end).collect()
}

/// A position with the fingerprints of topics: `e52ffdee[0:12 1:300]`.
fn readable(position: &Position) -> String {
    let topic = |topic: &TopicPosition| {
        let next = (0..).zip(&topic.next);
        let next: Vec<String> = next
            .map(|(partition, next): (u32, _)| format!("{partition}:{next}"))
            .collect();
        format!("{:08x}[{}]", topic.name, next.join(" "))
    };
    let topics: Vec<String> = position.topics.iter().map(topic).collect();
    topics.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{CUT, Style};
    use crate::sse::parse::Event;
    use crate::stream::position::{Position, TopicPosition};

    #[test]
    fn tail_prints_whole_ids_of_a_dozen_partitions() {
        let shown = |partitions: usize| {
            let mut topic = TopicPosition::unread("orders");
            topic.next = vec![300; partitions];
            let position = Position {
                topics: vec![topic],
                ..Position::default()
            };
            let id = String::from_utf8(position.id()).expect("base64url");
            let event = Event {
                name: "message".to_owned(),
                data: "1".to_owned(),
                id: id.clone(),
            };
            let mut line = String::new();
            let style = Style {
                is_json: false,
                shows_positions: false,
                shows_latency: false,
            };
            style.write(&mut line, &event, None);
            (id, line)
        };
        let (id, line) = shown(12);
        assert!(line.contains(&format!(" {id} ")), "{line}");
        let (id, line) = shown(900);
        assert!(!line.contains(&id) && line.contains(CUT), "{line}");
    }
}
