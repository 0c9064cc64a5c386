//! The format of Server-Sent Events, without HTTP.
//!
//! - [`mod@write`]: the fields of an event
//! - [`split`]: finished bytes into their events
//! - [`parse`]: a stream of bytes into events
//! - [`control`]: the names of the daemon's control events
#![forbid(unsafe_code)]

pub mod control;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod parse;
pub(crate) mod split;
pub(crate) mod words;
pub mod write;
