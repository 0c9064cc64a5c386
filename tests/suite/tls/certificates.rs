//! Certificates that change while clients are connected.

use super::{connector, start};
use crate::harness::certificates::{Certificates, DAY};
use crate::harness::daemon::Daemon;
use crate::harness::gateway::{Link, connect_tls, trusting};
use crate::harness::process::Signal;
use crate::harness::wait::{block_on, ensure, eventually, eventually_async, secs};
use crate::trials;
use libtest_mimic::Trial;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub fn trials() -> Vec<Trial> {
    trials![
        a_renewed_certificate_is_shown_without_a_reload,
        a_bad_certificate_keeps_the_old_one_and_is_named,
        reloads_of_certificates_close_no_stream,
        an_expired_certificate_is_named,
    ]
}

/// The common name of the certificate that a new connection is shown.
fn shown(certificates: &Certificates, daemon: &Daemon) -> String {
    let socket = TcpStream::connect(("127.0.0.1", daemon.tls_port())).expect("it listens");
    let connector = connector(certificates).build();
    let client = connector.connect("127.0.0.1", socket).expect("a handshake");
    let certificate = client.ssl().peer_certificate().expect("it has one");
    certificate
        .subject_name()
        .entries()
        .next()
        .expect("a subject")
        .data()
        .to_string()
        .expect("UTF-8")
}

fn await_shown(certificates: &Certificates, daemon: &Daemon, name: &str) {
    eventually(secs(30), "the new certificate is shown", || {
        let shown = shown(certificates, daemon);
        ensure(shown == name, shown)
    });
}

/// The value of `kafka_sse_bridge_NAME` in `/metrics`.
async fn metric(daemon: &Daemon, name: &str) -> Option<f64> {
    let text = daemon.get("/metrics").await.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("kafka_sse_bridge_")?.strip_prefix(name));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
}

const EXPIRY: &str = "tls_certificate_expiry_timestamp_seconds{";

fn a_renewed_certificate_is_shown_without_a_reload() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "");
    let days_left = || {
        let expiry = block_on(metric(&daemon, EXPIRY)).expect("a sample");
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_secs_f64();
        (expiry - now) / DAY.as_secs_f64()
    };
    assert!((89.9..90.1).contains(&days_left()), "{}", days_left());
    assert_eq!(shown(&certificates, &daemon), "localhost");
    certificates.write("server", &["renewed.example"], 30 * DAY);
    await_shown(&certificates, &daemon, "renewed.example");
    assert!((29.9..30.1).contains(&days_left()), "{}", days_left());
    daemon.wait_log("http.tls: files have changed and were read again", secs(10));
    // Or by a reload, at once.
    certificates.write("server", &["again.example"], 30 * DAY);
    daemon.signal(Signal::HUP);
    await_shown(&certificates, &daemon, "again.example");
}

fn a_bad_certificate_keeps_the_old_one_and_is_named() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "");
    let degraded = async || daemon.get("/health/ready").await.json()["degraded"].to_string();
    let others = Certificates::new();
    let key = std::fs::read(certificates.path("server.key")).expect("it is there");
    // The key of another certificate.
    let other = std::fs::read(others.path("server.key")).expect("it is there");
    certificates.replace("server.key", &other);
    block_on(eventually_async(secs(30), "it is named", async || {
        let degraded = degraded().await;
        ensure(degraded.contains("is not the key of the certificate"), degraded)
    }));
    daemon.wait_log("the certificates in use are unchanged", secs(10));
    assert_eq!(shown(&certificates, &daemon), "localhost");
    // A reload that finds it changes nothing either.
    daemon.signal(Signal::HUP);
    daemon.wait_log("reload failed, the running configuration is unchanged", secs(10));
    assert_eq!(shown(&certificates, &daemon), "localhost");
    // No certificate at all, then the right one again.
    certificates.replace("server.key", b"nothing");
    block_on(eventually_async(secs(30), "it is named", async || {
        let degraded = degraded().await;
        ensure(degraded.contains("holds no private key in PEM"), degraded)
    }));
    certificates.replace("server.key", &key);
    block_on(eventually_async(secs(30), "it is well again", async || {
        let degraded = degraded().await;
        ensure(!degraded.contains("http.tls"), degraded)
    }));
    certificates.write("server", &["after.example"], 30 * DAY);
    await_shown(&certificates, &daemon, "after.example");
}

