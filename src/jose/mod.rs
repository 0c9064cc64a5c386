//! Signed tokens: JSON Web Signatures in compact form (RFC 7515), their keys (RFC 7517) and claims (RFC 7519), with the
//! advice of RFC 8725.
//!
//! [`algorithm`] names the algorithms; [`keys`] parses keys, [`token`] verifies tokens with them. Pure: no clock, no
//! file, no network. Must not know what a claim allows.
//!
//! The cryptography is that of the crate ring, which TLS brings already. The crate jsonwebtoken would bring a second one
//! (aws-lc or the crate rsa), and accepts duplicate members and critical headers.
#![forbid(unsafe_code)]

pub mod algorithm;
#[cfg(feature = "jwt")]
mod der;
#[cfg(all(feature = "jwt", any(test, fuzzing)))]
pub(crate) mod fuzzing;
#[cfg(feature = "jwt")]
pub mod keys;
#[cfg(feature = "jwt")]
mod strict;
#[cfg(feature = "jwt")]
pub mod token;
#[cfg(feature = "jwt")]
mod verify;
