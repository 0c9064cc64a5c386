//! One reader of a stream: a place in it and a few deadlines.
//!
//! No task, no queue, no socket. Whoever drives a subscription calls [`Subscription::step`] for the
//! next bytes; when there are none it gives the subscription a waker and comes back when woken or
//! at the deadline. See `http/events.rs` for the driver over hyper.
//!
//! ```text
//!            ┌──────────► Scanning (table) ──rows done──┐
//! Waiting ───┼──────────► Catching (log, past its own position) ──shared position passes──► Reading (log)
//!  ▲  │      └─────────────────────────────────────────┴──────────────────────────────────────► ▲ │
//!  │  ▼       Replaying (Kafka) ──end──► Catching      │                                          │ │
//! Asking                          Scanning ◄──────────── fell off the log (lag = "latest") ────────┘─┘
//! ```
//! Here is when something is sent, and what beside records; [`cursor`](super::cursor) is how the reader gets
//! from place to place, [`start_position`](super::start_position) where it begins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::control::{CaughtUp, Control, Goodbye, echoed_id};
use super::counters::Departure;
use super::cursor::{Frames, Moved, Place};
use super::filter_index::OverLimit;
use super::group::Group;
use super::live_settings::LiveSettings;
use super::log::Sequence;
use super::shared::Stream;
use super::start_position::{Answers, Opening};
use super::waiters::Ticket;
use crate::config::filter::Filter;
use crate::config::{Lag, Start, StreamSettings};
use crate::kafka::history::fair_queue::Flow;
use crate::sse::write;

/// Reconnect times are spread by this part of them to either side.
const RETRY_JITTER: f64 = 0.25;

/// Lifetimes are shortened by up to this part of them, so that those who came together do not all
/// come back together.
const LIFETIME_JITTER: f64 = 0.1;

/// How often a reader of a quiet table is sent its place in the time for which deletes are remembered.
const REFRESHES: u32 = 8;

/// Pieces with nothing to send that are looked at before others have their turn: a filter may pass over
/// a whole log, and each piece can take a millisecond.
const LOOKS_AT_ONCE: usize = 4;

/// What there is to do.
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

/// What a reader needs that a filter may keep quiet, its own or the stream's.
#[derive(Debug)]
pub(super) struct Quiet {
    /// Its own filter, and those who share it.
    pub(super) group: Option<(Filter, Arc<Group>)>,
    /// When it is to be told its place, if that has changed.
    checkpoint_at: Instant,
    /// The place it was last told.
    pub(super) told: Bytes,
}

/// A reader of a stream.
#[derive(Debug)]
pub struct Subscription {
    pub(super) stream: Arc<Stream>,
    pub(super) live_settings: Arc<LiveSettings>,
    ticket: Ticket,
    /// With whom it takes turns at the past.
    pub(super) flow: Flow,
    /// Where it wanted to begin, in case it has to begin again.
    start: Option<Start>,
    since: Option<i64>,
    /// What it came with, until it has begun.
    pub(super) request: Option<Box<(Opening, Answers)>>,
    pub(super) place: Place,
    pub(super) quiet: Option<Box<Quiet>>,
    /// What is said before anything else: `reset`, `gap` and `conflated`.
    pub(super) announcements: Vec<u8>,
    /// The id of what was sent last, where the reader may have to go on from exactly there although
    /// that has left the log (`lag = "replay"`).
    pub(super) last: Option<Bytes>,
    /// How often the table had forgotten which keys have left it when the reader began.
    pub(super) forgettings: u64,
    /// Whether the reader has had a place before.
    pub(super) has_begun: bool,
    /// The record at which the reader has caught up, and what `caught-up` says; `None` once said.
    pub(super) caught_up: Option<(Sequence, CaughtUp)>,
    /// Whether it was said, on this connection.
    is_told: bool,
    stage: Stage,
    /// What its end is counted as; `None` where it only goes over to another stream.
    departure: Option<Departure>,
    /// Records, and notices that stand among them, sent on this connection.
    delivered: u64,
    /// Whether it had read all there was, so that what comes next is written as soon as it can be.
    is_waiting: bool,
    /// The stream's version when its state was last read.
    seen: u64,
    /// Its changes that this reader has followed.
    followed: u64,
    keepalive_at: Instant,
    heartbeat_at: Option<Instant>,
    /// When a reader of a table that was sent nothing meanwhile is sent its place: the time up to which deletes are
    /// known moves although no record comes. One with a filter has checkpoints anyway.
    refresh_at: Option<Instant>,
    ends_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    Over,
}

