//! Addresses as text.

use std::net::{Ipv6Addr, SocketAddr};

/// The prefix of the address of all interfaces, IPv6 and IPv4.
pub(crate) const ANY_ADDRESS: &str = "*:";

/// Whether `text` is `host:port` with a port of at least `least`.
pub(super) fn check_host_port(text: &str, least: u16) -> Result<(), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("has no port".to_owned());
    };
    if host.is_empty() || host.contains(char::is_whitespace) || (host.contains(':') && !host.starts_with('['))
    {
        return Err("has no proper host".to_owned());
    }
    match port.parse::<u16>() {
        Ok(port) if port >= least => Ok(()),
        _ => Err(format!("has no proper port ({port:?})")),
    }
}

/// The address that `text` is, unless it has a name that would have to be looked up.
pub(crate) fn literal(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix(ANY_ADDRESS) {
        Some(port) => Some(SocketAddr::from((
            Ipv6Addr::UNSPECIFIED,
            port.parse::<u16>().ok()?,
        ))),
        None => text.parse().ok(),
    }
}

/// Whether two addresses cannot both be bound: they have the same port, and a host in common.
pub(crate) fn meets(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` is IPv4 too.
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.ip() == other.ip() || (one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
    };
    one.port() != 0 && one.port() == other.port() && (covers(one, other) || covers(other, one))
}
