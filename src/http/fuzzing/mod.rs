//! Targets of the fuzzer: what clients send.
//!
//! - `query`: queries and filters
//! - `forwarded`: headers of proxies
//! - `cors`: origins
//! - `head`: heads of requests, through a listener

mod cors;
mod forwarded;
mod head;
mod query;

pub(crate) use cors::origins;
pub(crate) use forwarded::forwarded;
pub(crate) use head::heads;
pub(crate) use query::queries;
