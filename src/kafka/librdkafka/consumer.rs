//! Reads with librdkafka: which errors stop a partition, which end the consumer, and which the library retries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode};

use super::admin::is_of_group;
use super::consuming::{AssignError, Consuming, Maker, push};
use super::context::MAX_CAUSES;
use super::explain::Explainer;
use super::ffi::MOST;
use super::oversize::{Oversize, Step, Tools};
use super::trouble::{Failed, Trouble};
use crate::kafka::admin::{AdminThread, PendingRequest, TopicState};
use crate::kafka::auth_error::Refusal;
use crate::kafka::batcher::{Batcher, Place};
use crate::kafka::connection::{BROKER_PATIENCE, Connection};
use crate::kafka::consumer::Consumer;
use crate::kafka::error::{ErrorKind, KafkaError, Location};
use crate::kafka::lag::End;
use crate::kafka::link::Link;
use crate::kafka::pulse::Pulse;

/// A handle that reads.
pub(super) struct LibrdkafkaConsumer {
    brokers: Arc<str>,
    pub(super) maker: Maker,
    pub(super) consuming: Consuming,
    pub(super) admin: AdminThread,
    /// The handle that is to replace this one, while it is made.
    pub(super) renewing: Option<PendingRequest<Consuming>>,
    /// The handle before, which is read until that time.
    pub(super) retiring: Option<(Consuming, Instant)>,
    trouble: Option<Trouble>,
    pub(super) oversize: Oversize,
    /// Whether brokers describe many topics in one request.
    pub(super) describes_topics: Arc<AtomicBool>,
    /// Topics that may not be seen, or not be read.
    forbidden: BTreeSet<Arc<str>>,
    explainer: Explainer,
    /// How long the explainer may take.
    patience: Duration,
    /// Whether headers are needed: unpacking them costs where there are none too.
    pub(super) with_headers: bool,
    pub(super) pulse: Arc<Pulse>,
}

impl LibrdkafkaConsumer {
    /// Creates the handle; does not wait for a broker.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub(super) fn new(
        maker: Maker,
        connection: &Connection,
        admin: AdminThread,
        describes_topics: Arc<AtomicBool>,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            brokers: Arc::clone(&maker.brokers),
            consuming: maker.consuming()?,
            admin,
            renewing: None,
            retiring: None,
            trouble: None,
            oversize: Oversize::new(&maker.brokers),
            describes_topics,
            forbidden: BTreeSet::new(),
            explainer: Explainer::new(connection, maker.access.clone()),
            patience: BROKER_PATIENCE
                .saturating_mul(u32::try_from(connection.brokers.len()).unwrap_or(u32::MAX)),
            maker,
            with_headers: connection.needs_headers,
            pulse: Arc::clone(pulse),
        })
    }

    /// The error of a call to the library, with its cause and, where an operator must act, the remedy.
    fn failed(&self, call: &str, error: &RdKafkaError) -> KafkaError {
        self.pulse.beat(self.patience);
        let cause = self.consuming.handle.context().cause();
        self.explainer.error(call, error, cause.as_deref())
    }

    fn refusal(&self, cause: &str) -> Option<Refusal> {
        self.pulse.beat(self.patience);
        self.explainer.refusal(cause)
    }

    /// Looks at what the consuming handle says of no partition: transport errors are a state.
    fn heed_events(&mut self) -> Result<(), KafkaError> {
        for _ in 0..MAX_CAUSES {
            if !self.consuming.queue.has_events() {
                break;
            }
            match self.consuming.handle.poll(Duration::ZERO) {
                // Also said of an event that is none of ours.
                None => {}
                // Its partition is not attached to the queue, so what follows would be lost: the next client
                // begins at our own offsets.
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
                    let context = self.consuming.handle.context();
                    let cause = context.cause();
                    if context.is_oversize() {
                        self.trouble = Some(Trouble::new(format!(
                            "kafka {}: an answer is larger than receive.message.max.bytes; finding out which partition \
                             it is of",
                            self.brokers
                        )));
                        continue;
                    }
                    self.trouble = Some(match cause.and_then(|cause| self.refusal(&cause)) {
                        Some(refusal) => Trouble::refusal(refusal.at(&self.brokers).to_string()),
                        None => Trouble::new(format!("kafka {}: {error}", self.brokers)),
                    });
                }
            }
        }
        Ok(())
    }

    /// Goes on with finding out whose batch is too large, where one is.
    ///
    /// # Errors
    /// When one was found.
    fn search_oversize(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        let is_heard = self.consuming.handle.context().take_oversize();
        let tools = Tools {
            maker: &self.maker,
            admin: &self.admin,
            consuming: &self.consuming,
            pulse: &self.pulse,
        };
        match self.oversize.step(is_heard, batcher, &tools) {
            Step::Nothing => Ok(()),
            Step::Resumed => self.assign(batcher),
            Step::Found(found) => Err(found.error(&self.brokers)),
        }
    }
}

