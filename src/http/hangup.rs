//! Notices that a client has closed its side behind bytes that nobody reads.
//!
//! hyper looks for the end of a connection while it answers, but not once it holds a part of the next request: a
//! client that pipelines a request behind one for an event stream could leave unnoticed, and keep its connection until
//! writes fail. While hyper does not read, a bounded number of bytes is read ahead here and kept for it, and the end is
//! seen. Requests that were sent before the end are still answered if that takes no longer than [`GRACE`].

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a response may go on after the client has closed its side.
const GRACE: Duration = Duration::from_secs(1);

/// Most bytes that are read ahead. Behind more of them the end is seen only by a write.
const AHEAD: usize = 4096;

/// Bytes that were read ahead of one socket, and whether its peer has closed its side.
#[derive(Debug, Default)]
pub(super) struct Hangup {
    /// Allocated by few connections.
    ahead: Vec<u8>,
    /// Whether hyper has read since the last flush and waits for bytes: then it sees the end itself.
    is_waiting: bool,
    /// Runs from when the end was seen.
    grace: Option<Pin<Box<Sleep>>>,
}

impl Hangup {
    /// Reads what was read ahead, then from `socket`.
    pub(super) fn poll_read(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.grace = None;
        if self.ahead.is_empty() {
            let read = Pin::new(socket).poll_read(cx, buffer);
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

    /// To be called when hyper has read or has not wanted to. An error once the peer has closed its side for longer than
    /// [`GRACE`]; otherwise the task is woken when it may have.
    pub(super) fn check(
        &mut self,
        socket: &mut (impl AsyncRead + AsFd + Unpin),
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        if std::mem::take(&mut self.is_waiting) {
            return Ok(());
        }
        let mut piece = [0; 1024];
        loop {
            if let Some(grace) = &mut self.grace {
                return match grace.as_mut().poll(cx) {
                    Poll::Pending => Ok(()),
                    Poll::Ready(()) => Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the peer has closed its side, behind requests that were not read",
                    )),
                };
            }
            let has_ended = if self.ahead.len() < AHEAD {
                let mut buffer = ReadBuf::new(&mut piece);
                match Pin::new(&mut *socket).poll_read(cx, &mut buffer)? {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(()) => {}
                }
                self.ahead.extend_from_slice(buffer.filled());
                buffer.filled().is_empty()
            } else {
                has_closed(socket)
            };
            if has_ended {
                self.grace = Some(Box::pin(sleep(GRACE)));
            } else if self.ahead.len() >= AHEAD {
                return Ok(());
            }
        }
    }
}

/// Whether the peer has closed its side, whatever is unread.
fn has_closed(socket: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    let at_once = Timespec::default();
    poll(&mut asked, Some(&at_once)).is_ok_and(|count| count > 0)
}
