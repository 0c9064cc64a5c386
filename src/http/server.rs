//! Accepts connections and handles their requests, until it is stopped and all connections have ended.
//!
//! ```text
//! accept ──► TLS ──► HTTP/1.1 (socket, hyper) ──► host ──► base path ──► CORS ──► routes ──► handler
//!                └──► HTTP/2 ───────────────────────┘
//! ```
//! [`serve`] accepts, a [`Transport`] and `http2` apply the limits of a connection, [`handler`] handles each request, and
//! [`router`](super::router) finds its handler. warp's own server gives no hold on connections that a shutdown could wait
//! for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{LOCATION, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use log::debug;
use percent_encoding::{CONTROLS, utf8_percent_encode};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use warp::reply::{Reply, Response};

use super::base_path::{NotBelow, fold_slashes};
use super::connection_limit::Share;
use super::connections::{Connection, Connections, Limit};
use super::cors::is_preflight;
use super::error::{ApiError, ErrorCode};
use super::exposure::Surface;
use super::head_timeout::HEAD_TIMEOUT;
use super::http1;
use super::http2;
use super::listener::Listener;
use super::not_found;
use super::own_errors::MAX_HEAD;
use super::peer::Peer;
use super::prefixed::Prefixed;
use super::protocol::{Protocol, read_protocol, read_start};
use super::router::Handler;
use super::state::{AppState, RequestSettings};
use super::timed_socket::TimedSocket;
use super::tls::Tls;

/// How long a connection may be idle between requests: longer than proxies keep theirs (60 s), or they would reuse
/// closed ones. A head that has begun has less time, see [`head_timeout`](super::head_timeout).
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Most bytes of a request's path and query; a longer one is answered by 414. The longest id, escaped, and the longest
/// filter fit together.
const MAX_TARGET: usize = 16 * 1024;

/// Most bytes that the kernel holds for a client (it doubles this for itself), nearly all of them on their way to it.
const SEND_BUFFER: usize = 128 * 1024;

/// Most bytes of them that it keeps unsent, and the rest of a segment: what a client that does not read pins, while one
/// that keeps up has none.
const MOST_UNSENT: u32 = 32 * 1024;

/// Pause in accepting while no descriptor is left, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a listener that ends waits for the first bytes of a connection: they may have arrived already, and closing the socket
/// with them unread would reset it.
const GRACE: Duration = Duration::from_millis(100);

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

/// The transport of HTTP at a listener.
#[derive(Debug, Clone)]
pub enum Transport {
    /// The socket.
    Plain,
    /// TLS over TCP.
    Tls(Arc<Tls>),
}

impl Transport {
    /// Waits until another connection may begin.
    async fn wait(&self) {
        match self {
            Self::Tls(tls) => tls.wait().await,
            Self::Plain => {}
        }
    }
}

/// Accepts and serves until it is stopped, then waits for the connections to end: a response that is under way, as a
/// stream is, is completed. The caller bounds that wait.
///
/// # Errors
/// When the operating system does not let the listener be polled.
pub async fn serve(
    listener: Listener,
    transport: Transport,
    surface: Surface,
    handler: Handler,
    connections: Arc<Connections>,
    mut stopping: Stopping,
) -> io::Result<()> {
    let (end, ending) = watch::channel(false);
    let service = Service {
        surface,
        handler,
        connections,
        graceful: GracefulShutdown::new(),
        ending,
    };
    // Until all its connections have ended.
    let _served = match &listener {
        Listener::Tcp(listener) => {
            let port = listener.local_addr()?.port();
            Some(service.connections.send_queues().serve(port))
        }
        Listener::Unix(..) => None,
    };
    match (listener, &transport) {
        (Listener::Tcp(listener), Transport::Plain) => {
            let port = listener.local_addr()?.port();
            let listener = TcpListener::from_std(listener)?;
            let begin = |socket, peer| service.begin(socket, peer, Some(port));
            accept_all(&listener, &service.connections, &transport, begin, &mut stopping).await;
        }
        (Listener::Unix(listener, _file), Transport::Plain) => {
            let listener = UnixListener::from_std(listener)?;
            let begin = |socket, peer| service.begin(socket, peer, None);
            accept_all(&listener, &service.connections, &transport, begin, &mut stopping).await;
        }
        #[cfg(feature = "rustls")]
        (Listener::Tcp(listener), Transport::Tls(tls)) => {
            let listener = TcpListener::from_std(listener)?;
            let begin = |socket, peer| service.begin_tls(tls, socket, peer);
            accept_all(&listener, &service.connections, &transport, begin, &mut stopping).await;
        }
        (_, Transport::Tls(_)) => {
            return Err(io::Error::other("TLS is served over TCP only"));
        }
    }
    drop(stopping);
    // Fails only if no connection listens to it.
    let _ = end.send(true);
    service.graceful.shutdown().await;
    drop(service.ending);
    // Connections that were handed over are none of hyper's.
    end.closed().await;
    Ok(())
}

