//! Creates clients of the `kafka` crate.

use std::time::Duration;

use kafka::client::KafkaClient;
#[cfg(feature = "tls")]
use kafka::client::SecurityConfig;

use crate::kafka::connection::Connection;
use crate::kafka::error::KafkaError;

/// How long a broker holds a fetch that finds nothing.
const FETCH_WAIT: Duration = Duration::from_millis(100);

#[cfg(feature = "tls")]
fn client_of(connection: &Connection) -> Result<KafkaClient, KafkaError> {
    let Some(tls) = connection.credentials.tls() else {
        return Ok(KafkaClient::new(connection.brokers.clone()));
    };
    let connector = crate::kafka::tls::checked_connector(tls)
        .map_err(|auth_error| auth_error.at(&connection.bootstrap_servers()))?;
    Ok(KafkaClient::new_secure(
        connection.brokers.clone(),
        SecurityConfig::new(connector),
    ))
}

#[cfg(not(feature = "tls"))]
fn client_of(connection: &Connection) -> Result<KafkaClient, KafkaError> {
    if connection.credentials.tls().is_none() {
        return Ok(KafkaClient::new(connection.brokers.clone()));
    }
    Err(KafkaError::unsupported(
        &connection.bootstrap_servers(),
        "TLS is not part of this build",
        "install one with the cargo feature tls or librdkafka",
    ))
}

/// A client without metadata. It connects at its first request.
pub(super) fn open(connection: &Connection) -> Result<KafkaClient, KafkaError> {
    let mut client = client_of(connection)?;
    client.set_client_id("kafka-sse-bridge".to_owned());
    client.set_fetch_min_bytes(1);
    client
        .set_fetch_max_wait_time(FETCH_WAIT)
        .map_err(|error| KafkaError::unreachable(&connection.bootstrap_servers(), error.to_string()))?;
    Ok(client)
}
