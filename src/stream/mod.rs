//! Records in, finished frames out: one [`Stream`] per configured path.
//!
//! Knows the plain types of [`kafka`](crate::kafka), and neither HTTP nor tasks, timers or clocks: drivers bring those.
//!
//! - [`writer`] encodes each record once ([`encode`]) and appends it to the [`log`] and to the `table` of latest records
//! - [`subscription`]: a reader. `cursor` says what it reads next, `schedule` and `throttle` what is due,
//!   [`start_position`] where it begins, `announcements` what it has lost
//! - [`document`]: the table at one moment, of a `capture`; `shared_pieces`: what readers of a whole table share
//! - [`replay_writer`], [`history_reads`]: records that have left memory, read from Kafka
//! - [`filter`], [`filter_index`], `filters`: which records are for which readers
//! - `audience`, [`waiters`], [`announcer`]: what wakes readers
//! - [`position`]: event ids, of `varint`s; [`control`]: control events; `truncation`: offsets that Kafka has lost
//! - [`access`]: whether a reader may still read
//! - [`live_settings`]: settings that a reload changes; [`counters`], [`figures`]: what happened
#![forbid(unsafe_code)]

pub mod access;
mod announcements;
pub mod announcer;
mod arrivals;
mod audience;
mod block;
mod capture;
pub mod clock;
pub mod control;
pub mod counters;
mod cursor;
pub mod document;
pub mod encode;
mod evicted;
#[cfg(test)]
pub(crate) mod fed;
pub(crate) mod figures;
pub(crate) mod filter;
pub mod filter_index;
mod filter_names;
mod filters;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gauged;
mod group;
mod hidden;
pub mod history_reads;
pub mod id_writer;
pub(crate) mod kafka_sse_id;
mod known_deletes;
pub mod live_settings;
mod log;
mod looks;
mod lookup;
mod lost;
mod members;
pub mod moment;
mod noted;
mod notice;
mod path_index;
mod paths;
mod phase;
mod piece;
pub mod pieces;
pub mod position;
mod read_from;
pub(crate) mod record_time;
mod replay;
pub(crate) mod replay_writer;
mod resume;
mod row;
mod rows;
mod scan;
mod schedule;
mod selection;
mod shared;
mod shared_pieces;
pub mod start_position;
mod state;
pub mod subscription;
mod table;
mod table_writer;
mod throttle;
mod truncation;
mod values;
mod varint;
mod waiters;
pub mod writer;

pub use shared::{Spawn, Stream};
