//! Which of the clients that are behind are served.
//!
//! A few at a time, each for some steps, and the others wait. With ten thousand of them served at once, the bytes on their
//! way fill no processor's cache, so that the kernel copies all of them to main memory and back: 0.34 s of processor time per
//! GB instead of 0.22. A client whose socket takes nothing for a moment makes way for the next one, so that not the networks of
//! a few clients determine what all get.

use std::time::{Duration, Instant};

use super::Worker;
use crate::delivery::client::{Service, State};
use crate::delivery::sockets::{Sockets, Token};

/// Clients that a worker serves at a time.
pub(super) const SERVED: usize = if cfg!(test) { 2 } else { 32 };

/// Steps of a client, each of up to [`WRITES`](super::WRITES) writes, until it makes way for those that wait.
pub(super) const STEPS: u8 = 3;

/// How long a client is served whose socket takes nothing: the clients served may take 1 GB/s at the least, however slow
/// they are.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);

impl<S: Sockets> Worker<S> {
    /// Has a client stepped that is behind, once it is served.
    pub(super) fn go_on(&mut self, token: Token) {
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        let State::Active(active) = &mut self.clients[slot].state else {
            return;
        };
        match active.service {
            Service::Waits => {}
            Service::Served { steps } if steps > 0 || self.waiting.is_empty() => {
                let steps = steps.saturating_sub(1);
                active.service = Service::Served { steps };
                self.make_ready(token);
            }
            Service::Served { .. } | Service::None => {
                if active.service != Service::None {
                    self.served.retain(|served| *served != token);
                }
                active.service = Service::Waits;
                self.waiting.push_back(token);
            }
        }
    }

    /// A client is no longer behind, or it ends.
    pub(super) fn end_service(&mut self, slot: usize) {
        let client = &mut self.clients[slot];
        if let State::Active(active) = &mut client.state
            && let Service::Served { .. } = std::mem::take(&mut active.service)
        {
            let served_slot = |served: &Token| served.slot as usize;
            self.served.retain(|served| served_slot(served) != slot);
        }
    }

    /// Serves those that wait, in place of those whose sockets take nothing. Returns when that may be next, if there is
    /// somebody left who waits.
    pub(super) fn serve(&mut self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut next: Option<Instant> = None;
        if self.served.len() == SERVED {
            let clients = &mut self.clients;
            self.served.retain(|token| {
                let client = clients.get_mut(token.slot as usize);
                let Some(State::Active(active)) = client.map(|client| &mut client.state) else {
                    return false;
                };
                // One that is ready has yet to be stepped: its socket may take more since.
                let Some(since) = active.stalled_since.filter(|_| !active.is_ready) else {
                    return true;
                };
                let until = since + PATIENCE;
                if now < until {
                    next = Some(next.map_or(until, |next| next.min(until)));
                    return true;
                }
                active.service = Service::None;
                false
            });
        }
        while self.served.len() < SERVED
            && let Some(token) = self.waiting.pop_front()
        {
            if let Some(slot) = self.slot_of(token)
                && let State::Active(active) = &mut self.clients[slot].state
                && active.service == Service::Waits
            {
                active.service = Service::Served { steps: STEPS - 1 };
                self.served.push(token);
                self.make_ready(token);
            }
        }
        next.filter(|_| !self.waiting.is_empty())
    }
}
