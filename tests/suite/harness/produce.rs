//! Putting topics and records into a broker.

use super::broker::Broker;
use super::wait::{ensure, eventually, millis, secs, wait_for};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use std::sync::{Mutex, PoisonError};

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// `None` leaves it to the key, hashed as Java clients do.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp: Option<i64>,
}

impl Message {
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Message {
        Message {
            key: Some(key.into()),
            ..Message::value(value)
        }
    }

    /// Without a key.
    pub fn value(value: impl Into<Vec<u8>>) -> Message {
        Message {
            value: Some(value.into()),
            ..Message::default()
        }
    }

    pub fn tombstone(key: impl Into<Vec<u8>>) -> Message {
        Message {
            key: Some(key.into()),
            ..Message::default()
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Message {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    pub fn partition(mut self, partition: i32) -> Message {
        self.partition = Some(partition);
        self
    }

    pub fn timestamp(mut self, milliseconds: i64) -> Message {
        self.timestamp = Some(milliseconds);
        self
    }
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub partition: i32,
    pub offset: i64,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Commit,
    Abort,
}

/// A transaction whose records are written.
pub struct OpenTransaction(BaseProducer<Deliveries>);

impl OpenTransaction {
    /// Ends it by a control record.
    pub fn end(self, outcome: Outcome) {
        match outcome {
            Outcome::Commit => self.0.commit_transaction(secs(30)),
            Outcome::Abort => self.0.abort_transaction(secs(30)),
        }
        .expect("the transaction ends");
    }
}

/// Collects the outcome of each record, by its index in the batch.
struct Deliveries(Mutex<Vec<Option<Result<Written, KafkaError>>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        let outcome = match result {
            Ok(message) => Ok(Written {
                partition: message.partition(),
                offset: message.offset(),
            }),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[*index] = Some(outcome);
    }
}

impl Broker {
    /// Creates a topic (not replicated) and waits until every partition can be written to.
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topic = config
            .iter()
            .fold(topic, |topic, (key, value)| topic.set(key, value));
        self.admin(|admin, options| every(wait_for(admin.create_topics([&topic], options))));
        self.await_partitions(name, partitions);
    }

    pub fn delete_topic(&self, name: &str) {
        self.admin(|admin, options| every(wait_for(admin.delete_topics(&[name], options))));
        eventually(secs(10), "topic is gone", || {
            ensure(!self.topics().contains(&name.to_owned()), name)
        });
    }

    /// Grows a topic to `count` partitions.
    pub fn add_partitions(&self, name: &str, count: i32) {
        let more = NewPartitions::new(name, count.try_into().expect("not negative"));
        self.admin(|admin, options| every(wait_for(admin.create_partitions([&more], options))));
        self.await_partitions(name, count);
    }

    /// Deletes the records before `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .expect("a valid offset");
        self.admin(|admin, options| {
            let deleted = wait_for(admin.delete_records(&offsets, options))?;
            deleted
                .elements()
                .iter()
                .try_for_each(TopicPartitionListElem::error)
        });
    }

    /// Writes uncompressed, in order within each partition, and returns when all are acknowledged.
    pub fn produce(&self, topic: &str, messages: &[Message]) -> Vec<Written> {
        self.produce_with(topic, messages, &[])
    }

    /// [`Broker::produce`] with librdkafka properties, such as `compression.type`.
    pub fn produce_with(
        &self,
        topic: &str,
        messages: &[Message],
        properties: &[(&str, &str)],
    ) -> Vec<Written> {
        let producer = self.producer(messages.len(), properties);
        send(&producer, topic, messages);
        producer.flush(secs(30)).expect("records are acknowledged");
        outcomes(&producer)
    }

    /// Writes all in one transaction; returns where, committed or not. Its control record takes one more offset.
    pub fn produce_transaction(&self, topic: &str, messages: &[Message], outcome: Outcome) -> Vec<Written> {
        let (open, written) = self.open_transaction(topic, messages);
        open.end(outcome);
        written
    }

    /// The same, and leaves the transaction open.
    pub fn open_transaction(&self, topic: &str, messages: &[Message]) -> (OpenTransaction, Vec<Written>) {
        let id = super::broker::topic_name("transaction");
        // Longer than any test lets one hang: the broker aborts it then.
        let properties = [
            ("transactional.id", id.as_str()),
            ("transaction.timeout.ms", "300000"),
        ];
        let producer = self.producer(messages.len(), &properties);
        producer.init_transactions(secs(30)).expect("init_transactions");
        producer.begin_transaction().expect("begin_transaction");
        send(&producer, topic, messages);
        // Flushed in any case: an abort would purge unsent records, and no aborted record would be in the log.
        producer.flush(secs(30)).expect("records are acknowledged");
        let written = outcomes(&producer);
        (OpenTransaction(producer), written)
    }

    fn producer(&self, count: usize, properties: &[(&str, &str)]) -> BaseProducer<Deliveries> {
        let mut client = self.client();
        client
            .set("acks", "all")
            // A retry must not overtake: tests count on the order they wrote in.
            .set("max.in.flight.requests.per.connection", "1")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("message.max.bytes", "67108864");
        for (key, value) in properties {
            client.set(*key, *value);
        }
        client
            .create_with_context(Deliveries(Mutex::new(vec![None; count])))
            .expect("a producer")
    }

    fn admin(&self, act: impl FnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> KafkaResult<()>) {
        admin(&self.client(), act);
    }
}

fn admin(
    client: &ClientConfig,
    act: impl FnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> KafkaResult<()>,
) {
    let admin = client.create().expect("an admin client");
    let options = AdminOptions::new()
        .request_timeout(Some(secs(20)))
        .operation_timeout(Some(secs(20)));
    act(&admin, &options).unwrap_or_else(|error| panic!("{error}"));
}

/// Creates a topic that every one of so many brokers has a copy of.
pub(super) fn create_replicated(client: &ClientConfig, name: &str, partitions: i32, copies: i32) {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(copies));
    admin(client, |admin, options| {
        every(wait_for(admin.create_topics([&topic], options)))
    });
}

