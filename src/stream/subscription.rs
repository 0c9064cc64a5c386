//! One reader of a stream: a place in it and a few deadlines.
//!
//! No task, no queue, no socket. Whoever drives a subscription calls [`Subscription::step`] for the
//! next bytes; when there are none it gives the subscription a waker and comes back when woken or
//! at the deadline. See `http/events.rs` for the driver over hyper.
//!
//! ```text
//!            ┌──────────► Walking (table) ──rows done──┐
//! Waiting ───┼──────────► Catching (log, past its own position) ──shared position passes──► Reading (log)
//!            └─────────────────────────────────────────┴──────────────────────────────────────► ▲ │
//!                                 Walking ◄──────────── fell off the log (lag = "latest") ───────┘─┘
//! ```
//! [`opening`] decides where a reader begins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::frame;
use super::latest::Walk;
use super::log::{Read, Sequence};
use super::opening::{self, Beginning, Opening, begin, is_harmless};
use super::position::Position;
use super::replay::{Found, Gap, Reader};
use super::resume::Reset;
use super::stream::{Stream, known};
use super::waiters::Ticket;
use crate::config::{Heartbeat, Lag};

/// Reconnect times are spread by this part of them to either side.
const RETRY_JITTER: f64 = 0.25;

/// Lifetimes are shortened by up to this part of them, so that those who came together do not all
/// come back together.
const LIFETIME_JITTER: f64 = 0.1;

/// About how much of a table is copied out for a client at once (64 KiB): what a client that takes
/// its snapshot costs in memory, beside its socket's buffers.
const WALK_BYTES: usize = 64 * 1024;

/// Why the server ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// The daemon ends.
    Shutdown,
    /// The client fell behind the records in memory.
    Slow,
    /// The stream is served no more.
    StreamRemoved,
    /// The connection has lasted as long as connections may.
    Lifetime,
}

impl Goodbye {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Slow => "slow",
            Self::StreamRemoved => "stream-removed",
            Self::Lifetime => "lifetime",
        }
    }
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write these bytes, then step again.
    Send(Bytes),
    /// Nothing to write until the stream changes or this time comes.
    Wait(Instant),
    /// The stream is over; close it.
    End,
}

/// Where a reader is. The larger kinds are boxed: nearly all readers are [`Place::Reading`].
#[derive(Debug)]
pub(super) enum Place {
    /// The stream does not know yet where it stands.
    Waiting,
    /// On its way through the table.
    Walking(Box<Walk>),
    /// In the log, behind or beside its own position: what that has passed is skipped, and its ids
    /// never go back behind it.
    Catching(Sequence, Box<Position>),
    /// In a past that is read from Kafka.
    Replaying(Box<Reader>),
    /// In the log, at the position it shares with all.
    Reading(Sequence),
}

/// A reader of a stream.
#[derive(Debug)]
pub struct Subscription {
    stream: Arc<Stream>,
    ticket: Ticket,
    opening: Opening,
    place: Place,
    /// What is said before anything else: `reset` and `conflated`.
    announcements: Vec<u8>,
    /// The id of what was sent last, where the reader may have to go on from exactly there although
    /// that has left the log (`lag = "replay"`).
    last: Option<Bytes>,
    /// Whether the reader has had a place before.
    has_begun: bool,
    /// The record at which the reader has caught up, and what `caught-up` says; `None` once said.
    caught_up: Option<(Sequence, &'static str)>,
    stage: Stage,
    /// The stream's version when its state was last read.
    seen: u64,
    keepalive_at: Instant,
    heartbeat_at: Option<Instant>,
    ends_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    Over,
}

impl Subscription {
    pub(super) fn new(stream: Arc<Stream>, ticket: Ticket, opening: Opening) -> Self {
        stream.clients.fetch_add(1, Ordering::Relaxed);
        let settings = stream.settings();
        let now = Instant::now();
        let heartbeat_at = match settings.heartbeat {
            Heartbeat::Event => Some(now + settings.heartbeat_interval.0),
            Heartbeat::Comment => None,
        };
        let keepalive_at = now + stream.pace().keepalive;
        let lifetime = stream.pace().max_lifetime;
        let ends_at = (!lifetime.is_zero())
            .then(|| now + lifetime.mul_f64(rand::random_range(1.0 - LIFETIME_JITTER..=1.0)));
        let last = (settings.lag() == Lag::Replay).then(Bytes::new);
        Self {
            stream,
            ticket,
            opening,
            place: Place::Waiting,
            announcements: Vec::new(),
            last,
            has_begun: false,
            caught_up: None,
            stage: Stage::Opening,
            seen: 0,
            keepalive_at,
            heartbeat_at,
            ends_at,
        }
    }

