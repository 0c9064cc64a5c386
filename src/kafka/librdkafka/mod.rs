//! The librdkafka client as a [`Source`]: every broker, compression, transactions and security.
//!
//! Two handles: one consumes and nothing else, the other, unassigned, answers questions (metadata,
//! watermarks, ends), because a question asked of a consuming handle waits behind its long polls.
//! Records and the errors of their partitions come by a queue of ours, by the batch; what is of no
//! partition stays in the handle's own, which is looked at after every batch. librdkafka reconnects by
//! itself, so transport errors are a state here, not a failure.

mod context;
pub(super) mod settings;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{MetadataBroker, MetadataTopic};
use rdkafka::{Message, Offset, TopicPartitionList};

use self::context::{Context, MAX_CAUSES, serve};
use self::trouble::{Failed, Trouble};
use super::access::Access;
use super::client::{BROKER_PATIENCE, Purpose};
use super::inbox::Inbox;
use super::lag::End;
use super::link::Link;
use super::native::{self, Fetched, Queue};
use super::probe::{self, Security};
use super::pulse::Pulse;
use super::record::{BEGINNING, Stamp, TopicId};
use super::refusal::Refusal;
use super::source::{Bounds, Source, SourceError, host_port};
use super::tail::Connection;
use crate::config::Isolation;

/// How often the asking handle is looked at for what it has to tell. It has little, but must not be late for
/// its next token.
const SERVE_EVERY: Duration = Duration::from_secs(1);

/// How long a question to a broker may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long it may take where another question about the same topic has just had no answer.
const ASK_AGAIN_TIMEOUT: Duration = Duration::from_millis(300);

/// How long the ids of topics may take: nothing is read meanwhile, and they are no hurry.
const IDS_TIMEOUT: Duration = Duration::from_millis(500);

/// First and longest pause where they did not come: the embedded broker of the demo, for one, never tells.
const IDS_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// How long the end of a partition may take to show.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the answer may take whether a topic may be read: a fetch, of a leader that is known.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// A consuming handle and an asking one.
pub(super) struct Librdkafka {
    brokers: String,
    consuming: Arc<BaseConsumer<Context>>,
    /// The records of all partitions that the consuming handle reads.
    queue: Queue<Context>,
    asking: BaseConsumer<Context>,
    /// When that one was looked at last.
    served: Instant,
    trouble: Option<Trouble>,
    /// When ids of topics are asked for again, and the pause before, where they did not come.
    ids_due: Option<(Instant, Duration)>,
    /// Topics that may not be seen, or not be read.
    forbidden: BTreeSet<Arc<str>>,
    access: Access,
    /// Whether all that is said of security is in `access`.
    is_explicable: bool,
    /// Whether anybody looks at headers: unpacking them costs where there are none too.
    with_headers: bool,
    pulse: Arc<Pulse>,
}

impl Librdkafka {
    /// Creates both handles; does not wait for a broker.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub(super) fn new(
        connection: &Connection,
        purpose: Purpose,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, SourceError> {
        let brokers = connection.brokers.join(",");
        // The files as they are now, and what they were by then.
        let access = connection.access.renewed();
        let mut config = settings::config(connection, &access, purpose)?;
        let create = |config: &ClientConfig| -> Result<BaseConsumer<Context>, SourceError> {
            let reads_uncommitted = connection.isolation == Isolation::ReadUncommitted;
            let context = Context::new(reads_uncommitted, access.token_file().cloned());
            let handle = config
                .create_with_context(context)
                .map_err(|error: KafkaError| settings::refused_settings(&error, &brokers))?;
            // A question asked before there is a token waits for it in vain.
            serve(&handle);
            Ok(handle)
        };
        let consuming = Arc::new(create(&config)?);
        let queue = Queue::new(Arc::clone(&consuming)).ok_or_else(|| SourceError::Unreachable {
            brokers: connection.brokers.join(","),
            reason: "librdkafka gives no queue".to_owned(),
        })?;
        let asking = create(config.set("enable.partition.eof", "true"))?;
        Ok(Self {
            brokers,
            consuming,
            queue,
            asking,
            served: Instant::now(),
            trouble: None,
            ids_due: None,
            forbidden: BTreeSet::new(),
            access,
            is_explicable: match Security::of(connection) {
                Security::Plain | Security::Tls => true,
                Security::Sasl => connection.access.sasl().is_some(),
                Security::TlsOfLibrdkafka => false,
            },
            with_headers: connection.needs_headers,
            pulse: Arc::clone(pulse),
        })
    }

