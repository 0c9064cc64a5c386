//! What clients that read nothing cost in memory, over HTTP/2 and over TLS: what docs/architecture.md allows them.

use super::{Client, PATIENCE, connect, figures, large_topic, open, read_until, request};
use crate::harness::broker::Version;
use crate::harness::certificates::Certificates;
use crate::harness::daemon::Daemon;
use crate::harness::gateway::{Link, connect_tls, trusting};
use crate::harness::memory::{mebibytes, peak, reset_peak};
use crate::harness::produce::Message;
use crate::harness::promise_on;
use crate::harness::wait::{block_on, ensure, eventually_async};
use h2::RecvStream;
use libtest_mimic::Trial;
use rustls::ClientConfig;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub fn trials() -> Vec<Trial> {
    vec![promise_on(
        Version::V4_4,
        clients_that_read_nothing_cost_little_memory_over_http_2_and_tls,
    )]
}

const CONNECTIONS: u32 = 10;
/// As many as a connection may have.
const STREAMS: u32 = 128;
const TLS_CLIENTS: u32 = 200;
/// Handshakes at once: fewer than an address may have.
const AT_ONCE: u32 = 50;

/// A cursor and a task. The pieces that wait, 32 KiB at most, are parts of the log.
const PER_STREAM: u32 = 10 << 10;
/// hyper's buffer, that of rustls, and what an idle client costs.
const PER_TLS_CLIENT: u32 = (32 + 64 + 24) << 10;

/// By which measurements differ, in MiB.
const SLACK: f64 = 8.0;

/// The most memory since the last call, in MiB, beyond `before`.
fn growth(daemon: &Daemon, before: u64) -> f64 {
    let growth = peak(daemon.pid()).saturating_sub(before);
    reset_peak(daemon.pid());
    mebibytes(growth)
}

async fn await_clients(daemon: &Daemon, count: u32) {
    eventually_async(PATIENCE, "all are open", async || {
        let figures = figures(daemon).await;
        ensure(figures["streams"][0]["clients"] == count, figures.to_string())
    })
    .await;
}

fn clients_that_read_nothing_cost_little_memory_over_http_2_and_tls() {
    let certificates = Certificates::new();
    let (text, broker, topic) = large_topic("write_timeout = \"1h\"");
    let daemon = Daemon::start(&certificates.behind(&text, ""));
    block_on(async {
        daemon.wait_ready(PATIENCE).await;
        // One that sees that the daemon still sends.
        let (mut client, _connection) = connect(&daemon, 1 << 20).await;
        let mut quick = open(&mut client, "/events?start=live").await;
        read_until(&mut quick, "caught-up").await;
        let sends = async |quick: &mut _, text: &str| {
            broker.produce(&topic, &[Message::value(text)]);
            read_until(quick, text).await;
        };
        sends(&mut quick, "before all").await;
        reset_peak(daemon.pid());
        let before = peak(daemon.pid());

        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            // Windows that the first bytes of each stream fill.
            let (client, connection) = connect(&daemon, 1024).await;
            let opening: JoinSet<RecvStream> = (0..STREAMS).map(|_| stalled(client.clone())).collect();
            held.push((opening.join_all().await, client, connection));
        }
        await_clients(&daemon, 1 + CONNECTIONS * STREAMS).await;
        sends(&mut quick, "beside HTTP/2").await;
        let cost = growth(&daemon, before);
        let most = mebibytes((CONNECTIONS * STREAMS * PER_STREAM).into()) + SLACK;
        assert!(cost < most, "{cost} MiB, not {most}");
        drop(held);
        await_clients(&daemon, 1).await;

        reset_peak(daemon.pid());
        let before = peak(daemon.pid());
        let config = trusting(&certificates.ca(), &[b"http/1.1"]);
        let mut links = Vec::new();
        for _ in 0..TLS_CLIENTS / AT_ONCE {
            let opening = (0..AT_ONCE).map(|_| stalled_over_tls(daemon.tls_port(), Arc::clone(&config)));
            links.extend(opening.collect::<JoinSet<Link>>().join_all().await);
        }
        await_clients(&daemon, 1 + TLS_CLIENTS).await;
        sends(&mut quick, "beside TLS").await;
        let cost = growth(&daemon, before);
        let most = mebibytes((TLS_CLIENTS * PER_TLS_CLIENT).into()) + SLACK;
        assert!(cost < most, "{cost} MiB, not {most}");
        assert_eq!(figures(&daemon).await["http"]["write_timeouts"], 0);
    });
}

/// A stream that has sent its first bytes, and can send no more.
async fn stalled(client: Client) -> RecvStream {
    let mut ready = client.ready().await.expect("it is open");
    let (response, _) = ready.send_request(request("/events"), true).expect("sent");
    let response = timeout(PATIENCE, response).await.expect("in time");
    let mut body = response.expect("a response").into_body();
    let first = timeout(PATIENCE, body.data()).await.expect("in time");
    first.expect("data").expect("data");
    body
}

/// A client that has read a status, and reads no more.
async fn stalled_over_tls(port: u16, config: Arc<ClientConfig>) -> Link {
    let mut link = connect_tls(port, config).await.expect("a handshake");
    let request = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n";
    link.write_all(request).await.expect("sent");
    link.read_exact(&mut [0; 12]).await.expect("a status");
    link
}
