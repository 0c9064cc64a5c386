//! Tells systemd that the daemon lives (`WATCHDOG=1`), as long as its parts get on.
//!
//! The parts are the service, which answers a request; every worker of the runtime, which comes back from its
//! task; every reading thread, which is where it said it would be; and every writer, which gets through its
//! records ([`Pulse`](crate::kafka::pulse::Pulse)). Otherwise systemd is not told, and starts the service anew
//! once `WatchdogSec=` is over. This is a task of the runtime it looks at, so that nothing is told where that
//! hangs. What Kafka does, or clients do, is no reason: a broker that hangs leaves the threads turning.
//!
//! A part that gets on, however slowly, is alive. Lateness is counted in looks, each of which counts for at
//! most a tick: where the machine is too busy for us to look, the parts had no processor either.

use std::sync::Arc;
use std::time::Duration;

use log::{error, info};
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::http::self_check::SelfCheck;
use crate::kafka::status::Board;
use crate::systemd;
use crate::writers::Pulses;

/// Looks in the time that a part may be late.
const LOOKS: u32 = 8;

/// Looks from one sign of life to the next: eight signs in `WatchdogSec=`, as on a busy machine each may be seconds
/// late.
const LOOKS_PER_SIGN: u32 = 2;

/// Looks whether all parts get on.
#[derive(Debug)]
pub struct Watchdog {
    /// How long a part may be late.
    slack: Duration,
    threads: Arc<Board>,
    writers: Arc<Pulses>,
    workers: Workers,
    service: SelfCheck,
    /// Looks with an idle runtime in which a question had no answer.
    unanswered: u32,
}

impl Watchdog {
    /// Looks at these threads and writers, the runtime this is called in, and the service that answers a knock.
    /// A part may be late by `slack`.
    #[must_use]
    pub fn new(slack: Duration, threads: Arc<Board>, writers: Arc<Pulses>, service: SelfCheck) -> Self {
        Self {
            slack,
            threads,
            writers,
            workers: Workers::new(Handle::current().metrics()),
            service,
            unanswered: 0,
        }
    }

    /// Whether all parts get on. Waits until `end` at most for the service.
    ///
    /// # Errors
    /// Which does not, in words.
    async fn look(&mut self, end: Instant) -> Result<(), String> {
        let tick = self.slack / LOOKS;
        let late = self.threads.look(tick);
        if late > self.slack {
            return Err(format!("a thread that reads Kafka hangs, for {late:.0?} now"));
        }
        let (what, late) = self.writers.look(tick);
        if late > self.slack {
            return Err(format!("{what}, for {late:.0?} now"));
        }
        let has_rested = self.workers.look(tick);
        if let Some(worker) = self.workers.stuck(self.slack) {
            return Err(format!(
                "worker {worker} of the runtime does not come back from its task"
            ));
        }
        match timeout_at(end, self.service.answers()).await {
            Ok(Ok(())) => self.unanswered = 0,
            Ok(Err(error)) => return Err(format!("the service does not answer: {error}")),
            // A runtime that had nothing else to do has had the time to answer.
            Err(_) => self.unanswered += u32::from(has_rested),
        }
        if self.unanswered > LOOKS {
            return Err("the service does not answer".to_owned());
        }
        Ok(())
    }

    /// Tells systemd four times per `slack` that the daemon lives, as long as it does.
    pub async fn run(mut self) -> ! {
        let mut is_well = true;
        let mut looks = 0;
        loop {
            let end = Instant::now() + self.slack / LOOKS;
            match self.look(end).await {
                Ok(()) => {
                    // What was late for a moment is told to be back before systemd loses patience.
                    if !is_well || looks % LOOKS_PER_SIGN == 0 {
                        systemd::alive();
                    }
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
            looks = looks.wrapping_add(1);
            sleep_until(end).await;
        }
    }
}

/// The workers of a runtime, and for how long each has looked the same.
#[derive(Debug)]
pub struct Workers {
    metrics: RuntimeMetrics,
    looked_at: std::time::Instant,
    seen: Vec<((u64, Duration), Duration)>,
}

impl Workers {
    /// Those of the runtime with these figures.
    #[must_use]
    pub fn new(metrics: RuntimeMetrics) -> Self {
        let seen = (0..metrics.num_workers()).map(|worker| (figures(&metrics, worker), Duration::ZERO));
        Self {
            seen: seen.collect(),
            looked_at: std::time::Instant::now(),
            metrics,
        }
    }

    /// Looks at all of them; the time since the last look counts for at most `tick`. Returns whether one of
    /// them went to rest meanwhile, so that nothing waited for a worker.
    pub fn look(&mut self, tick: Duration) -> bool {
        let now = std::time::Instant::now();
        let passed = now.duration_since(self.looked_at).min(tick);
        self.looked_at = now;
        let mut has_rested = false;
        for (worker, (seen, late)) in self.seen.iter_mut().enumerate() {
            let current = figures(&self.metrics, worker);
            // Odd: it rests. A busy one adds to its figures every few tasks.
            let is_resting = current.0 % 2 == 1;
            has_rested |= is_resting || current.0 != seen.0;
            if is_resting || current != *seen {
                (*seen, *late) = (current, Duration::ZERO);
            } else {
                *late += passed;
            }
        }
        has_rested
    }

    /// The first that has been at one task for longer than `slack`, as far as looks tell.
    #[must_use]
    pub fn stuck(&self, slack: Duration) -> Option<usize> {
        self.seen.iter().position(|(_, late)| *late > slack)
    }
}

/// How often a worker went to rest and came back, and how long it was busy.
fn figures(metrics: &RuntimeMetrics, worker: usize) -> (u64, Duration) {
    (
        metrics.worker_park_unpark_count(worker),
        metrics.worker_total_busy_duration(worker),
    )
}
