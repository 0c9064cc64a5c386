//! Reads from Kafka what is no longer in memory: lookups of offsets, and replays of offset ranges, on a bounded pool of
//! threads with connections of their own.
//!
//! - `request`: the requests, and the trait [`Archive`] that takes them
//! - `pool`: queues the requests and runs the threads
//! - `lookup`, `replay`: serve one request each
//! - [`fair_queue`]: decides which replay is next
//!
//! Nothing here knows of streams, clients or positions.

pub mod fair_queue;
mod lookup;
mod pool;
mod replay;
mod request;

pub use pool::{History, MAX_CLIENTS};
pub use request::{
    Archive, Busy, LookupUnsupported, OffsetLookup, OffsetRange, OffsetSpec, Offsets, ReplayRequest,
    ReplaySlot, Reply, SlotLimits,
};