/// Creates a topic of one partition with copies on these nodes, from 0.
pub(super) fn create_on(client: &ClientConfig, name: &str, nodes: &[usize], config: &[(&str, &str)]) {
    let nodes: Vec<i32> = nodes
        .iter()
        .map(|&node| i32::try_from(node + 1).expect("few"))
        .collect();
    let partitions = [nodes.as_slice()];
    let topic = NewTopic::new(name, 1, TopicReplication::Variable(&partitions));
    let topic = config
        .iter()
        .fold(topic, |topic, (key, value)| topic.set(key, value));
    let admin: AdminClient<DefaultClientContext> = client.create().expect("an admin client");
    // A handle that learns the members of a new cluster drops requests to the addresses it began with.
    eventually(secs(30), "the topic is created", || {
        match every(wait_for(admin.create_topics([&topic], &AdminOptions::new()))) {
            Ok(()) | Err(KafkaError::AdminOp(RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    });
}

/// A request for one topic succeeds as a whole and fails in its part.
fn every(answer: KafkaResult<Vec<TopicResult>>) -> KafkaResult<()> {
    answer?
        .into_iter()
        .try_for_each(|topic| topic.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
}

fn send(producer: &BaseProducer<Deliveries>, topic: &str, messages: &[Message]) {
    for (index, message) in messages.iter().enumerate() {
        let mut record = BaseRecord::<[u8], [u8], Box<usize>>::with_opaque_to(topic, Box::new(index));
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        record.partition = message.partition;
        record.timestamp = message.timestamp;
        record.headers = (!message.headers.is_empty()).then(|| headers(message));
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    producer.poll(millis(20));
                }
                Err((error, _)) => panic!("record {index}: {error}"),
            }
        }
    }
}

fn headers(message: &Message) -> OwnedHeaders {
    message
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: value.as_ref(),
            })
        })
}

fn outcomes(producer: &BaseProducer<Deliveries>) -> Vec<Written> {
    let deliveries = &producer.context().0;
    let deliveries = deliveries.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = |(index, outcome): (usize, &Option<Result<Written, KafkaError>>)| match outcome {
        Some(Ok(written)) => *written,
        Some(Err(error)) => panic!("record {index}: {error}"),
        None => panic!("record {index}: not acknowledged"),
    };
    deliveries.iter().enumerate().map(outcome).collect()
}
