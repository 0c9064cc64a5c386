//! A request to the daemon itself, over a connection that never leaves the process, for the watchdog.
//!
//! A connection to a listener could fail by limits and a lack of descriptors, which must not end a daemon that serves
//! thousands of clients. This connection is a pair of sockets, opened once; its requests use the same reactor, protocol
//! and routes as those of clients.

use std::convert::Infallible;
use std::io;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use log::debug;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::router::Handler;

/// The response has no body, so its head is all of it (RFC 9110, section 9.3.2).
const REQUEST: &[u8] = b"HEAD /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

const GOOD: &[u8] = b"HTTP/1.1 200 ";

#[derive(Debug)]
pub(crate) struct SelfCheck {
    socket: UnixStream,
    /// The bytes of the response so far; `None` if no request is under way.
    answer: Option<Vec<u8>>,
}

impl SelfCheck {
    /// A connection that `handler` answers. To be called within a runtime.
    pub(crate) fn new(handler: Handler) -> io::Result<Self> {
        let (socket, served) = UnixStream::pair()?;
        let service = service_fn(move |request: Request<Incoming>| {
            let response = handler(request);
            async { Ok::<_, Infallible>(response.await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(served), service);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("self-check connection: {error}");
            }
        });
        Ok(Self { socket, answer: None })
    }

    /// Waits for a response, to a request that is sent now unless an earlier one is still under way.
    pub(crate) async fn answers(&mut self) -> io::Result<()> {
        if self.answer.is_none() {
            self.answer = Some(Vec::new());
            self.socket.write_all(REQUEST).await?;
        }
        loop {
            let answer = self.answer.get_or_insert_default();
            if answer.ends_with(b"\r\n\r\n") {
                let is_good = answer.starts_with(GOOD);
                self.answer = None;
                return if is_good {
                    Ok(())
                } else {
                    Err(io::Error::other("/health/live does not answer 200"))
                };
            }
            if self.socket.read_buf(answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
