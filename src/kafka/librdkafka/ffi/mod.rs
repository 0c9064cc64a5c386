//! What rdkafka's safe interface lacks of librdkafka: records by the batch, errors with the partition
//! they belong to, and what there is of many topics.
//!
//! The only unsafe code of the library. rdkafka hands on one record per call, through an event each, which
//! costs the reading thread about as much again as all else it does with a record; its errors of a partition
//! name neither topic nor partition; and it does not know `DescribeTopics`. The C functions that do are
//! in its `bindings`. What makes their use sound is said at each; the rules are three: a queue holds
//! its client, so that it never outlives it; every record is given back once, after the last look at
//! it; and nothing that C owns leaves this room but for the time of one call.
//!
//! Knows nothing of offsets, batchers or streams.
#![expect(
    unsafe_code,
    reason = "there is no safe way to these functions, as said above"
)]

mod epochs;
mod queue;
mod topics;

pub(super) use epochs::{ReadPosition, validate};
pub(super) use queue::{Fetched, MOST, Queue};
pub(super) use topics::{TopicDescription, describe_topics, request_leaders};
