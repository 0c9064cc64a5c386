//! Fetches with the `kafka` crate: of all partitions at once, one by one where one of them spoils that, and again where
//! the crate has left out what lies before a compressed set.
//!
//! Knows which partition an error is of; decides nothing about limits, nor about which partitions are read.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use kafka::client::SecurityConfig;
use kafka::client::fetch::{Message, Partition, Response, Topic};
use kafka::client::{FetchPartition, KafkaClient};
use kafka::error::{Error, KafkaCode};

use crate::kafka::auth_error::Refusal;
use crate::kafka::batcher::Batcher;
use crate::kafka::pulse::Pulse;
use crate::kafka::reader::Connection;
use crate::kafka::record::Stamp;
use crate::kafka::source::{Lost, SourceError};
use crate::kafka::worker_thread::{Left, WorkerThread};

/// How long a broker holds a fetch that finds nothing.
const FETCH_WAIT: Duration = Duration::from_millis(100);

/// The least size of a message in the old format: offset, size, checksum, magic, attributes and two
/// lengths. Limits closer to each other than this cannot tell two messages apart.
const MESSAGE_OVERHEAD: i32 = 26;

/// The client, on a thread of its own.
pub(super) struct Fetcher {
    pub(super) brokers: String,
    pub(super) connection: Connection,
    client: WorkerThread<KafkaClient>,
}

impl Fetcher {
    /// A client of these brokers, for the thread with this pulse. It connects when it is first asked.
    ///
    /// # Errors
    /// When there is no thread for it, or a file that `[kafka]` names cannot be used.
    pub(super) fn new(connection: &Connection, pulse: &Arc<Pulse>) -> Result<Self, SourceError> {
        let brokers = connection.brokers.join(",");
        let client = WorkerThread::spawn("kafka-crate", open(connection)?, Arc::clone(pulse));
        Ok(Self {
            client: client.map_err(|error| SourceError::Unreachable {
                brokers: brokers.clone(),
                reason: format!("no thread for the client: {error}"),
            })?,
            brokers,
            connection: connection.clone(),
        })
    }

    /// What `work` gives, unless it takes too long or the thread has something else to do.
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut KafkaClient) -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        self.client.call(work).map_err(|left| self.left(left))
    }

    pub(super) fn left(&self, why: Left) -> SourceError {
        match why {
            Left::Called => SourceError::Interrupted,
            Left::Late => SourceError::Unreachable {
                brokers: self.brokers.clone(),
                reason: "the kafka crate does not come back".to_owned(),
            },
        }
    }

    /// Asks for all topics, as naming one that does not exist would create it, and looks at them.
    pub(super) fn metadata<T: Send + 'static>(
        &self,
        look: impl FnOnce(&KafkaClient) -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        self.call(|client| client.load_metadata_all().map(|()| look(client)))?
            .map_err(|error| self.failed("metadata", &error))
    }

    pub(super) fn failed(&self, what: &str, error: &Error) -> SourceError {
        match error {
            Error::UnsupportedCompression => SourceError::Unsupported {
                brokers: self.brokers.clone(),
                reason: "a batch is compressed with lz4 or zstd, which the kafka crate cannot read"
                    .to_owned(),
                remedy: "set client = \"librdkafka\" in [kafka]".to_owned(),
            },
            error => SourceError::Unreachable {
                brokers: self.brokers.clone(),
                reason: format!("{what}: {error}"),
            },
        }
    }

    fn partition_failed(&self, place: &Place, error: &Error) -> SourceError {
        let at = format!(
            "topic {:?} partition {} at offset {}",
            place.topic, place.partition, place.next
        );
        match error {
            // The broker's word for a batch that it cannot convert, which has no name in the old protocol.
            Error::Kafka(KafkaCode::Unknown) => self.cannot_unpack(place, "zstd"),
            // The crate's own.
            Error::UnsupportedCompression => self.cannot_unpack(place, "lz4"),
            Error::Kafka(KafkaCode::OffsetOutOfRange) => SourceError::OutOfRange {
                brokers: self.brokers.clone(),
                at,
                reason: error.to_string(),
                lost: vec![Lost {
                    topic: Arc::clone(&place.topic),
                    partition: place.partition,
                    cut: None,
                }],
            },
            Error::Kafka(KafkaCode::TopicAuthorizationFailed) => {
                Refusal::topic(&place.topic, &self.connection.access).at(&self.brokers)
            }
            error => SourceError::Partition {
                brokers: self.brokers.clone(),
                at,
                reason: error.to_string(),
            },
        }
    }

    fn cannot_unpack(&self, place: &Place, codec: &'static str) -> SourceError {
        SourceError::Codec {
            brokers: self.brokers.clone(),
            topic: Arc::clone(&place.topic),
            partition: place.partition,
            offset: place.next,
            codec,
        }
    }

    /// The messages of one partition in an answer, from the offset asked for on: a compressed set
    /// comes whole, with what was read before.
    pub(super) fn messages<'a>(
        &self,
        answer: &'a [Response],
        place: &Place,
    ) -> Result<Vec<&'a Message<'a>>, SourceError> {
        let mut found = Vec::new();
        for data in partitions(answer, place) {
            let data = data
                .data()
                .map_err(|error| self.partition_failed(place, &error))?;
            found.extend(
                data.messages()
                    .iter()
                    .filter(|message| message.offset >= place.next),
            );
        }
        Ok(found)
    }

    /// Fetches all places at once. Where that fails because of one batch that cannot be read, one by
    /// one, so that the others go on.
    pub(super) fn fetch_all(
        &self,
        places: &Arc<[(Place, i32)]>,
    ) -> Result<(Vec<Response>, Option<SourceError>), SourceError> {
        let asked = Arc::clone(places);
        let answer = self.call(move |client| {
            client.fetch_messages(asked.iter().map(|(place, limit)| place.request(*limit)))
        })?;
        match answer {
            Ok(answer) => Ok((answer, None)),
            Err(Error::UnsupportedCompression) => self.fetch_each(places),
            // A broker that cannot convert what it has on its disk closes the connection, without a word.
            Err(Error::Io(error)) if places.len() > 1 && error.kind() == ErrorKind::UnexpectedEof => {
                self.reopen()?;
                self.fetch_each(places)
            }
            Err(error) => Err(self.failed("fetch", &error)),
        }
    }

    fn fetch_each(
        &self,
        places: &[(Place, i32)],
    ) -> Result<(Vec<Response>, Option<SourceError>), SourceError> {
        let (mut answers, mut failed) = (Vec::new(), None);
        for (place, limit) in places {
            match self.fetch_one(place, *limit)? {
                Ok(answer) => answers.extend(answer),
                Err(error @ Error::UnsupportedCompression) => {
                    failed.get_or_insert_with(|| self.partition_failed(place, &error));
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    failed.get_or_insert_with(|| self.partition_failed(place, &Error::Io(error)));
                    self.reopen()?;
                }
                Err(error) => return Err(self.failed("fetch", &error)),
            }
        }
        Ok((answers, failed))
    }

    /// Takes a client with new connections.
    fn reopen(&self) -> Result<(), SourceError> {
        let fresh = open(&self.connection)?;
        self.call(move |client| *client = fresh)?;
        self.metadata(|_| ())
    }

    fn fetch(&self, place: &Place, limit: i32) -> Result<Vec<Response>, SourceError> {
        self.fetch_one(place, limit)?
            .map_err(|error| self.partition_failed(place, &error))
    }

    fn fetch_one(&self, place: &Place, limit: i32) -> Result<Result<Vec<Response>, Error>, SourceError> {
        let place = place.clone();
        self.call(move |client| client.fetch_messages_for_partition(&place.request(limit)))
    }

    /// Reads on at `place`, where an answer within `limit` began too late: either the records
    /// between are gone, or the client library dropped them. Bisects between a limit that yields
    /// nothing and one that shows the hole, for one that yields the missing record.
    pub(super) fn close_hole(
        &self,
        place: &Place,
        limit: i32,
        batcher: &mut Batcher,
    ) -> Result<(), SourceError> {
        let (mut empty, mut hole) = (0, limit);
        while hole - empty > MESSAGE_OVERHEAD {
            let middle = empty.midpoint(hole);
            let answer = self.fetch(place, middle)?;
            let messages = self.messages(&answer, place)?;
            match messages.first() {
                None => empty = middle,
                Some(first) if first.offset == place.next => {
                    take(place, &messages, batcher);
                    return Ok(());
                }
                Some(_) => hole = middle,
            }
        }
        let answer = self.fetch(place, hole)?;
        take(place, &self.messages(&answer, place)?, batcher);
        Ok(())
    }
}

