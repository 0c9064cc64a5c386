//! A socket under the write timeout: what every protocol above reads and writes.
//!
//! Bytes leave through here as they go over the network, so the timeout means the same with TLS and HTTP/2 as without.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::{Connection, Limit};
use super::write_timeout::WriteTimeout;

/// A socket whose connection is closed when its peer takes no byte for the write timeout.
#[derive(Debug)]
pub(super) struct TimedSocket<S> {
    socket: S,
    connection: Arc<Connection>,
    write_timeout: WriteTimeout,
}

impl<S> TimedSocket<S> {
    pub(super) fn new(socket: S, connection: Arc<Connection>, write_timeout: Duration) -> Self {
        Self {
            socket,
            connection,
            write_timeout: WriteTimeout::new(write_timeout),
        }
    }

    #[cfg(feature = "rustls")]
    pub(super) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    #[cfg(any(test, feature = "rustls"))]
    pub(super) const fn get_ref(&self) -> &S {
        &self.socket
    }

    /// Notes an error by which the socket says that the write timeout is over.
    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && error.kind() == io::ErrorKind::TimedOut
        {
            self.connection.close_by(Limit::WriteTimeout);
        }
        result
    }
}

impl<S: AsyncWrite + AsFd + Unpin> TimedSocket<S> {
    /// The result of a write, under the write timeout. `retry` writes without asking tokio.
    fn check_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        retry: impl FnOnce(&SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let written = self.write_timeout.check(&self.socket, cx, written, retry);
        self.note(written)
    }
}

impl<S: AsFd> AsFd for TimedSocket<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.note(read)
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for TimedSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.check_write(cx, written, |socket| socket.send(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.check_write(cx, written, |socket| socket.send_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    // The socket holds nothing back, so this waits for nothing.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
