//! The client address of a request: the peer, or the address that a trusted proxy names (`X-Forwarded-For`, and
//! `Forwarded`, RFC 7239).
//!
//! Every proxy appends the address of its peer, so lists are read from the right: the client is the first address that is
//! not a trusted proxy. Entries further left may be forged and are never read. Pure; [`limits`](super::limits) uses the
//! address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::peer::Peer;
use crate::config::proxies::Proxy;
use crate::kafka::history::fair_queue::Flow;

/// Bits of an IPv6 address within a client's network: a /64 is one network, whose hosts choose their addresses (RFC
/// 4291, section 2.5.1; RFC 8981).
const HOST_BITS: u32 = 64;

/// The address by which clients are distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IPv4 address, also where it is written as IPv6 (`::ffff:10.0.0.1`).
    V4(Ipv4Addr),
    /// The upper half of an IPv6 address: its /64.
    V6(u64),
    /// A Unix socket, without a proxy that names the client.
    Unix,
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            // The upper half fits.
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

/// The client address of a request. Headers count only if the peer is a trusted proxy. An entry that is not an address
/// (`unknown`, an obfuscated name, anything malformed) ends the search: the request then counts for the proxy that
/// wrote it.
pub(super) fn client(peer: Peer, headers: &HeaderMap, trusted: &[Proxy]) -> Address {
    let own = match peer {
        Peer::Tcp(peer) => peer.ip().into(),
        Peer::Unix => Address::Unix,
    };
    if !is_proxy(peer, trusted) {
        return own;
    }
    let lines = |name: &'static str| {
        let name = HeaderName::from_static(name);
        // A later line is further right.
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
            // A proxy that writes one header forwards the other as the client sent it. If they differ, either may be
            // forged, so neither is used.
            let found = walk(own, for_list(), trusted);
            let other = walk(own, forwarded(), trusted);
            if found == other { found } else { own }
        }
    }
}

/// Whether the peer is a trusted proxy.
pub(super) fn is_proxy(peer: Peer, trusted: &[Proxy]) -> bool {
    match peer {
        Peer::Tcp(peer) => is_trusted(peer.ip().to_canonical(), trusted),
        Peer::Unix => trusted.contains(&Proxy::Unix),
    }
}

/// The hosts that the nearest proxy says the client has named: the last ones in `X-Forwarded-Host` and in `Forwarded`.
///
/// # Errors
/// When one of them is not text, or `Forwarded` names two at once.
pub(super) fn last_host(headers: &HeaderMap) -> Result<Vec<String>, ()> {
    let last = |name: &'static str| {
        let mut lines = headers.get_all(HeaderName::from_static(name)).iter();
        lines.next_back().map(HeaderValue::as_bytes)
    };
    let of_list = last("x-forwarded-host").and_then(|line| line.rsplit(|byte| *byte == b',').next());
    let element = last("forwarded").and_then(|line| from_right(line, b',').next());
    let of_forwarded = match element {
        Some(element) => parameter(element, b"host")?,
        None => None,
    };
    let hosts = [of_list, of_forwarded].into_iter().flatten();
    let text = |host: &[u8]| String::from_utf8(host.trim_ascii().to_vec()).map_err(|_| ());
    hosts.map(text).collect()
}

/// The value of a parameter in one element of `Forwarded` (RFC 7239, section 4), without its quotes.
fn parameter<'e>(element: &'e [u8], name: &[u8]) -> Result<Option<&'e [u8]>, ()> {
    let mut found = None;
    for pair in from_right(element, b';') {
        let equals = memchr::memchr(b'=', pair).ok_or(())?;
        if !pair[..equals].trim_ascii().eq_ignore_ascii_case(name) {
            continue;
        }
        if found.is_some() {
            return Err(());
        }
        let value = pair[equals + 1..].trim_ascii();
        // Addresses and names need no escapes, so a backslash within the quotes is invalid.
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""));
        found = Some(quoted.unwrap_or(value));
    }
    Ok(found)
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

/// The node of `for` in one element of `Forwarded` (RFC 7239, section 4): `for="[2001:db8::1]:80";proto=https`.
fn named_by_for(element: &[u8]) -> Option<IpAddr> {
    node(parameter(element, b"for").ok()??)
}

/// The parts between separators outside of quotes, from the right. Quotes are matched from the right too, so that a quote
/// that a client left open does not include the parts that proxies appended.
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

