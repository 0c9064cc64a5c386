//! Logging: fern to stderr, a file or both, as text or JSON lines, exchangeable while running.
//!
//! Where stderr is systemd's journal, which adds the time, each line begins with its priority instead (`sd-daemon(3)`). A
//! message is one write, so that lines of other processes do not split it. Control characters are escaped, so that a
//! message cannot imitate another one.
//!
//! No caller waits for an output: lines go through a bounded queue for stderr and one for the file, each with a writer
//! thread, so that a blocked pipe does not delay the file. Full queues drop lines and report how many. Each line carries
//! its output, so that a reopened file takes effect in order.
//!
//! The `log` crate takes one logger for the life of the process, so the one installed here forwards to the current fern
//! dispatch. Applying settings again reopens the file for appending, which log rotation needs.
#![forbid(unsafe_code)]

pub mod queue;

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;
use rustix::fs::fstat;

use self::queue::{Output, Queue};
use crate::config::{Level, LogFormat, LogSettings, units};

/// Longest wait for lines to be written before the process ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

static STDERR: Queue = Queue::new();
static FILE: Queue = Queue::new();

static LOGGER: Exchangeable = Exchangeable {
    inner: RwLock::new(None),
};

struct Exchangeable {
    inner: RwLock<Option<Box<dyn Log>>>,
}

impl Log for Exchangeable {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let inner = self.inner.read();
        inner.as_ref().is_some_and(|inner| inner.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        let inner = self.inner.read();
        if let Some(inner) = inner.as_ref() {
            inner.log(record);
        }
    }

    fn flush(&self) {
        flush();
    }
}

/// Waits until what was logged before is written, for at most [`FLUSH_LIMIT`].
pub fn flush() {
    let deadline = Instant::now() + FLUSH_LIMIT;
    // The file first: stderr may be a blocked pipe.
    FILE.flush(deadline);
    STDERR.flush(deadline);
}

/// Why the settings cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("log file {path}: {source}; correct file in [log], or its permissions")]
    File {
        /// The configured path.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The operating system refuses a thread.
    #[error("the log's thread cannot start: {0}; raise the limit of threads (ulimit -u, TasksMax=)")]
    Thread(io::Error),
}

/// Targets that log a line whenever a client breaks a rule of HTTP/2, which it can do as often as it likes.
/// `[log.targets]` may set their levels.
const PROVOKED: [&str; 2] = ["h2", "hyper::proto::h2"];

pub(crate) struct Prepared {
    level: LevelFilter,
    logger: Box<dyn Log>,
}

/// Applies settings; reopens the file if one is set.
///
/// # Errors
/// When the file cannot be opened; logging then continues as before.
pub fn apply(settings: &LogSettings) -> Result<(), LogError> {
    prepare(settings).map(Prepared::install)
}

/// Opens the outputs of these settings without using them yet.
pub(crate) fn prepare(settings: &LogSettings) -> Result<Prepared, LogError> {
    let mut dispatch = fern::Dispatch::new().level(filter(settings.level));
    for target in PROVOKED {
        dispatch = dispatch.level_for(target, LevelFilter::Error);
    }
    for (target, level) in &settings.targets {
        dispatch = dispatch.level_for(target.clone(), filter(*level));
    }
    if let Some(path) = &settings.file {
        let file = fern::log_file(path).map_err(|source| LogError::File {
            path: path.display().to_string(),
            source,
        })?;
        FILE.start("log-file").map_err(LogError::Thread)?;
        dispatch = dispatch.chain(queued(
            &FILE,
            Sink::File(file),
            settings.format,
            LogReader::Anyone,
        ));
    }
    if settings.file.is_none() || settings.stderr {
        let reader = LogReader::of_stderr();
        STDERR.start("log-stderr").map_err(LogError::Thread)?;
        dispatch = dispatch.chain(queued(&STDERR, Sink::Stderr, settings.format, reader));
    }
    let (level, logger) = dispatch.into_log();
    Ok(Prepared { level, logger })
}

impl Prepared {
    pub(crate) fn install(self) {
        *LOGGER.inner.write() = Some(self.logger);
        // Fails when it is installed already.
        let _ = log::set_logger(&LOGGER);
        log::set_max_level(self.level);
    }
}

fn queued(queue: &'static Queue, sink: Sink, format: LogFormat, reader: LogReader) -> fern::Output {
    let output: Arc<dyn Output> = Arc::new(Lenient { sink, format, reader });
    fern::Output::call(move |record| {
        let lines = render(record, SystemTime::now(), format, reader);
        queue.push(&output, lines, record.level() == log::Level::Error);
    })
}

/// An output that drops lines it cannot write: a full disk or a closed pipe must not end the daemon, as fern's own
/// outputs would.
struct Lenient {
    sink: Sink,
    format: LogFormat,
    reader: LogReader,
}

enum Sink {
    File(File),
    Stderr,
}

