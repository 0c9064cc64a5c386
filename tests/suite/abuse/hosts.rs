//! The host names that the daemon answers to. No Kafka is needed.

use crate::configuration::complains;
use crate::harness::daemon::Daemon;
use crate::harness::raw::{exchange, get};
use crate::harness::wait::block_on;
use crate::limits::config_of;
use crate::reload::reloaded;
use crate::trials;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        a_page_that_was_made_to_resolve_to_this_machine_reads_nothing,
        a_proxy_on_this_machine_may_forward_the_public_name,
        only_the_names_in_hosts_are_answered_to,
        requests_that_do_not_name_one_host_are_refused,
        errors_of_host_names_name_line_key_and_remedy,
    ]
}

const PATHS: [&str; 5] = ["/", "/events", "/streams", "/metrics", "/nothing"];

/// The status of a request for this host, and the code of its error.
fn asked(port: u16, path: &str, host: &str) -> (u16, String) {
    let answer = exchange(
        port,
        &get(path, &format!("Host: {host}\r\nOrigin: http://{host}\r\n")),
    );
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let code = answer
        .split("\"code\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let status = status.unwrap_or_else(|| panic!("{answer}"));
    if status == 421 {
        assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    }
    (status, code.unwrap_or_default().to_owned())
}

const MISDIRECTED: (u16, &str) = (421, "unknown_host");

#[track_caller]
fn is_misdirected(port: u16, path: &str, host: &str) {
    let (status, code) = asked(port, path, host);
    assert_eq!((status, code.as_str()), MISDIRECTED, "{path} {host}");
}

#[track_caller]
fn is_answered(port: u16, host: &str) {
    assert_eq!(asked(port, "/health/live", host).0, 200, "{host}");
}

fn a_page_that_was_made_to_resolve_to_this_machine_reads_nothing() {
    let daemon = Daemon::start(&config_of("cors.allow_origins = [\"*\"]"));
    let port = daemon.port();
    for path in PATHS {
        is_misdirected(port, path, &format!("evil.example:{port}"));
    }
    is_misdirected(port, "/events", &format!("localhost.evil.example:{port}"));
    for name in ["127.0.0.1", "[::1]", "localhost", "app.localhost", "192.0.2.1"] {
        is_answered(port, &format!("{name}:{port}"));
    }
    // The operator learns which name it was, and the remedy; repetitions are counted.
    let log = daemon.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("does not answer to"))
        .collect();
    assert!(!lines.is_empty(), "{log}");
    assert!(
        lines[0].contains("\"evil.example\"") && lines[0].contains("add it to hosts in [http]"),
        "{log}"
    );
    block_on(async {
        let refused = PATHS.len() + 1;
        assert_eq!(
            daemon.get("/streams").await.json()["http"]["unknown_hosts"],
            refused
        );
        let metrics = daemon.get("/metrics").await.text();
        let sample = format!("kafka_sse_bridge_unknown_hosts_total {refused}\n");
        assert!(metrics.contains(&sample), "{metrics}");
    });
}

fn a_proxy_on_this_machine_may_forward_the_public_name() {
    let daemon = Daemon::start(&config_of(""));
    let port = daemon.port();
    for host in ["stream.example.org", "stream.example.org:8443", "bridge"] {
        is_answered(port, host);
    }
    // With the daemon's own port it has to be named, or the name has.
    let same = format!("stream.example.org:{port}");
    is_misdirected(port, "/events", &same);
    reloaded(
        &daemon,
        &config_of("trusted_proxies = [\"127.0.0.1\"]"),
        "http.trusted_proxies",
    );
    is_answered(port, &same);
    reloaded(
        &daemon,
        &config_of("hosts = [\"stream.example.org\"]"),
        "http.hosts, http.trusted_proxies",
    );
    is_answered(port, &same);
}

fn only_the_names_in_hosts_are_answered_to() {
    let daemon = Daemon::start(&config_of("hosts = [\"Stream.example.org\", \"*.internal\"]"));
    let port = daemon.port();
    for host in [
        "stream.example.org",
        "STREAM.EXAMPLE.ORG:443",
        "stream.example.org.",
        "a.internal",
    ] {
        is_answered(port, host);
    }
    for host in [
        "example.org",
        "internal",
        "evil.example",
        "stream.example.org.evil.example",
    ] {
        for path in PATHS {
            is_misdirected(port, path, host);
        }
    }
    is_answered(port, "10.0.0.1:3000");
    // Only a proxy that is trusted may name another one.
    let headers = "Host: bridge-1.lan\r\nX-Forwarded-Host: stream.example.org\r\n";
    let answer = exchange(port, &get("/health/live", headers));
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    let hosts = "hosts = [\"stream.example.org\"]";
    reloaded(
        &daemon,
        &config_of(&format!("{hosts}\ntrusted_proxies = [\"127.0.0.1\"]")),
        "http.hosts, http.trusted_proxies",
    );
    let answer = exchange(port, &get("/health/live", headers));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let forged = "Host: stream.example.org\r\nForwarded: for=192.0.2.1;host=evil.example\r\n";
    let answer = exchange(port, &get("/health/live", forged));
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    // The target of a request counts more than its header.
    let absolute = "GET http://evil.example/health/live HTTP/1.1\r\nHost: stream.example.org\r\nConnection: close\r\n\r\n";
    let answer = exchange(port, absolute.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
}

fn requests_that_do_not_name_one_host_are_refused() {
    let daemon = Daemon::start(&config_of(""));
    let port = daemon.port();
    for headers in [
        "Host: a.example\r\nHost: b.example\r\n",
        "Host: a.example\r\nHost: a.example\r\n",
        "Host: a b\r\n",
        "Host: user@a.example\r\n",
        "Host: a.example/x\r\n",
        "Host: <script>\r\n",
        "Host: a.example:port\r\n",
        "Host: \u{e9}.example\r\n",
    ] {
        let answer = exchange(port, &get("/health/live", headers));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers}: {answer}");
        assert!(answer.contains("\"code\":\"bad_host\""), "{headers}: {answer}");
    }
    for headers in ["", "Host:\r\n", "Host: a_b.example\r\n"] {
        let answer = exchange(port, &get("/health/live", headers));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{headers}: {answer}");
    }
}

fn errors_of_host_names_name_line_key_and_remedy() {
    for (host, piece) in [
        ("a.example:3000", "without a port"),
        ("https://a.example", "write \\\"stream.example.org\\\""),
        ("127.0.0.1", "answers anyway"),
        ("a.*.example", "is not the name of a host"),
    ] {
        let piece = piece.replace("\\\"", "\"");
        complains(
            &format!("[http]\nhosts = [\"{host}\"]\n"),
            "FILE:2: http.hosts: ",
            &[host, &piece],
        );
    }
}
