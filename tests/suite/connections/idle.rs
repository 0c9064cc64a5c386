//! Connections over which nothing is sent, or only now and then.

use super::{Kept, has_ended};
use crate::harness::certificates::Certificates;
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::promise;
use crate::harness::raw::connect_from;
use crate::harness::wait::{block_on, ensure, eventually, secs};
use crate::limits::config_of;
use libtest_mimic::Trial;
use openssl::ssl::{SslConnector, SslMethod, SslStream};
use std::io::{Read, Write};
use std::net::TcpStream;

pub fn trials() -> Vec<Trial> {
    vec![promise(idle_connections_of_one_address_are_limited)]
}

/// The beginning of a connection of HTTP/2: the preface, and empty settings (RFC 9113, section 3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A connection with TLS, whose handshake is complete.
pub(super) fn secured(certificates: &Certificates, socket: TcpStream) -> SslStream<TcpStream> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("OpenSSL");
    builder
        .set_ca_file(certificates.path("ca.pem"))
        .expect("the authority");
    builder.build().connect("127.0.0.1", socket).expect("a handshake")
}

fn is_answered(socket: TcpStream) -> bool {
    Kept(socket)
        .get("/health/live")
        .is_some_and(|(status, _)| status == 200)
}

fn idle_connections_of_one_address_are_limited() {
    const CLIENT: &str = "127.0.0.2";
    let certificates = Certificates::new();
    let text = |most: &str| {
        let http =
            format!("http2 = true\nmax_connections_per_ip = {most}\ntrusted_proxies = [\"127.0.0.9\"]");
        certificates.behind(&config_of(&http), "")
    };
    let daemon = Daemon::start(&text("4"));
    let (plain, tls) = (daemon.port(), daemon.tls_port());

    // One that sends nothing, one at rest between requests, one of HTTP/2 without streams, and one of TLS.
    let silent = connect_from(CLIENT, plain);
    let mut kept = Kept(connect_from(CLIENT, plain));
    assert_eq!(kept.get("/health/live").expect("an answer").0, 200);
    let mut http2 = connect_from(CLIENT, plain);
    http2.write_all(HTTP2).expect("it fits");
    http2.read_exact(&mut [0; 9]).expect("settings");
    let secured = secured(&certificates, connect_from(CLIENT, tls));

    for port in [plain, tls] {
        assert!(has_ended(&mut connect_from(CLIENT, port), secs(20)), "{port}");
    }
    let mut late = connect_from(CLIENT, plain);
    // It may be closed already.
    let _ = late.write_all(HTTP2);
    assert!(has_ended(&mut late, secs(20)));
    assert!(is_answered(connect_from("127.0.0.3", plain)), "another address");
    let proxied: Vec<Kept> = (0..6)
        .map(|_| {
            let mut kept = Kept(connect_from("127.0.0.9", plain));
            assert_eq!(kept.get("/health/live").expect("a proxy is not limited").0, 200);
            kept
        })
        .collect();
    assert_eq!(kept.get("/health/live").expect("it is open").0, 200);
    assert_eq!(kept.figures()["refused_connections"], 3);
    daemon.wait_log(
        "127.0.0.2: connection refused, max_connections_per_ip reached",
        secs(20),
    );

    // Each of them makes a place when it ends.
    drop((silent, http2));
    eventually(secs(20), "another one is accepted", || {
        ensure(is_answered(connect_from(CLIENT, plain)), "not yet")
    });
    drop(secured);
    eventually(secs(20), "with TLS too", || {
        let mut socket = connect_from(CLIENT, tls);
        // HTTP where TLS is spoken is answered, if the connection is accepted.
        let _ = socket.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        ensure(answer.contains("tls_required"), answer)
    });
    drop(proxied);

    // A reload applies to connections that begin later.
    daemon.rewrite_config(&text("0"));
    daemon.signal(Signal::HUP);
    daemon.wait_log("reloaded: http.max_connections_per_ip", secs(20));
    let mut all: Vec<Kept> = (0..6).map(|_| Kept(connect_from(CLIENT, plain))).collect();
    for kept in &mut all {
        assert_eq!(kept.get("/health/live").expect("no limit").0, 200);
    }
    assert_eq!(block_on(daemon.get("/health/live")).status, 200);
}
