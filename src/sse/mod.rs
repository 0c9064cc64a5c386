//! The format of Server-Sent Events, without HTTP and without the daemon's own events.
#![forbid(unsafe_code)]

pub mod parse;
pub mod write;
