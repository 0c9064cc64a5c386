//! The rules for `tls` and `sasl` in `[kafka]`.

use super::faults::Faults;
use super::security::{FileName, Mechanism, SaslSettings, TlsSettings};
use super::settings::{Client, KafkaSettings};

/// The first line of a certificate in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

pub(super) fn validate(kafka: &KafkaSettings, faults: &mut Faults) {
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
    // Properties of verification and ciphers may be set in addition.
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
    check_pair("kafka.tls", tls.cert_file.as_ref(), tls.key_file.as_ref(), faults);
    for (key, file, pem) in [
        ("kafka.tls.ca_file", &tls.ca_file, Pem::TrustedCertificate),
        ("kafka.tls.cert_file", &tls.cert_file, Pem::Certificate),
        ("kafka.tls.key_file", &tls.key_file, Pem::PrivateKey),
    ] {
        check_pem(key, file.as_ref(), pem, faults);
    }
}

/// A client certificate needs its key, and a key its certificate.
pub(super) fn check_pair(
    section: &str,
    cert_file: Option<&FileName>,
    key_file: Option<&FileName>,
    faults: &mut Faults,
) {
    for (one, other, key, lacking) in [
        (cert_file, key_file, "cert_file", "key_file"),
        (key_file, cert_file, "key_file", "cert_file"),
    ] {
        if one.is_some() && other.is_none() {
            faults.add(
                format!("{section}.{key}"),
                format!("needs {lacking}; set both a certificate and its key"),
            );
        }
    }
}

/// The content of a file in PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pem {
    Certificate,
    /// A certificate, perhaps in OpenSSL's own form with its trust.
    TrustedCertificate,
    PrivateKey,
}

/// Checks that a file can be read, and holds what it should.
pub(super) fn check_pem(key: &str, file: Option<&FileName>, pem: Pem, faults: &mut Faults) {
    let Some(file) = file else { return };
    let (what, marks) = match pem {
        Pem::Certificate => ("certificate", &[CERTIFICATE][..]),
        Pem::TrustedCertificate => (
            "certificate",
            &[CERTIFICATE, "-----BEGIN TRUSTED CERTIFICATE-----"][..],
        ),
        Pem::PrivateKey => ("private key", &["PRIVATE KEY-----"][..]),
    };
    match file
        .read()
        .map(|content| String::from_utf8_lossy(&content).into_owned())
    {
        Err(why) => faults.add(key, why),
        Ok(text) if text.contains("ENCRYPTED") && pem == Pem::PrivateKey => faults.add(
            key,
            format!(
                "{file} is encrypted; decrypt it (openssl pkey), and let the service's group alone read it"
            ),
        ),
        Ok(text) if !marks.iter().any(|mark| text.contains(mark)) => faults.add(
            key,
            format!("{file} holds no {what} in PEM; convert it (openssl x509, openssl pkey)"),
        ),
        Ok(_) => {}
    }
}

/// Checks that a file holds a secret.
pub(super) fn check_secret(key: &str, file: Option<&FileName>, faults: &mut Faults) {
    if let Some(Err(why)) = file.map(FileName::secret) {
        faults.add(key, why);
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
                format!("cannot be set with mechanism = \"{mechanism}\"; remove it"),
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
        check_secret(key, file.as_ref(), faults);
    }
}
