//! Asks a broker which protocol versions it speaks, and chooses the client library by the answer.
//!
//! Speaks plain TCP: one `ApiVersions` request of version 0, which every broker since 0.10 answers
//! (KIP-35). Knows nothing of topics or records.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::source::SourceError;
use super::tail::Connection;
use crate::config::{Client, Isolation};

/// How long a broker may take to accept, and to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An `ApiVersions` answer takes about 500 bytes; anything far beyond is not a broker.
const MAX_ANSWER: usize = 64 * 1024;

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
/// When it does not accept, does not answer in time, or does not speak Kafka's protocol in plain.
pub fn ask(broker: &str) -> io::Result<Versions> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in broker.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return converse(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn converse(mut stream: TcpStream) -> io::Result<Versions> {
    let invalid = |what: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;

    let mut request = BytesMut::new();
    request.put_u32(0);
    RequestHeader::default()
        .with_request_api_key(ApiKey::ApiVersions as i16)
        .with_request_api_version(0)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("kafka-sse-bridge")))
        .encode(&mut request, 1)
        .and_then(|()| ApiVersionsRequest::default().encode(&mut request, 0))
        .map_err(|error| invalid(&error))?;
    let length = u32::try_from(request.len() - 4).map_err(|error| invalid(&error))?;
    request[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&request)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=MAX_ANSWER).contains(&length) {
        return Err(invalid(
            &"the answer is not Kafka's protocol (does the port want TLS?)",
        ));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    let mut answer = bytes::Bytes::from(answer);
    answer.advance(4);
    let answer = ApiVersionsResponse::decode(&mut answer, 0).map_err(|error| invalid(&error))?;
    let range = |key: ApiKey| {
        answer
            .api_keys
            .iter()
            .find(|found| found.api_key == key as i16)
            .map(|found| (found.min_version, found.max_version))
            .ok_or_else(|| invalid(&format!("the broker lists no {key:?}")))
    };
    Ok(Versions {
        fetch: range(ApiKey::Fetch)?,
        list_offsets: range(ApiKey::ListOffsets)?,
    })
}

/// Whether brokers are to be reached over TLS, so that [`ask`], which speaks in plain, gets no answer.
#[must_use]
pub fn is_encrypted(connection: &Connection) -> bool {
    let protocol = connection
        .librdkafka
        .iter()
        .find(|(name, _)| name == "security.protocol");
    // `ssl` and `sasl_ssl`
    protocol.is_some_and(|(_, value)| value.to_ascii_lowercase().ends_with("ssl"))
}

/// Asks the configured brokers in turn; the first that answers speaks for all.
fn ask_any(connection: &Connection) -> Result<(String, Versions), SourceError> {
    let mut reasons = Vec::new();
    for broker in &connection.brokers {
        match ask(broker) {
            Ok(versions) => return Ok((broker.clone(), versions)),
            Err(error) => reasons.push(format!("{broker}: {error}")),
        }
    }
    Err(SourceError::Unreachable {
        brokers: connection.brokers.join(","),
        reason: reasons.join("; "),
    })
}

/// What rules the `kafka` crate out whatever the broker speaks.
fn need_of_librdkafka(connection: &Connection) -> Option<&'static str> {
    if !cfg!(feature = "kafka-crate") {
        Some("this build holds no other client")
    } else if connection.isolation == Isolation::ReadCommitted {
        Some("isolation = \"read_committed\" needs it")
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
/// [`SourceError::Unreachable`] while no broker answers and it matters; [`SourceError::Unsupported`]
/// where the configured client cannot read from the broker, or is not part of this build.
pub fn choose(connection: &Connection) -> Result<Choice, SourceError> {
    let choice = |client, reason: &str| {
        Ok(Choice {
            client,
            reason: reason.to_owned(),
        })
    };
    let unsupported = |reason: String, remedy: &str| {
        Err(SourceError::Unsupported {
            brokers: connection.brokers.join(","),
            reason,
            remedy: remedy.to_owned(),
        })
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
