//! Requests to one broker before login: its API versions, which brokers answer to anyone, and its peers.

use std::io;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;

use super::auth_error::AuthError;
use super::connection::host_port;
use super::security::Credentials;
use super::wire_protocol::{BrokerConnection, invalid};

/// The version ranges that decide which client can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionRanges {
    /// Least and greatest version of Fetch.
    pub fetch: (i16, i16),
    /// Least and greatest version of `ListOffsets`.
    pub list_offsets: (i16, i16),
}

impl VersionRanges {
    /// Whether the `kafka` crate, which speaks version 0 of both, can read from this broker.
    pub(crate) fn suit_the_kafka_crate(self) -> bool {
        self.fetch.0 == 0 && self.list_offsets.0 == 0
    }
}

/// Requests the version ranges of `broker` (`host:port`). The error contains an [`AuthError`] if a certificate is
/// refused.
pub(crate) fn version_ranges(broker: &str, credentials: &Credentials) -> io::Result<VersionRanges> {
    let versions =
        BrokerConnection::connect(broker, credentials).and_then(|mut connection| connection.versions());
    let versions = versions.map_err(|error| explain(error, credentials))?;
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
pub(crate) fn advertised(broker: &str, credentials: &Credentials) -> io::Result<Vec<String>> {
    let mut connection = BrokerConnection::connect(broker, credentials)?;
    let versions = connection.versions()?;
    let answer = connection.metadata(&versions, &[])?;
    let address = |broker: &MetadataResponseBroker| host_port(&broker.host, broker.port);
    Ok(answer.brokers.iter().map(address).collect())
}

/// Finds the authentication error that caused an error, if one did.
fn explain(error: io::Error, credentials: &Credentials) -> io::Error {
    if credentials.tls().is_none() || auth_error(&error).is_some() {
        return error;
    }
    // The certificate was verified before.
    match AuthError::from_transport(&error.to_string(), credentials, |_| None) {
        Some(auth_error) => io::Error::other(auth_error),
        None => error,
    }
}

/// Finds out whether brokers that close connections without a response expect TLS or a login.
#[cfg(feature = "librdkafka")]
pub(super) fn expected_security(brokers: &[String], credentials: &Credentials) -> Option<AuthError> {
    brokers.iter().find_map(|broker| {
        let mut connection = BrokerConnection::connect(broker, credentials).ok()?;
        let versions = match connection.versions() {
            Ok(versions) => versions,
            Err(error) if error.kind() == io::ErrorKind::InvalidData && credentials.tls().is_none() => {
                return Some(AuthError::wants_tls());
            }
            Err(_) => return None,
        };
        let is_closed = connection.metadata(&versions, &[]).is_err_and(|error| {
            use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
        });
        (is_closed && credentials.sasl().is_none()).then(AuthError::wants_login)
    })
}

/// The authentication error inside an error of [`version_ranges`].
pub(crate) fn auth_error(error: &io::Error) -> Option<&AuthError> {
    error.get_ref()?.downcast_ref()
}
