//! librdkafka: every broker, compression, transactions and security.
//!
//! Two handles: one consumes and nothing else, the other, unassigned, answers questions, because a question to a handle
//! that consumes waits behind its long polls. Records and the errors of their partitions come by the batch from a queue of
//! ours; what is of no partition stays in the handle's own, which is looked at after every batch. librdkafka reconnects
//! by itself, so transport errors are a state here, not a failure.

mod admin;
mod consumer;
mod consuming;
mod context;
mod explain;
mod ffi;
mod offsets;
mod oversize;
mod probing;
mod renewal;
pub(super) mod settings;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::admin::LibrdkafkaAdmin;
use self::consumer::LibrdkafkaConsumer;
use self::consuming::Maker;
use self::explain::Explainer;
use super::admin::AdminThread;
use super::connection::{Connection, Purpose};
use super::consumer::Consumer;
use super::error::KafkaError;
use super::pulse::Pulse;

/// Creates both handles, for the thread with this pulse; does not wait for a broker.
///
/// # Errors
/// When librdkafka refuses a setting.
pub(super) fn connect(
    connection: &Connection,
    purpose: Purpose,
    pulse: &Arc<Pulse>,
) -> Result<(Box<dyn Consumer>, AdminThread), KafkaError> {
    let maker = Maker::new(connection, purpose)?;
    let describes_topics = Arc::new(AtomicBool::new(false));
    let admin = spawn_admin(&maker, connection, &describes_topics, pulse)?;
    let consumer = LibrdkafkaConsumer::new(maker, connection, admin.clone(), describes_topics, pulse)?;
    Ok((Box::new(consumer), admin))
}

/// Creates the handle that answers questions.
///
/// # Errors
/// When librdkafka refuses a setting.
pub(super) fn connect_admin(connection: &Connection, pulse: &Arc<Pulse>) -> Result<AdminThread, KafkaError> {
    spawn_admin(
        &Maker::new(connection, Purpose::History)?,
        connection,
        &Arc::default(),
        pulse,
    )
}

fn spawn_admin(
    maker: &Maker,
    connection: &Connection,
    describes_topics: &Arc<AtomicBool>,
    pulse: &Arc<Pulse>,
) -> Result<AdminThread, KafkaError> {
    let explainer = Explainer::new(connection, maker.access.clone());
    let admin = LibrdkafkaAdmin::new(
        maker.clone(),
        explainer,
        Arc::clone(describes_topics),
        Arc::clone(pulse),
    )?;
    AdminThread::spawn(admin, Arc::clone(&maker.brokers), pulse)
}
