//! `tls` and `sasl` in `[kafka]`, and the files that they name.
//!
//! Secrets are in files of their own, so that settings can be printed, compared and logged.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::words::words;

/// The prefix of a file name that is a systemd credential (`LoadCredential=`).
const CREDENTIAL: &str = "credential:";

/// The variable in which systemd names the directory of credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Most bytes of a file: no certificate chain, password or token is larger, but a device may be.
const MAX_FILE: u64 = 1 << 20;

/// A file that the configuration names: a path, or `credential:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileName(String);

impl From<String> for FileName {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FileName {
    pub(crate) fn path(&self) -> Result<PathBuf, String> {
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

    pub(crate) fn read(&self) -> Result<Vec<u8>, String> {
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

    /// The content as a secret, without the newline at its end. Errors never contain the content.
    pub(crate) fn secret(&self) -> Result<String, String> {
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
    /// SASL mechanisms.
    Mechanism {
        /// Sends the password.
        Plain = "PLAIN",
        /// Proves knowledge of the password (RFC 7677).
        ScramSha256 = "SCRAM-SHA-256",
        /// As SCRAM-SHA-256, with a longer hash.
        #[default]
        ScramSha512 = "SCRAM-SHA-512",
        /// Sends a token of an identity provider (RFC 7628).
        OauthBearer = "OAUTHBEARER",
    }
}

/// `tls` in `[kafka]`: connects to brokers over TLS, even if the table is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Certificates of trusted CAs (PEM); by default those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FileName>,
    /// The client certificate and its intermediate certificates (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<FileName>,
    /// Its private key (PEM, not encrypted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<FileName>,
}

/// `sasl` in `[kafka]`: how the daemon authenticates to brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaslSettings {
    /// The mechanism; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
    /// The user name; not with a token, which contains one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The file with the user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<FileName>,
    /// The file with the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<FileName>,
}
