//! The settings of a stream that may change while clients are connected.
//!
//! All other settings ([`StreamSettings`]) are fixed when a stream is built; a change of those builds another stream,
//! to which the clients move. Readers keep a [`LiveSettings`] of their own and compare a counter to see that there is a
//! newer one, so a delivery costs no lock for it.

use std::time::Duration;

use super::filter_index::FilterLimits;
use super::table::Bounds;
use crate::config::auth::Allow;
use crate::config::{Heartbeat, HttpSettings, Lag, StreamSettings};

/// How subscriptions of all streams are paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Pause after which a quiet client gets a comment.
    pub keepalive: Duration,
    /// Reconnect time sent to clients, before jitter.
    pub retry: Duration,
    /// How long a connection may last, before jitter; zero is for ever.
    pub max_lifetime: Duration,
}

impl From<&HttpSettings> for Pace {
    fn from(http: &HttpSettings) -> Self {
        Self {
            keepalive: http.keepalive.0,
            retry: http.retry.0,
            max_lifetime: http.max_lifetime.0,
        }
    }
}

/// The settings that may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSettings {
    /// The settings that all streams share.
    pub pace: Pace,
    /// Pause between heartbeat events, where the stream sends them.
    pub heartbeat: Option<Duration>,
    /// How often a client whose filter matches nothing receives its position.
    pub checkpoint_interval: Duration,
    /// The shortest time between two values of a key; zero is none.
    pub throttle: Duration,
    /// The policy for a client that falls off the log.
    pub lag: Lag,
    /// Bytes of the log.
    pub log_bytes: usize,
    /// Bounds of the table.
    pub bounds: Bounds,
    /// Whether everybody may read.
    pub is_public: bool,
    /// Whether clients may filter.
    pub client_filters: bool,
    /// The limits of their filters.
    pub filter_limits: FilterLimits,
}

impl LiveSettings {
    /// The live_settings that a stream's settings ask for.
    pub fn new(settings: &StreamSettings, pace: Pace) -> Self {
        Self {
            pace,
            heartbeat: (settings.heartbeat == Heartbeat::Event).then_some(settings.heartbeat_interval.0),
            checkpoint_interval: settings.checkpoint_interval.0,
            throttle: settings.throttle.0,
            lag: settings.lag(),
            log_bytes: settings.log_bytes.as_len(),
            bounds: settings.into(),
            is_public: settings.allow.as_ref().is_none_or(Allow::is_public),
            client_filters: settings.client_filters,
            filter_limits: settings.into(),
        }
    }
}
