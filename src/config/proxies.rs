//! `trusted_proxies` in `[http]`: the peers whose forwarding headers count.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The entry for every peer of a Unix socket.
const UNIX: &str = "unix";

/// A trusted proxy: an address, a range of addresses, or every peer of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Proxy {
    /// Every peer of a Unix socket.
    Unix,
    /// A range of addresses.
    Range(IpNet),
}

impl Proxy {
    /// Whether the entry covers an address.
    pub(crate) fn covers(&self, address: IpAddr) -> bool {
        matches!(self, Self::Range(range) if range.contains(&address))
    }
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == UNIX {
            return Ok(Self::Unix);
        }
        let range = text
            .parse::<IpNet>()
            // `::ffff:10.0.0.1` means 10.0.0.1.
            .or_else(|_| {
                text.parse::<IpAddr>()
                    .map(|address| address.to_canonical().into())
            });
        range.map(Self::Range).map_err(|_| {
            format!(
                "{text:?} is not an address; write \"10.0.0.1\", \"10.0.0.0/8\", \"fd00::/8\" or \"unix\""
            )
        })
    }
}

impl TryFrom<String> for Proxy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str(UNIX),
            Self::Range(range) if range.prefix_len() == range.max_prefix_len() => range.addr().fmt(f),
            Self::Range(range) => range.fmt(f),
        }
    }
}

impl From<Proxy> for String {
    fn from(proxy: Proxy) -> Self {
        proxy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_address_a_range_or_unix() {
        for text in ["10.0.0.1", "10.0.0.0/8", "fd00::1", "fd00::/8", "unix"] {
            let proxy: Proxy = text.parse().expect(text);
            assert_eq!(proxy.to_string(), text);
        }
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.1:80",
            "localhost",
            "*",
            "unix:/run/x.sock",
        ] {
            let error = text.parse::<Proxy>().expect_err(text);
            assert!(error.contains("is not an address; write"), "{error}");
        }
    }
}
