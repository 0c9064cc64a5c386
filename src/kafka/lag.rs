//! Consumer lag, from offsets that are known without asking for them.
//!
//! Every fetch response holds the high watermark. The client reports it every few seconds as an [`End`], and the reading
//! thread subtracts its next offset: no request, and no work per record.

/// The end of a partition as of the last fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The topic.
    pub topic: String,
    /// The partition, from 0.
    pub partition: u32,
    /// The high watermark, or the last stable offset if only committed records are read. `None` before the first fetch.
    pub offset: Option<i64>,
    /// The high watermark, if only committed records are read and it is known: beyond `offset` while a transaction is
    /// open.
    pub high: Option<i64>,
    /// Whether no readable record is left before that, only transaction markers or records of aborted transactions.
    pub is_reached: bool,
    /// Whether the client fetches the partition, or tries to reach a broker for that. Otherwise it waits for an event
    /// that may never come.
    pub is_fetched: bool,
}

impl End {
    /// Offsets from `next` to this end, if it is known.
    pub fn lag(&self, next: i64) -> Option<u64> {
        let offset = self.offset?;
        Some(if self.is_reached { 0 } else { lag(next, offset) })
    }

    /// The same up to the high watermark, behind open transactions.
    fn lag_to_high(&self, next: i64) -> Option<u64> {
        let blocked = self
            .offset
            .zip(self.high)
            .map_or(0, |(offset, high)| lag(offset, high));
        Some(self.lag(next)?.saturating_add(blocked))
    }
}

/// The lag of a partition at a next offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lag {
    next: i64,
    /// Up to the end as far as it may be read.
    pub(crate) records: u64,
    /// Up to the high watermark.
    pub(crate) to_high: u64,
}

impl Lag {
    /// The lag behind an end that is the high watermark too.
    pub(crate) fn behind(next: i64, end: i64) -> Self {
        let records = lag(next, end);
        Self {
            next,
            records,
            to_high: records,
        }
    }

    /// The lag behind an end, if that is known.
    pub(crate) fn of(end: &End, next: i64) -> Option<Self> {
        Some(Self {
            next,
            records: end.lag(next)?,
            to_high: end.lag_to_high(next)?,
        })
    }

    /// The same end, seen from a later offset.
    pub(crate) fn advance(&mut self, next: i64) {
        let passed = lag(self.next, next);
        self.records = self.records.saturating_sub(passed);
        self.to_high = self.to_high.saturating_sub(passed);
        self.next = next;
    }
}

/// Offsets from `next` to the end. In a compacted topic some of them hold no record.
fn lag(next: i64, end: i64) -> u64 {
    u64::try_from(end.saturating_sub(next)).unwrap_or(0)
}

/// The lag of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition, from 0.
    pub partition: usize,
    /// The lag in offsets.
    pub records: u64,
    /// The lag up to the high watermark, if only committed records are read.
    pub to_high: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_counted_in_offsets_up_to_the_end() {
        assert_eq!(lag(3, 10), 7);
        assert_eq!(lag(10, 10), 0);
        // The known end is older than the last record read.
        assert_eq!(lag(12, 10), 0);
        let end = End {
            topic: "t".to_owned(),
            partition: 0,
            offset: Some(10),
            high: None,
            is_reached: false,
            is_fetched: true,
        };
        assert_eq!(end.lag(4), Some(6));
        let blocked = End {
            high: Some(15),
            ..end.clone()
        };
        assert_eq!((blocked.lag(4), blocked.lag_to_high(4)), (Some(6), Some(11)));
        let reached = End {
            is_reached: true,
            ..end
        };
        assert_eq!(reached.lag(9), Some(0));
    }

    #[test]
    fn lag_falls_by_what_was_read_since_its_end_was_known() {
        let end = End {
            topic: "t".to_owned(),
            partition: 0,
            offset: Some(10),
            high: Some(15),
            is_reached: false,
            is_fetched: true,
        };
        let mut lag = Lag::of(&end, 4).expect("the end is known");
        let mut after = |next| {
            lag.advance(next);
            (lag.records, lag.to_high)
        };
        assert_eq!(after(4), (6, 11));
        assert_eq!(after(7), (3, 8));
        // Beyond the known end.
        assert_eq!(after(12), (0, 3));
        assert_eq!(after(20), (0, 0));
    }
}
