//! HTTP: event streams, the page, and the state of the daemon.
//!
//! - The path of a request: [`listener`] binds (with [`unix`]), [`server`] accepts, and passes requests through `base_path`
//!   and `cors` to [`router`], which calls a handler; or `redirect` answers. [`connections`] counts, and holds the shared
//!   state of one connection; `connection_limit` limits those of one address, and [`send_queues`] knows what the kernel holds
//!   for them.
//! - The layers of a connection: `timed_socket` (with `write_timeout`), perhaps [`tls`], and then `socket` for HTTP/1.1, which
//!   ends it by the rules of `head_timeout` and `hangup` and completes `own_errors` of hyper, or `http2`, whose `frames` are
//!   counted (`flood`); both `linger` at the end; `protocol` distinguishes these two
//!   without TLS, and `prefixed` returns what was read for that.
//!   [`tls_status`] counts handshakes, and knows when certificates expire.
//! - [`exposure`] says which routes a listener serves; `page_headers` has the header fields of HTML and the page's files.
//! - Handlers: `event_stream` (`query`, `form` and `parameters` parse its query, `stream_path` finds its stream), which
//!   `ndjson` rewrites, `document`, [`assets`], `about`, `streams`,
//!   [`health`], `metrics`, `not_found`. They answer from [`state`], which includes [`reloads`]; `response` and `error`
//!   build the common parts of responses, `accept` parses a client's preferences.
//! - `access` authenticates a client, and decides whether it may read a stream.
//! - `description`: the API as OpenAPI and AsyncAPI.
//! - `hosts`: the names that the daemon answers to.
//! - [`limits`] enforces limits of streams, `forwarded` finds the client address behind proxies, `over_limit` builds the
//!   response for clients over a limit.
//! - [`self_check`] asks [`health`] for the watchdog.
//!
//! Drives [`Subscription`](crate::stream::subscription::Subscription)s and reads the status of Kafka; must not know
//! records or configuration files. No two of these files import each other.
#![forbid(unsafe_code)]

mod about;
mod accept;
mod access;
pub(crate) mod assets;
mod base_path;
mod connection_limit;
pub mod connections;
mod cors;
mod description;
mod document;
pub mod error;
mod event_stream;
pub mod exposure;
pub mod flood;
mod form;
mod forwarded;
mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hand_over;
mod hangup;
mod head_timeout;
pub mod health;
mod hosts;
mod html;
mod http1;
mod http2;
pub(crate) mod limits;
mod linger;
pub mod listener;
mod metrics;
mod ndjson;
mod not_found;
mod over_limit;
mod own_errors;
mod page_headers;
mod parameters;
mod peer;
mod prefixed;
mod protocol;
mod query;
pub(crate) mod redirect;
pub(crate) mod reloads;
mod response;
pub mod router;
pub(crate) mod self_check;
pub(crate) mod send_queues;
pub mod server;
mod socket;
pub mod state;
mod stream_path;
mod streams;
mod timed_socket;
pub(crate) mod tls;
pub(crate) mod tls_status;
pub(crate) mod unix;
mod write_timeout;
