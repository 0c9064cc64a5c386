//! A socket that notices a peer's hang-up behind bytes that nobody reads.
//!
//! hyper looks for the end of a connection while it answers, but not once it holds a part of the next request: a
//! client that pipelines a request behind one for an event stream could leave unnoticed, and keep its place until
//! writes failed. Where hyper does not read, a bounded number of bytes is read ahead here, kept for it, and the end is
//! seen. Requests that were sent before the end are answered all the same, if that takes no longer than [`GRACE`].

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long an answer may go on after the end was seen.
pub const GRACE: Duration = Duration::from_secs(1);

/// Most bytes that are read ahead. Behind more of them the end is seen only when something is written.
const AHEAD: usize = 4096;

/// The socket.
#[derive(Debug)]
pub struct Hangup<S> {
    socket: S,
    /// What was read ahead; allocated by few connections.
    ahead: Vec<u8>,
    /// Whether the reader has asked since the last flush and waits for bytes: then it sees the end by itself.
    is_waiting: bool,
    /// Runs from when the end was seen.
    grace: Option<Pin<Box<Sleep>>>,
}

impl<S> Hangup<S> {
    /// Watches over `socket`.
    pub const fn new(socket: S) -> Self {
        Self {
            socket,
            ahead: Vec::new(),
            is_waiting: false,
            grace: None,
        }
    }
}

impl<S: AsyncRead + AsFd + Unpin> Hangup<S> {
    /// An error once the peer has hung up for too long; otherwise the task is woken when it may have.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut piece = [0; 1024];
        loop {
            if let Some(grace) = &mut self.grace {
                return match grace.as_mut().poll(cx) {
                    Poll::Pending => Ok(()),
                    Poll::Ready(()) => Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the peer has hung up, behind requests that were not read",
                    )),
                };
            }
            let has_ended = if self.ahead.len() < AHEAD {
                let mut buffer = ReadBuf::new(&mut piece);
                match Pin::new(&mut self.socket).poll_read(cx, &mut buffer)? {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(()) => {}
                }
                self.ahead.extend_from_slice(buffer.filled());
                buffer.filled().is_empty()
            } else {
                has_hung_up(&self.socket)
            };
            if has_ended {
                self.grace = Some(Box::pin(sleep(GRACE)));
            } else if self.ahead.len() >= AHEAD {
                return Ok(());
            }
        }
    }
}

/// Whether the peer writes no more, whatever is unread.
fn has_hung_up(socket: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    let at_once = Timespec::default();
    poll(&mut asked, Some(&at_once)).is_ok_and(|count| count > 0)
}

impl<S: AsyncRead + Unpin> AsyncRead for Hangup<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.grace = None;
        if self.ahead.is_empty() {
            let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
            self.is_waiting = read.is_pending();
            return read;
        }
        let count = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> AsyncWrite for Hangup<S> {
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

    // hyper flushes at the end of every turn, after it has read or has not wanted to.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::take(&mut self.is_waiting) {
            self.look(cx)?;
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
