//! Chooses the client library from the settings and a broker's API versions.

use super::api_versions::{VersionRanges, auth_error, version_ranges};
use super::connection::Connection;
use super::error::KafkaError;
use crate::config::{Client, Isolation};

/// The chosen client library, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Either [`Client::Kafka`] or [`Client::Librdkafka`].
    pub client: Client,
    /// The reason, for the log.
    pub reason: String,
}

/// Requests the API versions of the configured brokers in turn, and returns those of the first that answers.
fn ask_any(connection: &Connection) -> Result<(String, VersionRanges), KafkaError> {
    let (mut reasons, mut refused) = (Vec::new(), None);
    for broker in &connection.brokers {
        match version_ranges(broker, &connection.credentials) {
            Ok(versions) => return Ok((broker.clone(), versions)),
            Err(error) => {
                refused = auth_error(&error).cloned().or(refused);
                reasons.push(format!("{broker}: {error}"));
            }
        }
    }
    let brokers = connection.bootstrap_servers();
    Err(match refused {
        Some(auth_error) => auth_error.at(&brokers),
        None => KafkaError::unreachable(&brokers, reasons.join("; ")),
    })
}

/// Why the `kafka` crate cannot be used, regardless of the broker's versions.
fn need_of_librdkafka(connection: &Connection) -> Option<&'static str> {
    if !cfg!(feature = "kafka-crate") {
        Some("this build holds no other client")
    } else if connection.isolation == Isolation::ReadCommitted {
        Some("isolation = \"read_committed\" needs it")
    } else if connection.credentials.sasl().is_some() {
        Some("sasl in [kafka] needs it")
    } else if connection.credentials.tls().is_some() {
        Some("tls in [kafka]: what a TLS listener speaks cannot be asked in plain, and it speaks with all")
    } else if let Some(need) = connection.needs_librdkafka {
        Some(need)
    } else if !connection.librdkafka.is_empty() {
        Some("[kafka.librdkafka] sets properties for it")
    } else {
        None
    }
}

/// Chooses the client library for `connection`: the `kafka` crate only if it supports all that the settings need. Asks
/// a broker if the choice depends on its versions. Fails when the choice depends on a broker and none answers, or when
/// the configured client cannot read.
pub(crate) fn choose(connection: &Connection) -> Result<Choice, KafkaError> {
    let choice = |client, reason: &str| {
        Ok(Choice {
            client,
            reason: reason.to_owned(),
        })
    };
    let unsupported = |reason: String, remedy: &str| {
        Err(KafkaError::unsupported(
            &connection.bootstrap_servers(),
            reason,
            remedy,
        ))
    };
    let librdkafka = |reason: &str| {
        if cfg!(feature = "librdkafka") {
            choice(Client::Librdkafka, reason)
        } else {
            unsupported(
                format!("librdkafka is needed ({reason}) but is not part of this build"),
                "install a build with the cargo feature librdkafka",
            )
        }
    };
    match connection.client {
        Client::Librdkafka => librdkafka("client = \"librdkafka\""),
        Client::Kafka if !cfg!(feature = "kafka-crate") => unsupported(
            "client = \"kafka\" is not part of this build".to_owned(),
            "set client = \"auto\", or install a build with the cargo feature kafka-crate",
        ),
        Client::Kafka => {
            let (broker, versions) = ask_any(connection)?;
            if versions.suit_the_kafka_crate() {
                return choice(Client::Kafka, "client = \"kafka\"");
            }
            unsupported(
                format!(
                    "client = \"kafka\" cannot read from broker {broker}: the kafka crate speaks Fetch 0 and \
                     ListOffsets 0, the broker Fetch {}–{} and ListOffsets {}–{} (Kafka 4 dropped the old ones)",
                    versions.fetch.0, versions.fetch.1, versions.list_offsets.0, versions.list_offsets.1
                ),
                "set client = \"auto\" or \"librdkafka\" in [kafka]",
            )
        }
        Client::Auto => {
            if let Some(need) = need_of_librdkafka(connection) {
                return librdkafka(need);
            }
            let (broker, versions) = ask_any(connection)?;
            if versions.suit_the_kafka_crate() {
                choice(
                    Client::Kafka,
                    &format!("broker {broker} speaks Fetch 0 and ListOffsets 0"),
                )
            } else {
                librdkafka(&format!(
                    "broker {broker} speaks Fetch from version {} and ListOffsets from version {} only",
                    versions.fetch.0, versions.list_offsets.0
                ))
            }
        }
    }
}
