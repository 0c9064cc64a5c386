//! `hosts` in `[http]`: the names that the daemon answers to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The entry for every name.
const ANY: &str = "*";

/// The prefix of an entry for every name below a domain.
const BELOW: &str = "*.";

/// An entry of `hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// Every name.
    Any,
    /// One name, in lower case.
    Name(String),
    /// Every name below a domain, at any depth; not the domain itself. In lower case, with a leading dot.
    Below(String),
}

impl HostPattern {
    /// Whether the entry covers a name, which is in lower case and has no dot at its end.
    pub(crate) fn covers(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(allowed) => allowed == name,
            Self::Below(domain) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|labels| !labels.is_empty()),
        }
    }
}

/// Whether a text can be the name of a host: letters, digits, dashes, underscores and dots, no part of it empty.
pub(crate) fn is_name(text: &str) -> bool {
    let is_of_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.split('.')
        .all(|label| !label.is_empty() && label.bytes().all(is_of_label))
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == ANY {
            return Ok(Self::Any);
        }
        let unbracketed = text.trim_matches(['[', ']']);
        if unbracketed.parse::<IpAddr>().is_ok() {
            return Err(format!(
                "{text:?} is an address, to which the daemon answers anyway; name only names"
            ));
        }
        let name = text.strip_prefix(BELOW).unwrap_or(text);
        if !is_name(name) {
            return Err(format!(
                "{text:?} is not the name of a host; write \"stream.example.org\" or \"*.example.org\", without a port"
            ));
        }
        let name = name.to_ascii_lowercase();
        Ok(if text.starts_with(BELOW) {
            Self::Below(format!(".{name}"))
        } else {
            Self::Name(name)
        })
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str(ANY),
            Self::Name(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*{domain}"),
        }
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_name_a_domain_or_every_name() {
        for (text, shown) in [
            ("stream.example.org", "stream.example.org"),
            ("Stream.Example.ORG", "stream.example.org"),
            ("*.example.org", "*.example.org"),
            ("my_host", "my_host"),
            ("*", "*"),
        ] {
            let pattern: HostPattern = text.parse().expect(text);
            assert_eq!(pattern.to_string(), shown);
        }
        for text in [
            "",
            "a.example:80",
            "https://a.example",
            "a..b",
            ".a",
            "a.*.b",
            "**",
            "a b",
            "127.0.0.1",
            "[::1]",
            "a/b",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_domain_covers_the_names_below_it_alone() {
        let below: HostPattern = "*.example.org".parse().expect("a pattern");
        for (name, is_covered) in [
            ("a.example.org", true),
            ("b.a.example.org", true),
            ("example.org", false),
            ("evilexample.org", false),
            (".example.org", false),
            ("a.example.org.evil", false),
        ] {
            assert_eq!(below.covers(name), is_covered, "{name}");
        }
    }
}
