//! Headers of proxies.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::proxies::Proxy;
use crate::http::forwarded::{Address, client, last_host};
use crate::http::peer::Peer;

/// A trusted proxy, another one, and a client.
const PROXIES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 9, 8, 7)];
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

const LIST: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whatever a client sends, it is the client that trusted proxies name behind that, and its host the one that they name. The
/// first character of each line is the header whose value follows.
pub(crate) fn forwarded(data: &[u8]) {
    let trusted: Vec<Proxy> = ["10.0.0.0/8", "fd00::/8", "unix"]
        .map(|text| text.parse().expect("a proxy"))
        .into();
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some((kind, value)) = line.split_first() else {
            continue;
        };
        let name = match kind {
            b'x' => LIST,
            b'f' => FORWARDED,
            b'h' => HOST,
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let tcp = |address: Ipv4Addr| Peer::Tcp((IpAddr::V4(address), 4711).into());
    let own = |address: Ipv4Addr| Address::from(IpAddr::V4(address));
    assert_eq!(client(tcp(CLIENT), &headers, &trusted), own(CLIENT));
    assert_eq!(client(Peer::Unix, &headers, &[]), Address::Unix);
    let found = client(tcp(PROXIES[0]), &headers, &trusted);
    // Headers that name different clients name none.
    let alone = |kept: &HeaderName, other: &HeaderName| {
        let mut headers = headers.clone();
        headers.remove(other);
        headers
            .contains_key(kept)
            .then(|| client(tcp(PROXIES[0]), &headers, &trusted))
    };
    match (alone(&LIST, &FORWARDED), alone(&FORWARDED, &LIST)) {
        (Some(one), Some(other)) if one != other => assert_eq!(found, own(PROXIES[0])),
        (one, other) => assert_eq!(found, one.or(other).unwrap_or(own(PROXIES[0]))),
    }
    // Its last host is known, or the request is refused; neither has line ends.
    if let Ok(hosts) = last_host(&headers) {
        assert!(hosts.iter().all(|host| !host.contains(['\r', '\n'])));
    }
    for (name, append) in [
        (LIST, format!("{CLIENT}, {}", PROXIES[1])),
        (
            FORWARDED,
            format!("for={CLIENT};host=h.example, for=\"{}:80\"", PROXIES[1]),
        ),
    ] {
        let other = if name == LIST { &FORWARDED } else { &LIST };
        for is_own_line in [false, true] {
            let mut headers = headers.clone();
            headers.remove(other);
            append_to(&mut headers, &name, &append, is_own_line);
            for peer in [tcp(PROXIES[0]), Peer::Unix] {
                assert_eq!(client(peer, &headers, &trusted), own(CLIENT), "{headers:?}");
            }
        }
    }
    for is_own_line in [false, true] {
        let mut headers = headers.clone();
        append_to(&mut headers, &HOST, "h.example", is_own_line);
        append_to(
            &mut headers,
            &FORWARDED,
            "for=192.0.2.1;host=\"h.example\"",
            is_own_line,
        );
        assert_eq!(last_host(&headers), Ok(vec!["h.example".to_owned(); 2]));
    }
}

/// Appends what a proxy adds, behind a comma in the last line or in a line of its own.
fn append_to(headers: &mut HeaderMap, name: &HeaderName, text: &str, is_own_line: bool) {
    let mut lines: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
    let last = lines.pop().filter(|_| !is_own_line);
    let line = match last {
        Some(last) => [last.as_bytes(), b", ", text.as_bytes()].concat(),
        None => text.as_bytes().to_vec(),
    };
    if is_own_line {
        lines = headers.get_all(name).iter().cloned().collect();
    }
    headers.remove(name);
    lines.push(HeaderValue::from_bytes(&line).expect("valid parts"));
    for line in lines {
        headers.append(name.clone(), line);
    }
}
