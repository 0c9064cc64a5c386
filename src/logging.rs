//! Logging: fern to stderr, a file or both, as text or JSON lines, exchangeable while running.
//!
//! The `log` crate takes one logger for the life of the process, so the one installed here only
//! passes on to the fern dispatch of the day. Applying settings again opens the file anew by
//! appending, which is what log rotation needs.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use log::{LevelFilter, Log, Metadata, Record};

use crate::config::{Level, LogFormat, LogSettings};

static LOGGER: Exchangeable = Exchangeable {
    inner: RwLock::new(None),
};

struct Exchangeable {
    inner: RwLock<Option<Box<dyn Log>>>,
}

impl Log for Exchangeable {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.as_ref().is_some_and(|inner| inner.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = inner.as_ref() {
            inner.log(record);
        }
    }

    fn flush(&self) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = inner.as_ref() {
            inner.flush();
        }
    }
}

/// Why a log file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("log file {path}: {source}; correct file in [log], or its permissions")]
pub struct LogError {
    path: String,
    source: io::Error,
}

/// A logger that is ready to take over.
pub struct Prepared {
    level: LevelFilter,
    logger: Box<dyn Log>,
}

/// Logs by these settings from now on; opens the file anew where there is one.
///
/// # Errors
/// When the file cannot be opened; logging then goes on as before.
pub fn apply(settings: &LogSettings) -> Result<(), LogError> {
    prepare(settings).map(Prepared::install)
}

/// Opens what these settings name, and changes nothing yet.
///
/// # Errors
/// When the file cannot be opened.
pub fn prepare(settings: &LogSettings) -> Result<Prepared, LogError> {
    let mut dispatch = fern::Dispatch::new().level(filter(settings.level));
    for (target, level) in &settings.targets {
        dispatch = dispatch.level_for(target.clone(), filter(*level));
    }
    dispatch = match settings.format {
        LogFormat::Text => dispatch.format(|out, message, record| {
            let time = humantime::format_rfc3339_millis(SystemTime::now());
            out.finish(format_args!(
                "{time} {:5} {}: {message}",
                record.level(),
                record.target()
            ));
        }),
        LogFormat::Json => dispatch.format(|out, message, record| {
            let line = serde_json::json!({
                "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
                "level": record.level().as_str().to_ascii_lowercase(),
                "target": record.target(),
                "message": message.to_string(),
            });
            out.finish(format_args!("{line}"));
        }),
    };
    if let Some(path) = &settings.file {
        let file = fern::log_file(path).map_err(|source| LogError {
            path: path.display().to_string(),
            source,
        })?;
        dispatch = dispatch.chain(lenient(file));
    }
    if settings.file.is_none() || settings.stderr {
        dispatch = dispatch.chain(lenient(io::stderr()));
    }
    let (level, logger) = dispatch.into_log();
    Ok(Prepared { level, logger })
}

impl Prepared {
    /// Takes over.
    pub fn install(self) {
        *LOGGER.inner.write().unwrap_or_else(PoisonError::into_inner) = Some(self.logger);
        // Fails when it is installed already, which is all that is wanted.
        let _ = log::set_logger(&LOGGER);
        log::set_max_level(self.level);
    }
}

/// An output that loses lines it cannot write: a full disk or a reader that went away must not end
/// the daemon, as fern's own outputs would.
fn lenient(out: impl Write + Send + 'static) -> fern::Output {
    let out = Mutex::new(out);
    fern::Output::call(move |record| {
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(out, "{}", record.args());
    })
}

const fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::Error,
        Level::Warn => LevelFilter::Warn,
        Level::Info => LevelFilter::Info,
        Level::Debug => LevelFilter::Debug,
        Level::Trace => LevelFilter::Trace,
    }
}

/// Admits a repeated message at most once in a time, and counts those it held back.
#[derive(Debug)]
pub struct Seldom {
    pause: Duration,
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Admits one message per `pause`.
    #[must_use]
    pub const fn new(pause: Duration) -> Self {
        Self {
            pause,
            last: None,
            held_back: 0,
        }
    }

    /// Whether a message may be logged now; if so, with the number of those held back since the
    /// last one, to be shown at its end.
    pub fn admit(&mut self) -> Option<HeldBack> {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now.duration_since(last) < self.pause)
        {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(HeldBack(std::mem::take(&mut self.held_back)))
    }
}

/// How many messages were held back; shows nothing for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack(u64);

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more like this since the last such line)"),
        }
    }
}
