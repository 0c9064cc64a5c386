//! Offsets of one partition: which of them exist, and how a leader's log differs from the records that were read.

use std::sync::Arc;

/// The bounds of a partition's log: `low` is the first offset that exists, `high` the next to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that exists (the log start offset).
    pub low: i64,
    /// The high watermark.
    pub high: i64,
}

/// A partition whose next offset does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: u32,
    /// How its leader's log differs from the records read, if the leader was asked.
    pub cut: Option<Cut>,
}

/// How a leader's log differs from the records read (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The log's greatest leader epoch that is not above that of the last record read ends before that record.
    Diverged {
        /// That epoch.
        epoch: u32,
        /// The end of that epoch in the log.
        end: i64,
    },
    /// All epochs in that log are above that of the last record read.
    Unrelated,
    /// The log ends before the last record read, and no epochs are known.
    Shorter {
        /// The end of the log.
        end: i64,
    },
}

/// The text before the leader's response to `OffsetForLeaderEpoch` in librdkafka's error.
const ANSWER: (&str, &str) = ("broker end offset is ", "(offset leader epoch ");

impl Cut {
    /// Parses how a leader's log differs from the records read. librdkafka reports the leader's response only in the
    /// text of an error. `None` if the text has no response.
    pub fn from_text(text: &str) -> Option<Self> {
        let (end, epoch) = (number_after(text, ANSWER.0)?, number_after(text, ANSWER.1)?);
        // Both are -1 if the leader has no such epoch.
        match u32::try_from(epoch) {
            Ok(epoch) if end >= 0 => Some(Self::Diverged { epoch, end }),
            _ => Some(Self::Unrelated),
        }
    }
}

fn number_after(text: &str, phrase: &str) -> Option<i64> {
    let (_, rest) = text.split_once(phrase)?;
    let number = rest.split(|char: char| char != '-' && !char.is_ascii_digit());
    number.into_iter().next()?.parse().ok()
}
