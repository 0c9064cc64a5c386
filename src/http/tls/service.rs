//! The configuration of TLS in use, and handshakes under its limits.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::{debug, error, info};
use parking_lot::{Mutex, RwLock};
use rustls::server::ProducesTickets;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificates::Prepared;
use super::files::Stamp;
use super::identity::Identity;
use super::socket::TlsSocket;
use crate::auth::Auth;
use crate::auth::certificate::{Authorities, ClientCertificate};
use crate::config::proxies::Proxy;
use crate::config::{ClientAuth, HttpTlsSettings};
use crate::http::connections::Connection;
use crate::http::forwarded::Address;
use crate::http::linger::Linger;
use crate::http::peer::Peer;
use crate::http::timed_socket::TimedSocket;
use crate::http::tls_status::{Outcome, TlsStatus};

/// How often files are looked at. They are read once they have stayed the same for this time, so that a certificate and
/// its key are read together.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How many bytes of a connection whose handshake failed are still read, so that the alert is not lost.
const LINGER_BYTES: usize = 64 * 1024;

/// The first byte of a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// The response to HTTP where TLS is spoken.
const NO_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 97\r\n\
                      Connection: close\r\n\r\n\
                      {\"error\":{\"code\":\"tls_required\",\"message\":\"this address speaks TLS; use a URL of https instead\"}}";

/// The configuration in use.
struct Active {
    config: Arc<ServerConfig>,
    /// That clients' certificates are verified by.
    authorities: Arc<Authorities>,
    stamp: Stamp,
    settings: HttpTlsSettings,
    trusted_proxies: Vec<Proxy>,
}

/// TLS towards clients: its configuration, which may be exchanged, and the handshakes under way.
pub struct Tls {
    status: Arc<TlsStatus>,
    /// Learns which CAs are trusted.
    auth: Arc<Auth>,
    active: RwLock<Option<Arc<Active>>>,
    /// Encrypts tickets; none before the first use.
    ticketer: Mutex<Option<Arc<dyn ProducesTickets>>>,
    under_way: AtomicU64,
    has_ended: Notify,
    /// Handshakes under way by address.
    addresses: Mutex<HashMap<Address, u32>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Without a configuration.
    pub fn new(status: Arc<TlsStatus>, auth: Arc<Auth>) -> Self {
        Self {
            status,
            auth,
            active: RwLock::default(),
            ticketer: Mutex::default(),
            under_way: AtomicU64::new(0),
            has_ended: Notify::new(),
            addresses: Mutex::default(),
        }
    }

    /// Uses this configuration for connections that begin from now on.
    pub(crate) fn apply(&self, prepared: Option<Prepared>) {
        let Some(mut prepared) = prepared else {
            self.active.write().take();
            self.status.show(Vec::new());
            self.auth.set_authorities(&Arc::default());
            return;
        };
        // Without a ticketer sessions are not resumed, and all else works. A session that is resumed keeps the
        // certificate that its client began with, and nothing verifies that again: it would outlast its end, and hide
        // the one that the client has got since.
        if prepared.settings.client_auth == ClientAuth::None {
            match self.ticketer() {
                Ok(ticketer) => prepared.config.ticketer = ticketer,
                Err(error) => error!("sessions of TLS cannot be resumed: {error}"),
            }
        }
        self.status.show(prepared.certificates);
        let authorities = prepared.authorities;
        *self.active.write() = Some(Arc::new(Active {
            config: Arc::new(prepared.config),
            authorities: Arc::clone(&authorities),
            stamp: prepared.stamp,
            settings: prepared.settings,
            trusted_proxies: prepared.trusted_proxies,
        }));
        // A handshake that ends later with the earlier ones gives a right that is refused.
        self.auth.set_authorities(&authorities);
        // More may be allowed than before.
        self.has_ended.notify_one();
    }

    fn ticketer(&self) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        let mut kept = self.ticketer.lock();
        if let Some(ticketer) = &*kept {
            return Ok(Arc::clone(ticketer));
        }
        let ticketer = rustls::crypto::ring::Ticketer::new()?;
        *kept = Some(Arc::clone(&ticketer));
        Ok(ticketer)
    }

    fn active(&self) -> Option<Arc<Active>> {
        self.active.read().clone()
    }

    /// Reads the files of the configuration again whenever they have changed.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut last = None;
        // Files that could not be used are not read again until they change.
        let mut tried = None;
        loop {
            sleep(LOOK_EVERY).await;
            let Some(active) = self.active() else { continue };
            let looked = Arc::clone(&active);
            let look = move || Stamp::of(looked.settings.files());
            let Ok(stamp) = tokio::task::spawn_blocking(look).await else {
                return;
            };
            if stamp == active.stamp {
                self.status.recover();
                tried = None;
            } else if last.as_ref() == Some(&stamp) && tried.as_ref() != Some(&stamp) {
                tried = Some(stamp.clone());
                let this = Arc::clone(&self);
                if tokio::task::spawn_blocking(move || this.read_again(&active))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            last = Some(stamp);
        }
    }

    fn read_again(&self, before: &Arc<Active>) {
        let read = Prepared::of(&before.settings, &before.trusted_proxies);
        // A reload may have exchanged the configuration meanwhile, and has read the files too.
        if !self.active().is_some_and(|active| Arc::ptr_eq(&active, before)) {
            return;
        }
        match read {
            Ok(prepared) => {
                let certificates: Vec<String> =
                    prepared.certificates.iter().map(ToString::to_string).collect();
                info!(
                    "http.tls: files have changed and were read again: {}",
                    certificates.join("; ")
                );
                self.apply(Some(prepared));
            }
            Err(why) => {
                error!(
                    "http.tls: files have changed and cannot be used, the certificates in use are unchanged: {why}"
                );
                self.status.fail(why);
            }
        }
    }

    /// Waits until fewer handshakes are under way than may be. Listeners that wait at once may then be over the limit
    /// by one each.
    pub(in crate::http) async fn wait(&self) {
        let mut has_waited = false;
        loop {
            let most = self
                .active()
                .map_or(u64::MAX, |active| active.settings.max_handshakes.into());
            if self.under_way.load(Ordering::Relaxed) < most {
                return;
            }
            if !has_waited {
                has_waited = true;
                self.status.count_wait();
            }
            self.has_ended.notified().await;
        }
    }

    /// Counts a handshake with this peer; `None` if it would be one too many for its address.
    pub(in crate::http) fn admit(self: &Arc<Self>, peer: Peer) -> Option<Handshake> {
        let active = self.active()?;
        let address = match peer {
            Peer::Tcp(peer) if !active.trusted_proxies.iter().any(|proxy| proxy.covers(peer.ip())) => {
                Some(Address::from(peer.ip()))
            }
            _ => None,
        };
        let most = active.settings.max_handshakes_per_ip;
        if let Some(address) = address {
            let mut addresses = self.addresses.lock();
            let count = addresses.entry(address).or_insert(0);
            if most > 0 && *count >= most {
                drop(addresses);
                debug!(
                    "{peer}: refused, {most} handshakes with its address are under way (max_handshakes_per_ip)"
                );
                self.status.count(Outcome::Refused);
                return None;
            }
            *count += 1;
        }
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        self.status.set_under_way(before + 1);
        Some(Handshake {
            tls: Arc::clone(self),
            active,
            address,
        })
    }
}

