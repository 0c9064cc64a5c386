//! The librdkafka client as a [`Source`]: every broker, compression, transactions and security.
//!
//! Two handles: one consumes and nothing else, the other, unassigned, answers questions (metadata,
//! watermarks, ends), because a question asked of a consuming handle waits behind its long polls.
//! Records and the errors of their partitions come by a queue of ours, by the batch; what is of no
//! partition stays in the handle's own, which is looked at after every batch. librdkafka reconnects by
//! itself, so transport errors are a state here, not a failure.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::debug;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{MetadataBroker, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

use super::access::Access;
use super::client::Purpose;
use super::inbox::Inbox;
use super::lag::End;
use super::native::{self, Fetched, Queue};
use super::probe::{self, Security};
use super::pulse::Pulse;
use super::record::{BEGINNING, Stamp, TopicId};
use super::refusal::Refusal;
use super::source::{Bounds, Source, SourceError, host_port};
use super::tail::Connection;
use super::token::Token;
use crate::config::{FileName, Isolation};

/// How long a question to a broker may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long it may take where another question about the same topic has just had no answer.
const ASK_AGAIN_TIMEOUT: Duration = Duration::from_millis(300);

/// How long the end of a partition may take to show.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the answer may take whether a topic may be read: a fetch, of a leader that is known.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// Errors of the transport that may wait to be told when a question fails; more say nothing new.
const MAX_CAUSES: usize = 64;

/// How long an error of the transport explains failures: the library repeats the same one this often.
const CAUSE_LASTS: Duration = Duration::from_secs(30);

/// How often the library says what it knows, in milliseconds; 0 is never, and then no lag is known.
const STATISTICS: &str = "statistics.interval.ms";

/// Settings that differ from librdkafka's own, each with its reason. An operator's
/// `[kafka.librdkafka]` table comes after them and wins.
const DEFAULTS: [(&str, &str); 17] = [
    // Assigning needs a group's name, but the group is never joined and nothing is committed.
    ("group.id", "kafka-sse-bridge"),
    ("client.id", "kafka-sse-bridge"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // An offset that is gone must be seen, not skipped in silence.
    ("auto.offset.reset", "error"),
    // A daemon that reads a topic must not create it.
    ("allow.auto.create.topics", "false"),
    // Back within two seconds when a broker returns, instead of ten.
    ("reconnect.backoff.max.ms", "1000"),
    // A frozen broker is noticed after twenty seconds instead of seventy.
    ("socket.timeout.ms", "10000"),
    ("fetch.wait.max.ms", "100"),
    // 4 MiB read ahead instead of 64: the log is our buffer.
    ("queued.max.messages.kbytes", "4096"),
    // One answer holds as much at most, whatever the number of partitions; 50 MiB is the default. A larger
    // record comes all the same, alone.
    ("fetch.max.bytes", "4194304"),
    // Fetching stops while those are full, and goes on as soon as there is room: the default second
    // would cost nine tenths of the throughput.
    ("fetch.queue.backoff.ms", "10"),
    // Brokers need not be told how we are doing; counting it costs a twentieth of the reading thread.
    ("enable.metrics.push", "false"),
    // A fetch that failed is tried again soon; half a second is the default.
    ("fetch.error.backoff.ms", "100"),
    ("socket.nagle.disable", "true"),
    ("log.connection.close", "false"),
    // Where partitions end, as fetches have told: no question to a broker, and nothing per record.
    (STATISTICS, "2000"),
];

/// What differs where records are read once more for clients that come back: several read at a time,
/// each for a part of the topic, and hold a quarter of what the tail does; nobody asks for their lag.
const THRIFTY: [(&str, &str); 4] = [
    (STATISTICS, "0"),
    ("queued.max.messages.kbytes", "1024"),
    ("fetch.max.bytes", "1048576"),
    ("fetch.message.max.bytes", "262144"),
];
/// What the library's statistics say of partitions; they say much more.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct TopicStatistics {
    partitions: HashMap<String, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    partition: i32,
    desired: bool,
    /// Messages that were fetched and not yet taken, of all partitions together.
    fetchq_cnt: i64,
    /// What is fetched next.
    next_offset: i64,
    /// The high watermark, and the last stable offset; below zero while unknown.
    hi_offset: i64,
    ls_offset: i64,
}

