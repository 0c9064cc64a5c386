//! Requests about topics and offsets, on a handle that does not consume.
//!
//! On a handle that consumes, a request would wait behind long polls.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::debug;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, serve};
use super::diagnosis::Diagnosis;
use super::ffi::{self, TopicDescription};
use super::handle_factory::HandleFactory;
use super::settings::REQUEST_TIMEOUT;
use crate::kafka::admin::{Admin, TopicState};
use crate::kafka::connection::host_port;
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::partition::Bounds;
use crate::kafka::pulse::Pulse;

/// How long descriptions of topics may take: at the start they delay reading, and metadata can replace them.
const DESCRIBE_TIMEOUT: Duration = Duration::from_millis(500);

/// First and longest pause after a request for descriptions fails. Without ids, a recreated topic that has outgrown the
/// next offset is not recognised, so a refresh requests descriptions again after the pause. The pause avoids waiting
/// for the demo's embedded broker, which never answers.
const DESCRIBE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

/// How long the fetch that tests READ permission on a topic may take.
const FETCH_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a handle with a token is served, so that it gets the next token in time.
const SERVE_EVERY: Duration = Duration::from_secs(1);

/// A handle without assigned partitions.
pub(super) struct LibrdkafkaAdmin {
    factory: HandleFactory,
    pub(super) handle: BaseConsumer<Context>,
    diagnosis: Diagnosis,
    pub(super) brokers: Arc<str>,
    /// Whether brokers describe many topics in one request.
    describes_topics: Arc<AtomicBool>,
    /// Leaders that did not answer the last request.
    pub(super) silent: BTreeSet<i32>,
    /// After a failed request for descriptions: when the next one is due, and the pause before it.
    describe_due: Option<(Instant, Duration)>,
    pulse: Arc<Pulse>,
}

impl LibrdkafkaAdmin {
    pub(super) fn new(
        factory: HandleFactory,
        diagnosis: Diagnosis,
        describes_topics: Arc<AtomicBool>,
        pulse: Arc<Pulse>,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            handle: factory.handle()?,
            diagnosis,
            brokers: Arc::clone(&factory.brokers),
            factory,
            describes_topics,
            silent: BTreeSet::new(),
            describe_due: None,
            pulse,
        })
    }

    /// Prepares a request: runs the callbacks of the handle, and replaces a handle that has lost all brokers. Fails
    /// when the calling thread has a pending command.
    pub(super) fn prepare(&mut self) -> Result<(), KafkaError> {
        if self.pulse.has_command() {
            return Err(KafkaError::new(&self.brokers, ErrorKind::Interrupted));
        }
        serve(&self.handle);
        if self.handle.context().is_abandoned() {
            debug!(
                "kafka {}: the admin handle knows no broker any more",
                self.brokers
            );
            self.reset()?;
        }
        Ok(())
    }

    /// The error of a failed request, with its cause and, if an operator must act, the remedy.
    pub(super) fn failed(&self, request: &str, error: &RdKafkaError) -> KafkaError {
        serve(&self.handle);
        let cause = self.handle.context().cause();
        self.diagnosis.error(request, error, cause.as_deref())
    }

    fn state(
        &mut self,
        topic: &Arc<str>,
        described: Option<TopicDescription>,
        is_unauthorized: bool,
    ) -> Result<TopicState, KafkaError> {
        let (partitions, id, error) = if let Some(described) = described {
            (described.leaders.len(), described.id, described.error)
        } else {
            let (count, error) = self.counted(topic)?;
            (count, None, error)
        };
        let (mut is_authorized, mut other) = (None, None);
        match error {
            // DESCRIBE permission does not imply READ.
            None if is_unauthorized => {
                is_authorized = Some(self.may_read(topic)?);
            }
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => is_authorized = Some(true),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => is_authorized = Some(false),
            Some(code) => other = Some(format!("topic {topic:?}: {code}")),
        }
        Ok(TopicState {
            topic: Arc::clone(topic),
            partitions,
            id,
            is_authorized,
            error: other,
        })
    }

    fn counted(&mut self, topic: &str) -> Result<(usize, Option<RDKafkaErrorCode>), KafkaError> {
        let metadata = self.metadata(topic)?;
        let found = metadata.topics().first();
        let error = found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
        Ok((found.map_or(0, |found| found.partitions().len()), error))
    }

    pub(super) fn metadata(&mut self, topic: &str) -> Result<Metadata, KafkaError> {
        self.prepare()?;
        let answer = self.handle.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
        answer.map_err(|error| self.failed(&format!("metadata of topic {topic:?}"), &error))
    }

    /// Requests the descriptions of topics at once; empty if the brokers do not answer.
    pub(super) fn described(
        &mut self,
        topics: &[Arc<str>],
    ) -> Result<Vec<Option<TopicDescription>>, KafkaError> {
        if self.describe_due.is_some_and(|(due, _)| Instant::now() < due) {
            return Ok(vec![None; topics.len()]);
        }
        self.prepare()?;
        let answer = ffi::describe_topics(&self.handle, topics, DESCRIBE_TIMEOUT);
        let pause = next_pause(self.describe_due.map(|(_, pause)| pause));
        self.describe_due = answer.is_err().then(|| (Instant::now() + pause, pause));
        // Without ids a recreated topic is recognised by its offsets alone, but it is read.
        Ok(answer.unwrap_or_else(|code| {
            debug!("kafka {}: descriptions of topics: {code}", self.brokers);
            vec![None; topics.len()]
        }))
    }

    /// Whether the end of the first partition may be fetched. False if no response arrives in time.
    fn may_read(&mut self, topic: &str) -> Result<bool, KafkaError> {
        self.prepare()?;
        let failed = |error| self.failed(&format!("reading of {topic:?}/0"), &error);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::End)
            .and_then(|()| self.handle.assign(&list))
            .map_err(failed)?;
        let is_answered = self.is_fetched();
        self.handle.unassign().map_err(failed)?;
        Ok(is_answered)
    }

    /// Whether a record or the end of the one assigned partition arrives in time.
    fn is_fetched(&self) -> bool {
        let deadline = Instant::now() + FETCH_TIMEOUT;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.handle.poll(left) {
                Some(Ok(_) | Err(RdKafkaError::PartitionEOF(_))) => return true,
                // `None` is also returned for an event that rdkafka handles by itself.
                None => {}
                Some(Err(error)) if is_of_group(&error) => {}
                Some(Err(error)) => {
                    debug!("kafka {}: trying to read: {error}", self.brokers);
                    return false;
                }
            }
        }
        false
    }
}