impl Output for Lenient {
    fn write(&self, text: &str) {
        let _ = match &self.sink {
            Sink::File(file) => (&*file).write_all(text.as_bytes()),
            Sink::Stderr => io::stderr().write_all(text.as_bytes()),
        };
    }

    fn dropped(&self, count: u64) -> String {
        let output = match self.sink {
            Sink::File(_) => "the log file is written",
            Sink::Stderr => "stderr is read",
        };
        let record = &mut Record::builder();
        let record = record.level(log::Level::Warn).target(module_path!());
        render(
            &record
                .args(format_args!(
                    "{count} log lines dropped: they come faster than {output}"
                ))
                .build(),
            SystemTime::now(),
            self.format,
            self.reader,
        )
    }
}

/// The reader of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogReader {
    /// A person, or a program that reads a file or a pipe.
    Anyone,
    /// systemd's journal.
    Journal,
}

impl LogReader {
    /// The reader of stderr: the journal if `JOURNAL_STREAM` names the file that stderr is (`systemd.exec(5)`).
    fn of_stderr() -> Self {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let named = stream
            .split_once(':')
            .and_then(|(device, inode)| Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?)));
        let found = fstat(io::stderr().as_fd()).map(|found| (found.st_dev, found.st_ino));
        match (named, found) {
            (Some(named), Ok(found)) if named == found => Self::Journal,
            _ => Self::Anyone,
        }
    }
}

/// A record as text, with a newline at its end.
pub fn render(record: &Record<'_>, time: SystemTime, format: LogFormat, reader: LogReader) -> String {
    let (level, target) = (record.level(), record.target());
    let time = units::Instant::millis(time);
    let text = match format {
        LogFormat::Json => serde_json::json!({
            "time": time.to_string(),
            "level": level.as_str().to_ascii_lowercase(),
            "target": target,
            "message": record.args().to_string(),
        })
        .to_string(),
        LogFormat::Text if reader == LogReader::Journal => format!("{level:5} {target}: {}", record.args()),
        LogFormat::Text => format!("{time} {level:5} {target}: {}", record.args()),
    };
    lines(level, &text, reader)
}

/// A message as lines; those after the first are indented.
fn lines(level: log::Level, text: &str, reader: LogReader) -> String {
    let mut lines = String::with_capacity(text.len() + 8);
    for (number, line) in text.lines().enumerate() {
        if reader == LogReader::Journal {
            // Infallible, as every write to a string.
            let _ = write!(lines, "<{}>", priority(level));
        }
        if number > 0 {
            lines.push_str("    ");
        }
        push_printable(&mut lines, line);
        lines.push('\n');
    }
    lines
}

/// The text with control characters escaped, so that a terminal does not interpret them.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_printable(&mut out, text);
    out
}

fn push_printable(out: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
}

const fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

/// Writes a message about a failed command to stderr, after all lines logged before.
pub(crate) fn complain(text: &str) {
    let reader = LogReader::of_stderr();
    let mut said = String::with_capacity(text.len() + 8);
    let prefix = match reader {
        LogReader::Journal => "<3>",
        LogReader::Anyone => "",
    };
    for line in text.lines() {
        said.extend([prefix, line, "\n"]);
    }
    let output = Lenient {
        sink: Sink::Stderr,
        format: LogFormat::Text,
        reader,
    };
    if STDERR.start("log-stderr").is_ok() {
        let output: Arc<dyn Output> = Arc::new(output);
        STDERR.push(&output, said, true);
    } else {
        output.write(&said);
    }
    flush();
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

/// Rate limit for repeated messages: admits one per period and counts the suppressed ones.
#[derive(Debug)]
pub(crate) struct Seldom {
    pause: Duration,
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Admits one message per `pause`.
    pub(crate) const fn new(pause: Duration) -> Self {
        Self {
            pause,
            last: None,
            held_back: 0,
        }
    }

    /// The number of messages suppressed since the last one, to append, if a message may be logged now.
    pub(crate) fn admit(&mut self) -> Option<HeldBack> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&mut self, now: Instant) -> Option<HeldBack> {
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

/// The number of suppressed messages; prints nothing for 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldBack(u64);

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more like this since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_kind_are_logged_once_in_ten_seconds_with_the_number_of_the_others() {
        let mut seldom = Seldom::new(Duration::from_secs(10));
        let begun = Instant::now();
        let mut admit = |millis| seldom.admit_at(begun + Duration::from_millis(millis));
        let said = |held_back: Option<HeldBack>| held_back.map(|held_back| held_back.to_string());
        assert_eq!(said(admit(0)).as_deref(), Some(""), "the first at once");
        for millis in [0, 5_000, 9_999] {
            assert_eq!(admit(millis), None);
        }
        let three = " (3 more like this since the last such line)";
        assert_eq!(said(admit(10_000)).as_deref(), Some(three));
        assert_eq!(admit(19_999), None);
        assert_eq!(
            said(admit(30_000)).as_deref(),
            Some(" (1 more like this since the last such line)")
        );
        assert_eq!(said(admit(40_000)).as_deref(), Some(""), "no other was held back");
    }
}
