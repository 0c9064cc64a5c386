//! Reads with librdkafka, and decides which errors stop a partition, end the consumer, or are the library's to retry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode};

use super::admin::is_of_group;
use super::context::MAX_CAUSES;
use super::diagnosis::Diagnosis;
use super::fetch_handle::{AssignError, FetchHandle, push};
use super::ffi::MOST;
use super::handle_factory::HandleFactory;
use super::large_batches::{LargeBatches, SearchTools, Step};
use super::retried_error::{PartitionError, RetriedError};
use crate::kafka::admin::{AdminThread, PendingRequest, TopicState};
use crate::kafka::auth_error::AuthError;
use crate::kafka::batcher::{Batcher, FetchPosition};
use crate::kafka::connection::{BROKER_PATIENCE, Connection};
use crate::kafka::consumer::Consumer;
use crate::kafka::error::{ErrorKind, KafkaError, Location};
use crate::kafka::lag::End;
use crate::kafka::pulse::Pulse;
use crate::kafka::reader_status::BrokerState;

pub(super) struct LibrdkafkaConsumer {
    brokers: Arc<str>,
    pub(super) factory: HandleFactory,
    pub(super) reading: FetchHandle,
    pub(super) admin: AdminThread,
    /// The replacement of this handle, while it is created.
    pub(super) replacing: Option<PendingRequest<FetchHandle>>,
    /// The previous handle, which is read until this time.
    pub(super) retiring: Option<(FetchHandle, Instant)>,
    retried: Option<RetriedError>,
    pub(super) large_batches: LargeBatches,
    /// Whether brokers describe many topics in one request.
    pub(super) describes_topics: Arc<AtomicBool>,
    unauthorized: BTreeSet<Arc<str>>,
    diagnosis: Diagnosis,
    patience: Duration,
    /// Whether headers are needed: unpacking costs time even without headers.
    pub(super) with_headers: bool,
    pub(super) pulse: Arc<Pulse>,
}

impl LibrdkafkaConsumer {
    /// Creates the handle; does not wait for a broker.
    pub(super) fn new(
        factory: HandleFactory,
        connection: &Connection,
        admin: AdminThread,
        describes_topics: Arc<AtomicBool>,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            brokers: Arc::clone(&factory.brokers),
            reading: FetchHandle::new(&factory)?,
            admin,
            replacing: None,
            retiring: None,
            retried: None,
            large_batches: LargeBatches::new(&factory.brokers),
            describes_topics,
            unauthorized: BTreeSet::new(),
            diagnosis: Diagnosis::new(connection, factory.credentials.clone()),
            patience: BROKER_PATIENCE
                .saturating_mul(u32::try_from(connection.brokers.len()).unwrap_or(u32::MAX)),
            factory,
            with_headers: connection.needs_headers,
            pulse: Arc::clone(pulse),
        })
    }

    /// The error of a failed call, with its cause and, if an operator must act, the remedy.
    fn failed(&self, call: &str, error: &RdKafkaError) -> KafkaError {
        self.pulse.beat(self.patience);
        let cause = self.reading.handle.context().cause();
        self.diagnosis.error(call, error, cause.as_deref())
    }

    fn auth_error(&self, cause: &str) -> Option<AuthError> {
        self.pulse.beat(self.patience);
        self.diagnosis.auth_error(cause)
    }

    /// Handles events that belong to no partition. A transport error is a state: the library reconnects.
    fn heed_events(&mut self) -> Result<(), KafkaError> {
        for _ in 0..MAX_CAUSES {
            if !self.reading.queue.has_events() {
                break;
            }
            match self.reading.handle.poll(Duration::ZERO) {
                // Also returned for an event that rdkafka handles by itself.
                None => {}
                // The queue would miss records of this partition, so the next consumer starts at our offsets.
                Some(Ok(record)) => {
                    let partition = record.partition().cast_unsigned();
                    return Err(KafkaError::partition(
                        &self.brokers,
                        Location::partition(record.topic(), partition),
                        "a record came beside its queue",
                    ));
                }
                Some(Err(error @ RdKafkaError::MessageConsumptionFatal(_))) => {
                    return Err(KafkaError::unreachable(&self.brokers, error.to_string()));
                }
                Some(Err(error)) if is_of_group(&error) => {}
                Some(Err(error)) => {
                    let context = self.reading.handle.context();
                    let cause = context.cause();
                    if context.is_oversize() {
                        self.retried = Some(RetriedError::new(format!(
                            "kafka {}: an answer is larger than receive.message.max.bytes; finding out which partition \
                             it is of",
                            self.brokers
                        )));
                        continue;
                    }
                    self.retried = Some(match cause.and_then(|cause| self.auth_error(&cause)) {
                        Some(auth_error) => {
                            RetriedError::auth_error(auth_error.at(&self.brokers).to_string())
                        }
                        None => RetriedError::new(format!("kafka {}: {error}", self.brokers)),
                    });
                }
            }
        }
        Ok(())
    }

    /// Continues the search for batches that are too large. Fails when one was found.
    fn search_large_batches(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        let is_heard = self.reading.handle.context().take_oversize();
        let tools = SearchTools {
            factory: &self.factory,
            admin: &self.admin,
            reading: &self.reading,
            pulse: &self.pulse,
        };
        match self.large_batches.step(is_heard, batcher, &tools) {
            Step::Nothing => Ok(()),
            Step::Resumed => self.assign(batcher),
            Step::Found(error) => Err(error),
        }
    }
}

