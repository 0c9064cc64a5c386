//! Offsets of one partition: which of them exist, and how a leader's log differs from the records that were read.

use std::sync::Arc;

/// The offsets a partition holds: `low` is the first that exists, `high` the next to be written.
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
    /// How its leader's log departs from what was read, where the leader was asked for that.
    pub cut: Option<Cut>,
}

/// How a leader's log departs from what was read (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The greatest leader epoch in that log which is not above that of the last record read ends before that record.
    Diverged {
        /// That epoch.
        epoch: u32,
        /// Where it ends in the log.
        end: i64,
    },
    /// All epochs in that log are above that of the last record read.
    Unrelated,
    /// The log ends before what was read, and no epochs are known.
    Shorter {
        /// Where it ends.
        end: i64,
    },
}

/// The text before the leader's response to `OffsetForLeaderEpoch` in librdkafka's error.
const ANSWER: (&str, &str) = ("broker end offset is ", "(offset leader epoch ");

impl Cut {
    /// How a leader's log departs from what was read, by the text of librdkafka's error: it gives no more of the leader's
    /// answer than that. `None` where the text has no answer.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (end, epoch) = (number_after(text, ANSWER.0)?, number_after(text, ANSWER.1)?);
        // Both are -1 where the leader knows no such epoch.
        match u32::try_from(epoch) {
            Ok(epoch) if end >= 0 => Some(Self::Diverged { epoch, end }),
            _ => Some(Self::Unrelated),
        }
    }
}

/// The number that follows a phrase.
fn number_after(text: &str, phrase: &str) -> Option<i64> {
    let (_, rest) = text.split_once(phrase)?;
    let number = rest.split(|char: char| char != '-' && !char.is_ascii_digit());
    number.into_iter().next()?.parse().ok()
}
