//! Accepts connections and handles their requests, until it is stopped and all connections have ended.
//!
//! ```text
//! accept ──► head limits (socket, hyper) ──► base path ──► CORS ──► routes ──► handler
//! ```
//! [`serve`] accepts, `serve_connection` applies the limits of a connection, [`handler`] handles each request, and
//! [`router`](super::router) finds its handler. warp's own server gives no hold on connections that a shutdown could wait
//! for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderValue, Request, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use log::debug;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use warp::reply::{Reply, Response};

use super::base_path::{NotBelow, fold_slashes};
use super::connections::{Connection, Connections, Limit};
use super::cors::is_preflight;
use super::head_timeout::HEAD_TIMEOUT;
use super::listener::Listener;
use super::not_found;
use super::peer::Peer;
use super::router::Handler;
use super::socket::ClientSocket;
use super::state::AppState;

/// How long a connection may be idle between requests: longer than proxies keep theirs (60 s), or they would reuse
/// closed ones. A head that has begun has less time, see [`head_timeout`](super::head_timeout).
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Most bytes of a request's head; a larger one is answered by 431. An event id and a dozen cookies fit.
const MAX_HEAD: usize = 32 * 1024;

/// Most bytes that hyper buffers per connection. A block of frames is passed through without being copied, whatever
/// this is.
const BUFFER: usize = MAX_HEAD;

/// Most bytes the kernel holds for a client that does not read (it doubles this for itself): enough
/// for a burst, little enough that many stalled clients do not matter.
const SEND_BUFFER: usize = 128 * 1024;

/// Pause in accepting while no descriptor is left, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Stops a listener and its connections. It is dropped once the listener accepts no more, which the holder of the switch
/// can wait for.
#[derive(Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// The switch, and its receiver.
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (switch, receiver) = watch::channel(false);
        (switch, Self(receiver))
    }

    async fn wait(&mut self) {
        // A switch that was dropped counts as thrown.
        let _ = self.0.wait_for(|&is_thrown| is_thrown).await;
    }
}

/// Accepts and serves until it is stopped, then waits for the connections to end: a response that is under way, as a
/// stream is, is completed. The caller bounds that wait.
///
/// # Errors
/// When the operating system does not let the listener be polled.
pub async fn serve(
    listener: Listener,
    handler: Handler,
    connections: Arc<Connections>,
    mut stopping: Stopping,
) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            accept_all(&listener, &handler, &connections, &graceful, &mut stopping).await;
        }
        Listener::Unix(listener, _file) => {
            let listener = UnixListener::from_std(listener)?;
            accept_all(&listener, &handler, &connections, &graceful, &mut stopping).await;
        }
    }
    drop(stopping);
    graceful.shutdown().await;
    Ok(())
}

/// A listener of one kind.
trait Accept {
    type Socket: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static;

    async fn accept_one(&self, write_timeout: Duration) -> io::Result<(Self::Socket, Peer)>;
}

impl Accept for TcpListener {
    type Socket = TcpStream;

    async fn accept_one(&self, write_timeout: Duration) -> io::Result<(TcpStream, Peer)> {
        let (stream, peer) = self.accept().await?;
        if let Err(error) = set_options(&stream, write_timeout) {
            debug!("{peer}: {error}");
        }
        // A socket of both families shows IPv4 as `::ffff:10.0.0.1`.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok((stream, Peer::Tcp(peer)))
    }
}

impl Accept for UnixListener {
    type Socket = UnixStream;

    async fn accept_one(&self, _write_timeout: Duration) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, Peer::Unix))
    }
}

fn set_options(stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    // A record must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    // A peer that is gone acknowledges nothing, also while its socket still has space (RFC 5482).
    socket.set_tcp_user_timeout(Some(write_timeout))
}

/// Accepts connections until stopped, as long as there are descriptors for them beside those that reading Kafka needs.
/// While there are none, connections wait in the queue of the operating system.
async fn accept_all<L: Accept>(
    listener: &L,
    handler: &Handler,
    connections: &Arc<Connections>,
    graceful: &GracefulShutdown,
    stopping: &mut Stopping,
) {
    loop {
        let is_paused = if connections.can_accept() {
            let accepted = tokio::select! {
                accepted = listener.accept_one(connections.write_timeout()) => accepted,
                () = stopping.wait() => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    serve_connection(socket, connections.accept(peer), handler, connections, graceful);
                    false
                }
                // The client has disconnected already, and others wait.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => false,
                Err(error) => {
                    connections.count_accept_pause(&error);
                    true
                }
            }
        } else {
            connections.count_accept_pause(&"the limit of descriptors leaves none for more");
            true
        };
        if is_paused {
            tokio::select! {
                () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                () = stopping.wait() => return,
            }
        }
    }
}

/// Reads requests from a connection within the limits of heads, and writes responses within the write timeout.
fn serve_connection<S>(
    socket: S,
    connection: Arc<Connection>,
    handler: &Handler,
    connections: &Connections,
    graceful: &GracefulShutdown,
) where
    S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
{
    let write_timeout = connections.write_timeout();
    let socket = ClientSocket::new(socket, Arc::clone(&connection), write_timeout, HEAD_TIMEOUT);
    let handler = Arc::clone(handler);
    let requests = Arc::clone(&connection);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        requests.note_request();
        request.extensions_mut().insert(Arc::clone(&requests));
        // `CONNECT host:1` and other targets without a path are not served, and warp panics when it looks for their path.
        if request.uri().path_and_query().is_none() {
            *request.uri_mut() = Uri::from_static("*");
        }
        let response = handler(request);
        async { Ok::<_, std::convert::Infallible>(response.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(BUFFER)
        // One read may return more than the buffer's limit.
        .max_header_size(MAX_HEAD)
        // A client that has closed its side still gets responses; `hangup` ends its streams.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service);
    let served = graceful.watch(served);
    tokio::spawn(async move {
        // A client may leave at any time, so an error is nothing to log above debug.
        if let Err(error) = served.await {
            debug!("{}: {error}", connection.peer());
            if error.is_parse_too_large() {
                connection.close_by(Limit::HeadSize);
            }
        }
    });
}

/// Handles requests: base path, CORS, then `routes`.
pub(crate) fn handler(state: Arc<AppState>, routes: Handler) -> Handler {
    Arc::new(move |request| Box::pin(handle(Arc::clone(&state), Arc::clone(&routes), request)))
}

async fn handle(state: Arc<AppState>, routes: Handler, mut request: Request<Incoming>) -> Response {
    let settings = state.requests();
    fold_slashes(request.uri_mut());
    let stripped = settings.base_path.strip(request.uri_mut());
    let allowed = settings.cors.allowed_origin(request.headers());
    let mut response = if allowed.is_some() && is_preflight(&request) {
        settings.cors.preflight()
    } else {
        match stripped {
            Ok(()) => routes(request).await,
            Err(NotBelow::NoSlash(location)) => redirect(&location),
            Err(NotBelow::Outside) => not_found::error(&state, request.uri().path()).into_response(),
        }
    };
    settings.cors.add_headers(response.headers_mut(), allowed);
    response
}

fn redirect(location: &str) -> Response {
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