impl Consumer for LibrdkafkaConsumer {
    fn assign(&mut self, batcher: &Batcher) -> Result<(), KafkaError> {
        // It may read what is not to be read any more.
        self.retire();
        self.oversize.forget_moved(batcher);
        let is_stopped = |place: &Place<'_>| self.oversize.is_stopped(place);
        let describes_topics = self.describes_topics.load(Ordering::Relaxed);
        match self
            .consuming
            .assign(batcher, is_stopped, describes_topics, &self.pulse)
        {
            Ok(true) => Ok(()),
            Ok(false) => self.begin_renewal(batcher),
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
        if self.consuming.handle.context().is_abandoned() {
            return Err(KafkaError::unreachable(
                &self.brokers,
                "the cluster named no broker for a while, and librdkafka has forgotten all",
            ));
        }
        self.take_renewal(batcher)?;
        let wait = self.poll_retiring(wait, batcher);
        let (with_headers, trouble) = (self.with_headers, &mut self.trouble);
        let mut failed = Vec::new();
        let Consuming { queue, ended, .. } = &mut self.consuming;
        let taken = queue.take(wait, |fetched| {
            let error = if fetched.is_end() {
                ended.note(fetched.topic(), fetched.partition(), fetched.offset());
                None
            } else {
                fetched.error()
            };
            if let Some((code, text)) = error {
                failed.push(Failed {
                    topic: fetched.topic().to_owned(),
                    partition: fetched.partition(),
                    offset: fetched.offset(),
                    code,
                    text,
                });
                return;
            }
            // Whoever reads on is over it: over the transport's, or over that of the partition.
            let is_over = |trouble: &Trouble| trouble.ends_with(fetched.topic(), fetched.partition());
            if trouble.as_ref().is_some_and(is_over) {
                *trouble = None;
            }
            if !fetched.is_end() {
                push(batcher, &fetched, with_headers);
            }
        });
        self.consuming.is_drained = taken < MOST;
        self.heed_events()?;
        let (mut out_of_range, mut lost) = (None, Vec::new());
        for failed in failed {
            if failed.code == RDKafkaErrorCode::AutoOffsetReset {
                // Each is reported once, and several come together when a broker is lost.
                lost.extend(failed.lost());
                out_of_range.get_or_insert((failed.at(), failed.text));
                continue;
            }
            if failed.code == RDKafkaErrorCode::TopicAuthorizationFailed {
                self.forbidden.insert(failed.topic.into());
                continue;
            }
            self.trouble = Some(Trouble::of(failed, &self.brokers));
        }
        if let Some((at, reason)) = out_of_range {
            let kind = ErrorKind::OutOfRange { reason, lost };
            return Err(KafkaError::new(&self.brokers, kind).located(at));
        }
        self.search_oversize(batcher)
    }

    fn stop(&mut self, topic: &Arc<str>, partition: u32) {
        self.oversize.stop(topic, partition);
        self.trouble = None;
    }

    fn resumed(&mut self) -> Vec<(Arc<str>, u32)> {
        self.oversize.take_resumed()
    }

    fn passed(&self, topic: &str, partition: u32, next: i64) -> i64 {
        // While more is there than one call takes, records follow, and whether markers do need not be asked.
        if !self.consuming.is_drained {
            return next;
        }
        let end = self.consuming.ended.offset(topic, partition);
        let position = self.consuming.position(topic, partition, next);
        end.map_or(position, |end| end.max(position))
    }

    fn is_at_end(&self, topic: &str, partition: u32, next: i64) -> bool {
        self.forbidden.contains(topic)
            || self.consuming.ended.is_before(topic, partition, next)
            || self.oversize.has_stopped(topic, partition)
    }

    fn remember_forbidden(&mut self, topics: &BTreeSet<Arc<str>>) {
        self.forbidden.clone_from(topics);
    }

    fn forbidden(&self) -> &BTreeSet<Arc<str>> {
        &self.forbidden
    }

    fn trouble(&self) -> Option<&str> {
        let trouble = self.trouble.as_ref().map(Trouble::as_str);
        trouble.or_else(|| self.oversize.trouble())
    }

    fn is_searching(&self) -> bool {
        self.oversize.is_searching()
    }

    fn is_refused(&self) -> bool {
        self.trouble.as_ref().is_some_and(Trouble::is_refusal)
    }

    fn ends(&mut self) -> Vec<End> {
        self.consuming.handle.context().ends()
    }

    fn links(&mut self) -> Option<Vec<Link>> {
        self.consuming.handle.context().links()
    }

    fn note_topics(&mut self, topics: &[&TopicState]) {
        let error = topics.iter().find_map(|topic| topic.error.as_ref());
        if error.is_some() || !self.trouble.as_ref().is_some_and(Trouble::lasts) {
            let text = |error: &String| format!("kafka {}: {error}", self.brokers);
            self.trouble = error.map(text).map(Trouble::new);
        }
        for topic in topics {
            match topic.may_be_read {
                Some(true) => drop(self.forbidden.remove(&topic.topic)),
                Some(false) => drop(self.forbidden.insert(Arc::clone(&topic.topic))),
                None => {}
            }
        }
    }

    fn reconnects(&self) -> bool {
        // It goes on with what the files held when it was made.
        let access = &self.maker.access;
        !access.reloaded().is_rotation_of(access)
    }
}
