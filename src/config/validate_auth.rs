//! The rules for `[auth]`, and for a stream's `allow` and claims.

use std::collections::BTreeMap;

use http::{HeaderName, Uri};

use super::auth::{Allow, AuthSettings, JwtSettings, ProxySettings};
use super::claims::{CERTIFICATE_MEMBERS, SUBJECT, is_claim_name, is_of_certificate};
use super::faults::Faults;
use super::filter::Name;
use super::http_tls::ClientAuth;
use super::parameters::{NAMES, is_last_event_id};
use super::security::FileName;
use super::settings::Draft;
use super::static_tokens;
use super::units::Span;
use super::validate_security::{Pem, check_pem};

/// The most that the clocks of an issuer and of this machine may differ.
const MOST_LEEWAY: Span = Span::seconds(10 * 60);
/// The shortest time between two fetches of keys.
const LEAST_INTERVAL: Span = Span::seconds(1);

pub(super) fn validate(draft: &Draft, faults: &mut Faults) {
    let auth = &draft.auth;
    if let Some(jwt) = &auth.jwt {
        check_jwt(jwt, faults);
    }
    if let Some(tokens) = &auth.tokens {
        match &tokens.file {
            None => faults.add(
                "auth.tokens.file",
                "is missing; write file = \"/etc/kafka-sse-bridge/tokens\"",
            ),
            Some(file) => {
                let text = file.secret();
                if let Err(why) =
                    text.and_then(|text| static_tokens::parse(&text).map_err(|why| format!("{file} {why}")))
                {
                    faults.add("auth.tokens.file", why);
                }
            }
        }
    }
    if let Some(proxy) = &auth.proxy {
        check_proxy(proxy, draft.http.trusted_proxies.is_empty(), faults);
    }
    if auth.certificate.is_some() {
        check_certificate(draft, faults);
    }
    check_carriers(auth, draft, faults);
    check_streams(draft, faults);
}

fn check_jwt(jwt: &JwtSettings, faults: &mut Faults) {
    if !cfg!(feature = "jwt") {
        return faults.add(
            "auth.jwt",
            "needs signatures, which are not part of this build; install one with the cargo feature jwt",
        );
    }
    let is_symmetric = jwt.algorithms.iter().any(|algorithm| algorithm.is_symmetric());
    if jwt.algorithms.is_empty() {
        faults.add(
            "auth.jwt.algorithms",
            "is empty; pin what the issuer signs with, as in [\"RS256\"]",
        );
    } else if is_symmetric && !jwt.algorithms.iter().all(|algorithm| algorithm.is_symmetric()) {
        faults.add(
            "auth.jwt.algorithms",
            "has HS beside others: a public key could be taken for a secret, and anybody could sign; keep one kind",
        );
    }
    match (&jwt.key_file, &jwt.jwks_url) {
        (None, None) => faults.add(
            "auth.jwt.key_file",
            "is missing; name the file with the keys, or write jwks_url = \"https://login.example.org/jwks.json\"",
        ),
        (Some(_), Some(_)) => faults.add(
            "auth.jwt.key_file",
            "cannot be set with jwks_url; remove one of them",
        ),
        (Some(file), None) => {
            if let Err(why) = check_keys(jwt, file) {
                faults.add("auth.jwt.key_file", why);
            }
        }
        (None, Some(url)) => check_url(url, is_symmetric, faults),
    }
    if jwt.jwks_ca_file.is_some() && jwt.jwks_url.as_ref().is_none_or(|url| !url.starts_with("https:")) {
        faults.add(
            "auth.jwt.jwks_ca_file",
            "has no effect: jwks_url does not begin with https; correct it, or remove this",
        );
    }
    check_pem(
        "auth.jwt.jwks_ca_file",
        jwt.jwks_ca_file.as_ref(),
        Pem::Certificate,
        faults,
    );
    for (name, span) in [
        ("jwks_refresh", jwt.jwks_refresh),
        ("jwks_min_interval", jwt.jwks_min_interval),
        ("jwks_timeout", jwt.jwks_timeout),
    ] {
        faults.add_if_longest(format!("auth.jwt.{name}"), span);
        if span < LEAST_INTERVAL {
            faults.add(
                format!("auth.jwt.{name}"),
                format!("is less than {LEAST_INTERVAL}; remove it for the default"),
            );
        }
    }
    if jwt.leeway > MOST_LEEWAY {
        faults.add(
            "auth.jwt.leeway",
            format!("is more than {MOST_LEEWAY}, for which tokens would be valid too long; 30s is usual"),
        );
    }
}