    /// The next thing to do at `now`. Cheap when there is nothing: a shared lock and a comparison.
    pub fn step(&mut self, now: Instant) -> Step {
        match self.stage {
            Stage::Opening => {
                self.stage = Stage::Open;
                return self.send(now, self.prelude());
            }
            Stage::Over => return Step::End,
            Stage::Open => {}
        }
        self.seen = self.stream.version();
        if let Some(reason) = self.stream.closing() {
            return self.goodbye(reason);
        }
        if self.ends_at.is_some_and(|end| now >= end) {
            return self.goodbye(Goodbye::Lifetime);
        }
        loop {
            if !self.announcements.is_empty() {
                let bytes = std::mem::take(&mut self.announcements);
                return self.send(now, bytes);
            }
            let bytes = match &mut self.place {
                Place::Waiting => {
                    if !self.begin() {
                        return self.idle(now);
                    }
                    continue;
                }
                Place::Reading(cursor) => {
                    let state = self.stream.read();
                    let read = state.log.read(*cursor);
                    if let (Some(last), Read::Frames(_, next)) = (&mut self.last, &read) {
                        // The id of what is sent now: shared bytes, copied only in mid-block.
                        *last = state.log.id_before(*next).unwrap_or_default();
                    }
                    drop(state);
                    match read {
                        Read::Frames(frames, next) => {
                            *cursor = next;
                            frames
                        }
                        Read::AtHead => return self.at_head(now),
                        Read::Evicted => match self.fell_off() {
                            Some(goodbye) => return goodbye,
                            None => continue,
                        },
                    }
                }
                Place::Walking(_) => self.walk(),
                Place::Catching(..) => match self.catch_up() {
                    Some(Read::Frames(frames, _)) => frames,
                    Some(Read::AtHead) => return self.at_head(now),
                    Some(Read::Evicted) => {
                        self.go_on();
                        continue;
                    }
                    None => continue,
                },
                Place::Replaying(reader) => match reader.next(&mut Vec::new()) {
                    Found::Frames(frames) => frames,
                    Found::Nothing => return self.idle(now),
                    Found::Gap(gap) => {
                        self.announce_gap(&gap);
                        continue;
                    }
                    Found::End => {
                        self.go_on();
                        continue;
                    }
                    Found::Lost => {
                        let wanted = reader.position().clone();
                        self.go_on_from(&wanted);
                        continue;
                    }
                },
            };
            if !bytes.is_empty() {
                return self.send(now, bytes);
            }
        }
    }

    /// Wakes `waker` when the stream changes. Returns false if it has changed since the last step:
    /// then step again first.
    #[must_use]
    pub fn wait(&self, waker: &Waker) -> bool {
        self.ticket.wait(waker);
        let is_replay_quiet = match &self.place {
            Place::Replaying(reader) => reader.wait(waker),
            _ => true,
        };
        is_replay_quiet && self.stream.version() == self.seen
    }

    fn send(&mut self, now: Instant, bytes: impl Into<Bytes>) -> Step {
        self.keepalive_at = now + self.stream.pace().keepalive;
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
        frame::retry(self.stream.pace().retry.mul_f64(factor).as_millis())
    }

    /// Finds the reader's place, once the stream knows where it stands.
    fn begin(&mut self) -> bool {
        let Some(beginning) = begin(&self.stream, &self.opening) else {
            return false;
        };
        self.enter(beginning);
        true
    }

