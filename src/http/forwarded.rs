//! For whom a request is: the peer, or who a proxy says it comes from (`X-Forwarded-For`, and
//! `Forwarded`, RFC 7239).
//!
//! Every proxy appends the address it was asked from, so the lists are read from their right ends: the
//! client is the first address from there that is no trusted proxy, and whatever stands further left may
//! be forged and is never looked at. Pure; what is done with an address is in
//! [`limits`](super::limits).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::peer::Peer;
use crate::config::proxies::Proxy;
use crate::kafka::turns::Flow;

/// Bits of an IPv6 address that tell clients apart: a /64 is one network, whose hosts take what
/// addresses they like (RFC 4291, section 2.5.1; RFC 8981).
const HOST_BITS: u32 = 64;

/// What clients are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IPv4 address, also where it is written as IPv6 (`::ffff:10.0.0.1`).
    V4(Ipv4Addr),
    /// The upper half of an IPv6 address: its /64.
    V6(u64),
    /// Over a Unix socket, without a proxy that says for whom.
    Unix,
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            // What is left fits.
            IpAddr::V6(address) => {
                Self::V6(u64::try_from(address.to_bits() >> HOST_BITS).unwrap_or(u64::MAX))
            }
        }
    }
}

impl From<Address> for Flow {
    fn from(address: Address) -> Self {
        Self(match address {
            Address::V4(address) => u64::from(address.to_bits()),
            Address::V6(network) => network,
            Address::Unix => u64::MAX,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(network) => {
                let network = Ipv6Addr::from_bits(u128::from(*network) << HOST_BITS);
                write!(f, "{network}/{}", 128 - HOST_BITS)
            }
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The address a request is for. Headers count only where the peer is a trusted proxy. An entry that is
/// no address (`unknown`, an obfuscated name, anything malformed) ends the way: the request then counts
/// for the proxy that wrote it.
#[must_use]
pub fn client(peer: Peer, headers: &HeaderMap, trusted: &[Proxy]) -> Address {
    let (own, is_proxy) = match peer {
        Peer::Tcp(peer) => {
            let address = peer.ip().to_canonical();
            (address.into(), is_trusted(address, trusted))
        }
        Peer::Unix => (Address::Unix, trusted.contains(&Proxy::Unix)),
    };
    if !is_proxy {
        return own;
    }
    let lines = |name: &'static str| {
        let name = HeaderName::from_static(name);
        // A later line stands further right.
        headers.get_all(name).iter().rev().map(HeaderValue::as_bytes)
    };
    let for_list = || lines("x-forwarded-for").flat_map(|line| line.rsplit(|byte| *byte == b',').map(node));
    let forwarded = || lines("forwarded").flat_map(|line| from_right(line, b',').map(named_by_for));
    let has_list = lines("x-forwarded-for").next().is_some();
    let has_forwarded = lines("forwarded").next().is_some();
    match (has_list, has_forwarded) {
        (false, false) => own,
        (true, false) => walk(own, for_list(), trusted),
        (false, true) => walk(own, forwarded(), trusted),
        (true, true) => {
            // A proxy that writes the one hands the other on as the client sent it. Where they differ there
            // is no telling which is forged, so neither helps.
            let found = walk(own, for_list(), trusted);
            let other = walk(own, forwarded(), trusted);
            if found == other { found } else { own }
        }
    }
}

fn is_trusted(address: IpAddr, trusted: &[Proxy]) -> bool {
    trusted.iter().any(|proxy| proxy.covers(address))
}

/// Goes from proxy to proxy, from the right, as far as they are trusted and name an address.
fn walk(own: Address, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &[Proxy]) -> Address {
    let mut known = own;
    for hop in hops {
        let Some(hop) = hop else { break };
        known = hop.into();
        if !is_trusted(hop, trusted) {
            break;
        }
    }
    known
}

/// An address as proxies write it, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let has_good_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address: Ipv6Addr = address.parse().ok()?;
        return has_good_port.then(|| IpAddr::V6(address).to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, _) = text.rsplit_once(':').filter(|(_, port)| is_port(port))?;
    address.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

/// RFC 7239, section 6: up to five digits, or an obfuscated name.
fn is_port(text: &str) -> bool {
    let is_obfuscated = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(is_obfuscated),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// What `for` names in one element of `Forwarded` (RFC 7239, section 4): `for="[2001:db8::1]:80";proto=https`.
fn named_by_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in from_right(element, b';') {
        let equals = memchr::memchr(b'=', pair)?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if !name.trim_ascii().eq_ignore_ascii_case(b"for") {
            continue;
        }
        if found.is_some() {
            return None;
        }
        let value = value.trim_ascii();
        // An address needs no escapes, so a backslash within the quotes is no part of one.
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""));
        found = Some(node(quoted.unwrap_or(value))?);
    }
    found
}

/// The parts between separators that do not stand in quotes, from the right. Quotes are matched from
/// there too: one that a client left open, further left, takes nothing of what a proxy appended.
fn from_right(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut is_quoted = false;
        for (index, byte) in text.iter().enumerate().rev() {
            if *byte == b'"' && !is_escaped(text, index) {
                is_quoted = !is_quoted;
            } else if *byte == separator && !is_quoted {
                rest = Some(&text[..index]);
                return Some(&text[index + 1..]);
            }
        }
        rest = None;
        Some(text)
    })
}

/// Whether an odd number of backslashes stands before a byte.
fn is_escaped(text: &[u8], index: usize) -> bool {
    let backslashes = text[..index].iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}
