//! Up to when a stream knows all deletes of its topics.
//!
//! Everything that was written before the stream began to load is read when it is loaded. Later, the reading thread
//! says of a topic that everything written before some time was read. Event times say nothing of that: a backfill has
//! old ones, some records have none, and a quiet or filtered stream shows none.
//!
//! Pure: the caller gives the time.

use std::time::Instant;

/// What is known of the deletes of a stream's topics.
#[derive(Debug)]
pub(super) struct KnownDeletes {
    /// When loading began, in unix seconds: all deletes made before are known when it is done.
    began: u64,
    /// By topic: before when everything that was written has been read, since it was loaded.
    at_end: Vec<Option<Instant>>,
}

impl KnownDeletes {
    /// Of a stream with so many topics that begins to load at `began` (unix seconds).
    pub(super) fn new(topics: usize, began: u64) -> Self {
        Self {
            began,
            at_end: vec![None; topics],
        }
    }

    /// Everything that was written to a topic before `at` has been read.
    pub(super) fn at_end(&mut self, topic: usize, at: Instant) {
        if let Some(known) = self.at_end.get_mut(topic) {
            *known = Some(known.map_or(at, |known| known.max(at)));
        }
    }

    /// A topic begins anew.
    pub(super) fn forget(&mut self, topic: usize) {
        if let Some(known) = self.at_end.get_mut(topic) {
            *known = None;
        }
    }

    /// Unix seconds up to which all deletes of all topics are known, once they are loaded. `now` (unix seconds) and
    /// `instant` are the same moment by both clocks.
    pub(super) fn until(&self, now: u64, instant: Instant) -> u64 {
        let Some(at) = self.at_end.iter().copied().min().flatten() else {
            return self.began;
        };
        // The second in which it was is not over.
        let ago = instant.saturating_duration_since(at).as_secs() + 1;
        now.saturating_sub(ago).max(self.began)
    }
}
