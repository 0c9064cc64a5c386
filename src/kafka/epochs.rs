//! Leader epochs of the records that were read of a partition (KIP-320).
//!
//! Each leader writes under a higher epoch than the leaders before it, so two logs that hold a record with the same
//! offset and epoch are equal up to that record. Knows nothing of clients or streams.

/// Epochs kept per partition: each change of the leader adds one.
const MAX_EPOCHS: usize = 16;

/// The last epochs of a partition, each with its first offset that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    last: Option<u32>,
    /// Ascending in epochs and offsets.
    known: Vec<(u32, i64)>,
}

/// The end of an epoch in the log that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochEnd {
    /// At the end of the records read, or later.
    Open,
    /// At this offset, where a later epoch begins.
    At(i64),
    /// At this offset or before it: reading began there, in a later epoch.
    Before(i64),
    Unknown,
}

impl Epochs {
    /// The epoch of the last record that was read, if it is known.
    pub(crate) const fn last(&self) -> Option<u32> {
        self.last
    }

    /// The epoch changes from [`last`](Self::last) with the record at this offset.
    pub(crate) fn note(&mut self, epoch: Option<u32>, offset: i64) {
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
    pub(crate) fn go_back(&mut self, to: i64) {
        self.known.retain(|&(_, first)| first < to);
        self.last = self.known.last().map(|&(epoch, _)| epoch);
    }

    /// Reading continues after a record that was not read.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The epoch of a record that was read, if it is known.
    pub(crate) fn at(&self, offset: i64) -> Option<u32> {
        let mut known = self.known.iter().rev();
        known
            .find(|&&(_, first)| first <= offset)
            .map(|&(epoch, _)| epoch)
    }

    /// The end of an epoch, or of the last one before it if the log has none of that number.
    pub(crate) fn end_of(&self, epoch: u32) -> EpochEnd {
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
