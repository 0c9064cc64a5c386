//! The reading thread: connects, decides where every partition is read from, reads, and recovers from errors without
//! losing or duplicating a record.
//!
//! ```text
//! connect ──► resolve (partitions, watermarks → offsets) ──► poll ⟲ ──error──► back off ──┐
//!    ▲                                                                                    │
//!    └────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! - `handle`: starts, reconnects and stops the thread; `commands` delivers these commands to it
//! - `run`: the loop above
//! - `resolve`: resolves the offsets from which partitions are read; `topic` decides them for one topic
//! - `refresh`: looks for new, missing and recreated topics
//! - `beside`: threads that take over streams which hold up others of their topics; `moving` moves these
//! - `monitoring`: lag, load `progress`, stopped partitions; `backpressure`: paused topics
//! - `end_offsets`: the time up to which a topic is read completely
//! - `state`: the state that these share
//!
//! The [`Batcher`](super::batcher::Batcher) with the offsets outlives every client, so a rebuilt one continues where the
//! last one stopped. The thread blocks in the client's `poll`, in requests to brokers, and while a stream's channel is
//! full; before each it sets a deadline ([`Pulse`](super::pulse::Pulse)). It ends when it is stopped, or when all streams
//! have closed their channels.

mod backpressure;
mod beside;
mod commands;
mod end_offsets;
mod handle;
mod monitoring;
mod moving;
mod progress;
mod refresh;
mod resolve;
mod run;
mod state;
mod topic;

pub use handle::{ReaderHandle, TopicPlan};
pub use topic::StartOffset;
