//! The status line for `systemctl status` (`STATUS=`).
//!
//! [`watchdog`](crate::watchdog) reports whether the daemon lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::http::health;
use crate::http::state::{AppState, Shown};
use crate::kafka::status::KafkaStatus;
use crate::systemd;

/// How often the line is updated, if it has changed.
const STATUS_EVERY: Duration = Duration::from_secs(3);

/// How long the line shows the changes of a reload. The error of a failed one is shown until one succeeds.
const RELOADED_LASTS: Duration = Duration::from_secs(60);

/// Most characters of the line: it is for a terminal, and errors of Kafka may be long.
const MAX_STATUS: usize = 1000;

#[derive(Debug)]
pub(crate) struct StatusLine {
    app: Arc<AppState>,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    line: String,
    /// The changes of the last reload, and its time.
    reloaded: Option<(String, Instant)>,
    failed: Option<String>,
}

impl StatusLine {
    pub(crate) fn new(app: Arc<AppState>) -> Self {
        Self {
            app,
            content: Mutex::default(),
        }
    }

    pub(crate) fn reloaded(&self, what: &str) {
        self.update(|content| {
            content.reloaded = Some((format!("reloaded: {what}"), Instant::now()));
            content.failed = None;
        });
    }

    pub(crate) fn failed(&self, why: &str) {
        self.update(|content| {
            content.reloaded = None;
            content.failed = Some(why.to_owned());
        });
    }

    /// Updates the line every few seconds.
    pub(crate) async fn run(self: Arc<Self>) -> ! {
        loop {
            self.update(|_| {});
            tokio::time::sleep(STATUS_EVERY).await;
        }
    }

    fn update(&self, change: impl FnOnce(&mut Content)) {
        let mut content = self.content.lock();
        change(&mut content);
        if content
            .reloaded
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() > RELOADED_LASTS)
        {
            content.reloaded = None;
        }
        let line = self.line(&content);
        if line != content.line {
            systemd::status(&line);
            content.line = line;
        }
    }

    /// The line; faults that need an operator come first.
    fn line(&self, content: &Content) -> String {
        let mut parts: Vec<String> = content.failed.iter().cloned().collect();
        let standing = health::standing(&self.app);
        parts.push(clients(&self.app.shown()));
        parts.extend(lag(&self.app.kafka));
        if !standing.loading.is_empty() {
            parts.push(format!("loading {}", standing.loading.join(", ")));
        }
        parts.extend(standing.degraded);
        parts.extend(content.reloaded.iter().map(|(what, _)| what.clone()));
        let line = parts.join("; ");
        match line.char_indices().nth(MAX_STATUS) {
            Some((end, _)) => line.split_at(end).0.to_owned() + "…",
            None => line,
        }
    }
}

fn clients(shown: &Shown) -> String {
    let clients = shown.streams.iter().map(|stream| stream.clients()).sum();
    let (clients, streams) = (counted(clients, "client"), counted(shown.streams.len(), "stream"));
    format!("{clients} on {streams}")
}

fn lag(threads: &KafkaStatus) -> Option<String> {
    let lags = threads.lag();
    let total = lags.iter().map(|lag| lag.records).fold(0, u64::saturating_add);
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    (!lags.is_empty()).then(|| format!("lag {}", counted(total, "record")))
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
