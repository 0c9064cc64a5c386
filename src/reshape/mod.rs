//! Changes JSON values on their way to clients: unwraps change events, and leaves out what nobody may see.
//!
//! Pure: text in, text out. Runs once per record, before filters, frames, tables and logs, so what is left out here is
//! nowhere behind it.
//!
//! - [`debezium`]: the change events of Debezium's connectors
//! - [`projection`]: leaves out members
//! - `reshaper`: both, for the records of a stream
//! - [`describe`]: the same for the schemas of values
#![forbid(unsafe_code)]

pub(crate) mod debezium;
pub(crate) mod describe;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod projection;
mod reshaper;

pub(crate) use reshaper::clear;
pub use reshaper::{Reshaped, Reshaper};
