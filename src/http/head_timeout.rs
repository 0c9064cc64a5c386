//! The time that a request's head may take once it has begun.
//!
//! hyper has one timeout for both: how long a connection may be idle between requests, and how long a head may take. The
//! idle time must be long for proxies, while a head is one packet or a few; a client that sends it byte by byte occupies
//! a connection for nothing.
//!
//! ```text
//! idle ──bytes──► begun ──complete──► idle; begun again, if bytes of a next head came along
//!                   └─ not complete after the timeout ─► error, the connection ends
//! ```
//! The time begins when hyper reads more of the head, not with its first bytes: those of the next request may arrive
//! while the previous response still streams, for hours.
//!
//! The rest of a refused head is read for a moment before the connection ends, so that the error response is not lost.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep_until};

use super::linger::Linger;

/// How long a head may take: a phone with poor reception needs less.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How many bytes of a head that was refused are still read.
const LINGER_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct HeadTimeout {
    timeout: Duration,
    /// Whether bytes have come that are not known to be of a complete head.
    has_begun: bool,
    /// The last four bytes that came.
    last: u32,
    /// Fires at the deadline of the head; created when more of it is read from the socket.
    alarm: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
}

impl HeadTimeout {
    pub(super) const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            has_begun: false,
            last: 0,
            alarm: None,
            linger: None,
        }
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Notes bytes that were read. The alarm of a head that has begun stays.
    pub(super) fn begin_head(&mut self, bytes: &[u8]) {
        self.has_begun |= !bytes.is_empty();
        for byte in bytes.iter().skip(bytes.len().saturating_sub(4)) {
            self.last = self.last << 8 | u32::from(*byte);
        }
    }

    /// A head is complete. Another one has begun unless the last bytes are a blank line. (They may be of a body instead,
    /// which nothing here waits for.)
    pub(super) fn end_head(&mut self) {
        self.alarm = None;
        self.has_begun = !ends_head(self.last);
    }

    /// An error once the time for the head is over; otherwise the task is woken then. To be called when the socket has no
    /// more bytes of it.
    pub(super) fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.has_begun {
            return Ok(());
        }
        let timeout = self.timeout;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
        match alarm.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the head of a request was not complete after {timeout:?}"),
            )),
        }
    }

    /// Whether [`poll_linger`](Self::poll_linger) has begun.
    pub(super) const fn is_lingering(&self) -> bool {
        self.linger.is_some()
    }

    /// Reads on, and drops it; see [`Linger`].
    pub(super) fn poll_linger(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger::new(LINGER_BYTES));
        linger.poll(cx, read)
    }
}

/// Whether a blank line is the last of these bytes; lines end with LF, with CR before it or without (RFC 9112, section
/// 2.2).
const fn ends_head(last: u32) -> bool {
    last & 0xff_ffff == 0x0a_0d_0a || last & 0xffff == 0x0a_0a
}
