//! Failures of authentication and authorization, each with a remedy.
//!
//! Each client library reports failures as its own text; this module turns that text into one line. Knows nothing of
//! connections.

use std::fmt;
use std::sync::Arc;

use super::error::{ErrorKind, KafkaError};
use super::security::Credentials;
use crate::config::{Mechanism, SaslSettings};

/// Authentication or authorization failed. Retrying alone does not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthError {
    /// The failure and its cause.
    pub reason: String,
    /// The remedy: the setting or permission to change.
    pub remedy: String,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl std::error::Error for AuthError {}

impl AuthError {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    pub(crate) fn at(self, brokers: &Arc<str>) -> KafkaError {
        let Self { reason, remedy } = self;
        KafkaError::new(brokers, ErrorKind::Refused { reason, remedy })
    }

    /// Recognizes an authentication failure in the text of a transport error. `verify` verifies the certificate of a
    /// broker (`host:port`) once more to find the reason.
    pub(super) fn from_transport(
        text: &str,
        credentials: &Credentials,
        verify: impl FnOnce(&str) -> Option<Self>,
    ) -> Option<Self> {
        let (broker, text) = parts(text);
        let has = |phrase: &str| text.contains(phrase);
        if has("certificate verify failed") {
            return Some(
                verify(broker).unwrap_or_else(|| Self::certificate("it does not say why", credentials)),
            );
        }
        if has("SSL alert") || has("alert certificate") || has("alert handshake") {
            return Self::alert(text, credentials);
        }
        if has("connecting to a PLAINTEXT broker listener?") {
            return Some(Self::no_tls(credentials));
        }
        if has("SASL") {
            return Some(Self::login(text, credentials));
        }
        None
    }

    /// TLS is configured, but the listener does not use it.
    pub(super) fn no_tls(credentials: &Credentials) -> Self {
        Self::new(
            "no TLS is spoken at this port",
            format!(
                "name a TLS listener in brokers, or remove {}",
                of_tls(credentials, "tls", "security.protocol")
            ),
        )
    }

    /// TLS is not configured, but the listener seems to use it.
    #[cfg(feature = "librdkafka")]
    pub(super) fn wants_tls() -> Self {
        Self::new(
            "what is spoken at this port is not Kafka's protocol in plain",
            "set tls in [kafka] if it is a TLS listener, otherwise correct brokers",
        )
    }

    /// SASL is not configured, but the broker seems to require it.
    #[cfg(feature = "librdkafka")]
    pub(super) fn wants_login() -> Self {
        Self::new(
            "the broker says what it speaks and then closes the connection, as one does that wants a login",
            "set sasl in [kafka]",
        )
    }

    pub(super) fn certificate(why: &str, credentials: &Credentials) -> Self {
        let ca = of_tls(credentials, "ca_file of tls", "ssl.ca.location");
        Self::new(
            format!("the broker's certificate is not trusted ({why})"),
            format!(
                "name the certificate of its CA in {ca}; where the host is wrong, name the broker in brokers as its \
                 certificate does, or correct advertised.listeners at the broker"
            ),
        )
    }

    /// A broker's certificate is for other hosts than the one we connected to.
    #[cfg(feature = "tls")]
    pub(super) fn host(host: &str, names: &str) -> Self {
        Self::new(
            format!("the broker's certificate is not for the host {host:?} but for {names}"),
            "name the broker in brokers as its certificate does, or correct advertised.listeners, or the certificate, \
             at the broker",
        )
    }

    #[cfg(feature = "tls")]
    pub(super) fn unknown_ca(issuer: &str, credentials: &Credentials) -> Self {
        let ca = of_tls(credentials, "ca_file of tls", "ssl.ca.location");
        Self::new(
            format!("the broker's certificate is not trusted: its CA ({issuer}) is unknown here"),
            format!("name that CA's certificate in {ca}"),
        )
    }

