//! Sends a few kinds of Kafka requests over TCP or TLS, one at a time.
//!
//! Supports no SASL and caches no responses. Each step blocks for at most [`TIMEOUT`].

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(feature = "kafka-crate")]
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

#[cfg(feature = "kafka-crate")]
use super::record::TopicId;
use super::security::Credentials;

/// How long a broker may take to accept a connection, and to respond.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest response in bytes. A topic of 10,000 partitions takes half a megabyte; a far larger length is not Kafka's.
const MAX_ANSWER: usize = 16 << 20;

/// The version of `ApiVersions` that every broker since 0.10 supports (KIP-35).
const FIRST: i16 = 0;

/// `Metadata` with topic ids (KIP-516).
const METADATA: i16 = 12;

/// The first version of `Metadata` that can request no topics.
const METADATA_LEAST: i16 = 1;

trait Transport: Read + Write + Send {}

impl<T: Read + Write + Send> Transport for T {}

pub(super) struct BrokerConnection {
    stream: Box<dyn Transport>,
    correlation: i32,
}

/// The version ranges of a broker's requests.
pub(super) struct ApiVersions(ApiVersionsResponse);

impl ApiVersions {
    /// Least and greatest version of a request; `None` if the broker does not support it.
    pub(super) fn of(&self, key: ApiKey) -> Option<(i16, i16)> {
        let mut keys = self.0.api_keys.iter();
        let found = keys.find(|found| found.api_key == key as i16)?;
        Some((found.min_version, found.max_version))
    }
}

impl BrokerConnection {
    /// Connects to `host:port`, over TLS if `credentials` configure it.
    pub(super) fn connect(broker: &str, credentials: &Credentials) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in broker.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    return Ok(Self {
                        stream: transport(stream, broker, credentials)?,
                        correlation: 0,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(super) fn versions(&mut self) -> io::Result<ApiVersions> {
        self.request(ApiKey::ApiVersions, FIRST, &ApiVersionsRequest::default())
            .map(ApiVersions)
    }

    /// The brokers of the cluster, and the metadata of `topics`.
    pub(super) fn metadata(
        &mut self,
        versions: &ApiVersions,
        topics: &[&str],
    ) -> io::Result<MetadataResponse> {
        let (least, greatest) = versions.of(ApiKey::Metadata).unwrap_or((0, 0));
        let version = greatest.min(METADATA);
        if version < least.max(METADATA_LEAST) {
            return Err(invalid(format!("the broker speaks Metadata {least}–{greatest}")));
        }
        let asked = topics.iter().map(|&name| {
            let name = TopicName(StrBytes::from_string(name.to_owned()));
            MetadataRequestTopic::default().with_name(Some(name))
        });
        let request = MetadataRequest::default()
            .with_topics(Some(asked.collect()))
            .with_allow_auto_topic_creation(false);
        self.request(ApiKey::Metadata, version, &request)
    }

    /// Sends a request, and returns the length of the response in bytes.
    fn send<R>(&mut self, key: ApiKey, version: i16, request: &R) -> io::Result<usize>
    where
        R: Encodable + HeaderVersion,
    {
        self.correlation += 1;
        let mut bytes = BytesMut::new();
        bytes.put_u32(0);
        RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("kafka-sse-bridge")))
            .encode(&mut bytes, R::header_version(version))
            .and_then(|()| request.encode(&mut bytes, version))
            .map_err(invalid)?;
        let length = u32::try_from(bytes.len() - 4).map_err(invalid)?;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&bytes)?;

        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        Ok(u32::from_be_bytes(length) as usize)
    }

    /// Sends a request and reads at most `most` bytes of the response. The connection is unusable afterwards.
    #[cfg(feature = "kafka-crate")]
    pub(super) fn request_head<R>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &R,
        most: usize,
    ) -> io::Result<Bytes>
    where
        R: Encodable + HeaderVersion,
    {
        let length = self.send(key, version, request)?;
        let mut answer = Vec::new();
        Read::by_ref(&mut self.stream)
            .take(length.min(most) as u64)
            .read_to_end(&mut answer)?;
        let mut answer = Bytes::from(answer);
        if answer.try_get_i32() != Ok(self.correlation) {
            return Err(invalid("the answer is to another question"));
        }
        Ok(answer)
    }

    fn request<R, A>(&mut self, key: ApiKey, version: i16, request: &R) -> io::Result<A>
    where
        R: Encodable + HeaderVersion,
        A: Decodable + HeaderVersion,
    {
        let length = self.send(key, version, request)?;
        if !(4..=MAX_ANSWER).contains(&length) {
            return Err(invalid(
                "the answer is not Kafka's protocol (does the port want TLS?)",
            ));
        }
        // Does not allocate by the length, which may come from another protocol.
        let mut answer = Vec::new();
        let read = Read::by_ref(&mut self.stream)
            .take(length as u64)
            .read_to_end(&mut answer)?;
        if read < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut answer = Bytes::from(answer);
        let header = A::header_version(version);
        let header = ResponseHeader::decode(&mut answer, header).map_err(invalid)?;
        if header.correlation_id != self.correlation {
            return Err(invalid("the answer is to another question"));
        }
        let decoded = A::decode(&mut answer, version).map_err(invalid)?;
        if answer.has_remaining() {
            return Err(invalid("the answer is longer than it should be"));
        }
        Ok(decoded)
    }
}

