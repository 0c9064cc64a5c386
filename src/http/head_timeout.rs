//! A socket that gives a request's head only so long once it has begun.
//!
//! hyper has one time for both: how long a connection may rest between requests, and how long a head may
//! take. A rest must be long, for the sake of proxies, while a head is one packet or a few; who sends it
//! byte by byte wants to hold a connection for nothing. Whoever serves the requests tells by [`Served`]
//! that a head was complete.
//!
//! ```text
//! resting ──bytes──► begun ──Served──► resting; begun again, if bytes of a next head came along
//!                      └─ still not complete after the timeout ─► error, the connection ends
//! ```
//! The time begins when the socket is asked for more of the head, not with its first bytes: those of a
//! next request may come while the answer to the one before still streams, for hours.
//!
//! What was refused is read for a moment more before the connection ends: closed with bytes unread, TCP
//! resets the connection, and the answer that says why is lost (RFC 9112, section 9.6).

use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a head may take from its first byte: a phone in a tunnel sends it in less.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long, and how many bytes of, a head that was refused is still read.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// A head was not complete in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowHead(Duration);

impl fmt::Display for SlowHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a request's head was not complete after {:?}", self.0)
    }
}

impl Error for SlowHead {}

/// Tells the socket that the head it has begun to give is complete.
#[derive(Debug, Clone, Default)]
pub struct Served(Arc<AtomicBool>);

impl Served {
    /// The head is complete. Called by the task that polls the socket, as all else here.
    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A socket whose reads fail with [`SlowHead`] once a head takes longer than a time.
#[derive(Debug)]
pub struct HeadTimeout<S> {
    socket: S,
    timeout: Duration,
    served: Served,
    /// Whether bytes have come that are not known to be served.
    is_begun: bool,
    /// The last four bytes that came.
    tail: u32,
    /// When the time for the head is over; made when the socket is asked for more of it.
    alarm: Option<Pin<Box<Sleep>>>,
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl<S> HeadTimeout<S> {
    /// Gives each head of `socket` so long.
    pub fn new(socket: S, timeout: Duration) -> Self {
        Self {
            socket,
            timeout,
            served: Served::default(),
            is_begun: false,
            tail: 0,
            alarm: None,
            lingering: None,
        }
    }

    /// What is to be told when a head is complete.
    pub fn served(&self) -> Served {
        self.served.clone()
    }

    /// Whether a head has begun and is not served. After one that was, another has begun where what came
    /// last is no blank line. (It may be a body instead, which nobody here waits for.)
    fn is_begun(&mut self) -> bool {
        // Looked at by every poll of the connection, and written by few.
        if self.served.0.load(Ordering::Relaxed) {
            self.served.0.store(false, Ordering::Relaxed);
            self.alarm = None;
            self.is_begun = !ends_head(self.tail);
        }
        self.is_begun
    }

    /// Whether the time for the head is over. Where there is none to be waited for, never.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.is_begun() {
            return false;
        }
        let timeout = self.timeout;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
        alarm.as_mut().poll(cx).is_ready()
    }
}

/// Whether a blank line is the last of these bytes; lines end with LF, with CR before it or without
/// (RFC 9112, section 2.2).
const fn ends_head(tail: u32) -> bool {
    tail & 0xff_ffff == 0x0a_0d_0a || tail & 0xffff == 0x0a_0a
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                // If a head has begun already, its alarm goes on.
                self.is_begun();
                self.is_begun = true;
                for byte in buffer.filled().iter().skip(before).rev().take(4).rev() {
                    self.tail = self.tail << 8 | u32::from(*byte);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if self.is_late(cx) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                SlowHead(self.timeout),
            ))),
            other => other,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeadTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            match Pin::new(&mut this.socket).poll_shutdown(cx) {
                Poll::Ready(Ok(())) if this.is_begun() => {}
                other => return other,
            }
        }
        let lingering = this.lingering.get_or_insert_with(|| Lingering {
            until: Box::pin(sleep_until(Instant::now() + LINGER)),
            left: LINGER_BYTES,
        });
        let mut scratch = [0; 4096];
        while lingering.left > 0 && lingering.until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.socket).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    lingering.left = lingering.left.saturating_sub(buffer.filled().len());
                }
                // The peer has closed its side, or is gone: there is nothing to wait for.
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
