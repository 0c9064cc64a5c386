//! TLS with OpenSSL: for our own requests, for the `kafka` crate, and to find out why a broker's certificate fails
//! verification, which librdkafka does not report.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{ErrorCode, HandshakeError, SslConnector, SslMethod, SslStream, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Ref, X509VerifyResult};
use parking_lot::Mutex;

use super::auth_error::AuthError;
use super::certificate::{distinguished_name, hosts};
use super::security::Credentials;
use crate::config::TlsSettings;

/// Verification errors for an unknown CA: the issuer, or one above it.
const UNKNOWN_CA: [i32; 4] = [18, 19, 20, 21];

/// Verification errors for a certificate of another host: its name, or its address.
const OTHER_HOST: [i32; 2] = [62, 64];

/// Builds a connector that verifies brokers and presents our certificate according to the settings.
pub(super) fn connector(tls: &TlsSettings) -> Result<SslConnector, String> {
    let own = |error: ErrorStack| error.to_string();
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(own)?;
    if let Some(file) = &tls.ca_file {
        // Replaces the system's CAs.
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
        // By default OpenSSL prompts for a passphrase on the terminal.
        let key = PKey::private_key_from_pem_callback(&key_file.read()?, |_| Ok(0)).map_err(bad)?;
        builder
            .set_private_key(&key)
            .and_then(|()| builder.check_private_key())
            .map_err(|_| format!("{key_file} is not the key of {cert_file}"))?;
    }
    Ok(builder.build())
}

/// Like [`connector`], with an error that names the remedy.
pub(super) fn checked_connector(tls: &TlsSettings) -> Result<SslConnector, AuthError> {
    connector(tls).map_err(|reason| AuthError {
        reason,
        remedy: "correct tls in [kafka]".to_owned(),
    })
}

/// Performs the TLS handshake with `broker` (`host:port`) over `stream`.
pub(super) fn connect(
    credentials: &Credentials,
    broker: &str,
    stream: TcpStream,
) -> io::Result<SslStream<TcpStream>> {
    let tls = credentials.tls().cloned().unwrap_or_default();
    let connector = checked_connector(&tls).map_err(io::Error::other)?;
    let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // OpenSSL does not keep a certificate that fails verification, so the callback examines it.
    let judged = Arc::new(Mutex::new(None));
    let (judge, by, of) = (Arc::clone(&judged), credentials.clone(), host.to_owned());
    let mut session = connector.configure()?;
    session.set_verify_callback(SslVerifyMode::PEER, move |has_passed, context| {
        if !has_passed {
            let auth_error = verdict(context.error(), context.current_cert(), &of, &by);
            *judge.lock() = Some(auth_error);
        }
        has_passed
    });
    session.connect(host, stream).map_err(|error| {
        if let Some(auth_error) = judged.lock().take() {
            return io::Error::other(auth_error);
        }
        match error {
            HandshakeError::SetupFailure(error) => io::Error::other(error),
            HandshakeError::Failure(failed) | HandshakeError::WouldBlock(failed) => {
                let error = failed.into_error();
                let text = error.to_string();
                if error.code() == ErrorCode::SYSCALL && error.io_error().is_none()
                    || text.contains("wrong version number")
                {
                    return io::Error::other(AuthError::no_tls(credentials));
                }
                error.into_io_error().unwrap_or_else(|_| io::Error::other(text))
            }
        }
    })
}

fn verdict(
    verdict: X509VerifyResult,
    certificate: Option<&X509Ref>,
    host: &str,
    credentials: &Credentials,
) -> AuthError {
    let code = verdict.as_raw();
    if UNKNOWN_CA.contains(&code) {
        let issuer = certificate.map(|certificate| distinguished_name(certificate.issuer_name()));
        return AuthError::unknown_ca(&issuer.unwrap_or_default(), credentials);
    }
    if OTHER_HOST.contains(&code) {
        return AuthError::host(host, &hosts(certificate));
    }
    AuthError::certificate(verdict.error_string(), credentials)
}
