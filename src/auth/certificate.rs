//! The verified certificate of a client, and the claims that it makes.
//!
//! Its claims are in one object, `certificate`, which nothing else may make: a token or a proxy that names such a claim has
//! it left out where `[auth.certificate]` is configured. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::auth::SubjectOf;
use crate::config::claims::{CERTIFICATE, Claims, SUBJECT};

/// The certificates of the CAs that clients are trusted by, in DER.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorities(Vec<Vec<u8>>);

impl Authorities {
    /// From their encodings.
    #[cfg(any(test, feature = "rustls"))]
    pub fn new(certificates: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(certificates.into_iter().collect())
    }

    /// Their encodings, in DER.
    #[cfg(feature = "rustls")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Whether all of `earlier` are still among these.
    pub(super) fn contain(&self, earlier: &Self) -> bool {
        earlier.0.iter().all(|certificate| self.0.contains(certificate))
    }
}

/// Whom the certificate of a client names, and until when. It was verified at the handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject, written as in RFC 4514: `CN=alice,O=Example`.
    pub subject: String,
    /// The values of these attributes of the subject, in their order.
    pub common_names: Vec<String>,
    /// `O`
    pub organizations: Vec<String>,
    /// `OU`
    pub units: Vec<String>,
    /// The names of the extension subjectAltName (RFC 5280, section 4.2.1.6), by kind and in their order.
    pub dns_names: Vec<String>,
    /// `rfc822Name`
    pub emails: Vec<String>,
    /// `uniformResourceIdentifier`, as SPIFFE ids are.
    pub uris: Vec<String>,
    /// `iPAddress`
    pub addresses: Vec<IpAddr>,
    /// Until when it is valid, in seconds since the epoch.
    pub not_after: u64,
    /// The CAs that were trusted when it was verified.
    pub authorities: Arc<Authorities>,
}

impl ClientCertificate {
    /// Adds its claim to those of a token.
    pub(super) fn add_to(&self, claims: &mut Map<String, Value>) {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let object = json!({
            "subject": self.subject,
            "subject_cn": self.common_names,
            "subject_o": self.organizations,
            "subject_ou": self.units,
            "dns": self.dns_names,
            "email": self.emails,
            "uri": self.uris,
            "ip": addresses,
        });
        claims.insert(CERTIFICATE.to_owned(), object);
    }

    /// The claims of a client that has nothing else. It has `sub` if there is just one name that it can be.
    pub(super) fn claims(&self, subject: SubjectOf) -> Claims {
        let mut claims = Map::new();
        self.add_to(&mut claims);
        let names = match subject {
            SubjectOf::Subject => std::slice::from_ref(&self.subject),
            SubjectOf::CommonName => self.common_names.as_slice(),
            SubjectOf::Dns => self.dns_names.as_slice(),
            SubjectOf::Email => self.emails.as_slice(),
            SubjectOf::Uri => self.uris.as_slice(),
        };
        if let [name] = names
            && !name.is_empty()
        {
            claims.insert(SUBJECT.to_owned(), Value::from(name.as_str()));
        }
        claims.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_the_name_that_its_certificate_has_once() {
        let certificate = ClientCertificate {
            subject: "CN=alice,O=Example".to_owned(),
            common_names: vec!["alice".to_owned()],
            dns_names: vec!["a.example".to_owned(), "b.example".to_owned()],
            uris: vec!["spiffe://example/alice".to_owned()],
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            ..ClientCertificate::default()
        };
        for (subject, expected) in [
            (SubjectOf::Subject, Some("CN=alice,O=Example")),
            (SubjectOf::CommonName, Some("alice")),
            // Either could be meant, and none.
            (SubjectOf::Dns, None),
            (SubjectOf::Email, None),
            (SubjectOf::Uri, Some("spiffe://example/alice")),
        ] {
            let claims = certificate.claims(subject);
            assert_eq!(claims.subject(), expected, "{subject}");
            let values = |name: &str| claims.values(name).map(String::from).collect::<Vec<_>>();
            assert_eq!(values("certificate.dns"), ["a.example", "b.example"]);
            assert_eq!(values("certificate.ip"), ["127.0.0.1"]);
            assert_eq!(values("certificate.email"), [""; 0]);
        }
        // A certificate may name nobody in its subject.
        let nameless = ClientCertificate::default().claims(SubjectOf::Subject);
        assert_eq!(nameless.subject(), None);
    }

    #[test]
    fn a_certificate_is_trusted_while_no_ca_is_removed() {
        let of = |names: &[&str]| Authorities::new(names.iter().map(|name| name.as_bytes().to_vec()));
        assert!(of(&["a", "b"]).contain(&of(&["a"])));
        assert!(of(&["b", "a"]).contain(&of(&["a", "b"])));
        assert!(!of(&["b"]).contain(&of(&["a", "b"])));
    }
}
