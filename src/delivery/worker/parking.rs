//! Clients that are parked, and the sweeps that write to them.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;

use super::{SLICE, Worker, active};
use crate::delivery::chunk;
use crate::delivery::client::State;
use crate::delivery::group::{Group, GroupStep};
use crate::delivery::intake::{Alarm, Woken};
use crate::delivery::sockets::{Sockets, Token, number};
use crate::sse::write;
use crate::stream::subscription::Subscription;
use crate::stream::subscription::parked::{Batch, Head, Parked, ParkedDue};

/// The comment as a chunk.
static KEEPALIVE: LazyLock<Bytes> = LazyLock::new(|| chunk::framed(write::KEEPALIVE));

impl<S: Sockets> Worker<S> {
    /// Parks a client that waits, if nothing of its own is in the way. Returns whether it is parked.
    pub(super) fn park(&mut self, slot: usize, now: Instant) -> bool {
        let client = &mut self.clients[slot];
        let placeholder = State::Ended { until: now };
        let State::Active(mut active) = std::mem::replace(&mut client.state, placeholder) else {
            return false;
        };
        let stream = Arc::as_ptr(active.subscription.stream_of()) as usize;
        let known = self.by_stream.get(&stream).copied();
        // As the reader knows the stream: what has come since is yet to be sent to it.
        let head = if known.is_none() {
            active.subscription.head()
        } else {
            None
        };
        let parked = match active.subscription.park() {
            Ok(parked) => parked,
            Err(subscription) => {
                active.subscription = subscription;
                client.state = State::Active(active);
                return false;
            }
        };
        let group = match (known, head) {
            (Some(group), _) => group,
            (None, Some(head)) => self.add_group(head),
            (None, None) => unreachable!("a reader that can be parked has a head"),
        };
        let place = self.groups[group as usize].add(number(slot));
        self.clients[slot].state = State::Parked { group, place, parked };
        self.schedule(slot, now);
        true
    }

