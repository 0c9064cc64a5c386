//! Request heads that are slow or large.

use super::idle::secured;
use super::{Kept, connect, has_ended};
use crate::auth::issuer::Issuer;
use crate::auth::refused::jwt;
use crate::auth::{self, File};
use crate::harness::certificates::Certificates;
use crate::harness::daemon::Daemon;
use crate::harness::memory::{mebibytes, peak, reset_peak};
use crate::harness::promise;
use crate::harness::raw::{self, exchange};
use crate::harness::wait::{ensure, eventually, millis, secs};
use crate::limits::config_of;
use libtest_mimic::Trial;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

pub fn trials() -> Vec<Trial> {
    vec![
        promise(only_slow_request_heads_time_out),
        promise(a_large_request_head_gets_status_431),
        promise(a_malformed_request_head_gets_status_400),
        promise(a_request_head_may_have_32_kib_and_not_a_byte_more),
        promise(a_token_of_a_megabyte_gets_status_431_and_costs_no_memory),
    ]
}

fn only_slow_request_heads_time_out() {
    let certificates = Certificates::new();
    let daemon = Daemon::start(&certificates.behind(&config_of("keepalive = \"1s\""), ""));
    let mut kept = Kept::new(&daemon);
    assert_eq!(kept.get("/health/live").expect("it is open").0, 200);
    // One without a byte, one whose stream is open, and one with the beginning of a request behind its stream.
    let mut silent = Kept::new(&daemon);
    let mut stream = connect(&daemon);
    let ask = "GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(ask.as_bytes()).expect("a request fits");
    let mut ahead = connect(&daemon);
    ahead
        .write_all(format!("{ask}GET /hea").as_bytes())
        .expect("it fits");

    // A byte at a time, and none any more, and none any more behind a request that was answered.
    let mut dripping = connect(&daemon);
    dripping
        .write_all(b"GET /health/live HTTP/1.1\r\nX: ")
        .expect("it fits");
    let mut stuck = connect(&daemon);
    stuck.write_all(b"GET / HT").expect("it fits");
    // And none after the handshake of TLS.
    let socket = TcpStream::connect(("127.0.0.1", daemon.tls_port())).expect("it listens");
    socket.set_read_timeout(Some(secs(60))).expect("a socket");
    let mut stuck_over_tls = secured(&certificates, socket);
    stuck_over_tls.write_all(b"GET / HT").expect("it fits");
    let mut second = connect(&daemon);
    let first = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /health/li";
    second.write_all(first).expect("it fits");
    eventually(secs(60), "the one that drips is cut off", || {
        // No client is left to write to after the disconnect.
        let _ = dripping.write_all(b"x");
        ensure(has_ended(&mut dripping, millis(200)), "it is open")
    });
    assert!(has_ended(&mut stuck, secs(60)));
    let read = stuck_over_tls.read(&mut [0; 1]);
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let mut answer = String::new();
    second.read_to_string(&mut answer).expect("it ends");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");

    // Those had as much time.
    assert_eq!(kept.get("/health/live").expect("it is open").0, 200);
    assert_eq!(silent.get("/health/live").expect("it is open").0, 200);
    for socket in [&mut stream, &mut ahead] {
        // First the records written meanwhile, then more.
        socket.set_nonblocking(true).expect("a socket");
        let mut buffer = vec![0; 64 * 1024];
        while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
        socket.set_nonblocking(false).expect("a socket");
        assert!(!has_ended(socket, secs(20)));
    }
    eventually(secs(20), "each is counted", || {
        let figures = kept.figures();
        ensure(
            figures["head_timeouts"] == 4 && figures["write_timeouts"] == 0,
            figures.to_string(),
        )
    });
}

