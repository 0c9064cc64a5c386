//! Origins.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue, Uri};

use crate::config::cors::{ANY_ORIGIN, CorsSettings};
use crate::http::cors::Cors;

/// An origin is allowed by the rules that are it, or that have its scheme and port and a domain that its host is below; and
/// is then nothing but an origin. The first line is an origin, the others are rules.
pub(crate) fn origins(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(Ok(origin)) = lines.next().map(HeaderValue::from_bytes) else {
        return;
    };
    let rules: Option<Vec<String>> = lines.map(|line| String::from_utf8(line.to_vec()).ok()).collect();
    let settings = CorsSettings {
        allow_origins: rules.unwrap_or_default(),
        ..CorsSettings::default()
    };
    if !settings.faults().is_empty() {
        return;
    }
    let cors = Cors::from(&settings);
    let headers = HeaderMap::from_iter([(ORIGIN, origin.clone())]);
    let allowed = cors.allowed_origin(&headers);
    let rules = &settings.allow_origins;
    if rules.iter().any(|rule| rule == ANY_ORIGIN) {
        assert_eq!(allowed, Some(HeaderValue::from_static(ANY_ORIGIN)));
        return;
    }
    let text = origin.to_str().unwrap_or_default();
    // A rule of a domain names no origin itself.
    let is_equal = |rule: &str| rule == text && !text.contains('*');
    let is_allowed = rules.iter().any(|rule| is_equal(rule) || is_below(text, rule));
    assert_eq!(allowed.is_some(), is_allowed, "{text:?} by {rules:?}");
    if let Some(allowed) = allowed {
        assert_eq!(allowed, origin);
        let uri: Uri = text.parse().expect("a scheme and an authority");
        let authority = uri.authority().expect("a host").as_str();
        assert!(matches!(uri.scheme_str(), Some("http" | "https")));
        assert!(!authority.contains('@') && text.ends_with(authority), "{text:?}");
    }
}

/// Scheme, labels of the host, and port.
fn parts(origin: &str) -> Option<(&str, Vec<&str>, Option<&str>)> {
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    Some((scheme, host.split('.').collect(), port))
}

fn is_below(origin: &str, rule: &str) -> bool {
    let (Some((scheme, mut labels, port)), Some((rule_scheme, rule_labels, rule_port))) =
        (parts(origin), parts(rule))
    else {
        return false;
    };
    let Some((&"*", domain)) = rule_labels.split_first() else {
        return false;
    };
    let Some(deeper) = labels
        .len()
        .checked_sub(domain.len())
        .filter(|deeper| *deeper > 0)
    else {
        return false;
    };
    let is_of_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let is_domain = labels.split_off(deeper) == domain;
    (scheme, port) == (rule_scheme, rule_port)
        && is_domain
        && labels
            .iter()
            .all(|label| !label.is_empty() && label.chars().all(is_of_label))
}
