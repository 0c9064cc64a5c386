//! HTTPS: certificates by name, versions, resumption, client certificates, and certificates that change.

mod certificates;
mod clients;
mod handshakes;
mod settings;
mod sockets;

use crate::harness::certificates::Certificates;
use crate::harness::daemon::{Daemon, finish};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::limits::config_of;
use libtest_mimic::Trial;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslStream};
use serde_json::Value;
use std::net::TcpStream;
use std::process::{Command, Output};

pub fn trials() -> Vec<Trial> {
    [
        certificates::trials(),
        clients::trials(),
        handshakes::trials(),
        settings::trials(),
        sockets::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A daemon without Kafka that speaks TLS with the certificate `server`, with more lines for `[http]` and `[http.tls]`.
fn start(certificates: &Certificates, http: &str, tls: &str) -> Daemon {
    Daemon::start(&certificates.behind(&config_of(http), tls))
}

/// `http` in `/streams`, over the listener without TLS.
async fn figures(daemon: &Daemon) -> Value {
    daemon.get("/streams").await.json()["http"].clone()
}

/// Waits until the daemon has counted so many handshakes with this result.
fn await_handshakes(daemon: &Daemon, result: &str, count: u64) {
    block_on(eventually_async(
        secs(20),
        "the handshakes are counted",
        async || {
            let figures = figures(daemon).await;
            ensure(figures["tls"]["handshakes"][result] == count, figures.to_string())
        },
    ));
}

/// Waits until so many streams are open.
fn await_clients(daemon: &Daemon, clients: u64) {
    block_on(eventually_async(
        secs(20),
        "the streams are counted",
        async || {
            let text = daemon.get("/streams").await.text();
            let streams: Value = serde_json::from_str(&text).expect("JSON");
            ensure(streams["streams"][0]["clients"] == clients, text)
        },
    ));
}

/// Runs curl, which trusts the authority; returns what it prints.
fn curl(certificates: &Certificates, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            "--cacert",
        ])
        .arg(certificates.path("ca.pem"))
        .args(arguments);
    finish(&mut command)
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn connector(certificates: &Certificates) -> SslConnectorBuilder {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("OpenSSL");
    builder
        .set_ca_file(certificates.path("ca.pem"))
        .expect("the authority");
    builder
}

/// A connection with TLS.
fn connect(daemon: &Daemon, builder: SslConnectorBuilder) -> SslStream<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", daemon.tls_port())).expect("it listens");
    socket.set_read_timeout(Some(secs(60))).expect("a socket");
    let connector = builder.build();
    connector.connect("127.0.0.1", socket).expect("a handshake")
}
