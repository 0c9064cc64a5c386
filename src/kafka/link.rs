//! How the connections to brokers are, as the client library says of itself once in a while. Nothing is
//! asked for that, and nothing is decided by it: it is shown.

use std::time::Duration;

/// The connection to one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// `host:port` as the cluster names it.
    pub broker: String,
    /// Whether requests can be sent now.
    pub is_up: bool,
    /// How long answers took on average in the last seconds, waits for records included; `None` where
    /// there was none.
    pub round_trip: Option<Duration>,
}
