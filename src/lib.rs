//! kafka-sse-bridge: from Kafka topics to browsers by Server-Sent Events.
//!
//! The map. Records flow one way through the rooms, each of which hands the next a plain type:
//!
//! ```text
//! Kafka ──► kafka (own thread, blocking) ──Feed──► stream (one writer each) ──Bytes──► http ──► EventSource
//! ```
//! - [`kafka`]: reads topics with one of two client libraries and hands on batches.
//! - [`stream`]: encodes records once into frames, keeps them in a log, and lets any number of
//!   cursors read it.
//! - [`http`]: streams, page, health.
//! - [`config`]: files, environment and flags in, checked settings out.
//! - [`daemon`], with `reload`: starts, changes and stops the rooms; the only place that knows all of them.
//! - [`cli`], [`signals`], [`logging`], [`systemd`], [`descriptors`]: the process around it.
//! - [`writers`]: the threads that encode records, so that clients never wait for them.
//! - [`watchdog`], [`supervision`]: tell systemd that all of it turns, and how it is.
//! - `manual`: man pages and completions, for the packages.
//! - [`doctor`]: tries all that the daemon needs, and says what to do.
//! - [`tail`]: the other end, a client of one stream, for support.
//! - [`demo`]: a broker, countries and a top three, to see it all without a Kafka.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod fd_limit;
pub mod http;
pub mod kafka;
pub mod logging;
mod reload;
pub mod signals;
pub mod status_line;
pub mod stream;
pub mod systemd;
pub mod watchdog;
pub mod writers;
