//! The certificate of a client, as requests carry it.

/// Whom the verified certificate of a client names. In the extensions of each request of its connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// The subject, written as in RFC 4514: `CN=alice,O=Example`.
    pub subject: String,
    /// The names of the extension subjectAltName (RFC 5280, section 4.2.1.6), by kind and in their order.
    pub dns_names: Vec<String>,
    /// `rfc822Name`
    pub emails: Vec<String>,
    /// `uniformResourceIdentifier`, as SPIFFE ids are.
    pub uris: Vec<String>,
    /// `iPAddress`
    pub addresses: Vec<std::net::IpAddr>,
}
