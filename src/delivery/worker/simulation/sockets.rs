//! Sockets without a kernel, which fail in every way that a real one can.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::clock;
use crate::delivery::sockets::{Event, Sockets, Token};

/// How many of 256 calls meet with each fault.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// EINTR.
    pub(super) interrupted: usize,
    /// One byte, or a part, is taken although there is room for more.
    pub(super) short: usize,
    /// Nothing is taken although there is room.
    pub(super) blocked: usize,
    /// The connection fails.
    pub(super) failed: usize,
    /// The socket cannot be registered.
    pub(super) unregistered: usize,
    /// Events come late, twice, out of order, and for sockets that are gone.
    pub(super) is_disorderly: bool,
}

impl Faults {
    pub(super) const ALL: Self = Self {
        interrupted: 20,
        short: 60,
        blocked: 30,
        failed: 3,
        unregistered: 4,
        is_disorderly: true,
    };

    /// Only those that no connection ends by.
    pub(super) const MILD: Self = Self {
        failed: 0,
        unregistered: 0,
        ..Self::ALL
    };
}

/// The way connections fail at a write.
const FAILURES: [io::ErrorKind; 3] = [
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::TimedOut,
];

/// The other end of a socket, and the socket's state.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// What the socket has taken.
    pub(super) received: Vec<u8>,
    /// How many bytes it takes.
    pub(super) room: usize,
    /// By what the connection ended.
    pub(super) error: Option<io::ErrorKind>,
    /// Whether the peer has closed its side.
    pub(super) has_ended: bool,
    /// Unread bytes that the peer has sent.
    pub(super) input: usize,
    pub(super) is_shut_down: bool,
    pub(super) is_aborted: bool,
    /// How often the socket was dropped.
    pub(super) drops: u32,
    /// When the socket last took a byte.
    pub(super) took_at: Option<Instant>,
    token: Option<Token>,
    /// Whether it is to be unregistered before it is dropped.
    is_registered: bool,
    /// Whether the socket has refused bytes since its last event: there is one when it takes bytes again.
    wants_room: bool,
}

#[derive(Debug)]
pub(super) struct Net {
    pub(super) peers: Vec<Peer>,
    pub(super) faults: Faults,
    pending: VecDeque<Event>,
    /// All tokens that were registered.
    tokens: Vec<Token>,
    random: u64,
}

/// The connections, which the test and the worker share.
#[derive(Debug, Clone)]
pub(super) struct Network(Arc<Mutex<Net>>);

/// A socket of the worker.
#[derive(Debug)]
pub(super) struct SimSocket {
    number: usize,
    network: Network,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let peer = &mut self.network.lock().peers[self.number];
        peer.drops += 1;
        if !std::thread::panicking() {
            assert!(!peer.is_registered, "a socket is dropped that is registered");
        }
    }
}

