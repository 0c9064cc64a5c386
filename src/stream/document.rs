//! The table as a document: the rows of one moment, and the position of that moment.
//!
//! Like a subscription it has no task and no socket: its driver asks for one piece after the other.

use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::capture::Capture;
use super::encode;
use super::filter::Matcher;
use super::log::Sequence;
use super::position::{Position, TopicPosition};
use super::shared::Stream;
use super::start_position::Opening;
use super::waiters::Ticket;

/// Rows examined before the table is unlocked for others, shown or not.
const ROWS_AT_ONCE: usize = 4096;

/// Rows that can be examined in the time that matching one against a filter takes.
const COST_OF_MATCHING: usize = 15;

/// A reader of the table as it is at one moment.
#[derive(Debug)]
pub struct Document {
    stream: Arc<Stream>,
    capture: Arc<Capture>,
    matcher: Option<Matcher>,
    /// Rows before this position are on earlier pages.
    wanted: Position,
    /// The position behind the last row that was read.
    position: Position,
    /// Rows that the page may still have.
    left: Option<usize>,
    ticket: Ticket,
}

/// The rows to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// There may be more.
    More,
    /// These were the last; with the position of the next page, if the page is full.
    Last(Option<Vec<u8>>),
    /// Too much has changed since the document was begun: the rest is lost.
    Void,
}

/// The position of a page belongs to other topics than those of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is of other topics, or a topic was recreated or lost records since")]
pub struct OtherTopics;

impl Stream {
    /// A reader of the table as it is now, or soon, with the filter of `opening`; `None` while the table is not loaded,
    /// or not up to the first page.
    ///
    /// # Errors
    /// When `after`, the position that an earlier page has ended with, and that of the first page, do not belong to the
    /// stream, or Kafka has lost records before the first page's.
    pub fn document(
        self: &Arc<Self>,
        opening: &Opening,
        after: Option<(Position, &Position)>,
        limit: Option<usize>,
    ) -> Result<Option<Document>, OtherTopics> {
        let (after, first) = after.unzip();
        let ticket = self.audience().waiters().enter();
        let state = self.read();
        let (true, Some(_)) = (state.is_assigned, self.loaded()) else {
            return Ok(None);
        };
        let head = state.log.head().clone();
        let here = Position::parse(&head).unwrap_or_default();
        let cursor = after.as_ref().map_or(0, |after| state.log.walk_point(after));
        let capture = Capture::new(cursor);
        let Some(mut table) = self.write_table() else {
            return Ok(None);
        };
        table.capture(&capture, state.log.next(), &head);
        drop(table);
        let position = match &after {
            Some(after) if !is_of(after, &here) => return Err(OtherTopics),
            // Other records are at the offsets of those that were lost, and the pages would lack them.
            Some(_) if first.is_some_and(|first| state.truncations.is_of_lost(first, &here)) => {
                return Err(OtherTopics);
            }
            // Rows up to the first page's position may be missing here, and no client would get them later.
            Some(_) if first.is_some_and(|first| !here.has_passed(first)) => return Ok(None),
            Some(after) => after.clone(),
            None => {
                let mut position = here.at_beginning();
                position.start_at(&state.low);
                position
            }
        };
        drop(state);
        self.counters().documents.add(1);
        let filter = self.filter_of(opening);
        Ok(Some(Document {
            matcher: filter.map(|filter| Matcher::new(&filter, self.settings())),
            wanted: after.unwrap_or_default(),
            position,
            left: limit,
            capture,
            ticket,
            stream: Arc::clone(self),
        }))
    }
}

/// Whether a position is of these topics.
fn is_of(position: &Position, here: &Position) -> bool {
    // An id is zero while it is not known.
    let is_same = |one: &TopicPosition, other: &TopicPosition| {
        one.name == other.name && (one.id == other.id || one.id == 0 || other.id == 0)
    };
    let mut pairs = position.topics.iter().zip(&here.topics);
    position.topics.len() == here.topics.len() && pairs.all(|(one, other)| is_same(one, other))
}

impl Document {
    /// The path of the stream.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.stream.settings().path
    }

    /// Whether the data of every row is JSON. Otherwise it has to be looked at.
    #[must_use]
    pub(crate) fn is_always_json(&self) -> bool {
        encode::is_always_json(self.stream.settings())
    }

    /// The id of its moment: a client that resumes with it gets all that happens afterwards. Pending while the writer
    /// is in the middle of a batch; `waker` is woken then.
    pub fn poll_id(&self, waker: &Waker) -> Poll<&Bytes> {
        self.ticket.wait(waker);
        match self.capture.begun() {
            Some(begun) => Poll::Ready(&begun.id),
            None => Poll::Pending,
        }
    }

    /// Says which records the table shows at its moment, whatever the filter; 0 before that.
    pub fn fingerprint(&self) -> u64 {
        self.capture.begun().map_or(0, |begun| begun.fingerprint)
    }

    /// Hands the frames of the next rows to `show`, in the order of their last update, until they are about `limit`
    /// bytes or many were examined.
    pub fn read(&mut self, limit: usize, mut show: impl FnMut(&[u8])) -> Rows {
        let (Some(begun), Some(table)) = (self.capture.begun(), self.stream.read_table()) else {
            return Rows::Void;
        };
        let mut reading = self.capture.reading.lock();
        if reading.is_void {
            self.stream.counters().cut_documents.add(1);
            return Rows::Void;
        }
        let mut budget = ROWS_AT_ONCE;
        let mut written = 0;
        let mut rows = table.merged(reading.cursor, begun.until).peekable();
        loop {
            let next = rows.peek().map_or(Sequence::MAX, |(sequence, _)| *sequence);
            let kept = reading.take_before(next);
            let row = match &kept {
                Some((_, row)) => row,
                None => match rows.next() {
                    Some((sequence, row)) => {
                        reading.cursor = sequence + 1;
                        row
                    }
                    None => return Rows::Last(None),
                },
            };
            let origin = row.origin();
            let topic = usize::from(origin.topic);
            if origin.offset >= self.wanted.next(topic, origin.partition) {
                self.position.pass(topic, origin.partition, origin.offset);
                let candidate = row.candidate();
                let is_shown = !candidate.is_tombstone
                    && self.matcher.as_ref().is_none_or(|matcher| {
                        budget = budget.saturating_sub(COST_OF_MATCHING);
                        matcher.accepts(&candidate)
                    });
                if is_shown {
                    show(candidate.frame);
                    written += candidate.frame.len();
                    self.left = self.left.map(|left| left.saturating_sub(1));
                }
            }
            if self.left == Some(0) {
                return Rows::Last(Some(self.position.id()));
            }
            budget = budget.saturating_sub(1);
            if budget == 0 || written >= limit {
                return Rows::More;
            }
        }
    }
}
