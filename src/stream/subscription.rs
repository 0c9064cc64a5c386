//! One reader of a stream: a [cursor](super::cursor), a [schedule](super::schedule), and what is counted.
//!
//! No task, no queue, no socket. Whoever drives a subscription calls [`Subscription::step`] for the
//! next bytes; when there are none it gives the subscription a waker and comes back when woken or
//! at the deadline. `http/event_stream.rs` is the driver over hyper.

pub mod parked;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;

use super::access::Access;
use super::control::{Control, Goodbye};
use super::counters::Departure;
use super::cursor::{Advance, Cursor};
use super::encode;
use super::filter_index::OverLimit;
use super::group::Group;
use super::live_settings::LiveSettings;
use super::phase::Frames;
use super::schedule::{Checkpoints, Due, Schedule};
use super::shared::Stream;
use super::start_position::Opening;
use super::throttle::{Gate, Throttle};
use super::waiters::Ticket;
use crate::config::filter::Filter;
use crate::sse::write;

/// Reconnect times are spread by this part of them to either side.
const RETRY_JITTER: f64 = 0.25;

/// Pieces with nothing to send that are looked at before others have their turn: a filter may pass over
/// a whole log, and each piece can take a millisecond.
const LOOKS_AT_ONCE: usize = 4;

/// The next action of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write these bytes, then step again.
    Send(Bytes),
    /// Nothing to write until the stream changes or this time comes.
    Wait(Instant),
    /// Nothing to write yet, but more to look at: step again after others had their turn.
    Yield,
    /// The stream is over; close it.
    End,
}

/// A reader of a stream.
#[derive(Debug)]
pub struct Subscription {
    cursor: Cursor,
    schedule: Schedule,
    live_settings: Arc<LiveSettings>,
    ticket: Ticket,
    /// The shortest time between two values of a key that the client asks for.
    own_throttle: Duration,
    /// The throttle, if the client or the stream asks for one.
    throttle: Option<Box<Throttle>>,
    stage: Stage,
    /// Whether `caught-up` was sent on this connection.
    has_caught_up: bool,
    /// The departure that its end is counted as; `None` if it only moves to another stream.
    departure: Option<Departure>,
    /// The right of the client; `None` where everybody may read.
    access: Option<Access>,
    /// Records, and notices between them, sent on this connection.
    delivered: u64,
    /// Whether it had read all there was, so that what comes next is written as soon as it can be.
    is_waiting: bool,
    /// The stream's version when its state was last read.
    seen: u64,
    /// Its changes that this reader has followed.
    followed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    Over,
}

impl Stream {
    /// A new reader, whatever it filters by.
    pub fn subscribe(self: &Arc<Self>, opening: Opening) -> Subscription {
        self.counters().opened.add(1);
        Subscription::new(Arc::clone(self), opening)
    }

    /// A new reader, unless its filter is over a limit of the stream.
    ///
    /// # Errors
    /// The limit, and `opening`.
    pub fn admit(self: &Arc<Self>, opening: Opening) -> Result<Subscription, (OverLimit, Box<Opening>)> {
        let joined = match self.filter_of(&opening) {
            Some(filter) => match self.join(&filter, Some(self.live_settings().filter_limits)) {
                Ok(group) => Some((filter, group)),
                Err(limit) => return Err((limit, Box::new(opening))),
            },
            None => None,
        };
        self.counters().opened.add(1);
        Ok(Subscription::joined(Arc::clone(self), opening, joined))
    }

    /// The filter of a client: what the values of its path and its claims select, and of that what its query asks for.
    /// `None` passes all records.
    pub(crate) fn filter_of(&self, opening: &Opening) -> Option<Filter> {
        let asked = opening.filter.as_ref().filter(|filter| !filter.is_empty());
        let Some(bound) = self.bound_filter() else {
            return asked.cloned();
        };
        let claims = opening.access.as_ref().map(Access::claims);
        let selected = bound.filter_or_nothing(opening.path_values.as_ref(), claims);
        Some(match asked {
            Some(asked) => selected.and(asked),
            None => selected,
        })
    }
}

