//! Notices a partition of which nothing comes although there is more, and nothing is said to be wrong.
//!
//! Client libraries have lost sight of partitions before, in silence. A new one, at our own offsets, is the
//! remedy that cannot do harm. Knows nothing of clients; counts what is heard, so that a thread that was
//! held up itself, and hears late, accuses nobody.

use std::collections::HashMap;

/// How often in a row the same must be heard. Ends are told every two seconds, and in two minutes the largest
/// answer comes over a line of 0.3 Mbit/s.
const TIMES: u32 = 60;

/// What has been heard of partitions that do not get on.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// Where each stands, and how often that was heard.
    seen: HashMap<(String, u32), (i64, u32)>,
}

impl Stalls {
    /// A partition is read from `next` on, and there is more. Returns whether it has stood there for too
    /// long.
    pub(super) fn is_stalled(&mut self, topic: &str, partition: u32, next: i64) -> bool {
        let (stood, times) = self.seen.entry((topic.to_owned(), partition)).or_default();
        *times = if *stood == next { *times + 1 } else { 1 };
        *stood = next;
        *times >= TIMES
    }

    /// A partition has nothing more.
    pub(super) fn is_done(&mut self, topic: &str, partition: u32) {
        self.seen.remove(&(topic.to_owned(), partition));
    }

    /// Another client reads, or something is known to be wrong.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}
