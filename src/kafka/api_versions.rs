//! Requests to one broker before login: its API versions, which brokers answer to anyone, and its peers.

use std::io;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;

use super::auth_error::Refusal;
use super::connection::host_port;
use super::security::Access;
use super::wire_protocol::{BrokerConnection, invalid};

/// The version ranges that decide which client can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRanges {
    /// Least and greatest version of Fetch.
    pub fetch: (i16, i16),
    /// Least and greatest version of `ListOffsets`.
    pub list_offsets: (i16, i16),
}

impl VersionRanges {
    /// Whether the `kafka` crate, which speaks version 0 of both, can read from this broker.
    #[must_use]
    pub fn suit_the_kafka_crate(&self) -> bool {
        self.fetch.0 == 0 && self.list_offsets.0 == 0
    }
}

/// Requests the version ranges of `broker` (`host:port`).
///
/// # Errors
/// When it does not accept, does not answer in time, or does not speak Kafka's protocol; with a [`Refusal`] inside where
/// a certificate is refused.
pub fn version_ranges(broker: &str, access: &Access) -> io::Result<VersionRanges> {
    let versions = BrokerConnection::connect(broker, access).and_then(|mut connection| connection.versions());
    let versions = versions.map_err(|error| explain(error, access))?;
    let range = |key: ApiKey| {
        versions
            .of(key)
            .ok_or_else(|| invalid(format!("the broker lists no {key:?}")))
    };
    Ok(VersionRanges {
        fetch: range(ApiKey::Fetch)?,
        list_offsets: range(ApiKey::ListOffsets)?,
    })
}

/// Requests the addresses (`host:port`) that `broker` advertises for the cluster's brokers.
///
/// # Errors
/// As [`version_ranges`].
pub fn advertised(broker: &str, access: &Access) -> io::Result<Vec<String>> {
    let mut connection = BrokerConnection::connect(broker, access)?;
    let versions = connection.versions()?;
    let answer = connection.metadata(&versions, &[])?;
    let address = |broker: &MetadataResponseBroker| host_port(&broker.host, broker.port);
    Ok(answer.brokers.iter().map(address).collect())
}

/// Names the refusal that an error comes from, if it does.
fn explain(error: io::Error, access: &Access) -> io::Error {
    if access.tls().is_none() || refusal(&error).is_some() {
        return error;
    }
    // The certificate has passed already.
    match Refusal::from_transport(&error.to_string(), access, |_| None) {
        Some(refusal) => io::Error::other(refusal),
        None => error,
    }
}

/// Where brokers close connections without an answer: whether they expect TLS or a login.
#[cfg(feature = "librdkafka")]
pub(super) fn expected_security(brokers: &[String], access: &Access) -> Option<Refusal> {
    brokers.iter().find_map(|broker| {
        let mut connection = BrokerConnection::connect(broker, access).ok()?;
        let versions = match connection.versions() {
            Ok(versions) => versions,
            Err(error) if error.kind() == io::ErrorKind::InvalidData && access.tls().is_none() => {
                return Some(Refusal::wants_tls());
            }
            Err(_) => return None,
        };
        let is_closed = connection.metadata(&versions, &[]).is_err_and(|error| {
            use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
        });
        (is_closed && access.sasl().is_none()).then(Refusal::wants_login)
    })
}

/// The refusal inside an error of [`version_ranges`].
#[must_use]
pub fn refusal(error: &io::Error) -> Option<&Refusal> {
    error.get_ref()?.downcast_ref()
}
