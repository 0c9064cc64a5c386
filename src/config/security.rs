//! How brokers are known and how they know us: `tls` and `sasl` in `[kafka]`, and the rules between them.
//!
//! Secrets stand in files of their own, so that settings can be printed, compared and logged as they
//! are; here is also how such a file is named and read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::words::words;

/// What the name of a file begins with that systemd hands to the service (`LoadCredential=`).
pub const CREDENTIAL: &str = "credential:";

/// The variable in which systemd names the directory of credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// No certificate chain, password or token is larger; what is may be a mistake, like a device.
const MAX_FILE: u64 = 1 << 20;

/// A file that the configuration names: a path, or `credential:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileName(String);

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FileName {
    /// Where it is.
    ///
    /// # Errors
    /// Where it is a credential and systemd gives none.
    pub fn path(&self) -> Result<PathBuf, String> {
        let Some(name) = self.0.strip_prefix(CREDENTIAL) else {
            return Ok(PathBuf::from(&self.0));
        };
        if name.is_empty() || name.contains('/') {
            return Err(format!(
                "{self} does not name a credential; write \"{CREDENTIAL}NAME\", with the NAME of LoadCredential= in the unit"
            ));
        }
        match std::env::var_os(CREDENTIALS_DIRECTORY) {
            Some(directory) => Ok(PathBuf::from(directory).join(name)),
            None => Err(format!(
                "{self} is known to a service of systemd only: {CREDENTIALS_DIRECTORY} is not set; \
                 add LoadCredential= to the unit, or name a path"
            )),
        }
    }

    /// What it holds.
    ///
    /// # Errors
    /// Where it cannot be read, with its name and why.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        let path = self.path()?;
        let read = || -> io::Result<Vec<u8>> {
            let mut content = Vec::new();
            File::open(&path)?.take(MAX_FILE + 1).read_to_end(&mut content)?;
            Ok(content)
        };
        let content = read().map_err(|error| {
            format!(
                "{}: {error}; correct the path, or its permissions",
                path.display()
            )
        })?;
        if content.len() as u64 > MAX_FILE {
            return Err(format!(
                "{} is larger than {MAX_FILE} bytes; name another file",
                path.display()
            ));
        }
        Ok(content)
    }

    /// The secret it holds, without the newline at its end.
    ///
    /// # Errors
    /// Where it cannot be read, is empty, or holds what is no text. The content is never told.
    pub fn secret(&self) -> Result<String, String> {
        let mut content = self.read()?;
        if content.last() == Some(&b'\n') {
            content.pop();
            if content.last() == Some(&b'\r') {
                content.pop();
            }
        }
        match String::from_utf8(content) {
            Ok(secret) if secret.is_empty() => Err(format!("{self} is empty; write the secret into it")),
            Ok(secret) if !secret.contains('\0') => Ok(secret),
            _ => Err(format!("{self} holds no text (UTF-8); write the secret into it")),
        }
    }
}

words! {
    /// How one makes oneself known by SASL.
    Mechanism {
        /// The password itself.
        Plain = "PLAIN",
        /// Proof of knowing the password (RFC 7677).
        ScramSha256 = "SCRAM-SHA-256",
        /// The same, with the longer hash.
        #[default]
        ScramSha512 = "SCRAM-SHA-512",
        /// A token that somebody else has issued (RFC 7628).
        OauthBearer = "OAUTHBEARER",
    }
}

/// `tls` in `[kafka]`: brokers are spoken to over TLS, whatever it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Certificates of those who may vouch for brokers (PEM); without it the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FileName>,
    /// Our own certificate, and those between it and its CA (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<FileName>,
    /// Its private key (PEM, not encrypted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<FileName>,
}

/// `sasl` in `[kafka]`: as whom brokers know us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaslSettings {
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
    /// The user's name; a token has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<FileName>,
    /// The token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<FileName>,
}
