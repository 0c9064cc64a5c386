//! Metrics of the HTTP service: build, readiness, connections, reloads.

use std::fmt;
use std::sync::atomic::Ordering;

use log::debug;

use super::families::{Families, Labels};
use crate::http::flood::Flood;
use crate::http::health;
use crate::http::state::AppState;
use crate::stream::pieces;

pub(super) fn write(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    let has = |feature: bool| feature.to_string();
    let build = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("librdkafka", has(cfg!(feature = "librdkafka"))),
        ("kafka_crate", has(cfg!(feature = "kafka-crate"))),
    ];
    families.gauge(
        "build_info",
        "Always 1; the labels say which build this is",
        [(build, 1_u64)],
    )?;
    let standing = health::standing(state);
    families.figure(
        "ready",
        "Whether /health/ready answers 200",
        u64::from(standing.is_ready),
    )?;
    families.figure(
        "degraded",
        "Number of faults that /health/ready names as degraded",
        standing.degraded.len() as u64,
    )?;
    families.figure(
        "draining",
        "Whether the daemon is shutting down",
        u64::from(state.is_draining.load(Ordering::Relaxed)),
    )?;
    connections(state, families)?;
    reloads(state, families)
}

fn connections(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    let connections = &state.connections;
    families.figure(
        "connections",
        "Connections open now, streams and others",
        connections.open(),
    )?;
    families.count(
        "connection_write_timeouts",
        "Connections closed because they took no byte for write_timeout",
        connections.write_timeouts(),
    )?;
    match connections.send_queues().held() {
        Ok(held) => families.figure(
            "connection_send_queue_bytes",
            "Bytes that the kernel holds for clients over TCP until they acknowledge them",
            held.bytes,
        )?,
        Err(error) => debug!("the table of TCP sockets cannot be read: {error}"),
    }
    families.count(
        "connections_refused",
        "Connections closed at once, because their address had max_connections_per_ip",
        connections.refused(),
    )?;
    tls(state, families)?;
    families.figure(
        "scan_bytes",
        "Memory of rows copied from tables for clients that have not taken them yet",
        pieces::held() as u64,
    )?;
    families.count(
        "unknown_hosts",
        "Requests refused because this daemon does not answer to the host name in them",
        state.unknown_hosts.count(),
    )?;
    let refused = state.limits.counts().refused;
    families.counter(
        "clients_refused",
        "Clients refused before a stream opened, by limit",
        refused
            .map(|(limit, count)| -> (Labels, u64) { (vec![("limit", limit.as_str().to_owned())], count) }),
    )?;
    let of_streams = state.ledger.all().into_iter().flat_map(|(path, _)| {
        state
            .limits
            .refused_by(&path)
            .map(|(limit, count)| -> (Labels, u64) {
                let labels = vec![("stream", path.clone()), ("limit", limit.as_str().to_owned())];
                (labels, count)
            })
    });
    families.counter(
        "filters_refused",
        "Clients refused by a limit of the stream's filters; clients_refused counts them too",
        of_streams,
    )
}

fn tls(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    let connections = &state.connections;
    let of_kind =
        |(kind, count): (Flood, u64)| -> (Labels, u64) { (vec![("kind", kind.as_str().to_owned())], count) };
    families.counter(
        "http2_floods",
        "Connections of HTTP/2 closed because of more frames than any client needs, by kind",
        connections.http2_floods().map(of_kind),
    )?;
    families.count(
        "http2_ping_timeouts",
        "Connections of HTTP/2 closed because a ping was not answered",
        connections.http2_ping_timeouts(),
    )?;
    let tls = &state.tls;
    let of = |result: &str| -> Labels { vec![("result", result.to_owned())] };
    families.counter(
        "tls_handshakes",
        "Handshakes of TLS with clients, by result",
        tls.outcomes()
            .map(|(outcome, count)| (of(outcome.as_str()), count)),
    )?;
    families.figure(
        "tls_handshakes_under_way",
        "Handshakes of TLS with clients now",
        tls.under_way(),
    )?;
    families.count(
        "tls_handshake_waits",
        "How often a listener accepted no connection until a handshake ended (max_handshakes)",
        tls.waits(),
    )?;
    families.count(
        "tls_sessions_resumed",
        "Handshakes of TLS with clients that resumed a session",
        tls.resumed(),
    )?;
    families.gauge(
        "tls_certificate_expiry_timestamp_seconds",
        "Unix time until which a certificate of [http.tls] is valid",
        tls.certificates()
            .into_iter()
            .map(|certificate| -> (Labels, u64) {
                (
                    vec![("certificate", certificate.file)],
                    certificate.not_after.as_secs(),
                )
            }),
    )?;
    let (read, failed) = tls.reads();
    families.counter(
        "tls_certificate_reads",
        "How often the files of [http.tls] were read, by result",
        [(of("ok"), read), (of("failed"), failed)],
    )
}

fn reloads(state: &AppState, families: &mut Families<'_>) -> fmt::Result {
    let reloads = &state.reloads;
    let of = |result: &str| -> Labels { vec![("result", result.to_owned())] };
    families.counter(
        "reloads",
        "Reloads of the configuration, by result",
        [(of("ok"), reloads.succeeded()), (of("failed"), reloads.failed())],
    )?;
    families.figure(
        "config_last_reload_successful",
        "Whether the last reload was applied; 1 before the first",
        u64::from(!reloads.has_last_failed()),
    )?;
    families.figure(
        "config_last_reload_success_timestamp_seconds",
        "Unix time at which the current settings were applied, by a reload or the start",
        reloads.applied_at().as_secs_f64(),
    )?;
    families.figure(
        "config_hash",
        "A number that is equal for equal settings, ignoring secrets",
        u64::from(reloads.fingerprint()),
    )
}