    /// Finds the next place of a reader that has read all its last place held, up to its own position.
    fn go_on(&mut self) {
        let wanted = match std::mem::replace(&mut self.place, Place::Waiting) {
            Place::Catching(_, wanted) => *wanted,
            Place::Replaying(reader) => reader.end(),
            // Told apart by the caller.
            other => {
                self.place = other;
                return;
            }
        };
        self.go_on_from(&wanted);
    }

    fn go_on_from(&mut self, wanted: &Position) {
        let state = self.stream.read();
        let here = Position::parse(state.log.head()).unwrap_or_default();
        let place = opening::go_on(&self.stream, &state, &here, wanted.clone(), None);
        if let (Some(last), Some(Place::Reading(cursor))) = (&mut self.last, &place) {
            *last = state.log.id_before(*cursor).unwrap_or_default();
        }
        drop(state);
        // Too many replays wait: ask again by the id, as the client itself would.
        self.place = place.unwrap_or_else(|| {
            self.opening.last_event_id = String::from_utf8(wanted.id()).ok();
            Place::Waiting
        });
    }

    fn announce_gap(&mut self, gap: &Gap) {
        let json = serde_json::json!({
            "topic": self.stream.settings().topics.get(gap.topic),
            "partition": gap.partition,
            "from": gap.from,
            "to": gap.to,
            "reason": "expired",
        });
        let id = self.id();
        self.announcements = frame::control(id.as_deref(), "gap", &json.to_string());
    }

    fn enter(&mut self, beginning: Beginning) {
        self.place = beginning.place;
        if let (Some(last), Some(id)) = (&mut self.last, beginning.id) {
            *last = id;
        }
        // A reader that had to wait for its next place keeps what it was told to catch up with.
        if !std::mem::replace(&mut self.has_begun, true) {
            self.caught_up = Some((beginning.target, beginning.reason));
        }
        // The last one alone has the new place's id: a client that misses one comes back for it.
        let last = beginning.resets.len().saturating_sub(1);
        for (index, (reason, topic)) in beginning.resets.into_iter().enumerate() {
            let id = if index == last { self.id() } else { None };
            self.announcements
                .extend(reset(id.as_deref(), reason, topic.as_deref()));
        }
    }

    /// The next piece of the table; empty when the walk is over.
    fn walk(&mut self) -> Bytes {
        let Place::Walking(walk) = &mut self.place else {
            return Bytes::new();
        };
        let mut out = Vec::with_capacity(WALK_BYTES);
        let may_have_more = match self.stream.read_table() {
            Some(table) => table.read(walk, WALK_BYTES, &mut Vec::new(), &mut out),
            None => false,
        };
        if !may_have_more {
            // A client that came from a replica further on than this one must not go back.
            let (until, position) = (walk.until, walk.position.clone());
            self.place = Place::Catching(until, Box::new(position));
        }
        out.into()
    }

    /// The next piece of the log that the reader's own position has not passed. `None` when it has
    /// reached the position all share.
    fn catch_up(&mut self) -> Option<Read> {
        let Place::Catching(cursor, wanted) = &mut self.place else {
            return None;
        };
        let state = self.stream.read();
        let read = state.log.read_wanted(*cursor, wanted, &mut Vec::new());
        if let Read::Frames(_, next) = read {
            *cursor = next;
        }
        let shared = state
            .log
            .id_before(*cursor)
            .and_then(|id| Position::parse(&id).ok());
        drop(state);
        if shared.is_some_and(|shared| shared.has_passed(wanted)) {
            if let Some(last) = &mut self.last {
                *last = wanted.id().into();
            }
            self.place = Place::Reading(*cursor);
            if read == Read::AtHead {
                return None;
            }
        }
        Some(read)
    }

