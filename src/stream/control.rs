//! The control events that a stream sends, with their data.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::position::MAX_ID;
use crate::config::units;
use crate::sse::control::ControlEvent;
use crate::sse::words::words;

/// A control event. `delete` is not among them: it shows a record, so the [encoder](super::encode) writes it.
#[derive(Debug, Clone, Copy)]
pub enum Control<'a> {
    /// Events are live from here on.
    CaughtUp(CaughtUp),
    /// The id alone.
    Checkpoint,
    /// The client was too slow.
    Conflated {
        /// Records that left memory before the client took them.
        skipped: u64,
    },
    /// Offsets no longer exist.
    Gap {
        /// Which.
        gap: &'a Gap,
        /// The names of the stream's topics.
        topics: &'a [String],
    },
    /// The server ends the stream.
    Goodbye(Goodbye),
    /// The connection is alive.
    Heartbeat {
        /// The time of day.
        time: SystemTime,
    },
    /// The client's token is about to end.
    Reauthenticate {
        /// How long it still lasts.
        left: Duration,
    },
    /// The client must discard its records.
    Reset {
        /// Why.
        reason: Reset,
        /// The topic, if not all.
        topic: Option<&'a str>,
    },
}

impl Control<'_> {
    /// The frame of the event. Without an id the client keeps its last one.
    pub fn frame(&self, id: Option<&[u8]>) -> Vec<u8> {
        let (event, data) = match *self {
            Self::CaughtUp(reason) => (ControlEvent::CaughtUp, json!({ "reason": reason.as_str() })),
            Self::Checkpoint => (ControlEvent::Checkpoint, json!({})),
            Self::Conflated { skipped } => (ControlEvent::Conflated, json!({ "skipped": skipped })),
            Self::Gap { gap, topics } => (
                ControlEvent::Gap,
                json!({
                    "topic": topics.get(gap.topic),
                    "partition": gap.partition,
                    "from": gap.from,
                    "to": gap.to,
                    "reason": gap.reason.as_str(),
                }),
            ),
            Self::Goodbye(reason) => (ControlEvent::Goodbye, json!({ "reason": reason.as_str() })),
            Self::Heartbeat { time } => {
                let time = units::Instant::millis(time).to_string();
                (ControlEvent::Heartbeat, json!({ "time": time }))
            }
            Self::Reauthenticate { left } => {
                let seconds = left.as_secs_f64().round();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a duration is not negative, and at most a day here"
                )]
                let seconds = seconds as u64;
                (ControlEvent::Reauthenticate, json!({ "seconds": seconds }))
            }
            Self::Reset { reason, topic } => {
                let mut data = json!({ "reason": reason.as_str() });
                if let Some(topic) = topic {
                    data["topic"] = topic.into();
                }
                (ControlEvent::Reset, data)
            }
        };
        event.frame(id, &data.to_string())
    }
}

/// The gap's frame without its id line, shortened to begin at `reached`; `None` if it begins there or later.
pub(super) fn gap_since(frame: &[u8], reached: i64) -> Option<Vec<u8>> {
    const FROM: &str = "from";
    let text = std::str::from_utf8(frame).ok()?;
    let (head, data) = text.split_once("data: ")?;
    let mut data: serde_json::Value = serde_json::from_str(data.trim_end()).ok()?;
    data.get(FROM)?.as_i64().filter(|from| *from < reached)?;
    data[FROM] = reached.into();
    Some(format!("{head}data: {data}\n\n").into())
}

/// The id that a client came with, if it may be sent back. An EventSource forgets its id where an event has an empty one
/// (HTML standard, section 9.2.6), so control events echo it. Ids of this daemon and of KafkaSSE are printable ASCII.
pub(crate) fn echoed_id(id: &str) -> Option<&str> {
    let is_safe = id.len() <= MAX_ID && id.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (is_safe && !id.is_empty()).then_some(id)
}

words! {
    /// The past that a client had before `caught-up`.
    CaughtUp {
        /// None.
        Live = "live",
        /// Records since its position or a time.
        Replay = "replay",
        /// The latest record of each key.
        Snapshot = "snapshot",
    }
}

words! {
    /// Why the server ends a stream.
    Goodbye {
        /// The daemon ends.
        Shutdown = "shutdown",
        /// The client fell behind the records in memory.
        Slow = "slow",
        /// The stream is served no more.
        StreamRemoved = "stream-removed",
        /// The connection has lasted as long as connections may.
        Lifetime = "lifetime",
        /// The client is over a limit. Its subscription has never begun.
        Overloaded = "overloaded",
        /// The client's token has ended, or may no longer read the stream.
        Unauthorized = "unauthorized",
        /// Whether the client's token is valid cannot be found out now. Its subscription has never begun.
        Unavailable = "unavailable",
    }
}

/// Resets of topics, by index in the stream's configuration; `None` is all topics.
pub(super) type Resets = Vec<(Reset, Option<usize>)>;

words! {
    /// Why a client must discard its records.
    Reset {
        /// The id is not one of this daemon's.
        UnknownId = "unknown-id",
        /// None of its topics is one of this stream's.
        OtherStream = "other-stream",
        /// The topic was deleted and created again.
        Recreated = "recreated",
        /// The id names offsets that the topic does not have yet.
        AheadOfTopic = "ahead-of-topic",
        /// Deletes since the id may have been forgotten.
        TooOld = "too-old",
        /// Kafka has lost records at the end of a log.
        Truncated = "truncated",
        /// The stream's settings changed while the client was connected.
        Reconfigured = "reconfigured",
    }
}

/// Offsets of one partition that no longer exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why they are missing.
    pub reason: GapReason,
    /// Index of the topic in the stream's configuration.
    pub topic: usize,
    /// Its partition.
    pub partition: u32,
    /// The first offset.
    pub from: i64,
    /// The offset after the last.
    pub to: i64,
}

words! {
    /// Why records are missing.
    GapReason {
        /// Kafka deleted them.
        Expired = "expired",
        /// The log was truncated, and grows again from there with other records.
        Truncated = "truncated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_of_bounded_length_is_sent_back_as_an_id() {
        assert_eq!(echoed_id("[{\"topic\":\"t\"}] ~"), Some("[{\"topic\":\"t\"}] ~"));
        assert_eq!(echoed_id(""), None);
        assert_eq!(echoed_id("a\nevent: reset"), None);
        assert_eq!(echoed_id("\u{e9}"), None);
        assert!(echoed_id(&"x".repeat(MAX_ID)).is_some());
        assert_eq!(echoed_id(&"x".repeat(MAX_ID + 1)), None);
    }
}
