//! Reads Kafka: live records on one thread, history on a pool, and hands batches to the streams.
//!
//! - [`reader`]: the reading thread, which decides from where every partition is read, and survives outages
//! - [`history`]: replays and offset lookups
//! - [`consumer`], [`admin`]: the traits of both client libraries; [`client`] builds the one that [`client_choice`]
//!   chooses
//! - [`batcher`], [`stream_queues`]: next offsets, batches, and backpressure
//! - [`record`]: records, and the other messages to a stream; [`invalid`]: why a record cannot be shown
//! - [`metadata`], [`partition`], `epochs`: topics, offsets and leader epochs
//! - [`connection`], [`security`]: addresses, TLS and SASL; [`auth_error`] explains failures of the latter
//! - [`error`], [`stopped_partitions`], `open_transactions`: faults; `unreadable` schedules retries
//! - [`status`], [`reader_status`], [`counters`], [`lag`]: status and metrics
//! - [`pulse`]: whether a thread hangs
//!
//! Nothing here knows of streams, frames or browsers.

mod acl;
pub mod admin;
pub(crate) mod api_versions;
pub(crate) mod auth_error;
pub mod batcher;
#[cfg(feature = "tls")]
mod certificate;
pub mod client;
pub(crate) mod client_choice;
pub mod connection;
pub mod consumer;
pub mod counters;
pub(crate) mod epochs;
pub mod error;
pub mod history;
pub mod invalid;
#[cfg(feature = "kafka-crate")]
mod kafka_crate;
pub mod lag;
#[cfg(feature = "librdkafka")]
mod librdkafka;
pub(crate) mod metadata;
#[cfg(feature = "kafka-crate")]
mod next_batch;
pub(crate) mod open_transactions;
pub mod partition;
pub mod pulse;
pub mod reader;
pub mod reader_status;
pub mod record;
pub mod security;
mod stall;
pub mod status;
pub(crate) mod stopped_partitions;
pub mod stream_queues;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "librdkafka")]
mod token;
mod unreadable;
mod wire_protocol;
pub(crate) mod worker_thread;

#[cfg(all(feature = "librdkafka", any(test, fuzzing)))]
pub(crate) use librdkafka::fuzzing;
