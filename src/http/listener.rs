//! Binds addresses, accepts connections and serves them until drained.
//!
//! warp can serve by itself, but then binding fails by a panic and there is no hold on connections.
//! Here an address that cannot be bound is an error before anything starts, and every connection is
//! watched, so that a shutdown can wait for those still busy.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use listenfd::ListenFd;
use log::debug;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::connections::Connections;
use super::hangup::Hangup;
use super::head_timeout::{HEAD_TIMEOUT, HeadTimeout};
use super::unix::{self, SocketFile};
use super::write_timeout::WriteTimeout;
use crate::config::socket::SocketAccess;

/// What stands for the sockets that systemd hands over.
pub const SYSTEMD: &str = "systemd";

/// What begins the address of all interfaces, IPv6 and IPv4.
pub const ANY_ADDRESS: &str = "*:";

/// Connections that may wait to be accepted: a whole audience reconnects at once after a restart.
const BACKLOG: i32 = 4096;

/// How long a connection may rest between requests: longer than proxies keep theirs (60 s), or they
/// would meet closed ones. A head that has begun has less time, see [`heads`](super::head_timeout).
const REST_TIMEOUT: Duration = Duration::from_secs(75);

/// Most bytes hyper buffers per connection, and so most bytes of a request's head; a larger one is
/// answered by 431. An event id and a dozen cookies fit. A block of frames is passed through without
/// being copied, whatever this is.
const BUFFER: usize = 32 * 1024;

/// Most bytes the kernel holds for a client that does not read (it doubles this for itself): enough
/// for a burst, little enough that many stalled clients do not matter.
const SEND_BUFFER: usize = 128 * 1024;

/// Pause in accepting while there is no descriptor, so that running out of them does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// An address that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {remedy}")]
pub struct BindError {
    address: String,
    source: io::Error,
    remedy: &'static str,
}

impl BindError {
    /// What the operating system says.
    #[must_use]
    pub fn cause(&self) -> &io::Error {
        &self.source
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        self.remedy
    }

    fn new(address: &str, source: io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another program serves it: stop that, or choose another with --listen"
            }
            _ if unix::is_about_access(&source) => unix::ACCESS_REMEDY,
            io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            _ if address == SYSTEMD => "start it by kafka-sse-bridge.socket, or name addresses",
            _ => "correct listen in [http]",
        };
        Self {
            address: address.to_owned(),
            source,
            remedy,
        }
    }
}

/// A bound address, not yet served.
#[derive(Debug)]
pub enum Listener {
    /// Over TCP.
    Tcp(std::net::TcpListener),
    /// Over a Unix socket, whose file is ours unless systemd made it.
    Unix(std::os::unix::net::UnixListener, Option<SocketFile>),
}

impl Listener {
    /// Binds `host:port` (every address the host has), `*:port` (every address of this machine) or `unix:/path`, or
    /// shares what systemd has bound. To the file of a Unix socket `access` applies.
    ///
    /// # Errors
    /// When one of the addresses cannot be bound.
    pub fn bind(address: &str, access: &SocketAccess) -> Result<Vec<Self>, BindError> {
        let failed = |error| BindError::new(address, error);
        if address == SYSTEMD {
            return inherited().map_err(failed);
        }
        if let Some(path) = address.strip_prefix("unix:") {
            let (listener, file) = unix::bind(Path::new(path), access, BACKLOG).map_err(failed)?;
            return Ok(vec![Self::Unix(listener, Some(file))]);
        }
        let sockets = tcp_sockets(address).map_err(failed)?;
        sockets
            .into_iter()
            .map(|socket| {
                socket.listen(BACKLOG)?;
                Ok(Self::Tcp(socket.into()))
            })
            .collect::<io::Result<_>>()
            .map_err(failed)
    }

    /// Whether `host:port` could be bound now. Nothing is served, not for a moment.
    ///
    /// # Errors
    /// What [`Listener::bind`] would say of the first address that cannot be.
    pub fn try_tcp(address: &str) -> Result<(), BindError> {
        tcp_sockets(address)
            .map(drop)
            .map_err(|error| BindError::new(address, error))
    }

    /// The URL at which it is served.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}"),
                Err(_) => "http://?".to_owned(),
            },
            Self::Unix(_, Some(file)) => format!("unix:{}", file.path().display()),
            Self::Unix(listener, None) => match listener.local_addr() {
                Ok(address) => format!(
                    "unix:{}",
                    address.as_pathname().unwrap_or(Path::new("?")).display()
                ),
                Err(_) => "unix:?".to_owned(),
            },
        }
    }
}

/// A socket that systemd has bound and handed over.
#[derive(Debug)]
enum Inherited {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Those sockets, or why they cannot be had; `None` until somebody wants them. Kept for the life of the
/// process: the environment names them by numbers, which would be others' once they were closed, and an
/// address that a reload takes away may come back.
static INHERITED: Mutex<Option<Result<Vec<Inherited>, String>>> = Mutex::new(None);

/// The sockets that systemd has bound and handed over (`sd_listen_fds(3)`).
fn inherited() -> io::Result<Vec<Listener>> {
    let mut kept = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    let sockets = kept.get_or_insert_with(|| take_inherited().map_err(|error| error.to_string()));
    let sockets = sockets
        .as_ref()
        .map_err(|error| io::Error::other(error.clone()))?;
    if sockets.is_empty() {
        return Err(io::Error::other("systemd has handed over no socket"));
    }
    let listener = |socket: &Inherited| match socket {
        Inherited::Tcp(socket) => socket.try_clone().map(Listener::Tcp),
        Inherited::Unix(socket) => socket.try_clone().map(|socket| Listener::Unix(socket, None)),
    };
    sockets.iter().map(listener).collect()
}

fn take_inherited() -> io::Result<Vec<Inherited>> {
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        sockets.push(match handed.take_tcp_listener(index) {
            Ok(Some(socket)) => {
                socket.set_nonblocking(true)?;
                Inherited::Tcp(socket)
            }
            Ok(None) => continue,
            // Of another kind; then it stays to be taken as that.
            Err(_) => match handed.take_unix_listener(index)? {
                Some(socket) => {
                    socket.set_nonblocking(true)?;
                    Inherited::Unix(socket)
                }
                None => continue,
            },
        });
    }
    Ok(sockets)
}

