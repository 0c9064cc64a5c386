//! Finds the cause of a failed connection, with the remedy.

use std::sync::Arc;

use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode};

use crate::kafka::api_versions;
use crate::kafka::auth_error::AuthError;
use crate::kafka::connection::{Connection, SecurityProtocol};
use crate::kafka::error::KafkaError;
use crate::kafka::security::Credentials;

/// Explains errors of handles to the same brokers. May connect to a broker, which blocks.
pub(super) struct Diagnosis {
    brokers: Vec<String>,
    bootstrap_servers: Arc<str>,
    credentials: Credentials,
    /// Whether `credentials` contain all security settings.
    is_explicable: bool,
}

impl Diagnosis {
    pub(super) fn new(connection: &Connection, credentials: Credentials) -> Self {
        Self {
            is_explicable: match SecurityProtocol::of(connection) {
                SecurityProtocol::Plain | SecurityProtocol::Tls => true,
                SecurityProtocol::Sasl => credentials.sasl().is_some(),
                SecurityProtocol::TlsOfLibrdkafka => false,
            },
            brokers: connection.brokers.clone(),
            bootstrap_servers: connection.bootstrap_servers(),
            credentials,
        }
    }

    /// The authentication error behind librdkafka's text for a failed connection.
    pub(super) fn auth_error(&self, cause: &str) -> Option<AuthError> {
        AuthError::from_transport(cause, &self.credentials, |broker| self.of_certificate(broker))
    }

    pub(super) fn error(&self, request: &str, error: &RdKafkaError, cause: Option<&str>) -> KafkaError {
        let auth_error = cause.and_then(|cause| self.auth_error(cause)).or_else(|| {
            // A broker that closes a connection without a response leaves no cause, or "closed" as the cause. A hanging
            // broker closes no connection, and would not answer this request either.
            let is_closed = cause.is_none_or(is_of_closing)
                && error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure);
            (is_closed && self.is_explicable)
                .then(|| api_versions::expected_security(&self.brokers, &self.credentials))
                .flatten()
        });
        if let Some(auth_error) = auth_error {
            return auth_error.at(&self.bootstrap_servers);
        }
        let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
        KafkaError::unreachable(&self.bootstrap_servers, format!("{request}: {error}{cause}"))
    }

    #[cfg(feature = "tls")]
    fn of_certificate(&self, broker: &str) -> Option<AuthError> {
        self.credentials.tls()?;
        let error = api_versions::version_ranges(broker, &self.credentials).err()?;
        api_versions::auth_error(&error).cloned()
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "builds with TLS examine the certificate")]
    fn of_certificate(&self, _: &str) -> Option<AuthError> {
        None
    }
}

fn is_of_closing(cause: &str) -> bool {
    ["Send failed", "Receive failed", "Disconnected"]
        .iter()
        .any(|text| cause.contains(text))
}
