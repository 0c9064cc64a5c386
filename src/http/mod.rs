//! HTTP: event streams, the page, and the state of the daemon.
//!
//! [`listener`] binds (with [`unix`]), [`server`] accepts, [`connections`] counts; [`write_timeout`], [`head_timeout`] and
//! [`hangup`] end connections; [`front`] handles a request before [`router`] puts the warp filters together; one file per
//! feature answers: [`event_stream`] ([`query`] parses its parameters, `parameters` those of others), [`assets`],
//! [`about`], [`streams`], [`health`], [`metrics`] with [`reloads`]. [`self_check`] asks [`health`] for the watchdog.
//! [`limits`] enforces connection limits, [`forwarded`] finds the client address behind proxies, `over_limit` builds the
//! response for clients over a limit, [`error`] that of every other error. Drives
//! [`Subscription`](crate::stream::subscription::Subscription)s and reads the status of Kafka; must not know records or
//! configuration files.
#![forbid(unsafe_code)]

pub mod about;
pub mod assets;
pub mod connections;
pub mod error;
pub mod event_stream;
pub mod forwarded;
pub mod front;
pub mod hangup;
pub mod head_timeout;
pub mod health;
pub mod limits;
pub mod listener;
mod metrics;
mod not_found;
mod over_limit;
mod parameters;
pub mod peer;
pub mod query;
pub mod reloads;
mod response;
pub mod router;
pub mod self_check;
pub mod server;
pub mod state;
pub mod streams;
pub mod unix;
pub mod write_timeout;
