//! Configuration: files, environment and flags in, validated [`Settings`] out. It uses no other module.
//!
//! - [`settings`], [`stream`]: the types of the sections, and each default as a named constant.
//! - [`mod@load`]: the layers, and the origin of each value; `toml_keys`: where a file writes a key.
//! - [`mod@validate`]: the rules between keys; [`faults`] collects what breaks them.
//! - [`schema_registry`], [`http_tls`]: the keys of the schema registry, and of TLS towards clients.
//! - [`endpoint`], `address`: addresses that are served, and what is spoken there.
//! - [`exposure`]: where the routes for operators are served.
//! - [`security`], [`cors`], [`hosts`], [`proxies`], [`socket`], [`filter`], [`formats`]: the types of keys that need more than a word or a number.
//! - `librdkafka`: which properties librdkafka takes.
//! - [`parameters`]: names of query parameters that have a meaning to streams.
//! - [`path_parameters`]: paths like `/users/{id}`; `bound_filter`: the filters that requests select by their path and claims.
//! - [`auth`], [`claims`], [`static_tokens`]: which clients may read which streams.
//! - [`added_fields`]: what a stream puts into its values.
//! - [`views`], `colors`: what the page shows of a stream.
//! - [`units`], [`list`]: durations, sizes, instants and lists as text.
//! - [`mod@diff`], [`reload_effect`], `effect`: what a reload changes, and when a change of each key takes effect.
//! - `files`: whether the content of files has changed that the settings name.
//! - [`mod@print`]: the effective settings as TOML, and their hash.
//! - [`memory`], [`available`]: the sum of the bounds on memory, its limit, and the memory of the machine.
//! - [`fingerprint`], [`suggest`]: topics in event ids; the known name that is nearest to an unknown one.
#![forbid(unsafe_code)]

pub(crate) mod added_fields;
pub(crate) mod address;
pub mod auth;
pub mod available;
pub(crate) mod bound_filter;
pub mod claims;
mod colors;
pub(crate) mod cors;
pub mod diff;
pub(crate) mod effect;
pub(crate) mod endpoint;
pub(crate) mod exposure;
pub(crate) mod faults;
pub(crate) mod files;
pub mod filter;
pub(crate) mod filter_value;
pub(crate) mod fingerprint;
pub(crate) mod formats;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod hosts;
pub(crate) mod http_tls;
#[cfg(feature = "librdkafka")]
pub(crate) mod librdkafka;
pub(crate) mod list;
pub mod load;
pub mod memory;
pub(crate) mod parameters;
pub mod path_parameters;
pub mod print;
pub(crate) mod projection;
pub(crate) mod proxies;
pub mod reload_effect;
pub(crate) mod schema_registry;
pub(crate) mod security;
pub mod settings;
pub mod socket;
pub(crate) mod static_tokens;
pub mod stream;
pub(crate) mod suggest;
mod toml_keys;
pub mod units;
pub mod validate;
mod validate_auth;
mod validate_formats;
mod validate_http_tls;
mod validate_paths;
mod validate_reshape;
mod validate_schema_registry;
mod validate_security;
pub(crate) mod validate_ui;
mod validate_views;
pub(crate) mod views;
mod words;

pub use added_fields::AddedField;
pub use endpoint::{Endpoint, Scheme};
pub use formats::{AvroJson, DataFormat, Int64, Timestamps, Unwrap};
pub use http_tls::{CertificateSettings, ClientAuth, HttpTlsSettings, TlsVersion};
pub use load::{Document, Flags, Loaded, load};
pub use schema_registry::SchemaRegistrySettings;
pub use security::{FileName, Mechanism, SaslSettings, TlsSettings};
pub use settings::{
    Client, DeliveryDriver, HttpSettings, Isolation, KafkaSettings, Level, LogFormat, LogSettings, Settings,
    UiSettings,
};
pub use stream::{Format, Heartbeat, Lag, Start, StreamSettings, WhenFull};
