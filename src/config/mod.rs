//! The configuration room: files, environment and flags in, checked [`Settings`] out.
//!
//! [`settings`] holds the types and the named defaults, [`mod@load`] the layers and where each value
//! came from, [`mod@check`] the rules between keys, [`security`] those of TLS and SASL, [`units`] durations and sizes as
//! people write them, [`filter`] what a filter may ask for, [`fingerprint`] what stands for a topic in event ids,
//! [`public`] how the daemon looks from outside, [`socket`] who may connect to Unix sockets, [`suggest`] what a wrong name
//! may be meant for, [`list`] lists as people write them, [`mod@diff`] what a reload changes,
//! [`reload_effect`] when a change of each key takes effect, [`memory`] the sum of
//! bounds on memory and its limit, [`available`] the memory of the machine and its control groups.
//! It knows nothing of the other rooms.
#![forbid(unsafe_code)]

pub mod available;
pub mod check;
pub mod diff;
pub mod filter;
pub mod fingerprint;
pub mod list;
pub mod load;
pub mod memory;
pub mod print;
pub mod public;
pub mod reload_effect;
pub mod security;
pub mod settings;
pub mod socket;
pub mod suggest;
pub mod units;

pub use load::{Document, Flags, Loaded, load};
pub use security::{FileName, Mechanism, SaslSettings, TlsSettings};
pub use settings::{
    Client, Format, Heartbeat, HttpSettings, Isolation, KafkaSettings, Lag, Level, LogFormat, LogSettings,
    Settings, Start, StreamSettings, UiSettings, WhenFull,
};