    fn unreachable(&self, what: &str, error: &KafkaError) -> SourceError {
        serve(&self.asking);
        let cause = self.asking.context().cause();
        let explained = cause.as_deref().and_then(|cause| self.refusal(cause));
        // A connection that is closed without a word comes without a cause, or with that alone. A broker that
        // hangs closes none, and would not answer this either.
        let is_closed = cause.as_deref().is_none_or(is_of_closing)
            && error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure);
        let refusal = explained.or_else(|| {
            if !is_closed || !self.is_explicable {
                return None;
            }
            let brokers: Vec<String> = self.brokers.split(',').map(str::to_owned).collect();
            self.asks_around();
            probe::misfit(&brokers, &self.access)
        });
        if let Some(refusal) = refusal {
            return refusal.at(&self.brokers);
        }
        let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
        SourceError::Unreachable {
            brokers: self.brokers.clone(),
            reason: format!("{what}: {error}{cause}"),
        }
    }

    /// To be called before brokers are asked themselves, past the library, what they want.
    fn asks_around(&self) {
        let brokers = u32::try_from(self.brokers.split(',').count()).unwrap_or(u32::MAX);
        self.pulse.beat(BROKER_PATIENCE.saturating_mul(brokers));
    }

    /// To be called before every question: it may take [`ASK_TIMEOUT`], and is not asked where there is
    /// something else to do.
    fn may_ask(&self) -> Result<(), SourceError> {
        if self.pulse.is_called() {
            return Err(SourceError::Interrupted);
        }
        self.pulse.beat(ASK_TIMEOUT);
        Ok(())
    }

    fn refusal(&self, cause: &str) -> Option<Refusal> {
        self.asks_around();
        Refusal::from_transport(cause, &self.access, |broker| look(broker, &self.access))
    }

    /// Hears what the asking handle has to tell.
    ///
    /// # Errors
    /// When either handle has no broker left: it would not find one again by itself.
    fn serve_asking(&mut self) -> Result<(), SourceError> {
        if self.served.elapsed() >= SERVE_EVERY {
            self.served = Instant::now();
            serve(&self.asking);
        }
        if self.consuming.context().is_abandoned() || self.asking.context().is_abandoned() {
            return Err(SourceError::Unreachable {
                brokers: self.brokers.clone(),
                reason: "the cluster named no broker for a while, and librdkafka has forgotten all"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// The handle that answers questions, with what had to be done for it to go on.
    fn asking(&self) -> &BaseConsumer<Context> {
        if self.access.token_file().is_some() {
            serve(&self.asking);
        }
        &self.asking
    }

    /// Whether reading of a topic is refused, which only trying shows.
    fn is_refused(&self, topic: &str) -> Result<bool, SourceError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::End)
            .and_then(|()| self.asking().assign(&list))
            .map_err(|error| self.unreachable(&format!("reading of {topic:?}"), &error))?;
        let answer = self.await_end(REFUSAL_TIMEOUT);
        self.asking
            .unassign()
            .map_err(|error| self.unreachable("unassigning", &error))?;
        // Where nothing is said, nothing is known.
        Ok(match answer {
            First::Refused => true,
            First::Reached | First::Record => false,
            First::Unknown => self.forbidden.contains(topic),
        })
    }

    /// What comes of the one partition that the asking handle was assigned.
    fn await_end(&self, limit: Duration) -> First {
        self.pulse.beat(limit);
        let deadline = Instant::now() + limit;
        // The handle holds this one partition only, so its end needs no name to be known by.
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.asking.poll(left) {
                Some(Err(KafkaError::PartitionEOF(_))) => return First::Reached,
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed))) => {
                    return First::Refused;
                }
                Some(Ok(_)) => return First::Record,
                // Also said of an event that is none of ours.
                None => {}
                Some(Err(error)) if is_of_group(&error) => {}
                // It is asked again soon, and whoever asks reads nothing meanwhile.
                Some(Err(error)) => {
                    debug!("asking for an end: {error}");
                    break;
                }
            }
        }
        First::Unknown
    }

    /// The offsets of partitions at the times asked for (milliseconds since the epoch), or at their ends, in
    /// one request to each leader. Partitions that their leaders know nothing of are left out.
    ///
    /// # Errors
    /// When a leader does not answer within `limit`.
    fn offsets(
        &self,
        topic: &str,
        asked: impl IntoIterator<Item = (i32, Offset)>,
        limit: Duration,
    ) -> Result<Vec<(usize, i64)>, SourceError> {
        let fails = |error| self.unreachable(&format!("offsets of {topic:?}"), &error);
        let mut list = TopicPartitionList::new();
        for (partition, asked) in asked {
            // The protocol's requests for a partition's ends are times too: -1 and -2.
            list.add_partition_offset(topic, partition, asked)
                .map_err(fails)?;
        }
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        self.may_ask()?;
        let found = self.asking().offsets_for_times(list, limit).map_err(fails)?;
        let known = found.elements_for_topic(topic).into_iter().filter_map(|element| {
            let partition = usize::try_from(element.partition()).ok()?;
            if let Err(error) = element.error() {
                debug!("kafka {}: offset of {topic:?}/{partition}: {error}", self.brokers);
                return None;
            }
            match element.offset() {
                Offset::Offset(offset) => Some((partition, offset)),
                // No record is so late.
                _ => None,
            }
        });
        Ok(known.collect())
    }

    /// Looks at what the consuming handle says of no partition: transport errors are a state.
    fn heed_events(&mut self) -> Result<(), SourceError> {
        for _ in 0..MAX_CAUSES {
            if !self.queue.has_events() {
                break;
            }
            match self.consuming.poll(Duration::ZERO) {
                // Also said of an event that is none of ours.
                None => {}
                // Its partition is not attached to the queue, so what follows would be lost: the next client
                // begins at our own offsets.
                Some(Ok(record)) => {
                    return Err(SourceError::Partition {
                        brokers: self.brokers.clone(),
                        at: format!("topic {:?} partition {}", record.topic(), record.partition()),
                        reason: "a record came beside its queue".to_owned(),
                    });
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                    return Err(SourceError::Unreachable {
                        brokers: self.brokers.clone(),
                        reason: error.to_string(),
                    });
                }
                Some(Err(error)) if is_of_group(&error) => {}
                Some(Err(error)) => {
                    let cause = self.consuming.context().cause();
                    let what = match cause.and_then(|cause| self.refusal(&cause)) {
                        Some(refusal) => refusal.at(&self.brokers).to_string(),
                        None => format!("kafka {}: {error}", self.brokers),
                    };
                    self.trouble = Some(Trouble::new(what));
                }
            }
        }
        Ok(())
    }
}

