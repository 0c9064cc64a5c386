//! Fetches with the `kafka` crate: all partitions at once, one by one if a partition makes that fail, and again if the
//! crate has dropped messages before a compressed set.
//!
//! Attributes errors to partitions. Decides neither limits nor which partitions are read.

use std::io;
use std::sync::Arc;

use kafka::client::fetch::{Message, Partition, Response, Topic};
use kafka::client::{FetchPartition, KafkaClient};
use kafka::error::{Error, KafkaCode};

use super::open::open;
use crate::kafka::admin::no_answer;
use crate::kafka::auth_error::AuthError;
use crate::kafka::batcher::{Batcher, FetchPosition};
use crate::kafka::connection::Connection;
use crate::kafka::error::{ErrorKind, KafkaError, Location, USE_LIBRDKAFKA};
use crate::kafka::next_batch::NextBatch;
use crate::kafka::partition::Lost;
use crate::kafka::pulse::Pulse;
use crate::kafka::record::Stamp;
use crate::kafka::wire_protocol::BrokerClient;
use crate::kafka::worker_thread::{PendingCall, WorkerThread};

/// The smallest size of a message in the old format: offset, size, checksum, magic, attributes and two
/// lengths. Limits that differ by less cannot separate two messages.
const MESSAGE_OVERHEAD: i32 = 26;

/// What the crate returns for a fetch.
type FetchAnswer = Result<Vec<Response>, Error>;

/// The positions of a fetch, and the limit of each in bytes.
pub(super) type FetchPlaces = Arc<[(FetchPosition, i32)]>;

/// A fetch in progress.
pub(super) struct PendingFetch {
    pub(super) places: FetchPlaces,
    answer: PendingCall<FetchAnswer>,
}

struct Library {
    client: KafkaClient,
    /// For requests that the crate does not support.
    protocol: BrokerClient,
}

/// A client that fetches, on its own thread.
pub(super) struct Fetcher {
    pub(super) brokers: Arc<str>,
    pub(super) connection: Connection,
    library: WorkerThread<Library>,
}

