//! Connections of HTTP/1.1: requests are read within the limits of heads, and answered in order.

use std::convert::Infallible;
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Uri, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use log::debug;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connections::{Connection, Limit};
use super::head_timeout::HEAD_TIMEOUT;
use super::own_errors::MAX_HEAD;
use super::router::Handler;
use super::socket::ClientSocket;

/// Most bytes that hyper buffers per connection. A block of frames is passed through without being copied, whatever
/// this is.
const BUFFER: usize = MAX_HEAD as usize;

/// Serves a connection until it ends; `ahead` was read already. `idle_timeout` is how long it may wait for a request.
pub(super) fn serve<T>(
    transport: T,
    ahead: Vec<u8>,
    connection: Arc<Connection>,
    handler: Handler,
    idle_timeout: Duration,
    watcher: Watcher,
) -> impl Future<Output = ()> + Send
where
    T: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
{
    let socket = ClientSocket::new(transport, ahead, Arc::clone(&connection), HEAD_TIMEOUT);
    let requests = Arc::clone(&connection);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        requests.note_request();
        // An older client knows no chunks.
        requests.set_may_hand_over(!requests.is_tls() && request.version() == Version::HTTP_11);
        request.extensions_mut().insert(Arc::clone(&requests));
        // `CONNECT host:1` and other targets without a path are not served, and warp panics when it looks for their
        // path.
        if request.uri().path_and_query().is_none() {
            *request.uri_mut() = Uri::from_static("*");
        }
        let response = handler(request);
        async { Ok::<_, Infallible>(response.await) }
    });
    let exchange = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .max_buf_size(BUFFER)
        // One read may return more than the buffer's limit.
        .max_header_size(MAX_HEAD as usize)
        // A client that has closed its side still gets responses; `hangup` ends its streams.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service);
    Served {
        exchange: watcher.watch(exchange),
        connection,
    }
}

pin_project! {
    /// A connection, and what is noted when it has ended.
    ///
    /// An `async` block that awaits `exchange` would have it twice in memory, where it is captured and where it is awaited:
    /// an idle client would take a tenth more.
    struct Served<F> {
        #[pin]
        exchange: F,
        connection: Arc<Connection>,
    }
}

impl<F: Future<Output = Result<(), hyper::Error>>> Future for Served<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // A client may leave at any time, so an error is nothing to log above debug.
        if let Err(error) = ready!(this.exchange.poll(cx)) {
            if !this.connection.is_handed_over() {
                debug!("{}: {error}", this.connection.peer());
            }
            if error.is_parse_too_large() {
                this.connection.close_by(Limit::HeadSize);
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of_val;

    use tokio::net::UnixStream;
    use warp::reply::Reply;

    use super::super::connection_limit::Share;
    use super::super::connections::Connections;
    use super::super::peer::Peer;
    use super::super::timed_socket::TimedSocket;
    use super::*;

    #[tokio::test]
    async fn an_idle_connection_is_small() {
        let connections = Arc::new(Connections::new(Duration::from_secs(30)));
        let connection = connections.accept(Share::unlimited(Peer::Unix), None, false);
        let (socket, _client) = UnixStream::pair().expect("a pair of sockets");
        let socket = TimedSocket::new(socket, Arc::clone(&connection), Duration::from_secs(30));
        let handler: Handler = Arc::new(|_| Box::pin(async { warp::reply().into_response() }));
        let graceful = hyper_util::server::graceful::GracefulShutdown::new();
        let served = serve(
            socket,
            Vec::new(),
            connection,
            handler,
            Duration::from_secs(75),
            graceful.watcher(),
        );
        // With the 80 bytes of a task of tokio, it fits into 1,280, a size of jemalloc's.
        let size = size_of_val(&served);
        assert!(size <= 1200, "{size} bytes");
    }
}