/// Checks that a file has keys for the algorithms.
fn check_keys(jwt: &JwtSettings, file: &FileName) -> Result<(), String> {
    let content = file.read()?;
    #[cfg(feature = "jwt")]
    if !jwt.algorithms.is_empty() {
        let keys = crate::jose::keys::KeySet::of_file(&content, &jwt.algorithms);
        keys.map_err(|why| format!("{file} {why}"))?;
    }
    #[cfg(not(feature = "jwt"))]
    drop((jwt, content));
    Ok(())
}

fn check_url(text: &str, is_symmetric: bool, faults: &mut Faults) {
    const KEY: &str = "auth.jwt.jwks_url";
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    if authority.split('/').next().unwrap_or_default().contains('@') {
        return faults.add(
            KEY,
            "holds a user, which would show the password wherever settings are shown; keys are public, remove it",
        );
    }
    let url = text.parse::<Uri>().ok();
    let is_url = url.as_ref().is_some_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    });
    if !is_url || text.contains('#') {
        return faults.add(
            KEY,
            format!(
                "{text:?} is not a URL of http or https; write it like \"https://login.example.org/jwks.json\""
            ),
        );
    }
    if is_symmetric {
        faults.add(
            KEY,
            "cannot be used with HS, whose secret would be published there; name a key_file",
        );
    }
    if text.starts_with("https:") && !cfg!(feature = "rustls") {
        faults.add(
            KEY,
            "needs TLS for https, which is not part of this build; install one with the cargo feature rustls",
        );
    }
}

fn check_proxy(proxy: &ProxySettings, has_no_proxy: bool, faults: &mut Faults) {
    if has_no_proxy {
        faults.add(
            "auth.proxy.headers",
            "has no effect without trusted_proxies in [http], which may set these headers; name the proxies",
        );
    }
    if !proxy.headers.contains_key(SUBJECT) {
        faults.add(
            "auth.proxy.headers",
            "does not say which header names the client; write headers = { sub = \"X-Forwarded-User\" }",
        );
    }
    let mut claims = BTreeMap::new();
    for (claim, header) in &proxy.headers {
        let key = format!("auth.proxy.headers.{claim:?}");
        if header.parse::<HeaderName>().is_err() {
            faults.add(
                key,
                format!("{header:?} cannot be a header's name; write it like \"X-Forwarded-User\""),
            );
        } else if let Some(other) = claims.insert(header.to_lowercase(), claim) {
            faults.add(
                key,
                format!("{header:?} is the header of {other:?} too; name each once"),
            );
        }
    }
    for claim in &proxy.lists {
        if claim == SUBJECT || !proxy.headers.contains_key(claim) {
            faults.add(
                "auth.proxy.lists",
                format!(
                    "{claim:?} is not among the claims in headers, or never has several values; correct it"
                ),
            );
        }
    }
}

fn check_certificate(draft: &Draft, faults: &mut Faults) {
    let tls = draft.http.tls.as_ref();
    if tls.is_none_or(|tls| tls.client_auth == ClientAuth::None) {
        faults.add(
            "auth.certificate",
            "needs certificates of clients; set client_auth = \"request\" or \"require\" and client_ca_file in [http.tls]",
        );
    }
    let proxy = draft.auth.proxy.iter();
    for claim in proxy.flat_map(|proxy| proxy.headers.keys()) {
        if is_of_certificate(claim) {
            faults.add(
                format!("auth.proxy.headers.{claim:?}"),
                "is a claim of certificates, which [auth.certificate] keeps for them; take another name",
            );
        }
    }
}