fn an_expired_certificate_is_named() {
    let certificates = Certificates::new();
    certificates.write("server", &["short.example"], secs(8));
    let daemon = start(&certificates, "", "");
    let degraded = async || daemon.get("/health/ready").await.json()["degraded"].to_string();
    assert!(!block_on(degraded()).contains("http.tls"));
    block_on(eventually_async(secs(30), "it is named", async || {
        let degraded = degraded().await;
        ensure(degraded.contains("has expired; renew it"), degraded)
    }));
}

const CLIENTS: u64 = 500;

/// Reads a stream until it ends; counts the pieces that come.
async fn follow(mut link: Link, pieces: Arc<AtomicU64>, ended: Arc<AtomicU64>) {
    let request = b"GET /events?start=live HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    let mut buffer = vec![0; 4096];
    if link.write_all(request).await.is_ok() {
        while link.read(&mut buffer).await.is_ok_and(|count| count > 0) {
            pieces.fetch_add(1, Ordering::Relaxed);
        }
    }
    ended.fetch_add(1, Ordering::Relaxed);
}

/// The same over HTTP/2.
async fn follow_http2(link: Link, pieces: Arc<AtomicU64>, ended: Arc<AtomicU64>) {
    let (mut client, connection) = h2::client::handshake(link).await.expect("a connection");
    tokio::spawn(connection);
    let request = http::Request::get("https://127.0.0.1/events?start=live").body(());
    let sent = client.send_request(request.expect("a request"), true);
    let (response, _) = sent.expect("it is open");
    if let Ok(response) = response.await {
        let mut body = response.into_body();
        while let Some(Ok(data)) = body.data().await {
            let given_back = body.flow_control().release_capacity(data.len());
            given_back.expect("a window");
            pieces.fetch_add(1, Ordering::Relaxed);
        }
    }
    ended.fetch_add(1, Ordering::Relaxed);
}

fn reloads_of_certificates_close_no_stream() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "keepalive = \"1s\"", "");
    let config = trusting(&certificates.ca(), &[b"http/1.1"]);
    let http2 = trusting(&certificates.ca(), &[b"h2"]);
    block_on(async {
        let ended = Arc::<AtomicU64>::default();
        let mut pieces = Vec::new();
        for number in 0..CLIENTS {
            let is_http2 = number % 2 == 0;
            let client = if is_http2 { &http2 } else { &config };
            let link = connect_tls(daemon.tls_port(), Arc::clone(client))
                .await
                .expect("a handshake");
            let count = Arc::<AtomicU64>::default();
            if is_http2 {
                tokio::spawn(follow_http2(link, Arc::clone(&count), Arc::clone(&ended)));
            } else {
                tokio::spawn(follow(link, Arc::clone(&count), Arc::clone(&ended)));
            }
            pieces.push(count);
        }
        eventually_async(secs(30), "all are open", async || {
            let streams = daemon.get("/streams").await.json();
            ensure(streams["streams"][0]["clients"] == CLIENTS, streams.to_string())
        })
        .await;
        let started = Instant::now();
        let mut reloads = 0;
        while started.elapsed() < secs(8) {
            certificates.write("server", &["localhost"], 30 * DAY);
            daemon.signal(Signal::HUP);
            reloads += 1;
            // New clients connect meanwhile.
            connect_tls(daemon.tls_port(), Arc::clone(&config))
                .await
                .expect("a handshake");
            // The interval of the reloads, which is the promise's own.
            tokio::time::sleep(secs(1)).await;
        }
        assert!(reloads > 5, "{reloads}");
        eventually_async(secs(30), "reloads were applied", async || {
            let count = metric(&daemon, "reloads_total{result=\"ok\"}").await;
            ensure(count > Some(4.0), format!("{count:?}"))
        })
        .await;
        // Every client still gets its keepalives.
        let before: Vec<u64> = pieces.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        eventually_async(secs(30), "everyone gets more", async || {
            let behind = pieces
                .iter()
                .zip(&before)
                .filter(|(count, before)| count.load(Ordering::Relaxed) <= **before)
                .count();
            ensure(behind == 0, format!("{behind} do not"))
        })
        .await;
        assert_eq!(ended.load(Ordering::Relaxed), 0);
    });
}
