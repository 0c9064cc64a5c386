//! Notices: the control events that say what became of records and of what a client holds.

use super::block::{Builder, Kind};
use super::position::Position;
use super::resume::Reset;
use crate::sse::write;

/// Why records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Kafka deleted them.
    Expired,
    /// The log was truncated, and grows again from there with other records.
    Truncated,
}

/// Offsets of one partition that no longer exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) cause: Cause,
    /// Index of the topic in the stream's configuration.
    pub(super) topic: usize,
    pub(super) partition: u32,
    /// The first that is gone.
    pub(super) from: i64,
    /// The one behind the last that is gone.
    pub(super) to: i64,
}

impl Gap {
    /// The event `gap`. `topics` are the stream's names.
    pub(super) fn announce(&self, id: Option<&[u8]>, topics: &[String]) -> Vec<u8> {
        let json = serde_json::json!({
            "topic": topics.get(self.topic),
            "partition": self.partition,
            "from": self.from,
            "to": self.to,
            "reason": match self.cause {
                Cause::Expired => "expired",
                Cause::Truncated => "truncated",
            },
        });
        write::control(id, "gap", &json.to_string())
    }

    /// Appends the notice that records were lost which may have been shown; `position` is where the partition goes on
    /// behind it.
    pub(super) fn write_back(&self, position: &Position, topics: &[String], out: &mut Builder) {
        out.frame()
            .extend_from_slice(&self.announce(Some(&position.id()), topics));
        let topic = u16::try_from(self.topic).unwrap_or(u16::MAX);
        out.finish_notice(Kind::Cut, topic, self.partition, self.from);
    }

    /// Appends the gap to what is being built, for every reader to find in its place, and goes behind it.
    pub(super) fn write(&self, position: &mut Position, topics: &[String], out: &mut Builder) {
        // One at a time: the id that goes with it must not claim others.
        position.pass(self.topic, self.partition, self.to - 1);
        out.frame()
            .extend_from_slice(&self.announce(Some(&position.id()), topics));
        // A stream has far fewer topics than that.
        let topic = u16::try_from(self.topic).unwrap_or(u16::MAX);
        out.finish_notice(Kind::Gap, topic, self.partition, self.to - 1);
    }
}

/// The event `reset`, of one topic if not of all.
pub(super) fn reset(id: Option<&[u8]>, reason: Reset, topic: Option<&str>) -> Vec<u8> {
    let mut json = serde_json::json!({ "reason": reason.as_str() });
    if let Some(topic) = topic {
        json["topic"] = topic.into();
    }
    write::control(id, "reset", &json.to_string())
}
