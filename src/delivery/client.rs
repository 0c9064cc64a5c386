//! One client of a worker.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::chunk::Unwritten;
use super::intake::Alarm;
use super::new_client::Guard;
use super::sockets::Token;
use super::wheel::Ticks;
use crate::stream::moment::Moment;
use crate::stream::subscription::Subscription;
use crate::stream::subscription::parked::Parked;

/// A client.
pub(super) struct Client<S> {
    pub(super) socket: S,
    pub(super) guard: Box<dyn Guard>,
    pub(super) state: State<S>,
    pub(super) opened: Moment,
    pub(super) generation: u32,
    /// The tick of the wheel at which it is called; [`NEVER`](super::wheel::NEVER) if none.
    pub(super) timer: Ticks,
    /// Bytes that were read and dropped.
    pub(super) dropped: u16,
    pub(super) is_half_closed: bool,
}

/// What a client waits for.
pub(super) enum State<S> {
    /// New records, with all others of its group.
    Parked { group: u32, place: u32, parked: Parked },
    /// Its own next step.
    Active(Box<Active<S>>),
    /// Its peer, which is to close the connection.
    Ended { until: Instant },
}

/// A client that is not at the head, or has something of its own.
pub(super) struct Active<S> {
    pub(super) subscription: Box<Subscription>,
    pub(super) unwritten: Option<Unwritten>,
    /// Since when the socket takes no byte.
    pub(super) stalled_since: Option<Instant>,
    /// Whether nothing comes after what is unwritten.
    pub(super) is_ending: bool,
    /// Whether it is in the worker's queue.
    pub(super) is_ready: bool,
    /// Bytes that it was sent since it last waited for records.
    pub(super) sent: u32,
    pub(super) service: Service,
    pub(super) alarm: Arc<Alarm<S>>,
    pub(super) waker: Waker,
}

/// Whether a client that is behind is served ([`worker`](super::worker)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// It is not behind, or has made way because its socket took too little.
    None,
    /// It is to be, after others.
    Waits,
    /// It is, and has taken so many bytes.
    Served { taken: usize, since: Instant },
}

impl<S> Client<S> {
    pub(super) fn token(&self, slot: u32) -> Token {
        Token {
            slot,
            generation: self.generation,
        }
    }
}
