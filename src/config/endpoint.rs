//! Addresses that the daemon serves, and what is spoken there.

use std::fmt;

use super::settings::HttpSettings;
use super::socket::SocketAccess;

/// The protocol at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP without TLS, where every answer is a redirect to HTTPS.
    Redirect,
    /// HTTP without TLS, with the routes for operators alone.
    Admin,
}

/// An address of a `listen`, or of `redirect_to_https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address as written.
    pub address: String,
    /// The protocol.
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
            Scheme::Admin => "listen in [http.admin]",
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
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
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
        endpoints.extend(of(Scheme::Admin, &self.admin.listen));
        endpoints
    }

    /// Mode and group of the Unix sockets of an endpoint.
    pub(crate) fn socket_access(&self, endpoint: &Endpoint) -> SocketAccess {
        let (mode, group) = match endpoint.scheme {
            // There are no Unix sockets with TLS.
            Scheme::Http | Scheme::Https | Scheme::Redirect => {
                (self.unix_socket_mode, &self.unix_socket_group)
            }
            Scheme::Admin => (self.admin.unix_socket_mode, &self.admin.unix_socket_group),
        };
        SocketAccess {
            mode,
            group: group.clone(),
        }
    }
}
