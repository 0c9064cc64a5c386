//! `[auth]` and a stream's `allow`: authentication of clients, and the rules on what they may read.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::claims::Claims;
use super::list::list;
use super::security::FileName;
use super::units::Span;
use super::words::words;
use crate::jose::algorithm::Algorithm;

/// How long before the end of its token a client is warned.
const DEFAULT_WARN_BEFORE: Span = Span::seconds(60);
/// By how much the clock of an issuer may differ.
const DEFAULT_LEEWAY: Span = Span::seconds(30);
/// Interval of fetching keys.
const DEFAULT_JWKS_REFRESH: Span = Span::seconds(5 * 60);
/// Shortest pause between two fetches for tokens that are signed by unknown keys.
const DEFAULT_JWKS_MIN_INTERVAL: Span = Span::seconds(10);
/// Time limit of a fetch: clients wait for it.
const DEFAULT_JWKS_TIMEOUT: Span = Span::seconds(5);

/// `[auth]`: how clients authenticate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// How long before the end of its token a client gets `reauthenticate`; 0 is never.
    pub warn_before: Span,
    /// A cookie that may hold the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// A query parameter that may hold the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_parameter: Option<String>,
    /// Signed tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSettings>,
    /// Static tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenSettings>,
    /// Headers of proxies that have authenticated the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySettings>,
    /// Certificates of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateAuthSettings>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            warn_before: DEFAULT_WARN_BEFORE,
            cookie: None,
            query_parameter: None,
            jwt: None,
            tokens: None,
            proxy: None,
            certificate: None,
        }
    }
}

impl AuthSettings {
    /// Whether clients can authenticate.
    pub(crate) fn is_configured(&self) -> bool {
        self.takes_tokens() || self.proxy.is_some() || self.certificate.is_some()
    }

    /// Whether clients can send tokens.
    pub(crate) fn takes_tokens(&self) -> bool {
        self.jwt.is_some() || self.tokens.is_some()
    }
}

/// `[auth.jwt]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtSettings {
    /// The algorithms that are accepted.
    #[serde(deserialize_with = "list")]
    pub algorithms: Vec<Algorithm>,
    /// The file with the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<FileName>,
    /// The URL of a JWKS with the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Certificates of CAs that are trusted for that URL (PEM); by default those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_ca_file: Option<FileName>,
    /// Interval of fetching keys.
    pub jwks_refresh: Span,
    /// Shortest pause between two fetches for tokens that are signed by unknown keys.
    pub jwks_min_interval: Span,
    /// Time limit of a fetch.
    pub jwks_timeout: Span,
    /// Values of `iss` that are accepted; any, if not given.
    #[serde(deserialize_with = "list")]
    pub issuer: Vec<String>,
    /// Values of `aud` that are accepted; without any, only tokens without `aud` are.
    #[serde(deserialize_with = "list")]
    pub audience: Vec<String>,
    /// By how much the clock of the issuer may differ.
    pub leeway: Span,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            algorithms: Vec::new(),
            key_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_refresh: DEFAULT_JWKS_REFRESH,
            jwks_min_interval: DEFAULT_JWKS_MIN_INTERVAL,
            jwks_timeout: DEFAULT_JWKS_TIMEOUT,
            issuer: Vec::new(),
            audience: Vec::new(),
            leeway: DEFAULT_LEEWAY,
        }
    }
}

/// `[auth.tokens]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenSettings {
    /// The file with the hashes of the tokens, and their claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileName>,
}

/// `[auth.proxy]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySettings {
    /// The header of each claim; a client is authenticated where that of `sub` is there.
    pub headers: BTreeMap<String, String>,
    /// Claims whose headers hold several values, with commas between.
    #[serde(deserialize_with = "list")]
    pub lists: Vec<String>,
}

words! {
    /// The name in a certificate that a client without a token has as `sub`.
    SubjectOf {
        /// The whole subject, as `CN=alice,O=Example`.
        #[default]
        Subject = "subject",
        /// Its common name.
        CommonName = "subject_cn",
        /// The host name among the alternative names.
        Dns = "dns",
        /// The address of mail among them.
        Email = "email",
        /// The URI among them.
        Uri = "uri",
    }
}

/// `[auth.certificate]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateAuthSettings {
    /// The name that is `sub` where no token has one.
    pub sub: SubjectOf,
}

/// The clients that may read a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Everybody.
    Public,
    /// Every client that authenticates.
    Authenticated,
    /// Clients that have one of these values of each of these claims.
    Claims(BTreeMap<String, Vec<String>>),
}

/// The word for everybody.
const PUBLIC: &str = "public";
/// The word for every client that is known.
const AUTHENTICATED: &str = "authenticated";

impl Allow {
    /// Whether everybody may read it.
    pub(crate) fn is_public(&self) -> bool {
        *self == Self::Public
    }

    /// Whether a client with these claims may read it.
    pub fn admits(&self, claims: &Claims) -> bool {
        match self {
            Self::Public | Self::Authenticated => true,
            Self::Claims(wanted) => wanted.iter().all(|(name, wanted)| {
                let mut values = claims.values(name);
                values.any(|value| wanted.iter().any(|wanted| *wanted == value))
            }),
        }
    }
}

impl Serialize for Allow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Public => serializer.serialize_str(PUBLIC),
            Self::Authenticated => serializer.serialize_str(AUTHENTICATED),
            Self::Claims(claims) => claims.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AllowVisitor)
    }
}

struct AllowVisitor;

impl<'de> Visitor<'de> for AllowVisitor {
    type Value = Allow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{PUBLIC}\", \"{AUTHENTICATED}\", or claims like {{ role = [\"admin\"] }}"
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Allow, E> {
        match text {
            PUBLIC => Ok(Allow::Public),
            AUTHENTICATED => Ok(Allow::Authenticated),
            other => Err(E::unknown_variant(other, &[PUBLIC, AUTHENTICATED])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Allow, A::Error> {
        Deserialize::deserialize(de::value::MapAccessDeserializer::new(map)).map(Allow::Claims)
    }
}
