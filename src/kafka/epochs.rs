//! Leader epochs of a partition's log, as far as it was read (KIP-320).
//!
//! Each leader writes under an epoch above those of the leaders before it, so two logs that hold a record with the same
//! offset and epoch are the same up to that record. Knows nothing of clients or streams.

/// Epochs that are remembered of a partition: one comes with each change of its leader.
const MAX_EPOCHS: usize = 16;

/// The last epochs of a partition, each with the first offset that was read of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    last: Option<u32>,
    /// Ascending in epochs and offsets.
    known: Vec<(u32, i64)>,
}

/// Where an epoch ends in the log that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochEnd {
    /// Not before the end of what was read.
    Open,
    /// At this offset, with which a later epoch begins.
    At(i64),
    /// At this offset or before it: what was read begins there, with a later epoch.
    Before(i64),
    /// No epoch is known.
    Unknown,
}

impl Epochs {
    /// The epoch of the last record that was read, where it is known.
    #[must_use]
    pub const fn last(&self) -> Option<u32> {
        self.last
    }

    /// The record at this offset is of another epoch than [`last`](Self::last).
    pub fn note(&mut self, epoch: Option<u32>, offset: i64) {
        let is_later = |&(last, first): &(u32, i64)| Some(last) < epoch && first < offset;
        if !self.known.last().is_none_or(is_later) {
            self.known.clear();
        }
        if self.known.len() == MAX_EPOCHS {
            self.known.remove(0);
        }
        self.last = epoch;
        self.known.extend(epoch.map(|epoch| (epoch, offset)));
    }

    /// Reading goes back to this offset.
    pub fn go_back(&mut self, to: i64) {
        self.known.retain(|&(_, first)| first < to);
        self.last = self.known.last().map(|&(epoch, _)| epoch);
    }

    /// Reading goes on at another offset, and the record before that is not known.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Where an epoch ends, or the last one before it where the log has none of that number.
    #[must_use]
    pub fn end_of(&self, epoch: u32) -> EpochEnd {
        if self.known.is_empty() {
            return EpochEnd::Unknown;
        }
        match self.known.iter().position(|&(later, _)| later > epoch) {
            None => EpochEnd::Open,
            Some(0) => EpochEnd::Before(self.known[0].1),
            Some(index) => EpochEnd::At(self.known[index].1),
        }
    }
}
