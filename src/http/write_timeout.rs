//! A socket that gives up on a peer that takes nothing.
//!
//! A client that does not read lets its socket fill up, and then holds its connection, its cursor
//! and a block of records for nothing. TCP alone notices peers that are gone, and a Unix socket not
//! even those; so both kinds are wrapped alike. This room knows sockets and time, but neither HTTP
//! nor what is written.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use log::debug;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Whether a connection ended because its peer took nothing: told before what is served there is let go.
#[derive(Debug, Clone, Default)]
pub struct TimedOut(Arc<AtomicBool>);

impl TimedOut {
    /// Whether it did.
    #[must_use]
    pub fn has_happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Notes it, where a socket says so: by ourselves, or the kernel's `ETIMEDOUT` for a peer that
    /// acknowledged nothing, whether a write or a read meets it.
    fn note<T>(&self, said: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = said
            && error.kind() == io::ErrorKind::TimedOut
        {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// A socket whose writes fail with [`io::ErrorKind::TimedOut`] once it has taken no byte for a time.
///
/// After a stall the operating system reports a socket as writable only when much of its buffer is
/// free: a third of it for TCP, three quarters for a Unix socket on Linux. A peer that takes less
/// than that in the time is slow, not gone. So at the end of the time the socket is offered the
/// bytes once more, whatever was reported, and only a refusal counts; a peer that took something
/// just before it stopped is therefore given up after up to twice the time.
#[derive(Debug)]
pub struct WriteTimeout<S> {
    socket: S,
    patience: Duration,
    /// Since when the socket has taken nothing that it was offered; `None` while it takes.
    stalled: Option<Instant>,
    /// Wakes the task that writes. Made when the socket stalls, so that other connections do
    /// without. It is not moved when the stall ends, as large writes to a quick peer stall for
    /// moments all the time; it may fire early, then, and is set anew or goes.
    alarm: Option<Pin<Box<Sleep>>>,
    timed_out: TimedOut,
}

impl<S: AsFd> WriteTimeout<S> {
    /// Gives up on `socket` when it takes nothing for `patience`.
    pub fn new(socket: S, patience: Duration) -> Self {
        Self {
            socket,
            patience,
            stalled: None,
            alarm: None,
            timed_out: TimedOut::default(),
        }
    }

    /// What tells whether it has given up.
    pub fn timed_out(&self) -> TimedOut {
        self.timed_out.clone()
    }

    /// What a write came to, given what the socket said to it. `offer` writes past tokio, which asks
    /// the socket only when it was reported as writable.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        said: Poll<io::Result<usize>>,
        offer: impl FnOnce(&SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if said.is_ready() {
            self.takes();
            return said;
        }
        let until = *self.stalled.get_or_insert_with(Instant::now) + self.patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() < until {
                alarm.as_mut().reset(until);
                continue;
            }
            let socket = SockRef::from(&self.socket);
            let offered = match offer(&socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // What lies in its buffer would wait for the peer for as long again.
                    if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
                        debug!("a socket that is given up lingers: {error}");
                    }
                    Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("took no byte for {:?}", self.patience),
                    ))
                }
                offered => offered,
            };
            self.takes();
            return Poll::Ready(offered);
        }
        Poll::Pending
    }

    fn takes(&mut self) {
        self.stalled = None;
        if self.alarm.as_ref().is_some_and(|alarm| alarm.is_elapsed()) {
            self.alarm = None;
        }
    }
}

impl<S: AsFd> AsFd for WriteTimeout<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.timed_out.note(&said);
        said
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.socket).poll_write(cx, bytes);
        let said = self.judge(cx, said, |socket| socket.send(bytes));
        self.timed_out.note(&said);
        said
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        let said = self.judge(cx, said, |socket| socket.send_vectored(slices));
        self.timed_out.note(&said);
        said
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    // A socket holds nothing back that would have to be flushed, so this waits for nobody.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
