//! TLS towards the server of a stream, and what its errors mean: what is wrong, and the remedy.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::https::{self, Files};

/// A name of a certificate is shown; of more, the first ones.
const MAX_NAMES: usize = 8;

/// The certificates and names to connect with TLS.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// To the host of this name or address, with the certificates of the files.
    ///
    /// # Errors
    /// Names a file that cannot be used, or the name.
    pub(super) fn new(host: &str, files: &Files) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            format!("{host:?} is neither a name nor an address that a certificate can be for")
        })?;
        let mut config = https::client_config(files)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            connector: Arc::new(config).into(),
            name,
        })
    }

    pub(super) async fn connect<I>(&self, stream: I) -> Result<TlsStream<I>, String>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let connected = self.connector.connect(self.name.clone(), stream).await;
        connected
            .map_err(|error| explain(&error).unwrap_or_else(|| format!("the TLS handshake failed: {error}")))
    }
}

/// An explanation of an error of TLS; `None` for any other error.
pub(super) fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let of_io = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(error) = of_io.and_then(|inner| inner.downcast_ref::<Error>()) {
            return Some(explain_tls(error));
        }
        next = error.source();
    }
    None
}

fn explain_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => explain_certificate(why),
        Error::InvalidMessage(_) => {
            "no TLS is spoken at this address; write http:// instead, or the port of HTTPS".to_owned()
        }
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the server wants a certificate of the client; name one by --cert and --key".to_owned()
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            // The CA that it is signed by has the name of one of the server's, and another key.
            | AlertDescription::DecryptError => format!(
                "the server refuses the certificate of --cert, or wants one ({alert:?}); take one that its CA has signed"
            ),
            alert => format!("the server ends the handshake ({alert:?}); see its log"),
        },
        error => format!("the TLS handshake failed: {error}"),
    }
}

fn explain_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "the certificate is not signed by a trusted CA; name the certificate of its CA by --ca-file"
                .to_owned()
        }
        // A CA of the same name has another key, or one of another kind.
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the certificate is not signed by a trusted CA, only by one of the same name; name the certificate of its CA by \
             --ca-file"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).take(MAX_NAMES).collect();
            if names.is_empty() {
                return format!(
                    "the certificate names no host in subjectAltName, and is for {} therefore neither; make one that does",
                    expected.to_str()
                );
            }
            format!(
                "the certificate is for {}, not for {}; write a name of the certificate into the URL, and the address to \
                 connect to as --connect",
                names.join(", "),
                expected.to_str()
            )
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate expired {} ago; renew it at the server",
            days(*time, *not_after)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate is valid in {} only; set the clocks of both machines",
            days(*not_before, *time)
        ),
        CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for servers (extendedKeyUsage); make one that is".to_owned()
        }
        // Webpki has it as another error, without a type here.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the certificate of the server is that of a CA, as openssl req -x509 makes them; make one with \
             -addext basicConstraints=critical,CA:FALSE, and name it by --ca-file"
                .to_owned()
        }
        why => format!("the certificate is not accepted: {why}"),
    }
}

/// The name in a name as webpki writes it, like `DnsName("localhost")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// The time between two instants, as people say it.
fn days(later: UnixTime, earlier: UnixTime) -> String {
    let seconds = later.as_secs().saturating_sub(earlier.as_secs());
    match (seconds / 86_400, seconds / 60) {
        (0, minutes) => format!("{minutes} min"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}
