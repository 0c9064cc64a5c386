//! How the daemon is, in one line for `systemctl status` (`STATUS=`).
//!
//! Whether it lives is another question: [`watchdog`](crate::watchdog).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::http::health;
use crate::http::router::{AppState, Shown};
use crate::kafka::status::Board;
use crate::systemd;

/// How often systemd is told how the daemon is, where that has changed.
const STATUS_EVERY: Duration = Duration::from_secs(3);

/// How long it is told what a reload changed. What a failed one says stays until one succeeds.
const RELOADED_LASTS: Duration = Duration::from_secs(60);

/// Most characters of a status line: it is for a terminal, and what is wrong with Kafka may be long.
const MAX_STATUS: usize = 1000;

/// Tells systemd how the daemon is, in one line.
#[derive(Debug)]
pub struct Teller {
    app: Arc<AppState>,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    line: String,
    /// What the last reload changed, and when.
    reloaded: Option<(String, Instant)>,
    /// Why the last reload failed.
    failed: Option<String>,
}

impl Teller {
    /// Tells of what is shown by `app`.
    #[must_use]
    pub fn new(app: Arc<AppState>) -> Self {
        Self {
            app,
            said: Mutex::default(),
        }
    }

    /// A reload changed this.
    pub fn reloaded(&self, what: &str) {
        self.say(|said| {
            said.reloaded = Some((format!("reloaded: {what}"), Instant::now()));
            said.failed = None;
        });
    }

    /// A reload failed for this reason.
    pub fn failed(&self, why: &str) {
        self.say(|said| {
            said.reloaded = None;
            said.failed = Some(why.to_owned());
        });
    }

    /// Tells every few seconds what has changed.
    pub async fn run(self: Arc<Self>) -> ! {
        loop {
            self.say(|_| {});
            tokio::time::sleep(STATUS_EVERY).await;
        }
    }

    fn say(&self, change: impl FnOnce(&mut Said)) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut said);
        if said
            .reloaded
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() > RELOADED_LASTS)
        {
            said.reloaded = None;
        }
        let line = self.line(&said);
        if line != said.line {
            systemd::status(&line);
            said.line = line;
        }
    }

    /// What an operator has to act on comes first.
    fn line(&self, said: &Said) -> String {
        let mut parts: Vec<String> = said.failed.iter().cloned().collect();
        let standing = health::standing(&self.app);
        parts.push(clients(&self.app.shown()));
        parts.extend(lag(&self.app.kafka));
        if !standing.loading.is_empty() {
            parts.push(format!("loading {}", standing.loading.join(", ")));
        }
        parts.extend(standing.degraded);
        parts.extend(said.reloaded.iter().map(|(what, _)| what.clone()));
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

/// How far reading is behind, once anything is known of that.
fn lag(threads: &Board) -> Option<String> {
    let lags = threads.lag();
    let total = lags.iter().map(|lag| lag.records).fold(0, u64::saturating_add);
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    (!lags.is_empty()).then(|| format!("lag {}", counted(total, "record")))
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
