//! Handshakes that are slow, too many, or none; and connections that end without one.

use super::{await_clients, await_handshakes, connect, connector, figures, start, text};
use crate::common::config;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::certificates::Certificates;
use crate::harness::daemon::{Daemon, finish};
use crate::harness::produce::Message;
use crate::harness::raw::connect_from;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{promise, promise_on};
use libtest_mimic::Trial;
use openssl::ssl::ShutdownState;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_slow_handshake_is_closed_and_counted),
        promise(half_open_handshakes_of_one_address_are_limited),
        promise(one_address_cannot_hold_up_the_handshakes_of_others),
        promise(listeners_wait_while_too_many_handshakes_are_under_way),
        promise(http_on_the_port_of_https_gets_status_400),
        promise(a_client_that_closes_its_side_ends_its_stream_over_tls),
        promise(half_closed_clients_get_responses_over_tls),
        promise_on(Version::V4_4, a_client_that_never_reads_over_tls_is_closed),
        promise(a_shutdown_waits_for_no_handshake),
        promise(renegotiation_and_early_data_are_refused),
    ]
}

fn raw(daemon: &Daemon) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", daemon.tls_port())).expect("it listens");
    socket.set_read_timeout(Some(secs(60))).expect("a socket");
    socket
}

/// Waits for the end of a connection; returns the bytes before it.
fn read_end(mut socket: impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = socket.read_to_end(&mut rest);
    rest
}

fn a_slow_handshake_is_closed_and_counted() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "handshake_timeout = \"1s\"");
    let silent = raw(&daemon);
    let mut half = raw(&daemon);
    // The head of a record that never comes.
    half.write_all(&[22, 3, 1, 1, 0]).expect("it fits");
    let others: Vec<TcpStream> = (0..50).map(|_| raw(&daemon)).collect();
    // Others are served meanwhile.
    let mut client = connect(&daemon, connector(&certificates));
    client
        .write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("sent");
    assert!(read_end(client).starts_with(b"HTTP/1.1 200 OK\r\n"));
    for socket in [silent, half].into_iter().chain(others) {
        assert!(read_end(socket).is_empty());
    }
    await_handshakes(&daemon, "timeout", 52);
    block_on(async {
        let figures = figures(&daemon).await;
        assert_eq!(figures["tls"]["handshakes_under_way"], 0, "{figures}");
    });
}

fn half_open_handshakes_of_one_address_are_limited() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "max_handshakes_per_ip = 3");
    let open: Vec<TcpStream> = (0..3).map(|_| raw(&daemon)).collect();
    block_on(eventually_async(secs(20), "they are under way", async || {
        let figures = figures(&daemon).await;
        ensure(figures["tls"]["handshakes_under_way"] == 3, figures.to_string())
    }));
    assert!(read_end(raw(&daemon)).is_empty(), "one too many");
    await_handshakes(&daemon, "refused", 1);
    drop(open);
    await_handshakes(&daemon, "failed", 3);
    connect(&daemon, connector(&certificates));
}

/// By default, however long a handshake may take and however few there may be.
fn one_address_cannot_hold_up_the_handshakes_of_others() {
    let certificates = Certificates::new();
    for (most, of_address, of_proxies) in [(140, 64, 65), (10, 5, 3)] {
        let daemon = start(
            &certificates,
            "trusted_proxies = [\"127.0.0.9\"]",
            &format!("max_handshakes = {most}\nhandshake_timeout = \"1h\""),
        );
        let silent = |source: &str, count: usize| -> Vec<TcpStream> {
            (0..count)
                .map(|_| connect_from(source, daemon.tls_port()))
                .collect()
        };
        let of_proxy = silent("127.0.0.9", of_proxies);
        let of_one = silent("127.0.0.2", of_address + 3);
        // Served at once, although either has more open than one address may have, or all that it may have.
        let connector = connector(&certificates).build();
        let socket = connect_from("127.0.0.3", daemon.tls_port());
        drop(connector.connect("127.0.0.1", socket).expect("a handshake"));
        await_handshakes(&daemon, "refused", 3);
        block_on(eventually_async(
            secs(20),
            "the others are under way",
            async || {
                let tls = figures(&daemon).await["tls"].clone();
                let is_exact =
                    tls["handshakes_under_way"] == of_proxies + of_address && tls["handshake_waits"] == 0;
                ensure(is_exact, tls.to_string())
            },
        ));
        drop((of_proxy, of_one));
    }
}

fn listeners_wait_while_too_many_handshakes_are_under_way() {
    let certificates = Certificates::new();
    let daemon = start(
        &certificates,
        "",
        "max_handshakes = 2\nmax_handshakes_per_ip = 0\nhandshake_timeout = \"2s\"",
    );
    let open: Vec<TcpStream> = (0..2).map(|_| raw(&daemon)).collect();
    block_on(eventually_async(secs(20), "they are under way", async || {
        let figures = figures(&daemon).await;
        ensure(figures["tls"]["handshakes_under_way"] == 2, figures.to_string())
    }));
    // It is accepted once one of them is closed.
    connect(&daemon, connector(&certificates));
    block_on(async {
        let figures = figures(&daemon).await;
        assert!(figures["tls"]["handshake_waits"].as_u64() >= Some(1), "{figures}");
        assert!(
            figures["tls"]["handshakes"]["timeout"].as_u64() >= Some(1),
            "{figures}"
        );
    });
    drop(open);
}

