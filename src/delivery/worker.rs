//! What one thread does: it steps its clients, sweeps its groups, and heeds sockets and timers, each in turns that are
//! short enough for the others not to wait a millisecond.

mod active;
mod parking;
mod service;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use slab::Slab;

use super::client::{Active, Client, Service, State};
use super::group::Group;
use super::intake::{Alarm, Intake, Woken};
use super::new_client::NewClient;
use super::sockets::{Event, INTAKE, Sockets, Token, number};
use super::wheel::{NEVER, Wheel};
use crate::stream::subscription::Subscription;

/// Writes in one slice of a sweep: half a millisecond of them. Few in tests, so that there are several slices.
const SLICE: usize = if cfg!(test) { 3 } else { 64 };

/// Clients that are added, stepped or called by their timers in one turn.
const TURN: usize = if cfg!(test) { 4 } else { 64 };

/// How long active clients are stepped in one turn.
const LONGEST: Duration = Duration::from_micros(500);

/// Groups that are swept in one turn, with [`SLICE`] writes together.
const GROUPS: usize = 64;

/// Steps of one client in one turn, each of which finds something to write or writes it.
const STEPS: usize = 4;

/// How long a stream lasts at least whose client has closed its side: it may have sent all that it had to.
const GRACE: Duration = Duration::from_secs(1);

/// How long a connection is kept whose stream has ended, for the client to read the end: closing it with bytes unread
/// would take that away.
const LINGER: Duration = Duration::from_secs(1);

/// How long a client takes nothing before it gets a copy of what is left: one that reads takes more soon.
const SETTLED: Duration = Duration::from_secs(1);

/// Most bytes that are read of a client whose stream goes on. Behind more of them the socket is left alone.
const MOST_READ: u16 = u16::MAX;

pub(super) struct Worker<S: Sockets> {
    pub(super) sockets: S,
    intake: Arc<Intake<S::Socket>>,
    clients: Slab<Client<S::Socket>>,
    groups: Slab<Group<S::Socket>>,
    /// The groups by the addresses of their streams, which they keep alive.
    by_stream: HashMap<usize, u32>,
    generation: u32,
    arrived: VecDeque<NewClient<S::Socket>>,
    ready: VecDeque<Token>,
    /// Clients that are behind, and wait to be served.
    waiting: VecDeque<Token>,
    /// Bytes that those have taken that are served.
    served: usize,
    /// Those, and since when; and some that are no longer served.
    services: VecDeque<(Instant, Token)>,
    sweeping: VecDeque<u32>,
    wheel: Wheel<Token>,
    called: VecDeque<Token>,
    /// Parked clients whose keepalive is due.
    keepalives: Vec<Token>,
    events: Vec<Event>,
    /// Kept for their memory.
    woken: Vec<Woken>,
    newly: Vec<NewClient<S::Socket>>,
    due: Vec<Token>,
    failed: Vec<(usize, io::Result<usize>)>,
}

