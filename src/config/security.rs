//! How brokers are known and how they know us: `tls` and `sasl` in `[kafka]`, and the rules between them.
//!
//! Secrets stand in files of their own, so that settings can be printed, compared and logged as they
//! are; here is also how such a file is named and read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::check::Faults;
use super::settings::{Client, KafkaSettings, words};

/// What the name of a file begins with that systemd hands to the service (`LoadCredential=`).
pub const CREDENTIAL: &str = "credential:";

/// The variable in which systemd names the directory of credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// How a certificate begins in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

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

impl KafkaSettings {
    /// Every file that `tls` and `sasl` name, with its key.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &FileName)> {
        let tls = self.tls.iter().flat_map(|tls| {
            [
                ("kafka.tls.ca_file", &tls.ca_file),
                ("kafka.tls.cert_file", &tls.cert_file),
                ("kafka.tls.key_file", &tls.key_file),
            ]
        });
        let sasl = self.sasl.iter().flat_map(|sasl| {
            [
                ("kafka.sasl.password_file", &sasl.password_file),
                ("kafka.sasl.token_file", &sasl.token_file),
            ]
        });
        tls.chain(sasl)
            .filter_map(|(key, file)| Some((key, file.as_ref()?)))
    }
}

pub(super) fn check(kafka: &KafkaSettings, faults: &mut Faults) {
    if let Some(tls) = &kafka.tls {
        check_tls(kafka, tls, faults);
    }
    if let Some(sasl) = &kafka.sasl {
        check_sasl(kafka, sasl, faults);
    }
    for name in kafka.librdkafka.keys() {
        let table = if kafka.tls.is_some() && is_of_tls(name) {
            "tls"
        } else if kafka.sasl.is_some() && is_of_sasl(name) {
            "sasl"
        } else if name == "security.protocol" && (kafka.tls.is_some() || kafka.sasl.is_some()) {
            "tls and sasl"
        } else {
            continue;
        };
        let message = format!("{name:?} is for {table} in [kafka] to set; remove one of them");
        faults.add(format!("kafka.librdkafka.{name:?}"), message);
    }
}

fn is_of_tls(name: &str) -> bool {
    let of = |what: &str| name.strip_prefix(what).is_some_and(|rest| rest.starts_with('.'));
    // How a broker's certificate is looked at, and ciphers, may be said beside.
    of("ssl.ca") || of("ssl.certificate") || of("ssl.key") || of("ssl.keystore")
}

fn is_of_sasl(name: &str) -> bool {
    matches!(
        name,
        "sasl.mechanism" | "sasl.mechanisms" | "sasl.username" | "sasl.password"
    ) || name.starts_with("sasl.oauthbearer.")
}

fn check_tls(kafka: &KafkaSettings, tls: &TlsSettings, faults: &mut Faults) {
    let has_tls = cfg!(feature = "librdkafka") || cfg!(feature = "tls");
    if !has_tls {
        faults.add(
            "kafka.tls",
            "needs OpenSSL, which is not part of this build; install one with the cargo feature librdkafka or tls",
        );
    } else if kafka.client == Client::Kafka && !cfg!(feature = "tls") {
        faults.add(
            "kafka.client",
            "\"kafka\" speaks TLS in a build with the cargo feature tls only; set \"auto\"",
        );
    }
    for (one, other, key, lacking) in [
        (&tls.cert_file, &tls.key_file, "kafka.tls.cert_file", "key_file"),
        (&tls.key_file, &tls.cert_file, "kafka.tls.key_file", "cert_file"),
    ] {
        if one.is_some() && other.is_none() {
            faults.add(
                key,
                format!("has no {lacking} beside it; a certificate and its key go together"),
            );
        }
    }
    for (key, file, marks) in [
        (
            "kafka.tls.ca_file",
            &tls.ca_file,
            &[CERTIFICATE, "-----BEGIN TRUSTED CERTIFICATE-----"][..],
        ),
        ("kafka.tls.cert_file", &tls.cert_file, &[CERTIFICATE]),
        ("kafka.tls.key_file", &tls.key_file, &["PRIVATE KEY-----"]),
    ] {
        let Some(file) = file else { continue };
        match file.read().map(|content| String::from_utf8_lossy(&content).into_owned()) {
            Err(why) => faults.add(key, why),
            Ok(text) if text.contains("ENCRYPTED") && key == "kafka.tls.key_file" => faults.add(
                key,
                format!("{file} is encrypted; decrypt it (openssl pkey), and let the service's group alone read it"),
            ),
            Ok(text) if !marks.iter().any(|mark| text.contains(mark)) => {
                let what = if key == "kafka.tls.key_file" { "private key" } else { "certificate" };
                faults.add(key, format!("{file} holds no {what} in PEM; convert it (openssl x509, openssl pkey)"));
            }
            Ok(_) => {}
        }
    }
}

fn check_sasl(kafka: &KafkaSettings, sasl: &SaslSettings, faults: &mut Faults) {
    if kafka.client == Client::Kafka {
        faults.add(
            "kafka.sasl",
            "needs librdkafka: client = \"kafka\" knows no SASL; set client = \"auto\"",
        );
    } else if !cfg!(feature = "librdkafka") {
        faults.add(
            "kafka.sasl",
            "needs librdkafka, which is not part of this build; install one with the cargo feature librdkafka",
        );
    }
    let Some(mechanism) = sasl.mechanism else {
        faults.add(
            "kafka.sasl.mechanism",
            "is missing; write mechanism = \"SCRAM-SHA-512\", \"SCRAM-SHA-256\", \"PLAIN\" or \"OAUTHBEARER\"",
        );
        return;
    };
    let has_token = mechanism == Mechanism::OauthBearer;
    for (key, is_there, is_wanted) in [
        ("username", sasl.username.is_some(), !has_token),
        ("password_file", sasl.password_file.is_some(), !has_token),
        ("token_file", sasl.token_file.is_some(), has_token),
    ] {
        let key = format!("kafka.sasl.{key}");
        match (is_there, is_wanted) {
            (false, true) => faults.add(key, format!("is missing; mechanism = \"{mechanism}\" needs it")),
            (true, false) => faults.add(
                key,
                format!("has no place beside mechanism = \"{mechanism}\"; remove it"),
            ),
            _ => {}
        }
    }
    if sasl.username.as_deref() == Some("") {
        faults.add("kafka.sasl.username", "is empty; name the user");
    }
    for (key, file) in [
        ("kafka.sasl.password_file", &sasl.password_file),
        ("kafka.sasl.token_file", &sasl.token_file),
    ] {
        if let Some(Err(why)) = file.as_ref().map(FileName::secret) {
            faults.add(key, why);
        }
    }
}
