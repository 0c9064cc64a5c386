//! What certificates say (RFC 5280): whom they name, and until when. Pure.

use std::net::IpAddr;
use std::time::Duration;

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::http::client_certificate::ClientCertificate;

/// The part of a certificate that is of interest here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Whom it names.
    pub(super) names: ClientCertificate,
    /// Until when it is valid, as Unix time.
    pub(super) not_after: Duration,
}

impl Identity {
    /// # Errors
    /// When `der` is not a certificate.
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        let certificate = Certificate::from_der(der).map_err(|error| error.to_string())?;
        let content = &certificate.tbs_certificate;
        let mut names = ClientCertificate {
            subject: content.subject.to_string(),
            ..ClientCertificate::default()
        };
        let alternatives = content
            .get::<SubjectAltName>()
            .map_err(|error| error.to_string())?;
        for name in alternatives.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::DnsName(name) => names.dns_names.push(name.to_string()),
                GeneralName::Rfc822Name(name) => names.emails.push(name.to_string()),
                GeneralName::UniformResourceIdentifier(name) => names.uris.push(name.to_string()),
                GeneralName::IpAddress(bytes) => names.addresses.extend(address(bytes.as_bytes())),
                _ => {}
            }
        }
        Ok(Self {
            names,
            not_after: content.validity.not_after.to_unix_duration(),
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok()
}
