//! `kafka-sse-bridge doctor`: tries everything that the daemon will need, and says what to do where
//! something fails.
//!
//! [`machine`] looks at what this machine gives (descriptors, addresses, files), [`network`] at the
//! way to each broker, [`cluster`] at what Kafka holds, by one look of the Kafka room's, [`keys`] at
//! what its records say, [`transactions`] at what open transactions hold back; [`session`] asks Kafka,
//! [`report`] is how findings look. Checks change nothing: no topic, file or
//! socket comes into being. Each has a time in which it must answer, so that a broker that hangs is a
//! finding and not an end to them.
#![forbid(unsafe_code)]

mod cluster;
mod keys;
mod machine;
mod network;
mod report;
mod session;
mod transactions;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;

use self::report::{Finding, Report};
use crate::cli::common::{Configured, Exit};
use crate::config::load::ConfigError;

/// What is looked at, and how it is told.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    configured: Configured,
    /// Print one JSON object: every check with status, what was found and the remedy, and a summary.
    #[arg(long)]
    json: bool,
}

/// Checks everything, and tells each finding as it comes. Exits with 0 if nothing failed, 1 if
/// something did, 78 if the configuration is wrong, in which case nothing else is looked at.
#[must_use]
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
    machine::check(settings, &mut report);
    cluster::check(settings, &mut report);
    if report.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Asks on a thread of its own, and waits for the answer only so long. Where there is none, the thread
/// is left behind with all it holds; it ends with the process.
fn within<T: Send + 'static>(limit: Duration, ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, answer) = mpsc::channel();
    let asking = thread::Builder::new().name("doctor".to_owned()).spawn(move || {
        // Nobody waits any more where the limit has passed.
        let _ = sender.send(ask());
    });
    asking.ok()?;
    answer.recv_timeout(limit).ok()
}
