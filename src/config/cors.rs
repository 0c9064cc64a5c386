//! `cors` in `[http]` and `[[stream]]`: the origins whose pages may read streams.

use http::{HeaderName, Uri};
use serde::{Deserialize, Serialize};

use super::list::list;

/// The entry that allows every origin.
pub(crate) const ANY_ORIGIN: &str = "*";

/// The prefix of a host that allows every host below a domain.
const ANY_SUBDOMAIN: &str = "*.";

/// The top-level domain whose names all resolve to this machine (RFC 6761, section 6.3).
const LOCALHOST: &str = "localhost";

/// `cors`: which other sites' pages may read (the Fetch standard, section "HTTP CORS protocol").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are named after their keys")]
pub struct CorsSettings {
    /// Origins like `https://shop.example.org` or `https://*.example.org`, or `*` for all. Without any, no page of
    /// another site may read.
    #[serde(deserialize_with = "list")]
    pub allow_origins: Vec<String>,
    /// Headers that those pages may send, in addition to those that they always may.
    #[serde(deserialize_with = "list")]
    pub allow_headers: Vec<String>,
    /// Whether those pages may send cookies and other credentials.
    pub allow_credentials: bool,
    /// Whether those pages may read across the border of a private network (Private Network Access, section 3.1.2).
    pub allow_private_network: bool,
}

impl CorsSettings {
    pub(crate) fn allows_any(&self) -> bool {
        self.allow_origins.iter().any(|origin| origin == ANY_ORIGIN)
    }

    /// The broken rules: key and message of each.
    pub(crate) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for origin in &self.allow_origins {
            if let Some(why) = fault_of_origin(origin) {
                let message = format!(
                    "{origin:?} {why}; write it like \"https://shop.example.org\" or \"https://*.example.org\""
                );
                faults.push(("allow_origins", message));
            }
        }
        for name in &self.allow_headers {
            if name == "*" {
                let message =
                    "\"*\" means nothing beside credentials and never Authorization; name each header";
                faults.push(("allow_headers", message.to_owned()));
            } else if name.parse::<HeaderName>().is_err() {
                let message = format!("{name:?} cannot be a header's name; write it like \"Authorization\"");
                faults.push(("allow_headers", message));
            }
        }
        if !self.allow_headers.is_empty() && self.allow_origins.is_empty() {
            let message = "has no effect without allow_origins; name origins, or remove it";
            faults.push(("allow_headers", message.to_owned()));
        }
        if self.allow_private_network && self.allow_origins.is_empty() {
            let message = "has no effect without allow_origins; name origins, or remove it";
            faults.push(("allow_private_network", message.to_owned()));
        }
        if self.allows_any() && self.allow_origins.len() > 1 {
            let message = "holds \"*\" beside others, which it includes; keep one or the other";
            faults.push(("allow_origins", message.to_owned()));
        }
        if self.allow_credentials && self.allows_any() {
            let message = "would hand what belongs to a user to every site; name origins instead of \"*\"";
            faults.push(("allow_credentials", message.to_owned()));
        } else if self.allow_credentials && self.allow_origins.is_empty() {
            let message = "has no effect without allow_origins; name origins, or remove it";
            faults.push(("allow_credentials", message.to_owned()));
        }
        faults
    }
}

/// A validated entry of `allow_origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AllowedOrigin {
    Any,
    Exact(String),
    /// Origins whose host ends with this domain, at any depth, as in a content security policy (CSP3, section
    /// 6.7.2.8), except the domain itself. Scheme and port must be equal.
    Below {
        /// The scheme, with `://`.
        scheme: String,
        /// The domain, with a leading dot, and the port.
        domain: String,
    },
}

impl AllowedOrigin {
    pub(crate) fn new(text: &str) -> Self {
        if text == ANY_ORIGIN {
            return Self::Any;
        }
        match text.split_once("://*.") {
            Some((scheme, domain)) => Self::Below {
                scheme: format!("{scheme}://"),
                domain: format!(".{domain}"),
            },
            None => Self::Exact(text.to_owned()),
        }
    }

    pub(crate) fn covers(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(allowed) => allowed == origin,
            Self::Below { scheme, domain } => {
                let labels = origin
                    .strip_prefix(scheme.as_str())
                    .and_then(|rest| rest.strip_suffix(domain.as_str()));
                // Only labels of a host, so that no user, port or path of a forged origin matches.
                labels.is_some_and(|labels| labels.split('.').all(is_label))
            }
        }
    }
}

/// Whether browsers send this label of a host name: lower case, with other scripts in Punycode. DNS host names have no
/// underscores, but hosts with them exist.
fn is_label(label: &str) -> bool {
    let is_of_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    !label.is_empty() && label.bytes().all(is_of_label)
}

/// The fault of an origin, if any. Browsers send scheme, host in lower case, and port unless it is the scheme's
/// default (RFC 6454, section 6.1).
pub(super) fn fault_of_origin(origin: &str) -> Option<&'static str> {
    if origin == ANY_ORIGIN {
        return None;
    }
    let Some((scheme, authority)) = origin.split_once("://") else {
        return Some("has no scheme");
    };
    if !matches!(scheme, "http" | "https") {
        return Some("is neither http nor https");
    }
    if let Some(domain) = authority.strip_prefix(ANY_SUBDOMAIN) {
        let name = domain.split(':').next().unwrap_or_default();
        return if name.parse::<std::net::Ipv4Addr>().is_ok() || name.starts_with('[') {
            Some("is an address, which has no subdomains")
        } else if !name.contains('.') && name != LOCALHOST {
            Some("is a whole top-level domain")
        } else {
            fault_of_origin(&format!("{scheme}://{domain}"))
        };
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if authority.is_empty() || !authority.bytes().all(is_plain) {
        return Some("is more than scheme, host and port, or less");
    }
    if origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some("has capitals, which browsers do not send");
    }
    let parsed = origin.parse::<Uri>().ok();
    let port = match parsed.as_ref().and_then(Uri::authority) {
        None => return Some("has no proper host"),
        Some(authority) if authority.host().is_empty() => return Some("has no proper host"),
        Some(authority) => match (
            authority.port_u16(),
            authority.as_str().ends_with(authority.host()),
        ) {
            (None, true) => None,
            (None, false) => return Some("has no proper port"),
            (Some(port), _) => Some(port),
        },
    };
    let is_usual = matches!((scheme, port), ("http", Some(80)) | ("https", Some(443)));
    is_usual.then_some("names its scheme's own port, which browsers leave out")
}