impl<S: Sockets> Worker<S> {
    pub(super) fn new(sockets: S, intake: Arc<Intake<S::Socket>>, now: Instant) -> Self {
        Self {
            sockets,
            intake,
            clients: Slab::new(),
            groups: Slab::new(),
            by_stream: HashMap::new(),
            generation: 0,
            arrived: VecDeque::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            served: 0,
            services: VecDeque::new(),
            sweeping: VecDeque::new(),
            wheel: Wheel::new(now),
            called: VecDeque::new(),
            keepalives: Vec::new(),
            events: Vec::new(),
            woken: Vec::new(),
            newly: Vec::new(),
            due: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// One turn. Returns for how long the worker may wait for events then (`None`: until there is one), or
    /// [`Stopped`] when it is to end.
    pub(super) fn turn(&mut self, now: Instant) -> Result<Option<Duration>, Stopped> {
        if self.intake.take(&mut self.newly, &mut self.woken) {
            return Err(Stopped);
        }
        self.arrived.extend(self.newly.drain(..));
        let mut woken = std::mem::take(&mut self.woken);
        for woken in woken.drain(..) {
            match woken {
                Woken::Client(token) => self.make_ready(token),
                Woken::Group(token) => self.queue_group(token),
            }
        }
        self.woken = woken;
        let turn = Turn::begin();
        for _ in 0..TURN.min(self.arrived.len()) {
            if let Some(client) = self.arrived.pop_front() {
                self.add(client, now);
            }
            if turn.is_over() {
                break;
            }
        }
        self.wheel.advance(now, &mut self.due);
        self.called.extend(self.due.drain(..));
        for _ in 0..TURN.min(self.called.len()) {
            if let Some(token) = self.called.pop_front() {
                self.call(token, now);
            }
        }
        for _ in 0..TURN.min(self.ready.len()) {
            if let Some(token) = self.ready.pop_front() {
                self.drive(token, now);
            }
            // A client that is far behind is written 64 KiB and more at once.
            if turn.is_over() {
                break;
            }
        }
        // Before the sweeps, which may make active clients of those that are parked.
        self.keep_alive(now);
        let mut writes = 0;
        for _ in 0..GROUPS.min(self.sweeping.len()) {
            if writes >= SLICE {
                break;
            }
            if let Some(group) = self.sweeping.pop_front() {
                writes += self.sweep(group, SLICE - writes);
            }
        }
        let next_served = self.serve(now, &turn);
        let is_busy = !(self.arrived.is_empty()
            && self.called.is_empty()
            && self.ready.is_empty()
            && self.sweeping.is_empty());
        if is_busy {
            return Ok(Some(Duration::ZERO));
        }
        let next = self.wheel.next().into_iter().chain(next_served).min();
        Ok(next.map(|next| next.saturating_duration_since(self.sockets.now())))
    }

    /// Waits for events, and handles them.
    ///
    /// # Errors
    /// When the operating system cannot wait.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        self.sockets.wait(timeout, &mut events)?;
        if !events.is_empty() {
            let now = self.sockets.now();
            for event in &events {
                // The intake is looked at in every turn.
                if event.token != INTAKE {
                    self.heed(*event, now);
                }
            }
        }
        self.events = events;
        Ok(())
    }

    /// Closes all connections, and those that come.
    pub(super) fn close_all(&mut self) {
        self.intake.stop();
        let slots: Vec<u32> = self.clients.iter().map(|(slot, _)| number(slot)).collect();
        for slot in slots {
            self.close(slot);
        }
        self.intake.take(&mut self.newly, &mut self.woken);
        for client in self.arrived.drain(..).chain(self.newly.drain(..)) {
            self.intake.client_left();
            client.close();
        }
    }

    fn slot_of(&self, token: Token) -> Option<usize> {
        let slot = token.slot as usize;
        let client = self.clients.get(slot)?;
        (client.generation == token.generation).then_some(slot)
    }

    fn add(&mut self, new: NewClient<S::Socket>, now: Instant) {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.clients.vacant_entry();
        let token = Token {
            slot: number(entry.key()),
            generation: self.generation,
        };
        let state = State::Active(Box::new(active(&self.intake, token, new.subscription)));
        entry.insert(Client {
            socket: new.socket,
            guard: new.guard,
            state,
            timer: NEVER,
            opened: new.opened,
            generation: self.generation,
            dropped: 0,
            is_half_closed: false,
        });
        if let Err(error) = self
            .sockets
            .register(&self.clients[token.slot as usize].socket, token)
        {
            debug!("a socket cannot be waited for: {error}");
            self.close(token.slot);
            return;
        }
        self.drive(token, now);
    }

    /// Queues a client that is not parked for its next step.
    fn make_ready(&mut self, token: Token) {
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        if let State::Active(active) = &mut self.clients[slot].state
            && !std::mem::replace(&mut active.is_ready, true)
        {
            self.ready.push_back(token);
        }
    }

    /// Has a client called at that time, unless it is called before.
    fn call_at(&mut self, slot: usize, at: Instant) {
        let client = &mut self.clients[slot];
        let tick = self.wheel.tick_of(at);
        if tick < client.timer {
            client.timer = tick;
            self.wheel.enter(tick, client.token(number(slot)));
        }
    }

    /// A client's timer: something of it may be due.
    fn call(&mut self, token: Token, now: Instant) {
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        let client = &mut self.clients[slot];
        if self.wheel.is_to_come(client.timer) {
            // Another entry of the same client.
            return;
        }
        client.timer = NEVER;
        if client.is_half_closed {
            let until = Instant::from(client.opened) + GRACE;
            if now >= until {
                return self.close(token.slot);
            }
            self.call_at(slot, until);
        }
        let client = &mut self.clients[slot];
        match &mut client.state {
            State::Parked { .. } => self.schedule(slot, now),
            State::Ended { until } if now >= *until => self.close(token.slot),
            State::Ended { until } => {
                let until = *until;
                self.call_at(slot, until);
            }
            State::Active(active) => {
                let timeout = client.guard.write_timeout();
                match active.stalled_since {
                    Some(since) if now >= since + timeout => self.try_again(token, now),
                    // An event tells when its socket takes more.
                    Some(_) => self.watch_stall(slot, now),
                    None => self.make_ready(token),
                }
            }
        }
    }

    /// Heeds what has become possible at a socket.
    fn heed(&mut self, event: Event, now: Instant) {
        let token = event.token;
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        if event.is_closed {
            let error = self.sockets.error_of(&self.clients[slot].socket);
            return self.fail(
                token.slot,
                &error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
            );
        }
        if event.is_readable && self.read(slot) || event.is_half_closed {
            let client = &mut self.clients[slot];
            let until = Instant::from(client.opened) + GRACE;
            if matches!(client.state, State::Ended { .. }) || now >= until {
                return self.close(token.slot);
            }
            client.is_half_closed = true;
            self.call_at(slot, until);
        }
        if event.is_writable
            && let State::Active(active) = &self.clients[slot].state
            && active.stalled_since.is_some()
        {
            self.go_on(token);
        }
    }

    /// Reads and drops what a client sends. Returns whether that has ended.
    fn read(&mut self, slot: usize) -> bool {
        let client = &mut self.clients[slot];
        let mut buffer = [0; 4096];
        if let State::Ended { .. } = client.state {
            // It may send on until it has read the end, but not for as long as it likes at once.
            client.dropped = 0;
        }
        while client.dropped < MOST_READ {
            match self.sockets.receive(&client.socket, &mut buffer) {
                Ok(0) => return true,
                Ok(count) => {
                    let count = u16::try_from(count).unwrap_or(MOST_READ);
                    client.dropped = client.dropped.saturating_add(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // If the connection is gone, that is an event of its own.
                Err(_) => return false,
            }
        }
        false
    }

    /// Closes a connection that has failed.
    fn fail(&mut self, slot: u32, error: &io::Error) {
        let now = self.sockets.now();
        self.unpark(slot as usize, now);
        let client = &mut self.clients[slot as usize];
        // The peer has acknowledged nothing for the write timeout (RFC 5482).
        if error.kind() == io::ErrorKind::TimedOut
            && let State::Active(active) = &mut client.state
        {
            client.guard.timed_out();
            active.subscription.timed_out();
        }
        self.close(slot);
    }

    fn close(&mut self, slot: u32) {
        let now = self.sockets.now();
        self.unpark(slot as usize, now);
        self.end_service(slot as usize);
        self.sockets.unregister(slot);
        let mut client = self.clients.remove(slot as usize);
        if let State::Active(active) = &client.state {
            client.guard.ended(&active.subscription, client.opened.into());
        }
        self.intake.client_left();
    }
}

/// The length of one turn's steps of active clients, whatever the time of the caller.
struct Turn(Instant);

impl Turn {
    fn begin() -> Self {
        Self(Instant::now())
    }

    fn is_over(&self) -> bool {
        self.0.elapsed() >= LONGEST
    }
}

/// The worker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

fn active<S: Send + 'static>(
    intake: &Arc<Intake<S>>,
    token: Token,
    subscription: Box<Subscription>,
) -> Active<S> {
    let alarm = Alarm::new(intake, Woken::Client(token));
    Active {
        subscription,
        unwritten: None,
        stalled_since: None,
        is_ending: false,
        is_ready: false,
        sent: 0,
        service: Service::None,
        waker: alarm.waker(),
        alarm,
    }
}

#[cfg(test)]
mod simulation;