impl Stream {
    /// A new reader, whatever it filters by.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, opening: Opening) -> Subscription {
        self.counters().count_opened();
        Subscription::new(Arc::clone(self), opening)
    }

    /// A new reader, unless its filter is over a limit of the stream.
    ///
    /// # Errors
    /// The limit, and `opening`.
    pub fn admit(self: &Arc<Self>, opening: Opening) -> Result<Subscription, (OverLimit, Opening)> {
        let joined = match opening.filter() {
            Some(filter) => match self.join(filter, Some(self.live_settings().filter_limits)) {
                Ok(group) => Some(group),
                Err(limit) => return Err((limit, opening)),
            },
            None => None,
        };
        self.counters().count_opened();
        Ok(Subscription::joined(Arc::clone(self), opening, joined))
    }
}

impl Subscription {
    fn new(stream: Arc<Stream>, opening: Opening) -> Self {
        let group = opening.filter().and_then(|filter| stream.join(filter, None).ok());
        Self::joined(stream, opening, group)
    }

    /// A reader that has joined the group of its filter, where it has one: before it looks for its place, so that no
    /// match falls in between.
    fn joined(stream: Arc<Stream>, mut opening: Opening, group: Option<Arc<Group>>) -> Self {
        stream.clients.fetch_add(1, Ordering::Relaxed);
        let live_settings = stream.live_settings();
        let now = stream.instant();
        let heartbeat_at = live_settings.heartbeat.map(|interval| now + interval);
        let keepalive_at = now + live_settings.pace.keepalive;
        let ends_at = end_of_life(now, &live_settings);
        let last = (live_settings.lag == Lag::Replay).then(Bytes::new);
        let group = opening.filter.take().zip(group);
        let ticket = match &group {
            Some((_, group)) => group.waiters.enter(),
            None => stream.audience().waiters().enter(),
        };
        let flow = std::mem::take(&mut opening.flow);
        let is_plain = opening == Opening::default();
        let quiet = (group.is_some() || stream.fixed().is_some()).then(|| {
            Box::new(Quiet {
                group,
                checkpoint_at: now + live_settings.checkpoint_interval,
                // What it came with it knows.
                told: opening.last_event_id.clone().unwrap_or_default().into(),
            })
        });
        let is_refreshed = stream.settings().has_table() && quiet.is_none();
        let refresh_at = is_refreshed.then(|| now + refresh_interval(&live_settings));
        let (start, since) = (opening.start, opening.since);
        Self {
            live_settings,
            ticket,
            flow,
            start,
            since,
            request: (!is_plain).then(|| Box::new((opening, Answers::default()))),
            place: Place::Waiting,
            quiet,
            announcements: Vec::new(),
            last,
            forgettings: 0,
            has_begun: false,
            caught_up: None,
            is_told: false,
            stage: Stage::Opening,
            departure: Some(Departure::Left),
            delivered: 0,
            is_waiting: false,
            seen: 0,
            followed: 0,
            keepalive_at,
            heartbeat_at,
            refresh_at,
            ends_at,
            stream,
        }
    }

