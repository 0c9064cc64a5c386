//! The Kafka room: reads topics on an OS thread of its own and hands batches on.
//!
//! Start with [`reader`], which owns the thread, the offsets and the retries. A [`source`] is one of
//! two client libraries; [`probe`] chooses between them; [`batcher`] holds the offsets and what was
//! read; [`record`] is what leaves the room; [`security`] is who we are to brokers, and [`auth_error`] what they have
//! against us; [`progress`] says how far loading has come, [`lag`] how far reading is behind, [`open_transactions`] which ends open transactions hold,
//! [`stopped_partitions`] which partitions cannot be read on, [`epochs`] which leaders wrote what was read, [`link`] how connections are, [`pulse`] whether the
//! thread turns; [`counters`] counts; [`survey`] looks once, for `doctor`. Nothing here knows of streams, frames or browsers.

mod acl;
pub mod admin;
pub mod auth_error;
pub mod batcher;
#[cfg(feature = "tls")]
mod certificate;
pub mod client;
pub mod connection;
pub mod consumer;
pub mod counters;
pub mod epochs;
pub mod error;
pub mod history;
#[cfg(feature = "kafka-crate")]
mod kafka_crate;
pub mod lag;
#[cfg(feature = "librdkafka")]
mod librdkafka;
pub mod link;
pub mod metadata;
#[cfg(feature = "kafka-crate")]
mod next_batch;
pub mod open_transactions;
pub mod partition;
pub mod probe;
pub mod progress;
pub mod pulse;
pub mod reader;
pub mod reader_status;
pub mod record;
pub mod security;
mod stall;
pub mod status;
pub mod stopped_partitions;
pub mod stream_queues;
pub mod survey;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "librdkafka")]
mod token;
mod wire_protocol;
pub mod worker_thread;
