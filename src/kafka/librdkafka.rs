//! The librdkafka client as a [`Source`]: every broker, compression, transactions and security.
//!
//! Two handles: one consumes and nothing else, the other, unassigned, answers questions (metadata,
//! watermarks, ends), because a question asked of a consuming handle waits behind its long polls.
//! librdkafka reconnects by itself, so transport errors are a state here, not a failure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::debug;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::metadata::{MetadataBroker, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};

use super::inbox::Inbox;
use super::record::{MAX_BATCH_RECORDS, Stamp};
use super::source::{Bounds, Source, SourceError, host_port};
use super::tail::Connection;

/// How long a question to a broker may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the end of a partition may take to show.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Errors of the transport that may wait to be told when a question fails; more say nothing new.
const MAX_CAUSES: usize = 64;

/// How long an error of the transport explains failures: the library repeats the same one this often.
const CAUSE_LASTS: Duration = Duration::from_secs(30);

/// Settings that differ from librdkafka's own, each with its reason. An operator's
/// `[kafka.librdkafka]` table comes after them and wins.
const DEFAULTS: [(&str, &str); 15] = [
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
    // Fetching stops while those are full, and goes on as soon as there is room: the default second
    // would cost nine tenths of the throughput.
    ("fetch.queue.backoff.ms", "10"),
    // Brokers need not be told how we are doing; counting it costs a twentieth of the reading thread.
    ("enable.metrics.push", "false"),
    // A fetch that failed is tried again soon; half a second is the default.
    ("fetch.error.backoff.ms", "100"),
    ("socket.nagle.disable", "true"),
    ("log.connection.close", "false"),
];

#[derive(Default)]
struct Context {
    /// The last error of the transport, and when it came: it has the cause that answers lack.
    last: Mutex<Option<(Instant, String)>>,
}

impl ClientContext for Context {
    // The library repeats itself while a broker is away; the tail says it once.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", "{facility}: {message}");
    }

    // The default logs the end of every partition as an error; what matters comes out of `poll`.
    fn error(&self, error: KafkaError, reason: &str) {
        debug!("librdkafka: {error}: {reason}");
        // That all brokers are down follows from what went before, and names no cause.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((Instant::now(), reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

/// A consuming handle and an asking one.
pub(super) struct Librdkafka {
    brokers: String,
    consuming: BaseConsumer<Context>,
    asking: BaseConsumer<Context>,
    trouble: Option<String>,
    /// Whether anybody looks at headers: unpacking them costs where there are none too.
    with_headers: bool,
}

impl Librdkafka {
    /// Creates both handles; does not wait for a broker.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub(super) fn new(connection: &Connection) -> Result<Self, SourceError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", connection.brokers.join(","));
        config.set("isolation.level", connection.isolation.as_str());
        for (name, value) in DEFAULTS {
            config.set(name, value);
        }
        for (name, value) in &connection.librdkafka {
            config.set(name, value);
        }
        let brokers = connection.brokers.join(",");
        let create = |config: &ClientConfig| {
            config
                .create_with_context(Context::default())
                .map_err(|error: KafkaError| SourceError::Unsupported {
                    brokers: brokers.clone(),
                    reason: format!("librdkafka refuses its settings: {}", without_value(&error)),
                    remedy: "correct the table [kafka.librdkafka]".to_owned(),
                })
        };
        let consuming = create(&config)?;
        let asking = create(config.set("enable.partition.eof", "true"))?;
        Ok(Self {
            brokers,
            consuming,
            asking,
            trouble: None,
            with_headers: connection.needs_headers,
        })
    }

    fn unreachable(&self, what: &str, error: &KafkaError) -> SourceError {
        // Causes come by polling only; the handle is not assigned, so there is nothing else to come.
        for _ in 0..MAX_CAUSES {
            // `None` is also said of an event that is none of ours.
            let _ = self.asking.poll(Duration::ZERO);
        }
        let last = &self.asking.context().last;
        let last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = match &*last {
            Some((came, cause)) if came.elapsed() < CAUSE_LASTS => format!(" ({cause})"),
            _ => String::new(),
        };
        SourceError::Unreachable {
            brokers: self.brokers.clone(),
            reason: format!("{what}: {error}{cause}"),
        }
    }

    fn watermarks(&self, topic: &str, partition: i32) -> Result<Bounds, SourceError> {
        let (low, high) = self
            .asking
            .fetch_watermarks(topic, partition, ASK_TIMEOUT)
            .map_err(|error| self.unreachable(&format!("offsets of {topic:?}/{partition}"), &error))?;
        Ok(Bounds { low, high })
    }

    /// Sorts an error of the consuming handle into state and failure.
    fn sort(&mut self, error: &KafkaError) -> Result<(), SourceError> {
        let lost_place = matches!(
            error,
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)
                | KafkaError::MessageConsumptionFatal(_)
        );
        let text = format!("kafka {}: {error}", self.brokers);
        if lost_place {
            // It names no partition. The tail compares all its offsets with the watermarks when it
            // starts again, which finds the one that is out of range.
            return Err(SourceError::Unreachable {
                brokers: self.brokers.clone(),
                reason: error.to_string(),
            });
        }
        self.trouble = Some(text);
        Ok(())
    }
}

