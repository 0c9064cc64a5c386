//! TLS by OpenSSL: for the questions we ask ourselves, for the `kafka` crate, and for a closer look at
//! certificates, as librdkafka does not say why one does not pass.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{ErrorCode, HandshakeError, SslConnector, SslMethod, SslStream, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509NameRef, X509Ref, X509VerifyResult};
use parking_lot::Mutex;

use super::auth_error::Refusal;
use super::security::Access;
use crate::config::TlsSettings;

/// Verdicts by which a certificate's CA is unknown: itself, or one above it.
const UNKNOWN_CA: [i32; 4] = [18, 19, 20, 21];

/// Verdicts by which a certificate is not for the host: its name, or its address.
const OTHER_HOST: [i32; 2] = [62, 64];

/// Names of a certificate that are shown.
const MAX_NAMES: usize = 8;

/// What knows brokers, and makes us known to them, as these settings say.
///
/// # Errors
/// When a file cannot be read, or does not hold what it should.
pub(super) fn connector(tls: &TlsSettings) -> Result<SslConnector, String> {
    let own = |error: ErrorStack| error.to_string();
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(own)?;
    if let Some(file) = &tls.ca_file {
        // These alone vouch for brokers, not the system's as well.
        let mut store = X509StoreBuilder::new().map_err(own)?;
        let bad = |error: ErrorStack| format!("{file}: {error}");
        for certificate in X509::stack_from_pem(&file.read()?).map_err(bad)? {
            store.add_cert(certificate).map_err(bad)?;
        }
        builder.set_cert_store(store.build());
    }
    if let (Some(cert_file), Some(key_file)) = (&tls.cert_file, &tls.key_file) {
        let bad = |error: ErrorStack| format!("{cert_file}: {error}");
        let mut chain = X509::stack_from_pem(&cert_file.read()?).map_err(bad)?.into_iter();
        let Some(certificate) = chain.next() else {
            return Err(format!("{cert_file} holds no certificate"));
        };
        builder.set_certificate(&certificate).map_err(bad)?;
        for certificate in chain {
            builder.add_extra_chain_cert(certificate).map_err(bad)?;
        }
        let bad = |error: ErrorStack| format!("{key_file}: {error}");
        // Without an answer of ours OpenSSL asks the terminal for a passphrase.
        let key = PKey::private_key_from_pem_callback(&key_file.read()?, |_| Ok(0)).map_err(bad)?;
        builder
            .set_private_key(&key)
            .and_then(|()| builder.check_private_key())
            .map_err(|_| format!("{key_file} is not the key of {cert_file}"))?;
    }
    Ok(builder.build())
}

/// As [`connector`] does, to say what is wrong with the files.
pub(super) fn refusal_of(tls: &TlsSettings) -> Result<SslConnector, Refusal> {
    connector(tls).map_err(|reason| Refusal {
        reason,
        remedy: "correct tls in [kafka]".to_owned(),
    })
}

/// Speaks TLS to `broker` (`host:port`), which `stream` is connected to.
pub(super) fn connect(access: &Access, broker: &str, stream: TcpStream) -> io::Result<SslStream<TcpStream>> {
    let tls = access.tls().cloned().unwrap_or_default();
    let connector = refusal_of(&tls).map_err(io::Error::other)?;
    let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // Where a certificate does not pass it is not kept, so it is looked at meanwhile.
    let judged = Arc::new(Mutex::new(None));
    let (judge, by, of) = (Arc::clone(&judged), access.clone(), host.to_owned());
    let mut session = connector.configure()?;
    session.set_verify_callback(SslVerifyMode::PEER, move |has_passed, context| {
        if !has_passed {
            let refusal = verdict(context.error(), context.current_cert(), &of, &by);
            *judge.lock() = Some(refusal);
        }
        has_passed
    });
    session.connect(host, stream).map_err(|error| {
        if let Some(refusal) = judged.lock().take() {
            return io::Error::other(refusal);
        }
        match error {
            HandshakeError::SetupFailure(error) => io::Error::other(error),
            HandshakeError::Failure(failed) | HandshakeError::WouldBlock(failed) => {
                let error = failed.into_error();
                let text = error.to_string();
                if error.code() == ErrorCode::SYSCALL && error.io_error().is_none()
                    || text.contains("wrong version number")
                {
                    return io::Error::other(Refusal::no_tls(access));
                }
                error.into_io_error().unwrap_or_else(|_| io::Error::other(text))
            }
        }
    })
}

/// Why a certificate does not pass, in words.
fn verdict(verdict: X509VerifyResult, certificate: Option<&X509Ref>, host: &str, access: &Access) -> Refusal {
    let code = verdict.as_raw();
    if UNKNOWN_CA.contains(&code) {
        let issuer = certificate.map(|certificate| name(certificate.issuer_name()));
        return Refusal::unknown_ca(&issuer.unwrap_or_default(), access);
    }
    if OTHER_HOST.contains(&code) {
        return Refusal::host(host, &names(certificate));
    }
    Refusal::certificate(verdict.error_string(), access)
}

/// The hosts that a certificate names.
fn names(certificate: Option<&X509Ref>) -> String {
    let alternatives = certificate.and_then(X509Ref::subject_alt_names);
    let names: Vec<String> = alternatives
        .iter()
        .flatten()
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some(&[a, b, c, d])) => Some(format!("{a}.{b}.{c}.{d}")),
            (None, Some(_)) => Some("an IPv6 address".to_owned()),
            (None, None) => None,
        })
        .take(MAX_NAMES)
        .collect();
    match (names.is_empty(), certificate) {
        (true, Some(certificate)) => name(certificate.subject_name()),
        (true, None) => "others".to_owned(),
        (false, _) => names.join(", "),
    }
}

/// A name as brokers write it: the last part first (RFC 2253).
fn name(name: &X509NameRef) -> String {
    let mut parts: Vec<String> = name
        .entries()
        .filter_map(|entry| {
            let kind = match entry.object().nid() {
                Nid::UNDEF => return None,
                nid => nid.short_name().ok()?,
            };
            Some(format!("{kind}={}", entry.data().to_string().ok()?))
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

/// Whom brokers know by our certificate, unless they have rules of their own for it.
pub(super) fn subject(tls: &TlsSettings) -> Option<String> {
    let certificate = X509::from_pem(&tls.cert_file.as_ref()?.read().ok()?).ok()?;
    Some(name(certificate.subject_name()))
}
