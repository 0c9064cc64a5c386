//! The stream room: records in, finished frames out.
//!
//! One [`Stream`] per configured path. Its [`writer`] side encodes every record once
//! and appends it to the shared [`log`]; its readers are [`subscription`]s: a cursor over the log
//! and a few deadlines, no queue. [`encode`] what stands in them,
//! [`position`] the event ids, [`live_settings`] what may change meanwhile, `truncation` which
//! offsets Kafka has lost, [`filter`] who wants which record, [`waiters`] who is to be woken,
//! and [`announcer`] wakes them;
//! [`counters`] what has happened.
//!
//! It knows the Kafka room's plain types, but not how records are fetched, and it knows nothing of
//! HTTP: a subscription can be driven by anything that has a clock and a waker.
#![forbid(unsafe_code)]

pub mod announcer;
mod arrivals;
mod audience;
pub mod block;
pub mod clock;
pub mod control;
pub mod counters;
mod cursor;
pub mod encode;
mod evicted;
pub mod figures;
pub mod filter;
pub mod filter_index;
mod filter_names;
mod group;
mod hidden;
pub mod history_reads;
pub mod kafka_sse_id;
mod known_deletes;
pub mod live_settings;
pub mod log;
mod looks;
mod lookup;
mod noted;
mod notice;
mod path_index;
pub mod paths;
mod phase;
pub mod pieces;
pub mod position;
mod read_from;
pub mod record_time;
mod replay;
pub mod replay_writer;
mod row;
mod rows;
mod scan;
mod schedule;
mod selection;
mod shared;
pub mod start_position;
mod state;
pub mod subscription;
pub mod table;
mod table_writer;
mod truncation;
pub mod values;
pub mod waiters;
pub mod writer;

pub use shared::{Spawn, Stream};
