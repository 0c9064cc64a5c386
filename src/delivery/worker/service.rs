//! Which of the clients that are behind are served.
//!
//! As many as take some MiB, each of them up to [`SHARE`], and the others wait. With ten thousand served at once, the bytes
//! on their way fill no processor's cache, so that the kernel copies all of them to main memory and back: 0.34 s of
//! processor time per GB instead of 0.22. A client whose socket takes nothing for a moment makes way for the next one, so that
//! not the networks of a few clients determine what all get.

use std::time::{Duration, Instant};

use super::{Turn, Worker};
use crate::delivery::client::{Active, Service, State};
use crate::delivery::sockets::{Sockets, Token, number};

/// A client is behind once it was sent so many bytes without waiting for records.
const BEHIND: u32 = if cfg!(test) { 2_000 } else { 64 * 1024 };

/// Bytes that those served have taken, from which on no others are served.
pub(super) const MOST_SERVED: usize = if cfg!(test) { 1 } else { 4 * 1024 * 1024 };

/// Bytes from which on a client makes way for those that wait.
pub(super) const SHARE: usize = if cfg!(test) { 10_000 } else { 128 * 1024 };

/// How long a client is served whose socket cannot take its share. With [`MOST_SERVED`] that makes 0.8 GB/s at the least, however
/// slow each of them is.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);

impl<S> Active<S> {
    /// Whether it is behind, and is to be served before it is sent more.
    pub(super) fn is_to_wait(&self) -> bool {
        self.sent > BEHIND && !matches!(self.service, Service::Served { .. })
    }

    /// The socket has taken bytes. `served` is what all those have taken that are served.
    pub(super) fn count(&mut self, bytes: usize, served: &mut usize) {
        self.sent = self.sent.saturating_add(number(bytes));
        if let Service::Served { taken, .. } = &mut self.service {
            *taken += bytes;
            *served += bytes;
        }
    }

    pub(super) fn set_service(&mut self, service: Service, served: &mut usize) {
        if let Service::Served { taken, .. } = std::mem::replace(&mut self.service, service) {
            *served -= taken;
        }
    }
}

impl<S: Sockets> Worker<S> {
    /// Has a client stepped again that has more to send or to look at; once it is served, if it is behind.
    pub(super) fn go_on(&mut self, token: Token) {
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        let State::Active(active) = &mut self.clients[slot].state else {
            return;
        };
        let is_stepped = match active.service {
            Service::Waits => return,
            Service::Served { taken, .. } => taken < SHARE || self.waiting.is_empty(),
            Service::None => !active.is_to_wait(),
        };
        if is_stepped {
            self.make_ready(token);
        } else {
            active.set_service(Service::Waits, &mut self.served);
            self.waiting.push_back(token);
        }
    }

    /// A client is no longer behind, or makes way.
    pub(super) fn end_service(&mut self, slot: usize) {
        if let State::Active(active) = &mut self.clients[slot].state {
            active.set_service(Service::None, &mut self.served);
        }
    }

    /// Serves those that wait, as far as others make way, and the turn allows it. Returns when there may be more to do, if
    /// there is anybody left who waits.
    pub(super) fn serve(&mut self, now: Instant, turn: &Turn) -> Option<Instant> {
        while let Some(&(began, token)) = self.services.front()
            && began + PATIENCE <= now
        {
            self.services.pop_front();
            if let Some(slot) = self.slot_of(token)
                && let State::Active(active) = &mut self.clients[slot].state
                && let Service::Served { since, .. } = &mut active.service
                && *since == began
            {
                if active.is_ready {
                    // Its socket takes more.
                    *since = now;
                    self.services.push_back((now, token));
                } else {
                    self.end_service(slot);
                }
            }
        }
        while self.served < MOST_SERVED
            && let Some(token) = self.waiting.pop_front()
        {
            if let Some(slot) = self.slot_of(token)
                && let State::Active(active) = &mut self.clients[slot].state
                && active.service == Service::Waits
            {
                let served = Service::Served { taken: 0, since: now };
                active.set_service(served, &mut self.served);
                self.services.push_back((now, token));
                self.drive(token, now);
            }
            if turn.is_over() {
                break;
            }
        }
        if self.waiting.is_empty() {
            return None;
        }
        if self.served < MOST_SERVED {
            return Some(now);
        }
        self.services.front().map(|(since, _)| *since + PATIENCE)
    }
}
