//! Offsets with leader epochs (KIP-320): makes the library ask leaders whether their logs still match.

use std::ffi::{CString, c_int};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

/// Pause before a seek is repeated, while the library has not started a partition.
const PAUSE: Duration = Duration::from_millis(10);

/// The read position of a partition: the next offset, and the leader epoch of the record before it.
#[derive(Clone, Copy)]
pub(in crate::kafka) struct ReadPosition<'a> {
    pub(in crate::kafka) topic: &'a str,
    pub(in crate::kafka) partition: i32,
    pub(in crate::kafka) next: i64,
    pub(in crate::kafka) epoch: u32,
}

/// Makes the library fetch assigned partitions from these offsets, each after its leader confirms that its log has this
/// epoch there. Otherwise the partition returns an error with the leader's response. Waits at most `limit` until the
/// library has started all of them, but not for leaders.
pub(in crate::kafka) fn validate<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    read: &[ReadPosition<'_>],
    limit: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let until = Instant::now() + limit;
    let mut left = read.to_vec();
    loop {
        let refused = seek(client, &left, until.saturating_duration_since(Instant::now()))?;
        let Some(&(_, code)) = refused.first() else {
            return Ok(());
        };
        // The library starts assigned partitions after the call that assigns them.
        let is_early = |code| {
            use RDKafkaErrorCode::{InProgress, PreviousInProgress, State, UnknownPartition};
            matches!(code, InProgress | PreviousInProgress | State | UnknownPartition)
        };
        if Instant::now() >= until || !refused.iter().all(|(_, code)| is_early(*code)) {
            return Err(code);
        }
        left = refused.into_iter().map(|(read, _)| read).collect();
        std::thread::sleep(PAUSE);
    }
}

/// Seeks once; returns the positions that the library did not accept.
fn seek<'a, C: ConsumerContext>(
    client: &BaseConsumer<C>,
    read: &[ReadPosition<'a>],
    limit: Duration,
) -> Result<Vec<(ReadPosition<'a>, RDKafkaErrorCode)>, RDKafkaErrorCode> {
    let count = c_int::try_from(read.len()).unwrap_or(c_int::MAX);
    // SAFETY: no pointers are given.
    let list = unsafe { rd::rd_kafka_topic_partition_list_new(count) };
    let list = NonNull::new(list).map(List).ok_or(RDKafkaErrorCode::Fail)?;
    for read in read {
        // Kafka's names are ASCII.
        let name = CString::new(read.topic).map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
        // SAFETY: the list is alive, and the name a C string that is copied.
        let added =
            unsafe { rd::rd_kafka_topic_partition_list_add(list.0.as_ptr(), name.as_ptr(), read.partition) };
        let mut added = NonNull::new(added).ok_or(RDKafkaErrorCode::Fail)?;
        // SAFETY: an element of the list, to which there is no other reference.
        unsafe { added.as_mut() }.offset = read.next;
        let epoch = i32::try_from(read.epoch).unwrap_or(i32::MAX);
        // SAFETY: as above.
        unsafe { rd::rd_kafka_topic_partition_set_leader_epoch(added.as_ptr(), epoch) };
    }
    // Not zero: with no timeout the library returns no results.
    let limit = c_int::try_from(limit.max(PAUSE).as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client and the list are alive; results are written into the list.
    let error = unsafe { rd::rd_kafka_seek_partitions(client.client().native_ptr(), list.0.as_ptr(), limit) };
    if let Some(error) = NonNull::new(error).map(Failure) {
        // SAFETY: the error is alive.
        let code = unsafe { rd::rd_kafka_error_code(error.0.as_ptr()) };
        return Err(code.into());
    }
    // SAFETY: the list is alive.
    let list = unsafe { list.0.as_ref() };
    let (elements, count) = (list.elems, usize::try_from(list.cnt).unwrap_or(0));
    if elements.is_null() || count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the list holds this many elements, in the order in which they were added.
    let elements = unsafe { std::slice::from_raw_parts(elements, count) };
    let results = read
        .iter()
        .zip(elements)
        .map(|(read, element)| (*read, element.err));
    let refused = results.filter(|(_, code)| *code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
    Ok(refused.map(|(read, code)| (read, code.into())).collect())
}

owned!(
    List,
    rd::rd_kafka_topic_partition_list_t,
    rd::rd_kafka_topic_partition_list_destroy
);
owned!(Failure, rd::rd_kafka_error_t, rd::rd_kafka_error_destroy);
