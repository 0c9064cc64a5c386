//! Reads from Kafka what is no longer in memory: offset lookups and replays of offset ranges, on a bounded pool of
//! threads with connections of their own.
//!
//! [`pool`] queues the requests and runs the threads; [`lookup`] and [`replay`] do the work; [`fair_queue`] decides
//! whose replay is next. Nothing here knows of streams, clients or positions.

pub mod fair_queue;
mod lookup;
mod pool;
mod replay;

pub use pool::*;