/// Whether that is the cause: that the other end closed the connection.
fn is_of_closing(cause: &str) -> bool {
    ["Send failed", "Receive failed", "Disconnected"]
        .iter()
        .any(|what| cause.contains(what))
}

/// The group is a name without a use here, and nobody needs rights on it.
fn is_of_group(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

/// What a reader of one partition meets first.
enum First {
    /// Its end.
    Reached,
    /// A record.
    Record,
    /// It may not read.
    Refused,
    /// Nothing came in time.
    Unknown,
}

/// A closer look at a certificate that did not pass.
#[cfg(feature = "tls")]
fn look(broker: &str, access: &Access) -> Option<Refusal> {
    access.tls()?;
    let error = probe::ask(broker, access).err()?;
    probe::refusal(&error).cloned()
}

#[cfg(not(feature = "tls"))]
fn look(_: &str, _: &Access) -> Option<Refusal> {
    None
}

/// Takes a record in.
fn push(inbox: &mut Inbox, record: &Fetched<'_>, with_headers: bool) {
    let Ok(partition) = u32::try_from(record.partition()) else {
        return;
    };
    let stamp = Stamp {
        partition,
        offset: record.offset(),
        timestamp: record.timestamp(),
    };
    let headers = with_headers.then(|| record.headers()).into_iter().flatten();
    inbox.push(record.topic(), stamp, record.key(), record.value(), headers);
}

impl Source for Librdkafka {
    fn partitions(&mut self, topics: &[Arc<str>]) -> Result<Vec<usize>, SourceError> {
        let mut counts = Vec::with_capacity(topics.len());
        let mut trouble = None;
        let mut seen = Vec::new();
        for topic in topics {
            self.may_ask()?;
            let metadata = self
                .asking()
                .fetch_metadata(Some(topic), ASK_TIMEOUT)
                .map_err(|error| self.unreachable(&format!("metadata of topic {topic:?}"), &error))?;
            let found = metadata.topics().first();
            // A topic that we may not read, say, is not one that does not exist.
            match found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from) {
                None => seen.push(Arc::clone(topic)),
                Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                    self.forbidden.remove(topic);
                }
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    self.forbidden.insert(Arc::clone(topic));
                }
                Some(code) => {
                    let what = format!("kafka {}: topic {topic:?}: {code}", self.brokers);
                    trouble = Some(Trouble::new(what));
                }
            }
            counts.push(found.map_or(0, |found| found.partitions().len()));
        }
        if trouble.is_some() || !self.trouble.as_ref().is_some_and(Trouble::lasts) {
            self.trouble = trouble;
        }
        // Who sees a topic need not be allowed to read it.
        for topic in seen {
            if self.forbidden.contains(&topic) && !self.is_refused(&topic)? {
                self.forbidden.remove(&topic);
            }
        }
        Ok(counts)
    }

    fn bounds(&mut self, topic: &str, partitions: usize) -> Result<Vec<Option<Bounds>>, SourceError> {
        self.may_ask()?;
        let metadata = self
            .asking()
            .fetch_metadata(Some(topic), ASK_TIMEOUT)
            .map_err(|error| self.unreachable(&format!("metadata of topic {topic:?}"), &error))?;
        let found = metadata
            .topics()
            .first()
            .map_or(&[][..], MetadataTopic::partitions);
        let mut led: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in found.iter().filter(|partition| partition.leader() >= 0) {
            led.entry(partition.leader()).or_default().push(partition.id());
        }
        let mut bounds = vec![None; partitions];
        let mut limit = ASK_TIMEOUT;
        // One leader after the other: of a question to several, one that does not answer spoils all.
        for (leader, led) in led {
            let all = |end: Offset| led.iter().map(move |&partition| (partition, end));
            let lows = self.offsets(topic, all(Offset::Beginning), limit);
            let ends = lows.and_then(|lows| Ok((lows, self.offsets(topic, all(Offset::End), limit)?)));
            match ends {
                Ok((lows, highs)) => {
                    let lows: BTreeMap<usize, i64> = lows.into_iter().collect();
                    for (partition, high) in highs {
                        if let (Some(&low), Some(slot)) = (lows.get(&partition), bounds.get_mut(partition)) {
                            *slot = Some(Bounds { low, high });
                        }
                    }
                }
                Err(error @ SourceError::Interrupted) => return Err(error),
                // Who reads from others does not wait for each that is gone.
                Err(error) => {
                    debug!("{error}; broker {leader} leads {led:?}");
                    limit = ASK_AGAIN_TIMEOUT;
                }
            }
        }
        Ok(bounds)
    }

    fn offsets_at(&mut self, topic: &str, asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, SourceError> {
        // The ends come first: a record written between the two questions must not lie behind both answers.
        let times = || {
            (0..)
                .zip(asked)
                .filter_map(|(partition, time)| Some((partition, (*time)?)))
        };
        let ends = times().map(|(partition, _)| (partition, Offset::End));
        let ends = self.offsets(topic, ends, ASK_TIMEOUT)?;
        // Times before the epoch mean other things to the protocol.
        let times = times().map(|(partition, time)| (partition, Offset::Offset(time.max(0))));
        let found = self.offsets(topic, times, ASK_TIMEOUT)?;
        let mut offsets = vec![None; asked.len()];
        for (partition, offset) in ends.into_iter().chain(found) {
            offsets[partition] = Some(offset);
        }
        let lacks_answer =
            |(asked, offset): (&Option<i64>, &Option<i64>)| asked.is_some() && offset.is_none();
        if let Some(partition) = asked.iter().zip(&offsets).position(lacks_answer) {
            return Err(SourceError::Partition {
                brokers: self.brokers.clone(),
                at: format!("topic {topic:?} partition {partition}"),
                reason: "its leader says nothing of its offsets".to_owned(),
            });
        }
        Ok(offsets)
    }

    fn assign(&mut self, inbox: &Inbox) -> Result<(), SourceError> {
        // A partition that the library stops to read is no longer attached to our queue, and it is stopped some
        // time after the call: questions are answered in their order, so that by this answer all are.
        self.consuming
            .unassign()
            .and_then(|()| self.consuming.assignment())
            .map_err(|error| self.unreachable("unassigning", &error))?;
        let mut list = TopicPartitionList::new();
        for (topic, next) in inbox.positions() {
            self.may_ask()?;
            // The handle knows no leaders yet, and would look for them up to a second later.
            self.consuming
                .fetch_metadata(Some(topic), ASK_TIMEOUT)
                .map_err(|error| self.unreachable(&format!("metadata of topic {topic:?}"), &error))?;
            for (partition, &offset) in (0..).zip(next) {
                if offset == BEGINNING {
                    continue;
                }
                if !self.queue.attach(topic, partition) {
                    return Err(SourceError::Partition {
                        brokers: self.brokers.clone(),
                        at: format!("topic {topic:?} partition {partition}"),
                        reason: "librdkafka gives no queue".to_owned(),
                    });
                }
                list.add_partition_offset(topic, partition, Offset::Offset(offset))
                    .map_err(|error| self.unreachable(&format!("assigning {topic:?}/{partition}"), &error))?;
            }
        }
        self.consuming
            .assign(&list)
            .map_err(|error| self.unreachable("assigning", &error))
    }

    fn poll(&mut self, wait: Duration, inbox: &mut Inbox) -> Result<(), SourceError> {
        self.serve_asking()?;
        let (with_headers, trouble) = (self.with_headers, &mut self.trouble);
        let mut failed = Vec::new();
        self.queue.take(wait, |fetched| match fetched.error() {
            None => {
                // Whoever reads on is over it: over the transport's, or over that of the partition.
                let is_over = |trouble: &Trouble| trouble.ends_with(fetched.topic(), fetched.partition());
                if trouble.as_ref().is_some_and(is_over) {
                    *trouble = None;
                }
                push(inbox, &fetched, with_headers);
            }
            Some((code, text)) => failed.push(Failed {
                topic: fetched.topic().to_owned(),
                partition: fetched.partition(),
                offset: fetched.offset(),
                code,
                text,
            }),
        });
        self.heed_events()?;
        for failed in failed {
            if failed.code == RDKafkaErrorCode::AutoOffsetReset {
                return Err(SourceError::OutOfRange {
                    brokers: self.brokers.clone(),
                    at: failed.at(),
                    reason: failed.text,
                });
            }
            if failed.code == RDKafkaErrorCode::TopicAuthorizationFailed {
                self.forbidden.insert(failed.topic.into());
                continue;
            }
            self.trouble = Some(Trouble::of(failed, &self.brokers));
        }
        Ok(())
    }

    fn is_at_end(&mut self, topic: &str, partition: u32, next: i64) -> Result<bool, SourceError> {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let trouble = self.trouble.as_ref();
        // One that cannot be read is not at its end, and the others must not wait for its answer.
        if trouble.is_some_and(|trouble| trouble.is_at(topic, number)) {
            return Ok(false);
        }
        serve(&self.asking);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, number, Offset::Offset(next))
            .and_then(|()| self.asking().assign(&list))
            .map_err(|error| self.unreachable(&format!("end of {topic:?}/{partition}"), &error))?;
        let answer = self.await_end(END_TIMEOUT);
        self.asking
            .unassign()
            .map_err(|error| self.unreachable("unassigning", &error))?;
        if matches!(answer, First::Refused) {
            self.forbidden.insert(topic.into());
        }
        Ok(matches!(answer, First::Reached | First::Refused))
    }

    fn remember_forbidden(&mut self, topics: &BTreeSet<Arc<str>>) {
        self.forbidden.clone_from(topics);
    }

    fn forbidden(&self) -> &BTreeSet<Arc<str>> {
        &self.forbidden
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(Trouble::as_str)
    }

    fn ends(&mut self) -> Vec<End> {
        self.consuming.context().ends()
    }

    fn links(&mut self) -> Option<Vec<Link>> {
        self.consuming.context().links()
    }

    fn members(&mut self) -> Result<Vec<String>, SourceError> {
        self.may_ask()?;
        let metadata = self.asking().fetch_metadata(None, ASK_TIMEOUT);
        let metadata = metadata.map_err(|error| self.unreachable("metadata", &error))?;
        let address = |broker: &MetadataBroker| host_port(broker.host(), broker.port());
        Ok(metadata.brokers().iter().map(address).collect())
    }

    fn topic_ids(&mut self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicId>>, SourceError> {
        if self.ids_due.is_some_and(|(due, _)| Instant::now() < due) {
            return Ok(vec![None; topics.len()]);
        }
        self.may_ask()?;
        let answer = native::topic_ids(self.asking(), topics, IDS_TIMEOUT);
        let (first, longest) = IDS_PAUSE;
        let pause = self.ids_due.map_or(first, |(_, pause)| (pause * 2).min(longest));
        self.ids_due = answer.is_err().then(|| (Instant::now() + pause, pause));
        answer.map_err(|code| self.unreachable("ids of topics", &KafkaError::MetadataFetch(code)))
    }

    fn reconnects(&self) -> bool {
        // It goes on with what the files held when it was made.
        !self.access.has_other_files(&self.access.renewed())
    }
}
