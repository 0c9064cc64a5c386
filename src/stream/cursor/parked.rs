//! A cursor at the head of a log, reduced to what it cannot have again from its stream.

use std::sync::Arc;

use bytes::Bytes;

use super::Cursor;
use crate::config::{Lag, Start};
use crate::kafka::history::fair_queue::Flow;
use crate::stream::announcements::Announcements;
use crate::stream::log::Sequence;
use crate::stream::phase::{Phase, PhaseReader};
use crate::stream::shared::Stream;
use crate::stream::throttle::Release;

/// A cursor without a filter at the head of the log.
#[derive(Debug)]
pub(in crate::stream) struct ParkedCursor {
    /// The record that it reads next.
    pub(in crate::stream) next: Sequence,
    flow: Flow,
    /// Nothing with most readers.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Rare {
    /// The id before the next record, until a batch is sent that has its own.
    last: Option<Bytes>,
    start: Option<Start>,
    since: Option<i64>,
}

impl ParkedCursor {
    /// A batch was sent that ends before `next`.
    pub(in crate::stream) fn sent(&mut self, next: Sequence) {
        self.next = next;
        if let Some(rare) = &mut self.rare {
            rare.last = None;
        }
    }
}

impl Cursor {
    /// The record that it reads next; `None` where it has more to say than that.
    pub(in crate::stream) fn parks_at(&self) -> Option<Sequence> {
        let Phase::Live(next) = self.reader.phase else {
            return None;
        };
        let is_plain = self.has_begun
            && self.request.is_none()
            && self.reader.filtered.is_none()
            && self.catches_up_at.is_none()
            && self.announcements.is_empty();
        is_plain.then_some(next)
    }

    /// The cursor, reduced, if it [can be](Self::parks_at).
    pub(in crate::stream) fn park(&self) -> Option<ParkedCursor> {
        let rare = Rare {
            last: self.reader.last.clone(),
            start: self.start,
            since: self.since,
        };
        Some(ParkedCursor {
            next: self.parks_at()?,
            flow: self.flow,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        })
    }

    /// The whole cursor again. `known` is the id of what was sent last, if it has none of its own.
    pub(in crate::stream) fn unpark(
        stream: &Arc<Stream>,
        parked: ParkedCursor,
        lag: Lag,
        known: Option<&Bytes>,
    ) -> Self {
        let in_log = || stream.read().log.id_before(parked.next);
        let Rare {
            last: own,
            start,
            since,
        } = parked.rare.map(|rare| *rare).unwrap_or_default();
        let last =
            (lag == Lag::Replay).then(|| own.or_else(|| known.cloned()).or_else(in_log).unwrap_or_default());
        Self {
            reader: PhaseReader {
                stream: Arc::clone(stream),
                phase: Phase::Live(parked.next),
                filtered: None,
                last,
                ends_without_id: false,
                // A parked reader keeps no pieces of the table for others.
                kept: None,
            },
            flow: parked.flow,
            start,
            since,
            request: None,
            announcements: Announcements::default(),
            // Without a filter no record ends what another one of its key showed, so none that is forgotten matters.
            eviction_resets: stream.eviction_resets(),
            has_begun: true,
            // Throttled, it would read from the log first: which notices it has seen is not known.
            release: Release::default(),
            catches_up_at: None,
        }
    }
}
