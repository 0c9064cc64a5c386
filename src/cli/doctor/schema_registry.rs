//! Checks each URL of the schema registry: connection, credentials, and whether a registry answers.

use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;
use tokio::runtime::Builder;

use super::report::{Finding, Report};
use crate::config::SchemaRegistrySettings;
use crate::schema_registry::{self, Check};

/// Adds nothing without a registry. Requests have the time limit of the configuration.
pub(super) fn check(settings: &SchemaRegistrySettings, report: &mut Report) {
    if !settings.is_configured() {
        return;
    }
    if let Some(login) = login(settings) {
        report.add(login);
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let remedy = "see the limits of the process (descriptors, threads)";
            report.add(Finding::fail("schema registry", error.to_string(), remedy));
            return;
        }
    };
    for (url, check) in runtime.block_on(schema_registry::check(settings)) {
        let name = format!("schema registry {url}");
        report.add(match check {
            Check::Ok(found) => Finding::ok(name, found),
            Check::Failed(found, remedy) => Finding::fail(name, found, remedy),
        });
    }
    // A name server that hangs must not hold up the end.
    runtime.shutdown_background();
}

/// The credentials, and whether they are sent in plain text; `None` without any.
fn login(settings: &SchemaRegistrySettings) -> Option<Finding> {
    const CHECK: &str = "schema registry login";
    let secret = match (&settings.username, &settings.token_file) {
        (Some(name), _) => format!("the password of {name:?}"),
        (None, Some(_)) => "a token".to_owned(),
        (None, None) => return None,
    };
    let readable: Vec<&str> = settings
        .urls
        .iter()
        .map(String::as_str)
        .filter(|url| is_readable(url))
        .collect();
    Some(if readable.is_empty() {
        Finding::ok(CHECK, format!("{secret}, over TLS or within this machine"))
    } else {
        Finding::warn(
            CHECK,
            format!(
                "{secret}, without TLS to {}: it can be read on the network",
                readable.join(", ")
            ),
            "write https in urls of [kafka.schema_registry], if the registry supports it",
        )
    })
}

/// Whether what is sent to a URL passes over a network without TLS.
pub(super) fn is_readable(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else {
        return false;
    };
    let host = url.host().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    url.scheme() == Some(&Scheme::HTTP) && !is_here
}
