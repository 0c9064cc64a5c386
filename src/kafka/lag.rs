//! How far reading is behind the ends of partitions, in records, from offsets that are known anyway.
//!
//! A source hears the high watermark with every fetch and hands it on every few seconds as an [`End`]; the
//! tail subtracts its own place at that moment. Nothing is asked, and nothing is done per record.

/// What a source has heard of the end of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The topic.
    pub topic: String,
    /// The partition, from 0.
    pub partition: u32,
    /// The offset of the next record to be written, as far as it may be read: the high watermark, or the
    /// last stable offset where only committed records are. `None` before the first fetch.
    pub offset: Option<i64>,
    /// The high watermark, where only committed records are read and it is known: beyond `offset` while a transaction
    /// is open.
    pub high: Option<i64>,
    /// Whether it is known that nothing readable is left before that: what lies there are the markers of
    /// transactions, or records of aborted ones.
    pub is_reached: bool,
    /// Whether the source fetches there, or tries to reach a broker for that. If not, it waits for something
    /// that need not come.
    pub is_fetched: bool,
}

impl End {
    /// Offsets between a reader that stands at `next` and this end, if it is known.
    #[must_use]
    pub fn lag(&self, next: i64) -> Option<u64> {
        let offset = self.offset?;
        Some(if self.is_reached { 0 } else { lag(next, offset) })
    }

    /// The same up to the high watermark: what open transactions hold back counts too.
    #[must_use]
    pub fn lag_to_high(&self, next: i64) -> Option<u64> {
        let held = self
            .offset
            .zip(self.high)
            .map_or(0, |(offset, high)| lag(offset, high));
        Some(self.lag(next)?.saturating_add(held))
    }
}

/// Offsets between `next` and the end. In a compacted topic some of them hold no record.
#[must_use]
pub fn lag(next: i64, end: i64) -> u64 {
    u64::try_from(end.saturating_sub(next)).unwrap_or(0)
}

/// How far the reading of one partition is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition, from 0.
    pub partition: usize,
    /// Records, counted as offsets.
    pub records: u64,
    /// The same up to the high watermark, where only committed records are read.
    pub to_high: u64,
}
