//! TLS towards clients, by rustls with the cryptography of the crate ring.
//!
//! ```text
//! [http.tls] ──► certificates (reads files, with `identity`) ──► service ──► handshake ──► socket ──► HTTP
//!                   ▲                                              │
//!                files: have they changed? ◄────────── every few seconds
//! ```
//! - `service`: the configuration in use, the limits of handshakes, and the handshake itself.
//! - `certificates`: makes that configuration from the settings and their files, or names what is wrong with them.
//! - `identity`: the subject of a certificate, and its validity.
//! - `files`: whether files have changed.
//! - `socket`: the connection after its handshake.
//!
//! A build without the cargo feature `rustls` has `absent` instead, and its configuration has no `[http.tls]`.

#[cfg(not(feature = "rustls"))]
mod absent;
#[cfg(feature = "rustls")]
mod certificates;
#[cfg(feature = "rustls")]
mod files;
#[cfg(feature = "rustls")]
mod identity;
#[cfg(feature = "rustls")]
mod service;
#[cfg(feature = "rustls")]
mod socket;

#[cfg(not(feature = "rustls"))]
pub(crate) use absent::{Prepared, Tls};
#[cfg(feature = "rustls")]
pub(crate) use certificates::Prepared;
#[cfg(feature = "rustls")]
pub(crate) use service::Tls;
