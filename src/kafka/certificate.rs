//! Names in X.509 certificates.

use openssl::nid::Nid;
use openssl::x509::{X509, X509NameRef, X509Ref};

use crate::config::TlsSettings;

const MAX_HOSTS: usize = 8;

pub(super) fn hosts(certificate: Option<&X509Ref>) -> String {
    let alternatives = certificate.and_then(X509Ref::subject_alt_names);
    let hosts: Vec<String> = alternatives
        .iter()
        .flatten()
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some(&[a, b, c, d])) => Some(format!("{a}.{b}.{c}.{d}")),
            (None, Some(_)) => Some("an IPv6 address".to_owned()),
            (None, None) => None,
        })
        .take(MAX_HOSTS)
        .collect();
    match (hosts.is_empty(), certificate) {
        (true, Some(certificate)) => distinguished_name(certificate.subject_name()),
        (true, None) => "others".to_owned(),
        (false, _) => hosts.join(", "),
    }
}

/// A distinguished name as brokers write it: the last part first (RFC 2253).
pub(super) fn distinguished_name(name: &X509NameRef) -> String {
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

/// The principal of our certificate, unless brokers map it by `ssl.principal.mapping.rules`.
pub(super) fn subject(tls: &TlsSettings) -> Option<String> {
    let certificate = X509::from_pem(&tls.cert_file.as_ref()?.read().ok()?).ok()?;
    Some(distinguished_name(certificate.subject_name()))
}
