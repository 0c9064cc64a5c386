//! Asks the service itself whether it answers, over a connection that never leaves the process.
//!
//! A connection to an address would be refused where clients are (a limit, no descriptors left), which is
//! no reason to end a daemon that serves thousands. This one is a pair of sockets, opened once: a request
//! over it takes the same reactor, protocol and routes as those of clients.

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

/// An answer to this has no body, so its head is all of it (RFC 9110, section 9.3.2).
const QUESTION: &[u8] = b"HEAD /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// How an answer begins.
const GOOD: &[u8] = b"HTTP/1.1 200 ";

/// A connection to the service.
#[derive(Debug)]
pub struct SelfCheck {
    socket: UnixStream,
    /// What has come of the answer to a question; `None` where nothing is asked.
    answer: Option<Vec<u8>>,
}

impl SelfCheck {
    /// A connection that `handler` answers. To be called within a runtime.
    ///
    /// # Errors
    /// When the operating system gives no sockets.
    pub fn new(handler: Handler) -> io::Result<Self> {
        let (socket, served) = UnixStream::pair()?;
        let service = service_fn(move |request: Request<Incoming>| {
            let response = handler(request);
            async { Ok::<_, Infallible>(response.await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(served), service);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("the connection to ourselves: {error}");
            }
        });
        Ok(Self { socket, answer: None })
    }

    /// Waits for the answer to a question, asked now unless an earlier one was not waited for to its end.
    ///
    /// # Errors
    /// When the service answers that it does not live, or not at all any more.
    pub async fn answers(&mut self) -> io::Result<()> {
        if self.answer.is_none() {
            self.answer = Some(Vec::new());
            self.socket.write_all(QUESTION).await?;
        }
        loop {
            let answer = self.answer.get_or_insert_default();
            if answer.ends_with(b"\r\n\r\n") {
                let is_good = answer.starts_with(GOOD);
                self.answer = None;
                return if is_good {
                    Ok(())
                } else {
                    Err(io::Error::other("/health/live is not well"))
                };
            }
            if self.socket.read_buf(answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
