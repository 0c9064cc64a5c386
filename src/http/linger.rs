//! The end of a connection whose peer may still be sending: TCP resets a connection that is closed with bytes unread, and
//! what the peer has not read by then is lost (RFC 9112, section 9.6).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long it is read.
const LONGEST: Duration = Duration::from_secs(2);

/// Reads what still comes, and drops it.
#[derive(Debug)]
pub(super) struct Linger {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl Linger {
    /// From now on, so many bytes at most.
    pub(super) fn new(most: usize) -> Self {
        Self {
            until: Box::pin(sleep_until(Instant::now() + LONGEST)),
            bytes_left: most,
        }
    }

    /// Reads on until the peer has closed its side, or for [`LONGEST`], or until too many bytes have come.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<()> {
        let mut scratch = [0; 4096];
        while self.bytes_left > 0 && self.until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.bytes_left = self.bytes_left.saturating_sub(buffer.filled().len());
                }
                // The peer has closed its side or the connection: no more bytes arrive.
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    }
}
