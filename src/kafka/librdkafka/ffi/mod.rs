//! Functions of librdkafka that rdkafka's safe interface lacks: batches of records, errors with their partition, and
//! descriptions of many topics.
//!
//! The only unsafe code of the library. rdkafka returns one record per call, each through an event, which doubles the
//! cost of a record for the reading thread; its errors of a partition name neither topic nor partition; and it lacks
//! `DescribeTopics`. Its `bindings` contain the C functions. Each use states why it is sound, by three rules: a queue
//! holds its client, so that it never outlives it; every record is freed once, after its last use; and nothing that C
//! owns leaves this module for longer than a call.
//!
//! Knows nothing of offsets, batchers or streams.
#![expect(
    unsafe_code,
    reason = "there is no safe way to these functions, as said above"
)]

/// C objects, each destroyed once.
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

mod epochs;
mod queue;
mod topics;

pub(super) use epochs::{ReadPosition, validate};
pub(super) use queue::{Fetched, MOST, Queue};
pub(super) use topics::{TopicDescription, describe_topics, request_leaders};
