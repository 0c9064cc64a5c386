//! Detects a partition that does not advance although it has records, without an error.
//!
//! Client libraries have silently stopped fetching partitions. The remedy is a new client at our own offsets. Counts
//! reports instead of time, so that a delayed reading thread reports no stall.

use std::collections::HashMap;

/// Consecutive equal reports that make a stall. They arrive every two seconds, and in two minutes the largest response
/// arrives at 0.3 Mbit/s.
const TIMES: u32 = 60;

#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// The next offset of each, and how often it was reported.
    seen: HashMap<(String, u32), (i64, u32)>,
}

impl Stalls {
    /// A partition has more records from `next` on. Returns whether it is stalled.
    pub(super) fn is_stalled(&mut self, topic: &str, partition: u32, next: i64) -> bool {
        let (last, times) = self.seen.entry((topic.to_owned(), partition)).or_default();
        *times = if *last == next { *times + 1 } else { 1 };
        *last = next;
        *times >= TIMES
    }

    /// A partition has no more records.
    pub(super) fn is_done(&mut self, topic: &str, partition: u32) {
        self.seen.remove(&(topic.to_owned(), partition));
    }

    /// Another client reads, or an error is known.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}
