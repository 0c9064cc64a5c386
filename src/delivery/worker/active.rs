//! Clients that are not parked: each is stepped by itself.

use std::io;
use std::time::Instant;

use bytes::Bytes;

use super::{LINGER, SETTLED, STEPS, Turn, Worker};
use crate::delivery::chunk::{self, Unwritten};
use crate::delivery::client::{Service, State};
use crate::delivery::sockets::{Sockets, Token, number};
use crate::stream::subscription::{Step, Subscription};

impl<S: Sockets> Worker<S> {
    /// Steps a client that is not parked, as far as its socket takes bytes.
    pub(super) fn drive(&mut self, token: Token, now: Instant) {
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        // What came behind the chunk that is written.
        let mut next = None;
        for _ in 0..STEPS {
            let client = &mut self.clients[slot];
            let State::Active(active) = &mut client.state else {
                return;
            };
            active.is_ready = false;
            active.alarm.reset();
            if let Some(unwritten) = &mut active.unwritten {
                match self.sockets.send(&client.socket, &unwritten.parts()) {
                    Ok(count) => {
                        active.stalled_since = None;
                        let is_whole = unwritten.advance(count);
                        active.count(count, &mut self.served);
                        if is_whole {
                            active.unwritten = None;
                            continue;
                        }
                        // It is full: it would refuse the rest.
                    }
                    // Nothing tells when it can be repeated, so it is now.
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return self.fail(token.slot, &error),
                }
                active.stalled_since.get_or_insert(now);
                if let Service::Served { taken: 0, .. } = active.service {
                    // For nothing: it makes way at once.
                    active.set_service(Service::None, &mut self.served);
                }
                return self.watch_stall(slot, now);
            }
            if active.is_ending {
                return self.end(slot, now);
            }
            let step = next.take();
            match step.unwrap_or_else(|| active.subscription.step(now)) {
                Step::Send(bytes) => {
                    let (chunk, step) = gather(bytes, &mut active.subscription, now);
                    active.unwritten = Some(chunk);
                    if active.is_to_wait() {
                        break;
                    }
                    next = step;
                }
                Step::Yield => break,
                Step::End => {
                    let last = Bytes::from_static(chunk::LAST);
                    active.unwritten = Some(Unwritten::raw(last, 0));
                    active.is_ending = true;
                }
                Step::Wait(until) => {
                    active.sent = 0;
                    self.end_service(slot);
                    if until > now && self.park(slot, now) {
                        return;
                    }
                    let State::Active(active) = &mut self.clients[slot].state else {
                        return;
                    };
                    if until > now && active.subscription.wait(&active.waker) {
                        self.call_at(slot, until);
                        return;
                    }
                }
            }
        }
        self.go_on(token);
    }

    /// Has a parked client write the rest of these bytes when its socket takes more, unless the connection has failed.
    pub(super) fn keep_rest(&mut self, slot: usize, bytes: Bytes, sent: io::Result<usize>, now: Instant) {
        let is_interrupted = matches!(&sent, Err(error) if error.kind() == io::ErrorKind::Interrupted);
        let written = match sent {
            Ok(written) => written,
            Err(error) if is_to_be_repeated(&error) => 0,
            Err(error) => return self.fail(number(slot), &error),
        };
        self.unpark(slot, now);
        let client = &mut self.clients[slot];
        let token = client.token(number(slot));
        let State::Active(active) = &mut client.state else {
            return;
        };
        active.unwritten = Some(Unwritten::raw(bytes, written));
        if is_interrupted {
            return self.make_ready(token);
        }
        active.stalled_since = Some(now);
        self.watch_stall(slot, now);
    }

    /// Has a client that takes nothing called when that has lasted too long, and before, after a second and whenever
    /// the time has doubled, to let go of what it shares.
    pub(super) fn watch_stall(&mut self, slot: usize, now: Instant) {
        let client = &mut self.clients[slot];
        let State::Active(active) = &mut client.state else {
            return;
        };
        let (Some(since), Some(unwritten)) = (active.stalled_since, &mut active.unwritten) else {
            return;
        };
        let lasts = now.saturating_duration_since(since);
        let mut until = since + client.guard.write_timeout();
        if lasts < SETTLED {
            until = until.min(since + SETTLED);
        } else {
            unwritten.detach();
            // Never much further off than the stall is long: one that ends leaves its entry in the wheel.
            until = until.min(now + lasts);
        }
        self.call_at(slot, until);
    }

    /// A socket has taken nothing for as long as it may. After a stall the operating system reports it as writable only
    /// when much of its buffer is free, so the bytes are offered once more, and only a refusal counts.
    pub(super) fn try_again(&mut self, token: Token, now: Instant) {
        let slot = token.slot as usize;
        self.drive(token, now);
        let Some(slot) = self.slot_of(token).filter(|found| *found == slot) else {
            return;
        };
        let client = &mut self.clients[slot];
        let timeout = client.guard.write_timeout();
        if let State::Active(active) = &mut client.state
            && active.stalled_since.is_some_and(|since| now >= since + timeout)
        {
            self.sockets.abort(&client.socket);
            client.guard.timed_out();
            active.subscription.timed_out();
            self.close(token.slot);
        }
    }

    /// A stream has ended and everything is written: the connection waits for the client.
    fn end(&mut self, slot: usize, now: Instant) {
        self.end_service(slot);
        let client = &mut self.clients[slot];
        let until = now + LINGER;
        if let State::Active(active) = std::mem::replace(&mut client.state, State::Ended { until }) {
            client.guard.ended(&active.subscription, client.opened.into());
        }
        self.sockets.shut_down(&client.socket);
        let is_half_closed = client.is_half_closed;
        // What is unread when a socket is closed takes the end away from the client.
        if self.read(slot) || is_half_closed {
            return self.close(number(slot));
        }
        self.call_at(slot, until);
    }
}

/// A chunk of these bytes, and of what follows where they are few: a write costs as much as copying some KiB. With the step
/// behind that; stepped again instead, the subscription says the same or goes on.
fn gather(bytes: Bytes, subscription: &mut Subscription, now: Instant) -> (Unwritten, Option<Step>) {
    let mut chunk = Unwritten::chunk(bytes);
    let turn = Turn::begin();
    // A step may have looked through many rows for a few.
    while chunk.takes_more() && !turn.is_over() {
        match subscription.step(now) {
            Step::Send(bytes) => chunk.add(bytes),
            step => return (chunk, Some(step)),
        }
    }
    (chunk, None)
}

fn is_to_be_repeated(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
