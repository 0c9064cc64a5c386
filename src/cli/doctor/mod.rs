//! `kafka-sse-bridge doctor`: checks everything that the daemon needs, and prints a remedy for each failure.
//!
//! [`machine`] checks descriptors, addresses and files, [`certificates`] those shown to clients, [`auth`] keys
//! and the way of tokens, [`network`] the
//! connection to each broker, [`cluster`] topics, [`keys`] keys and timestamps of records, [`transactions`] open
//! transactions, [`schema_registry`] the schema registry. [`session`] has a client and sets time limits, [`requests`]
//! reads topics with it, [`report`] prints findings. Checks create no topic, file or socket. Each has a time limit, so
//! that a broker that hangs is a finding and does not block the other checks.
#![forbid(unsafe_code)]

mod auth;
mod certificates;
mod cluster;
mod keys;
mod machine;
mod network;
mod report;
mod requests;
mod schema_registry;
mod session;
mod transactions;

use std::process::ExitCode;

use clap::Args;

use self::report::{Finding, Report};
use crate::cli::common::{Configured, Exit};
use crate::config::load::ConfigError;

/// The configuration to check, and the output format.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    configured: Configured,
    /// Print one JSON object: every check with status, what was found and the remedy, and a summary.
    #[arg(long)]
    json: bool,
}

/// Runs all checks and prints each finding at once. Exits with 0 if no check failed, 1 if one did, and 78 if the
/// configuration is invalid; the other checks are skipped then.
pub(super) fn run(options: &Options) -> ExitCode {
    let mut report = Report::new(options.json);
    let loaded = match options.configured.sources().load() {
        Ok(loaded) => loaded,
        Err(ConfigError(problems)) => {
            for problem in problems {
                report.add(Finding::fail(
                    "configuration",
                    problem.to_string(),
                    "correct it; docs/configuration.md has every key with its default",
                ));
            }
            report.finish();
            return Exit::Config.into();
        }
    };
    let settings = &loaded.settings;
    let count = settings.streams.len();
    let streams = if count == 1 { "stream" } else { "streams" };
    report.add(Finding::ok(
        "configuration",
        format!("{}: {count} {streams}", options.configured.config().display()),
    ));
    report.add(machine::memory(&loaded));
    machine::check(&loaded, &mut report);
    certificates::check(&settings.http, &mut report);
    auth::check(settings, &mut report);
    cluster::check(settings, &mut report);
    schema_registry::check(&settings.kafka.schema_registry, &mut report);
    if report.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
