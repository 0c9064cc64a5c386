//! Tests of which hosts are answered to.

use super::*;

struct Case<'a> {
    hosts: &'a [&'a str],
    headers: &'a [(&'a str, &'a str)],
    trusted: &'a [&'a str],
    port: u16,
    peer: &'a str,
}

const LOCAL: Case<'static> = Case {
    hosts: &[],
    headers: &[],
    trusted: &[],
    port: 3000,
    peer: "127.0.0.1",
};

const REMOTE: Case<'static> = Case {
    peer: "192.0.2.7",
    ..LOCAL
};

fn outcome(case: &Case<'_>, is_admin: bool) -> Result<(), Refusal> {
    let mut request = Request::builder().uri("/");
    for (name, value) in case.headers {
        request = request.header(*name, *value);
    }
    let peer: IpAddr = case.peer.parse().expect("an address");
    let request = request.body(()).expect("a request");
    let allowed: Vec<HostPattern> = case.hosts.iter().map(|text| text.parse().expect(text)).collect();
    let trusted: Vec<Proxy> = case
        .trusted
        .iter()
        .map(|text| text.parse().expect(text))
        .collect();
    check(
        &request,
        HostRules {
            allowed: &allowed,
            trusted: &trusted,
            peer: Some(Peer::Tcp((peer, 4711).into())),
            port: Some(case.port),
            is_admin,
        },
    )
    .map(drop)
}

fn is_answered(case: &Case<'_>) -> bool {
    outcome(case, false).is_ok()
}

#[test]
fn without_hosts_only_a_name_with_the_listeners_port_from_this_machine_is_refused() {
    for (host, is_answered_locally) in [
        ("127.0.0.1:3000", true),
        ("[::1]:3000", true),
        ("localhost:3000", true),
        ("LOCALHOST:3000", true),
        ("app.localhost:3000", true),
        ("192.168.1.5:3000", true),
        ("evil.example:3000", false),
        ("evil.example.:3000", false),
        ("localhost.evil.example:3000", false),
        ("evillocalhost:3000", false),
        ("127.0.0.1.evil.example:3000", false),
        ("0x7f000001:3000", false),
        // As a proxy on this machine forwards it.
        ("stream.example.org", true),
        ("stream.example.org:8443", true),
        ("", true),
    ] {
        let headers: &[(&str, &str)] = &[("host", host)];
        assert_eq!(
            is_answered(&Case { headers, ..LOCAL }),
            is_answered_locally,
            "{host}"
        );
        assert!(is_answered(&Case { headers, ..REMOTE }), "{host}");
        // A proxy that is trusted may use the same port.
        let trusted: &[&str] = &["127.0.0.1"];
        assert!(
            is_answered(&Case {
                headers,
                trusted,
                ..LOCAL
            }),
            "{host}"
        );
        let admin = outcome(&Case { headers, ..LOCAL }, true);
        assert_eq!(admin.is_ok(), is_answered_locally, "{host}");
    }
    let headers: &[(&str, &str)] = &[("host", "evil.example")];
    assert!(!is_answered(&Case {
        headers,
        port: 80,
        ..LOCAL
    }));
    let peer = "::ffff:127.0.0.1";
    assert!(!is_answered(&Case {
        headers,
        port: 80,
        peer,
        ..LOCAL
    }));
}

#[test]
fn with_hosts_only_these_names_and_addresses_are_answered_to() {
    let hosts: &[&str] = &["stream.example.org", "*.internal"];
    for (host, is_known) in [
        ("stream.example.org", true),
        ("Stream.Example.Org:3000", true),
        ("stream.example.org.", true),
        ("a.internal:80", true),
        ("internal", false),
        ("example.org", false),
        ("evil.example", false),
        ("192.0.2.1:3000", true),
        ("[2001:db8::1]", true),
    ] {
        let headers: &[(&str, &str)] = &[("host", host)];
        for case in [LOCAL, REMOTE] {
            assert_eq!(
                is_answered(&Case {
                    hosts,
                    headers,
                    ..case
                }),
                is_known,
                "{host}"
            );
        }
    }
    let headers: &[(&str, &str)] = &[("host", "localhost:3000")];
    assert!(is_answered(&Case {
        hosts,
        headers,
        ..LOCAL
    }));
    assert!(!is_answered(&Case {
        hosts,
        headers,
        ..REMOTE
    }));
    // Operators' listeners have names of their own.
    let headers: &[(&str, &str)] = &[("host", "monitoring.example:3000")];
    assert!(
        outcome(
            &Case {
                hosts,
                headers,
                ..REMOTE
            },
            true
        )
        .is_ok()
    );
    assert!(is_answered(&Case {
        hosts: &["*"],
        headers,
        ..LOCAL
    }));
}

