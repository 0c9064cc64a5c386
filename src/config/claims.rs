//! The claims of a client: its known properties, as text that filters and rules compare.
//!
//! A claim comes from a signed token, from the list of static tokens, from a trusted proxy, or from a certificate. Pure.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The claims of a client.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims(Map<String, Value>);

/// The claim that names the client (RFC 7519, section 4.1.2).
pub(crate) const SUBJECT: &str = "sub";

/// The claim of a client's certificate, an object.
pub const CERTIFICATE: &str = "certificate";

/// The members of that object.
pub(crate) const CERTIFICATE_MEMBERS: [&str; 8] = [
    "subject",
    "subject_cn",
    "subject_o",
    "subject_ou",
    "dns",
    "email",
    "uri",
    "ip",
];

/// Claims that are one text with a space between their values (RFC 8693, section 4.2).
const SPACED: [&str; 2] = ["scope", "scp"];

impl From<Map<String, Value>> for Claims {
    fn from(claims: Map<String, Value>) -> Self {
        Self(claims)
    }
}

impl Claims {
    /// The texts of a claim, of which any may match. None where the claim is absent, empty, or has no text.
    ///
    /// A text, a whole number and a boolean are one value, and a list of those is several; empty texts do not count.
    /// `name` is the whole name of a claim; otherwise a dot leads into an object, as in `realm_access.roles`.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        let is_spaced = SPACED.contains(&name);
        let found = self.0.get(name).or_else(|| inner(&self.0, name));
        let values = match found {
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        let texts = values.iter().filter_map(text);
        let parts = texts.flat_map(move |text| match text {
            Cow::Borrowed(text) if is_spaced => text.split(' ').map(Cow::Borrowed).collect(),
            text => vec![text],
        });
        parts.filter(|text| !text.is_empty())
    }

    /// All of them.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Whether there are claims of a certificate, or such that would be taken for them.
    pub(crate) fn have_certificate(&self) -> bool {
        self.0.keys().any(|name| is_of_certificate(name))
    }

    /// Whether all claims but those of a certificate are the same as in `other`.
    pub(crate) fn equal_but_for_certificate(&self, other: &Self) -> bool {
        let own = |claims: &'_ Self| claims.0.keys().filter(|name| !is_of_certificate(name)).count();
        let has =
            |(name, value): (&String, &Value)| is_of_certificate(name) || self.0.get(name) == Some(value);
        own(self) == own(other) && other.0.iter().all(has)
    }

    /// Without what could be taken for the claims of a certificate.
    pub(crate) fn without_certificate(self) -> Map<String, Value> {
        let mut claims = self.0;
        claims.retain(|name, _| !is_of_certificate(name));
        claims
    }

    /// The name of the client, if it has one.
    pub fn subject(&self) -> Option<&str> {
        self.0.get(SUBJECT)?.as_str()
    }
}

/// Whether a claim of this name is that of a certificate, or could be taken for a member of it: the whole name of a claim
/// goes before the members of another one.
pub(crate) fn is_of_certificate(name: &str) -> bool {
    let rest = name.strip_prefix(CERTIFICATE);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The value behind a name with dots. An object may have a name with dots as well.
fn inner<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let (first, rest) = name.split_once('.')?;
    let object = object.get(first)?.as_object()?;
    object.get(rest).or_else(|| inner(object, rest))
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        // Other numbers have several texts.
        Value::Number(number) if !number.is_f64() => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

/// Whether a text can be the name of a claim in the configuration.
pub(crate) fn is_claim_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['{', '}', '$']) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_a_text_or_a_list_of_texts() {
        let claims = json!({
            "sub": "anne",
            "n": 42,
            "negative": -1,
            "half": 0.5,
            "is": true,
            "list": ["a", "", 7, null, ["b"], "c d"],
            "empty": "",
            "none": null,
            "scope": "read write",
            "realm_access": { "roles": ["x", "y"], "a.b": "dotted" },
            "https://a.example/roles": "named",
            "flat.name": "whole",
            "flat": { "name": "inner" },
        });
        let claims = Claims::from(claims.as_object().expect("an object").clone());
        for (name, values) in [
            ("sub", &["anne"][..]),
            ("n", &["42"]),
            ("negative", &["-1"]),
            ("half", &[]),
            ("is", &["true"]),
            ("list", &["a", "7", "c d"]),
            ("empty", &[]),
            ("none", &[]),
            ("absent", &[]),
            ("scope", &["read", "write"]),
            ("realm_access", &[]),
            ("realm_access.roles", &["x", "y"]),
            ("realm_access.a.b", &["dotted"]),
            ("realm_access.roles.x", &[]),
            ("https://a.example/roles", &["named"]),
            ("flat.name", &["whole"]),
        ] {
            assert_eq!(claims.values(name).collect::<Vec<_>>(), values, "{name}");
        }
        assert_eq!(claims.subject(), Some("anne"));
    }

    #[test]
    fn claims_of_a_certificate_are_told_from_others() {
        let of = |claims: Value| Claims::from(claims.as_object().expect("an object").clone());
        let plain = of(json!({ "sub": "anne", "certificates": 1 }));
        let forged =
            of(json!({ "sub": "anne", "certificates": 1, "certificate.dns": "a", "certificate": {} }));
        assert!(!plain.have_certificate() && forged.have_certificate());
        assert!(plain.equal_but_for_certificate(&forged) && forged.equal_but_for_certificate(&plain));
        assert_eq!(Claims::from(forged.without_certificate()), plain);
        for other in [
            json!({ "sub": "anne" }),
            json!({ "sub": "bob", "certificates": 1 }),
        ] {
            assert!(!plain.equal_but_for_certificate(&of(other.clone())), "{other}");
            assert!(!of(other.clone()).equal_but_for_certificate(&plain), "{other}");
        }
    }
}
