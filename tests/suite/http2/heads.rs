//! Heads of requests over HTTP/2 that are large, unfinished or contradictory, and bodies, which nothing reads.

use super::{PATIENCE, PREFACE, connect, figures, request};
use crate::harness::daemon::Daemon;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::limits::config_of;
use crate::trials;
use http::Request;
use libtest_mimic::Trial;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpStream;
use tokio::time::timeout;

pub fn trials() -> Vec<Trial> {
    trials![
        a_large_head_gets_status_431_over_http_2,
        a_body_without_end_gets_status_405_and_is_not_read,
        a_host_field_that_is_not_the_authority_is_refused,
        half_a_preface_is_not_waited_for,
    ]
}

fn a_large_head_gets_status_431_over_http_2() {
    let daemon = Daemon::start(&config_of("http2 = true"));
    block_on(async {
        let (client, connection) = connect(&daemon, 65_535).await;
        for (name, size, status) in [
            ("x", 20_000, 200),
            ("x", 40_000, 431),
            ("authorization", 40_000, 431),
            ("cookie", 40_000, 431),
        ] {
            let mut large = request("/health/live");
            let value = "x".repeat(size).parse().expect("a value");
            large.headers_mut().insert(name, value);
            let mut ready = client.clone().ready().await.expect("it is open");
            let (response, _) = ready.send_request(large, true).expect("sent");
            let response = timeout(PATIENCE, response)
                .await
                .expect("in time")
                .expect("a response");
            assert_eq!(response.status(), status, "{name} {size}");
        }
        // A megabyte is not even read.
        let mut huge = request("/health/live");
        let value = "x".repeat(1 << 20).parse().expect("a value");
        huge.headers_mut().insert("authorization", value);
        let mut ready = client.clone().ready().await.expect("it is open");
        let (response, _) = ready.send_request(huge, true).expect("sent");
        assert!(timeout(PATIENCE, response).await.expect("in time").is_err());
        timeout(PATIENCE, connection)
            .await
            .expect("it is closed")
            .expect("a task")
            .expect_err("as a flood");
        eventually_async(PATIENCE, "it is counted", async || {
            let figures = figures(&daemon).await;
            ensure(
                figures["http"]["http2"]["floods"]["head"] == 1,
                figures.to_string(),
            )
        })
        .await;
    });
}

fn a_body_without_end_gets_status_405_and_is_not_read() {
    // That of RFC 9113, until the daemon's settings, which have a smaller one, have come.
    const WINDOW: usize = 65_535;
    let daemon = Daemon::start(&config_of("http2 = true"));
    block_on(async {
        let (client, connection) = connect(&daemon, 65_535).await;
        let post = Request::post("http://127.0.0.1/events")
            .body(())
            .expect("a request");
        let mut ready = client.clone().ready().await.expect("it is open");
        let (response, mut body) = ready.send_request(post, false).expect("sent");
        let mut sent = 0;
        body.reserve_capacity(1 << 20);
        // Until the daemon resets the stream, because it has answered.
        while let Some(Ok(capacity)) = timeout(PATIENCE, poll_fn(|cx| body.poll_capacity(cx)))
            .await
            .expect("in time")
        {
            sent += capacity;
            assert!(sent <= WINDOW, "{sent}");
            if body.send_data(vec![0; capacity].into(), false).is_err() {
                break;
            }
            body.reserve_capacity(1 << 20);
        }
        let response = timeout(PATIENCE, response).await.expect("in time");
        assert_eq!(response.expect("a response").status(), 405);
        connection.abort();
    });
}

/// RFC 9113, section 8.3.1. A proxy in front may have decided by either of the two.
fn a_host_field_that_is_not_the_authority_is_refused() {
    let daemon = Daemon::start(&config_of("http2 = true"));
    block_on(async {
        let (client, connection) = connect(&daemon, 65_535).await;
        for (host, status) in [("127.0.0.1", 200), ("other.example.org", 400)] {
            let mut request = request("/health/live");
            let value = host.parse().expect("a value");
            request.headers_mut().insert("host", value);
            let mut ready = client.clone().ready().await.expect("it is open");
            let (response, _) = ready.send_request(request, true).expect("sent");
            let response = timeout(PATIENCE, response).await.expect("in time");
            assert_eq!(response.expect("a response").status(), status, "{host}");
        }
        connection.abort();
    });
}

fn half_a_preface_is_not_waited_for() {
    let daemon = Daemon::start(&config_of("http2 = true"));
    let mut socket = TcpStream::connect(("127.0.0.1", daemon.port())).expect("it listens");
    socket.set_read_timeout(Some(secs(60))).expect("a socket");
    socket.write_all(&PREFACE[..10]).expect("sent");
    let _ = socket.read_to_end(&mut Vec::new());
    block_on(eventually_async(PATIENCE, "it is counted", async || {
        let figures = figures(&daemon).await;
        ensure(figures["http"]["head_timeouts"] == 1, figures.to_string())
    }));
}
