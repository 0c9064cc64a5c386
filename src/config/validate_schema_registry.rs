//! The rules for `[kafka.schema_registry]`.

use http::Uri;

use super::faults::Faults;
use super::schema_registry::SchemaRegistrySettings;
use super::units::{Size, Span};
use super::validate_security::{Pem, check_pair, check_pem, check_secret};

/// The smallest cache, for a few large schemas.
const LEAST_CACHE: Size = Size::mebibytes(1);
/// The shortest time limit that a network can keep.
const LEAST_TIMEOUT: Span = Span(std::time::Duration::from_millis(100));

/// The fault of a base URL, if any. Omits a URL that may contain a password.
fn fault_of_url(text: &str) -> Option<String> {
    const REMEDY: &str = "write it like \"https://registry.example.org:8081\"";
    let url = text.parse::<Uri>();
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    if authority.split('/').next().unwrap_or_default().contains('@') {
        return Some(
            "a URL holds a user, which would show the password wherever settings are shown; set username and \
             password_file instead"
                .to_owned(),
        );
    }
    match url {
        Ok(url)
            if !matches!(url.scheme_str(), Some("http" | "https"))
                || url.host().is_none_or(str::is_empty) =>
        {
            Some(format!("{text:?} is not a URL of http or https; {REMEDY}"))
        }
        Ok(url) if url.query().is_some() || text.contains('#') => Some(format!(
            "{text:?} is more than a base URL; remove what begins with \"?\" or \"#\""
        )),
        Ok(_) => None,
        Err(error) => Some(format!("{text:?} is not a URL ({error}); {REMEDY}")),
    }
}

pub(super) fn validate(registry: &SchemaRegistrySettings, faults: &mut Faults) {
    const SECTION: &str = "kafka.schema_registry";
    let key = |name: &str| format!("{SECTION}.{name}");
    for url in &registry.urls {
        if let Some(message) = fault_of_url(url) {
            faults.add(key("urls"), message);
        }
    }
    if !registry.is_configured() {
        if registry.username.is_some() || registry.files().next().is_some() {
            faults.add(
                key("urls"),
                "is missing, and other keys have no effect without it; write urls = [\"https://registry.example.org:8081\"]",
            );
        }
    } else if registry.has_tls() {
        if !cfg!(feature = "rustls") {
            faults.add(
                key("urls"),
                "needs TLS for https, which is not part of this build; install one with the cargo feature rustls",
            );
        }
    } else {
        for (name, file) in [
            ("ca_file", &registry.ca_file),
            ("cert_file", &registry.cert_file),
            ("key_file", &registry.key_file),
        ] {
            if file.is_some() {
                faults.add(
                    key(name),
                    "has no effect: no URL in urls begins with https; correct them, or remove it",
                );
            }
        }
    }
    check_login(registry, faults);
    check_pair(
        SECTION,
        registry.cert_file.as_ref(),
        registry.key_file.as_ref(),
        faults,
    );
    for (name, file, pem) in [
        ("ca_file", &registry.ca_file, Pem::Certificate),
        ("cert_file", &registry.cert_file, Pem::Certificate),
        ("key_file", &registry.key_file, Pem::PrivateKey),
    ] {
        check_pem(&key(name), file.as_ref(), pem, faults);
    }
    faults.add_if_longest(key("timeout"), registry.timeout);
    if registry.timeout < LEAST_TIMEOUT {
        faults.add(
            key("timeout"),
            format!("is less than {LEAST_TIMEOUT}; 10s is usual"),
        );
    }
    faults.add_if_longest(key("unknown_schema_timeout"), registry.unknown_schema_timeout);
    if registry.max_cache_bytes < LEAST_CACHE {
        faults.add(
            key("max_cache_bytes"),
            format!("is less than {LEAST_CACHE}; 32MiB is usual"),
        );
    }
}

fn check_login(registry: &SchemaRegistrySettings, faults: &mut Faults) {
    let key = |name: &str| format!("kafka.schema_registry.{name}");
    match (&registry.username, &registry.password_file) {
        (Some(_), None) => faults.add(key("username"), "needs password_file; set both"),
        (None, Some(_)) => faults.add(key("password_file"), "needs username; set both"),
        (Some(_), Some(_)) if registry.token_file.is_some() => faults.add(
            key("token_file"),
            "cannot be set with username and password_file; remove one of them",
        ),
        _ => {}
    }
    if let Some(name) = &registry.username {
        if name.is_empty() {
            faults.add(key("username"), "is empty; name the user");
        } else if name.contains(':') || name.chars().any(char::is_control) {
            faults.add(
                key("username"),
                "contains \":\" or a control character, which HTTP's basic authentication cannot express; correct it",
            );
        }
    }
    for (name, file) in [
        ("password_file", &registry.password_file),
        ("token_file", &registry.token_file),
    ] {
        check_secret(&key(name), file.as_ref(), faults);
    }
}
