//! TLS to the servers of HTTP that the daemon asks, by rustls with the cryptography of the crate ring; a build without
//! the cargo feature `rustls` has connections without TLS only, and its configuration has no URL of https.
#![forbid(unsafe_code)]

use hyper_util::client::legacy::connect::HttpConnector;

use crate::config::FileName;
use crate::logging::printable;

/// The files that TLS needs, with their content.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Files {
    ca: Option<(String, Vec<u8>)>,
    certificate: Option<(String, Vec<u8>)>,
    key: Option<(String, Vec<u8>)>,
}

impl Files {
    /// Reads the certificates of trusted CAs, and a client certificate with its key.
    ///
    /// # Errors
    /// Names a file that cannot be read.
    pub(crate) fn read(
        ca: Option<&FileName>,
        certificate: Option<&FileName>,
        key: Option<&FileName>,
    ) -> Result<Self, String> {
        let read = |file: Option<&FileName>| -> Result<_, String> {
            let read = |file: &FileName| Ok::<_, String>((file.to_string(), file.read()?));
            file.map(read).transpose()
        };
        Ok(Self {
            ca: read(ca)?,
            certificate: read(certificate)?,
            key: read(key)?,
        })
    }
}

/// The errors behind an error of hyper's client, which says nothing itself.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        let text = printable(&error.to_string());
        // Some repeat the error behind them.
        if causes.last().is_none_or(|last| !last.contains(&text)) {
            causes.push(text);
        }
        next = error.source();
    }
    if causes.is_empty() {
        return printable(&error.to_string());
    }
    causes.join(": ")
}

#[cfg(not(feature = "rustls"))]
pub(crate) type Connector = HttpConnector;

#[cfg(not(feature = "rustls"))]
#[expect(clippy::unnecessary_wraps, reason = "with rustls it can fail")]
pub(crate) fn connector(http: HttpConnector, _: &Files, _: bool) -> Result<Connector, String> {
    Ok(http)
}

#[cfg(feature = "rustls")]
pub(crate) type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

/// Connects with TLS where a URL is one of https. Blocks while it reads the system's certificates, if `has_tls`.
///
/// # Errors
/// Names a file whose content cannot be used.
#[cfg(feature = "rustls")]
pub(crate) fn connector(mut http: HttpConnector, files: &Files, has_tls: bool) -> Result<Connector, String> {
    http.enforce_http(false);
    let config = if has_tls {
        client_config(files)?
    } else {
        builder()?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
    };
    Ok(hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http))
}

#[cfg(feature = "rustls")]
type Builder = rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>;

#[cfg(feature = "rustls")]
fn builder() -> Result<Builder, String> {
    let provider = rustls::crypto::ring::default_provider();
    rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

/// Trusts the certificates of the files, or those of the system, and has the client certificate of the files. Blocks while
/// it reads those of the system.
///
/// # Errors
/// Names a file whose content cannot be used.
#[cfg(feature = "rustls")]
pub(crate) fn client_config(files: &Files) -> Result<rustls::ClientConfig, String> {
    use rustls::RootCertStore;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let certificates = |(name, pem): &(String, Vec<u8>)| -> Result<Vec<_>, String> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let all = all.map_err(|error| format!("{name} holds no certificate in PEM: {error}"))?;
        if all.is_empty() {
            return Err(format!("{name} holds no certificate in PEM"));
        }
        Ok(all)
    };
    let mut roots = RootCertStore::empty();
    if let Some(ca) = &files.ca {
        for certificate in certificates(ca)? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("{} holds a certificate that cannot be used: {error}", ca.0))?;
        }
    } else {
        // The system's own may contain a few that cannot be used.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let config = builder()?.with_root_certificates(roots);
    let (Some(certificate), Some((name, key))) = (&files.certificate, &files.key) else {
        return Ok(config.with_no_client_auth());
    };
    // The error of a key never contains it.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| format!("{name} holds no private key in PEM that is not encrypted"))?;
    config
        .with_client_auth_cert(certificates(certificate)?, key)
        .map_err(|error| {
            format!(
                "{name} is not the key of the certificate in {}: {error}",
                certificate.0
            )
        })
}