/// One handshake under way, counted until it is dropped.
pub(in crate::http) struct Handshake {
    tls: Arc<Tls>,
    active: Arc<Active>,
    /// That it counts for; none if the peer is a trusted proxy.
    address: Option<Address>,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            let mut addresses = self.tls.addresses.lock();
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
        let before = self.tls.under_way.fetch_sub(1, Ordering::Relaxed);
        self.tls.status.set_under_way(before - 1);
        self.tls.has_ended.notify_one();
    }
}

impl Handshake {
    /// Makes the handshake; `None` if it fails, which is counted and answered.
    pub(in crate::http) async fn run(self, socket: TimedSocket<TcpStream>) -> Option<TlsSocket> {
        let connection = Arc::clone(socket.connection());
        let limit = self.active.settings.handshake_timeout.0;
        let status = &self.tls.status;
        let made = timeout(limit, self.make(socket)).await;
        let (outcome, stream) = match made {
            Ok(Ok(stream)) => match self.note_client(&stream, &connection) {
                Ok(()) => (Outcome::Ok, Some(stream)),
                Err(why) => {
                    debug!("{}: its certificate cannot be used: {why}", connection.peer());
                    (Outcome::Failed, None)
                }
            },
            Ok(Err(outcome)) => (outcome, None),
            Err(_) => {
                debug!(
                    "{}: the handshake was not complete after {limit:?}",
                    connection.peer()
                );
                (Outcome::Timeout, None)
            }
        };
        status.count(outcome);
        let stream = stream?;
        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            status.count_resumed();
        }
        Some(TlsSocket::new(stream))
    }

    /// Notes the names in the client's certificate, if it has one.
    fn note_client(
        &self,
        stream: &TlsStream<TimedSocket<TcpStream>>,
        connection: &Connection,
    ) -> Result<(), String> {
        let certificates = stream.get_ref().1.peer_certificates();
        if let Some(certificate) = certificates.and_then(<[_]>::first) {
            connection.set_client_certificate(ClientCertificate {
                authorities: Arc::clone(&self.active.authorities),
                ..Identity::parse(certificate)?.names
            });
        }
        Ok(())
    }

    async fn make(
        &self,
        mut socket: TimedSocket<TcpStream>,
    ) -> Result<TlsStream<TimedSocket<TcpStream>>, Outcome> {
        let mut first = [0];
        match socket.get_ref().peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE => {}
            Ok(1) if first[0].is_ascii_alphabetic() => {
                debug!("{}: HTTP where TLS is spoken", socket.connection().peer());
                if socket.write_all(NO_TLS.as_bytes()).await.is_ok() {
                    linger(socket).await;
                }
                return Err(Outcome::NoTls);
            }
            _ => return Err(Outcome::Failed),
        }
        let peer = socket.connection().peer();
        let acceptor = TlsAcceptor::from(Arc::clone(&self.active.config));
        match acceptor.accept(socket).into_fallible().await {
            Ok(stream) => Ok(stream),
            Err((error, socket)) => {
                debug!("{peer}: the handshake failed: {error}");
                if error.kind() == io::ErrorKind::InvalidData {
                    linger(socket).await;
                }
                Err(Outcome::Failed)
            }
        }
    }
}

/// Closes our side, and reads on for a moment.
async fn linger(mut socket: TimedSocket<TcpStream>) {
    if socket.shutdown().await.is_ok() {
        let mut linger = Linger::new(LINGER_BYTES);
        poll_fn(|cx| linger.poll(cx, |cx, buffer| Pin::new(&mut socket).poll_read(cx, buffer))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::NO_TLS;

    #[test]
    fn the_response_to_http_has_the_length_that_it_says() {
        let (head, body) = NO_TLS.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    }
}
