//! The control events: names that the events of records must not have, and their frames.

use super::write;

/// A control event. docs/wire.md describes when each is sent and its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlEvent {
    /// Events are live from here on.
    CaughtUp,
    /// The position of a client to which nothing was sent for a while.
    Checkpoint,
    /// Records are replaced by the latest record of each key.
    Conflated,
    /// A key was deleted.
    Delete,
    /// Offsets no longer exist.
    Gap,
    /// The server ends the stream.
    Goodbye,
    /// The connection is alive.
    Heartbeat,
    /// The client must discard its records.
    Reset,
}

impl ControlEvent {
    /// All control events, by name.
    pub const ALL: [Self; 8] = [
        Self::CaughtUp,
        Self::Checkpoint,
        Self::Conflated,
        Self::Delete,
        Self::Gap,
        Self::Goodbye,
        Self::Heartbeat,
        Self::Reset,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CaughtUp => "caught-up",
            Self::Checkpoint => "checkpoint",
            Self::Conflated => "conflated",
            Self::Delete => "delete",
            Self::Gap => "gap",
            Self::Goodbye => "goodbye",
            Self::Heartbeat => "heartbeat",
            Self::Reset => "reset",
        }
    }

    /// The whole frame, with JSON data on one line. Without an id the client keeps its last one.
    pub fn frame(self, id: Option<&[u8]>, json: &str) -> Vec<u8> {
        let event = self.as_str();
        let mut out = Vec::with_capacity(64 + id.map_or(0, <[u8]>::len) + event.len() + json.len());
        if let Some(id) = id {
            write::begin(&mut out, |out| out.extend_from_slice(id));
        }
        write::write_event(&mut out, event);
        write::write_data(&mut out, json.as_bytes());
        write::end(&mut out);
        out
    }
}
