//! Batches of records.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

/// Most records of one call: enough to make the cost of the call negligible.
pub(in crate::kafka) const MOST: usize = 1024;

/// A queue for the records of partitions. The client's own queue keeps events that belong to no partition (transport
/// errors, statistics), so batches are taken without looking for those.
pub(in crate::kafka) struct Queue<C: ConsumerContext> {
    raw: NonNull<rd::rd_kafka_queue_t>,
    /// The client's own queue.
    events: NonNull<rd::rd_kafka_queue_t>,
    /// The buffer that calls write messages to.
    slots: Box<[*mut rd::rd_kafka_message_t]>,
    taken: Vec<Owned>,
    /// Keeps the client alive as long as the queue: fields are dropped after [`Drop::drop`].
    client: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's handles may be used by any thread; only this queue references the messages.
unsafe impl<C: ConsumerContext> Send for Queue<C> {}

impl<C: ConsumerContext> Queue<C> {
    /// An empty queue of `client`, which needs a group name; [`attach`](Self::attach) adds partitions.
    pub(in crate::kafka) fn new(client: Arc<BaseConsumer<C>>) -> Option<Self> {
        // SAFETY: the client is alive.
        let events = unsafe { rd::rd_kafka_queue_get_consumer(client.client().native_ptr()) };
        let events = NonNull::new(events)?;
        // SAFETY: the client is alive.
        let raw = unsafe { rd::rd_kafka_queue_new(client.client().native_ptr()) };
        Some(Self {
            raw: NonNull::new(raw)?,
            events,
            slots: vec![ptr::null_mut(); MOST].into(),
            taken: Vec::with_capacity(MOST),
            client,
        })
    }

    /// Routes the records and errors of a partition here instead of to the client's queue. Must be called before the
    /// partition is assigned; otherwise records already fetched stay in the client's queue.
    ///
    /// Returns false for an invalid topic name.
    pub(in crate::kafka) fn attach(&self, topic: &str, partition: i32) -> bool {
        let Ok(name) = CString::new(topic) else {
            return false;
        };
        // SAFETY: the client is alive, and the name a C string that is copied.
        let own = unsafe {
            rd::rd_kafka_queue_get_partition(self.client.client().native_ptr(), name.as_ptr(), partition)
        };
        if own.is_null() {
            return false;
        }
        // SAFETY: both are queues of this client; a queue keeps the one it forwards to alive.
        unsafe { rd::rd_kafka_queue_forward(own, self.raw.as_ptr()) };
        // SAFETY: releases the reference that `get_partition` returned; the partition keeps its own.
        unsafe { rd::rd_kafka_queue_destroy(own) };
        true
    }

    /// Whether the client has events that belong to no partition: a poll without an event costs as much as a record.
    pub(in crate::kafka) fn has_events(&self) -> bool {
        // SAFETY: the queue is alive.
        unsafe { rd::rd_kafka_queue_length(self.events.as_ptr()) > 0 }
    }

    /// The offset before which all readable records of a partition have been taken: it passes transaction markers like
    /// records. `None` before the first record or marker.
    pub(in crate::kafka) fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        // SAFETY: the client and the list are alive; the answer is written into the list.
        let answer = unsafe { rd::rd_kafka_position(self.client.client().native_ptr(), list.ptr()) };
        if answer != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        match list.find_partition(topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// Passes the available messages to `each`, at most [`MOST`], waiting up to `wait` if there are none. Returns their
    /// number.
    pub(in crate::kafka) fn take(&mut self, wait: Duration, mut each: impl FnMut(Fetched<'_>)) -> usize {
        let mut count = self.consume(0, Duration::ZERO);
        if count == 0 {
            // A call for more messages than are available waits until its timeout, so this waits for one.
            count = self.wait(wait);
            if count > 0 {
                count += self.consume(count, Duration::ZERO);
            }
        }
        let slots = self.slots.iter().take(count);
        self.taken
            .extend(slots.filter_map(|&slot| NonNull::new(slot).map(Owned)));
        let (mut topic, mut name) = (ptr::null_mut(), "");
        for owned in &self.taken {
            // SAFETY: the message is ours until `Owned` frees it.
            let message = unsafe { owned.0.as_ref() };
            if message.rkt != topic {
                topic = message.rkt;
                name = topic_name(message);
            }
            each(Fetched { topic: name, message });
        }
        self.taken.clear();
        count
    }

    fn wait(&mut self, wait: Duration) -> usize {
        self.call(0, 1, wait)
    }

    fn consume(&mut self, at: usize, wait: Duration) -> usize {
        self.call(at, MOST - at, wait)
    }

    fn call(&mut self, at: usize, most: usize, wait: Duration) -> usize {
        let wait = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        let slots = &mut self.slots[at..at + most];
        // SAFETY: the queue is alive, and the slots from `at` on hold as many messages as the call may write.
        let given = unsafe {
            rd::rd_kafka_consume_batch_queue(self.raw.as_ptr(), wait, slots.as_mut_ptr(), slots.len())
        };
        // A negative count is an error.
        usize::try_from(given).unwrap_or(0)
    }
}

impl<C: ConsumerContext> Drop for Queue<C> {
    fn drop(&mut self) {
        // SAFETY: ours, once; the client is dropped after it.
        unsafe { rd::rd_kafka_queue_destroy(self.raw.as_ptr()) };
        // SAFETY: as above; this is the reference that was returned, and the client keeps its own.
        unsafe { rd::rd_kafka_queue_destroy(self.events.as_ptr()) };
    }
}

struct Owned(NonNull<rd::rd_kafka_message_t>);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: ours, once.
        unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

fn topic_name(message: &rd::rd_kafka_message_t) -> &str {
    if message.rkt.is_null() {
        return "";
    }
    // SAFETY: the message holds its topic.
    let name = unsafe { rd::rd_kafka_topic_name(message.rkt) };
    // SAFETY: a C string that lives as long as the topic.
    let name = unsafe { CStr::from_ptr(name) };
    // Kafka's names are ASCII.
    name.to_str().unwrap_or_default()
}

/// One message: a record, or an error of its partition.
pub(in crate::kafka) struct Fetched<'a> {
    topic: &'a str,
    message: &'a rd::rd_kafka_message_t,
}

impl<'a> Fetched<'a> {
    pub(in crate::kafka) const fn topic(&self) -> &'a str {
        self.topic
    }