impl Consumer for LibrdkafkaConsumer {
    fn assign(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        // The previous handle may read partitions that are no longer assigned.
        self.retire();
        self.large_batches.forget_moved(batcher);
        let is_stopped = |place: &FetchPosition| self.large_batches.is_stopped(place);
        let describes_topics = self.describes_topics.load(Ordering::Relaxed);
        match self
            .reading
            .assign(batcher, is_stopped, describes_topics, &self.pulse)
        {
            Ok(true) => Ok(()),
            Ok(false) => self.begin_replacement(batcher),
            Err(AssignError::Library(what, error)) => Err(self.failed(&what, &error)),
            Err(AssignError::NoQueue(at)) => Err(KafkaError::partition(
                &self.brokers,
                at,
                "librdkafka gives no queue",
            )),
            Err(AssignError::Interrupted) => Err(KafkaError::new(&self.brokers, ErrorKind::Interrupted)),
        }
    }

    fn poll(&mut self, wait: Duration, batcher: &mut Batcher) -> Result<(), KafkaError> {
        if self.reading.handle.context().is_abandoned() {
            return Err(KafkaError::unreachable(
                &self.brokers,
                "the cluster named no broker for a while, and librdkafka has forgotten all",
            ));
        }
        self.take_replacement(batcher)?;
        let wait = self.poll_retiring(wait, batcher);
        let (with_headers, retried) = (self.with_headers, &mut self.retried);
        let mut failed = Vec::new();
        let FetchHandle { queue, ended, .. } = &mut self.reading;
        let taken = queue.take(wait, |fetched| {
            let error = if fetched.is_end() {
                ended.note(fetched.topic(), fetched.partition(), fetched.offset());
                None
            } else {
                fetched.error()
            };
            if let Some((code, text)) = error {
                failed.push(PartitionError {
                    topic: fetched.topic().to_owned(),
                    partition: fetched.partition(),
                    offset: fetched.offset(),
                    code,
                    text,
                });
                return;
            }
            // A record ends an error of the transport or of its partition.
            let is_over = |retried: &RetriedError| retried.ends_with(fetched.topic(), fetched.partition());
            if retried.as_ref().is_some_and(is_over) {
                *retried = None;
            }
            if !fetched.is_end() {
                push(batcher, &fetched, with_headers);
            }
        });
        self.reading.is_drained = taken < MOST;
        self.heed_events()?;
        let (mut out_of_range, mut lost) = (None, Vec::new());
        for failed in failed {
            if failed.code == RDKafkaErrorCode::AutoOffsetReset {
                // Each is reported once; the loss of a broker reports many at a time.
                lost.extend(failed.lost());
                out_of_range.get_or_insert((failed.at(), failed.text));
                continue;
            }
            if failed.code == RDKafkaErrorCode::TopicAuthorizationFailed {
                self.unauthorized.insert(failed.topic.into());
                continue;
            }
            self.retried = Some(RetriedError::of(failed, &self.brokers));
        }
        if let Some((at, reason)) = out_of_range {
            let kind = ErrorKind::OutOfRange { reason, lost };
            return Err(KafkaError::new(&self.brokers, kind).located(at));
        }
        self.search_large_batches(batcher)
    }

    fn stop(&mut self, topic: &Arc<str>, partition: u32) {
        self.large_batches.stop(topic, partition);
        self.retried = None;
    }

    fn resumed(&mut self) -> Vec<(Arc<str>, u32)> {
        self.large_batches.take_resumed()
    }

    fn passed(&self, topic: &str, partition: u32, next: i64) -> i64 {
        // While records remain in the queue, markers at the end do not matter yet.
        if !self.reading.is_drained {
            return next;
        }
        let end = self.reading.ended.offset(topic, partition);
        let position = self.reading.position(topic, partition, next);
        end.map_or(position, |end| end.max(position))
    }

    fn is_at_end(&self, topic: &str, partition: u32, next: i64) -> bool {
        self.unauthorized.contains(topic)
            || self.reading.ended.is_before(topic, partition, next)
            || self.large_batches.has_stopped(topic, partition)
    }

    fn remember_unauthorized(&mut self, topics: &BTreeSet<Arc<str>>) {
        self.unauthorized.clone_from(topics);
    }

    fn unauthorized(&self) -> &BTreeSet<Arc<str>> {
        &self.unauthorized
    }

    fn retried_error(&self) -> Option<&str> {
        let retried = self.retried.as_ref().map(RetriedError::as_str);
        retried.or_else(|| self.large_batches.error())
    }

    fn is_searching(&self) -> bool {
        self.large_batches.is_searching()
    }

    fn is_refused(&self) -> bool {
        self.retried.as_ref().is_some_and(RetriedError::is_auth_error)
    }

    fn ends(&mut self) -> Vec<End> {
        self.reading.handle.context().ends()
    }

    fn broker_states(&mut self) -> Option<Vec<BrokerState>> {
        self.reading.handle.context().broker_states()
    }

    fn note_topics(&mut self, topics: &[&TopicState]) {
        let error = topics.iter().find_map(|topic| topic.error.as_ref());
        if error.is_some() || !self.retried.as_ref().is_some_and(RetriedError::lasts) {
            let text = |error: &String| format!("kafka {}: {error}", self.brokers);
            self.retried = error.map(text).map(RetriedError::new);
        }
        for topic in topics {
            match topic.is_authorized {
                Some(true) => drop(self.unauthorized.remove(&topic.topic)),
                Some(false) => drop(self.unauthorized.insert(Arc::clone(&topic.topic))),
                None => {}
            }
        }
    }

    fn reconnects(&self) -> bool {
        // It reconnects with the content that the files had when the handle was created.
        let credentials = &self.factory.credentials;
        !credentials.reloaded().is_rotation_of(credentials)
    }
}
