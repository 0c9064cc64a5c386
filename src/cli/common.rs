//! What several commands need: the flags that name a configuration, failures with their exit codes, and stdout.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::config::load::ConfigError;
use crate::config::{Document, Flags};
use crate::daemon::{Environment, Sources};
use crate::http::listener::BindError;
use crate::logging;

/// Where the packages put the configuration; read when no other is named.
pub const DEFAULT_CONFIG: &str = "/etc/kafka-sse-bridge/kafka-sse-bridge.toml";

/// The words for levels of the log.
pub(crate) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

const EXIT_CANNOT_BIND: u8 = 69;
/// The configuration is wrong.
pub(crate) const EXIT_CONFIG: u8 = 78;

/// Which configuration is meant.
#[derive(Debug, Args)]
pub(crate) struct Configured {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Serve at this address instead (host:port or unix:/path); may be repeated.
    #[arg(short, long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Ask these brokers instead (host:port, separated by commas).
    #[arg(short, long, value_name = "BROKERS")]
    brokers: Vec<String>,
    /// Log at this level.
    #[arg(long, value_name = "LEVEL", value_parser = LEVELS)]
    log_level: Option<String>,
    /// Serve the page from this directory instead of the one in the binary.
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
}

impl Configured {
    /// The configuration file's path.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// The layers of the configuration.
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            document: Document::File(self.config.clone()),
            environment: Environment::All,
            flags: Flags {
                listen: self.listen.clone(),
                brokers: self.brokers.clone(),
                log_level: self.log_level.clone(),
                assets: self.assets.clone(),
            },
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log file cannot be used.
    #[error(transparent)]
    Log(#[from] logging::LogError),
    /// An address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operating system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Anything else, said in full.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Log(_) => ExitCode::from(EXIT_CONFIG),
            Self::Bind(_) => ExitCode::from(EXIT_CANNOT_BIND),
            Self::Io(_) | Self::Other(_) => ExitCode::FAILURE,
        }
    }
}

/// Prints what a command has to say.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    // Who reads only the first lines (`| head`) closes the pipe; that is no failure.
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