    /// The partition, from 0.
    pub(in crate::kafka) const fn partition(&self) -> i32 {
        self.message.partition
    }

    /// The record's offset; for an error, the offset at which it occurred, if any.
    pub(in crate::kafka) const fn offset(&self) -> i64 {
        self.message.offset
    }

    /// Whether it reports the end of the partition, at [`offset`](Self::offset).
    pub(in crate::kafka) fn is_end(&self) -> bool {
        self.message.err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF
    }

    /// The epoch of the leader that wrote the record; `None` if its batch has none.
    pub(in crate::kafka) fn leader_epoch(&self) -> Option<u32> {
        // SAFETY: the message is alive.
        let epoch = unsafe { rd::rd_kafka_message_leader_epoch(self.message) };
        u32::try_from(epoch).ok()
    }

    /// The error of the partition, with its text; `None` for a record.
    pub(in crate::kafka) fn error(&self) -> Option<(RDKafkaErrorCode, String)> {
        if self.message.err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let text = bytes(self.message.payload, self.message.len).unwrap_or_default();
        Some((
            self.message.err.into(),
            String::from_utf8_lossy(text).into_owned(),
        ))
    }

    pub(in crate::kafka) fn key(&self) -> Option<&'a [u8]> {
        bytes(self.message.key, self.message.key_len)
    }

    pub(in crate::kafka) fn value(&self) -> Option<&'a [u8]> {
        bytes(self.message.payload, self.message.len)
    }

    /// The record's time in milliseconds since the epoch, if it has one.
    pub(in crate::kafka) fn timestamp(&self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and the kind is a valid out-parameter.
        let time = unsafe { rd::rd_kafka_message_timestamp(self.message, &raw mut kind) };
        (kind != rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(time)
    }

    /// The record's headers in their order. Unpacking costs time even without headers.
    pub(in crate::kafka) fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive, and owns the unpacked headers.
        let answer = unsafe { rd::rd_kafka_message_headers(self.message, &raw mut headers) };
        // Without headers the call returns an error.
        let is_there = answer == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        let headers = is_there.then_some(headers.cast_const());
        (0..).map_while(move |index| header(headers?, index))
    }
}

/// The header with this number. Its bytes are the message's, which outlives `'a`.
fn header<'a>(headers: *const rd::rd_kafka_headers_t, index: usize) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let (mut name, mut value, mut length): (*const c_char, *const c_void, usize) =
        (ptr::null(), ptr::null(), 0);
    // SAFETY: the headers belong to a message that is alive, and the out-parameters are valid.
    let answer = unsafe {
        rd::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut length)
    };
    if answer != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    // SAFETY: a C string of the message.
    let name = unsafe { CStr::from_ptr(name) };
    Some((name.to_bytes(), bytes(value, length)))
}

/// Bytes of a message; `None` for a null pointer, which differs from zero bytes.
fn bytes<'a>(at: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: librdkafka points to as many bytes as it states, or returns null.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast(), length) })
}
