//! librdkafka: every broker, compression, transactions and security.
//!
//! Two handles: one consumes, the other makes requests, because a request on a consuming handle waits behind its long
//! polls. Records and errors of partitions arrive in batches from our own queue; the handle's queue, with all other
//! events, is served after every batch. librdkafka reconnects by itself: a transport error is a state, not a failure.

mod admin;
mod assignment;
mod batch_probe;
mod consumer;
mod context;
mod diagnosis;
mod fetch_handle;
mod ffi;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handle_factory;
mod large_batches;
mod offsets;
mod replacement;
mod retried_error;
pub(super) mod settings;
mod statistics;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::admin::LibrdkafkaAdmin;
use self::consumer::LibrdkafkaConsumer;
use self::diagnosis::Diagnosis;
use self::handle_factory::HandleFactory;
use super::admin::AdminThread;
use super::connection::{Connection, Purpose};
use super::consumer::Consumer;
use super::error::KafkaError;
use super::pulse::Pulse;

/// Creates both handles for the thread with this pulse. Does not wait for a broker.
pub(super) fn connect(
    connection: &Connection,
    purpose: Purpose,
    pulse: &Arc<Pulse>,
) -> Result<(Box<dyn Consumer>, AdminThread), KafkaError> {
    let factory = HandleFactory::new(connection, purpose)?;
    let describes_topics = Arc::new(AtomicBool::new(false));
    let admin = spawn_admin(&factory, connection, &describes_topics, pulse)?;
    let consumer = LibrdkafkaConsumer::new(factory, connection, admin.clone(), describes_topics, pulse)?;
    Ok((Box::new(consumer), admin))
}

pub(super) fn connect_admin(connection: &Connection, pulse: &Arc<Pulse>) -> Result<AdminThread, KafkaError> {
    spawn_admin(
        &HandleFactory::new(connection, Purpose::History)?,
        connection,
        &Arc::default(),
        pulse,
    )
}

fn spawn_admin(
    factory: &HandleFactory,
    connection: &Connection,
    describes_topics: &Arc<AtomicBool>,
    pulse: &Arc<Pulse>,
) -> Result<AdminThread, KafkaError> {
    let diagnosis = Diagnosis::new(connection, factory.credentials.clone());
    let admin = LibrdkafkaAdmin::new(
        factory.clone(),
        diagnosis,
        Arc::clone(describes_topics),
        Arc::clone(pulse),
    )?;
    AdminThread::spawn(admin, Arc::clone(&factory.brokers), pulse)
}