/// What librdkafka has against a property, without the value: it may be a secret under a mistyped name.
fn without_value(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, what, name, _) => format!("{what} ({name})"),
        other => other.to_string(),
    }
}

fn push(inbox: &mut Inbox, message: &BorrowedMessage<'_>, with_headers: bool) {
    let Ok(partition) = u32::try_from(message.partition()) else {
        return;
    };
    let stamp = Stamp {
        partition,
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
    };
    let headers = if with_headers { message.headers() } else { None };
    let headers = (0..headers.map_or(0, Headers::count)).filter_map(|index| {
        let header = headers?.try_get(index)?;
        Some((header.key.as_bytes(), header.value))
    });
    inbox.push(message.topic(), stamp, message.key(), message.payload(), headers);
}

impl Source for Librdkafka {
    fn partitions(&mut self, topics: &[Arc<str>]) -> Result<Vec<usize>, SourceError> {
        let mut counts = Vec::with_capacity(topics.len());
        let mut trouble = None;
        for topic in topics {
            let metadata = self
                .asking
                .fetch_metadata(Some(topic), ASK_TIMEOUT)
                .map_err(|error| self.unreachable(&format!("metadata of topic {topic:?}"), &error))?;
            let found = metadata.topics().first();
            // A topic that we may not read, say, is not one that does not exist.
            match found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from) {
                None | Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
                Some(code) => trouble = Some(format!("kafka {}: topic {topic:?}: {code}", self.brokers)),
            }
            counts.push(found.map_or(0, |found| found.partitions().len()));
        }
        self.trouble = trouble;
        Ok(counts)
    }

    fn bounds(&mut self, topic: &str, partitions: usize) -> Result<Vec<Bounds>, SourceError> {
        (0..partitions)
            .map(|partition| self.watermarks(topic, i32::try_from(partition).unwrap_or(i32::MAX)))
            .collect()
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
            offsets.push(Some(self.watermarks(topic, partition)?.high));
            // Times before the epoch mean other things to the protocol.
            times
                .add_partition_offset(topic, partition, Offset::Offset(time.max(0)))
                .map_err(|error| self.unreachable(&format!("times of {topic:?}/{partition}"), &error))?;
        }
        if times.count() == 0 {
            return Ok(offsets);
        }
        let found = self
            .asking
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
            // The handle knows no leaders yet, and would look for them up to a second later.
            self.consuming
                .fetch_metadata(Some(topic), ASK_TIMEOUT)
                .map_err(|error| self.unreachable(&format!("metadata of topic {topic:?}"), &error))?;
            for (partition, &offset) in (0..).zip(next) {
                list.add_partition_offset(topic, partition, Offset::Offset(offset))
                    .map_err(|error| self.unreachable(&format!("assigning {topic:?}/{partition}"), &error))?;
            }
        }
        self.consuming
            .assign(&list)
            .map_err(|error| self.unreachable("assigning", &error))
    }

    fn poll(&mut self, wait: Duration, inbox: &mut Inbox) -> Result<(), SourceError> {
        let mut wait = wait;
        // One call hands on what is there, and no more than a batch, so that a record never waits
        // for those behind it and the tail's other duties come round.
        for _ in 0..MAX_BATCH_RECORDS {
            let error = match self.consuming.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    push(inbox, &message, self.with_headers);
                    self.trouble = None;
                    wait = Duration::ZERO;
                    continue;
                }
                Some(Err(error)) => error,
            };
            self.sort(&error)?;
            wait = Duration::ZERO;
        }
        Ok(())
    }

    fn is_at_end(&mut self, topic: &str, partition: u32, next: i64) -> Result<bool, SourceError> {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, number, Offset::Offset(next))
            .and_then(|()| self.asking.assign(&list))
            .map_err(|error| self.unreachable(&format!("end of {topic:?}/{partition}"), &error))?;
        let deadline = Instant::now() + END_TIMEOUT;
        let mut at_end = false;
        // The handle holds this one partition only, so its end needs no name to be known by.
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.asking.poll(left) {
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    at_end = true;
                    break;
                }
                Some(Ok(_)) | None => break,
                Some(Err(error)) => debug!("end of {topic:?}/{partition}: {error}"),
            }
        }
        self.asking
            .unassign()
            .map_err(|error| self.unreachable("unassigning", &error))?;
        Ok(at_end)
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn members(&mut self) -> Result<Vec<String>, SourceError> {
        let metadata = self.asking.fetch_metadata(None, ASK_TIMEOUT);
        let metadata = metadata.map_err(|error| self.unreachable("metadata", &error))?;
        let address = |broker: &MetadataBroker| host_port(broker.host(), broker.port());
        Ok(metadata.brokers().iter().map(address).collect())
    }

    fn reconnects(&self) -> bool {
        true
    }
}
