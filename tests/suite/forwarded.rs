//! For whom a request is: the right-most address that is no trusted proxy, whatever a client forges.

use crate::harness::trial;
use http::HeaderMap;
use kafka_sse_bridge::config::proxies::Proxy;
use kafka_sse_bridge::http::forwarded::{Address, client};
use kafka_sse_bridge::http::peer::Peer;
use libtest_mimic::Trial;
use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "headers_of_a_peer_that_is_no_trusted_proxy_are_ignored",
            untrusted,
        ),
        trial(
            "the_client_is_the_right_most_address_that_is_no_proxy",
            right_most,
        ),
        trial("both_headers_must_agree", both),
        trial(
            "an_entry_that_is_no_address_counts_for_the_proxy_that_wrote_it",
            malformed,
        ),
        trial("ipv6_is_told_apart_by_64_bits_and_mapped_ipv4_is_ipv4", networks),
        trial("no_forged_entry_changes_whom_a_request_is_for", forged),
        trial("a_proxy_is_an_address_a_range_or_unix", proxies),
    ]
}

fn trusted(list: &[&str]) -> Vec<Proxy> {
    list.iter().map(|text| text.parse().expect("a proxy")).collect()
}

fn tcp(address: &str) -> Peer {
    let ip: IpAddr = address.parse().expect("an address");
    Peer::Tcp((ip, 4711).into())
}

/// Whom a request is for, of a peer that is trusted as 10.0.0.0/8 is, with these headers.
fn found(headers: &[(&'static str, &str)]) -> String {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().expect("a value"));
    }
    client(tcp("10.0.0.1"), &map, &trusted(&["10.0.0.0/8"])).to_string()
}

fn untrusted() {
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

fn right_most() {
    for (value, expected) in [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 192.0.2.2", "192.0.2.2"),
        ("192.0.2.1,192.0.2.2 ,\t10.1.1.1,10.0.0.2", "192.0.2.2"),
        ("192.0.2.1:1234", "192.0.2.1"),
        ("[2001:db8:1:2:3::4]:1234", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:3::4]", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        // Nobody but proxies: the first of them asked.
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
        // Commas and semicolons in quotes are none.
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

fn both() {
    let agree = [
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=\"192.0.2.1:7\""),
    ];
    assert_eq!(found(&agree), "192.0.2.1");
    // One of them came from the client.
    let differ = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2")];
    assert_eq!(found(&differ), "10.0.0.1");
}

fn malformed() {
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
    // Bytes that are no text.
    let mut headers = HeaderMap::new();
    let value = http::HeaderValue::from_bytes(b"192.0.2.1, \xff").expect("a value");
    headers.insert("x-forwarded-for", value);
    let found = client(tcp("10.0.0.1"), &headers, &trusted(&["10.0.0.0/8"]));
    assert_eq!(found.to_string(), "10.0.0.1");
}

fn networks() {
    let of = |text: &str| Address::from(text.parse::<IpAddr>().expect("an address"));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
}

/// An address that is no trusted proxy's.
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

/// What a client may put before what proxies append.
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

fn forged() {
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
            // Who is not trusted is who asks, whatever it sends.
            let found = client(tcp("192.0.2.77"), &headers, &proxies);
            prop_assert_eq!(found.to_string(), "192.0.2.77");
            Ok(())
        })
        .expect("no forgery helps");
}

fn proxies() {
    for text in ["10.0.0.1", "10.0.0.0/8", "fd00::1", "fd00::/8", "unix"] {
        let proxy: Proxy = text.parse().expect(text);
        assert_eq!(proxy.to_string(), text);
    }
    for text in [
        "",
        "10.0.0",
        "10.0.0.0/33",
        "10.0.0.1:80",
        "localhost",
        "*",
        "unix:/run/x.sock",
    ] {
        let error = text.parse::<Proxy>().expect_err(text);
        assert!(error.contains("is not an address; write"), "{error}");
    }
}