impl Statistics {
    fn ends(self, reads_uncommitted: bool) -> Vec<End> {
        let topics = self.topics.into_iter();
        let ends = topics.flat_map(|(topic, statistics)| {
            let partitions = statistics.partitions.into_values();
            partitions.filter_map(move |known| {
                let offset = if reads_uncommitted {
                    known.hi_offset
                } else {
                    known.ls_offset
                };
                (known.desired && offset >= 0).then_some(End {
                    topic: topic.clone(),
                    // The library has one without a number for itself.
                    partition: u32::try_from(known.partition).ok()?,
                    offset,
                    is_reached: known.fetchq_cnt == 0 && known.next_offset >= offset,
                })
            })
        });
        ends.collect()
    }
}

#[derive(Default)]
struct Context {
    /// The last error of the transport, and when it came: it has the cause that answers lack.
    last: Mutex<Option<(Instant, String)>>,
    /// Ends of partitions that are news.
    ends: Mutex<Vec<End>>,
    /// Whether uncommitted records are read.
    reads_uncommitted: bool,
    /// Where the token is, if there is one.
    token_file: Option<FileName>,
}

impl ClientContext for Context {
    // Asked for when the handle is made, and again when four fifths of a token's time are over; whoever
    // polls the handle answers.
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let Some(file) = &self.token_file else {
            return Err("no token_file is set".into());
        };
        let token = Token::read(file)?;
        debug!(
            "kafka: token read from {file}, valid until {}",
            humantime::format_rfc3339_seconds(token.until)
        );
        Ok(OAuthToken {
            lifetime_ms: token.until_millis(),
            // Only the broker knows whose a token is that does not say it.
            principal_name: token.subject.unwrap_or_else(|| "kafka-sse-bridge".to_owned()),
            token: token.text,
        })
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => {
                *self.ends.lock().unwrap_or_else(PoisonError::into_inner) =
                    statistics.ends(self.reads_uncommitted);
            }
            Err(error) => debug!("librdkafka's statistics: {error}"),
        }
    }

    // The library repeats itself while a broker is away; the tail says it once.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", "{facility}: {message}");
    }

    // The default logs the end of every partition as an error; what matters comes out of `poll`.
    fn error(&self, error: KafkaError, reason: &str) {
        debug!("librdkafka: {error}: {reason}");
        if !error.rdkafka_error_code().is_some_and(names_no_cause) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((Instant::now(), reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

/// A consuming handle and an asking one.
pub(super) struct Librdkafka {
    brokers: String,
    consuming: Arc<BaseConsumer<Context>>,
    /// The records of all partitions that the consuming handle reads.
    queue: Queue<Context>,
    asking: BaseConsumer<Context>,
    trouble: Option<Trouble>,
    /// Topics that may not be seen, or not be read.
    forbidden: BTreeSet<Arc<str>>,
    access: Access,
    /// Whether all that is said of security is in `access`.
    is_explicable: bool,
    /// Whether anybody looks at headers: unpacking them costs where there are none too.
    with_headers: bool,
    pulse: Arc<Pulse>,
}

/// What is wrong although the library goes on, and with which topic and partition, if with one.
struct Trouble {
    at: Option<(String, i32)>,
    what: String,
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
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", connection.brokers.join(","));
        config.set("isolation.level", connection.isolation.as_str());
        for (name, value) in DEFAULTS {
            config.set(name, value);
        }
        if purpose == Purpose::History {
            for (name, value) in THRIFTY {
                config.set(name, value);
            }
        }
        let brokers = connection.brokers.join(",");
        // The files as they are now, and what they were by then.
        let access = connection.access.renewed();
        let properties = access.properties().map_err(|reason| SourceError::Refused {
            brokers: brokers.clone(),
            reason,
            remedy: "see to the files that [kafka] names".to_owned(),
        })?;
        #[cfg(feature = "tls")]
        if let Some(tls) = access.tls() {
            // It says of certificates and keys what is wrong with which file.
            super::tls::refusal_of(tls).map_err(|refusal| refusal.at(&brokers))?;
        }
        for (name, value) in properties {
            config.set(name, value);
        }
        for (name, value) in &connection.librdkafka {
            config.set(name, value);
        }
        let create = |config: &ClientConfig| -> Result<BaseConsumer<Context>, SourceError> {
            let context = Context {
                reads_uncommitted: connection.isolation == Isolation::ReadUncommitted,
                token_file: access.token_file().cloned(),
                ..Context::default()
            };
            let handle = config
                .create_with_context(context)
                .map_err(|error: KafkaError| refused_settings(&error, &brokers))?;
            // A question asked before there is a token waits for it in vain.
            serve(&handle);
            Ok(handle)
        };
        let consuming = Arc::new(create(&config)?);
        let queue = Queue::new(Arc::clone(&consuming)).ok_or_else(|| SourceError::Unreachable {
            brokers: connection.brokers.join(","),
            reason: "librdkafka gives no queue".to_owned(),
        })?;
        let asking = create(config.set("enable.partition.eof", "true").set(STATISTICS, "0"))?;
        Ok(Self {
            brokers,
            consuming,
            queue,
            asking,
            trouble: None,
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
        let refusal = match &cause {
            Some(cause) => self.refusal(cause),
            // A connection that is closed without a word comes without a cause.
            None if self.is_explicable => {
                let brokers: Vec<String> = self.brokers.split(',').map(str::to_owned).collect();
                probe::misfit(&brokers, &self.access)
            }
            None => None,
        };
        if let Some(refusal) = refusal {
            return refusal.at(&self.brokers);
        }
        let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
        SourceError::Unreachable {
            brokers: self.brokers.clone(),
            reason: format!("{what}: {error}{cause}"),
        }
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
        Refusal::from_transport(cause, &self.access, |broker| look(broker, &self.access))
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
                None => break,
                Some(Err(error)) => debug!("asking for an end: {error}"),
            }
        }
        First::Unknown
    }

    fn watermarks(&self, topic: &str, partition: i32, limit: Duration) -> Result<Bounds, SourceError> {
        self.may_ask()?;
        let (low, high) = self
            .asking()
            .fetch_watermarks(topic, partition, limit)
            .map_err(|error| self.unreachable(&format!("offsets of {topic:?}/{partition}"), &error))?;
        Ok(Bounds { low, high })
    }

    /// Looks at what the consuming handle says of no partition: transport errors are a state.
    fn heed_events(&mut self) -> Result<(), SourceError> {
        for _ in 0..MAX_CAUSES {
            match self.consuming.poll(Duration::ZERO) {
                None => break,
                // The records are in the queue.
                Some(Ok(_)) => {}
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                    return Err(SourceError::Unreachable {
                        brokers: self.brokers.clone(),
                        reason: error.to_string(),
                    });
                }
                // The group is a name without a use here, and nobody needs rights on it.
                Some(Err(error))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
                Some(Err(error)) => {
                    let cause = self.consuming.context().cause();
                    let what = match cause.and_then(|cause| self.refusal(&cause)) {
                        Some(refusal) => refusal.at(&self.brokers).to_string(),
                        None => format!("kafka {}: {error}", self.brokers),
                    };
                    self.trouble = Some(Trouble { at: None, what });
                }
            }
        }
        Ok(())
    }
}

/// An error of a partition.
struct Failed {
    topic: String,
    partition: i32,
    offset: i64,
    code: RDKafkaErrorCode,
    text: String,
}

impl Failed {
    fn at(&self) -> String {
        let Self { topic, partition, .. } = self;
        // Of some errors it is not known where in the partition they came up.
        match self.offset {
            offset @ 0.. => format!("topic {topic:?} partition {partition} at offset {offset}"),
            _ => format!("topic {topic:?} partition {partition}"),
        }
    }
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

impl Context {
    /// Why the transport fails, if it has said so lately.
    fn cause(&self) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, cause) = last.as_ref().filter(|(came, _)| came.elapsed() < CAUSE_LASTS)?;
        Some(cause.clone())
    }
}

