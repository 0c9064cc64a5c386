//! How we make ourselves known to brokers, and know them: the settings `tls` and `sasl`, with the files
//! they name as these are now.
//!
//! Says it in librdkafka's properties; what the `kafka` crate needs of it is made by `tls`. Knows
//! nothing of connections.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

#[cfg(feature = "tls")]
use super::tls::subject;
use crate::config::{FileName, KafkaSettings, Mechanism, SaslSettings, TlsSettings};

/// Who we are to brokers. Two are equal if they say the same, and their files held the same when each
/// was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    tls: Option<TlsSettings>,
    sasl: Option<SaslSettings>,
    /// What the files held, in a form that tells nothing of it.
    print: Vec<u64>,
}

impl Access {
    /// As these settings say, with the files they name.
    #[must_use]
    pub fn new(settings: &KafkaSettings) -> Self {
        Self {
            tls: settings.tls.clone(),
            sasl: settings.sasl.clone(),
            print: Vec::new(),
        }
        .renewed()
    }

    /// The same, with the files as they are now.
    #[must_use]
    pub fn renewed(&self) -> Self {
        let print = files(self.tls.as_ref(), self.sasl.as_ref())
            .map(print_of)
            .collect();
        Self {
            print,
            ..self.clone()
        }
    }

    /// Whether it has the same names and files as another, with other contents.
    #[must_use]
    pub fn has_other_files(&self, other: &Self) -> bool {
        self.tls == other.tls && self.sasl == other.sasl && self.print != other.print
    }

    /// How brokers are known, where that is over TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSettings> {
        self.tls.as_ref()
    }

    /// As whom brokers know us, if they do by SASL.
    #[must_use]
    pub fn sasl(&self) -> Option<&SaslSettings> {
        self.sasl.as_ref()
    }

    /// Where the token is, if it is one that makes us known.
    #[must_use]
    pub fn token_file(&self) -> Option<&FileName> {
        self.sasl.as_ref()?.token_file.as_ref()
    }

    /// Whom brokers know us as, in their ACLs' words, as far as that can be told from here.
    #[must_use]
    pub fn principal(&self) -> Option<String> {
        let name = match (&self.sasl, &self.tls) {
            (Some(sasl), _) => match &sasl.token_file {
                Some(file) => holder(file)?,
                None => sasl.username.clone()?,
            },
            (None, Some(tls)) => subject(tls)?,
            (None, None) => return None,
        };
        Some(format!("User:{name}"))
    }

    /// librdkafka's properties for it. The password is read; certificates and keys the library reads.
    ///
    /// # Errors
    /// When a file cannot be read, with its name.
    pub fn properties(&self) -> Result<Vec<(&'static str, String)>, String> {
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
            let mechanism = sasl.mechanism.map(Mechanism::as_str);
            properties.extend(mechanism.map(|mechanism| ("sasl.mechanism", mechanism.to_owned())));
            properties.extend(sasl.username.clone().map(|name| ("sasl.username", name)));
            if let Some(file) = &sasl.password_file {
                properties.push(("sasl.password", file.secret()?));
            }
        }
        Ok(properties)
    }
}

/// Nobody reads certificates in such a build.
#[cfg(not(feature = "tls"))]
fn subject(_: &TlsSettings) -> Option<String> {
    None
}

/// Whose token it is, if it says so.
#[cfg(feature = "librdkafka")]
fn holder(file: &FileName) -> Option<String> {
    super::token::Token::read(file).ok()?.subject
}

/// Nobody shows tokens in such a build.
#[cfg(not(feature = "librdkafka"))]
fn holder(_: &FileName) -> Option<String> {
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

/// Differs where the content does, and means nothing outside this process: nobody can try passwords on it.
fn print_of(file: &FileName) -> u64 {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    KEYS.get_or_init(RandomState::new).hash_one(file.read())
}
