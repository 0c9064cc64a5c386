//! Detects that a client has closed its side of the connection after bytes that hyper does not read.
//!
//! hyper does not read while it responds, so bytes that a client sends in that time are read here: a bounded number is
//! read ahead and kept for hyper. An event stream ends [`GRACE`] after the client's end of file; otherwise it would last
//! until writes fail. A finite response is completed: a client may close its side after its last request (RFC 9112,
//! section 9.6).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a stream continues after the client has closed its side.
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
    has_ended: bool,
    /// Runs from when the end of a stream's client was seen.
    grace: Option<Pin<Box<Sleep>>>,
}

impl Hangup {
    /// For a socket of which these bytes were read already.
    pub(super) fn behind(ahead: Vec<u8>) -> Self {
        Self {
            ahead,
            ..Self::default()
        }
    }

    /// Reads the bytes that were read ahead, then from `socket`.
    pub(super) fn poll_read(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        (self.has_ended, self.grace) = (false, None);
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

    /// To be called when hyper has read or has not wanted to. An error once the peer of a stream has closed its side
    /// for longer than [`GRACE`]; otherwise the task is woken when it may have.
    pub(super) fn check(
        &mut self,
        socket: &mut (impl AsyncRead + AsFd + Unpin),
        cx: &mut Context<'_>,
        is_streaming: bool,
    ) -> io::Result<()> {
        if std::mem::take(&mut self.is_waiting) {
            return Ok(());
        }
        // Not initialised: this runs with every write.
        let mut piece = [MaybeUninit::uninit(); 1024];
        loop {
            if self.has_ended {
                if !is_streaming {
                    return Ok(());
                }
                let grace = self.grace.get_or_insert_with(|| Box::pin(sleep(GRACE)));
                return match grace.as_mut().poll(cx) {
                    Poll::Pending => Ok(()),
                    Poll::Ready(()) => Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the client of a stream has closed its side",
                    )),
                };
            }
            self.has_ended = if self.ahead.len() < AHEAD {
                let mut buffer = ReadBuf::uninit(&mut piece);
                match Pin::new(&mut *socket).poll_read(cx, &mut buffer)? {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(()) => {}
                }
                self.ahead.extend_from_slice(buffer.filled());
                buffer.filled().is_empty()
            } else {
                has_closed(socket)
            };
            if !self.has_ended && self.ahead.len() >= AHEAD {
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