/// Errors that do not explain why the transport fails: that all brokers are down follows from what went
/// before, and rights are no matter of the transport.
fn names_no_cause(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
    )
}

/// Lets an unassigned handle tell what it has to: causes, and that it needs a token.
fn serve(handle: &BaseConsumer<Context>) {
    for _ in 0..MAX_CAUSES {
        // `None` is also said of an event that is none of ours.
        let _ = handle.poll(Duration::ZERO);
    }
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

fn refused_settings(error: &KafkaError, brokers: &str) -> SourceError {
    SourceError::Unsupported {
        brokers: brokers.to_owned(),
        reason: format!("librdkafka refuses its settings: {}", without_value(error)),
        remedy: match error {
            // Files are read when the handle is made, and nothing else can be wrong by then.
            KafkaError::ClientCreation(what) if what.contains("ssl.") => {
                "correct tls in [kafka], or the properties \"ssl.…\" in [kafka.librdkafka]".to_owned()
            }
            _ => "correct the table [kafka.librdkafka]".to_owned(),
        },
    }
}

/// What librdkafka has against a property, without the value: it may be a secret under a mistyped name.
fn without_value(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, what, name, _) => format!("{what} ({name})"),
        other => other.to_string(),
    }
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
                    trouble = Some(Trouble { at: None, what });
                }
            }
            counts.push(found.map_or(0, |found| found.partitions().len()));
        }
        self.trouble = trouble;
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
        let mut bounds = vec![None; partitions];
        let mut limit = ASK_TIMEOUT;
        for partition in found.iter().filter(|partition| partition.leader() >= 0) {
            let index = usize::try_from(partition.id()).ok();
            let Some(slot) = index.and_then(|index| bounds.get_mut(index)) else {
                continue;
            };
            match self.watermarks(topic, partition.id(), limit) {
                Ok(known) => *slot = Some(known),
                Err(error @ SourceError::Interrupted) => return Err(error),
                // What leads several partitions and is gone is not waited for at each of them.
                Err(error) => {
                    debug!("{error}");
                    limit = ASK_AGAIN_TIMEOUT;
                }
            }
        }
        Ok(bounds)
    }

    fn offsets_at(&mut self, topic: &str, asked: &[Option<i64>]) -> Result<Vec<Option<i64>>, SourceError> {
        // The ends come first: a record written between the two questions must not lie behind both answers.
        let mut offsets = Vec::with_capacity(asked.len());
        let mut times = TopicPartitionList::new();
        for (partition, asked) in (0..).zip(asked) {
            let Some(time) = *asked else {
                offsets.push(None);
                continue;
            };
            offsets.push(Some(self.watermarks(topic, partition, ASK_TIMEOUT)?.high));
            // Times before the epoch mean other things to the protocol.
            times
                .add_partition_offset(topic, partition, Offset::Offset(time.max(0)))
                .map_err(|error| self.unreachable(&format!("times of {topic:?}/{partition}"), &error))?;
        }
        if times.count() == 0 {
            return Ok(offsets);
        }
        self.may_ask()?;
        let found = self
            .asking()
            .offsets_for_times(times, ASK_TIMEOUT)
            .map_err(|error| self.unreachable(&format!("times of {topic:?}"), &error))?;
        for element in found.elements() {
            let partition = element.partition();
            element
                .error()
                .map_err(|error| self.unreachable(&format!("times of {topic:?}/{partition}"), &error))?;
            let slot = usize::try_from(partition)
                .ok()
                .and_then(|partition| offsets.get_mut(partition));
            if let (Offset::Offset(offset), Some(slot)) = (element.offset(), slot) {
                *slot = Some(offset);
            }
        }
        Ok(offsets)
    }

    fn assign(&mut self, inbox: &Inbox) -> Result<(), SourceError> {
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
        if self.access.token_file().is_some() {
            // The handle that is seldom asked must not be late for its next token.
            let _ = self.asking.poll(Duration::ZERO);
        }
        let (with_headers, trouble) = (self.with_headers, &mut self.trouble);
        let mut failed = Vec::new();
        self.queue.take(wait, |fetched| match fetched.error() {
            None => {
                // Whoever reads on is over it: over the transport's, or over that of the partition.
                let here = |at: &(String, i32)| at.1 == fetched.partition() && at.0 == fetched.topic();
                if trouble
                    .as_ref()
                    .is_some_and(|trouble| trouble.at.as_ref().is_none_or(here))
                {
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
            let (brokers, at) = (self.brokers.clone(), failed.at());
            if failed.code == RDKafkaErrorCode::AutoOffsetReset {
                let reason = failed.text;
                return Err(SourceError::OutOfRange { brokers, at, reason });
            }
            if failed.code == RDKafkaErrorCode::TopicAuthorizationFailed {
                self.forbidden.insert(failed.topic.into());
                continue;
            }
            self.trouble = Some(Trouble {
                what: format!("kafka {brokers}: {at}: {}", failed.text),
                at: Some((failed.topic, failed.partition)),
            });
        }
        Ok(())
    }

    fn is_at_end(&mut self, topic: &str, partition: u32, next: i64) -> Result<bool, SourceError> {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
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
        self.trouble.as_ref().map(|trouble| trouble.what.as_str())
    }

    fn ends(&mut self) -> Vec<End> {
        let ends = &self.consuming.context().ends;
        std::mem::take(&mut *ends.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn members(&mut self) -> Result<Vec<String>, SourceError> {
        self.may_ask()?;
        let metadata = self.asking().fetch_metadata(None, ASK_TIMEOUT);
        let metadata = metadata.map_err(|error| self.unreachable("metadata", &error))?;
        let address = |broker: &MetadataBroker| host_port(broker.host(), broker.port());
        Ok(metadata.brokers().iter().map(address).collect())
    }

    fn topic_ids(&mut self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicId>>, SourceError> {
        self.may_ask()?;
        native::topic_ids(self.asking(), topics, ASK_TIMEOUT)
            .map_err(|code| self.unreachable("ids of topics", &KafkaError::MetadataFetch(code)))
    }

    fn reconnects(&self) -> bool {
        // It goes on with what the files held when it was made.
        !self.access.has_other_files(&self.access.renewed())
    }
}
