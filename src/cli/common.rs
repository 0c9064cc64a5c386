//! Shared by several commands: the flags that name a configuration, failures with their exit codes, and stdout.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::config::load::ConfigError;
use crate::config::{Document, Flags};
use crate::daemon::{Environment, Sources};
use crate::http::listener::BindError;
use crate::{logging, signals};

/// The default path of the configuration, where packages install it.
const DEFAULT_CONFIG: &str = "/etc/kafka-sse-bridge/kafka-sse-bridge.toml";

/// The log levels that `--log-level` accepts.
pub(super) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The exit codes of all commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success, also after a signal.
    Success = 0,
    /// Something failed, or a second signal ended the process at once.
    Failure = signals::EXIT_FORCED as isize,
    /// The command line is wrong; clap ends the process.
    Usage = 2,
    /// An address cannot be bound (`EX_UNAVAILABLE`).
    CannotBind = 69,
    /// The configuration is wrong (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::CannotBind,
        Self::Config,
    ];

    /// The number that the process returns.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The flags that name a configuration and override keys of it.
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
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

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

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log file cannot be used.
    #[error(transparent)]
    Log(#[from] logging::LogError),
    /// A certificate or its key cannot be used.
    #[error("http.tls: {0}")]
    Certificates(String),
    /// An address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operating system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Any other failure, with its whole message.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Log(_) | Self::Certificates(_) => Exit::Config,
            Self::Bind(_) => Exit::CannotBind,
            Self::Io(_) | Self::Other(_) => Exit::Failure,
        }
    }
}

pub(crate) fn say(text: &str) -> Result<(), Failure> {
    print(text)?;
    Ok(())
}

/// Prints to stdout and flushes it. Returns false where the reader has closed the pipe, as `| head` does, which is no
/// failure.
pub(super) fn print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
