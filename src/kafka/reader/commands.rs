//! What the reading thread is told while it runs: to stop, or to go on over another connection.
//!
//! Orders are looked for between two polls and waited for in pauses; each is taken off the thread's
//! [`Pulse`] as soon as it is heard. What it asks for is done by the thread, once it has left its source.
//! Knows nothing of sources, topics or streams.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::kafka::client::Connect;
use crate::kafka::pulse::Pulse;

/// What the thread is told.
pub(super) enum Order {
    /// To end.
    Stop,
    /// To go on at its own offsets with clients from here.
    Connect(Box<dyn Connect>),
}

/// What the thread was told, and has not done yet.
pub(super) struct Orders {
    given: mpsc::Receiver<Order>,
    pulse: Arc<Pulse>,
    pub(super) is_stopped: bool,
    /// Clients from here are to be used instead of those of the source that is being read.
    pub(super) next: Option<Box<dyn Connect>>,
}

impl Orders {
    /// None yet.
    pub(super) const fn new(given: mpsc::Receiver<Order>, pulse: Arc<Pulse>) -> Self {
        Self {
            given,
            pulse,
            is_stopped: false,
            next: None,
        }
    }

    /// Takes all orders that have come: of several connections the last one counts.
    pub(super) fn heed(&mut self) {
        loop {
            match self.given.try_recv() {
                Ok(order) => self.take(order),
                // Whoever gives orders is gone only at the end.
                Err(mpsc::TryRecvError::Disconnected) => {
                    self.is_stopped = true;
                    return;
                }
                Err(mpsc::TryRecvError::Empty) => return,
            }
        }
    }

    /// Whether there is something else to do than to read on. It stays so until the source is left.
    pub(super) fn is_interrupted(&mut self) -> bool {
        self.heed();
        self.is_stopped || self.next.is_some()
    }

    /// Waits until the pause is over or there is something else to do.
    pub(super) fn wait(&mut self, pause: Duration) {
        if self.is_interrupted() {
            return;
        }
        self.pulse.beat(pause);
        match self.given.recv_timeout(pause) {
            Ok(order) => self.take(order),
            Err(mpsc::RecvTimeoutError::Disconnected) => self.is_stopped = true,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
    }

    fn take(&mut self, order: Order) {
        self.pulse.command_received();
        match order {
            Order::Stop => self.is_stopped = true,
            Order::Connect(connect) => self.next = Some(connect),
        }
    }
}
