//! Reads with the `kafka` crate: chooses the partitions and limits of every fetch, and evaluates the responses.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::client::fetch::{Message, Response};
use log::debug;

use super::fetcher::{FetchPlaces, Fetcher, PendingFetch, high_watermark, location, take};
use super::prefetch::{Fetched, following, still_wanted};
use crate::kafka::batcher::{Batcher, FetchPosition};
use crate::kafka::connection::{Connection, Purpose};
use crate::kafka::consumer::Consumer;
use crate::kafka::error::{ErrorKind, KafkaError, Location, USE_LIBRDKAFKA};
use crate::kafka::lag::End;
use crate::kafka::next_batch::NextBatch;
use crate::kafka::pulse::Pulse;
use crate::kafka::unreadable::{RETRY_EVERY, UnreadablePartitions};

/// Bytes of one fetch, divided among the partitions: live, and for history, where several clients read at a time.
const FETCH_BYTES: (i32, i32) = (8 * 1024 * 1024, 1024 * 1024);

/// Smallest and largest initial limit of one partition.
const PARTITION_BYTES: (i32, i32) = (64 * 1024, 1024 * 1024);

/// Largest limit of a partition, to which it grows to receive a large batch: far above the default limit of brokers
/// (1 MiB), but bounded.
const PARTITION_BYTES_CAP: i32 = 64 * 1024 * 1024;

/// The factor of growth. Where only a transaction marker follows, the limit grows to its maximum.
const GROWTH: i32 = 16;

/// How often the end offsets in responses are reported.
const ENDS_EVERY: Duration = Duration::from_secs(2);

/// How often metadata is loaded while responses omit a partition.
const METADATA_EVERY: Duration = Duration::from_secs(1);

/// How often the header of the next batch is requested while the largest limit yields nothing.
const EXAMINE_EVERY: Duration = Duration::from_secs(1);

/// The size of one TLS record. The crate sends no more of a request than this, and no response arrives.
const TLS_RECORD: usize = 16 * 1024;

/// Bytes of a fetch request per partition, and at most per topic in addition to its name.
const PLACE_BYTES: usize = 16;

/// A `KafkaClient` and the fetch limits of partitions that needed more than usual.
pub(super) struct KafkaCrateConsumer {
    fetcher: Fetcher,
    limits: HashMap<(Arc<str>, u32), i32>,
    fetch_bytes: i32,
    /// Whether what follows is fetched ahead: not for a replay, which ends at an offset.
    fetches_ahead: bool,
    prefetch: Option<PendingFetch>,
    /// Partitions that are stopped. Those stopped at a large batch are tried again.
    stopped: UnreadablePartitions,
    /// The partition whose batch was found to be too large last.
    too_large: Option<(Arc<str>, u32)>,
    /// Partitions in which only transaction markers follow: the next offset, and the high watermark at that time.
    ended: HashMap<(Arc<str>, u32), (i64, i64)>,
    /// When the header of the next batch was last requested.
    examined: HashMap<(Arc<str>, u32), Instant>,
    /// The [`FetchPosition::placed`] of each partition that has been read.
    placed: HashMap<(Arc<str>, u32), u64>,
    metadata_loaded: Instant,
    /// End offsets in the last response that was evaluated, and its time.
    ends: Vec<End>,
    ends_noted: Option<Instant>,
    /// Unauthorized topics. To the crate, a topic without DESCRIBE permission does not exist.
    unauthorized: BTreeSet<Arc<str>>,
}

