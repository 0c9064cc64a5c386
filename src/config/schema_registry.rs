//! `[kafka.schema_registry]`: its keys and their defaults.

use http::Uri;
use http::uri::Scheme;
use serde::{Deserialize, Serialize};

use super::list::list;
use super::security::FileName;
use super::units::{Size, Span};

/// Time limit of a request, from connecting to the last byte.
const DEFAULT_TIMEOUT: Span = Span::seconds(10);
/// How long an unknown id is waited for: replicas of a registry follow each other within seconds.
const DEFAULT_UNKNOWN_SCHEMA_TIMEOUT: Span = Span::seconds(30);
/// Memory of compiled schemas: some thousands of usual ones.
const DEFAULT_MAX_CACHE_BYTES: Size = Size::mebibytes(32);

/// `[kafka.schema_registry]`; without `urls` there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchemaRegistrySettings {
    /// Base URLs of the registry; the next one is used when one fails.
    #[serde(deserialize_with = "list")]
    pub urls: Vec<String>,
    /// The user of HTTP's basic authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The file with the user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<FileName>,
    /// The file with a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<FileName>,
    /// Certificates of trusted CAs (PEM); by default those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FileName>,
    /// The client certificate and its intermediate certificates (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<FileName>,
    /// Its private key (PEM, not encrypted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<FileName>,
    /// Time limit of a request.
    pub timeout: Span,
    /// How long an id that the registry does not know is waited for.
    pub unknown_schema_timeout: Span,
    /// Most bytes of compiled schemas that are kept.
    pub max_cache_bytes: Size,
}

impl Default for SchemaRegistrySettings {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            username: None,
            password_file: None,
            token_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            timeout: DEFAULT_TIMEOUT,
            unknown_schema_timeout: DEFAULT_UNKNOWN_SCHEMA_TIMEOUT,
            max_cache_bytes: DEFAULT_MAX_CACHE_BYTES,
        }
    }
}

impl SchemaRegistrySettings {
    /// Whether there is a registry.
    #[must_use]
    pub(crate) fn is_configured(&self) -> bool {
        !self.urls.is_empty()
    }

    /// Whether a URL needs TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.urls.iter().any(|url| is_https(url))
    }

    /// The files that are named, with their keys.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &FileName)> {
        let files = [
            ("kafka.schema_registry.password_file", &self.password_file),
            ("kafka.schema_registry.token_file", &self.token_file),
            ("kafka.schema_registry.ca_file", &self.ca_file),
            ("kafka.schema_registry.cert_file", &self.cert_file),
            ("kafka.schema_registry.key_file", &self.key_file),
        ];
        files
            .into_iter()
            .filter_map(|(key, file)| Some((key, file.as_ref()?)))
    }
}

fn is_https(url: &str) -> bool {
    url.parse::<Uri>()
        .is_ok_and(|url| url.scheme() == Some(&Scheme::HTTPS))
}
