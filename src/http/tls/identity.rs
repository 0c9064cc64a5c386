//! The content of certificates (RFC 5280): the names of their subjects, and their validity. Pure.

use std::net::IpAddr;
use std::time::Duration;

use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::auth::certificate::ClientCertificate;

/// Attributes of a subject (RFC 4519, section 2): CN, O and OU.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");

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
        let not_after = content.validity.not_after.to_unix_duration();
        let mut names = ClientCertificate {
            subject: content.subject.to_string(),
            not_after: not_after.as_secs(),
            ..ClientCertificate::default()
        };
        for attribute in content.subject.0.iter().flat_map(|set| set.0.iter()) {
            let values = match attribute.oid {
                COMMON_NAME => &mut names.common_names,
                ORGANIZATION => &mut names.organizations,
                UNIT => &mut names.units,
                _ => continue,
            };
            values.extend(text(attribute));
        }
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
        Ok(Self { names, not_after })
    }
}

/// The text of an attribute, in the encodings that RFC 5280 has certificates use, and that of addresses.
fn text(attribute: &AttributeTypeAndValue) -> Option<String> {
    let value = &attribute.value;
    let utf8 = value
        .decode_as::<Utf8StringRef<'_>>()
        .map(|text| text.as_str().to_owned());
    let printable = || {
        value
            .decode_as::<PrintableStringRef<'_>>()
            .map(|text| text.as_str().to_owned())
    };
    let ia5 = || {
        value
            .decode_as::<Ia5StringRef<'_>>()
            .map(|text| text.as_str().to_owned())
    };
    utf8.or_else(|_| printable()).or_else(|_| ia5()).ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok()
}
