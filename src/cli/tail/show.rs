//! Puts an event into a line for people, or into a JSON object for programs.
//!
//! What comes is a stranger's: control characters are shown as escapes, so that no record can write
//! to the terminal on its own account.

use std::fmt::Write;

use serde_json::json;

use super::parser::Event;
use crate::logging::printable;
use crate::stream::position::{Position, TopicPosition};

/// Ids up to this length are shown whole, which is enough for a dozen partitions; of longer ones, this much with
/// [`CUT`] in the middle.
const SHORT_ID: usize = 64;

/// Stands in place of what is left out of an id. No id holds it.
pub const CUT: char = '…';

/// How events are shown.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// One JSON object per line.
    pub is_json: bool,
    /// Positions in place of ids.
    pub shows_positions: bool,
    /// How late each event is, where that is known.
    pub shows_latency: bool,
}

impl Style {
    /// Appends an event to `out`, with the line's end.
    pub fn write(self, out: &mut String, event: &Event, latency: Option<i64>) {
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

/// The beginning of an id, which names version and topic, and its end, where the last partitions are.
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

/// A position by the names' fingerprints: `e52ffdee[0:12 1:300]`.
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
