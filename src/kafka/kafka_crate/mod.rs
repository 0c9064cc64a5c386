//! The pure-Rust `kafka` crate, for brokers up to 3.9.
//!
//! Both handles use its low-level `KafkaClient` at our own offsets, each on a [worker
//! thread](super::worker_thread), because its calls cannot be cancelled. Four of its traits are made up for here, each
//! found by reading from real brokers:
//! - dead connections stay in its pool for ever, so after any error the reader builds another client;
//! - it knows the leaders of its last metadata only, so the consumer loads that again for partitions that no answer
//!   names;
//! - plain messages before a compressed set in the same answer are dropped without an error. The hole always lies
//!   between the offset asked for and the first one delivered, so an answer that begins too late is asked for again in
//!   smaller pieces until the pieces meet or the hole is proven real (compaction);
//! - a batch larger than the limit is answered with nothing, so the limit grows to a cap; whether a batch follows that
//!   is larger still, or markers of transactions only, is asked beside the crate ([`next_batch`](super::next_batch)).
//!
//! It gives no timestamps and no headers, cannot tell null from empty (an empty value counts as a tombstone), reads
//! uncommitted records, and knows gzip and snappy only.

mod admin;
mod consumer;
mod fetcher;
mod open;

use std::sync::Arc;

use self::admin::KafkaCrateAdmin;
use self::consumer::KafkaCrateConsumer;
use super::admin::AdminThread;
use super::connection::{Connection, Purpose};
use super::consumer::Consumer;
use super::error::KafkaError;
use super::pulse::Pulse;

/// Connects both handles, for the thread with this pulse.
///
/// # Errors
/// When no broker answers, or a file that `[kafka]` names cannot be used.
pub(super) fn connect(
    connection: &Connection,
    purpose: Purpose,
    pulse: &Arc<Pulse>,
) -> Result<(Box<dyn Consumer>, AdminThread), KafkaError> {
    let consumer = KafkaCrateConsumer::new(connection, purpose, pulse)?;
    Ok((Box::new(consumer), connect_admin(connection, pulse)?))
}

/// Builds the handle that answers questions, which connects when it is first asked.
///
/// # Errors
/// When a file that `[kafka]` names cannot be used.
pub(super) fn connect_admin(connection: &Connection, pulse: &Arc<Pulse>) -> Result<AdminThread, KafkaError> {
    let admin = KafkaCrateAdmin::new(connection)?;
    AdminThread::spawn(admin, connection.bootstrap_servers(), pulse)
}
