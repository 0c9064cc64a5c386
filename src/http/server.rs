//! Accepts connections and serves them until drained.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use log::debug;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::connections::Connections;
use super::hangup::Hangup;
use super::head_timeout::{HEAD_TIMEOUT, HeadTimeout};
use super::listener::Listener;
use super::peer::Peer;
use super::write_timeout::WriteTimeout;

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
