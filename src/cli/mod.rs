//! The command line: a module per command; [`common`] is shared.
#![forbid(unsafe_code)]

mod assets;
mod check;
pub mod common;
#[cfg(feature = "librdkafka")]
mod demo;
mod doctor;
mod id;
mod manual;
mod print_config;
mod run;
mod tail;
mod token;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::common::{Configured, Exit, Failure};
use crate::logging;

pub use run::die_of_panics;

/// Bridge from Kafka topics to browsers by Server-Sent Events.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the configured streams until SIGTERM or SIGINT.
    Run(Configured),
    /// Check the configuration; exits with 0, or with 78 and a list of faults with file and line.
    Check(Configured),
    /// Check everything that the daemon needs, from descriptors to topics, and print a remedy for each failure.
    Doctor(doctor::Options),
    /// Print the effective settings and where each came from, secrets masked.
    PrintConfig(Configured),
    /// Print an event id (a position) readably.
    Id(id::Options),
    /// Make a token for a client, and the line for the file of tokens.
    Token(token::Options),
    /// Follow a stream: print its events, resume, and measure their latency.
    Tail(tail::Options),
    /// Write the built-in page into a directory, as a start for one of your own.
    Assets(assets::Options),
    /// Show live tables in a browser, with an embedded broker and data; needs no configuration.
    #[cfg(feature = "librdkafka")]
    Demo(demo::Options),
    /// Write the man pages and the shell completions, as the packages hold them.
    #[command(hide = true)]
    Generate(manual::Options),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    // Ends the process with `Exit::Usage` where the command line is wrong.
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Run(configured) => run::run(configured),
        Command::Check(configured) => check::run(configured),
        // Prints its failures itself, as findings.
        Command::Doctor(options) => return doctor::run(options),
        Command::PrintConfig(configured) => print_config::run(configured),
        Command::Id(options) => id::run(options),
        Command::Token(options) => token::run(options),
        Command::Tail(options) => tail::run(options),
        Command::Assets(options) => assets::run(options),
        #[cfg(feature = "librdkafka")]
        Command::Demo(options) => demo::run(options),
        Command::Generate(options) => manual::generate(options, &Cli::command()).map_err(Failure::from),
    };
    match outcome {
        Ok(()) => {
            logging::flush();
            Exit::Success.into()
        }
        Err(failure) => {
            // Also on stderr, because the log may go to a file. Problems of the configuration begin with
            // their file and line, as editors expect.
            let name = if matches!(failure, Failure::Config(_)) {
                ""
            } else {
                "kafka-sse-bridge: "
            };
            logging::complain(&format!("{name}{failure}"));
            failure.exit().into()
        }
    }
}
