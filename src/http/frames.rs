//! The transport of a connection of HTTP/2, whose frames are counted: a flood ends it.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connections::{Connection, Limit};
use super::flood::{Flood, Meter};
use super::linger::Linger;

/// How many bytes are still read of a connection that has ended.
const LINGER_BYTES: usize = 64 * 1024;

/// The transport of a connection of HTTP/2, which ends when its client sends a flood.
#[derive(Debug)]
pub(super) struct Frames<T> {
    transport: T,
    connection: Arc<Connection>,
    meter: Meter,
    suspect: Arc<Suspect>,
    /// Once the daemon's side is closed.
    linger: Option<Linger>,
}

/// The flood that explains a connection closed now.
#[derive(Debug, Default)]
pub(super) struct Suspect(AtomicUsize);

impl Suspect {
    pub(super) fn get(&self) -> Flood {
        let number = self.0.load(Ordering::Relaxed);
        Flood::ALL.get(number).copied().unwrap_or(Flood::Other)
    }
}

impl<T> Frames<T> {
    /// For a connection that may have so many streams, and begins with the preface.
    pub(super) fn new(
        transport: T,
        connection: Arc<Connection>,
        max_streams: u32,
        suspect: Arc<Suspect>,
    ) -> Self {
        Self {
            transport,
            connection,
            meter: Meter::new(max_streams, Instant::now()),
            suspect,
            linger: None,
        }
    }

    fn note(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = written {
            self.meter.wrote(count);
        }
        written
    }
}

#[derive(Debug)]
struct TooMany(Flood);

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more frames than any client needs ({})", self.0.as_str())
    }
}

impl std::error::Error for TooMany {}

impl<T: AsyncRead + Unpin> AsyncRead for Frames<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buffer);
        if read.is_ready() {
            if let Err(kind) = self.meter.read(&buffer.filled()[before..], Instant::now()) {
                self.connection.close_by(Limit::Http2Flood(kind));
                return Poll::Ready(Err(io::Error::other(TooMany(kind))));
            }
            let suspect = self.meter.suspect() as usize;
            self.suspect.0.store(suspect, Ordering::Relaxed);
        }
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let linger = match &mut this.linger {
            Some(linger) => linger,
            none => {
                ready!(Pin::new(&mut this.transport).poll_shutdown(cx))?;
                none.insert(Linger::new(LINGER_BYTES))
            }
        };
        // Windows that are opened, pings, answers to settings.
        let transport = &mut this.transport;
        linger
            .poll(cx, |cx, buffer| Pin::new(&mut *transport).poll_read(cx, buffer))
            .map(Ok)
    }
}