impl Net {
    fn random(&mut self, below: usize) -> usize {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 32).unwrap_or_default() % below
    }

    fn meets(&mut self, of_256: usize) -> bool {
        of_256 > 0 && self.random(256) < of_256
    }

    fn report(&mut self, number: usize, change: impl FnOnce(&mut Event)) {
        if let Some(token) = self.peers[number].token {
            let mut event = nothing(token);
            change(&mut event);
            self.pending.push_back(event);
        }
    }

    fn fail(&mut self, number: usize, error: io::ErrorKind) {
        self.peers[number].error = Some(error);
        self.report(number, |event| event.is_closed = true);
    }

    fn take(&mut self, number: usize, parts: &[&[u8]]) -> io::Result<usize> {
        let faults = self.faults;
        let peer = &self.peers[number];
        assert_eq!(peer.drops, 0, "a socket is used that is gone");
        if let Some(error) = peer.error {
            return Err(error.into());
        }
        assert!(!peer.is_shut_down, "bytes after the end");
        if self.meets(faults.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.meets(faults.failed) {
            let which = self.random(FAILURES.len());
            let error = FAILURES[which];
            self.fail(number, error);
            return Err(error.into());
        }
        let bytes = parts.concat();
        let room = self.peers[number].room.min(bytes.len());
        let taken = if self.meets(faults.blocked) {
            0
        } else if room > 0 && self.meets(faults.short) {
            match self.random(4) {
                0 => 1,
                _ => 1 + self.random(room),
            }
        } else {
            room
        };
        let peer = &mut self.peers[number];
        peer.received.extend_from_slice(&bytes[..taken]);
        peer.room -= taken;
        if taken > 0 {
            peer.took_at = Some(clock::now());
        }
        if taken < bytes.len() {
            if taken < room {
                // It is reported although it may be so already.
                self.report(number, |event| event.is_writable = true);
            } else {
                peer.wants_room = true;
            }
        }
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Net {
            peers: Vec::new(),
            faults: Faults::default(),
            pending: VecDeque::new(),
            tokens: Vec::new(),
            random: seed | 1,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Net> {
        self.0.lock()
    }

    /// A new connection that takes so many bytes.
    pub(super) fn connect(&self, room: usize) -> SimSocket {
        let mut net = self.lock();
        net.peers.push(Peer {
            room,
            ..Peer::default()
        });
        SimSocket {
            number: net.peers.len() - 1,
            network: self.clone(),
        }
    }

    /// The peer reads, so that the socket takes so many bytes.
    pub(super) fn read(&self, number: usize, room: usize) {
        let mut net = self.lock();
        let peer = &mut net.peers[number];
        peer.room = room;
        if room > 0 && std::mem::take(&mut peer.wants_room) {
            net.report(number, |event| event.is_writable = true);
        }
    }

    /// The peer sends bytes.
    pub(super) fn send(&self, number: usize, bytes: usize) {
        let mut net = self.lock();
        if !net.peers[number].has_ended {
            net.peers[number].input += bytes;
            net.report(number, |event| event.is_readable = true);
        }
    }

    /// The peer closes its side.
    pub(super) fn end(&self, number: usize) {
        let mut net = self.lock();
        net.peers[number].has_ended = true;
        net.report(number, |event| {
            event.is_readable = true;
            event.is_half_closed = true;
        });
    }

    /// The connection fails.
    pub(super) fn fail(&self, number: usize, error: io::ErrorKind) {
        self.lock().fail(number, error);
    }

    /// Whether there are events that were not reported yet.
    pub(super) fn has_events(&self) -> bool {
        !self.lock().pending.is_empty()
    }
}

fn nothing(token: Token) -> Event {
    Event {
        token,
        is_readable: false,
        is_writable: false,
        is_half_closed: false,
        is_closed: false,
    }
}

/// The worker's side of the network.
pub(super) struct SimSockets(pub(super) Network);

impl Sockets for SimSockets {
    type Socket = SimSocket;

    fn now(&self) -> Instant {
        clock::now()
    }

    fn register(&mut self, socket: &SimSocket, token: Token) -> io::Result<()> {
        let mut net = self.0.lock();
        let rate = net.faults.unregistered;
        if net.meets(rate) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        assert!(!net.tokens.contains(&token), "a token is given away twice");
        net.tokens.push(token);
        net.peers[socket.number].token = Some(token);
        net.peers[socket.number].is_registered = true;
        // What is possible already.
        let (is_failed, is_readable, is_half_closed) = {
            let peer = &net.peers[socket.number];
            (
                peer.error.is_some(),
                peer.has_ended || peer.input > 0,
                peer.has_ended,
            )
        };
        net.report(socket.number, |event| {
            event.is_writable = true;
            event.is_readable = is_readable;
            event.is_half_closed = is_half_closed;
            event.is_closed = is_failed;
        });
        Ok(())
    }

    fn unregister(&mut self, slot: u32) {
        let mut net = self.0.lock();
        let is_in_slot = |peer: &&mut Peer| {
            peer.drops == 0 && peer.is_registered && peer.token.is_some_and(|token| token.slot == slot)
        };
        if let Some(peer) = net.peers.iter_mut().find(is_in_slot) {
            peer.is_registered = false;
        }
    }

    fn wait(&mut self, _: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut net = self.0.lock();
        // The kernel reports nothing of a socket that is closed, but what it reported before may be looked at later.
        if !net.faults.is_disorderly {
            events.extend(net.pending.drain(..));
            return Ok(());
        }
        for _ in 0..net.pending.len() {
            let Some(event) = net.pending.pop_front() else {
                break;
            };
            match net.random(4) {
                0 => net.pending.push_back(event),
                1 => events.push(event),
                2 => events.insert(0, event),
                _ => {
                    events.push(event);
                    net.pending.push_back(event);
                }
            }
        }
        if !net.tokens.is_empty() && net.random(4) == 0 {
            let count = net.tokens.len();
            let which = net.random(count);
            let token = net.tokens[which];
            let mut event = nothing(token);
            event.is_readable = net.random(2) == 0;
            event.is_writable = !event.is_readable;
            let is_gone = net
                .peers
                .iter()
                .any(|peer| peer.token == Some(token) && peer.drops > 0);
            event.is_closed = is_gone;
            events.push(event);
        }
        Ok(())
    }

    fn send(&mut self, socket: &SimSocket, parts: &[&[u8]]) -> io::Result<usize> {
        self.0.lock().take(socket.number, parts)
    }

    fn send_to_all(
        &mut self,
        sockets: &[(u32, &SimSocket)],
        bytes: &[u8],
        failed: &mut Vec<(usize, io::Result<usize>)>,
    ) {
        let mut net = self.0.lock();
        for (place, (slot, socket)) in sockets.iter().enumerate() {
            let token = net.peers[socket.number].token;
            assert_eq!(token.map(|token| token.slot), Some(*slot), "the slot of another");
            match net.take(socket.number, &[bytes]) {
                Ok(count) if count == bytes.len() => {}
                other => failed.push((place, other)),
            }
        }
        // Completions come in any order.
        for end in (1..failed.len()).rev() {
            let other = net.random(end + 1);
            failed.swap(end, other);
        }
    }

    fn receive(&mut self, socket: &SimSocket, buffer: &mut [u8]) -> io::Result<usize> {
        let mut net = self.0.lock();
        let rate = net.faults.interrupted;
        if net.meets(rate) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let peer = &mut net.peers[socket.number];
        assert_eq!(peer.drops, 0, "a socket is used that is gone");
        if let Some(error) = peer.error {
            return Err(error.into());
        }
        let count = peer.input.min(buffer.len());
        peer.input -= count;
        if count == 0 && !peer.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }

    fn shut_down(&mut self, socket: &SimSocket) {
        self.0.lock().peers[socket.number].is_shut_down = true;
    }

    fn abort(&mut self, socket: &SimSocket) {
        self.0.lock().peers[socket.number].is_aborted = true;
    }

    fn error_of(&mut self, socket: &SimSocket) -> Option<io::Error> {
        self.0.lock().peers[socket.number].error.map(Into::into)
    }
}