    /// The path that it reads.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.stream.settings().path
    }

    /// Why it has ended, or would if the connection were gone now.
    #[must_use]
    pub fn departure(&self) -> Departure {
        // Only one that another has gone on for has none.
        self.departure.unwrap_or(Departure::Left)
    }

    /// Records, and notices that stand among them, that were handed out on this connection.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Says that the connection broke because it took nothing for too long.
    pub fn timed_out(&mut self) {
        if self.departure == Some(Departure::Left) {
            self.departure = Some(Departure::WriteTimeout);
        }
    }

    /// The next thing to do at `now`. Cheap when there is nothing: a shared lock and a comparison.
    pub fn step(&mut self, now: Instant) -> Step {
        let mut sent = (0, None);
        let step = self.next_step(now, &mut sent);
        if let Step::Send(bytes) = &step {
            let (count, came) = sent;
            self.delivered += count;
            let waited = came.map(|came| now.saturating_duration_since(came));
            self.stream.counters().count_write(count, bytes.len(), waited);
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
        self.seen = self.stream.audience().version();
        let changes = self.stream.audience().changes();
        if self.followed != changes {
            self.followed = changes;
            if let Some(step) = self.follow(now) {
                return step;
            }
        }
        if self.ends_at.is_some_and(|end| now >= end) {
            return self.goodbye(Goodbye::Lifetime);
        }
        let mut looks = 0;
        loop {
            if !self.announcements.is_empty() {
                let bytes = std::mem::take(&mut self.announcements);
                return self.send(now, bytes);
            }
            match self.advance() {
                Moved::Frames(Frames { bytes, count, came }) if !bytes.is_empty() => {
                    // What follows was here before the reader had taken this.
                    let was_waiting = std::mem::take(&mut self.is_waiting);
                    *sent = (count, came.filter(|_| was_waiting));
                    return self.send(now, bytes);
                }
                Moved::Frames(_) => {
                    looks += 1;
                    if let Some(checkpoint) = self.checkpoint(now) {
                        return checkpoint;
                    }
                    if looks == LOOKS_AT_ONCE {
                        return Step::Yield;
                    }
                }
                Moved::On => {}
                Moved::Quiet => return self.idle(now),
                Moved::AtHead => {
                    self.is_waiting = true;
                    return self.at_head(now);
                }
                Moved::Over(end) => return end,
            }
        }
    }

    /// Wakes `waker` when the stream changes. Returns false if it has changed since the last step:
    /// then step again first.
    #[must_use]
    pub fn wait(&self, waker: &Waker) -> bool {
        self.ticket.wait(waker);
        let is_other_quiet = match &self.place {
            Place::Replaying(reader, _) => reader.wait(waker),
            Place::Asking(asking) => asking.wait(waker),
            _ => true,
        };
        is_other_quiet && self.stream.audience().version() == self.seen
    }

    /// Follows what has changed beside the log. Returns the step that this takes, if it takes one.
    fn follow(&mut self, now: Instant) -> Option<Step> {
        self.heed_forgettings();
        if let Some(successor) = self.stream.successor() {
            self.go_over(successor);
            // The others who go over have their turn.
            return Some(Step::Yield);
        }
        self.apply(now);
        let reason = self.stream.closing()?;
        Some(self.goodbye(reason))
    }

    /// Applies the stream's live settings.
    fn apply(&mut self, now: Instant) {
        let live_settings = self.stream.live_settings();
        let before = std::mem::replace(&mut self.live_settings, Arc::clone(&live_settings));
        if live_settings.pace.keepalive != before.pace.keepalive {
            self.keepalive_at = now + live_settings.pace.keepalive;
        }
        if live_settings.heartbeat != before.heartbeat {
            self.heartbeat_at = live_settings.heartbeat.map(|interval| now + interval);
        }
        if live_settings.pace.max_lifetime != before.pace.max_lifetime {
            self.ends_at = end_of_life(now, &live_settings);
        }
        if live_settings.lag != before.lag {
            // Known where it stands now; a reader on its way gets there with the id of its place.
            self.last = (live_settings.lag == Lag::Replay).then(|| self.id().unwrap_or_default());
        }
    }

    /// Goes over to the stream that took this one's place. Who has been shown something begins anew there,
    /// and is told so as soon as it is known where; until then it keeps what it has.
    fn go_over(&mut self, successor: Arc<Stream>) {
        let mut opening = if self.has_begun {
            self.anew(successor.settings())
        } else {
            self.request.take().map(|request| request.0).unwrap_or_default()
        };
        let filter = self.quiet.as_ref().and_then(|quiet| quiet.group.as_ref());
        opening.filter = filter.map(|(filter, _)| filter.clone());
        opening.flow = self.flow;
        let mut next = Self::new(successor, opening);
        next.stage = self.stage;
        next.is_told = self.is_told;
        next.departure = self.departure.take();
        next.delivered = self.delivered;
        next.keepalive_at = next.keepalive_at.min(self.keepalive_at);
        if next.live_settings.pace.max_lifetime == self.live_settings.pace.max_lifetime {
            next.ends_at = self.ends_at;
        }
        *self = next;
    }

    /// How it begins again at a stream with other settings: as it first came. Who follows what is live goes
    /// on where it stands, or it would miss what is written while that stream is loaded.
    fn anew(&self, settings: &StreamSettings) -> Opening {
        let start = self
            .start
            .filter(|start| *start != Start::Snapshot || settings.has_table());
        let is_live = self.since.is_none() && start.unwrap_or(settings.start) == Start::Live;
        let forgotten = || self.last.clone().filter(|id| !id.is_empty());
        let id = is_live.then(|| self.id().or_else(forgotten)).flatten();
        Opening {
            start,
            since: self.since,
            last_event_id: id.and_then(|id| String::from_utf8(id.into()).ok()),
            filter: None,
            flow: self.flow,
            is_handed_over: true,
        }
    }

    fn send(&mut self, now: Instant, bytes: impl Into<Bytes>) -> Step {
        self.keepalive_at = now + self.live_settings.pace.keepalive;
        if let Some(quiet) = &mut self.quiet {
            quiet.checkpoint_at = now + self.live_settings.checkpoint_interval;
        }
        if let Some(refresh_at) = &mut self.refresh_at {
            *refresh_at = now + refresh_interval(&self.live_settings);
        }
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

    /// Everything was sent: say so once, then keep the connection alive.
    fn at_head(&mut self, now: Instant) -> Step {
        if let Some((target, reason)) = self.caught_up.filter(|_| !self.is_told) {
            let cursor = match self.place {
                Place::Reading(cursor) | Place::Catching(cursor, _) => cursor,
                Place::Waiting | Place::Asking(_) | Place::Scanning(_) | Place::Replaying(..) => 0,
            };
            let loaded = self
                .stream
                .read()
                .loaded
                .filter(|&loaded| cursor >= loaded.max(target));
            if loaded.is_some() {
                self.caught_up = None;
                self.is_told = true;
                let id = self.id();
                return self.send_event(now, id.as_deref(), &Control::CaughtUp(reason));
            }
        }
        self.idle(now)
    }

    /// Nothing to read: a heartbeat or a keepalive where one is due.
    fn idle(&mut self, now: Instant) -> Step {
        if let Some(due) = self.heartbeat_at
            && now >= due
        {
            // Late by more than an interval (a stalled socket, a suspended machine): skip, not burst.
            let interval = self.live_settings.heartbeat.unwrap_or_default();
            let next = due + interval;
            self.heartbeat_at = Some(if next > now { next } else { now + interval });
            let time = SystemTime::now();
            let id = self.id();
            return self.send_event(now, id.as_deref(), &Control::Heartbeat { time });
        }
        if let Some(checkpoint) = self.checkpoint(now) {
            return checkpoint;
        }
        if now >= self.keepalive_at {
            // It tells no place, so a checkpoint is not due later for it.
            self.keepalive_at = now + self.live_settings.pace.keepalive;
            return Step::Send(Bytes::from_static(write::KEEPALIVE));
        }
        let checkpoint_at = self.quiet.as_ref().map(|quiet| quiet.checkpoint_at);
        let due = [
            Some(self.keepalive_at),
            self.heartbeat_at,
            checkpoint_at,
            self.refresh_at.filter(|_| self.has_begun),
            self.ends_at,
        ];
        Step::Wait(due.into_iter().flatten().min().unwrap_or(self.keepalive_at))
    }

    /// A checkpoint, where one is due and the place has changed since the reader was last told it.
    fn checkpoint(&mut self, now: Instant) -> Option<Step> {
        if let Some(refresh_at) = self.refresh_at.filter(|_| self.has_begun) {
            if now < refresh_at {
                return None;
            }
            self.refresh_at = Some(now + refresh_interval(&self.live_settings));
            let id = self.id()?;
            return Some(self.send_event(now, Some(&id), &Control::Checkpoint));
        }
        if now < self.quiet.as_ref()?.checkpoint_at {
            return None;
        }
        let id = self.id();
        let quiet = self.quiet.as_mut()?;
        quiet.checkpoint_at = now + self.live_settings.checkpoint_interval;
        let id = id.filter(|id| *id != quiet.told)?;
        quiet.told.clone_from(&id);
        Some(self.send_event(now, Some(&id), &Control::Checkpoint))
    }

    pub(super) fn goodbye(&mut self, reason: Goodbye) -> Step {
        self.stage = Stage::Over;
        self.departure = Some(Departure::Told(reason));
        let mut bytes = self.retry().into_bytes();
        bytes.extend(Control::Goodbye(reason).frame(self.id().as_deref()));
        Step::Send(bytes.into())
    }

    fn send_event(&mut self, now: Instant, id: Option<&[u8]>, event: &Control<'_>) -> Step {
        let bytes = event.frame(id);
        if let (Some(quiet), Some(id)) = (&mut self.quiet, id) {
            quiet.told = Bytes::copy_from_slice(id);
        }
        self.send(now, bytes)
    }

    /// The reader's place, to come back to: the id of what was sent last. Before the stream knows
    /// where it stands, the id the client came with. `None` where that is forgotten: the client
    /// keeps what it has.
    pub(super) fn id(&self) -> Option<Bytes> {
        match &self.place {
            Place::Waiting | Place::Asking(_) => self
                .request
                .as_ref()
                .and_then(|request| request.0.last_event_id.as_deref())
                .and_then(echoed_id)
                .map(|id| id.to_owned().into()),
            Place::Scanning(scan) => Some(scan.position.id().into()),
            Place::Catching(_, wanted) => Some(wanted.id().into()),
            Place::Replaying(reader, _) => Some(reader.position().id().into()),
            Place::Reading(cursor) => self
                .stream
                .read()
                .log
                .id_before(*cursor)
                .filter(|id| !id.is_empty()),
        }
    }
}

/// After how long without an event a reader of a table is sent its place: an id must not become as old as deletes are
/// remembered.
fn refresh_interval(live_settings: &LiveSettings) -> Duration {
    let retention = Duration::from_secs(live_settings.bounds.delete_retention);
    (retention / REFRESHES).max(live_settings.checkpoint_interval)
}

/// When a connection's time is over, if it has one.
fn end_of_life(now: Instant, live_settings: &LiveSettings) -> Option<Instant> {
    let lifetime = live_settings.pace.max_lifetime;
    (!lifetime.is_zero()).then(|| now + lifetime.mul_f64(rand::random_range(1.0 - LIFETIME_JITTER..=1.0)))
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stream.clients.fetch_sub(1, Ordering::Relaxed);
        if let Some(departure) = self.departure {
            self.stream.counters().count_closed(departure);
        }
        if let Some((filter, _)) = self.quiet.as_ref().and_then(|quiet| quiet.group.as_ref()) {
            self.stream.leave(filter);
        }
    }
}
