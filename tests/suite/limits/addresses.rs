//! Limits per client address, and the rate of new connections.

use super::responses::assert_problem;
use super::{config_of, counts, let_in, limits, open_for};
use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::process::Signal;
use crate::harness::promise;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(clients_are_counted_by_the_address_from_trusted_proxies),
        promise(the_proxy_of_a_unix_socket_is_trusted_only_if_configured),
        promise(new_connections_are_rate_limited_in_total_and_per_address),
    ]
}

fn clients_are_counted_by_the_address_from_trusted_proxies() {
    let http = "max_clients_per_ip = 2\ntrusted_proxies = [\"127.0.0.1\", \"127.9.0.0/16\"]";
    let daemon = Daemon::start(&config_of(http));
    block_on(async {
        let mut streams = Vec::new();
        let mut check = async |source: &str, headers: &[(&str, &str)], expected: bool| {
            let (stream, is_in) = open_for(&daemon, source, headers).await;
            assert_eq!(is_in, expected, "{source} {headers:?}");
            streams.push(stream);
        };
        // Behind a proxy, by the address that it forwards; entries to the left are ignored.
        check("127.0.0.1", &[("x-forwarded-for", "192.0.2.1")], true).await;
        check(
            "127.0.0.1",
            &[("x-forwarded-for", "198.51.100.9, 192.0.2.1")],
            true,
        )
        .await;
        check(
            "127.0.0.1",
            &[("x-forwarded-for", "198.51.100.8, 192.0.2.1")],
            false,
        )
        .await;
        check("127.9.0.7", &[("forwarded", "for=192.0.2.1")], false).await;
        check("127.9.0.7", &[("forwarded", "for=192.0.2.2")], true).await;
        // A chain of proxies.
        check("127.0.0.1", &[("x-forwarded-for", "192.0.2.2, 127.9.3.3")], true).await;
        check("127.0.0.1", &[("x-forwarded-for", "192.0.2.2, 127.9.3.4")], false).await;
        // One IPv6 network.
        check("127.0.0.1", &[("x-forwarded-for", "2001:db8::1")], true).await;
        check("127.0.0.1", &[("x-forwarded-for", "2001:db8::2")], true).await;
        check("127.0.0.1", &[("x-forwarded-for", "2001:db8::3")], false).await;
        check("127.0.0.1", &[("x-forwarded-for", "2001:db8:0:1::3")], true).await;
        // Without a trusted proxy, clients are counted by the address of their connection.
        check("127.0.0.5", &[("x-forwarded-for", "192.0.2.50")], true).await;
        check("127.0.0.5", &[("x-forwarded-for", "192.0.2.51")], true).await;
        check("127.0.0.5", &[("forwarded", "for=192.0.2.52")], false).await;
        check("127.0.0.6", &[], true).await;
        assert_eq!(limits(&daemon).await["addresses"], 6);
        drop(streams);
        counts(&daemon, 0, 0).await;
    });
    let log = daemon.log();
    assert!(
        log.contains("192.0.2.1: refused, max_clients_per_ip reached"),
        "{log}"
    );
}

/// Requests a stream on behalf of an address, and returns whether the daemon accepted it.
fn ask(path: &Path, client: &str) -> (UnixStream, bool) {
    let mut socket = UnixStream::connect(path).expect("it listens");
    let head = format!(
        "GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nX-Forwarded-For: {client}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).expect("a request fits");
    let mut answer = String::new();
    let mut buffer = [0; 1024];
    while !answer.contains("\r\n\r\n") {
        let read = socket.read(&mut buffer).expect("it answers");
        assert!(read > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let is_refused = answer.contains("content-length");
    (socket, !is_refused)
}

fn the_proxy_of_a_unix_socket_is_trusted_only_if_configured() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bridge.sock");
    let text = |proxies: &str| {
        config_of(&format!("max_clients_per_ip = 1\ntrusted_proxies = {proxies}")).replacen(
            "listen = [\"127.0.0.1:0\"]",
            &format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", path.display()),
            1,
        )
    };
    let daemon = Daemon::start(&text("[]"));
    let (_one, is_in) = ask(&path, "192.0.2.1");
    assert!(is_in);
    let (_two, is_in) = ask(&path, "192.0.2.2");
    assert!(
        !is_in,
        "all clients of a socket have one address, whatever they claim"
    );
    daemon.rewrite_config(&text("[\"unix\"]"));
    daemon.signal(Signal::HUP);
    daemon.wait_log("reloaded: http.trusted_proxies", secs(20));
    let (_three, is_in) = ask(&path, "192.0.2.2");
    assert!(is_in);
    let (_four, is_in) = ask(&path, "192.0.2.2");
    assert!(!is_in);
}

fn new_connections_are_rate_limited_in_total_and_per_address() {
    let http = "max_opens_per_second_per_ip = 2\nmax_opens_per_second = 5";
    let daemon = Daemon::start(&config_of(http));
    block_on(async {
        // Quicker than a bucket fills, also where the machine is slow: asked at once, not one by one.
        let burst = async |sources: &[&'static str]| {
            let asking: Vec<_> = sources
                .iter()
                .map(|source| tokio::spawn(Stream::to(daemon.url("/events")).source(source).send()))
                .collect();
            let mut streams = Vec::new();
            for asking in asking {
                streams.push(let_in(asking.await.expect("no panic").expect("an answer")));
            }
            streams.retain(|(_, is_in)| *is_in);
            streams.len()
        };
        let let_in = burst(&["127.0.0.2"; 40]).await;
        assert!((2..20).contains(&let_in), "{let_in}");
        let refused = limits(&daemon).await["refused"].clone();
        assert_eq!(refused["max_opens_per_second_per_ip"], 40 - let_in);
        assert_eq!(
            refused["max_opens_per_second"], 0,
            "those took no token from others"
        );

        let many: Vec<&'static str> = (3..43)
            .map(|last| &*Box::leak(format!("127.0.0.{last}").into_boxed_str()))
            .collect();
        let let_in = burst(&many).await;
        assert!((3..30).contains(&let_in), "{let_in}");
        let refused = limits(&daemon).await["refused"].clone();
        assert_eq!(refused["max_opens_per_second"], 40 - let_in);
        let answer = get(&daemon.url("/events"), &[]).await;
        if answer.status != 200 {
            assert_problem(&answer, 429, "too_many_opens");
        }
        // The buckets fill again.
        eventually_async(secs(20), "it may come in later", async || {
            let (_, is_in) = open_for(&daemon, "127.0.0.2", &[]).await;
            ensure(is_in, "not yet")
        })
        .await;
        counts(&daemon, 0, 0).await;
    });
}
