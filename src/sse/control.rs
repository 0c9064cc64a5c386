//! The control events: names that the events of records must not have, and their frames.

use super::words::words;
use super::write;

words! {
    /// A control event. docs/wire.md describes when each is sent and its data.
    ControlEvent {
        /// Events are live from here on.
        CaughtUp = "caught-up",
        /// The position of a client to which nothing was sent for a while.
        Checkpoint = "checkpoint",
        /// Records are replaced by the latest record of each key.
        Conflated = "conflated",
        /// A key was deleted.
        Delete = "delete",
        /// Offsets no longer exist.
        Gap = "gap",
        /// The server ends the stream.
        Goodbye = "goodbye",
        /// The connection is alive.
        Heartbeat = "heartbeat",
        /// The client's token is about to end.
        Reauthenticate = "reauthenticate",
        /// The client must discard its records.
        Reset = "reset",
    }
}

impl ControlEvent {
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
