//! Checks `[auth]`: whether there are keys for signed tokens, whether tokens pass over a network in plain text, and which
//! proxies may name clients by headers.

use std::net::IpAddr;

use super::report::{Finding, Report};
#[cfg(feature = "jwt")]
use super::schema_registry::is_readable;
#[cfg(feature = "jwt")]
use crate::config::auth::JwtSettings;
use crate::config::proxies::Proxy;
use crate::config::{Scheme, Settings};
use crate::http::listener::SYSTEMD;

/// Adds nothing without `[auth]`.
pub(super) fn check(settings: &Settings, report: &mut Report) {
    let auth = &settings.auth;
    #[cfg(feature = "jwt")]
    if let Some(jwt) = &auth.jwt {
        report.add(keys(jwt));
    }
    if auth.jwt.is_some() || auth.tokens.is_some() {
        report.add(transport(settings));
    }
    if auth.proxy.is_some() {
        report.add(proxies(&settings.http.trusted_proxies));
    }
}

/// The keys of signed tokens. A fetch has the time limit of the configuration.
#[cfg(feature = "jwt")]
fn keys(jwt: &JwtSettings) -> Finding {
    let file = jwt.key_file.as_ref().map(ToString::to_string);
    let url = jwt.jwks_url.clone().unwrap_or_default();
    let check = format!("token keys {}", file.as_deref().unwrap_or(&url));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let remedy = "see the limits of the process (descriptors, threads)";
            return Finding::fail(check, error.to_string(), remedy);
        }
    };
    let keys = runtime.block_on(crate::auth::check_keys(jwt));
    // A name server that hangs must not hold up the end.
    runtime.shutdown_background();
    let keys = match keys {
        Ok(keys) => keys,
        Err(why) if file.is_some() => return Finding::fail(check, why, "correct key_file in [auth.jwt]"),
        Err(why) => {
            return Finding::fail(
                check,
                why,
                "correct jwks_url, jwks_ca_file or algorithms in [auth.jwt], or open the firewall between",
            );
        }
    };
    let names = |algorithms: &[crate::jose::algorithm::Algorithm]| {
        let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        names.join(", ")
    };
    let plural = if keys.count == 1 { "" } else { "s" };
    let found = format!("{} key{plural} for {}", keys.count, names(&keys.used));
    if file.is_none() && is_readable(&url) {
        return Finding::warn(
            check,
            format!(
                "{found}, fetched without TLS: whoever is on the network between can put in a key, and sign any token"
            ),
            "write https in jwks_url of [auth.jwt]",
        );
    }
    if keys.unused.is_empty() {
        return Finding::ok(check, found);
    }
    Finding::warn(
        check,
        format!("{found}, and none for {}", names(&keys.unused)),
        "remove what the issuer does not sign with from algorithms in [auth.jwt]",
    )
}

/// Whether clients can send tokens that others can read.
fn transport(settings: &Settings) -> Finding {
    const CHECK: &str = "token transport";
    let endpoints = settings.http.endpoints();
    let readable: Vec<&str> = endpoints
        .iter()
        .filter(|endpoint| endpoint.scheme == Scheme::Http && !is_within_this_machine(&endpoint.address))
        .map(|endpoint| endpoint.address.as_str())
        .collect();
    if readable.is_empty() {
        return Finding::ok(CHECK, "over TLS, or within this machine");
    }
    Finding::warn(
        CHECK,
        format!(
            "tokens, each as good as a password, are taken without TLS at {}: whoever is on the network between can read \
             and use them",
            readable.join(", ")
        ),
        "serve clients by [http.tls] alone; or have a proxy with TLS in front, and listen in [http] at a loopback address or \
         a Unix socket, or where only that proxy can connect",
    )
}

fn is_within_this_machine(address: &str) -> bool {
    if address.starts_with("unix:") || address == SYSTEMD {
        return true;
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.to_canonical().is_loopback());
    host == "localhost" || is_loopback
}

/// Whether only proxies may name clients.
fn proxies(trusted: &[Proxy]) -> Finding {
    const CHECK: &str = "identity proxies";
    let names: Vec<String> = trusted.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    let everybody = |proxy: &Proxy| matches!(proxy, Proxy::Range(range) if range.prefix_len() == 0);
    if trusted.iter().any(everybody) {
        return Finding::warn(
            CHECK,
            format!("trusted_proxies is {names}: every client can say that it is somebody else"),
            "name the addresses of the proxies alone in trusted_proxies of [http]",
        );
    }
    Finding::ok(CHECK, format!("{names} may say who a client is"))
}
