//! The pure-Rust `kafka` crate as a [`Source`], for brokers up to 3.9.
//!
//! Used through its low-level `KafkaClient` with the tail's offsets, on a thread beside the one that reads
//! ([`aside`](super::aside)), because it cannot be interrupted. Three of its habits are closed
//! here, each found by reading from real brokers:
//! - dead connections stay in its pool for ever, so any error ends this source and the tail builds
//!   another;
//! - plain messages before a compressed set in the same answer are dropped without an error. The
//!   hole always lies between the offset asked for and the first one delivered, so an answer that
//!   begins too late is asked for again in smaller pieces until the pieces meet or the hole is
//!   proven real (compaction);
//! - a batch larger than the limit is answered with nothing, so the limit grows to a cap.
//!
//! By its nature it gives no timestamps and no headers, cannot tell null from empty (an empty value
//! counts as a tombstone), reads uncommitted records, and knows gzip and snappy only.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use kafka::client::SecurityConfig;
use kafka::client::fetch::{Message, Partition, Response, Topic};
use kafka::client::{FetchOffset, FetchPartition, KafkaClient};
use kafka::error::{Error, KafkaCode};
use log::warn;

use super::aside::{Aside, Left};
use super::client::Purpose;
use super::inbox::{Inbox, Place as Placed};
use super::lag::End;
use super::plain::Asking;
use super::pulse::Pulse;
use super::record::{Stamp, TopicId};
use super::refusal::Refusal;
use super::source::{Bounds, Lost, Source, SourceError};
use super::tail::Connection;

/// How long a broker holds a fetch that finds nothing.
const FETCH_WAIT: Duration = Duration::from_millis(100);

/// What one fetch asks for in all, divided among the partitions: live, and for history, where several
/// read at a time.
const FETCH_BYTES: (i32, i32) = (8 * 1024 * 1024, 1024 * 1024);

/// Least and most that is asked of one partition at first.
const PARTITION_BYTES: (i32, i32) = (64 * 1024, 1024 * 1024);

/// Up to where the limit of a partition grows to get a large batch: far beyond what brokers accept
/// by default (1 MiB), still bounded.
const PARTITION_BYTES_CAP: i32 = 64 * 1024 * 1024;

/// By how much it grows at a time. Where only a marker of a transaction is left, it grows to the end.
const GROWTH: i32 = 16;

/// How often the ends that answers name are handed on.
const ENDS_EVERY: Duration = Duration::from_secs(2);

/// The least size of a message in the old format: offset, size, checksum, magic, attributes and two
/// lengths. Limits closer to each other than this cannot tell two messages apart.
const MESSAGE_OVERHEAD: i32 = 26;

/// What one record of TLS holds: the crate sends no more of a request, and waits for an answer in vain.
const TLS_RECORD: usize = 16 * 1024;

/// What a fetch says of a partition, and at most of a topic beside its name.
const PLACE_BYTES: usize = 16;

/// A `KafkaClient` and the fetch limits of partitions that needed more than usual.
pub(super) struct KafkaCrate {
    brokers: String,
    client: Aside<KafkaClient>,
    limits: HashMap<(Arc<str>, u32), i32>,
    fetch_bytes: i32,
    /// Partitions that are read no more, as they cannot be.
    stopped: BTreeSet<(Arc<str>, u32)>,
    /// Where nothing readable followed within the largest limit.
    ended: HashMap<(Arc<str>, u32), i64>,
    /// When each partition was placed that has been read.
    placed: HashMap<(Arc<str>, u32), u64>,
    /// Answers what the library does not ask.
    asking: Aside<Asking>,
    /// What the last answer that was looked at said of ends, and when that was.
    ends: Vec<End>,
    ends_noted: Option<Instant>,
    /// Topics that may not be read. Those that may not be seen do not exist to the crate.
    forbidden: BTreeSet<Arc<str>>,
    connection: Connection,
}

