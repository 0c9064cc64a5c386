//! Checks each URL of the schema registry: connection, credentials, and whether a registry answers.

use tokio::runtime::Builder;

use super::report::{Finding, Report};
use crate::config::SchemaRegistrySettings;
use crate::schema_registry::{self, Check};

/// Adds nothing without a registry. Requests have the time limit of the configuration.
pub(super) fn check(settings: &SchemaRegistrySettings, report: &mut Report) {
    if !settings.is_configured() {
        return;
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
