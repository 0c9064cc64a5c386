//! Commands and flags, and the exit code of each.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done, or ended by a signal in good order |
//! | 1 | something failed; a second signal cut the end short |
//! | 2 | the command line is wrong |
//! | 69 | an address cannot be bound (`EX_UNAVAILABLE`) |
//! | 78 | the configuration is wrong (`EX_CONFIG`) |
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use log::{error, info};

use crate::config::load::ConfigError;
use crate::config::{Document, Flags, LogSettings, Settings, print};
use crate::daemon::{self, Bound, Environment, Sources};
use crate::http::listener::BindError;
use crate::stream::position::{NOT_BEGUN, Position, TopicPosition};
use crate::{logging, manual, signals};

/// Where the packages put the configuration; read when no other is named.
pub const DEFAULT_CONFIG: &str = "/etc/kafka-sse-bridge/kafka-sse-bridge.toml";

/// The words for levels of the log.
pub(crate) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

const EXIT_CANNOT_BIND: u8 = 69;
/// The configuration is wrong.
pub(crate) const EXIT_CONFIG: u8 = 78;

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
    /// Check the configuration; exits with 0, or with 78 and what is wrong where.
    Check(Configured),
    /// Try all that the daemon needs, from descriptors to topics, and say what to do where something fails.
    Doctor(crate::doctor::Options),
    /// Print the effective settings and where each came from, secrets masked.
    PrintConfig(Configured),
    /// Print an event id (a position) readably.
    Id {
        /// The id as it stands in the event.
        id: String,
    },
    /// Follow a stream: print its events, resume, and measure how late they are.
    Tail(crate::tail::Options),
    /// Show live tables in a browser: brings its own broker and data, needs no configuration.
    #[cfg(feature = "librdkafka")]
    Demo(crate::demo::Options),
    /// Write the man pages and the shell completions, as the packages hold them.
    #[command(hide = true)]
    Generate(manual::Options),
}

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
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Log(_) => ExitCode::from(EXIT_CONFIG),
            Self::Bind(_) => ExitCode::from(EXIT_CANNOT_BIND),
            Self::Io(_) | Self::Other(_) => ExitCode::FAILURE,
        }
    }
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    // Exits with 2 and a hint by itself where the command line is wrong.
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Run(configured) => run(configured),
        Command::Check(configured) => check(configured),
        // Says by itself what it found.
        Command::Doctor(options) => return crate::doctor::run(options),
        Command::PrintConfig(configured) => print_config(configured),
        Command::Id { id } => describe_id(id),
        Command::Tail(options) => crate::tail::run(options),
        #[cfg(feature = "librdkafka")]
        Command::Demo(options) => crate::demo::run(options),
        Command::Generate(options) => manual::generate(options, &Cli::command()).map_err(Failure::from),
    };
    match outcome {
        Ok(()) => {
            logging::flush();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // The log may go to a file; who started the command looks here. Problems of the
            // configuration begin with their place, as editors expect.
            let name = if matches!(failure, Failure::Config(_)) {
                ""
            } else {
                "kafka-sse-bridge: "
            };
            logging::complain(&format!("{name}{failure}"));
            failure.exit_code()
        }
    }
}

fn run(configured: &Configured) -> Result<(), Failure> {
    logging::apply(&LogSettings::default())?;
    let sources = configured.sources();
    let loaded = sources.load()?;
    logging::apply(&loaded.settings.log)?;
    info!(
        "kafka-sse-bridge {} with {}",
        env!("CARGO_PKG_VERSION"),
        configured.config.display()
    );
    daemon::warn_of_memory(&loaded);
    let settings = loaded.settings;
    let listeners = daemon::bind(&settings.http.listen, &(&settings.http).into())?;
    serve(settings, sources, listeners, signals::Request::Reload)
}

/// Runs the daemon with these settings until a signal ends it.
pub(crate) fn serve(
    settings: Settings,
    sources: Sources,
    listeners: Vec<Bound>,
    on_hangup: signals::Request,
) -> Result<(), Failure> {
    die_of_panics();
    let requests = signals::watch(on_hangup)?;
    let runtime = daemon::runtime()?;
    let outcome = runtime.block_on(daemon::run(settings, listeners, requests, sources));
    runtime.shutdown_timeout(daemon::RUNTIME_SHUTDOWN);
    Ok(outcome?)
}

/// A panic in any thread ends the process: half a daemon would look alive and deliver nothing.
pub fn die_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        error!("{panic}\n{}", std::backtrace::Backtrace::capture());
        logging::flush();
        std::process::abort();
    }));
}

fn check(configured: &Configured) -> Result<(), Failure> {
    let loaded = configured.sources().load()?;
    let streams = loaded.settings.streams.len();
    say(&format!(
        "{}: ok, {streams} stream{}\nmemory: {}\n",
        configured.config.display(),
        if streams == 1 { "" } else { "s" },
        loaded.memory.describe(&loaded.settings)
    ))?;
    if let Some(remedy) = loaded.memory.remedy(&loaded.settings) {
        logging::complain(&format!(
            "warning: bounds and clients together exceed the memory available: {remedy}"
        ));
    }
    Ok(())
}

fn print_config(configured: &Configured) -> Result<(), Failure> {
    say(&print::print(&configured.sources().load()?))
}

fn describe_id(id: &str) -> Result<(), Failure> {
    let position =
        Position::parse(id.as_bytes()).map_err(|error| Failure::Other(format!("id {id:?} {error}")))?;
    let topic = |topic: &TopicPosition| {
        let next: Vec<String> = (0..)
            .zip(&topic.next)
            .map(|(partition, &next)| match (next, topic.mark(partition)) {
                (NOT_BEGUN, _) => format!("{partition}:not-begun"),
                (next, 0) => format!("{partition}:{next}"),
                (next, mark) => format!("{partition}:{next}/{mark}"),
            })
            .collect();
        format!(
            "topic name {:08x} id {:08x} next {}\n",
            topic.name,
            topic.id,
            next.join(" ")
        )
    };
    say(&position.topics.iter().map(topic).collect::<String>())
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
