//! Binds addresses: TCP, Unix sockets, and sockets that systemd passes.
//!
//! warp can bind by itself, but panics on failure. Here an address that cannot be bound is an error before anything
//! starts.

use std::borrow::Cow;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use listenfd::ListenFd;
use log::warn;
use parking_lot::Mutex;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::unix::{self, SocketFile};
use crate::config::address::{ANY_ADDRESS, literal, meets};
use crate::config::socket::SocketAccess;
use crate::config::{Endpoint, Scheme};

/// The address of sockets that systemd passes.
pub(crate) const SYSTEMD: &str = "systemd";

/// The names of sockets that systemd passes for other listeners than those of `[http]` (`FileDescriptorName=`).
const NAMED: [(&str, Scheme); 3] = [
    ("admin", Scheme::Admin),
    ("https", Scheme::Https),
    ("redirect", Scheme::Redirect),
];

/// The variable with the names of the sockets, separated by colons (`sd_listen_fds_with_names(3)`).
const NAMES: &str = "LISTEN_FDNAMES";

/// Connections that may wait to be accepted: all clients reconnect at once after a restart.
const BACKLOG: i32 = 4096;

/// The remedy if another program serves the address.
const ANOTHER_PROGRAM: &str =
    "another program serves this address: stop that program, or choose another address with --listen";

/// The remedy if a file that is not a socket has the path of a Unix socket.
const OTHER_FILE: &str = "a file exists at this path and is not a socket: remove it, or correct listen";

/// Whether the path of a Unix socket is that of another file.
fn is_other_file(address: &str) -> bool {
    let path = address.strip_prefix("unix:").map(Path::new);
    let found = path.and_then(|path| path.symlink_metadata().ok());
    found.is_some_and(|found| !found.file_type().is_socket())
}

/// Whether two addresses of `listen` cannot both be bound: they have the same port, and a host in common.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let resolved = |address: &str| -> Vec<SocketAddr> {
        literal(address).map_or_else(
            || {
                let found = address.to_socket_addrs();
                found.map(Iterator::collect).unwrap_or_default()
            },
            |address| vec![address],
        )
    };
    if one == other {
        return true;
    }
    let others = resolved(other);
    resolved(one)
        .into_iter()
        .any(|one| others.iter().any(|other| meets(one, *other)))
}

/// An address that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {remedy}")]
pub struct BindError {
    address: String,
    source: io::Error,
    remedy: Cow<'static, str>,
}

impl BindError {
    /// The operating system's error.
    pub fn cause(&self) -> &io::Error {
        &self.source
    }

    /// The remedy.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// Whether another socket, of any program, has the address.
    pub(crate) fn is_taken(&self) -> bool {
        self.remedy == ANOTHER_PROGRAM
    }

    #[must_use]
    pub(crate) fn with_remedy(self, remedy: impl Into<Cow<'static, str>>) -> Self {
        let remedy = remedy.into();
        Self { remedy, ..self }
    }

