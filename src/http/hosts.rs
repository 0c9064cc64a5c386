//! The host that a request names, and whether the daemon answers to it (`http.hosts`).
//!
//! A page whose own name resolves to an address of this machine, for a moment, is of the daemon's origin for the
//! browser and reads everything (DNS rebinding). Its requests name that host. Only names can be rebound, so addresses
//! are always answered to.
//!
//! Without `hosts`, names in requests from this machine itself are looked at: services on loopback addresses are those
//! that pages must not reach. A rebound page has the port at which the daemon listens in its own address, so only names
//! with that port are refused; the name that a proxy on this machine forwards has the proxy's port.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode, Version};
use log::{debug, warn};
use parking_lot::Mutex;

use super::error::{ApiError, ErrorCode};
use super::forwarded::{is_proxy, last_host};
use super::peer::Peer;
use crate::config::hosts::{HostPattern, is_name};
use crate::config::proxies::Proxy;
use crate::logging::Seldom;

/// Shortest time between two log lines about names that the daemon does not answer to.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The port that URLs without one mean.
const HTTP_PORT: u16 = 80;

/// The names of this machine for itself (RFC 6761, section 6.3).
const LOCALHOST: &str = "localhost";

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not name one host.
    Malformed,
    /// The daemon does not answer to this name.
    Unknown(String),
}

/// The host of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// In lower case, without a dot at its end.
    name: String,
    port: Option<u16>,
    is_address: bool,
}

impl Host {
    /// Reads `name`, `name:port`, `[address]` or `[address]:port` (RFC 9110, section 7.2).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => match text.find(':') {
                Some(colon) => text.split_at(colon),
                None => (text, ""),
            },
        };
        let port = match port.strip_prefix(':') {
            // A colon without a port is the default port.
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            None if port.is_empty() => None,
            _ => return None,
        };
        let is_bracketed = text.starts_with('[');
        let address = name.parse::<IpAddr>().ok();
        let is_address = address.is_some_and(|address| address.is_ipv6() == is_bracketed);
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_good = is_address || (!is_bracketed && is_name(name));
        is_good.then(|| Self {
            name: name.to_ascii_lowercase(),
            port,
            is_address,
        })
    }

    /// The host as URLs write it, without a port.
    pub(super) fn in_url(&self) -> Cow<'_, str> {
        if self.is_address && self.name.contains(':') {
            Cow::Owned(format!("[{}]", self.name))
        } else {
            Cow::Borrowed(&self.name)
        }
    }
}

/// The rules for a request, and the facts that its head lacks.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostRules<'a> {
    pub(super) allowed: &'a [HostPattern],
    pub(super) trusted: &'a [Proxy],
    pub(super) peer: Option<Peer>,
    /// The port that the peer has connected to, without TLS.
    pub(super) port: Option<u16>,
    /// Whether the listener is one for operators, which has other names than those for clients.
    pub(super) is_admin: bool,
}

/// Checks the host that a request names, and returns it; a request that names none is answered, because every browser
/// names one.
pub(super) fn check<B>(request: &Request<B>, rules: HostRules<'_>) -> Result<Option<Host>, Refusal> {
    let headers = request.headers();
    let is_forwarded = rules.peer.is_some_and(|peer| is_proxy(peer, rules.trusted));
    let named = named(request)?;
    let named = match is_forwarded.then(|| last_host(headers)) {
        Some(Err(())) => return Err(Refusal::Malformed),
        Some(Ok(hosts)) if !hosts.is_empty() => hosts,
        Some(Ok(_)) | None => named.into_iter().collect(),
    };
    let mut first = None;
    for text in named {
        let host = Host::parse(&text).ok_or(Refusal::Malformed)?;
        let is_local = matches!(rules.peer, Some(Peer::Tcp(peer)) if peer.ip().to_canonical().is_loopback());
        let is_localhost = host.name == LOCALHOST || host.name.ends_with(".localhost");
        let is_allowed = rules.allowed.iter().any(|pattern| pattern.covers(&host.name));
        let is_open = rules.allowed.is_empty() || rules.is_admin;
        let may_be_rebound = is_local && !is_forwarded && rules.port == Some(host.port.unwrap_or(HTTP_PORT));
        let is_answered =
            host.is_address || is_allowed || (is_local && is_localhost) || (is_open && !may_be_rebound);
        if !is_answered {
            return Err(Refusal::Unknown(host.name));
        }
        first = first.or(Some(host));
    }
    Ok(first)
}

/// The host as the request names it: in its target, which HTTP/2 always has, otherwise in its header field.
fn named<B>(request: &Request<B>) -> Result<Option<String>, Refusal> {
    let mut fields = request.headers().get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (_, Some(_)) => return Err(Refusal::Malformed),
        (Some(field), None) => Some(field.to_str().map_err(|_| Refusal::Malformed)?),
        (None, None) => None,
    };
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    match (target, field) {
        // RFC 9113, section 8.3.1. In HTTP/1.1 the target counts (RFC 9112, section 3.2.2).
        (Some(target), Some(field)) if request.version() == Version::HTTP_2 && target != field => {
            Err(Refusal::Malformed)
        }
        (Some(target), _) => Ok(Some(target.to_owned())),
        (None, Some("") | None) => Ok(None),
        (None, Some(field)) => Ok(Some(field.to_owned())),
    }
}

/// Counts requests for names that the daemon does not answer to, and logs them at a limited rate.
#[derive(Debug)]
pub(super) struct UnknownHosts {
    count: AtomicU64,
    log: Mutex<Seldom>,
}

impl Default for UnknownHosts {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            log: Mutex::new(Seldom::new(LOG_EVERY)),
        }
    }
}

impl UnknownHosts {
    /// Requests refused since the start.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The response to a request that is refused.
    pub(super) fn error(&self, refusal: Refusal, peer: Option<Peer>) -> ApiError {
        let name = match refusal {
            Refusal::Malformed => {
                return ApiError::new(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::BadHost,
                    "the request does not name one host, as a name or an address with or without a port",
                );
            }
            Refusal::Unknown(name) => name,
        };
        self.count.fetch_add(1, Ordering::Relaxed);
        let from = peer.map(|peer| format!("{peer}: ")).unwrap_or_default();
        match self.log.lock().admit() {
            Some(held_back) => warn!(
                "{from}refused, this daemon does not answer to the host name {name:?}; if it is one of its names, add it to \
                 hosts in [http], or name the proxy that forwards it in trusted_proxies{held_back}"
            ),
            None => debug!("{from}refused, this daemon does not answer to the host name {name:?}"),
        }
        ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            ErrorCode::UnknownHost,
            format!(
                "this daemon does not answer to {name:?}; if it is one of its names, it has to be added to hosts in [http]"
            ),
        )
    }
}

#[cfg(test)]
mod tests;