/// Whether an odd number of backslashes precedes a byte.
fn is_escaped(text: &[u8], index: usize) -> bool {
    let backslashes = text[..index].iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof};
    use proptest::test_runner::{Config, TestRunner};

    fn trusted(list: &[&str]) -> Vec<Proxy> {
        list.iter().map(|text| text.parse().expect("a proxy")).collect()
    }

    fn tcp(address: &str) -> Peer {
        let ip: IpAddr = address.parse().expect("an address");
        Peer::Tcp((ip, 4711).into())
    }

    /// The client address of a request with these headers, from a trusted peer in 10.0.0.0/8.
    fn found(headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        client(tcp("10.0.0.1"), &map, &trusted(&["10.0.0.0/8"])).to_string()
    }

    #[test]
    fn headers_of_a_peer_that_is_no_trusted_proxy_are_ignored() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.1".parse().expect("a value"));
        headers.insert("forwarded", "for=192.0.2.1".parse().expect("a value"));
        let none: &[&str] = &[];
        for (peer, proxies, expected) in [
            (tcp("10.0.0.1"), none, "10.0.0.1"),
            (tcp("10.0.0.1"), &["10.0.0.2", "unix", "fd00::/8"], "10.0.0.1"),
            (tcp("10.0.0.1"), &["10.0.0.0/31"], "192.0.2.1"),
            // As a socket for both kinds reports it.
            (tcp("::ffff:10.0.0.1"), &["10.0.0.1"], "192.0.2.1"),
            (tcp("10.0.0.1"), &["::ffff:10.0.0.1"], "192.0.2.1"),
            (tcp("fd12::1"), &["fd00::/8"], "192.0.2.1"),
            (Peer::Unix, none, "unix"),
            (Peer::Unix, &["0.0.0.0/0", "::/0"], "unix"),
            (Peer::Unix, &["unix"], "192.0.2.1"),
        ] {
            let found = client(peer, &headers, &trusted(proxies)).to_string();
            assert_eq!(found, expected, "{peer} {proxies:?}");
        }
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_no_proxy() {
        for (value, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 192.0.2.2", "192.0.2.2"),
            ("192.0.2.1,192.0.2.2 ,\t10.1.1.1,10.0.0.2", "192.0.2.2"),
            ("192.0.2.1:1234", "192.0.2.1"),
            ("[2001:db8:1:2:3::4]:1234", "2001:db8:1:2::/64"),
            ("[2001:db8:1:2:3::4]", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            // Only proxies: the first of them is the client.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ] {
            assert_eq!(found(&[("x-forwarded-for", value)]), expected, "{value}");
        }
        for (value, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"192.0.2.1:1234\";proto=https;by=10.0.0.1", "192.0.2.1"),
            ("by=192.0.2.9 ; for=192.0.2.1", "192.0.2.1"),
            ("for=192.0.2.1:_port", "192.0.2.1"),
            ("for=\"[2001:db8:1:2:3::4]:1234\"", "2001:db8:1:2::/64"),
            ("for=192.0.2.1, for=192.0.2.2, for=10.0.0.2", "192.0.2.2"),
            // Commas and semicolons in quotes do not separate.
            (
                "for=192.0.2.1, host=\"a,b;for=192.0.2.9\";for=192.0.2.2",
                "192.0.2.2",
            ),
            ("for=192.0.2.1, host=\"a\\\"b,c\";for=192.0.2.2", "192.0.2.2"),
        ] {
            assert_eq!(found(&[("forwarded", value)]), expected, "{value}");
        }
        // Lines are one list.
        let lines = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2, 10.0.0.2"),
        ];
        assert_eq!(found(&lines), "192.0.2.2");
        let lines = [
            ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
            ("x-forwarded-for", "10.0.0.2"),
        ];
        assert_eq!(found(&lines), "192.0.2.2");
    }

    #[test]
    fn both_headers_must_agree() {
        let agree = [
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=\"192.0.2.1:7\""),
        ];
        assert_eq!(found(&agree), "192.0.2.1");
        // One of them came from the client.
        let differ = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2")];
        assert_eq!(found(&differ), "10.0.0.1");
    }

    #[test]
    fn an_entry_that_is_no_address_counts_for_the_proxy_that_wrote_it() {
        for value in [
            "",
            "unknown",
            "192.0.2.1, unknown",
            "192.0.2.1,",
            "192.0.2.1, 192.0.2",
            "192.0.2.1:123456",
            "192.0.2.1:",
            "192.0.2.1:x",
            "[2001:db8::1",
            "[2001:db8::1]x",
            "[192.0.2.1]",
            "fe80::1%eth0",
            "unix:",
            "192.0.2.1 192.0.2.2",
            "\"192.0.2.1\"",
        ] {
            assert_eq!(found(&[("x-forwarded-for", value)]), "10.0.0.1", "{value:?}");
        }
        for value in [
            "",
            "192.0.2.1",
            "proto=https",
            "for=unknown",
            "for=_hidden",
            "for=\"_hidden:80\"",
            "for=192.0.2.1;for=192.0.2.1",
            "for=192.0.2.1;junk",
            "for=192.0.2.1,",
            "for=\"192.0.2.1",
            "for=192.0.2.1\"",
            "for=\"192.0.2.\\1\"",
            "for=\"",
        ] {
            assert_eq!(found(&[("forwarded", value)]), "10.0.0.1", "{value:?}");
        }
        // The proxy next to it is known by the one after.
        assert_eq!(
            found(&[("x-forwarded-for", "192.0.2.1, ?, 10.0.0.2")]),
            "10.0.0.2"
        );
        assert_eq!(
            found(&[("forwarded", "for=192.0.2.1, for=unknown, for=10.0.0.2")]),
            "10.0.0.2"
        );
        // Bytes that are not text.
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"192.0.2.1, \xff").expect("a value");
        headers.insert("x-forwarded-for", value);
        let found = client(tcp("10.0.0.1"), &headers, &trusted(&["10.0.0.0/8"]));
        assert_eq!(found.to_string(), "10.0.0.1");
    }

    #[test]
    fn ipv6_clients_are_distinguished_by_64_bits_and_mapped_ipv4_is_ipv4() {
        let of = |text: &str| Address::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    /// An address outside of the trusted proxies.
    fn stranger() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>()
                .prop_map(Ipv4Addr::from)
                .prop_filter("not of 10.0.0.0/8", |address| address.octets()[0] != 10)
                .prop_map(IpAddr::V4),
            any::<u128>()
                .prop_map(Ipv6Addr::from)
                .prop_filter("not mapped", |address| address.to_ipv4_mapped().is_none())
                .prop_map(IpAddr::V6),
        ]
    }

    fn proxy() -> impl Strategy<Value = IpAddr> {
        any::<[u8; 3]>().prop_map(|[b, c, d]| Ipv4Addr::new(10, b, c, d).into())
    }

    /// A form in which proxies write an address in `X-Forwarded-For`, and one for `Forwarded`.
    fn written(address: IpAddr, port: Option<u16>) -> (String, String) {
        let host = match (address, port) {
            (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
            (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
            (address, None) => address.to_string(),
        };
        let quoted = match (address, port) {
            (IpAddr::V6(address), None) => format!("[{address}]"),
            _ => host.clone(),
        };
        (host, format!("proto=https;for=\"{quoted}\""))
    }

    /// Text that a client may send before the entries of proxies.
    fn forgery() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("for=".to_owned()),
            Just("for=\"".to_owned()),
            Just("\"".to_owned()),
            Just("\\\"".to_owned()),
            Just("\\".to_owned()),
            Just(",".to_owned()),
            Just(";".to_owned()),
            Just("10.0.0.9".to_owned()),
            Just("unknown".to_owned()),
            stranger().prop_map(|address| address.to_string()),
            "[ -~]{0,12}".prop_map(|text| text),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn no_forged_entry_changes_the_client_of_a_request() {
        let mut runner = TestRunner::new(Config {
            cases: 4096,
            failure_persistence: None,
            ..Config::default()
        });
        let hops = prop::collection::vec((proxy(), any::<Option<u16>>()), 0..4);
        let cases = (
            forgery(),
            stranger(),
            any::<Option<u16>>(),
            hops,
            any::<[bool; 2]>(),
        );
        let proxies = trusted(&["10.0.0.0/8"]);
        runner
            .run(&cases, |(forgery, asked, port, hops, [is_list, has_lines])| {
                let name = if is_list { "x-forwarded-for" } else { "forwarded" };
                let mut values = vec![forgery];
                for (address, port) in std::iter::once((asked, port)).chain(hops) {
                    let (plain, element) = written(address, port);
                    values.push(if is_list { plain } else { element });
                }
                let mut headers = HeaderMap::new();
                let lines = if has_lines {
                    values
                } else {
                    vec![values.join(", ")]
                };
                for line in lines {
                    headers.append(name, line.parse().expect("visible ASCII"));
                }
                let found = client(tcp("10.0.0.1"), &headers, &proxies);
                prop_assert_eq!(found, Address::from(asked), "{:?}", headers);
                // The headers of an untrusted peer are ignored.
                let found = client(tcp("192.0.2.77"), &headers, &proxies);
                prop_assert_eq!(found.to_string(), "192.0.2.77");
                Ok(())
            })
            .expect("no forgery helps");
    }
}