impl KafkaCrate {
    /// Connects and loads the metadata.
    ///
    /// # Errors
    /// When no broker answers.
    pub(super) fn new(
        connection: &Connection,
        purpose: Purpose,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, SourceError> {
        let brokers = connection.brokers.join(",");
        let failed = |reason: String| SourceError::Unreachable {
            brokers: brokers.clone(),
            reason,
        };
        let client = open(connection)?;
        let no_thread = |error| failed(format!("no thread for the client: {error}"));
        let client = Aside::spawn("kafka-crate", client, Arc::clone(pulse)).map_err(no_thread)?;
        let asking = Asking::new(connection.brokers.clone(), connection.access.clone());
        let asking = Aside::spawn("kafka-asking", asking, Arc::clone(pulse)).map_err(no_thread)?;
        let source = Self {
            brokers,
            client,
            limits: HashMap::new(),
            fetch_bytes: match purpose {
                Purpose::Live => FETCH_BYTES.0,
                Purpose::History => FETCH_BYTES.1,
            },
            stopped: BTreeSet::new(),
            ended: HashMap::new(),
            placed: HashMap::new(),
            asking,
            ends: Vec::new(),
            ends_noted: None,
            forbidden: BTreeSet::new(),
            connection: connection.clone(),
        };
        source.metadata(|_| ())?;
        Ok(source)
    }

    /// What `work` gives, unless it takes too long or the thread has something else to do.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut KafkaClient) -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        self.client.call(work).map_err(|left| self.left(left))
    }

    fn left(&self, why: Left) -> SourceError {
        match why {
            Left::Called => SourceError::Interrupted,
            Left::Late => SourceError::Unreachable {
                brokers: self.brokers.clone(),
                reason: "the kafka crate does not come back".to_owned(),
            },
        }
    }

    /// Asks for all topics, as naming one that does not exist would create it, and looks at them.
    fn metadata<T: Send + 'static>(
        &self,
        look: impl FnOnce(&KafkaClient) -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        self.call(|client| client.load_metadata_all().map(|()| look(client)))?
            .map_err(|error| self.failed("metadata", &error))
    }

    /// Whether a fetch of all that is read can be sent.
    fn check_room(&self, inbox: &Inbox) -> Result<(), SourceError> {
        let of_topic = |(topic, next): (&Arc<str>, &[i64])| topic.len() + PLACE_BYTES * (1 + next.len());
        if self.connection.access.tls().is_none()
            || inbox.positions().map(of_topic).sum::<usize>() <= TLS_RECORD
        {
            return Ok(());
        }
        Err(SourceError::Unsupported {
            brokers: self.brokers.clone(),
            reason: "the kafka crate cannot ask for so many partitions over TLS".to_owned(),
            remedy: "set client = \"librdkafka\" in [kafka]".to_owned(),
        })
    }

    fn failed(&self, what: &str, error: &Error) -> SourceError {
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
    fn messages<'a>(
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
    fn fetch_all(
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
    fn close_hole(&self, place: &Place, limit: i32, inbox: &mut Inbox) -> Result<(), SourceError> {
        let (mut empty, mut hole) = (0, limit);
        while hole - empty > MESSAGE_OVERHEAD {
            let middle = empty.midpoint(hole);
            let answer = self.fetch(place, middle)?;
            let messages = self.messages(&answer, place)?;
            match messages.first() {
                None => empty = middle,
                Some(first) if first.offset == place.next => {
                    take(place, &messages, inbox);
                    return Ok(());
                }
                Some(_) => hole = middle,
            }
        }
        let answer = self.fetch(place, hole)?;
        take(place, &self.messages(&answer, place)?, inbox);
        Ok(())
    }

    /// Notes what an answer says of the ends of partitions, once in a while.
    fn note_ends(&mut self, answer: &[Response]) {
        if self.ends_noted.is_some_and(|noted| noted.elapsed() < ENDS_EVERY) {
            return;
        }
        self.ends_noted = Some(Instant::now());
        let topics = answer.iter().flat_map(Response::topics);
        let ends = topics.flat_map(|topic| {
            topic.partitions().iter().filter_map(|partition| {
                Some(End {
                    topic: topic.topic().to_owned(),
                    partition: u32::try_from(partition.partition()).ok()?,
                    offset: Some(partition.data().ok()?.highwatermark_offset()),
                    high: None,
                    is_reached: false,
                    is_fetched: true,
                })
            })
        });
        self.ends = ends.collect();
    }

    fn grow(&mut self, place: &Place, limit: i32) {
        if limit == PARTITION_BYTES_CAP {
            self.ended
                .insert((place.topic.clone(), place.partition), place.next);
        } else {
            let grown = limit.saturating_mul(GROWTH).min(PARTITION_BYTES_CAP);
            self.limits.insert((place.topic.clone(), place.partition), grown);
            if grown == PARTITION_BYTES_CAP {
                warn!(
                    "kafka {}: topic {:?} partition {}: nothing readable at offset {} within {limit} bytes, \
                     although there is more: a transaction's marker, or a batch larger than that",
                    self.brokers, place.topic, place.partition, place.next
                );
            }
        }
    }
}

/// A partition and the offset it is read from next.
#[derive(Clone)]
struct Place {
    topic: Arc<str>,
    partition: u32,
    next: i64,
}

impl Place {
    fn request(&self, limit: i32) -> FetchPartition<'_> {
        let number = i32::try_from(self.partition).unwrap_or(i32::MAX);
        FetchPartition::new(&self.topic, number, self.next).with_max_bytes(limit)
    }
}