#[test]
fn only_trusted_proxies_name_the_host_in_other_headers() {
    let hosts: &[&str] = &["stream.example.org"];
    let trusted: &[&str] = &["192.0.2.7"];
    for (headers, is_known) in [
        (
            &[
                ("host", "stream.example.org"),
                ("x-forwarded-host", "evil.example"),
            ][..],
            false,
        ),
        (
            &[("host", "bridge-1"), ("x-forwarded-host", "stream.example.org")],
            true,
        ),
        (
            &[
                ("host", "bridge-1"),
                ("x-forwarded-host", "evil.example, stream.example.org"),
            ],
            true,
        ),
        (
            &[
                ("host", "bridge-1"),
                ("x-forwarded-host", "stream.example.org, evil.example"),
            ],
            false,
        ),
        (
            &[
                ("host", "bridge-1"),
                ("forwarded", "for=1.2.3.4;host=stream.example.org"),
            ],
            true,
        ),
        (
            &[
                ("host", "bridge-1"),
                ("forwarded", "for=1.2.3.4;Host=\"stream.example.org:8443\""),
            ],
            true,
        ),
        (
            &[
                ("host", "bridge-1"),
                ("forwarded", "host=stream.example.org, host=evil.example"),
            ],
            false,
        ),
        (
            &[
                ("host", "bridge-1"),
                ("forwarded", "host=evil.example"),
                ("x-forwarded-host", "stream.example.org"),
            ],
            false,
        ),
        (
            &[("host", "stream.example.org"), ("forwarded", "for=1.2.3.4")],
            true,
        ),
    ] {
        let case = Case {
            hosts,
            headers,
            trusted,
            ..REMOTE
        };
        assert_eq!(is_answered(&case), is_known, "{headers:?}");
        let untrusted = Case {
            hosts,
            headers,
            ..REMOTE
        };
        assert_eq!(
            is_answered(&untrusted),
            headers[0].1 == "stream.example.org",
            "{headers:?}"
        );
    }
}

#[test]
fn a_request_that_does_not_name_one_host_is_malformed() {
    let two: &[(&str, &str)] = &[("host", "a.example"), ("host", "a.example")];
    assert_eq!(
        outcome(
            &Case {
                headers: two,
                ..REMOTE
            },
            false
        ),
        Err(Refusal::Malformed)
    );
    for host in [
        "a b",
        "a/b",
        "user@a",
        "a:b",
        "a:99999",
        "[::1",
        "[a]",
        "::1",
        "a..b",
        "<b>",
        "[127.0.0.1]",
    ] {
        let headers: &[(&str, &str)] = &[("host", host)];
        assert_eq!(
            outcome(&Case { headers, ..REMOTE }, false),
            Err(Refusal::Malformed),
            "{host}"
        );
    }
    let named = |version, target: &str, host: &str| {
        let request = Request::builder()
            .uri(target)
            .version(version)
            .header("host", host);
        named(&request.body(()).expect("a request"))
    };
    assert_eq!(
        named(Version::HTTP_2, "http://a.example/", "b.example"),
        Err(Refusal::Malformed)
    );
    assert_eq!(
        named(Version::HTTP_11, "http://a.example/", "b.example"),
        Ok(Some("a.example".to_owned()))
    );
    assert_eq!(
        named(Version::HTTP_2, "http://a.example/", "a.example"),
        Ok(Some("a.example".to_owned()))
    );
}
