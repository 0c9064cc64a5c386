//! Reads records and offsets that are no longer in memory: offset lookups and replays of offset ranges, on a bounded
//! pool of threads with their own connections.
//!
//! - `request`: the requests, and the trait [`Archive`] that takes them
//! - `pool`: queues the requests and runs the threads
//! - `lookup`, `replay`: serve one request each
//! - [`fair_queue`]: decides which replay runs next
//! - [`quota`]: decides which flows may have a turn
//!
//! Nothing here knows of streams, clients or positions.

pub mod fair_queue;
mod lookup;
mod pool;
pub mod quota;
mod replay;
mod request;

pub use pool::{History, MAX_HANDLES};
pub use request::{
    Archive, Busy, LookupUnsupported, OffsetLookup, OffsetRange, OffsetSpec, Offsets, Payer, ReplayLoad,
    ReplayRequest, ReplaySlot, Reply, SlotLimits,
};
