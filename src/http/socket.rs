//! The transport of a client, as hyper reads and writes it while it speaks HTTP/1.1.
//!
//! ```text
//! read      hangup (bytes that were read ahead) ──► transport; head_timeout: the head of a request takes too long
//! write     own_errors: gives hyper's errors a body ──► transport
//! flush     hangup: the client has closed its side ──► transport
//! shutdown  transport; head_timeout: read what is left of a refused head
//! ```
//! The transport is a [`TimedSocket`](super::timed_socket::TimedSocket), or TLS over one.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::{Connection, Limit};
use super::hangup::Hangup;
use super::head_timeout::HeadTimeout;
use super::own_errors;

/// A transport with the limits of HTTP/1.1 under which its connection is closed.
#[derive(Debug)]
pub(super) struct ClientSocket<T> {
    transport: T,
    connection: Arc<Connection>,
    head_timeout: HeadTimeout,
    hangup: Hangup,
    /// The unwritten rest of an error of hyper's own, with the body that it lacks.
    own_error: Option<Bytes>,
}

impl<T> ClientSocket<T> {
    /// `ahead` was read already.
    pub(super) fn new(
        transport: T,
        ahead: Vec<u8>,
        connection: Arc<Connection>,
        head_timeout: Duration,
    ) -> Self {
        Self {
            transport,
            connection,
            head_timeout: HeadTimeout::new(head_timeout),
            hangup: Hangup::behind(ahead),
            own_error: None,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ClientSocket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // The end, as if the client had closed the connection, which then ends between two requests.
        if this.connection.is_retired() && !this.connection.is_streaming() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = this.hangup.poll_read(&mut this.transport, cx, buffer);
        if this.connection.take_request() {
            this.head_timeout.end_head();
        }
        match read {
            Poll::Ready(Ok(())) => this.head_timeout.begin_head(&buffer.filled()[before..]),
            Poll::Pending => {
                if let Err(error) = this.head_timeout.check(cx) {
                    this.connection.close_by(Limit::HeadTimeout);
                    return Poll::Ready(Err(error));
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> ClientSocket<T> {
    /// Writes an error of hyper's own with a body, if `bytes` are one. hyper writes it at once, and again if it has to
    /// wait.
    fn poll_own_error(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.own_error.is_none() {
            // A response is complete before an error follows, and deliveries are not looked at.
            if self.connection.is_streaming() {
                return None;
            }
            self.own_error = Some(own_errors::with_body(bytes)?);
        }
        while let Some(left) = &mut self.own_error {
            match Pin::new(&mut self.transport).poll_write(cx, left) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(count)) => left.advance(count),
                other => return Some(other),
            }
            if left.is_empty() {
                self.own_error = None;
            }
        }
        Some(Poll::Ready(Ok(bytes.len())))
    }
}

impl<T: AsyncRead + AsyncWrite + AsFd + Unpin> AsyncWrite for ClientSocket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(written) = self.poll_own_error(cx, bytes) {
            return written;
        }
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = slices
            && let Some(written) = self.poll_own_error(cx, only)
        {
            return written;
        }
        Pin::new(&mut self.transport).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    // hyper flushes at the end of each of its turns. A socket holds nothing back; TLS may hold bytes that the socket
    // has not taken, and waits here for it to take them.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(offer) = this.connection.take_offer() {
            // The head of the response is written. Bytes that the client has sent behind its request are dropped.
            let error = match offer.take(this.transport.as_fd()) {
                Ok(()) => {
                    this.connection.note_handed_over();
                    io::Error::other("handed over")
                }
                Err(error) => error,
            };
            return Poll::Ready(Err(error));
        }
        let is_streaming = this.connection.is_streaming();
        this.hangup.check(&mut this.transport, cx, is_streaming)?;
        Pin::new(&mut this.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.head_timeout.is_lingering() {
            ready!(Pin::new(&mut this.transport).poll_shutdown(cx))?;
            if this.connection.take_request() {
                this.head_timeout.end_head();
            }
            if !this.head_timeout.has_begun() {
                return Poll::Ready(Ok(()));
            }
        }
        let (hangup, transport) = (&mut this.hangup, &mut this.transport);
        this.head_timeout
            .poll_linger(cx, |cx, buffer| hangup.poll_read(transport, cx, buffer))
            .map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use socket2::{Domain, SockAddr, Socket, Type};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, sleep, timeout};

    use super::super::connection_limit::Share;
    use super::super::connections::Connections;
    use super::super::peer::Peer;
    use super::super::timed_socket::TimedSocket;
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// A socket of one connection, both of whose timeouts are [`TIMEOUT`].
    fn client_socket<S>(socket: S) -> (ClientSocket<TimedSocket<S>>, Arc<Connections>) {
        let connections = Arc::new(Connections::new(TIMEOUT));
        let connection = connections.accept(Share::unlimited(Peer::Unix), None, false);
        let socket = TimedSocket::new(socket, Arc::clone(&connection), TIMEOUT);
        (
            ClientSocket::new(socket, Vec::new(), connection, TIMEOUT),
            connections,
        )
    }

    async fn unix_pair() -> (tokio::net::UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a socket");
        let ours = tokio::net::UnixStream::from_std(ours).expect("a runtime");
        ours.writable().await.expect("it is new");
        (ours, theirs)
    }

    async fn tcp_pair() -> (tokio::net::TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let theirs = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // Before connecting, or the kernel offers more than it is to hold.
        theirs.set_recv_buffer_size(4096).expect("a small buffer");
        let address = listener.local_addr().expect("its address");
        theirs.connect(&SockAddr::from(address)).expect("it listens");
        let (ours, _) = listener.accept().expect("a connection");
        ours.set_nonblocking(true).expect("a socket");
        let ours = tokio::net::TcpStream::from_std(ours).expect("a runtime");
        ours.writable().await.expect("it is new");
        (ours, theirs.into())
    }

    async fn write_vectored(socket: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
        let (one, two) = bytes.split_at(bytes.len() / 2);
        let slices = [IoSlice::new(one), IoSlice::new(two)];
        poll_fn(|cx| Pin::new(&mut *socket).poll_write_vectored(cx, &slices)).await
    }

    /// Writes until the socket is full; returns how many bytes it took.
    async fn fill(socket: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> usize {
        let mut filled = 0;
        loop {
            match poll_fn(|cx| Poll::Ready(Pin::new(&mut *socket).poll_write(cx, bytes))).await {
                Poll::Ready(written) => filled += written.expect("it is open"),
                Poll::Pending => return filled,
            }
        }
    }

    async fn takes_no_byte<S: AsyncRead + AsyncWrite + AsFd + Unpin>(ours: S, mut theirs: impl Read) {
        let (mut ours, connections) = client_socket(ours);
        let large = vec![b'x'; 64 * 1024];
        assert!(ours.is_write_vectored(), "several slices go as one write");
        let mut filled = fill(&mut ours, &large).await;
        // The bytes that it can still squeeze in are no progress for ever.
        let error = loop {
            match write_vectored(&mut ours, &large).await {
                Ok(written) => filled += written,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert_eq!(error.to_string(), "took no byte for 10s");
        assert!(ours.connection.has_timed_out());
        assert_eq!((connections.open(), connections.write_timeouts()), (1, 0));
        drop(ours);
        assert_eq!((connections.open(), connections.write_timeouts()), (0, 1));
        // A Unix socket keeps the bytes that the peer has not read, a TCP connection is reset.
        let mut left = Vec::new();
        match theirs.read_to_end(&mut left) {
            Ok(read) => assert_eq!(read, filled),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_takes_no_byte_is_closed_by_the_write_timeout() {
        let (ours, theirs) = unix_pair().await;
        takes_no_byte(ours, theirs).await;
        let (ours, theirs) = tcp_pair().await;
        takes_no_byte(ours, theirs).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_takes_less_than_makes_it_writable_is_not_closed() {
        let (ours, mut theirs) = unix_pair().await;
        let (mut ours, _connections) = client_socket(ours);
        let large = vec![b'x'; 32 * 1024];
        let filled = fill(&mut ours, &large).await;
        // Linux would report it as writable once three quarters were taken.
        let mut little = vec![0; filled / 3];
        for round in 0..4 {
            theirs.read_exact(&mut little).expect("it is there");
            let written = if round % 2 == 0 {
                ours.write(&large).await
            } else {
                write_vectored(&mut ours, &large).await
            };
            assert!(written.expect("it is waited for") > 0);
            fill(&mut ours, &large).await;
        }
        assert!(!ours.connection.has_timed_out());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_stream_ends_when_the_client_has_closed_its_side() {
        for behind in [0, 100, 10_000] {
            let (ours, mut theirs) = unix_pair().await;
            let (mut ours, _connections) = client_socket(ours);
            theirs.write_all(&vec![b'x'; behind]).expect("space");
            theirs.shutdown(std::net::Shutdown::Write).expect("it is open");
            ours.transport.get_ref().readable().await.expect("its end");
            for _ in 0..3 {
                ours.flush().await.expect("the response is still to come");
                sleep(Duration::from_secs(3600)).await;
            }
            ours.connection.set_streaming(true);
            ours.flush()
                .await
                .expect("requests that were sent before have a moment");
            sleep(Duration::from_secs(2)).await;
            let error = ours.flush().await.expect_err("the stream ends");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
            ours.connection.set_streaming(false);
            ours.flush().await.expect("no stream, no end");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_head_timeout_begins_and_ends_with_a_head() {
        let (mut client, socket) = tokio::io::duplex(1024);
        let (mut socket, connections) = client_socket(socket);
        let mut buffer = [0; 16];

        // Idle times are no heads.
        assert!(timeout(TIMEOUT * 3, socket.read(&mut buffer)).await.is_err());
        // A head that is complete in time, in several pieces; then an idle time.
        for piece in [&b"a"[..], b"b"] {
            client.write_all(piece).await.expect("space");
            socket.read_exact(&mut buffer[..1]).await.expect("a byte");
        }
        client.write_all(b"\r\n\r\n").await.expect("space");
        socket.read_exact(&mut buffer[..4]).await.expect("its end");
        socket.connection.note_request();
        assert!(timeout(TIMEOUT * 3, socket.read(&mut buffer)).await.is_err());
        // A head that arrives before hyper reads it has the whole time from that read on.
        client.write_all(b"c").await.expect("space");
        socket.read_exact(&mut buffer[..1]).await.expect("a byte");
        sleep(TIMEOUT * 2).await;
        let asked = Instant::now();
        let (read, ()) = tokio::join!(socket.read(&mut buffer), async {
            client.write_all(b"d").await.expect("space");
        });
        assert_eq!(read.expect("in time"), 1);
        // A head that is not complete then ends, however many bytes come.
        let drip = async {
            loop {
                client.write_all(b"e").await.expect("space");
                sleep(TIMEOUT / 20).await;
            }
        };
        let error = async {
            loop {
                if let Err(error) = socket.read(&mut buffer[..1]).await {
                    return error;
                }
            }
        };
        let error = tokio::select! {
            error = error => error,
            () = drip => unreachable!("it has no end"),
        };
        let elapsed = asked.elapsed();
        assert!(elapsed >= TIMEOUT && elapsed < TIMEOUT * 2, "{elapsed:?}");
        assert_eq!(
            error.to_string(),
            "the head of a request was not complete after 10s"
        );
        drop(socket);
        assert_eq!(
            (connections.head_timeouts(), connections.write_timeouts()),
            (1, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_refused_head_is_read_within_bounds() {
        // TCP resets a connection that is closed with bytes unread.
        let (socket, client) = unix_pair().await;
        client.set_nonblocking(true).expect("a socket");
        let mut client = tokio::net::UnixStream::from_std(client).expect("a runtime");
        let (mut socket, _connections) = client_socket(socket);
        client.write_all(b"GET / HT").await.expect("space");
        socket.read_exact(&mut [0; 8]).await.expect("it has begun");
        let rest = async move {
            assert_eq!(client.read(&mut [0; 8]).await.expect("the response's end"), 0);
            client.write_all(&[b'x'; 10_000]).await.expect("it is read");
        };
        let (ended, ()) = tokio::join!(socket.shutdown(), rest);
        ended.expect("the peer has closed its side");

        // But not for ever.
        let (socket, mut client) = unix_pair().await;
        let (mut socket, _connections) = client_socket(socket);
        client.write_all(b"GET / HT").expect("space");
        socket.read_exact(&mut [0; 8]).await.expect("it has begun");
        let endless = std::thread::spawn(move || while client.write_all(&[b'x'; 1024]).is_ok() {});
        socket.shutdown().await.expect("enough was read");
        drop(socket);
        endless.join().expect("its socket is closed");
    }
}
