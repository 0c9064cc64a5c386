//! Which version of HTTP a connection without TLS speaks, where both are served: a client of HTTP/2 begins with the
//! preface (RFC 9113, section 3.4), which no request of HTTP/1.1 resembles.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::timeout;

/// The first bytes of a client of HTTP/2.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The version that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads until the protocol is certain; returns it with the bytes that were read. The first byte may take `idle`, the
/// others `head`.
///
/// # Errors
/// When the socket fails, or [`io::ErrorKind::TimedOut`] after `head`; no protocol when none was read within `idle`.
pub(super) async fn read_protocol(
    socket: &mut (impl AsyncRead + Unpin),
    idle: Duration,
    head: Duration,
) -> io::Result<Option<(Protocol, Vec<u8>)>> {
    let mut start = Vec::with_capacity(PREFACE.len());
    let mut buffer = [0; PREFACE.len()];
    loop {
        let left = PREFACE.len() - start.len();
        let limit = if start.is_empty() { idle } else { head };
        let Ok(count) = timeout(limit, socket.read(&mut buffer[..left])).await else {
            if start.is_empty() {
                return Ok(None);
            }
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the preface of HTTP/2 was not complete after {head:?}"),
            ));
        };
        let count = count?;
        start.extend_from_slice(&buffer[..count]);
        if count == 0 || !PREFACE.starts_with(&start) {
            return Ok(Some((Protocol::Http1, start)));
        }
        if start == PREFACE {
            return Ok(Some((Protocol::Http2, start)));
        }
    }
}

/// Most bytes that [`read_start`] returns: a request of a browser is shorter, mostly.
const START: usize = 1024;

/// Reads the first bytes that come within `idle`; none at the end, `None` if nothing comes.
///
/// # Errors
/// When the socket fails.
pub(super) async fn read_start(
    socket: &mut (impl AsyncRead + Unpin),
    idle: Duration,
) -> io::Result<Option<Vec<u8>>> {
    let read = poll_fn(|cx| {
        // Not a part of the future, which exists for as long as the client is silent.
        let mut start = [MaybeUninit::uninit(); START];
        let mut start = ReadBuf::uninit(&mut start);
        ready!(Pin::new(&mut *socket).poll_read(cx, &mut start))?;
        Poll::Ready(Ok(start.filled().to_vec()))
    });
    timeout(idle, read).await.ok().transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const IDLE: Duration = Duration::from_secs(60);
    const HEAD: Duration = Duration::from_secs(10);

    async fn read(pieces: &[&[u8]]) -> io::Result<Option<(Protocol, Vec<u8>)>> {
        let (mut client, mut socket) = tokio::io::duplex(1024);
        let write = async {
            for piece in pieces {
                client.write_all(piece).await.expect("space");
                tokio::task::yield_now().await;
            }
        };
        let (read, ()) = tokio::join!(read_protocol(&mut socket, IDLE, HEAD), write);
        read
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_whole_preface_is_http_2() {
        let found = read(&[PREFACE]).await.expect("read").expect("in time");
        assert_eq!(found, (Protocol::Http2, PREFACE.to_vec()));
        let bytes: Vec<&[u8]> = PREFACE.chunks(1).collect();
        let found = read(&bytes).await.expect("read").expect("in time");
        assert_eq!(found, (Protocol::Http2, PREFACE.to_vec()));
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/1.1",
            b"PROPFIND / HTTP/1.1",
            b"\r\n",
        ] {
            let (protocol, start) = read(&[other]).await.expect("read").expect("in time");
            assert_eq!(protocol, Protocol::Http1);
            assert!(other.starts_with(&start) && !start.is_empty(), "{start:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_or_half_a_preface_is_not_waited_for() {
        let (_client, mut socket) = tokio::io::duplex(1024);
        let idle = read_protocol(&mut socket, IDLE, HEAD).await;
        assert_eq!(idle.expect("no error"), None);
        let idle = read_start(&mut socket, IDLE).await;
        assert_eq!(idle.expect("no error"), None);
        let (mut client, mut socket) = tokio::io::duplex(1024);
        client.write_all(&PREFACE[..5]).await.expect("space");
        let error = read_protocol(&mut socket, IDLE, HEAD)
            .await
            .expect_err("too slow");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_first_is_read_as_it_comes() {
        let (mut client, mut socket) = tokio::io::duplex(2 * START);
        client.write_all(b"GET").await.expect("space");
        let start = read_start(&mut socket, IDLE).await.expect("no error");
        assert_eq!(start.as_deref(), Some(&b"GET"[..]));
        client.write_all(&[b'x'; START + 1]).await.expect("space");
        let start = read_start(&mut socket, IDLE).await.expect("no error");
        assert_eq!(start, Some(vec![b'x'; START]));
        drop(client);
        let rest = read_start(&mut socket, IDLE).await.expect("no error");
        assert_eq!(rest.as_deref(), Some(&b"x"[..]));
        let end = read_start(&mut socket, IDLE).await.expect("no error");
        assert_eq!(end.as_deref(), Some(&b""[..]));
    }
}