    fn add_group(&mut self, head: Head) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let address = Arc::as_ptr(head.stream()) as usize;
        let entry = self.groups.vacant_entry();
        let token = Token {
            slot: number(entry.key()),
            generation: self.generation,
        };
        let alarm = Alarm::new(&self.intake, Woken::Group(token));
        entry.insert(Group::new(head, self.generation, alarm));
        self.by_stream.insert(address, token.slot);
        self.queue_group(token);
        token.slot
    }

    pub(super) fn queue_group(&mut self, token: Token) {
        let group = self.groups.get_mut(token.slot as usize);
        let known = group.filter(|group| group.generation == token.generation);
        if let Some(group) = known
            && !std::mem::replace(&mut group.is_queued, true)
        {
            self.sweeping.push_back(token.slot);
        }
    }

    /// Makes a parked client an active one.
    pub(super) fn unpark(&mut self, slot: usize, now: Instant) {
        let client = &mut self.clients[slot];
        let token = client.token(number(slot));
        let placeholder = State::Ended { until: now };
        match std::mem::replace(&mut client.state, placeholder) {
            State::Parked { group, place, parked } => {
                let subscription = self.leave_group(group, place, parked);
                let active = active(&self.intake, token, subscription);
                self.clients[slot].state = State::Active(Box::new(active));
            }
            other => client.state = other,
        }
    }

    fn leave_group(&mut self, number: u32, place: u32, parked: Parked) -> Box<Subscription> {
        let group = &mut self.groups[number as usize];
        let clients = &mut self.clients;
        group.remove(place, |slot, now_at| {
            if let State::Parked { place, .. } = &mut clients[slot as usize].state {
                *place = now_at;
            }
        });
        let subscription = group.head.unpark(parked, group.batch().map(|batch| &**batch));
        if group.is_empty() {
            // It is removed, unless somebody comes before: it keeps its stream.
            let token = Token {
                slot: number,
                generation: group.generation,
            };
            self.queue_group(token);
        }
        subscription
    }

    /// Sets the timer of a parked client.
    pub(super) fn schedule(&mut self, slot: usize, now: Instant) {
        let client = &mut self.clients[slot];
        let token = client.token(number(slot));
        let State::Parked { group, parked, .. } = &mut client.state else {
            return;
        };
        let head = &self.groups[*group as usize].head;
        match parked.due(now, head) {
            ParkedDue::Nothing(until) => self.call_at(slot, until),
            ParkedDue::Keepalive => {
                head.count_keepalive();
                self.keepalives.push(token);
            }
            ParkedDue::Step => {
                self.unpark(slot, now);
                self.make_ready(token);
            }
        }
    }

    /// Writes the keepalives that have become due in this turn, to clients of any group. None of these was unparked or
    /// closed since.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        if self.keepalives.is_empty() {
            return;
        }
        let mut due = std::mem::take(&mut self.keepalives);
        let slots: Vec<u32> = due.iter().map(|token| token.slot).collect();
        self.send_to_all(&slots, &KEEPALIVE);
        self.keep_rests(&slots, &KEEPALIVE, now);
        for token in due.drain(..) {
            if let Some(slot) = self.slot_of(token) {
                self.schedule(slot, now);
            }
        }
        self.keepalives = due;
    }

    /// Writes the same to parked clients. What their sockets have not taken is for [`keep_rests`](Self::keep_rests).
    fn send_to_all(&mut self, slots: &[u32], bytes: &[u8]) {
        let sockets: Vec<(u32, &S::Socket)> = slots
            .iter()
            .map(|slot| (*slot, &self.clients[*slot as usize].socket))
            .collect();
        self.sockets.send_to_all(&sockets, bytes, &mut self.failed);
    }

    fn keep_rests(&mut self, slots: &[u32], bytes: &Bytes, now: Instant) {
        let mut failed = std::mem::take(&mut self.failed);
        for (place, result) in failed.drain(..) {
            self.keep_rest(slots[place] as usize, bytes.clone(), result, now);
        }
        self.failed = failed;
    }

    /// Writes a group's batch to some of its members; returns to how many.
    pub(super) fn sweep(&mut self, number: u32, most: usize) -> usize {
        let Some(group) = self.groups.get_mut(number as usize) else {
            return 0;
        };
        group.is_queued = false;
        group.alarm.reset();
        if group.is_empty() {
            self.forget(number);
            self.groups.remove(number as usize);
            return 0;
        }
        let token = Token {
            slot: number,
            generation: group.generation,
        };
        let written = match group.step(most) {
            GroupStep::Wait => return 0,
            GroupStep::Again => 0,
            GroupStep::Changed => {
                // Whoever has followed the change joins another group.
                self.forget(number);
                self.scatter(number)
            }
            GroupStep::Write {
                batch,
                chunk,
                members,
            } => {
                self.write(number, &batch, &chunk, &members);
                members.len()
            }
        };
        self.queue_group(token);
        written
    }

    /// Has nobody join a group any more.
    fn forget(&mut self, number: u32) {
        let stream = self.groups[number as usize].head.stream();
        let address = Arc::as_ptr(stream) as usize;
        if self.by_stream.get(&address) == Some(&number) {
            self.by_stream.remove(&address);
        }
    }

    /// Has members of a group step for themselves; returns how many.
    fn scatter(&mut self, number: u32) -> usize {
        let now = self.sockets.now();
        for count in 0..SLICE {
            let Some(slot) = self.groups[number as usize].last() else {
                return count;
            };
            self.unpark(slot as usize, now);
            let token = self.clients[slot as usize].token(slot);
            self.make_ready(token);
        }
        SLICE
    }

    fn write(&mut self, number: u32, batch: &Arc<Batch>, chunk: &Bytes, members: &[u32]) {
        let stands = |slot: &&u32| {
            let client = &self.clients[**slot as usize];
            matches!(&client.state, State::Parked { parked, .. } if parked.next() == batch.from)
        };
        let (standing, others): (Vec<u32>, Vec<u32>) = members.iter().partition(stands);
        self.send_to_all(&standing, chunk);
        let now = self.sockets.now();
        let head = &self.groups[number as usize].head;
        head.count(batch, standing.len() as u64, batch.frames.len(), now);
        for slot in &standing {
            if let State::Parked { parked, .. } = &mut self.clients[*slot as usize].state {
                // By parts of the interval, so that the keepalives of a group are not due all at once.
                let spread = head.keepalive() / 256 * (slot % 32);
                parked.sent(batch, now.checked_sub(spread).unwrap_or(now), head);
            }
        }
        self.keep_rests(&standing, chunk, now);
        // One that came from elsewhere in the log, and has a part of the batch.
        for slot in others {
            let client = &self.clients[slot as usize];
            let token = client.token(slot);
            if matches!(&client.state, State::Parked { parked, .. } if parked.next() < batch.next) {
                self.unpark(slot as usize, now);
                self.make_ready(token);
            }
        }
    }
}
