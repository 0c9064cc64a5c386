//! What the threads need of the operating system.

use std::io;
use std::time::{Duration, Instant};

/// What a socket or a waker is known by: its place, and how often that was given away before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// The token of the intake's eventfd.
pub(super) const INTAKE: Token = Token {
    slot: u32::MAX,
    generation: u32::MAX,
};

impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        Self::from(token.generation) << 32 | Self::from(token.slot)
    }
}

impl From<u64> for Token {
    fn from(number: u64) -> Self {
        Self {
            slot: low(number),
            generation: low(number >> 32),
        }
    }
}

/// The lower half of a number.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// A place in a slab, as tokens have it: no machine has as many descriptors as do not fit.
pub(super) fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// What has become possible at a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) token: Token,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// The peer has closed its side.
    pub(super) is_half_closed: bool,
    /// The connection is gone.
    pub(super) is_closed: bool,
}

/// Sockets that never block, and what waits for them. Events come once per change (edge-triggered).
pub(super) trait Sockets {
    type Socket: Send + 'static;

    /// The time, which only increases.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Reports events of a socket from now on, and what is possible already.
    fn register(&mut self, socket: &Self::Socket, token: Token) -> io::Result<()>;

    /// Forgets a socket that is about to be dropped, by the slot of its token.
    fn unregister(&mut self, _slot: u32) {}

    /// Waits for events, at most for `timeout`.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Writes parts one after the other, as many bytes as the socket takes.
    fn send(&mut self, socket: &Self::Socket, parts: &[&[u8]]) -> io::Result<usize>;

    /// Writes the same bytes to many sockets, each with the slot of its token. `failed` gets the place of each that has not taken all of them, with the
    /// number of bytes that it took or its error.
    fn send_to_all(
        &mut self,
        sockets: &[(u32, &Self::Socket)],
        bytes: &[u8],
        failed: &mut Vec<(usize, io::Result<usize>)>,
    );

    /// Reads what has arrived; 0 is the end.
    fn receive(&mut self, socket: &Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends the end of our side.
    fn shut_down(&mut self, socket: &Self::Socket);

    /// Has the socket forget unsent bytes when it is closed.
    fn abort(&mut self, socket: &Self::Socket);

    /// The error by which the connection ended, if it was one.
    fn error_of(&mut self, socket: &Self::Socket) -> Option<io::Error>;
}