    /// The reader was too slow: its next record has left the log.
    fn fell_off(&mut self) -> Option<Step> {
        let Place::Reading(cursor) = self.place else {
            return None;
        };
        match self.stream.settings().lag() {
            Lag::Latest => {}
            Lag::Disconnect => {
                self.stream.slow.fetch_add(1, Ordering::Relaxed);
                return Some(self.goodbye(Goodbye::Slow));
            }
            Lag::Replay => {
                self.stream.slow.fetch_add(1, Ordering::Relaxed);
                let position = self.last.as_ref().and_then(|id| Position::parse(id).ok());
                let Some(position) = position else {
                    return Some(self.goodbye(Goodbye::Slow));
                };
                self.go_on_from(&position);
                return None;
            }
        }
        self.stream.conflated.fetch_add(1, Ordering::Relaxed);
        let state = self.stream.read();
        let skipped = state.log.first().saturating_sub(cursor);
        // At least this far it had come; what it may have had beyond is shown again, as latest values.
        let position = state.log.reached_at(cursor).unwrap_or_default();
        let until = state.log.next();
        drop(state);
        let walk = Walk {
            cursor,
            until,
            wanted: Position::default(),
            deletes_from: 0,
            position,
            rows_to_id: 0,
        };
        self.place = Place::Walking(Box::new(walk));
        let id = self.id();
        self.announcements =
            frame::control(id.as_deref(), "conflated", &format!("{{\"skipped\":{skipped}}}"));
        None
    }

    /// Everything was sent: say so once, then keep the connection alive.
    fn at_head(&mut self, now: Instant) -> Step {
        if let Some((target, reason)) = self.caught_up {
            let cursor = match self.place {
                Place::Reading(cursor) | Place::Catching(cursor, _) => cursor,
                Place::Waiting | Place::Walking(_) | Place::Replaying(_) => 0,
            };
            let loaded = self
                .stream
                .read()
                .loaded
                .filter(|&loaded| cursor >= loaded.max(target));
            if loaded.is_some() {
                self.caught_up = None;
                let id = self.id();
                return self.send_event(
                    now,
                    id.as_deref(),
                    "caught-up",
                    &format!("{{\"reason\":\"{reason}\"}}"),
                );
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
            let interval = self.stream.settings().heartbeat_interval.0;
            let next = due + interval;
            self.heartbeat_at = Some(if next > now { next } else { now + interval });
            let time = humantime::format_rfc3339_millis(SystemTime::now());
            let id = self.id();
            return self.send_event(
                now,
                id.as_deref(),
                "heartbeat",
                &format!("{{\"time\":\"{time}\"}}"),
            );
        }
        if now >= self.keepalive_at {
            return self.send(now, Bytes::from_static(frame::KEEPALIVE));
        }
        let due = [Some(self.keepalive_at), self.heartbeat_at, self.ends_at];
        Step::Wait(due.into_iter().flatten().min().unwrap_or(self.keepalive_at))
    }

    fn goodbye(&mut self, reason: Goodbye) -> Step {
        self.stage = Stage::Over;
        let mut bytes = self.retry().into_bytes();
        let json = format!("{{\"reason\":\"{}\"}}", reason.as_str());
        bytes.extend(frame::control(self.id().as_deref(), "goodbye", &json));
        Step::Send(bytes.into())
    }

    fn send_event(&mut self, now: Instant, id: Option<&[u8]>, event: &str, json: &str) -> Step {
        let bytes = frame::control(id, event, json);
        self.send(now, bytes)
    }

    /// The reader's place, to come back to: the id of what was sent last. Before the stream knows
    /// where it stands, the id the client came with. `None` where that is forgotten: the client
    /// keeps what it has.
    fn id(&self) -> Option<Bytes> {
        match &self.place {
            Place::Waiting => self
                .opening
                .last_event_id
                .as_deref()
                .filter(|id| is_harmless(id))
                .map(|id| id.to_owned().into()),
            Place::Walking(walk) => Some(walk.position.id().into()),
            Place::Catching(_, wanted) => Some(wanted.id().into()),
            Place::Replaying(reader) => Some(reader.position().id().into()),
            Place::Reading(cursor) => self.stream.read().log.id_before(*cursor).and_then(known),
        }
    }
}

fn reset(id: Option<&[u8]>, reason: Reset, topic: Option<&str>) -> Vec<u8> {
    let mut json = serde_json::json!({ "reason": reason.as_str() });
    if let Some(topic) = topic {
        json["topic"] = topic.into();
    }
    frame::control(id, "reset", &json.to_string())
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stream.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
