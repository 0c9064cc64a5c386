//! How to reach Kafka, and how long to wait before trying again.

use std::sync::Arc;
use std::time::Duration;

use super::security::Credentials;
use crate::config::{Client, Isolation};

/// How long requesting the versions of one broker may take: to resolve its name, and to try its addresses.
pub(super) const BROKER_PATIENCE: Duration = Duration::from_secs(60);

/// First and longest pause before another client is built; jitter shortens each by up to half.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How to reach Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// The client library as configured.
    pub client: Client,
    /// Which records are visible.
    pub isolation: Isolation,
    /// TLS and SASL.
    pub credentials: Credentials,
    /// Properties passed to librdkafka unchanged.
    pub librdkafka: Vec<(String, String)>,
    /// Whether a stream shows headers or filters may compare them.
    pub needs_headers: bool,
    /// Why librdkafka is needed regardless of the broker's versions, if it is.
    pub needs_librdkafka: Option<&'static str>,
}

impl Connection {
    /// The brokers as configured, for error messages and for the client libraries.
    pub(crate) fn bootstrap_servers(&self) -> Arc<str> {
        self.brokers.join(",").into()
    }
}

/// The protocol of the brokers' listeners, and which of our own requests they answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecurityProtocol {
    /// Without TLS and SASL: all requests are answered.
    Plain,
    /// With SASL, without TLS: `ApiVersions` is answered before a login.
    Sasl,
    /// With TLS as set by `tls`: `ApiVersions` is answered over it, where this build has TLS.
    Tls,
    /// With TLS as set by librdkafka's properties, which only the library interprets.
    TlsOfLibrdkafka,
}

impl SecurityProtocol {
    pub(crate) fn of(connection: &Connection) -> Self {
        match (connection.credentials.tls(), connection.credentials.sasl()) {
            (Some(_), _) if cfg!(feature = "tls") => return Self::Tls,
            (Some(_), _) => return Self::TlsOfLibrdkafka,
            (None, Some(_)) => return Self::Sasl,
            (None, None) => {}
        }
        let mut properties = connection.librdkafka.iter();
        let protocol = properties.find(|(name, _)| name == "security.protocol");
        match protocol.map(|(_, value)| value.to_ascii_lowercase()).as_deref() {
            Some("ssl" | "sasl_ssl") => Self::TlsOfLibrdkafka,
            Some("sasl_plaintext") => Self::Sasl,
            _ => Self::Plain,
        }
    }
}

/// The use of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reads all live records.
    Live,
    /// Reads a range of past records, while others read other ranges.
    History,
}

/// The pause after this many consecutive failures, with jitter.
pub(super) fn backoff(failures: u32) -> Duration {
    let (first, longest) = BACKOFF;
    let full = first
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(longest);
    full.mul_f64(rand::random_range(0.5..1.0))
}

/// Formats a broker's address, with brackets around a bare IPv6 address.
pub(super) fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