impl Subscription {
    fn new(stream: Arc<Stream>, opening: Opening) -> Self {
        // Without limits no filter is refused.
        let join = |filter: Filter| stream.join(&filter, None).ok().map(|group| (filter, group));
        let group = stream.filter_of(&opening).and_then(join);
        Self::joined(stream, opening, group)
    }

    /// A reader that has joined the group of its filter, where it has one.
    fn joined(stream: Arc<Stream>, mut opening: Opening, group: Option<(Filter, Arc<Group>)>) -> Self {
        stream.clients.fetch_add(1, Ordering::Relaxed);
        let live_settings = stream.live_settings();
        let now = stream.instant();
        let ticket = match &group {
            Some((_, group)) => group.waiters.enter(),
            None => stream.audience().waiters().enter(),
        };
        let has_table = stream.settings().has_table();
        let own_throttle = opening.throttle.unwrap_or_default();
        let access = opening.access.take();
        let cursor = Cursor::new(stream, opening, group, live_settings.lag);
        let checkpoints = match (cursor.is_filtered(), has_table) {
            (true, _) => Checkpoints::Filtered,
            (false, true) => Checkpoints::Table,
            (false, false) => Checkpoints::None,
        };
        let mut this = Self {
            schedule: Schedule::new(now, &live_settings, checkpoints),
            cursor,
            live_settings,
            ticket,
            throttle: None,
            own_throttle,
            stage: Stage::Opening,
            has_caught_up: false,
            departure: Some(Departure::Left),
            access,
            delivered: 0,
            is_waiting: false,
            seen: 0,
            followed: 0,
        };
        this.set_throttle();
        this
    }

    /// Follows the stream's throttle, which is the least.
    fn set_throttle(&mut self) {
        let interval = self.own_throttle.max(self.live_settings.throttle);
        let has_table = self.stream().settings().has_table();
        if !has_table || interval.is_zero() {
            self.throttle = None;
        } else if let Some(throttle) = &mut self.throttle {
            throttle.interval = interval;
        } else {
            self.throttle = Some(Box::new(Throttle::new(interval, self.stream())));
        }
    }

    fn stream(&self) -> &Arc<Stream> {
        self.cursor.stream()
    }

    /// The path that it reads.
    pub fn path(&self) -> &str {
        &self.stream().settings().path
    }

    /// Whether the data of all events of the last step is JSON. Otherwise it has to be looked at.
    pub(crate) fn shows_json_alone(&self) -> bool {
        encode::is_always_json(self.stream().settings())
    }

    /// Why it has ended, or would if the connection were gone now.
    pub(crate) fn departure(&self) -> Departure {
        // Only a subscription that continues elsewhere has none.
        self.departure.unwrap_or(Departure::Left)
    }

    /// Records, and notices between them, that were handed out on this connection.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Records that the connection ended because its socket accepted no data for too long.
    pub(crate) fn timed_out(&mut self) {
        if self.departure == Some(Departure::Left) {
            self.departure = Some(Departure::WriteTimeout);
        }
    }

    /// The next action at `now`. Cheap when there is nothing to do: a shared lock and a comparison.
    pub fn step(&mut self, now: Instant) -> Step {
        let mut sent = (0, None);
        let step = match self.next_step(now, &mut sent) {
            Step::Wait(until) => {
                Step::Wait(until.min(self.schedule.access_due(self.access.as_ref()).unwrap_or(until)))
            }
            step => step,
        };
        if let Step::Send(bytes) = &step {
            let (count, came) = sent;
            self.delivered += count;
            if let Some(throttle) = self.throttle.as_mut().filter(|_| count > 0) {
                throttle.last = Some(now);
            }
            let waited = came.map(|came| now.saturating_duration_since(came));
            self.stream().counters().count_write(count, bytes.len(), waited);
        }
        step
    }

