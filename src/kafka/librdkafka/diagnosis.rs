//! Finds the cause of a failed connection, with the remedy.

use std::sync::Arc;

use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode};

use crate::kafka::api_versions;
use crate::kafka::auth_error::Refusal;
use crate::kafka::connection::{Connection, SecurityProtocol};
use crate::kafka::error::KafkaError;
use crate::kafka::security::Access;

/// Explains errors of handles to the same brokers. May connect to a broker, and blocks meanwhile.
pub(super) struct Diagnosis {
    brokers: Vec<String>,
    bootstrap_servers: Arc<str>,
    access: Access,
    /// Whether all settings of security are in `access`.
    is_explicable: bool,
}

impl Diagnosis {
    pub(super) fn new(connection: &Connection, access: Access) -> Self {
        Self {
            is_explicable: match SecurityProtocol::of(connection) {
                SecurityProtocol::Plain | SecurityProtocol::Tls => true,
                SecurityProtocol::Sasl => access.sasl().is_some(),
                SecurityProtocol::TlsOfLibrdkafka => false,
            },
            brokers: connection.brokers.clone(),
            bootstrap_servers: connection.bootstrap_servers(),
            access,
        }
    }

    /// The refusal that librdkafka's text for a failed connection comes from.
    pub(super) fn refusal(&self, cause: &str) -> Option<Refusal> {
        Refusal::from_transport(cause, &self.access, |broker| self.of_certificate(broker))
    }

    /// The error of a request, given the last error of the transport.
    pub(super) fn error(&self, request: &str, error: &RdKafkaError, cause: Option<&str>) -> KafkaError {
        let refusal = cause.and_then(|cause| self.refusal(cause)).or_else(|| {
            // A broker that closes a connection without an answer leaves no cause, or that it was closed. A broker that
            // hangs closes none, and would not answer this either.
            let is_closed = cause.is_none_or(is_of_closing)
                && error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure);
            (is_closed && self.is_explicable)
                .then(|| api_versions::expected_security(&self.brokers, &self.access))
                .flatten()
        });
        if let Some(refusal) = refusal {
            return refusal.at(&self.bootstrap_servers);
        }
        let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
        KafkaError::unreachable(&self.bootstrap_servers, format!("{request}: {error}{cause}"))
    }

    /// A certificate that failed verification, examined.
    #[cfg(feature = "tls")]
    fn of_certificate(&self, broker: &str) -> Option<Refusal> {
        self.access.tls()?;
        let error = api_versions::version_ranges(broker, &self.access).err()?;
        api_versions::refusal(&error).cloned()
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "builds with TLS examine the certificate")]
    fn of_certificate(&self, _: &str) -> Option<Refusal> {
        None
    }
}

/// Whether the cause is that the broker closed the connection.
fn is_of_closing(cause: &str) -> bool {
    ["Send failed", "Receive failed", "Disconnected"]
        .iter()
        .any(|text| cause.contains(text))
}
