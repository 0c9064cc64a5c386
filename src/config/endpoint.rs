//! Addresses that the daemon serves, and what is spoken there.

use std::fmt;

use super::settings::HttpSettings;

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP without TLS, where every answer is a redirect to HTTPS.
    Redirect,
}

/// An address of `listen` or `redirect_to_https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address as written.
    pub address: String,
    /// What is spoken there.
    pub scheme: Scheme,
}

impl Endpoint {
    /// An address without TLS.
    pub fn http(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            scheme: Scheme::Http,
        }
    }

    /// The key that names it.
    pub(crate) const fn key(&self) -> &'static str {
        match self.scheme {
            Scheme::Http => "listen in [http]",
            Scheme::Https => "listen in [http.tls]",
            Scheme::Redirect => "redirect_to_https in [http.tls]",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl HttpSettings {
    /// All addresses that are served.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let of = |scheme, addresses: &[String]| -> Vec<Endpoint> {
            let endpoint = |address: &String| Endpoint {
                address: address.clone(),
                scheme,
            };
            addresses.iter().map(endpoint).collect()
        };
        let mut endpoints = of(Scheme::Http, &self.listen);
        if let Some(tls) = &self.tls {
            endpoints.extend(of(Scheme::Https, &tls.listen));
            endpoints.extend(of(Scheme::Redirect, &tls.redirect_to_https));
        }
        endpoints
    }
}
