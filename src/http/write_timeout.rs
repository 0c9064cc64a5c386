//! The write timeout: how long a socket may take no byte.
//!
//! A client that does not read lets its socket fill up, and holds its connection, its cursor and a block of records for
//! nothing. TCP notices only peers that are gone, and a Unix socket not even those; so both have this timeout. Knows
//! sockets and time, but neither HTTP nor what is written.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use log::debug;
use socket2::SockRef;
use tokio::time::{Instant, Sleep, sleep_until};

/// The write timeout of one socket.
///
/// After a stall the operating system reports a socket as writable only once much of its buffer is free: a third of it
/// for TCP, three quarters for a Unix socket on Linux. A peer that takes less than that in the time is slow, not gone. So
/// at the end of the time the bytes are offered to the socket once more, whatever was reported, and only a refusal
/// counts; a peer that took something just before it stopped therefore has up to twice the time.
#[derive(Debug)]
pub(super) struct WriteTimeout {
    timeout: Duration,
    /// Since when the socket has taken none of the bytes that it was offered; `None` while it takes some.
    stalled_since: Option<Instant>,
    /// Wakes the task that writes. Made when the socket stalls, so that other connections need none. It is not reset
    /// when the stall ends, because large writes to a fast peer stall for moments all the time; so it may fire early,
    /// and is then reset or dropped.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    pub(super) const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            stalled_since: None,
            alarm: None,
        }
    }

    /// The result of a write to `socket` under the timeout: [`io::ErrorKind::TimedOut`] once the socket has taken no byte
    /// for that long. `retry` writes past tokio, which asks the socket only if it was reported as writable.
    pub(super) fn check(
        &mut self,
        socket: &impl AsFd,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        retry: impl FnOnce(&SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.end_stall();
            return written;
        }
        let until = *self.stalled_since.get_or_insert_with(Instant::now) + self.timeout;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() < until {
                alarm.as_mut().reset(until);
                continue;
            }
            let socket = SockRef::from(socket);
            let written = match retry(&socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Bytes in the socket's buffer would wait for the peer for as long again.
                    if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
                        debug!("cannot set SO_LINGER on a socket after its write timeout: {error}");
                    }
                    Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("took no byte for {:?}", self.timeout),
                    ))
                }
                written => written,
            };
            self.end_stall();
            return Poll::Ready(written);
        }
        Poll::Pending
    }

    fn end_stall(&mut self) {
        self.stalled_since = None;
        if self.alarm.as_ref().is_some_and(|alarm| alarm.is_elapsed()) {
            self.alarm = None;
        }
    }
}
