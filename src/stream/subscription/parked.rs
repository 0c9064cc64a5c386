//! Readers at the head of a stream, of whom a driver has many: each reduced to what differs between them.
//!
//! A reader that has caught up waits for the same records as all others there. [`Subscription::park`] makes a few words
//! of it, and [`Head`] reads the next records once for all of them. What is due for one alone, or has changed for all,
//! is the business of the whole [`Subscription`], which [`Head::unpark`] makes again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Departure, Schedule, Stage, Subscription};
use crate::config::Lag;
use crate::sse::write;
use crate::stream::access::Access;
use crate::stream::cursor::Cursor;
use crate::stream::cursor::parked::ParkedCursor;
use crate::stream::live_settings::LiveSettings;
use crate::stream::log::{Read, Sequence};
use crate::stream::shared::Stream;
use crate::stream::waiters::Ticket;

/// A reader at the head of a stream, counted among its readers until it is unparked.
#[must_use = "only as a whole subscription is it counted as gone"]
#[derive(Debug)]
pub struct Parked {
    cursor: ParkedCursor,
    schedule: Schedule,
    access: Option<Access>,
    delivered: u64,
}

/// What is due at a parked reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedDue {
    /// Nothing until this time.
    Nothing(Instant),
    /// A comment, [`KEEPALIVE`](write::KEEPALIVE); it is scheduled again.
    Keepalive,
    /// More: unpark it.
    Step,
}

/// Records that all parked readers get who stand at `from`.
#[derive(Debug)]
pub struct Batch {
    /// The place of the readers that it is for.
    pub from: Sequence,
    /// Their place after it.
    pub next: Sequence,
    /// Its frames.
    pub frames: Bytes,
    /// How many they are.
    pub count: u64,
    /// When the first came.
    came: Option<Instant>,
    /// The id before it, where a reader may need it when the log has forgotten it.
    before: Option<Bytes>,
}

/// The next action at the head.
#[derive(Debug)]
pub enum HeadStep {
    /// Nothing has come.
    Nothing,
    /// Records for all that stand at its place.
    Batch(Batch),
    /// Something other than the log has changed, or the log has lost records: every reader has to be unparked.
    Changed,
}

/// The place where the parked readers of one driver stand.
#[derive(Debug)]
pub struct Head {
    stream: Arc<Stream>,
    ticket: Ticket,
    live_settings: Arc<LiveSettings>,
    next: Sequence,
    /// The id before that, where a reader may need it when the log has forgotten it (`lag = "replay"`).
    last: Option<Bytes>,
    /// The stream's version when it was last read.
    seen: u64,
    /// Its changes that all parked readers have followed.
    followed: u64,
}

impl Subscription {
    /// The stream that it reads now.
    pub fn stream_of(&self) -> &Arc<Stream> {
        self.stream()
    }

    /// Whether nothing of its own is in the way of parking it.
    fn can_park(&self) -> bool {
        self.stage == Stage::Open
            && self.has_caught_up
            && self.throttle.is_none()
            && self.own_throttle.is_zero()
            && self.departure == Some(Departure::Left)
            && self.followed == self.stream().audience().changes()
    }

    /// The place where it stands, for readers that are parked there; `None` where it cannot be parked.
    pub fn head(&self) -> Option<Head> {
        if !self.can_park() {
            return None;
        }
        let next = self.cursor.parks_at()?;
        let stream = self.stream();
        Some(Head {
            ticket: stream.audience().drivers().enter(),
            live_settings: Arc::clone(&self.live_settings),
            next,
            // Each reader has an own one until its first batch.
            last: None,
            // What the reader has not followed has changed for the head too.
            seen: self.seen,
            followed: self.followed,
            stream: Arc::clone(stream),
        })
    }

    /// Reduces a reader that [waits](super::Step::Wait) at the head.
    ///
    /// # Errors
    /// The reader, where it does not stand there, or has a filter, a throttle or an announcement of its own.
    pub fn park(mut self: Box<Self>) -> Result<Parked, Box<Self>> {
        if !self.can_park() {
            return Err(self);
        }
        let Some(cursor) = self.cursor.park() else {
            return Err(self);
        };
        self.departure = None;
        self.stream().clients.fetch_add(1, Ordering::Relaxed);
        Ok(Parked {
            cursor,
            schedule: self.schedule.clone(),
            access: self.access.take(),
            delivered: self.delivered,
        })
    }
}

impl Parked {
    /// The record that it reads next.
    pub fn next(&self) -> Sequence {
        self.cursor.next
    }