    fn alert(text: &str, credentials: &Credentials) -> Option<Self> {
        let is_of_certificate =
            text.contains("certificate") || text.contains("unknown ca") || text.contains("handshake failure");
        if !is_of_certificate {
            return None;
        }
        let mut parts = text.split(':');
        let alert = parts.find(|part| part.contains("alert") && !part.contains("alert number"));
        let alert = alert.unwrap_or("alert").trim();
        let has_own = credentials.tls().is_none_or(|tls| tls.cert_file.is_some());
        Some(if has_own {
            Self::new(
                format!("the brokers refuse our certificate ({alert})"),
                format!(
                    "have the one in {} signed by a CA that the brokers know (ssl.truststore.location there)",
                    of_tls(credentials, "cert_file of tls", "ssl.certificate.location")
                ),
            )
        } else {
            Self::new(
                format!("the brokers want a certificate of us ({alert})"),
                "set cert_file and key_file of tls in [kafka]",
            )
        })
    }

    fn login(text: &str, credentials: &Credentials) -> Self {
        let none = SaslSettings::default();
        let sasl = credentials.sasl().unwrap_or(&none);
        let text = text.strip_prefix("SASL authentication error: ").unwrap_or(text);
        let acquire = text.split_once("Failed to acquire SASL OAUTHBEARER token: ");
        if let Some((_, why)) = acquire {
            return Self::new(why, "see to token_file of sasl in [kafka]");
        }
        let Some(mechanism) = sasl.mechanism else {
            return Self::new(
                format!("the login fails: {text}"),
                "correct the properties \"sasl.…\" in [kafka.librdkafka]",
            );
        };
        if text.contains("mechanism handshake failed") {
            return Self::new(
                format!("the login by {mechanism} fails: {text}"),
                "correct mechanism of sasl in [kafka], or name a SASL listener in brokers",
            );
        }
        match &sasl.username {
            Some(user) if mechanism != Mechanism::OauthBearer => Self::new(
                format!("the brokers refuse user {user:?} ({mechanism}): {text}"),
                "correct username and password_file of sasl in [kafka], or the user at the brokers",
            ),
            _ => Self::new(
                format!("the brokers refuse the token ({mechanism}): {text}"),
                "see to token_file of sasl in [kafka], and the broker's log",
            ),
        }
    }

    /// The principal lacks READ on a topic.
    pub(crate) fn topic(topic: &str, credentials: &Credentials) -> Self {
        let principal = credentials.principal();
        let (who, principal) = match &principal {
            Some(principal) => (principal.as_str(), principal.as_str()),
            None => ("the daemon's user", "User:NAME"),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=,@".contains(&byte);
        let quoted = if principal.bytes().all(is_plain) {
            principal.to_owned()
        } else {
            format!("'{principal}'")
        };
        Self::new(
            format!("topic {topic:?} may not be read: Topic authorization failed"),
            format!(
                "give {who} READ on it, with which DESCRIBE comes: \
                 kafka-acls.sh --add --allow-principal {quoted} --operation Read --topic {topic}"
            ),
        )
    }
}

/// Where TLS is configured: in `tls`, or among librdkafka's properties.
fn of_tls(credentials: &Credentials, key: &str, property: &str) -> String {
    if credentials.tls().is_some() {
        format!("{key} in [kafka]")
    } else {
        format!("{property:?} in [kafka.librdkafka]")
    }
}

/// Splits `ssl://kafka-1:9093/1: reason (after 3ms in state X, 2 identical error(s) suppressed)` into broker and
/// reason. The rest differs between repetitions.
fn parts(text: &str) -> (&str, &str) {
    let (broker, reason) = match text.split_once("://") {
        Some((_, rest)) => match rest.split_once('/') {
            Some((broker, rest)) => (broker, rest.split_once(": ").map_or(rest, |(_, reason)| reason)),
            None => ("", text),
        },
        None => ("", text),
    };
    (
        broker,
        reason
            .rsplit_once(" (after ")
            .map_or(reason, |(reason, _)| reason),
    )
}
