//! The pure-Rust `kafka` crate, for brokers up to 3.9.
//!
//! Both handles use its low-level `KafkaClient` at our own offsets, each on a [worker
//! thread](super::worker_thread), because its calls cannot be cancelled. This module works around four defects, each
//! found by reading from real brokers:
//! - The pool keeps dead connections for ever, so the reader builds another client after any error.
//! - It knows only the leaders of its last metadata, so the consumer loads metadata again if a response omits a
//!   partition.
//! - It drops plain messages before a compressed set in the same response, without an error. The gap always lies
//!   between the requested offset and the first one delivered. If a response begins too late, the fetcher requests
//!   smaller pieces until they meet, or the gap proves to be real (compaction).
//! - It returns nothing of a batch larger than the limit, so the limit grows up to a maximum. A request beside the
//!   crate ([`next_batch`](super::next_batch)) shows whether a larger batch or only transaction markers follow.
//!
//! It provides no timestamps and no headers, cannot tell null from empty (an empty value counts as a tombstone), reads
//! uncommitted records, and supports only gzip and snappy.

mod admin;
mod consumer;
mod fetcher;
mod open;
mod prefetch;

use std::sync::Arc;

use self::admin::KafkaCrateAdmin;
use self::consumer::KafkaCrateConsumer;
use super::admin::AdminThread;
use super::connection::{Connection, Purpose};
use super::consumer::Consumer;
use super::error::KafkaError;
use super::pulse::Pulse;

/// Builds both handles for the thread with this pulse; the consumer connects.
pub(super) fn connect(
    connection: &Connection,
    purpose: Purpose,
    pulse: &Arc<Pulse>,
) -> Result<(Box<dyn Consumer>, AdminThread), KafkaError> {
    let consumer = KafkaCrateConsumer::new(connection, purpose, pulse)?;
    Ok((Box::new(consumer), connect_admin(connection, pulse)?))
}

/// Builds the admin handle, which connects at its first request.
pub(super) fn connect_admin(connection: &Connection, pulse: &Arc<Pulse>) -> Result<AdminThread, KafkaError> {
    let admin = KafkaCrateAdmin::new(connection)?;
    AdminThread::spawn(admin, connection.bootstrap_servers(), pulse)
}