/// A partition and the offset it is read from next.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) next: i64,
}

impl Place {
    fn request(&self, limit: i32) -> FetchPartition<'_> {
        let number = i32::try_from(self.partition).unwrap_or(i32::MAX);
        FetchPartition::new(&self.topic, number, self.next).with_max_bytes(limit)
    }
}

/// What an answer says of one partition.
pub(super) fn partitions<'a>(
    answer: &'a [Response],
    place: &Place,
) -> impl Iterator<Item = &'a Partition<'a>> {
    answer
        .iter()
        .flat_map(Response::topics)
        .filter(|topic| topic.topic() == &*place.topic)
        .flat_map(Topic::partitions)
        .filter(|partition| u32::try_from(partition.partition()) == Ok(place.partition))
}

pub(super) fn take(place: &Place, messages: &[&Message<'_>], batcher: &mut Batcher) {
    for message in messages {
        let stamp = Stamp {
            partition: place.partition,
            offset: message.offset,
            timestamp: None,
        };
        let present = |bytes: &'_ [u8]| !bytes.is_empty();
        let key = Some(message.key).filter(|bytes| present(bytes));
        let value = Some(message.value).filter(|bytes| present(bytes));
        batcher.push(&place.topic, stamp, key, value, std::iter::empty());
    }
}

#[cfg(feature = "tls")]
fn client_of(connection: &Connection) -> Result<KafkaClient, SourceError> {
    let Some(tls) = connection.access.tls() else {
        return Ok(KafkaClient::new(connection.brokers.clone()));
    };
    let connector =
        crate::kafka::tls::refusal_of(tls).map_err(|refusal| refusal.at(&connection.brokers.join(",")))?;
    Ok(KafkaClient::new_secure(
        connection.brokers.clone(),
        SecurityConfig::new(connector),
    ))
}

#[cfg(not(feature = "tls"))]
fn client_of(connection: &Connection) -> Result<KafkaClient, SourceError> {
    if connection.access.tls().is_none() {
        return Ok(KafkaClient::new(connection.brokers.clone()));
    }
    Err(SourceError::Unsupported {
        brokers: connection.brokers.join(","),
        reason: "TLS is not part of this build".to_owned(),
        remedy: "install one with the cargo feature tls or librdkafka".to_owned(),
    })
}

/// A client without metadata. It connects when it is first asked.
fn open(connection: &Connection) -> Result<KafkaClient, SourceError> {
    let mut client = client_of(connection)?;
    client.set_client_id("kafka-sse-bridge".to_owned());
    client.set_fetch_min_bytes(1);
    client
        .set_fetch_max_wait_time(FETCH_WAIT)
        .map_err(|error| SourceError::Unreachable {
            brokers: connection.brokers.join(","),
            reason: error.to_string(),
        })?;
    Ok(client)
}
