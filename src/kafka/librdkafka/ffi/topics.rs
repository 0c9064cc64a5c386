//! Partitions, leaders and ids (KIP-516) of many topics by one `DescribeTopics` request.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::record::TopicId;

#[derive(Debug, Clone)]
pub(in crate::kafka) struct TopicDescription {
    /// The error in place of a description, such as that the topic does not exist.
    pub(in crate::kafka) error: Option<RDKafkaErrorCode>,
    /// The id, if the broker supports ids.
    pub(in crate::kafka) id: Option<TopicId>,
    /// The leader of every partition, from 0; `None` if it has no leader.
    pub(in crate::kafka) leaders: Vec<Option<i32>>,
}

/// Describes topics in one request, in their order; `None` for a topic that the response omits. Blocks at most
/// `limit`. The client learns the leaders from the response, as from its own metadata requests.
pub(in crate::kafka) fn describe_topics<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topics: &[Arc<str>],
    limit: Duration,
) -> Result<Vec<Option<TopicDescription>>, RDKafkaErrorCode> {
    let mut described = vec![None; topics.len()];
    let Ok(names) = topics
        .iter()
        .map(|topic| CString::new(topic.as_bytes()))
        .collect::<Result<Vec<_>, _>>()
    else {
        return Ok(described);
    };
    let slots: HashMap<&CStr, usize> = names.iter().map(CString::as_c_str).zip(0..).collect();
    let event = describe(client, &names, limit)?;
    // SAFETY: the event is alive.
    let result = unsafe { rd::rd_kafka_event_DescribeTopics_result(event.0.as_ptr()) };
    if result.is_null() {
        return Ok(described);
    }
    let mut count = 0;
    // SAFETY: the result is the event's, and there is room for the count.
    let found = unsafe { rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
    for index in 0..count {
        // SAFETY: there are as many as the count says.
        let slot = unsafe { found.add(index) };
        // SAFETY: each is a topic of the result.
        let topic = unsafe { *slot };
        if let Some(&slot) = slots.get(name_of(topic)) {
            described[slot] = Some(TopicDescription {
                error: error_of(topic),
                id: id_of(topic),
                leaders: leaders_of(topic),
            });
        }
    }
    Ok(described)
}

/// Requests descriptions of topics, from which the client learns their leaders. Does not wait for the response.
pub(in crate::kafka) fn request_leaders<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topics: &[Arc<str>],
    limit: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let names = topics.iter().map(|topic| CString::new(topic.as_bytes()));
    let names = names
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
    let limit = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    // The queue is dropped, so the response is discarded after the client has learned the leaders.
    request(client, &names, limit).map(drop)
}

fn describe<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    names: &[CString],
    limit: Duration,
) -> Result<Event, RDKafkaErrorCode> {
    let limit = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    let queue = request(client, names, limit)?;
    // Longer than the request, which ends with an error at its timeout.
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

/// Sends the request, and returns the queue for its response.
fn request<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    names: &[CString],
    limit: c_int,
) -> Result<Queue, RDKafkaErrorCode> {
    let handle = client.client().native_ptr();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the client is alive.
    let queue = unsafe { rd::rd_kafka_queue_new(handle) };
    let queue = NonNull::new(queue).map(Queue).ok_or(RDKafkaErrorCode::Fail)?;
    // SAFETY: the client is alive.
    let options = unsafe {
        rd::rd_kafka_AdminOptions_new(handle, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS)
    };
    let options = NonNull::new(options).map(Options).ok_or(RDKafkaErrorCode::Fail)?;
    // SAFETY: the options are alive; without a buffer for it no message is written.
    let answer = unsafe {
        rd::rd_kafka_AdminOptions_set_request_timeout(options.0.as_ptr(), limit, ptr::null_mut(), 0)
    };
    if answer != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(answer.into());
    }
    // SAFETY: the count is that of the C strings, which are copied.
    let asked = unsafe { rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) };
    let asked = NonNull::new(asked).map(Topics).ok_or(RDKafkaErrorCode::Fail)?;
    // SAFETY: all four are alive, and the call copies the data that it needs later.
    unsafe {
        rd::rd_kafka_DescribeTopics(handle, asked.0.as_ptr(), options.0.as_ptr(), queue.0.as_ptr());
    }
    Ok(queue)
}

/// Milliseconds to wait beyond the timeout of a request.
const GRACE: c_int = 500;

fn name_of<'a>(topic: *const rd::rd_kafka_TopicDescription_t) -> &'a CStr {
    // SAFETY: a topic of a result that is alive.
    let name = unsafe { rd::rd_kafka_TopicDescription_name(topic) };
    // SAFETY: its name is a C string that lives as long.
    unsafe { CStr::from_ptr(name) }
}

fn error_of(topic: *const rd::rd_kafka_TopicDescription_t) -> Option<RDKafkaErrorCode> {
    // SAFETY: a topic of a result that is alive.
    let error = unsafe { rd::rd_kafka_TopicDescription_error(topic) };
    if error.is_null() {
        return None;
    }
    // SAFETY: its error lives as long.
    let code = unsafe { rd::rd_kafka_error_code(error) };
    (code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
}

fn leaders_of(topic: *const rd::rd_kafka_TopicDescription_t) -> Vec<Option<i32>> {
    let mut count = 0;
    // SAFETY: a topic of a result that is alive, and there is room for the count.
    let found = unsafe { rd::rd_kafka_TopicDescription_partitions(topic, &raw mut count) };
    let mut leaders = vec![None; count];
    for index in 0..count {
        // SAFETY: there are as many as the count says.
        let slot = unsafe { found.add(index) };
        // SAFETY: each is a partition of the topic.
        let partition = unsafe { *slot };
        // SAFETY: as above.
        let number = unsafe { rd::rd_kafka_TopicPartitionInfo_partition(partition) };
        // SAFETY: as above.
        let leader = unsafe { rd::rd_kafka_TopicPartitionInfo_leader(partition) };
        let slot = usize::try_from(number)
            .ok()
            .and_then(|number| leaders.get_mut(number));
        if let Some(slot) = slot.filter(|_| !leader.is_null()) {
            // SAFETY: the leader lives as long as the topic.
            let leader = unsafe { rd::rd_kafka_Node_id(leader) };
            *slot = (leader >= 0).then_some(leader);
        }
    }
    leaders
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