/// Checks that a claim exists, as far as that is known.
fn check_claim(name: &str, key: &str, draft: &Draft, faults: &mut Faults) {
    if draft.auth.certificate.is_none() || !is_of_certificate(name) {
        return;
    }
    let member = name.split_once('.').map_or("", |(_, member)| member);
    if !CERTIFICATE_MEMBERS.contains(&member) {
        faults.add(
            key.to_owned(),
            format!(
                "has {name:?}, which no certificate has; known: certificate.{}",
                CERTIFICATE_MEMBERS.join(", certificate.")
            ),
        );
    }
}

/// Checks where tokens may be beside `Authorization`.
fn check_carriers(auth: &AuthSettings, draft: &Draft, faults: &mut Faults) {
    let takes_tokens = auth.takes_tokens();
    for (name, carrier) in [
        ("cookie", &auth.cookie),
        ("query_parameter", &auth.query_parameter),
    ] {
        if carrier.is_some() && !takes_tokens {
            faults.add(
                format!("auth.{name}"),
                "has no effect without [auth.jwt] or [auth.tokens], which say what tokens are; remove it",
            );
        }
    }
    faults.add_if_longest("auth.warn_before".to_owned(), auth.warn_before);
    if let Some(cookie) = &auth.cookie {
        // RFC 6265, section 4.1.1.
        let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
        if cookie.is_empty() || !cookie.bytes().all(is_token) {
            faults.add(
                "auth.cookie",
                format!("{cookie:?} cannot be a cookie's name; write it like \"__Host-session\""),
            );
        }
    }
    let Some(parameter) = &auth.query_parameter else {
        return;
    };
    if NAMES.contains(&parameter.as_str())
        || is_last_event_id(parameter)
        || !matches!(Name::parse(parameter), Ok(None))
    {
        faults.add(
            "auth.query_parameter",
            format!("{parameter:?} means something to streams; take another name, such as \"access_token\""),
        );
    } else if parameter.is_empty()
        || !parameter
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    {
        faults.add(
            "auth.query_parameter",
            format!(
                "{parameter:?} may only contain letters, digits, _ and -; write it like \"access_token\""
            ),
        );
    }
    if draft.http.ignored_parameters.contains(parameter) {
        faults.add(
            "auth.query_parameter",
            format!("{parameter:?} is in ignored_parameters of [http] too; remove it there"),
        );
    }
}

fn check_streams(draft: &Draft, faults: &mut Faults) {
    const NOBODY: &str = "needs [auth.jwt], [auth.tokens], [auth.proxy] or [auth.certificate], by which clients say who they are; add one, or remove it";
    let is_configured = draft.auth.is_configured();
    for (index, stream) in draft.streams.iter().enumerate() {
        let key = format!("stream[{index}].allow");
        if let Some(allow) = &stream.allow
            && !allow.is_public()
            && !is_configured
        {
            faults.add(key.clone(), NOBODY);
        }
        if let Some(Allow::Claims(claims)) = &stream.allow {
            if claims.is_empty() {
                faults.add(
                    key.clone(),
                    "names no claim; write { role = [\"admin\"] }, or \"authenticated\"",
                );
            }
            for (name, values) in claims {
                check_claim(name, &key, draft, faults);
                if !is_claim_name(name) || values.is_empty() || values.iter().any(String::is_empty) {
                    faults.add(
                        key.clone(),
                        format!(
                            "has no value for {name:?} that a claim can have; write {{ role = [\"admin\"] }}"
                        ),
                    );
                }
            }
        }
        if !stream.filters_by_claims() {
            continue;
        }
        let key = format!("stream[{index}].filter");
        for name in stream.claims() {
            check_claim(name, &key, draft, faults);
        }
        if !is_configured {
            faults.add(key, format!("uses claims, which {NOBODY}"));
        } else if stream.allow.as_ref().is_some_and(Allow::is_public) {
            faults.add(
                key,
                "uses claims of a client, which allow = \"public\" does not ask for; set allow = \"authenticated\"",
            );
        }
    }
}
