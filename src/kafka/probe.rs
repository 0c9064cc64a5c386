//! Asks a broker which protocol versions it speaks, and chooses the client library by the answer.
//!
//! Asks before anybody is known, which brokers allow; how that is spoken is [`plain`](super::wire_protocol)'s.
//! Knows nothing of records.

use std::io;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;

use super::auth_error::Refusal;
use super::connection::Connection;
use super::connection::host_port;
use super::error::KafkaError;
use super::security::Access;
use super::wire_protocol::{Plain, invalid};
use crate::config::{Client, Isolation};

/// The version ranges that decide which client can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Least and greatest version of Fetch.
    pub fetch: (i16, i16),
    /// Least and greatest version of `ListOffsets`.
    pub list_offsets: (i16, i16),
}

impl Versions {
    /// Whether the `kafka` crate, which speaks version 0 of both, can read from this broker.
    #[must_use]
    pub fn suit_the_kafka_crate(&self) -> bool {
        self.fetch.0 == 0 && self.list_offsets.0 == 0
    }
}

/// Which client library reads, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Either [`Client::Kafka`] or [`Client::Librdkafka`].
    pub client: Client,
    /// The reason, for the log.
    pub reason: String,
}

/// Asks `broker` (`host:port`) for the versions it speaks.
///
/// # Errors
/// When it does not accept, does not answer in time, or does not speak Kafka's protocol; where
/// certificates are in the way, with a [`Refusal`] inside.
pub fn ask(broker: &str, access: &Access) -> io::Result<Versions> {
    let spoken = Plain::connect(broker, access).and_then(|mut plain| plain.versions());
    let spoken = spoken.map_err(|error| explain(error, access))?;
    let range = |key: ApiKey| {
        spoken
            .of(key)
            .ok_or_else(|| invalid(format!("the broker lists no {key:?}")))
    };
    Ok(Versions {
        fetch: range(ApiKey::Fetch)?,
        list_offsets: range(ApiKey::ListOffsets)?,
    })
}

/// Asks `broker` for the addresses (`host:port`) that it sends its clients to.
///
/// # Errors
/// As [`ask`] does.
pub fn members(broker: &str, access: &Access) -> io::Result<Vec<String>> {
    let mut plain = Plain::connect(broker, access)?;
    let spoken = plain.versions()?;
    let answer = plain.metadata(&spoken, &[])?;
    let address = |broker: &MetadataResponseBroker| host_port(&broker.host, broker.port);
    Ok(answer.brokers.iter().map(address).collect())
}

/// Names what the broker has against us, where that is it.
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

/// Where a broker closes connections without a word: whether it wants to be spoken to otherwise.
#[cfg(feature = "librdkafka")]
pub(super) fn misfit(brokers: &[String], access: &Access) -> Option<Refusal> {
    brokers.iter().find_map(|broker| {
        let mut plain = Plain::connect(broker, access).ok()?;
        let spoken = match plain.versions() {
            Ok(spoken) => spoken,
            Err(error) if error.kind() == io::ErrorKind::InvalidData && access.tls().is_none() => {
                return Some(Refusal::wants_tls());
            }
            Err(_) => return None,
        };
        let is_closed = plain.metadata(&spoken, &[]).is_err_and(|error| {
            use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
        });
        (is_closed && access.sasl().is_none()).then(Refusal::wants_login)
    })
}

/// The refusal that an answer of [`ask`] holds.
#[must_use]
pub fn refusal(error: &io::Error) -> Option<&Refusal> {
    error.get_ref()?.downcast_ref()
}

/// How brokers are to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Without TLS and SASL: [`ask`] and [`members`] are answered.
    Plain,
    /// With SASL, without TLS: [`ask`] is answered, before anybody is known.
    Sasl,
    /// With TLS, as `tls` says: [`ask`] is answered over it, where this build can.
    Tls,
    /// With TLS, as properties of librdkafka say, which only that understands.
    TlsOfLibrdkafka,
}

impl Security {
    /// What the connection asks for.
    #[must_use]
    pub fn of(connection: &Connection) -> Self {
        match (connection.access.tls(), connection.access.sasl()) {
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

/// Asks the configured brokers in turn; the first that answers speaks for all.
fn ask_any(connection: &Connection) -> Result<(String, Versions), KafkaError> {
    let (mut reasons, mut refused) = (Vec::new(), None);
    for broker in &connection.brokers {
        match ask(broker, &connection.access) {
            Ok(versions) => return Ok((broker.clone(), versions)),
            Err(error) => {
                refused = refusal(&error).cloned().or(refused);
                reasons.push(format!("{broker}: {error}"));
            }
        }
    }
    let brokers = connection.bootstrap_servers();
    Err(match refused {
        Some(refusal) => refusal.at(&brokers),
        None => KafkaError::unreachable(&brokers, reasons.join("; ")),
    })
}

/// What rules the `kafka` crate out whatever the broker speaks.
fn need_of_librdkafka(connection: &Connection) -> Option<&'static str> {
    if !cfg!(feature = "kafka-crate") {
        Some("this build holds no other client")
    } else if connection.isolation == Isolation::ReadCommitted {
        Some("isolation = \"read_committed\" needs it")
    } else if connection.access.sasl().is_some() {
        Some("sasl in [kafka] needs it")
    } else if connection.access.tls().is_some() {
        Some("tls in [kafka]: what a TLS listener speaks cannot be asked in plain, and it speaks with all")
    } else if let Some(need) = connection.needs_librdkafka {
        Some(need)
    } else if !connection.librdkafka.is_empty() {
        Some("[kafka.librdkafka] sets properties for it")
    } else {
        None
    }
}

/// Chooses the client library for `connection`: the `kafka` crate only where that trades no
/// promise away. Asks a broker where the answer depends on it.
///
/// # Errors
/// When no broker answers and the choice depends on it, or as unsupported
/// where the configured client cannot read from the broker, or is not part of this build.
pub fn choose(connection: &Connection) -> Result<Choice, KafkaError> {
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
