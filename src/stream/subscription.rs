//! One reader of a stream: a cursor over its log and a few deadlines.
//!
//! No task, no queue, no socket. Whoever drives a subscription calls [`Subscription::step`] for the
//! next bytes; when there are none it gives the subscription a waker and comes back when woken or
//! at the deadline. See `http/events.rs` for the driver over hyper.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::frame;
use super::log::{Read, Sequence};
use super::position::{MAX_ID, Position};
use super::stream::{Stream, known};
use super::waiters::Ticket;
use crate::config::{Heartbeat, Start};

/// Reconnect times are spread by this part of them to either side.
const RETRY_JITTER: f64 = 0.25;

/// How a client wants to begin.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Where to begin, if the client says so.
    pub start: Option<Start>,
    /// The id of the last event it saw, if it comes back.
    pub last_event_id: Option<String>,
}

/// Why the server ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// The daemon ends.
    Shutdown,
    /// The client fell behind the records in memory.
    Slow,
    /// The stream is served no more.
    StreamRemoved,
}

impl Goodbye {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Slow => "slow",
            Self::StreamRemoved => "stream-removed",
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

/// A reader of a stream.
#[derive(Debug)]
pub struct Subscription {
    stream: Arc<Stream>,
    ticket: Ticket,
    start: Start,
    /// The id the client came with, fit to be sent back.
    came_with: Option<Bytes>,
    /// Whether to tell the client to forget what it holds, and why.
    reset: Option<&'static str>,
    /// `None` until the stream knows where it stands.
    cursor: Option<Sequence>,
    /// What `caught-up` waits for; `None` once it was sent.
    target: Option<Sequence>,
    stage: Stage,
    /// The stream's version when its state was last read.
    seen: u64,
    keepalive_at: Instant,
    heartbeat_at: Option<Instant>,
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
        let start = opening.start.unwrap_or(settings.start);
        let heartbeat_at = match settings.heartbeat {
            Heartbeat::Event => Some(now + settings.heartbeat_interval.0),
            Heartbeat::Comment => None,
        };
        let keepalive_at = now + stream.pace().keepalive;
        let reset = opening
            .last_event_id
            .as_deref()
            .map(|id| reason_for_reset(&stream, id));
        let came_with = opening
            .last_event_id
            .filter(|id| is_harmless(id))
            .map(Bytes::from);
        Self {
            stream,
            ticket,
            start,
            came_with,
            reset,
            cursor: None,
            target: Some(Sequence::MAX),
            stage: Stage::Opening,
            seen: 0,
            keepalive_at,
            heartbeat_at,
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
        let Some(cursor) = self.cursor else {
            return self.begin(now);
        };
        let read = self.stream.read().log.read(cursor);
        match read {
            Read::Frames(frames, next) => {
                self.cursor = Some(next);
                self.send(now, frames)
            }
            Read::Evicted => {
                self.stream.slow.fetch_add(1, Ordering::Relaxed);
                self.goodbye(Goodbye::Slow)
            }
            Read::AtHead => self.at_head(now, cursor),
        }
    }

    /// Wakes `waker` when the stream changes. Returns false if it has changed since the last step:
    /// then step again first.
    #[must_use]
    pub fn wait(&self, waker: &Waker) -> bool {
        self.ticket.wait(waker);
        self.stream.version() == self.seen
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

    /// Finds the cursor, once the stream knows where it stands.
    fn begin(&mut self, now: Instant) -> Step {
        let state = self.stream.read();
        // A topic that is still being loaded holds history, which `live` must not show.
        let is_ready = state.is_assigned && (self.start != Start::Live || state.loaded.is_some());
        if !is_ready {
            drop(state);
            return self.idle(now);
        }
        let cursor = match self.start {
            Start::Live => state.log.next(),
            Start::Earliest | Start::Snapshot => state.log.first(),
        };
        self.target = Some(state.log.next());
        let id = state.log.id_before(cursor);
        drop(state);
        self.cursor = Some(cursor);
        match self.reset.take() {
            Some(reason) => self.send_event(
                now,
                id.as_deref(),
                "reset",
                &format!("{{\"reason\":\"{reason}\"}}"),
            ),
            None => self.step(now),
        }
    }

    /// Everything was sent: say so once, then keep the connection alive.
    fn at_head(&mut self, now: Instant, cursor: Sequence) -> Step {
        if let Some(target) = self.target {
            let state = self.stream.read();
            let loaded = state.loaded.filter(|&loaded| cursor >= loaded.max(target));
            // The reader's own place: the head may have gone on since it was read.
            let id = state.log.id_before(cursor).and_then(known);
            drop(state);
            if loaded.is_some() {
                self.target = None;
                let reason = if self.start == Start::Live {
                    "live"
                } else {
                    "replay"
                };
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
        Step::Wait(
            self.heartbeat_at
                .map_or(self.keepalive_at, |due| due.min(self.keepalive_at)),
        )
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

    /// The id of what was sent last: the client's place. Before the stream knows where it stands,
    /// the id the client came with. `None` where that left the log: the client keeps what it has.
    fn id(&self) -> Option<Bytes> {
        match self.cursor {
            Some(cursor) => self.stream.read().log.id_before(cursor).and_then(known),
            None => self.came_with.clone(),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stream.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// This version cannot resume: it says whether the id was one of this stream at all.
fn reason_for_reset(stream: &Stream, id: &str) -> &'static str {
    let Ok(position) = Position::parse(id.as_bytes()) else {
        return "unknown-id";
    };
    let names = || {
        stream
            .settings()
            .topics
            .iter()
            .map(|name| super::position::fingerprint(name))
    };
    if position
        .topics
        .iter()
        .any(|topic| names().any(|name| name == topic.name))
    {
        "unknown-id"
    } else {
        "other-stream"
    }
}

/// Whether an id that came from outside may stand in a frame.
fn is_harmless(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX_ID
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