/// Sockets that are bound and do not listen, for `host:port` or `*:port`.
fn tcp_sockets(address: &str) -> io::Result<Vec<Socket>> {
    let Some(port) = address.strip_prefix(ANY_ADDRESS) else {
        return address.to_socket_addrs()?.map(tcp_socket).collect();
    };
    let port = port.parse().map_err(io::Error::other)?;
    // One socket for both families: with port 0 two would get different ports.
    let socket = match tcp_socket((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if has_no_ipv6(&error) => tcp_socket((Ipv4Addr::UNSPECIFIED, port).into()),
        bound => bound,
    };
    Ok(vec![socket?])
}

/// Whether the error says that this machine has no IPv6: the kernel was built or started without it, a sandbox
/// forbids the address family, or `disable_ipv6` is set.
fn has_no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT)
        )
}

/// A socket that is bound and does not listen.
fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // `[::]` is IPv4 too, also where net.ipv6.bindv6only says otherwise.
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the last connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Tells a listener and its connections to end. It is dropped as soon as the listener accepts no more,
/// which whoever has the switch can wait for.
#[derive(Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// The switch, and what watches it.
    #[must_use]
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (switch, watched) = watch::channel(false);
        (switch, Self(watched))
    }

    async fn wait(&mut self) {
        // A switch that is gone is a switch thrown.
        let _ = self.0.wait_for(|&is_thrown| is_thrown).await;
    }
}

/// Accepts and serves until told to stop, then waits for the connections to end: an answer that is under
/// way, as a stream is, is still given. Whoever calls this bounds that wait.
///
/// # Errors
/// When the operating system does not let the listener be polled.
pub async fn serve<S, B>(
    listener: Listener,
    service: S,
    connections: Arc<Connections>,
    mut stopping: Stopping,
) -> io::Result<()>
where
    S: Service<B>,
    B: Body,
{
    let graceful = GracefulShutdown::new();
    match listener {
        Listener::Tcp(listener) => {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            while wait_for_room(&connections, &mut stopping).await {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopping.wait() => break,
                };
                match accepted {
                    Ok((stream, peer)) => {
                        if let Err(error) = tune(&stream, connections.write_timeout()) {
                            debug!("{peer}: {error}");
                        }
                        // A socket of both families shows IPv4 as `::ffff:10.0.0.1`.
                        let peer = Peer::Tcp(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
                        spawn(stream, peer, service.clone(), &connections, graceful.watcher());
                    }
                    Err(error) => accept_failed(&error, &connections).await,
                }
            }
        }
        Listener::Unix(listener, _file) => {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            while wait_for_room(&connections, &mut stopping).await {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopping.wait() => break,
                };
                match accepted {
                    Ok((stream, _)) => {
                        spawn(
                            stream,
                            Peer::Unix,
                            service.clone(),
                            &connections,
                            graceful.watcher(),
                        );
                    }
                    Err(error) => accept_failed(&error, &connections).await,
                }
            }
        }
    }
    drop(stopping);
    graceful.shutdown().await;
    Ok(())
}

fn tune(stream: &tokio::net::TcpStream, write_timeout: Duration) -> io::Result<()> {
    // A record must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    // A peer that is gone acknowledges nothing, also while its socket still has room (RFC 5482).
    socket.set_tcp_user_timeout(Some(write_timeout))
}

/// Waits until there is a descriptor for one more connection, beside those that reading Kafka needs. Who
/// wants to connect meanwhile waits in the system's queue. False if told to stop.
async fn wait_for_room(connections: &Connections, stopping: &mut Stopping) -> bool {
    while !connections.has_room() {
        connections.pauses(&"the limit of descriptors leaves no room for more");
        tokio::select! {
            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
            () = stopping.wait() => return false,
        }
    }
    true
}

async fn accept_failed(error: &io::Error, connections: &Connections) {
    // Of a client that is gone already, while others wait.
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    connections.pauses(error);
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// What serves requests.
pub trait Service<B>:
    tower_service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S, B> Service<B> for S where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// What is served.
pub trait Body:
    hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

impl<B> Body for B where
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

fn spawn<I, S, B>(stream: I, peer: Peer, service: S, connections: &Arc<Connections>, watcher: Watcher)
where
    I: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    S: Service<B>,
    B: Body,
{
    let stream = WriteTimeout::new(stream, connections.write_timeout());
    let timed_out = stream.timed_out();
    let stream = HeadTimeout::new(Hangup::new(stream), HEAD_TIMEOUT);
    let served = stream.served();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        served.tell();
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(timed_out.clone());
        // `CONNECT host:1` and other targets without a path are nothing we serve, and warp panics when
        // it is asked for the path of one.
        if request.uri().path_and_query().is_none() {
            *request.uri_mut() = Uri::from_static("*");
        }
        // A clone per request: tower's services take themselves mutably, and warp's are cheap to clone.
        service.clone().call(request)
    });
    let open = connections.enter();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REST_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let connection = watcher.watch(connection);
    tokio::spawn(async move {
        // Clients go away in the middle of everything; that is their right.
        if let Err(error) = connection.await {
            debug!("{peer}: {error}");
            open.failed(peer, &error);
        }
        drop(open);
    });
}
