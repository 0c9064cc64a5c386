//! kafka-sse-bridge serves records of Kafka topics to browsers as Server-Sent Events.
//!
//! ```text
//! Kafka ──► kafka (own thread, blocking) ──Feed──► stream (one writer each) ──Bytes──► http ──► EventSource
//! ```
//! Modules, in the order in which they may import each other:
//!
//! - [`jose`]: verifies signed tokens.
//! - [`config`]: reads files, environment and flags into validated settings.
//! - [`logging`]: writes log lines; [`signals`], [`systemd`], [`fd_limit`]: the process and its surroundings.
//! - `https`: connects to servers with TLS.
//! - [`sse`]: the format of Server-Sent Events.
//! - [`kafka`]: reads topics with one of two client libraries, and hands on batches of records.
//! - [`json_schema`]: schemas of what is shown, for descriptions of the API.
//! - [`reshape`]: unwraps change events, and leaves out members that nobody may see.
//! - [`decode`]: decodes keys and values to JSON, and has them reshaped.
//! - [`schema_registry`]: fetches schemas, once per id, and keeps them.
//! - [`stream`]: encodes records once into frames, keeps them in a log, and lets any number of cursors read it.
//! - [`delivery`]: writes event streams to sockets, on threads of its own.
//! - [`auth`]: authenticates clients, and decides what they may read.
//! - [`writers`]: the threads that encode, apart from those that serve clients.
//! - [`http`]: serves event streams, the page, figures and health.
//! - [`watchdog`], [`status_line`]: report to systemd whether the daemon lives, and how it is.
//! - [`daemon`]: starts and stops all of these; `reload` applies changed settings to them.
//! - [`cli`]: the command line, with a module for each command.
//! - `fuzzing`: the targets of the fuzzer, in builds for tests alone.
//!
//! docs/architecture.md explains threads, queues, locks and the way of a record.

mod auth;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod decode;
pub mod delivery;
pub mod fd_limit;
#[cfg(all(
    any(test, fuzzing),
    feature = "librdkafka",
    feature = "jwt",
    feature = "avro",
    feature = "protobuf"
))]
pub mod fuzzing;
pub mod http;
mod https;
pub mod jose;
mod json_schema;
pub mod kafka;
pub mod logging;
mod reload;
pub mod reshape;
pub mod schema_registry;
mod signals;
pub mod sse;
mod status_line;
pub mod stream;
mod systemd;
pub mod watchdog;
pub mod writers;
