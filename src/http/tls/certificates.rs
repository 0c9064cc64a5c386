//! Makes the configuration of TLS from `[http.tls]` and the files that it names.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::files::Stamp;
use super::identity::Identity;
use crate::auth::certificate::Authorities;
use crate::config::proxies::Proxy;
use crate::config::{CertificateSettings, ClientAuth, FileName, HttpSettings, HttpTlsSettings, TlsVersion};
use crate::http::tls_status::CertificateFigures;

/// A configuration of TLS that can be used, with the settings that it was made from.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Without a ticketer, which outlives it.
    pub(super) config: ServerConfig,
    pub(super) certificates: Vec<CertificateFigures>,
    /// That clients' certificates are verified by.
    pub(super) authorities: Arc<Authorities>,
    /// The state of the files before they were read.
    pub(super) stamp: Stamp,
    pub(super) settings: HttpTlsSettings,
    pub(super) trusted_proxies: Vec<Proxy>,
}

impl Prepared {
    /// Reads the files of `[http.tls]`; `None` without that section. Blocks.
    ///
    /// # Errors
    /// Names a file whose content cannot be used.
    pub(crate) fn read(http: &HttpSettings) -> Result<Option<Self>, String> {
        let tls = http.tls.as_ref();
        tls.map(|tls| Self::of(tls, &http.trusted_proxies)).transpose()
    }

    pub(super) fn of(settings: &HttpTlsSettings, trusted_proxies: &[Proxy]) -> Result<Self, String> {
        let stamp = Stamp::of(settings.files());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut shown = Certificates::default();
        let mut figures = Vec::new();
        for pair in &settings.certificates {
            let (key, identity) = read_pair(pair, &provider)?;
            let names = names(pair, &identity);
            if names.is_empty() && !shown.keys.is_empty() {
                return Err(format!(
                    "{} names no host, so that it would never be shown; write names = [\"www.example.org\"] beside it",
                    pair.cert_file
                ));
            }
            let number = shown.keys.len();
            shown.keys.push(Arc::new(key));
            shown
                .names
                .extend(names.iter().map(|name| (name.clone(), number)));
            figures.push(CertificateFigures {
                file: pair.cert_file.to_string(),
                names,
                not_after: identity.not_after,
            });
        }
        let authorities = settings.client_ca_file.as_ref().map(certificates);
        let roots = authorities.transpose()?.unwrap_or_default();
        let authorities = Arc::new(Authorities::new(roots.iter().map(|one| one.to_vec())));
        let versions: &[_] = match settings.min_version {
            TlsVersion::V1_2 => &[&TLS13, &TLS12],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = if settings.client_auth == ClientAuth::None {
            builder.with_no_client_auth()
        } else {
            let mut store = RootCertStore::empty();
            for root in roots {
                let added = store.add(root);
                added.map_err(|error| cannot_be_used(settings.client_ca_file.as_ref(), &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(store.into(), provider);
            let verifier = if settings.client_auth == ClientAuth::Request {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier
                .build()
                .map_err(|error| cannot_be_used(settings.client_ca_file.as_ref(), &error))?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder.with_cert_resolver(Arc::new(shown));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Sessions are resumed by tickets, which hold their state, so that no memory is needed for them here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config,
            certificates: figures,
            authorities,
            stamp,
            settings: settings.clone(),
            trusted_proxies: trusted_proxies.to_vec(),
        })
    }

    /// The certificates, in their order.
    pub(crate) fn certificates(&self) -> &[CertificateFigures] {
        &self.certificates
    }

    /// The certificates of the CAs that sign those of clients, each with its subject as its name.
    pub(crate) fn authorities(&self) -> Vec<CertificateFigures> {
        let file = self.settings.client_ca_file.as_ref();
        let authorities = self.authorities.iter();
        let identities = authorities.filter_map(|authority| Identity::parse(authority).ok());
        identities
            .map(|identity| CertificateFigures {
                file: file.map(ToString::to_string).unwrap_or_default(),
                names: vec![identity.names.subject],
                not_after: identity.not_after,
            })
            .collect()
    }
}

fn cannot_be_used(file: Option<&FileName>, error: &dyn std::fmt::Display) -> String {
    let file = file.map(ToString::to_string).unwrap_or_default();
    format!("{file} holds a certificate that cannot be used: {error}")
}

/// The names that a certificate is shown for, in lower case.
fn names(pair: &CertificateSettings, identity: &Identity) -> Vec<String> {
    let names = if pair.names.is_empty() {
        &identity.names.dns_names
    } else {
        &pair.names
    };
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// All certificates of a file in PEM, at least one.
fn certificates(file: &FileName) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = file.read()?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| format!("{file} holds no certificate in PEM: {error}"))?;
    if all.is_empty() {
        return Err(format!("{file} holds no certificate in PEM"));
    }
    Ok(all)
}

fn read_pair(
    pair: &CertificateSettings,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<(CertifiedKey, Identity), String> {
    let chain = certificates(&pair.cert_file)?;
    let identity = Identity::parse(&chain[0]).map_err(|error| {
        format!(
            "{} holds a certificate that cannot be used: {error}",
            pair.cert_file
        )
    })?;
    // The error of a key never contains it.
    let key = PrivateKeyDer::from_pem_slice(&pair.key_file.read()?).map_err(|_| {
        format!(
            "{} holds no private key in PEM that is not encrypted",
            pair.key_file
        )
    })?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        format!(
            "{} is not the key of the certificate in {}: {error}; write both files anew",
            pair.key_file, pair.cert_file
        )
    })?;
    Ok((key, identity))
}

/// The certificates by the names that clients ask for.
#[derive(Debug, Default)]
struct Certificates {
    keys: Vec<Arc<CertifiedKey>>,
    /// Names in lower case, perhaps with a wildcard as their first label, and the number of their key.
    names: Vec<(String, usize)>,
}

impl Certificates {
    /// The numbers of the keys for a name: first those of the very name, then those of a wildcard.
    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        let wildcard = name.split_once('.').map(|(_, rest)| rest);
        let exact = self.names.iter().filter(move |(of, _)| of == name);
        let wild = self
            .names
            .iter()
            .filter(move |(of, _)| of.strip_prefix("*.").is_some_and(|of| Some(of) == wildcard));
        exact.chain(wild).map(|(_, number)| *number)
    }
}

impl ResolvesServerCert for Certificates {
    /// The first key for the name that the client can verify; where no name fits, the first certificate.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let named = name.iter().flat_map(|name| self.of(name));
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let mut named = named.filter_map(|number| self.keys.get(number));
        named.find(usable).or_else(|| self.keys.first()).cloned()
    }
}