impl KafkaCrateConsumer {
    pub(super) fn new(
        connection: &Connection,
        purpose: Purpose,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, KafkaError> {
        let fetcher = Fetcher::new(connection, pulse)?;
        fetcher.load_metadata()?;
        Ok(Self {
            fetcher,
            limits: HashMap::new(),
            fetch_bytes: match purpose {
                Purpose::Live => FETCH_BYTES.0,
                Purpose::History => FETCH_BYTES.1,
            },
            fetches_ahead: purpose == Purpose::Live,
            prefetch: None,
            stopped: UnreadablePartitions::default(),
            too_large: None,
            ended: HashMap::new(),
            examined: HashMap::new(),
            placed: HashMap::new(),
            metadata_loaded: Instant::now(),
            ends: Vec::new(),
            ends_noted: None,
            unauthorized: BTreeSet::new(),
        })
    }

    /// Fails if a fetch of all partitions is too large to be sent.
    fn check_request_size(&self, batcher: &Batcher) -> Result<(), KafkaError> {
        let of_topic = |(topic, next): (&Arc<str>, &[i64])| topic.len() + PLACE_BYTES * (1 + next.len());
        if self.fetcher.connection.credentials.tls().is_none()
            || batcher.positions().map(of_topic).sum::<usize>() <= TLS_RECORD
        {
            return Ok(());
        }
        Err(KafkaError::unsupported(
            &self.fetcher.brokers,
            "the kafka crate cannot ask for so many partitions over TLS",
            USE_LIBRDKAFKA,
        ))
    }

    /// The positions to fetch, each with its limit in bytes.
    fn places(&self, batcher: &Batcher) -> FetchPlaces {
        let places: Vec<FetchPosition> = batcher
            .fetch_positions()
            .filter(|position| !self.stopped.is_at(position))
            .collect();
        let usual = self.usual_limit(places.len());
        let with_limit = |position: FetchPosition| {
            let limit = self.limits.get(&position.key()).copied();
            (position, limit.unwrap_or(usual))
        };
        places.into_iter().map(with_limit).collect()
    }

    fn usual_limit(&self, partitions: usize) -> i32 {
        i32::try_from(partitions.max(1))
            .map_or(PARTITION_BYTES.0, |count| self.fetch_bytes / count)
            .clamp(PARTITION_BYTES.0, PARTITION_BYTES.1)
    }

    /// The fetch of these positions, which may be under way, and those positions with the limits that it has.
    fn begun(&mut self, wanted: FetchPlaces) -> Result<(PendingFetch, FetchPlaces), KafkaError> {
        if let Some(fetch) = self.prefetch.take() {
            if let Some(places) = still_wanted(&fetch.places, &wanted) {
                return Ok((fetch, places));
            }
            // If it has failed, the client cannot be used on.
            self.fetcher.discard(&fetch)?;
        }
        Ok((self.fetcher.begin(&wanted)?, wanted))
    }

    /// Begins to fetch what follows a response, if more records are known to.
    fn begin_next(
        &self,
        answer: &[Response],
        places: &FetchPlaces,
        found: &[Result<Vec<&Message<'_>>, KafkaError>],
    ) -> Result<Option<PendingFetch>, KafkaError> {
        let fetched = places.iter().zip(found).map(|((place, _), found)| {
            match found {
                // It stays as it is until the topic is authorized.
                Err(error) if matches!(error.kind, ErrorKind::Refused { .. }) => {
                    Some(Fetched::nothing(place))
                }
                Err(_) => None,
                Ok(messages) => {
                    let high = high_watermark(answer, place)?;
                    if messages.is_empty() && self.is_ended(place, high) {
                        return Some(Fetched::nothing(place));
                    }
                    Some(Fetched::new(high, messages))
                }
            }
        });
        following(places, fetched, self.usual_limit(places.len()))
            .map(|places| self.fetcher.begin(&places))
            .transpose()
    }

    /// Whether only transaction markers are known to follow, up to this high watermark.
    fn is_ended(&self, place: &FetchPosition, high: i64) -> bool {
        self.ended.get(&place.key()) == Some(&(place.next, high))
    }

    fn note_ends(&mut self, answer: &[Response], places: &[(FetchPosition, i32)]) {
        if self.ends_noted.is_some_and(|noted| noted.elapsed() < ENDS_EVERY) {
            return;
        }
        self.ends_noted = Some(Instant::now());
        let next: HashMap<(Arc<str>, u32), i64> = places
            .iter()
            .map(|(place, _)| (place.key(), place.next))
            .collect();
        let topics = answer.iter().flat_map(Response::topics);
        let ends = topics.flat_map(|topic| {
            let (name, next, ended) = (Arc::<str>::from(topic.topic()), &next, &self.ended);
            topic.partitions().iter().filter_map(move |partition| {
                let high = partition.data().ok()?.highwatermark_offset();
                let at = (Arc::clone(&name), u32::try_from(partition.partition()).ok()?);
                let is_ended = |&(end, known): &(i64, i64)| known == high && next.get(&at) == Some(&end);
                Some(End {
                    topic: name.to_string(),
                    partition: at.1,
                    offset: Some(high),
                    high: None,
                    is_reached: ended.get(&at).is_some_and(is_ended),
                    is_fetched: true,
                })
            })
        });
        self.ends = ends.collect();
    }

    /// Loads metadata if a response omits one of the partitions that were asked for: the crate knows no leader of it.
    fn find_leaders(&mut self, answer: &[Response], asked: usize) -> Result<(), KafkaError> {
        if self.metadata_loaded.elapsed() < METADATA_EVERY {
            return Ok(());
        }
        let topics = answer.iter().flat_map(Response::topics);
        let answered: usize = topics.map(|topic| topic.partitions().len()).sum();
        if answered < asked {
            self.metadata_loaded = Instant::now();
            self.fetcher.load_metadata()?;
        }
        Ok(())
    }

    /// Handles a partition that yielded nothing within its limit although its high watermark is higher. Fails when the
    /// batch is larger than the largest limit, or its size is unknown.
    fn grow(&mut self, place: &FetchPosition, limit: i32, high: i64) -> Result<(), KafkaError> {
        let at = (Arc::clone(&place.topic), place.partition);
        if limit < PARTITION_BYTES_CAP {
            let grown = limit.saturating_mul(GROWTH).min(PARTITION_BYTES_CAP);
            self.limits.insert(at, grown);
            return Ok(());
        }
        let is_known = self.is_ended(place, high);
        let is_late = |examined: &Instant| examined.elapsed() < EXAMINE_EVERY;
        if is_known || self.examined.get(&at).is_some_and(is_late) {
            return Ok(());
        }
        self.examined.insert(at.clone(), Instant::now());
        match self.next_batch(place)? {
            Some(batch) if batch.bytes > i64::from(PARTITION_BYTES_CAP) => {
                self.too_large = Some(at);
                let size = match batch.bytes {
                    i64::MAX => String::new(),
                    bytes => format!(" ({bytes} bytes)"),
                };
                let kind = ErrorKind::TooLarge {
                    limit: format!(
                        "{PARTITION_BYTES_CAP} bytes, the most that the kafka crate is given{size}"
                    ),
                    remedy: USE_LIBRDKAFKA,
                };
                let at = Location::offset(Arc::clone(&place.topic), place.partition, batch.offset);
                Err(KafkaError::new(&self.fetcher.brokers, kind).located(at))
            }
            // It was written since, or the crate drops it.
            Some(batch) => {
                debug!(
                    "nothing comes of {:?}/{}: {batch:?}",
                    place.topic, place.partition
                );
                Ok(())
            }
            None => {
                self.ended.insert(at, (place.next, high));
                Ok(())
            }
        }
    }

    /// Finds the next batch with records by its header.
    fn next_batch(&self, place: &FetchPosition) -> Result<Option<NextBatch>, KafkaError> {
        self.fetcher.next_batch(place)?.map_err(|error| {
            let reason = format!("nothing comes, and what follows cannot be found out: {error}");
            KafkaError::partition(&self.fetcher.brokers, location(place), reason)
        })
    }

    /// Retries partitions that were stopped at a large batch: compaction may have removed it.
    fn retry_stopped(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        let now = Instant::now();
        let Some(position) = self.stopped.due(now, batcher).next() else {
            return Ok(());
        };
        let batch = self.next_batch(&position)?;
        let is_readable = batch.is_none_or(|batch| batch.bytes <= i64::from(PARTITION_BYTES_CAP));
        self.stopped.tried(position.key(), is_readable, now);
        Ok(())
    }
}

impl Consumer for KafkaCrateConsumer {
    fn assign(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        // Every fetch names its offsets, so there is nothing to set up. The state of a partition is kept while its
        // position is.
        let positions = batcher.fetch_positions();
        let placed: HashMap<(Arc<str>, u32), u64> = positions
            .map(|position| (position.key(), position.placed))
            .collect();
        let is_read_on = |at: &(Arc<str>, u32)| match (placed.get(at), self.placed.get(at)) {
            (Some(now), Some(before)) => now == before,
            _ => true,
        };
        self.limits.retain(|at, _| is_read_on(at));
        self.stopped.forget_moved(batcher);
        self.placed.extend(placed);
        Ok(())
    }

    fn stop(&mut self, topic: &Arc<str>, partition: u32) {
        let at = (Arc::clone(topic), partition);
        let may_shrink = self.too_large.take().as_ref() == Some(&at);
        let retry_at = may_shrink.then(|| Instant::now() + RETRY_EVERY);
        let placed = self.placed.get(&at).copied();
        self.stopped.insert(at, placed, retry_at);
    }

    fn resumed(&mut self) -> Vec<(Arc<str>, u32)> {
        self.stopped.take_resumed()
    }

    fn poll(&mut self, wait: Duration, batcher: &mut Batcher) -> Result<(), KafkaError> {
        self.retry_stopped(batcher)?;
        let wanted = self.places(batcher);
        self.check_request_size(batcher)?;
        let started = Instant::now();
        let (fetch, places) = self.begun(wanted)?;
        let (answer, mut failed) = self.fetcher.finish(&fetch, &places)?;
        self.note_ends(&answer, &places);
        self.find_leaders(&answer, fetch.places.len())?;
        let found = places
            .iter()
            .map(|(place, _)| self.fetcher.messages(&answer, place))
            .collect::<Vec<_>>();
        if self.fetches_ahead && failed.is_none() {
            self.prefetch = self.begin_next(&answer, &places, &found)?;
        }
        let mut is_idle = true;
        for ((place, limit), messages) in places.iter().zip(found) {
            let messages = match messages {
                Ok(messages) => {
                    self.unauthorized.remove(&place.topic);
                    messages
                }
                Err(error) if matches!(error.kind, ErrorKind::Refused { .. }) => {
                    self.unauthorized.insert(Arc::clone(&place.topic));
                    continue;
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            let Some(first) = messages.first() else {
                let high = high_watermark(&answer, place);
                if let Some(high) = high.filter(|&high| high > place.next)
                    && let Err(error) = self.grow(place, *limit, high)
                {
                    failed.get_or_insert(error);
                }
                continue;
            };
            is_idle = false;
            self.limits.remove(&(place.topic.clone(), place.partition));
            if first.offset > place.next {
                self.fetcher.close_hole(place, *limit, batcher)?;
            } else {
                take(place, &messages, batcher);
            }
        }
        // After the records of the other partitions.
        if let Some(error) = failed {
            return Err(error);
        }
        // A fetch of partitions that have no leader or do not exist is answered at once.
        if is_idle {
            std::thread::sleep(wait.saturating_sub(started.elapsed()));
        }
        Ok(())
    }

    fn is_at_end(&self, topic: &str, partition: u32, next: i64) -> bool {
        let at = (Arc::from(topic), partition);
        let is_ended = self.ended.get(&at).is_some_and(|&(end, _)| end == next);
        is_ended || self.stopped.contains(topic, partition) || self.unauthorized.contains(topic)
    }

    fn remember_unauthorized(&mut self, topics: &BTreeSet<Arc<str>>) {
        self.unauthorized.clone_from(topics);
    }

    fn unauthorized(&self) -> &BTreeSet<Arc<str>> {
        &self.unauthorized
    }

    fn ends(&mut self) -> Vec<End> {
        std::mem::take(&mut self.ends)
    }

    fn reconnects(&self) -> bool {
        false
    }
}
