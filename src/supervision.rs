//! What systemd hears of a daemon that runs: that it lives (`WATCHDOG=1`), and how it is (`STATUS=`).
//!
//! It lives while its parts turn: the service answers a request, every worker of the runtime comes back from
//! its task, and every reading thread is where it said it would be ([`Pulse`](crate::kafka::pulse::Pulse)).
//! Then systemd is told; otherwise it is not, and starts the service anew once `WatchdogSec=` is over. All of
//! this is a task of the same runtime, so that nobody is told anything where that hangs. What Kafka does, or
//! clients do, is no reason: a broker that hangs leaves the threads turning.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{error, info};
use tokio::runtime::{Handle, RuntimeMetrics};

use crate::http::health;
use crate::http::knock::Knock;
use crate::http::routes::{App, Shown};
use crate::kafka::status::Board;
use crate::systemd;

/// How often systemd is told how the daemon is, where that has changed.
const STATUS_EVERY: Duration = Duration::from_secs(3);

/// How long it is told what a reload changed. What a failed one says stays until one succeeds.
const RELOADED_LASTS: Duration = Duration::from_secs(60);

/// Most characters of a status line: it is for a terminal, and what is wrong with Kafka may be long.
const MAX_STATUS: usize = 1000;

/// Looks whether all parts turn.
#[derive(Debug)]
pub struct Watchdog {
    /// How long a part may be late.
    slack: Duration,
    threads: Arc<Board>,
    workers: Workers,
    service: Knock,
}

impl Watchdog {
    /// Looks at these threads, the runtime this is called in, and the service that answers a knock. A part
    /// may be late by `slack`.
    #[must_use]
    pub fn new(slack: Duration, threads: Arc<Board>, service: Knock) -> Self {
        Self {
            slack,
            threads,
            workers: Workers::new(Handle::current().metrics()),
            service,
        }
    }

    /// Whether all parts turn.
    ///
    /// # Errors
    /// Which does not, in words.
    pub async fn look(&mut self) -> Result<(), String> {
        if let Some(late) = self.threads.overdue().filter(|late| *late > self.slack) {
            return Err(format!("a thread that reads Kafka hangs, for {late:.0?} now"));
        }
        if let Some(worker) = self.workers.stuck(self.slack) {
            return Err(format!(
                "worker {worker} of the runtime does not come back from its task"
            ));
        }
        match tokio::time::timeout(self.slack, self.service.answers()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the service does not answer: {error}")),
            Err(_) => Err("the service does not answer".to_owned()),
        }
    }

    /// Tells systemd twice per `period` that the daemon lives, as long as it does.
    pub async fn run(mut self, period: Duration) -> ! {
        let mut is_well = true;
        loop {
            match self.look().await {
                Ok(()) => {
                    systemd::alive();
                    if !is_well {
                        info!("everything turns again");
                    }
                    is_well = true;
                }
                Err(why) => {
                    if is_well {
                        error!("{why}; systemd is not told that the daemon lives");
                    }
                    is_well = false;
                }
            }
            // What was late for a moment is seen to be back before systemd loses patience.
            tokio::time::sleep(if is_well { period / 2 } else { period / 8 }).await;
        }
    }
}

/// The workers of a runtime, and since when each has looked the same.
#[derive(Debug)]
pub struct Workers {
    metrics: RuntimeMetrics,
    seen: Vec<((u64, Duration), Instant)>,
}

impl Workers {
    /// Those of the runtime with these figures.
    #[must_use]
    pub fn new(metrics: RuntimeMetrics) -> Self {
        let now = Instant::now();
        let seen = (0..metrics.num_workers()).map(|worker| (figures(&metrics, worker), now));
        Self {
            seen: seen.collect(),
            metrics,
        }
    }

    /// The first that has been at one task for longer than `slack`, as far as earlier looks tell.
    pub fn stuck(&mut self, slack: Duration) -> Option<usize> {
        let now = Instant::now();
        let mut stuck = None;
        for (worker, (seen, since)) in self.seen.iter_mut().enumerate() {
            let current = figures(&self.metrics, worker);
            // Odd: it rests. A busy one adds to its figures every few tasks.
            let is_resting = current.0 % 2 == 1;
            if is_resting || current != *seen {
                (*seen, *since) = (current, now);
            } else if now.duration_since(*since) > slack {
                stuck = stuck.or(Some(worker));
            }
        }
        stuck
    }
}

/// How often a worker went to rest and came back, and how long it was busy.
fn figures(metrics: &RuntimeMetrics, worker: usize) -> (u64, Duration) {
    (
        metrics.worker_park_unpark_count(worker),
        metrics.worker_total_busy_duration(worker),
    )
}

/// Tells systemd how the daemon is, in one line.
#[derive(Debug)]
pub struct Teller {
    app: Arc<App>,
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
    pub fn new(app: Arc<App>) -> Self {
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