fn a_large_request_head_gets_status_431() {
    let daemon = Daemon::start(&config_of(""));
    let mut kept = Kept::new(&daemon);
    assert_eq!(kept.get("/health/live").expect("it is open").0, 200);
    let ask = |size: usize| {
        let mut socket = connect(&daemon);
        let head = format!("GET /health/live HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(size));
        socket.write_all(head.as_bytes()).expect("it is read");
        if size < 30_000 {
            socket
                .write_all(b"\r\nConnection: close\r\n\r\n")
                .expect("it is read");
        } else {
            // The head never ends, so the response is to its size.
            socket.shutdown(Shutdown::Write).expect("it is open");
        }
        let mut answer = String::new();
        socket
            .read_to_string(&mut answer)
            .expect("an answer, then a proper end");
        answer
    };
    assert!(ask(28_000).starts_with("HTTP/1.1 200 OK\r\n"));
    for size in [33_000, 60_000, 200_000] {
        let answer = ask(size);
        assert_is_error(&answer, "431 Request Header Fields Too Large", "head_too_large");
    }
    // Many small fields too.
    let mut socket = connect(&daemon);
    let fields = "x: y\r\n".repeat(200);
    socket
        .write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes())
        .expect("it is read");
    let mut answer = String::new();
    socket
        .read_to_string(&mut answer)
        .expect("an answer, then a proper end");
    assert_is_error(&answer, "431 Request Header Fields Too Large", "head_too_large");
    eventually(secs(20), "each is counted", || {
        let figures = kept.figures();
        ensure(figures["large_heads"] == 4, figures.to_string())
    });
}

/// A response that is JSON, as all errors are, and says that the connection ends.
fn assert_is_error(answer: &str, status: &str, code: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
    assert!(head.contains("\r\nconnection: close"), "{answer}");
    assert!(
        head.contains("\r\ncontent-type: application/json\r\n"),
        "{answer}"
    );
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert_eq!(body["error"]["code"], code, "{answer}");
    assert!(body["error"]["message"].is_string(), "{answer}");
}

/// Also behind a request that is answered, and over HTTP/1.0.
fn a_malformed_request_head_gets_status_400() {
    let daemon = Daemon::start(&config_of(""));
    let good = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    for bad in [
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nHost x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "\0",
    ] {
        for before in ["", good] {
            let mut socket = connect(&daemon);
            socket
                .write_all(format!("{before}{bad}").as_bytes())
                .expect("it fits");
            let mut answer = String::new();
            socket
                .read_to_string(&mut answer)
                .expect("an answer, then a proper end");
            let error = if before.is_empty() {
                answer
            } else {
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                let (_, error) = answer.rsplit_once("HTTP/1.1 ").expect("a second one");
                format!("HTTP/1.1 {error}")
            };
            assert_is_error(&error, "400 Bad Request", "malformed_request");
        }
    }
}

fn a_request_head_may_have_32_kib_and_not_a_byte_more() {
    let daemon = Daemon::start(&config_of(""));
    let (start, end) = (
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX: ",
        "\r\nConnection: close\r\n\r\n",
    );
    for (size, status) in [
        (32_768, 200),
        (32_769, 431),
        (40_000, 431),
        (45_037, 431),
        (50_000, 431),
    ] {
        for piece in [size, 1000, 7001] {
            let head = format!("{start}{}{end}", "x".repeat(size - start.len() - end.len()));
            let mut socket = connect(&daemon);
            socket.set_nodelay(true).expect("a socket");
            for bytes in head.as_bytes().chunks(piece) {
                // It may be answered before its end.
                if socket.write_all(bytes).is_err() {
                    break;
                }
            }
            let mut answer = String::new();
            socket
                .read_to_string(&mut answer)
                .expect("an answer, then a proper end");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{size} by {piece}: {answer}"
            );
        }
    }
}

/// As large as no head may be. Over HTTP/2 such a head closes the connection: `a_large_head_gets_status_431_over_http_2`.
fn a_token_of_a_megabyte_gets_status_431_and_costs_no_memory() {
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let cookie = "[auth]\ncookie = \"session\"\n";
    let daemon = auth::daemon(&format!("{cookie}{}", jwt(&issuer, &key, "")), "");
    let huge = "x".repeat(1 << 20);
    let send = || {
        for carrier in ["Authorization: Bearer ", "Cookie: session="] {
            let head = format!("Host: x\r\n{carrier}{huge}\r\n");
            let answer = exchange(daemon.port(), &raw::get("/events", &head));
            assert!(answer.starts_with("HTTP/1.1 431 "), "{carrier}: {answer}");
        }
    };
    send();
    reset_peak(daemon.pid());
    let before = peak(daemon.pid());
    for _ in 0..20 {
        send();
    }
    let cost = mebibytes(peak(daemon.pid()).saturating_sub(before));
    assert!(cost < 4.0, "{cost} MiB");
}