/// Keeps a connection open between requests, and replaces it after a failure.
#[cfg(feature = "kafka-crate")]
pub(super) struct BrokerClient {
    brokers: Vec<String>,
    credentials: Credentials,
    open: Option<(BrokerConnection, ApiVersions)>,
}

#[cfg(feature = "kafka-crate")]
impl BrokerClient {
    /// A client that connects to the first of `brokers` that answers. Does not connect yet.
    pub(super) const fn new(brokers: Vec<String>, credentials: Credentials) -> Self {
        Self {
            brokers,
            credentials,
            open: None,
        }
    }

    pub(super) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Whether the connected broker supports this version of a request; true without a connection.
    pub(super) fn speaks(&self, key: ApiKey, version: i16) -> bool {
        let versions = self.open.as_ref().and_then(|(_, versions)| versions.of(key));
        versions.is_none_or(|(_, greatest)| version <= greatest)
    }

    pub(super) fn metadata(&mut self, topics: &[&str]) -> io::Result<MetadataResponse> {
        let (mut plain, versions) = match self.open.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        let answer = plain.metadata(&versions, topics)?;
        self.open = Some((plain, versions));
        Ok(answer)
    }

    /// The id of every topic; `None` if the broker has no topic ids or the topic does not exist.
    pub(super) fn topic_ids(&mut self, topics: &[Arc<str>]) -> io::Result<Vec<Option<TopicId>>> {
        let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        let answer = self.metadata(&names)?;
        let id = |name: &&str| {
            let mut found = answer.topics.iter();
            let found = found.find(|found| found.name.as_ref().is_some_and(|found| **found == **name))?;
            TopicId::new(found.topic_id.as_u128())
        };
        Ok(names.iter().map(id).collect())
    }

    fn connect(&self) -> io::Result<(BrokerConnection, ApiVersions)> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no brokers are configured");
        for broker in &self.brokers {
            let greet = |mut plain: BrokerConnection| plain.versions().map(|versions| (plain, versions));
            match BrokerConnection::connect(broker, &self.credentials).and_then(greet) {
                Ok(open) => return Ok(open),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(feature = "tls")]
fn transport(stream: TcpStream, broker: &str, credentials: &Credentials) -> io::Result<Box<dyn Transport>> {
    if credentials.tls().is_none() {
        return Ok(Box::new(stream));
    }
    Ok(Box::new(super::tls::connect(credentials, broker, stream)?))
}

#[cfg(not(feature = "tls"))]
fn transport(stream: TcpStream, _: &str, credentials: &Credentials) -> io::Result<Box<dyn Transport>> {
    if credentials.tls().is_none() {
        return Ok(Box::new(stream));
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this build asks nothing over TLS by itself",
    ))
}

pub(super) fn invalid(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}