impl Admin for LibrdkafkaAdmin {
    fn topics(
        &mut self,
        topics: &[Arc<str>],
        unauthorized: &BTreeSet<Arc<str>>,
    ) -> Result<Vec<TopicState>, KafkaError> {
        let described = self.described(topics)?;
        let describes_topics = described.iter().all(Option::is_some);
        self.describes_topics.store(describes_topics, Ordering::Relaxed);
        let topics = topics.iter().zip(described);
        topics
            .map(|(topic, described)| self.state(topic, described, unauthorized.contains(topic)))
            .collect()
    }

    fn bounds(&mut self, topics: &[(Arc<str>, usize)]) -> Result<Vec<Vec<Option<Bounds>>>, KafkaError> {
        self.bounds_by_leader(topics)
    }

    fn offsets_at(&mut self, topic: &str, times: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError> {
        self.offsets_by_time(topic, times)
    }

    fn brokers(&mut self) -> Result<Vec<String>, KafkaError> {
        self.prepare()?;
        let metadata = self.handle.fetch_metadata(None, REQUEST_TIMEOUT);
        let metadata = metadata.map_err(|error| self.failed("metadata", &error))?;
        let address = |broker: &MetadataBroker| host_port(broker.host(), broker.port());
        Ok(metadata.brokers().iter().map(address).collect())
    }

    /// Replaces the handle, which may take the leaders of a recreated topic for outdated: their epochs are lower.
    fn reset(&mut self) -> Result<(), KafkaError> {
        self.handle = self.factory.handle()?;
        Ok(())
    }

    /// Answers the library's request for a token.
    fn serve(&mut self) -> Option<Duration> {
        self.factory.token_file.as_ref()?;
        serve(&self.handle);
        Some(SERVE_EVERY)
    }
}

/// The pause after a failed request for descriptions, by the pause before it.
fn next_pause(previous: Option<Duration>) -> Duration {
    let (first, longest) = DESCRIBE_PAUSE;
    previous.map_or(first, |pause| (pause * 2).min(longest))
}

/// Whether an error concerns the group. Assigning needs only its name, and no permission on it.
pub(super) fn is_of_group(error: &RdKafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_requested_again_within_seconds_however_often_that_fails() {
        let mut pause = next_pause(None);
        assert_eq!(pause, Duration::from_secs(1));
        for seconds in [2, 4, 4, 4] {
            pause = next_pause(Some(pause));
            assert_eq!(pause, Duration::from_secs(seconds));
        }
    }
}