fn http_on_the_port_of_https_gets_status_400() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "");
    let mut socket = raw(&daemon);
    socket
        .write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("sent");
    let answer = String::from_utf8(read_end(socket)).expect("text");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("\"tls_required\""), "{answer}");
    await_handshakes(&daemon, "no-tls", 1);
    // Anything else is closed.
    let mut socket = raw(&daemon);
    socket.write_all(&[0; 100]).expect("sent");
    assert!(read_end(socket).is_empty());
    await_handshakes(&daemon, "failed", 1);
}

const STREAM: &[u8] = b"GET /events?start=live HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";

fn a_client_that_closes_its_side_ends_its_stream_over_tls() {
    let certificates = Certificates::new();
    // Nothing is written meanwhile, so no write can fail.
    let daemon = start(&certificates, "keepalive = \"1h\"", "");
    for behind in [&b""[..], b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"] {
        // By close_notify, with the connection left open.
        let mut client = connect(&daemon, connector(&certificates));
        client.write_all(&[STREAM, behind].concat()).expect("sent");
        await_clients(&daemon, 1);
        client.shutdown().expect("close_notify");
        assert!(client.get_shutdown().contains(ShutdownState::SENT));
        await_clients(&daemon, 0);
        // By the end of the connection alone.
        let mut client = connect(&daemon, connector(&certificates));
        client.write_all(&[STREAM, behind].concat()).expect("sent");
        await_clients(&daemon, 1);
        client.get_ref().shutdown(Shutdown::Write).expect("it is open");
        await_clients(&daemon, 0);
    }
}

fn half_closed_clients_get_responses_over_tls() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "");
    for path in ["/health/live", "/metrics", "/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut client = connect(&daemon, connector(&certificates));
        client.write_all(request.as_bytes()).expect("sent");
        client.get_ref().shutdown(Shutdown::Write).expect("it is open");
        let answer = read_end(client);
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{path}");
    }
}

fn a_client_that_never_reads_over_tls_is_closed() {
    let certificates = Certificates::new();
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("tls-stalled");
    broker.create_topic(&topic, 1, &[]);
    let large = "x".repeat(500_000);
    broker.produce(&topic, &vec![Message::value(large.as_str()); 20]);
    let text = config(&broker, &[&topic], "start = \"earliest\"");
    let text = text.replacen("[http]\n", "[http]\nwrite_timeout = \"2s\"\n", 1);
    let daemon = Daemon::start(&certificates.behind(&text, ""));
    block_on(daemon.wait_ready(secs(30)));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let address = SocketAddr::from(([127, 0, 0, 1], daemon.tls_port()));
    socket.connect(&SockAddr::from(address)).expect("it listens");
    let connector = connector(&certificates).build();
    let mut client = connector
        .connect("127.0.0.1", TcpStream::from(socket))
        .expect("a handshake");
    client
        .write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("sent");
    block_on(eventually_async(secs(60), "it is counted", async || {
        let figures = figures(&daemon).await;
        ensure(figures["write_timeouts"] == 1, figures.to_string())
    }));
    await_clients(&daemon, 0);
}

fn a_shutdown_waits_for_no_handshake() {
    let certificates = Certificates::new();
    let mut daemon = start(
        &certificates,
        "drain_timeout = \"1h\"",
        "handshake_timeout = \"1h\"",
    );
    let half = raw(&daemon);
    block_on(eventually_async(secs(20), "it is under way", async || {
        let figures = figures(&daemon).await;
        ensure(figures["tls"]["handshakes_under_way"] == 1, figures.to_string())
    }));
    daemon.signal(crate::harness::process::Signal::TERM);
    assert!(daemon.wait_exit(secs(20)).success());
    assert!(read_end(half).is_empty());
}

/// Either would let a client cost more than its connection does, or have its request repeated by others.
fn renegotiation_and_early_data_are_refused() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "");
    let s_client = |input: &str, arguments: &str| {
        let line = format!(
            "({input}) | timeout 20 openssl s_client -connect 127.0.0.1:{} -CAfile {} {arguments} 2>&1",
            daemon.tls_port(),
            certificates.path("ca.pem")
        );
        text(&finish(Command::new("sh").args(["-c", &line])))
    };
    // The command of s_client for a handshake within the connection.
    let said = s_client("sleep 1; echo R; sleep 2", "-tls1_2");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation"), "{said}");
    let request = certificates.path("request");
    std::fs::write(&request, "HEAD /health/live HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    let session = certificates.path("session");
    let send = format!("cat {request}; sleep 1");
    let said = s_client(&send, &format!("-tls1_3 -sess_out {session}"));
    assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
    assert!(said.contains("Max Early Data: 0"), "{said}");
    let said = s_client(
        &send,
        &format!("-tls1_3 -sess_in {session} -early_data {request}"),
    );
    assert!(said.contains("Reused, TLSv1.3"), "{said}");
    assert!(said.contains("Early data was not sent"), "{said}");
}
