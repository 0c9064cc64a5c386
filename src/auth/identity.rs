//! A client, what its right rests on, and why it has none.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderName;

use super::certificate::Authorities;
use super::status::Reason;
use crate::config::auth::CertificateAuthSettings;
use crate::config::claims::Claims;
use crate::config::proxies::Proxy;
use crate::config::static_tokens::TokenHash;
#[cfg(feature = "jwt")]
use crate::jose::algorithm::Algorithm;
#[cfg(feature = "jwt")]
use crate::jose::keys::KeyId;
#[cfg(feature = "jwt")]
use crate::jose::token::Refusal;

/// The headers of proxies that are believed.
#[derive(Debug, PartialEq)]
pub(super) struct ProxyRules {
    /// Claim, header, and whether it has several values.
    pub(super) headers: Vec<(String, HeaderName, bool)>,
    /// Whose. Others of them than those that set a client's headers count as well: a change ends its right.
    pub(super) trusted: Vec<Proxy>,
}

/// The facts on which a client's right depends.
#[derive(Debug)]
pub(crate) struct Basis {
    pub(super) credential: Credential,
    /// The rules for certificates by which its claims were made.
    pub(super) rules: Option<CertificateAuthSettings>,
    /// The CAs that were trusted when its certificate was verified, if it has claims of one.
    pub(super) authorities: Option<Arc<Authorities>>,
}

/// The credential that identifies a client.
#[derive(Debug)]
pub(super) enum Credential {
    /// A signed token, by the key and the algorithm.
    #[cfg(feature = "jwt")]
    Jwt(KeyId, Algorithm),
    /// A static token.
    Token(TokenHash),
    /// The headers of a proxy.
    Proxy(ProxyCredential),
    /// Its certificate alone.
    Certificate,
}

/// The rules by which a proxy was believed.
#[derive(Debug)]
pub(super) struct ProxyCredential(pub(super) Arc<ProxyRules>);

/// A client.
#[derive(Debug)]
pub struct Identity {
    pub(super) claims: Claims,
    pub(super) basis: Basis,
    pub(super) expires: Option<Expiry>,
}

impl Identity {
    /// Its claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// When a token or a certificate ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    /// Seconds since the epoch.
    pub(super) at: u64,
    /// Seconds for which it is accepted beyond that.
    pub(super) leeway: u64,
}

impl Expiry {
    /// When it is accepted no longer, in seconds since the epoch.
    pub(super) const fn end(self) -> u64 {
        self.at.saturating_add(self.leeway)
    }
}

/// Why a client may not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It sends no credential.
    #[error("this stream is for clients that say who they are; send a token")]
    NoToken,
    /// No trusted proxy identifies it.
    #[error(
        "this stream is for clients that a proxy in front of this daemon has authenticated; log in there"
    )]
    NotByProxy,
    /// It sends no credential, and only a certificate would be accepted.
    #[error("this stream is for clients that say who they are; connect with a certificate")]
    NoCertificate,
    /// Its certificate ended while it was connected, or while its session of TLS was resumed.
    #[error("the client's certificate has expired")]
    CertificateExpired,
    /// Its CA was removed since its certificate was verified.
    #[error("the client's certificate must be verified again; open another connection")]
    CertificateUntrusted,
    /// Its token is not acceptable.
    #[cfg(feature = "jwt")]
    #[error("{0}")]
    Invalid(Refusal),
    /// A static token that is not in the list, or a token where no such tokens are accepted.
    #[error("the token is unknown")]
    UnknownToken,
    /// A static token whose time has passed.
    #[error("the token has expired")]
    Expired,
    /// More than one token, or one that is not text.
    #[error("the request has no single token")]
    Ambiguous,
    /// A header of its proxy is repeated, or not text.
    #[error("a header that names the client is repeated or is not text")]
    ProxyHeader,
    /// The stream is not for it.
    #[error("this client may not read this stream")]
    NotAllowed,
    /// The key that the token would be verified with is not known: keys cannot be fetched, or were fetched just now.
    #[error("the key of the token is unknown, and the keys cannot be fetched now; retry later")]
    Unavailable,
}

impl Denied {
    /// The reason in figures.
    pub fn reason(self) -> Reason {
        match self {
            Self::NoToken | Self::NotByProxy | Self::NoCertificate => Reason::NoToken,
            Self::CertificateExpired => Reason::ExpiredCertificate,
            Self::CertificateUntrusted => Reason::UntrustedCertificate,
            #[cfg(feature = "jwt")]
            Self::Invalid(Refusal::Expired) => Reason::ExpiredToken,
            #[cfg(feature = "jwt")]
            Self::Invalid(Refusal::UnknownKey) => Reason::UnknownToken,
            #[cfg(feature = "jwt")]
            Self::Invalid(_) => Reason::InvalidToken,
            Self::Expired => Reason::ExpiredToken,
            Self::UnknownToken => Reason::UnknownToken,
            Self::Ambiguous | Self::ProxyHeader => Reason::InvalidToken,
            Self::NotAllowed => Reason::NotAllowed,
            Self::Unavailable => Reason::Unavailable,
        }
    }

    /// Whether the client has sent no credential.
    pub const fn is_of_nobody(self) -> bool {
        matches!(self, Self::NoToken | Self::NotByProxy | Self::NoCertificate)
    }

    /// Whether another connection may be accepted where this one is not.
    pub const fn is_of_connection(self) -> bool {
        matches!(self, Self::CertificateExpired | Self::CertificateUntrusted)
    }
}

/// The time since the epoch, by the clock that tokens go by.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whole seconds since the epoch, rounded down: a time in seconds is over as soon as it is reached.
pub(super) fn unix_now() -> u64 {
    since_epoch().as_secs()
}

/// The name of a client for a log line: bounded, with control characters escaped.
pub(crate) fn name_for_log(claims: &Claims) -> Cow<'static, str> {
    const MOST: usize = 64;
    let Some(subject) = claims.subject() else {
        return Cow::Borrowed("a client without sub");
    };
    let shown: String = subject.chars().take(MOST).collect();
    Cow::Owned(format!("{shown:?}"))
}
