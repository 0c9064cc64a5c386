//! TLS and SASL: the settings `tls` and `sasl`, with fingerprints of the files that they name.
//!
//! Translates them into librdkafka's properties; `tls` does so for the `kafka` crate. Knows nothing of connections.

#[cfg(feature = "tls")]
use super::certificate::subject;
use crate::config::{FileName, KafkaSettings, SaslSettings, TlsSettings};

/// How to authenticate brokers, and ourselves to them. Two are equal if their settings are equal and their files had
/// the same content when each was created.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    tls: Option<TlsSettings>,
    sasl: Option<SaslSettings>,
    /// Keyed hashes of the files' content.
    fingerprints: Vec<u64>,
}

impl Credentials {
    /// Reads the files that the settings name.
    pub fn new(settings: &KafkaSettings) -> Self {
        Self {
            tls: settings.tls.clone(),
            sasl: settings.sasl.clone(),
            fingerprints: Vec::new(),
        }
        .reloaded()
    }

    /// The same settings, with the present content of the files.
    #[must_use]
    pub(crate) fn reloaded(&self) -> Self {
        let fingerprints = files(self.tls.as_ref(), self.sasl.as_ref())
            .map(FileName::content_hash)
            .collect();
        Self {
            fingerprints,
            ..self.clone()
        }
    }

    /// Whether the settings are the same and the content of a file differs.
    #[cfg(feature = "librdkafka")]
    pub(crate) fn is_rotation_of(&self, other: &Self) -> bool {
        self.tls == other.tls && self.sasl == other.sasl && self.fingerprints != other.fingerprints
    }

    pub(crate) fn tls(&self) -> Option<&TlsSettings> {
        self.tls.as_ref()
    }

    pub(crate) fn sasl(&self) -> Option<&SaslSettings> {
        self.sasl.as_ref()
    }

    #[cfg(feature = "librdkafka")]
    pub(crate) fn token_file(&self) -> Option<&FileName> {
        self.sasl.as_ref()?.token_file.as_ref()
    }

    /// Our principal in brokers' ACLs, as far as it follows from the settings.
    pub(crate) fn principal(&self) -> Option<String> {
        let name = match (&self.sasl, &self.tls) {
            (Some(sasl), _) => match &sasl.token_file {
                Some(file) => token_subject(file)?,
                None => sasl.username.clone()?,
            },
            (None, Some(tls)) => subject(tls)?,
            (None, None) => return None,
        };
        Some(format!("User:{name}"))
    }

    /// librdkafka's properties. Reads the password file; the library reads certificates and keys.
    #[cfg(feature = "librdkafka")]
    pub(crate) fn properties(&self) -> Result<Vec<(&'static str, String)>, String> {
        let mut properties = Vec::new();
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => return Ok(properties),
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        properties.push(("security.protocol", protocol.to_owned()));
        if let Some(tls) = &self.tls {
            for (name, file) in [
                ("ssl.ca.location", &tls.ca_file),
                ("ssl.certificate.location", &tls.cert_file),
                ("ssl.key.location", &tls.key_file),
            ] {
                if let Some(file) = file {
                    properties.push((name, file.path()?.display().to_string()));
                }
            }
        }
        if let Some(sasl) = &self.sasl {
            let mechanism = sasl.mechanism.map(crate::config::Mechanism::as_str);
            properties.extend(mechanism.map(|mechanism| ("sasl.mechanism", mechanism.to_owned())));
            properties.extend(sasl.username.clone().map(|name| ("sasl.username", name)));
            if let Some(file) = &sasl.password_file {
                properties.push(("sasl.password", file.secret()?));
            }
        }
        Ok(properties)
    }
}

#[cfg(not(feature = "tls"))]
fn subject(_: &TlsSettings) -> Option<String> {
    None
}

#[cfg(feature = "librdkafka")]
fn token_subject(file: &FileName) -> Option<String> {
    super::token::Token::read(file).ok()?.subject
}

#[cfg(not(feature = "librdkafka"))]
fn token_subject(_: &FileName) -> Option<String> {
    None
}

fn files<'a>(
    tls: Option<&'a TlsSettings>,
    sasl: Option<&'a SaslSettings>,
) -> impl Iterator<Item = &'a FileName> {
    let tls = tls
        .into_iter()
        .flat_map(|tls| [&tls.ca_file, &tls.cert_file, &tls.key_file]);
    let sasl = sasl
        .into_iter()
        .flat_map(|sasl| [&sasl.password_file, &sasl.token_file]);
    tls.chain(sasl).flatten()
}