    /// It was sent a batch that begins where it stands.
    pub fn sent(&mut self, batch: &Batch, now: Instant, head: &Head) {
        self.cursor.sent(batch.next);
        self.delivered += batch.count;
        self.schedule.sent(now, &head.live_settings);
    }

    /// What is due at `now`.
    pub fn due(&mut self, now: Instant, head: &Head) -> ParkedDue {
        let access_due = self.schedule.access_due(self.access.as_ref());
        if access_due.is_some_and(|due| now >= due) {
            return ParkedDue::Step;
        }
        let until = self.schedule.until();
        if until > now {
            return ParkedDue::Nothing(access_due.map_or(until, |due| due.min(until)));
        }
        if self.schedule.is_only_keepalive(now) {
            self.schedule.keep_alive(now, &head.live_settings);
            ParkedDue::Keepalive
        } else {
            ParkedDue::Step
        }
    }
}

impl Head {
    /// The stream.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The place of readers that have all records.
    #[cfg(test)]
    pub(crate) fn next(&self) -> Sequence {
        self.next
    }

    /// The pause after which a quiet client gets a comment.
    pub fn keepalive(&self) -> Duration {
        self.live_settings.pace.keepalive
    }

    /// What is next for all who stand here; a batch has about `most` bytes, or those of one block.
    pub fn step(&mut self, most: usize) -> HeadStep {
        let audience = self.stream.audience();
        self.seen = audience.version();
        if audience.changes() != self.followed {
            return HeadStep::Changed;
        }
        let state = self.stream.read();
        let from = self.next;
        let (mut next, mut count) = (from, 0);
        let (mut frames, mut joined) = (Bytes::new(), Vec::new());
        loop {
            match state.log.read(next) {
                Read::Frames(bytes, after, more) => {
                    if frames.is_empty() {
                        frames = bytes;
                    } else if joined.len().max(frames.len()) + bytes.len() > most {
                        break;
                    } else {
                        // One write for all of them, at the price of a copy for all readers together.
                        if joined.is_empty() {
                            joined.extend_from_slice(&frames);
                        }
                        joined.extend_from_slice(&bytes);
                    }
                    (next, count) = (after, count + more);
                }
                Read::AtHead if next == from => return HeadStep::Nothing,
                // They fell off the log. What that means is decided for each.
                Read::Evicted => return HeadStep::Changed,
                Read::AtHead => break,
            }
        }
        let before = (self.live_settings.lag == Lag::Replay).then(|| {
            let before = self.last.take().or_else(|| state.log.id_before(from));
            self.last = state.log.id_before(next);
            before.unwrap_or_default()
        });
        let batch = Batch {
            from,
            next,
            frames: if joined.is_empty() { frames } else { joined.into() },
            count,
            came: state.arrivals.of(from),
            before,
        };
        self.next = next;
        HeadStep::Batch(batch)
    }

    /// Wakes `waker` when the stream changes. Returns false if it has changed since the last step: then step again
    /// first.
    #[must_use]
    pub fn wait(&self, waker: &Waker) -> bool {
        self.ticket.wait(waker);
        self.stream.audience().version() == self.seen
    }

    /// Counts that a batch was written to so many readers, which were waiting for it.
    pub fn count(&self, batch: &Batch, readers: u64, bytes: usize, now: Instant) {
        let waited = batch.came.map(|came| now.saturating_duration_since(came));
        let counters = self.stream.counters();
        counters.count_writes(readers, batch.count, bytes, waited);
    }

    /// Counts a comment.
    pub fn count_keepalive(&self) {
        let counters = self.stream.counters();
        counters.count_write(0, write::KEEPALIVE.len(), None);
    }

    /// The whole reader again. `batch` is the one that is being sent, if any.
    pub fn unpark(&self, parked: Parked, batch: Option<&Batch>) -> Box<Subscription> {
        let next = parked.cursor.next;
        // Of readers that stand elsewhere the cursor knows it.
        let last = match batch {
            Some(batch) if next == batch.from => batch.before.as_ref(),
            _ => self.last.as_ref().filter(|_| next == self.next),
        };
        let lag = self.live_settings.lag;
        let cursor = Cursor::unpark(&self.stream, parked.cursor, lag, last);
        Box::new(Subscription {
            cursor,
            schedule: parked.schedule,
            live_settings: Arc::clone(&self.live_settings),
            ticket: self.stream.audience().waiters().enter(),
            own_throttle: Duration::ZERO,
            throttle: None,
            stage: Stage::Open,
            has_caught_up: true,
            departure: Some(Departure::Left),
            access: parked.access,
            delivered: parked.delivered,
            is_waiting: true,
            seen: 0,
            followed: self.followed,
        })
    }
}

#[cfg(test)]
mod tests;
