//! The ids of topics (KIP-516), by `DescribeTopics`.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::record::TopicId;

/// The id of every topic; `None` where the broker gives none, or does not know the topic. Blocks for as
/// long as `limit`.
pub(in crate::kafka) fn topic_ids<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topics: &[Arc<str>],
    limit: Duration,
) -> Result<Vec<Option<TopicId>>, RDKafkaErrorCode> {
    let mut ids = vec![None; topics.len()];
    let Ok(names) = topics
        .iter()
        .map(|topic| CString::new(topic.as_bytes()))
        .collect::<Result<Vec<_>, _>>()
    else {
        return Ok(ids);
    };
    let event = describe(client, &names, limit)?;
    // SAFETY: the event is alive.
    let result = unsafe { rd::rd_kafka_event_DescribeTopics_result(event.0.as_ptr()) };
    if result.is_null() {
        return Ok(ids);
    }
    let mut count = 0;
    // SAFETY: the result is the event's, and there is room for the count.
    let found = unsafe { rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
    for index in 0..count {
        // SAFETY: there are as many as the count says.
        let slot = unsafe { found.add(index) };
        // SAFETY: each is a topic of the result.
        let topic = unsafe { *slot };
        if let Some(slot) = names.iter().position(|name| **name == *name_of(topic)) {
            ids[slot] = id_of(topic);
        }
    }
    Ok(ids)
}

fn describe<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    names: &[CString],
    limit: Duration,
) -> Result<Event, RDKafkaErrorCode> {
    let handle = client.client().native_ptr();
    let limit = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the client is alive.
    let queue = unsafe { rd::rd_kafka_queue_new(handle) };
    let queue = NonNull::new(queue).map(Queue).ok_or(RDKafkaErrorCode::Fail)?;
    // SAFETY: the client is alive.
    let options = unsafe {
        rd::rd_kafka_AdminOptions_new(handle, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS)
    };
    let options = NonNull::new(options).map(Options).ok_or(RDKafkaErrorCode::Fail)?;
    // SAFETY: the options are alive; without room for it no message is written.
    let answer = unsafe {
        rd::rd_kafka_AdminOptions_set_request_timeout(options.0.as_ptr(), limit, ptr::null_mut(), 0)
    };
    if answer != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(answer.into());
    }
    // SAFETY: as many C strings as are said; they are copied.
    let asked = unsafe { rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) };
    let asked = NonNull::new(asked).map(Topics).ok_or(RDKafkaErrorCode::Fail)?;
    // SAFETY: all four are alive, and what the call needs later it copies.
    unsafe {
        rd::rd_kafka_DescribeTopics(handle, asked.0.as_ptr(), options.0.as_ptr(), queue.0.as_ptr());
    }
    // Longer than the request itself, which is answered by an error then.
    // SAFETY: the queue is alive.
    let event = unsafe { rd::rd_kafka_queue_poll(queue.0.as_ptr(), limit.saturating_add(GRACE)) };
    let event = NonNull::new(event)
        .map(Event)
        .ok_or(RDKafkaErrorCode::OperationTimedOut)?;
    // SAFETY: the event is alive.
    let error = unsafe { rd::rd_kafka_event_error(event.0.as_ptr()) };
    if error == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        Ok(event)
    } else {
        Err(error.into())
    }
}

/// Milliseconds beyond the time a request may take.
const GRACE: c_int = 500;

fn name_of<'a>(topic: *const rd::rd_kafka_TopicDescription_t) -> &'a CStr {
    // SAFETY: a topic of a result that is alive.
    let name = unsafe { rd::rd_kafka_TopicDescription_name(topic) };
    // SAFETY: its name is a C string that lives as long.
    unsafe { CStr::from_ptr(name) }
}

fn id_of(topic: *const rd::rd_kafka_TopicDescription_t) -> Option<TopicId> {
    // SAFETY: a topic of a result that is alive.
    let id = unsafe { rd::rd_kafka_TopicDescription_topic_id(topic) };
    if id.is_null() {
        return None;
    }
    // SAFETY: its id lives as long.
    let most = unsafe { rd::rd_kafka_Uuid_most_significant_bits(id) };
    // SAFETY: as above.
    let least = unsafe { rd::rd_kafka_Uuid_least_significant_bits(id) };
    TopicId::new(u128::from(most.cast_unsigned()) << 64 | u128::from(least.cast_unsigned()))
}

/// What C gave us, each to be given back once.
macro_rules! owned {
    ($name:ident, $raw:ty, $destroy:path) => {
        struct $name(NonNull<$raw>);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: ours, once.
                unsafe { $destroy(self.0.as_ptr()) };
            }
        }
    };
}

owned!(Queue, rd::rd_kafka_queue_t, rd::rd_kafka_queue_destroy);
owned!(
    Options,
    rd::rd_kafka_AdminOptions_t,
    rd::rd_kafka_AdminOptions_destroy
);
owned!(
    Topics,
    rd::rd_kafka_TopicCollection_t,
    rd::rd_kafka_TopicCollection_destroy
);
owned!(Event, rd::rd_kafka_event_t, rd::rd_kafka_event_destroy);
