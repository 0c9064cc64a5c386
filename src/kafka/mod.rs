//! The Kafka room: reads topics on an OS thread of its own and hands batches on.
//!
//! Start with [`tail`], which owns the thread, the offsets and the retries. A [`source`] is one of
//! two client libraries; [`probe`] chooses between them; [`inbox`] holds the offsets and what was
//! read; [`record`] is what leaves the room; [`access`] is who we are to brokers, and [`refusal`] what they have
//! against us; [`progress`] says how far loading has come, [`lag`] how far reading is behind, [`held`] which ends open transactions hold,
//! [`stops`] which partitions cannot be read on, [`epochs`] which leaders wrote what was read, [`link`] how connections are, [`pulse`] whether the
//! thread turns; [`tally`] counts; [`survey`] looks once, for `doctor`. Nothing here knows of streams, frames or browsers.

pub mod access;
#[cfg(any(feature = "kafka-crate", feature = "librdkafka"))]
mod aside;
mod asking;
pub mod client;
pub mod epochs;
pub mod held;
pub mod history;
pub mod inbox;
#[cfg(feature = "kafka-crate")]
mod kafka_crate;
pub mod lag;
#[cfg(feature = "librdkafka")]
mod librdkafka;
pub mod link;
pub mod look;
#[cfg(feature = "librdkafka")]
mod native;
#[cfg(feature = "kafka-crate")]
mod next_batch;
pub mod outlets;
mod plain;
pub mod probe;
pub mod progress;
pub mod pulse;
mod reading;
pub mod record;
pub mod refusal;
mod rights;
pub mod source;
mod stall;
pub mod status;
pub mod stops;
pub mod survey;
pub mod tail;
pub mod tally;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "librdkafka")]
mod token;
mod topic;
pub mod turns;