impl Fetcher {
    /// A client for the thread with this pulse. It connects at its first request.
    pub(super) fn new(connection: &Connection, pulse: &Arc<Pulse>) -> Result<Self, KafkaError> {
        let brokers = connection.bootstrap_servers();
        let library = Library {
            client: open(connection)?,
            protocol: BrokerClient::new(connection.brokers.clone(), connection.credentials.clone()),
        };
        let library = WorkerThread::spawn("kafka-crate", library, Arc::clone(pulse), |_| None);
        Ok(Self {
            library: library.map_err(|error| {
                KafkaError::unreachable(&brokers, format!("no thread for the client: {error}"))
            })?,
            brokers,
            connection: connection.clone(),
        })
    }

    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut KafkaClient) -> T + Send + 'static,
    ) -> Result<T, KafkaError> {
        let answer = self.library.call(move |library| work(&mut library.client));
        answer.map_err(|abandoned| no_answer(&self.brokers, abandoned))
    }

    /// Finds the next batch with records by its header.
    pub(super) fn next_batch(
        &self,
        place: &FetchPosition,
    ) -> Result<io::Result<Option<NextBatch>>, KafkaError> {
        let place = place.clone();
        let answer = self.library.call(move |library| {
            library
                .protocol
                .next_batch(&place.topic, place.partition, place.next)
        });
        answer.map_err(|abandoned| no_answer(&self.brokers, abandoned))
    }

    /// Loads the metadata of all topics: a request that names a missing topic would create it.
    pub(super) fn load_metadata(&self) -> Result<(), KafkaError> {
        self.call(KafkaClient::load_metadata_all)?
            .map_err(|error| self.failed("metadata", &error))
    }

    pub(super) fn failed(&self, what: &str, error: &Error) -> KafkaError {
        match error {
            Error::UnsupportedCompression => KafkaError::unsupported(
                &self.brokers,
                "a batch is compressed with lz4 or zstd, which the kafka crate cannot read",
                USE_LIBRDKAFKA,
            ),
            error => KafkaError::unreachable(&self.brokers, format!("{what}: {error}")),
        }
    }

    fn partition_failed(&self, place: &FetchPosition, error: &Error) -> KafkaError {
        let kind = match error {
            // Brokers return this code for a batch that they cannot convert; the old protocol has no name for it.
            Error::Kafka(KafkaCode::Unknown) => ErrorKind::Codec("zstd"),
            // The crate's own error.
            Error::UnsupportedCompression => ErrorKind::Codec("lz4"),
            Error::Kafka(KafkaCode::OffsetOutOfRange) => ErrorKind::OutOfRange {
                reason: error.to_string(),
                lost: vec![Lost {
                    topic: Arc::clone(&place.topic),
                    partition: place.partition,
                    cut: None,
                }],
            },
            Error::Kafka(KafkaCode::TopicAuthorizationFailed) => {
                return AuthError::topic(&place.topic, &self.connection.credentials).at(&self.brokers);
            }
            error => ErrorKind::Partition(error.to_string()),
        };
        KafkaError::new(&self.brokers, kind).located(location(place))
    }

    /// The messages of one partition in a response, from the requested offset on: a compressed set is delivered whole,
    /// including messages that were read before.
    pub(super) fn messages<'a>(
        &self,
        answer: &'a [Response],
        place: &FetchPosition,
    ) -> Result<Vec<&'a Message<'a>>, KafkaError> {
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

    /// Begins to fetch all positions at once.
    pub(super) fn begin(&self, places: &FetchPlaces) -> Result<PendingFetch, KafkaError> {
        let asked = Arc::clone(places);
        let answer = self.library.begin(move |library| {
            let requests = asked.iter().map(|(place, limit)| request(place, *limit));
            library.client.fetch_messages(requests)
        });
        let answer = answer.map_err(|abandoned| no_answer(&self.brokers, abandoned))?;
        let places = Arc::clone(places);
        Ok(PendingFetch { places, answer })
    }

    fn wait(&self, fetch: &PendingFetch) -> Result<FetchAnswer, KafkaError> {
        let answer = self.library.wait(&fetch.answer);
        answer.map_err(|abandoned| no_answer(&self.brokers, abandoned))
    }

    /// Waits for a fetch. If an unreadable batch made it fail, fetches `places` one by one, so that the others
    /// continue.
    pub(super) fn finish(
        &self,
        fetch: &PendingFetch,
        places: &FetchPlaces,
    ) -> Result<(Vec<Response>, Option<KafkaError>), KafkaError> {
        match self.wait(fetch)? {
            Ok(answer) => Ok((answer, None)),
            Err(Error::UnsupportedCompression) => self.fetch_each(places),
            // A broker that cannot convert a stored batch closes the connection without a response.
            Err(Error::Io(error))
                if fetch.places.len() > 1 && error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                self.reopen()?;
                self.fetch_each(places)
            }
            Err(error) => Err(self.failed("fetch", &error)),
        }
    }

    /// Waits for a fetch whose records are not wanted.
    pub(super) fn discard(&self, fetch: &PendingFetch) -> Result<(), KafkaError> {
        match self.wait(fetch)? {
            // An unreadable batch is met again where it is wanted.
            Ok(_) | Err(Error::UnsupportedCompression) => Ok(()),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.reopen(),
            Err(error) => Err(self.failed("fetch", &error)),
        }
    }

    fn fetch_each(
        &self,
        places: &[(FetchPosition, i32)],
    ) -> Result<(Vec<Response>, Option<KafkaError>), KafkaError> {
        let (mut answers, mut failed) = (Vec::new(), None);
        for (place, limit) in places {
            match self.fetch_one(place, *limit)? {
                Ok(answer) => answers.extend(answer),
                Err(error @ Error::UnsupportedCompression) => {
                    failed.get_or_insert_with(|| self.partition_failed(place, &error));
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    failed.get_or_insert_with(|| self.partition_failed(place, &Error::Io(error)));
                    self.reopen()?;
                }
                Err(error) => return Err(self.failed("fetch", &error)),
            }
        }
        Ok((answers, failed))
    }

    /// Replaces the client by one with new connections.
    fn reopen(&self) -> Result<(), KafkaError> {
        let fresh = open(&self.connection)?;
        self.call(move |client| *client = fresh)?;
        self.load_metadata()
    }

    fn fetch(&self, place: &FetchPosition, limit: i32) -> Result<Vec<Response>, KafkaError> {
        self.fetch_one(place, limit)?
            .map_err(|error| self.partition_failed(place, &error))
    }

    fn fetch_one(&self, place: &FetchPosition, limit: i32) -> Result<FetchAnswer, KafkaError> {
        let place = place.clone();
        self.call(move |client| client.fetch_messages_for_partition(&request(&place, limit)))
    }

    /// Reads on at `place`, where a response within `limit` began too late: the records between are gone, or the client
    /// library dropped them. Bisects between a limit that yields nothing and one that shows the gap, to find a limit
    /// that yields the missing record.
    pub(super) fn close_hole(
        &self,
        place: &FetchPosition,
        limit: i32,
        batcher: &mut Batcher,
    ) -> Result<(), KafkaError> {
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

pub(super) fn location(position: &FetchPosition) -> Location {
    Location::offset(Arc::clone(&position.topic), position.partition, position.next)
}

fn request(position: &FetchPosition, limit: i32) -> FetchPartition<'_> {
    let number = i32::try_from(position.partition).unwrap_or(i32::MAX);
    FetchPartition::new(&position.topic, number, position.next).with_max_bytes(limit)
}

fn partitions<'a>(answer: &'a [Response], place: &FetchPosition) -> impl Iterator<Item = &'a Partition<'a>> {
    answer
        .iter()
        .flat_map(Response::topics)
        .filter(|topic| topic.topic() == &*place.topic)
        .flat_map(Topic::partitions)
        .filter(|partition| u32::try_from(partition.partition()) == Ok(place.partition))
}

/// The high watermark of a partition; `None` if the response omits it or has an error for it.
pub(super) fn high_watermark(answer: &[Response], place: &FetchPosition) -> Option<i64> {
    partitions(answer, place).find_map(|found| Some(found.data().ok()?.highwatermark_offset()))
}

pub(super) fn take(place: &FetchPosition, messages: &[&Message<'_>], batcher: &mut Batcher) {
    for message in messages {
        let stamp = Stamp {
            partition: place.partition,
            offset: message.offset,
            timestamp: None,
        };
        let present = |bytes: &'_ [u8]| !bytes.is_empty();
        let key = Some(message.key).filter(|bytes| present(bytes));
        let value = Some(message.value).filter(|bytes| present(bytes));
        batcher.push(None, &place.topic, stamp, key, value, std::iter::empty());
    }
}
