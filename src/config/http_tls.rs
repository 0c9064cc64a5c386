//! `[http.tls]`: its keys and their defaults.

use serde::{Deserialize, Serialize};

use super::list::list;
use super::security::FileName;
use super::units::Span;
use super::words::words;

/// How long a handshake may take: a phone with poor reception needs less.
const DEFAULT_HANDSHAKE_TIMEOUT: Span = Span::seconds(10);
/// Most handshakes under way: a processor makes hundreds in a second, and others wait in the system's queue.
const DEFAULT_MAX_HANDSHAKES: u32 = 512;
/// Most of them of one address: more than the clients behind one address begin in a moment, and few enough that one address
/// delays no other.
const DEFAULT_MAX_HANDSHAKES_PER_IP: u32 = 64;
/// The part of all handshakes that one address may have by default, where that is less.
const DEFAULT_PART_PER_IP: u32 = 2;
/// The port of HTTPS, which URLs omit.
pub(crate) const HTTPS_PORT: u16 = 443;

words! {
    /// Versions of TLS.
    TlsVersion {
        /// RFC 5246, with forward secrecy and authenticated encryption only.
        #[default]
        V1_2 = "1.2",
        /// RFC 8446.
        V1_3 = "1.3",
    }
}

words! {
    /// Whether clients are asked for a certificate.
    ClientAuth {
        /// They are not.
        #[default]
        None = "none",
        /// They are, and those without one are served too.
        Request = "request",
        /// They are, and the handshake fails without one.
        Require = "require",
    }
}

/// A certificate of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSettings {
    /// The certificate and its intermediate certificates (PEM).
    pub cert_file: FileName,
    /// Its private key (PEM, not encrypted).
    pub key_file: FileName,
    /// Host names that it is shown for; by default those in it.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// `[http.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpTlsSettings {
    /// Addresses that serve HTTPS: `host:port`, `*:port` or `systemd`.
    #[serde(deserialize_with = "list")]
    pub listen: Vec<String>,
    /// The certificates; the first one is shown where no name fits.
    pub certificates: Vec<CertificateSettings>,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
    /// Whether clients are asked for a certificate.
    pub client_auth: ClientAuth,
    /// The CAs that client certificates are signed by (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<FileName>,
    /// How long a handshake may take.
    pub handshake_timeout: Span,
    /// Most handshakes under way, over all listeners.
    pub max_handshakes: u32,
    /// Most handshakes under way for one address (for IPv6, one /64); 0 is unlimited.
    pub max_handshakes_per_ip: u32,
    /// Addresses that serve HTTP and answer every request by a redirect to HTTPS.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub redirect_to_https: Vec<String>,
    /// The port in redirects; by default that of the first address in `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_port: Option<u16>,
    /// `max-age` of `Strict-Transport-Security`; 0 sends none.
    pub hsts_max_age: Span,
}

impl Default for HttpTlsSettings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            certificates: Vec::new(),
            min_version: TlsVersion::default(),
            client_auth: ClientAuth::default(),
            client_ca_file: None,
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            max_handshakes: DEFAULT_MAX_HANDSHAKES,
            max_handshakes_per_ip: DEFAULT_MAX_HANDSHAKES_PER_IP,
            redirect_to_https: Vec::new(),
            https_port: None,
            hsts_max_age: Span::seconds(0),
        }
    }
}

impl HttpTlsSettings {
    /// All files that are named.
    pub fn files(&self) -> impl Iterator<Item = &FileName> {
        let pairs = self.certificates.iter();
        pairs
            .flat_map(|pair| [&pair.cert_file, &pair.key_file])
            .chain(&self.client_ca_file)
    }

    /// Lowers the default of `max_handshakes_per_ip` so that one address cannot have all handshakes; returns whether that
    /// changes it.
    pub(super) fn lower_default_per_ip(&mut self) -> bool {
        // 0 would be unlimited.
        let part = (self.max_handshakes / DEFAULT_PART_PER_IP).max(1);
        let is_lower = part < DEFAULT_MAX_HANDSHAKES_PER_IP;
        if is_lower {
            self.max_handshakes_per_ip = part;
        }
        is_lower
    }

    /// The port in redirects.
    pub(crate) fn redirect_port(&self) -> u16 {
        let of = |address: &String| address.rsplit_once(':')?.1.parse().ok();
        let first = self.listen.first().and_then(of);
        self.https_port.or(first).unwrap_or(HTTPS_PORT)
    }
}