/// What an answer says of one partition.
fn partitions<'a>(answer: &'a [Response], place: &Place) -> impl Iterator<Item = &'a Partition<'a>> {
    answer
        .iter()
        .flat_map(Response::topics)
        .filter(|topic| topic.topic() == &*place.topic)
        .flat_map(Topic::partitions)
        .filter(|partition| u32::try_from(partition.partition()) == Ok(place.partition))
}

fn take(place: &Place, messages: &[&Message<'_>], inbox: &mut Inbox) {
    for message in messages {
        let stamp = Stamp {
            partition: place.partition,
            offset: message.offset,
            timestamp: None,
        };
        let present = |bytes: &'_ [u8]| !bytes.is_empty();
        let key = Some(message.key).filter(|bytes| present(bytes));
        let value = Some(message.value).filter(|bytes| present(bytes));
        inbox.push(&place.topic, stamp, key, value, std::iter::empty());
    }
}

#[cfg(feature = "tls")]
fn client_of(connection: &Connection) -> Result<KafkaClient, SourceError> {
    let Some(tls) = connection.access.tls() else {
        return Ok(KafkaClient::new(connection.brokers.clone()));
    };
    let connector =
        super::tls::refusal_of(tls).map_err(|refusal| refusal.at(&connection.brokers.join(",")))?;
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

impl Source for KafkaCrate {
    fn partitions(&mut self, topics: &[Arc<str>]) -> Result<Vec<usize>, SourceError> {
        let topics = topics.to_vec();
        self.metadata(move |client| {
            let known = client.topics();
            let count = |topic: &Arc<str>| known.partitions(topic).map_or(0, |found| found.len());
            topics.iter().map(count).collect()
        })
    }

    fn bounds(&mut self, topic: &str, partitions: usize) -> Result<Vec<Option<Bounds>>, SourceError> {
        let bounds = self.bounds_of(&[(topic.into(), partitions)])?;
        Ok(bounds.into_iter().next().unwrap_or_default())
    }

    fn bounds_of(&mut self, topics: &[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, SourceError> {
        let ask = |which| {
            let names: Vec<String> = topics.iter().map(|(name, _)| name.to_string()).collect();
            let answer = self
                .call(move |client| client.fetch_offsets(&names, which))?
                .map_err(|error| self.failed(&format!("offsets of {} topics", topics.len()), &error))?;
            let offsets = topics.iter().map(|(name, partitions)| {
                let mut offsets = vec![None; *partitions];
                for found in answer.get(&**name).into_iter().flatten() {
                    let slot = usize::try_from(found.partition)
                        .ok()
                        .and_then(|index| offsets.get_mut(index));
                    if let Some(slot) = slot {
                        *slot = Some(found.offset);
                    }
                }
                offsets
            });
            Ok::<Vec<Vec<Option<i64>>>, SourceError>(offsets.collect())
        };
        let low = ask(FetchOffset::Earliest)?;
        let high = ask(FetchOffset::Latest)?;
        let bounds = |(low, high): (Option<i64>, Option<i64>)| {
            Some(Bounds {
                low: low?,
                high: high?,
            })
        };
        let of_topic = |(low, high): (Vec<_>, Vec<_>)| low.into_iter().zip(high).map(bounds).collect();
        Ok(low.into_iter().zip(high).map(of_topic).collect())
    }

    fn offsets_at(&mut self, topic: &str, asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, SourceError> {
        if asked.iter().all(Option::is_none) {
            return Ok(vec![None; asked.len()]);
        }
        Err(SourceError::Unsupported {
            brokers: self.brokers.clone(),
            reason: format!("the kafka crate cannot look up times in topic {topic:?}"),
            remedy: "set client = \"librdkafka\" in [kafka]".to_owned(),
        })
    }

    fn assign(&mut self, inbox: &Inbox) -> Result<(), SourceError> {
        // Every fetch names its offsets, so there is nothing to set up. What is known of a partition holds for as long
        // as it is read on.
        let of = |place: Placed<'_>| ((Arc::clone(place.topic), place.partition), place.placed);
        let placed: HashMap<(Arc<str>, u32), u64> = inbox.places().map(of).collect();
        let is_read_on = |at: &(Arc<str>, u32)| match (placed.get(at), self.placed.get(at)) {
            (Some(now), Some(before)) => now == before,
            _ => true,
        };
        self.limits.retain(|at, _| is_read_on(at));
        self.stopped.retain(is_read_on);
        self.placed.extend(placed);
        Ok(())
    }

    fn stop(&mut self, topic: &Arc<str>, partition: u32) {
        self.stopped.insert((Arc::clone(topic), partition));
    }

    fn poll(&mut self, wait: Duration, inbox: &mut Inbox) -> Result<(), SourceError> {
        let places: Vec<(Arc<str>, u32, i64)> = inbox
            .places()
            .map(|place| (Arc::clone(place.topic), place.partition, place.next))
            .filter(|(topic, partition, _)| !self.stopped.contains(&(Arc::clone(topic), *partition)))
            .collect();
        self.check_room(inbox)?;
        let usual = i32::try_from(places.len().max(1))
            .map_or(PARTITION_BYTES.0, |count| self.fetch_bytes / count)
            .clamp(PARTITION_BYTES.0, PARTITION_BYTES.1);
        let place = |(topic, partition, next): (Arc<str>, u32, i64)| {
            let limit = self.limits.get(&(topic.clone(), partition)).copied();
            let place = Place {
                topic,
                partition,
                next,
            };
            (place, limit.unwrap_or(usual))
        };
        let places: Arc<[(Place, i32)]> = places.into_iter().map(place).collect();
        let started = Instant::now();
        let (answer, mut failed) = self.fetch_all(&places)?;
        self.note_ends(&answer);
        let mut is_idle = true;
        for (place, limit) in &*places {
            let messages = match self.messages(&answer, place) {
                Ok(messages) => {
                    self.forbidden.remove(&place.topic);
                    messages
                }
                Err(SourceError::Refused { .. }) => {
                    self.forbidden.insert(Arc::clone(&place.topic));
                    continue;
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            let Some(first) = messages.first() else {
                let high = partitions(&answer, place)
                    .find_map(|found| Some(found.data().ok()?.highwatermark_offset()));
                if high.is_some_and(|high| high > place.next) {
                    self.grow(place, *limit);
                }
                continue;
            };
            is_idle = false;
            self.limits.remove(&(place.topic.clone(), place.partition));
            if first.offset > place.next {
                self.close_hole(place, *limit, inbox)?;
            } else {
                take(place, &messages, inbox);
            }
        }
        // The healthy partitions first: what they gave is taken.
        if let Some(error) = failed {
            return Err(error);
        }
        // A fetch of partitions that have no leader or do not exist is answered at once.
        if is_idle {
            std::thread::sleep(wait.saturating_sub(started.elapsed()));
        }
        Ok(())
    }

    fn is_at_end(&mut self, topic: &str, partition: u32, next: i64) -> Result<bool, SourceError> {
        let at = (Arc::from(topic), partition);
        let is_ended = self.ended.get(&at).is_some_and(|&end| end == next);
        Ok(is_ended || self.stopped.contains(&at) || self.forbidden.contains(topic))
    }

    fn remember_forbidden(&mut self, topics: &BTreeSet<Arc<str>>) {
        self.forbidden.clone_from(topics);
    }

    fn forbidden(&self) -> &BTreeSet<Arc<str>> {
        &self.forbidden
    }

    fn trouble(&self) -> Option<&str> {
        None
    }

    fn ends(&mut self) -> Vec<End> {
        std::mem::take(&mut self.ends)
    }

    fn members(&mut self) -> Result<Vec<String>, SourceError> {
        // Brokers that lead nothing are not told.
        self.metadata(|client| {
            let topics = client.topics();
            let partitions = topics.iter().flat_map(|topic| topic.partitions().iter());
            let leaders = partitions.filter_map(|partition| Some(partition.leader()?.host().to_owned()));
            leaders.collect::<BTreeSet<_>>().into_iter().collect()
        })
    }

    fn topic_ids(&mut self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicId>>, SourceError> {
        let topics = topics.to_vec();
        self.asking
            .call(move |asking| asking.topic_ids(&topics))
            .map_err(|left| self.left(left))?
            .map_err(|error| SourceError::Unreachable {
                brokers: self.brokers.clone(),
                reason: format!("ids of topics: {error}"),
            })
    }

    fn reconnects(&self) -> bool {
        false
    }
}