    /// The same. Where frames are sent, `sent` becomes how many, and when the first came if the reader was
    /// waiting for it.
    fn next_step(&mut self, now: Instant, sent: &mut (u64, Option<Instant>)) -> Step {
        match self.stage {
            Stage::Opening => {
                self.stage = Stage::Open;
                return self.send(now, self.prelude());
            }
            Stage::Over => return Step::End,
            Stage::Open => {}
        }
        if let Some(throttle) = &mut self.throttle {
            throttle.is_holding = false;
        }
        let audience = self.stream().audience();
        let (seen, changes) = (audience.version(), audience.changes());
        self.seen = seen;
        if self.followed != changes {
            self.followed = changes;
            if let Some(step) = self.follow(now) {
                return step;
            }
        }
        if let Some(step) = self.follow_access(now) {
            return step;
        }
        if self.schedule.is_over(now) {
            return self.goodbye(Goodbye::Lifetime);
        }
        let mut looks = 0;
        loop {
            let announcements = self.cursor.take_announcements();
            if !announcements.is_empty() {
                return self.send(now, announcements);
            }
            let gate = self
                .throttle
                .as_ref()
                .map_or(Gate::None, |throttle| throttle.gate(now));
            match self.cursor.advance(self.live_settings.lag, gate) {
                Advance::Frames(Frames { bytes, count, came }) if !bytes.is_empty() => {
                    // Later records arrived before the reader had taken this.
                    let was_waiting = std::mem::take(&mut self.is_waiting);
                    *sent = (count, came.filter(|_| was_waiting));
                    return self.send(now, bytes);
                }
                Advance::Frames(_) => {
                    looks += 1;
                    let has_begun = self.cursor.has_begun();
                    if self
                        .schedule
                        .is_checkpoint_due(now, &self.live_settings, has_begun)
                        && let Some(checkpoint) = self.checkpoint(now)
                    {
                        return checkpoint;
                    }
                    if looks == LOOKS_AT_ONCE {
                        return Step::Yield;
                    }
                }
                Advance::Changed => {}
                Advance::Blocked => return self.idle(now),
                Advance::AtHead => {
                    self.is_waiting = true;
                    return self.at_head(now);
                }
                Advance::TooSlow => return self.goodbye(Goodbye::Slow),
                Advance::Held => {
                    self.is_waiting = false;
                    return self.hold(now);
                }
                Advance::Released => {
                    if let Some(throttle) = &mut self.throttle {
                        throttle.last = Some(now);
                    }
                }
            }
        }
    }

    /// Wakes `waker` when the stream changes. Returns false if it has changed since the last step:
    /// then step again first.
    #[must_use]
    pub fn wait(&self, waker: &Waker) -> bool {
        let audience = self.stream().audience();
        if let Some(throttle) = self.throttle.as_ref().filter(|throttle| throttle.is_holding) {
            throttle.ticket.wait(waker);
            return audience.changes() == self.followed;
        }
        self.ticket.wait(waker);
        self.cursor.wait(waker) && audience.version() == self.seen
    }

    /// Follows what has changed beside the log. Returns the step that this takes, if it takes one.
    fn follow(&mut self, now: Instant) -> Option<Step> {
        self.cursor.heed_forgettings();
        if let Some(successor) = self.stream().successor() {
            self.go_over(successor);
            // Other readers that move have their turn.
            return Some(if self.is_allowed(now) {
                Step::Yield
            } else {
                self.goodbye(Goodbye::Unauthorized)
            });
        }
        let live_settings = self.stream().live_settings();
        let before = std::mem::replace(&mut self.live_settings, live_settings);
        self.schedule.apply(now, &before, &self.live_settings);
        self.set_throttle();
        if self.live_settings.lag != before.lag {
            self.cursor.set_lag(self.live_settings.lag);
        }
        if !self.is_allowed(now) {
            return Some(self.goodbye(Goodbye::Unauthorized));
        }
        let reason = self.stream().closing()?;
        Some(self.goodbye(reason))
    }

    /// Whether the client may read the stream.
    fn is_allowed(&self, now: Instant) -> bool {
        match &self.access {
            Some(access) => access.holds(self.path(), now),
            None => self.live_settings.is_public,
        }
    }

    /// Warns of the end of the client's right, and follows it.
    fn follow_access(&mut self, now: Instant) -> Option<Step> {
        let due = self.schedule.access_due(self.access.as_ref());
        if due.is_none_or(|due| now < due) {
            return None;
        }
        let ends_at = self.access.as_ref()?.deadline()?.ends_at;
        if now >= ends_at {
            return Some(self.goodbye(Goodbye::Unauthorized));
        }
        self.schedule.warned();
        let id = self.cursor.id();
        let left = ends_at.saturating_duration_since(now);
        Some(self.send_event(now, &Control::Reauthenticate { left }, id.as_ref()))
    }

