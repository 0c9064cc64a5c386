//! `[http.admin]`, and `expose` in `[http]`: where the routes for operators are served.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::list::list;
use super::socket::SocketMode;
use super::words::words;

words! {
    /// Routes for operators, as `expose` names them.
    Exposed {
        /// `/health/live` and `/health/ready`.
        #[default]
        Health = "health",
        /// `/about`.
        About = "about",
        /// `/metrics`.
        Metrics = "metrics",
        /// `/streams`.
        Streams = "streams",
        /// `/openapi.json` and `/asyncapi.json`.
        Descriptions = "descriptions",
    }
}

impl Exposed {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Health,
        Self::About,
        Self::Metrics,
        Self::Streams,
        Self::Descriptions,
    ];
}

impl FromStr for Exposed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|route| route.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join("`, `");
            format!("unknown variant `{text}`, expected one of `{known}`")
        })
    }
}

/// `[http.admin]`: listeners of their own for the routes for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// Addresses, written as in `listen` of `[http]`.
    #[serde(deserialize_with = "list")]
    pub listen: Vec<String>,
    /// Permissions of the Unix sockets in `listen`; by default those of the umask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket_mode: Option<SocketMode>,
    /// Group of the Unix sockets in `listen`, by name or number; by default that of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket_group: Option<String>,
}

/// Reads a list that may be absent.
pub(super) fn optional_list<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Exposed>>, D::Error> {
    list(deserializer).map(Some)
}
