//! The arrival times of the newest records, from which the latency of their delivery is measured.

use std::collections::VecDeque;
use std::time::Instant;

use super::log::Sequence;

/// Batches of which the time is known. A reader that was waiting is at most a few behind; for one that was
/// not run for longer the oldest of these is a time that is too short, and a bad one all the same.
const REMEMBERED: usize = 64;

/// The times of the last batches.
#[derive(Debug)]
pub(super) struct Arrivals {
    recent: VecDeque<(Sequence, Instant)>,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self {
            recent: VecDeque::with_capacity(REMEMBERED),
        }
    }

    /// The records from `first` on came at `now`. Once per batch.
    pub(super) fn note(&mut self, first: Sequence, now: Instant) {
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((first, now));
    }

    /// When the record came that a reader at `cursor` gets next. That is nearly always the newest batch.
    pub(super) fn of(&self, cursor: Sequence) -> Option<Instant> {
        let newest_first = self.recent.iter().rev();
        let found = newest_first.clone().find(|(first, _)| *first <= cursor);
        found.or(self.recent.front()).map(|(_, came)| *came)
    }
}