    /// Moves to the stream that replaced this one. A client that has received records begins again there, and is reset
    /// as soon as its position there is known; until then it keeps its records.
    fn go_over(&mut self, successor: Arc<Stream>) {
        let mut opening = self.cursor.reopen(successor.settings());
        opening.throttle = (!self.own_throttle.is_zero()).then_some(self.own_throttle);
        opening.access = self.access.take();
        let mut next = Self::new(successor, opening);
        next.stage = self.stage;
        next.has_caught_up = self.has_caught_up;
        next.departure = self.departure.take();
        next.delivered = self.delivered;
        let lifetimes = [&next, self].map(|reader| reader.live_settings.pace.max_lifetime);
        next.schedule
            .continue_from(&self.schedule, lifetimes[0] == lifetimes[1]);
        *self = next;
    }

    fn send(&mut self, now: Instant, bytes: impl Into<Bytes>) -> Step {
        self.schedule.sent(now, &self.live_settings);
        Step::Send(bytes.into())
    }

    /// The first bytes of every stream, sent at once: proxies and browsers see that it is open.
    fn prelude(&self) -> String {
        format!(
            "{}: {} {}\n",
            self.retry(),
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION")
        )
    }

    fn retry(&self) -> String {
        let factor = rand::random_range(1.0 - RETRY_JITTER..=1.0 + RETRY_JITTER);
        write::retry(self.live_settings.pace.retry.mul_f64(factor).as_millis())
    }

    /// There is more, but it is not due.
    fn hold(&mut self, now: Instant) -> Step {
        let due = match &mut self.throttle {
            Some(throttle) => {
                throttle.is_holding = true;
                throttle.due().unwrap_or(now)
            }
            None => now,
        };
        match self.at_head(now) {
            Step::Wait(until) => Step::Wait(until.min(due)),
            step => step,
        }
    }

    /// Everything was sent: say so once, then keep the connection alive.
    fn at_head(&mut self, now: Instant) -> Step {
        if !self.has_caught_up
            && let Some(reason) = self.cursor.caught_up()
        {
            self.has_caught_up = true;
            let id = self.cursor.id();
            return self.send_event(now, &Control::CaughtUp(reason), id.as_ref());
        }
        self.idle(now)
    }

    /// Nothing to read: what is due.
    fn idle(&mut self, now: Instant) -> Step {
        loop {
            let has_begun = self.cursor.has_begun();
            match self.schedule.due(now, &self.live_settings, has_begun) {
                Due::Heartbeat => {
                    let time = UNIX_EPOCH + self.stream().time_of_day();
                    let id = self.cursor.id();
                    return self.send_event(now, &Control::Heartbeat { time }, id.as_ref());
                }
                Due::Checkpoint => {
                    if let Some(checkpoint) = self.checkpoint(now) {
                        return checkpoint;
                    }
                }
                Due::Keepalive => return Step::Send(Bytes::from_static(write::KEEPALIVE)),
                Due::Nothing(until) => return Step::Wait(until),
            }
        }
    }

    /// A checkpoint, unless the reader was sent its position before.
    fn checkpoint(&mut self, now: Instant) -> Option<Step> {
        let id = self.cursor.checkpoint_id()?;
        Some(self.send_event(now, &Control::Checkpoint, Some(&id)))
    }

    fn goodbye(&mut self, reason: Goodbye) -> Step {
        self.stage = Stage::Over;
        self.departure = Some(Departure::Told(reason));
        let mut bytes = self.retry().into_bytes();
        bytes.extend(Control::Goodbye(reason).frame(self.cursor.id().as_deref()));
        Step::Send(bytes.into())
    }

    fn send_event(&mut self, now: Instant, event: &Control<'_>, id: Option<&Bytes>) -> Step {
        if let Some(id) = id {
            self.cursor.note_sent_id(id);
        }
        self.send(now, event.frame(id.map(AsRef::as_ref)))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let stream = self.stream();
        stream.clients.fetch_sub(1, Ordering::Relaxed);
        if let Some(departure) = self.departure {
            stream.counters().count_closed(departure);
        }
        if let Some((filter, _)) = self.cursor.filter() {
            stream.client_filters().leave(filter);
        }
    }
}
