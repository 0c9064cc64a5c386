//! Questions to brokers, by a handle that reads nothing.
//!
//! A question asked of a consuming handle waits behind its long polls. Each blocks for as long as it says; whoever
//! must not wait so long asks from another thread. Keeps nothing but which leaders did not answer and when ids
//! are asked for again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, serve};
use super::explain::refusal;
use crate::kafka::connection::Connection;
use crate::kafka::connection::host_port;
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::librdkafka::ffi::{self, Described};
use crate::kafka::metadata::{self, Asked, Looked};
use crate::kafka::probe::{self, Security};
use crate::kafka::pulse::Pulse;
use crate::kafka::record::TopicId;
use crate::kafka::security::Access;

/// How long a question to a broker may take.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the ids of topics may take: nothing is read meanwhile at the start, and they are no hurry.
const IDS_TIMEOUT: Duration = Duration::from_millis(500);

/// First and longest pause where they did not come. A topic that is recreated meanwhile and outgrows its place is not
/// recognised, so every look asks again; in between nothing waits for the embedded broker of the demo, which never
/// answers.
const IDS_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

/// How long the answer may take whether a topic may be read: a fetch, of a leader that is known.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// The handle, and what explains its errors.
pub(super) struct Asking {
    handle: BaseConsumer<Context>,
    pub(super) brokers: Arc<str>,
    access: Access,
    /// Whether all that is said of security is in `access`.
    is_explicable: bool,
    /// Leaders that did not answer when they were asked last.
    pub(super) silent: BTreeSet<i32>,
    /// When ids of topics are asked for again, and the pause before, where they did not come.
    ids_due: Option<(Instant, Duration)>,
    pulse: Arc<Pulse>,
}

/// What was seen of topics.
pub(super) struct Seen {
    /// How many partitions each has; 0 where it does not exist.
    pub(super) counts: Vec<usize>,
    /// What is wrong with one of them.
    pub(super) trouble: Option<String>,
    /// Topics of which it is known now whether they may be read.
    pub(super) rights: Vec<(Arc<str>, bool)>,
    /// Whether brokers describe many topics in one request.
    pub(super) is_described: bool,
}

/// What comes of a look.
pub(super) type Look = Result<(Seen, Vec<Looked>), KafkaError>;

/// What a reader of one partition meets first.
pub(super) enum First {
    /// Its end.
    Reached,
    /// A record.
    Record,
    /// It may not read.
    Refused,
    /// Nothing came in time.
    Unknown,
}

impl Asking {
    /// Asks with this handle, for a thread with this pulse.
    pub(super) fn new(
        handle: BaseConsumer<Context>,
        connection: &Connection,
        access: Access,
        pulse: Arc<Pulse>,
    ) -> Self {
        Self {
            handle,
            brokers: connection.bootstrap_servers(),
            is_explicable: match Security::of(connection) {
                Security::Plain | Security::Tls => true,
                Security::Sasl => access.sasl().is_some(),
                Security::TlsOfLibrdkafka => false,
            },
            access,
            silent: BTreeSet::new(),
            ids_due: None,
            pulse,
        }
    }

    /// Asks with another handle from now on.
    pub(super) fn replace_handle(&mut self, handle: BaseConsumer<Context>) {
        self.handle = handle;
    }

    /// The handle, once it has told what it had to: that it needs a token, for one. To be called before every
    /// question, which is not asked where there is something else to do.
    pub(super) fn handle(&self) -> Result<&BaseConsumer<Context>, KafkaError> {
        if self.pulse.is_called() {
            return Err(KafkaError::new(&self.brokers, ErrorKind::Interrupted));
        }
        serve(&self.handle);
        Ok(&self.handle)
    }

    /// Lets the handle tell what it has to.
    pub(super) fn serve(&self) {
        serve(&self.handle);
    }