    fn new(address: &str, source: io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse if is_other_file(address) => OTHER_FILE,
            io::ErrorKind::AddrInUse => ANOTHER_PROGRAM,
            _ if unix::is_about_access(&source) => unix::ACCESS_REMEDY,
            io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            _ if address == SYSTEMD => {
                "start the daemon with kafka-sse-bridge.socket, or name addresses; FileDescriptorName= of sockets is \
                 admin for [http.admin], https for [http.tls], redirect for redirect_to_https"
            }
            _ => "correct listen",
        };
        Self {
            address: address.to_owned(),
            source,
            remedy: remedy.into(),
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
    /// Binds the address of an endpoint, as [`bind`](Self::bind) does, or shares the sockets that systemd has bound for
    /// it.
    ///
    /// # Errors
    /// When one of the addresses cannot be bound.
    pub(crate) fn bind_endpoint(endpoint: &Endpoint, access: &SocketAccess) -> Result<Vec<Self>, BindError> {
        if endpoint.address == SYSTEMD {
            return inherited(endpoint.scheme).map_err(|error| BindError::new(SYSTEMD, error));
        }
        Self::bind(&endpoint.address, access)
    }

    /// Binds `host:port` (every address the host has), `*:port` (every address of this machine) or `unix:/path`.
    /// `access` applies to the file of a Unix socket.
    ///
    /// # Errors
    /// When one of the addresses cannot be bound.
    pub fn bind(address: &str, access: &SocketAccess) -> Result<Vec<Self>, BindError> {
        let failed = |error| BindError::new(address, error);
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

    /// Checks that `host:port` can be bound, without listening.
    pub(crate) fn try_tcp(address: &str) -> Result<(), BindError> {
        tcp_sockets(address)
            .map(drop)
            .map_err(|error| BindError::new(address, error))
    }

    /// The URL at which it is served.
    pub fn url(&self, scheme: Scheme) -> String {
        let of_tcp = match scheme {
            Scheme::Http | Scheme::Redirect | Scheme::Admin => "http",
            Scheme::Https => "https",
        };
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("{of_tcp}://{address}"),
                Err(_) => format!("{of_tcp}://?"),
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

/// A socket that systemd has bound and passed.
#[derive(Debug)]
struct Inherited {
    /// Its purpose, by its name.
    scheme: Scheme,
    socket: InheritedSocket,
}

#[derive(Debug)]
enum InheritedSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// The sockets, or an error; `None` before the first use. Kept for the life of the process: the environment names them
/// by number, which other descriptors could get after a close, and a reload may remove `systemd` and add it again.
static INHERITED: Mutex<Option<Result<Vec<Inherited>, String>>> = Mutex::new(None);

/// Warns of sockets that systemd has passed for listeners that these endpoints do not have: clients connect to them, and
/// wait.
pub(crate) fn warn_of_unserved(endpoints: &[Endpoint]) {
    let schemes = std::iter::once(Scheme::Http).chain(NAMED.map(|(_, scheme)| scheme));
    for scheme in schemes {
        let endpoint = Endpoint {
            address: SYSTEMD.to_owned(),
            scheme,
        };
        if endpoints.contains(&endpoint) {
            continue;
        }
        // Those that cannot be used are no error until they are asked for.
        for socket in inherited(scheme).unwrap_or_default() {
            warn!(
                "systemd has passed {}, which is not served: its clients wait until \"{SYSTEMD}\" is in {}",
                socket.url(scheme),
                endpoint.key()
            );
        }
    }
}

/// The sockets that systemd has passed (`sd_listen_fds(3)`) for the listeners of this kind.
fn inherited(scheme: Scheme) -> io::Result<Vec<Listener>> {
    let mut kept = INHERITED.lock();
    let sockets = kept.get_or_insert_with(|| take_inherited().map_err(|error| error.to_string()));
    let sockets = sockets
        .as_ref()
        .map_err(|error| io::Error::other(error.clone()))?;
    let listener = |inherited: &Inherited| match &inherited.socket {
        InheritedSocket::Tcp(socket) => socket.try_clone().map(Listener::Tcp),
        InheritedSocket::Unix(socket) => socket.try_clone().map(|socket| Listener::Unix(socket, None)),
    };
    let ours = sockets.iter().filter(|socket| socket.scheme == scheme);
    let listeners: Vec<Listener> = ours.map(listener).collect::<io::Result<_>>()?;
    if !listeners.is_empty() {
        return Ok(listeners);
    }
    Err(match NAMED.iter().find(|(_, named)| *named == scheme) {
        None => io::Error::other("systemd has passed no socket"),
        Some((name, Scheme::Https)) => {
            io::Error::other(format!("systemd has passed no socket of TCP named {name}"))
        }
        Some((name, _)) => io::Error::other(format!("systemd has passed no socket named {name}")),
    })
}

fn take_inherited() -> io::Result<Vec<Inherited>> {
    // Without this variable no socket has a name.
    let names = std::env::var(NAMES).unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        let name = names.next().unwrap_or_default();
        let kind = NAMED.iter().find(|(known, _)| *known == name);
        let scheme = kind.map_or(Scheme::Http, |(_, scheme)| *scheme);
        let socket = match handed.take_tcp_listener(index) {
            Ok(Some(socket)) => {
                socket.set_nonblocking(true)?;
                InheritedSocket::Tcp(socket)
            }
            Ok(None) => continue,
            // Of another kind, and not taken yet.
            Err(_) => match handed.take_unix_listener(index)? {
                // There is no TLS over Unix sockets.
                Some(_) if scheme == Scheme::Https => continue,
                Some(socket) => {
                    socket.set_nonblocking(true)?;
                    InheritedSocket::Unix(socket)
                }
                None => continue,
            },
        };
        sockets.push(Inherited { scheme, socket });
    }
    Ok(sockets)
}

/// Sockets that are bound and do not listen, for `host:port` or `*:port`.
fn tcp_sockets(address: &str) -> io::Result<Vec<Socket>> {
    let Some(port) = address.strip_prefix(ANY_ADDRESS) else {
        return address.to_socket_addrs()?.map(tcp_socket).collect();
    };
    let port = port.parse().map_err(io::Error::other)?;
    Ok(vec![bind_any(port, tcp_socket)?])
}

/// Binds every address of this machine: `[::]`, or `0.0.0.0` on a machine without IPv6.
fn bind_any<S>(port: u16, bind: impl Fn(SocketAddr) -> io::Result<S>) -> io::Result<S> {
    // One socket for both families: with port 0 two would get different ports.
    match bind((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if has_no_ipv6(&error) => bind((Ipv4Addr::UNSPECIFIED, port).into()),
        bound => bound,
    }
}

/// Whether the error says that this machine has no IPv6: the kernel was built or started without it, or a sandbox
/// forbids the address family. Where only `disable_ipv6` is set, Linux binds `[::]` and serves IPv4 on it.
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// The result of binding `*:3000` where `[::]` and `0.0.0.0` fail with these errors, and the addresses tried.
    fn bind_where(ipv6: Option<Errno>, ipv4: Option<Errno>) -> (io::Result<SocketAddr>, Vec<String>) {
        let tried = RefCell::new(Vec::new());
        let bound = bind_any(3000, |address| {
            tried.borrow_mut().push(address.to_string());
            let error = if address.is_ipv6() { ipv6 } else { ipv4 };
            error.map_or(Ok(address), |error| Err(error.into()))
        });
        (bound, tried.into_inner())
    }

    #[test]
    fn every_address_is_that_of_ipv4_only_on_a_machine_without_ipv6() {
        let (bound, tried) = bind_where(None, None);
        assert_eq!(bound.expect("bound").to_string(), "[::]:3000");
        assert_eq!(tried, ["[::]:3000"]);

        for absent in [Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT, Errno::ADDRNOTAVAIL] {
            let (bound, tried) = bind_where(Some(absent), None);
            assert_eq!(bound.expect("bound").to_string(), "0.0.0.0:3000", "{absent}");
            assert_eq!(tried, ["[::]:3000", "0.0.0.0:3000"], "{absent}");
        }
        // Any other error is that of the port, not of the family: IPv4 alone would hide it.
        for refused in [
            Errno::ADDRINUSE,
            Errno::ACCESS,
            Errno::PERM,
            Errno::MFILE,
            Errno::NOBUFS,
        ] {
            let (bound, tried) = bind_where(Some(refused), None);
            let error = bound.expect_err("refused");
            assert_eq!(Errno::from_io_error(&error), Some(refused));
            assert_eq!(tried, ["[::]:3000"], "{refused}");
        }
        // On a machine without IPv6 the error is that of IPv4.
        let (bound, _) = bind_where(Some(Errno::AFNOSUPPORT), Some(Errno::ADDRINUSE));
        let error = BindError::new("*:3000", bound.expect_err("taken"));
        assert!(error.is_taken(), "{error}");
    }

    #[test]
    fn addresses_overlap_that_cannot_both_be_bound() {
        for (one, other, is_overlap) in [
            ("127.0.0.1:3000", "127.0.0.1:3000", true),
            ("127.0.0.1:3000", "0.0.0.0:3000", true),
            ("*:3000", "127.0.0.1:3000", true),
            ("[::]:3000", "0.0.0.0:3000", true),
            ("*:3000", "[::1]:3000", true),
            ("0.0.0.0:3000", "[::1]:3000", false),
            ("127.0.0.1:3000", "127.0.0.2:3000", false),
            ("127.0.0.1:3000", "127.0.0.1:3001", false),
            ("*:3000", "*:3001", false),
            ("*:0", "127.0.0.1:0", false),
            ("unix:/run/a.sock", "unix:/run/a.sock", true),
            ("unix:/run/a.sock", "*:3000", false),
            ("systemd", "*:3000", false),
        ] {
            assert_eq!(overlap(one, other), is_overlap, "{one} {other}");
            assert_eq!(overlap(other, one), is_overlap, "{other} {one}");
        }
    }
}
