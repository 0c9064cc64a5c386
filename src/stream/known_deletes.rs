//! Tracks the time up to which a stream knows all deletes of its topics.
//!
//! Loading reads everything that was written before it began. Later, the reading thread reports for a topic that
//! everything written before some time was read. Record timestamps cannot tell: a backfill has old ones, some records
//! have none, and a quiet or filtered stream shows none.
//!
//! Pure: the caller provides the time.

use std::time::Instant;

/// The times up to which the deletes of a stream's topics are known.
#[derive(Debug)]
pub(super) struct KnownDeletes {
    /// When loading began, in unix seconds: all earlier deletes are known when it is done.
    began: u64,
    /// By topic: the time before which everything written has been read, since it was loaded.
    at_end: Vec<Option<Instant>>,
}

impl KnownDeletes {
    /// For a stream with this many topics that begins to load at `began` (unix seconds).
    pub(super) fn new(topics: usize, began: u64) -> Self {
        Self {
            began,
            at_end: vec![None; topics],
        }
    }

    /// Notes that everything written to a topic before `at` has been read.
    pub(super) fn at_end(&mut self, topic: usize, at: Instant) {
        if let Some(known) = self.at_end.get_mut(topic) {
            *known = Some(known.map_or(at, |known| known.max(at)));
        }
    }

    /// Forgets a topic that is reset.
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
        // That second is not over yet.
        let ago = instant.saturating_duration_since(at).as_secs() + 1;
        now.saturating_sub(ago).max(self.began)
    }
}