/// A listener of one kind.
trait Accept {
    type Socket: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static;

    async fn accept_one(&self, connections: &Connections) -> io::Result<(Self::Socket, Peer)>;
}

impl Accept for TcpListener {
    type Socket = TcpStream;

    async fn accept_one(&self, connections: &Connections) -> io::Result<(TcpStream, Peer)> {
        let (stream, peer) = self.accept().await?;
        if let Err(error) = set_options(&stream, connections.write_timeout()) {
            debug!("{peer}: {error}");
        }
        // A socket of both families shows IPv4 as `::ffff:10.0.0.1`.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok((stream, Peer::Tcp(peer)))
    }
}

impl Accept for UnixListener {
    type Socket = UnixStream;

    async fn accept_one(&self, _: &Connections) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, Peer::Unix))
    }
}

fn set_options(stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    // A record must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
    // A peer that is gone acknowledges nothing, also while its socket still has space (RFC 5482).
    socket.set_tcp_user_timeout(Some(write_timeout))
}

/// Accepts connections until stopped, as long as there are descriptors for them beside those that reading Kafka needs.
/// While there are none, connections wait in the queue of the operating system; so they do while too many handshakes
/// are under way.
async fn accept_all<L: Accept>(
    listener: &L,
    connections: &Connections,
    transport: &Transport,
    begin: impl Fn(L::Socket, Peer),
    stopping: &mut Stopping,
) {
    loop {
        let is_paused = if connections.can_accept() {
            let accept = async {
                transport.wait().await;
                listener.accept_one(connections).await
            };
            let accepted = tokio::select! {
                accepted = accept => accepted,
                () = stopping.wait() => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    begin(socket, peer);
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

/// The state that the connections of a listener share.
struct Service {
    surface: Surface,
    handler: Handler,
    connections: Arc<Connections>,
    graceful: GracefulShutdown,
    /// True once connections should end.
    ending: watch::Receiver<bool>,
}

impl Service {
    /// Counts a connection for its address; `None` if it has to be closed. Operators are not limited: they have to get in
    /// while clients flood the daemon.
    fn admit(&self, peer: Peer) -> Option<Share> {
        match self.surface {
            Surface::Public => self.connections.admit(peer),
            Surface::Admin => Some(Share::unlimited(peer)),
        }
    }

    /// Serves a connection without TLS.
    fn begin<S>(&self, socket: S, peer: Peer, port: Option<u16>)
    where
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        let Some(share) = self.admit(peer) else {
            return;
        };
        let connection = self.connections.accept(share, port, false);
        connection.hold_open(self.ending.clone());
        let write_timeout = self.connections.write_timeout();
        let socket = TimedSocket::new(socket, Arc::clone(&connection), write_timeout);
        let has_http2 = self.connections.has_http2();
        tokio::spawn(self.session(connection).distinguish(socket, has_http2));
    }

    /// Serves a connection with TLS.
    #[cfg(feature = "rustls")]
    fn begin_tls(&self, tls: &Arc<Tls>, socket: TcpStream, peer: Peer) {
        let Some(share) = self.admit(peer) else {
            return;
        };
        let Some(handshake) = tls.admit(peer) else {
            return;
        };
        let connection = self.connections.accept(share, None, true);
        let write_timeout = self.connections.write_timeout();
        let socket = TimedSocket::new(socket, Arc::clone(&connection), write_timeout);
        let mut session = self.session(connection);
        tokio::spawn(async move {
            let transport = tokio::select! {
                transport = handshake.run(socket) => transport,
                _ = session.ending.wait_for(|&is_ending| is_ending) => None,
            };
            // A task of its own, which needs no memory for the handshake.
            match transport {
                Some(transport) if transport.is_http2() => session.serve_http2(transport),
                Some(transport) => session.serve_http1(transport, Vec::new()),
                None => {}
            }
        });
    }

    fn session(&self, connection: Arc<Connection>) -> Session {
        Session {
            handler: Arc::clone(&self.handler),
            limits: http2::Limits {
                max_streams: self.connections.http2_streams(),
                max_head: MAX_HEAD,
                idle_timeout: IDLE_TIMEOUT,
                write_timeout: self.connections.write_timeout(),
            },
            connection,
            watcher: self.graceful.watcher(),
            ending: self.ending.clone(),
        }
    }
}

/// A connection whose protocol is yet to be known.
struct Session {
    handler: Handler,
    connection: Arc<Connection>,
    limits: http2::Limits,
    watcher: Watcher,
    ending: watch::Receiver<bool>,
}

impl Session {
    /// Serves the protocol that the client begins with. Until it begins, the connection has no buffer of hyper's: many that
    /// come at once would each fill its own.
    async fn distinguish<S>(mut self, mut socket: TimedSocket<S>, has_http2: bool)
    where
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        let read = {
            let begin = async {
                if has_http2 {
                    read_protocol(&mut socket, IDLE_TIMEOUT, HEAD_TIMEOUT).await
                } else {
                    let start = read_start(&mut socket, IDLE_TIMEOUT).await?;
                    Ok(start.map(|start| (Protocol::Http1, start)))
                }
            };
            let mut begin = pin!(begin);
            let ending = async { self.ending.wait_for(|&is_ending| is_ending).await.map(|_| ()) };
            tokio::select! {
                biased;
                read = &mut begin => read,
                _ = ending => match timeout(GRACE, begin).await {
                    Ok(read) => read,
                    Err(_) => return,
                },
            }
        };
        match read {
            Ok(Some((Protocol::Http1, start))) => self.serve_http1(socket, start),
            Ok(Some((Protocol::Http2, start))) => self.serve_http2(Prefixed::new(start, socket)),
            Ok(None) => {}
            Err(error) => {
                debug!("{}: {error}", self.connection.peer());
                if error.kind() == io::ErrorKind::TimedOut {
                    self.connection.close_by(Limit::HeadTimeout);
                }
            }
        }
    }

    fn serve_http1<T>(self, transport: T, ahead: Vec<u8>)
    where
        T: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        tokio::spawn(http1::serve(
            transport,
            ahead,
            self.connection,
            self.handler,
            IDLE_TIMEOUT,
            self.watcher,
        ));
    }

    fn serve_http2<T>(self, transport: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        tokio::spawn(http2::serve(
            transport,
            self.connection,
            self.handler,
            self.limits,
            self.ending,
            self.watcher,
        ));
    }
}

/// Handles requests: host, base path, CORS, then `routes`. Operators' paths have no prefix, and no page may read them.
pub(crate) fn handler(state: Arc<AppState>, routes: Handler, surface: Surface) -> Handler {
    Arc::new(move |mut request| {
        let target = request.uri().path_and_query();
        if target.is_some_and(|target| target.as_str().len() > MAX_TARGET) {
            let response = uri_too_long().into_response();
            return Box::pin(async { response });
        }
        let settings = state.requests();
        if let Err(refusal) = state.check_host(&settings, &request, surface == Surface::Admin) {
            let response = refusal.into_response();
            return Box::pin(async { response });
        }
        match surface {
            Surface::Public => Box::pin(handle(Arc::clone(&state), settings, Arc::clone(&routes), request)),
            Surface::Admin => {
                fold_slashes(request.uri_mut());
                routes(request)
            }
        }
    })
}

async fn handle(
    state: Arc<AppState>,
    settings: Arc<RequestSettings>,
    routes: Handler,
    mut request: Request<Incoming>,
) -> Response {
    let connection = request.extensions().get::<Arc<Connection>>();
    let is_tls = connection.is_some_and(|connection| connection.is_tls());
    fold_slashes(request.uri_mut());
    let stripped = settings.base_path.strip(request.uri_mut());
    let path = request.uri().path();
    let cors = settings.cors_at(&state.shown(), path);
    // Other sites may show the files of the page, as any images and scripts.
    let is_file = state.assets().holds(path);
    let allowed = cors.allowed_origin(request.headers());
    let mut response = if allowed.is_some() && is_preflight(&request) {
        cors.preflight(request.headers())
    } else {
        match stripped {
            Ok(()) => routes(request).await,
            Err(NotBelow::NoSlash(location)) => redirect(&location),
            Err(NotBelow::Outside) => {
                not_found::error(&state, Surface::Public, request.uri().path()).into_response()
            }
        }
    };
    cors.add_headers(response.headers_mut(), allowed);
    if !is_file {
        cors.add_resource_policy(response.headers_mut());
    }
    if is_tls && let Some(hsts) = &settings.hsts {
        let headers = response.headers_mut();
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    response
}

fn uri_too_long() -> ApiError {
    let message = format!("the path and query have more than {MAX_TARGET} bytes");
    ApiError::new(StatusCode::URI_TOO_LONG, ErrorCode::UriTooLong, message)
}

fn redirect(location: &str) -> Response {
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    // A client may send other letters unescaped, which a URL in a header must not have.
    let location = utf8_percent_encode(location, CONTROLS).to_string();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests;
