//! The HTTP room: streams, the page, and what there is to know about the daemon.
//!
//! [`listener`] binds and accepts (with [`unix`]), [`connections`] counts, [`patience`], [`heads`] and [`hangup`] give up; [`front`]
//! stands before the routes, [`routes`] puts the warp filters together, and one file per feature answers:
//! [`events`] (asked for by [`query`], which knows other parameters by `parameters`), [`page`] (of `content`, from `assets`
//! where a directory is named), [`about`], [`streams`], [`health`], which [`knock`] asks,
//! [`metrics`], which also tells of [`reloads`]; [`problem`] is how errors look. [`limits`] says how many
//! streams may be open, [`forwarded`] for whom a request is, and `overload` turns away who is too much. It
//! drives [`Subscription`](crate::stream::subscription::Subscription)s and reads
//! the Kafka room's status, but knows nothing of records or configuration files.
#![forbid(unsafe_code)]

pub mod about;
mod assets;
pub mod connections;
mod content;
pub mod events;
pub mod forwarded;
pub mod front;
pub mod hangup;
pub mod heads;
pub mod health;
pub mod knock;
pub mod limits;
pub mod listener;
mod metrics;
mod not_found;
mod overload;
pub mod page;
mod parameters;
pub mod patience;
pub mod problem;
pub mod query;
pub mod reloads;
pub mod routes;
pub mod streams;
pub mod unix;