    /// What that error is, of this handle or of another to the same brokers, with its cause and, where it needs
    /// a person, the remedy.
    pub(super) fn unreachable(&self, what: &str, error: &RdKafkaError) -> KafkaError {
        serve(&self.handle);
        let cause = self.handle.context().cause();
        let explained = cause.as_deref().and_then(|cause| refusal(cause, &self.access));
        // A connection that is closed without a word comes without a cause, or with that alone. A broker that
        // hangs closes none, and would not answer this either.
        let is_closed = cause.as_deref().is_none_or(is_of_closing)
            && error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure);
        let refusal = explained.or_else(|| {
            if !is_closed || !self.is_explicable {
                return None;
            }
            let brokers: Vec<String> = self.brokers.split(',').map(str::to_owned).collect();
            probe::misfit(&brokers, &self.access)
        });
        if let Some(refusal) = refusal {
            return refusal.at(&self.brokers);
        }
        let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
        KafkaError::unreachable(&self.brokers, format!("{what}: {error}{cause}"))
    }

    /// Looks at topics; at those that are `doubted`, whether they may be read, which only trying shows.
    pub(super) fn see(
        &mut self,
        topics: &[Arc<str>],
        doubted: &BTreeSet<Arc<str>>,
    ) -> Result<Seen, KafkaError> {
        let described = self.described(topics)?;
        self.seen(topics, &described, doubted)
    }

    /// The same, of what brokers have described.
    fn seen(
        &self,
        topics: &[Arc<str>],
        described: &[Option<Described>],
        doubted: &BTreeSet<Arc<str>>,
    ) -> Result<Seen, KafkaError> {
        let mut seen = Seen {
            counts: Vec::with_capacity(topics.len()),
            trouble: None,
            rights: Vec::new(),
            is_described: described.iter().all(Option::is_some),
        };
        for (topic, described) in topics.iter().zip(described) {
            let (count, error) = match described {
                Some(described) => (described.leaders.len(), described.error),
                None => self.counted(topic)?,
            };
            // A topic that we may not read, say, is not one that does not exist.
            match error {
                // Who sees a topic need not be allowed to read it.
                None if doubted.contains(topic) => {
                    let may_be_read = !matches!(
                        self.first(topic, 0, Offset::End, REFUSAL_TIMEOUT)?,
                        First::Refused | First::Unknown
                    );
                    seen.rights.push((Arc::clone(topic), may_be_read));
                }
                None => {}
                Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                    seen.rights.push((Arc::clone(topic), true));
                }
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    seen.rights.push((Arc::clone(topic), false));
                }
                Some(code) => {
                    seen.trouble = Some(format!("kafka {}: topic {topic:?}: {code}", self.brokers));
                }
            }
            seen.counts.push(count);
        }
        Ok(seen)
    }

    /// How many partitions a topic has, and what is wrong with it, by a request for this one.
    fn counted(&self, topic: &str) -> Result<(usize, Option<RDKafkaErrorCode>), KafkaError> {
        let metadata = self.metadata(topic)?;
        let found = metadata.topics().first();
        let error = found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
        Ok((found.map_or(0, |found| found.partitions().len()), error))
    }

    /// The metadata of one topic.
    pub(super) fn metadata(&self, topic: &str) -> Result<Metadata, KafkaError> {
        self.handle()?
            .fetch_metadata(Some(topic), ASK_TIMEOUT)
            .map_err(|error| self.unreachable(&format!("metadata of topic {topic:?}"), &error))
    }

    /// All that a look is to show.
    pub(super) fn look(&mut self, asked: &[Asked], doubted: &BTreeSet<Arc<str>>) -> Look {
        let names: Vec<Arc<str>> = asked.iter().map(|asked| Arc::clone(&asked.topic)).collect();
        let described = self.described(&names)?;
        let seen = self.seen(&names, &described, doubted)?;
        let ids = described.iter().map(|described| described.as_ref()?.id);
        let seen_of = seen.counts.iter().copied().zip(ids);
        let looked = seen_of.map(|(partitions, id)| Looked {
            partitions,
            id,
            bounds: None,
            ends: None,
        });
        let mut looked: Vec<Looked> = looked.collect();
        let pulse = Arc::clone(&self.pulse);
        let wait = || {
            std::thread::sleep(metadata::DOUBT_PAUSE);
            !pulse.is_called()
        };
        metadata::add_bounds(&mut looked, asked, wait, |asked| self.bounds_of(asked))?;
        metadata::add_ends(&mut looked, asked, |asked| self.bounds_of(asked))?;
        Ok((seen, looked))
    }

    /// The ids of topics; all unknown for a while after they did not come.
    pub(super) fn topic_ids(&mut self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicId>>, KafkaError> {
        let described = self.describe(topics)?;
        let id = |described: Option<Described>| described.and_then(|described| described.id);
        Ok(described.into_iter().map(id).collect())
    }

    /// What brokers say of topics, in one request; nothing of any where they do not answer it.
    pub(super) fn described(&mut self, topics: &[Arc<str>]) -> Result<Vec<Option<Described>>, KafkaError> {
        metadata::or_unknown(self.describe(topics), topics.len())
    }

    /// The same; nothing of any for a while after that did not come.
    fn describe(&mut self, topics: &[Arc<str>]) -> Result<Vec<Option<Described>>, KafkaError> {
        if self.ids_due.is_some_and(|(due, _)| Instant::now() < due) {
            return Ok(vec![None; topics.len()]);
        }
        let answer = ffi::describe_topics(self.handle()?, topics, IDS_TIMEOUT);
        let (first, longest) = IDS_PAUSE;
        let pause = self.ids_due.map_or(first, |(_, pause)| (pause * 2).min(longest));
        self.ids_due = answer.is_err().then(|| (Instant::now() + pause, pause));
        answer.map_err(|code| self.unreachable("descriptions of topics", &RdKafkaError::MetadataFetch(code)))
    }

    /// What a reader of one partition meets first.
    fn first(&self, topic: &str, partition: i32, from: Offset, limit: Duration) -> Result<First, KafkaError> {
        let fails = |error| self.unreachable(&format!("reading of {topic:?}/{partition}"), &error);
        let handle = self.handle()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, from)
            .and_then(|()| handle.assign(&list))
            .map_err(fails)?;
        let first = self.await_first(limit);
        handle.unassign().map_err(fails)?;
        Ok(first)
    }

    /// What comes of the one partition that the handle was assigned.
    fn await_first(&self, limit: Duration) -> First {
        let deadline = Instant::now() + limit;
        // The handle holds this one partition only, so its end needs no name to be known by.
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.handle.poll(left) {
                Some(Err(RdKafkaError::PartitionEOF(_))) => return First::Reached,
                Some(Err(RdKafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed))) => {
                    return First::Refused;
                }
                Some(Ok(_)) => return First::Record,
                // Also said of an event that is none of ours.
                None => {}
                Some(Err(error)) if is_of_group(&error) => {}
                // It is asked again soon, and whoever asks may read nothing meanwhile.
                Some(Err(error)) => {
                    debug!("asking for an end: {error}");
                    break;
                }
            }
        }
        First::Unknown
    }

    /// `host:port` of the cluster's brokers.
    pub(super) fn members(&self) -> Result<Vec<String>, KafkaError> {
        let metadata = self.handle()?.fetch_metadata(None, ASK_TIMEOUT);
        let metadata = metadata.map_err(|error| self.unreachable("metadata", &error))?;
        let address = |broker: &MetadataBroker| host_port(broker.host(), broker.port());
        Ok(metadata.brokers().iter().map(address).collect())
    }
}

/// Whether that is the cause: that the other end closed the connection.
fn is_of_closing(cause: &str) -> bool {
    ["Send failed", "Receive failed", "Disconnected"]
        .iter()
        .any(|what| cause.contains(what))
}

/// The group is a name without a use here, and nobody needs rights on it.
pub(super) fn is_of_group(error: &RdKafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}
