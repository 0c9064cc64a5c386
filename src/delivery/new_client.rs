//! A client as it is handed over.

use std::fmt;
use std::time::{Duration, Instant};

use crate::stream::moment::Moment;
use crate::stream::subscription::Subscription;

/// What a connection holds beside its socket: its part of limits and figures. Dropped when the socket is closed.
pub trait Guard: fmt::Debug + Send {
    /// How long the socket may take no byte.
    fn write_timeout(&self) -> Duration;

    /// The socket has taken no byte for too long, and is closed.
    fn timed_out(&mut self);

    /// The stream has ended that began at `opened`, though not yet the connection.
    fn ended(&mut self, subscription: &Subscription, opened: Instant);
}

/// A client whose response has begun: the head is written, and nothing of the body.
#[derive(Debug)]
pub struct NewClient<S> {
    /// Its socket, which does not block.
    pub socket: S,
    /// What it is sent.
    pub subscription: Box<Subscription>,
    /// What it holds.
    pub guard: Box<dyn Guard>,
    /// When the stream began.
    pub opened: Moment,
}

impl<S> NewClient<S> {
    /// Closes a connection that nobody takes.
    pub(super) fn close(mut self) {
        self.guard.ended(&self.subscription, self.opened.into());
    }
}
