//! Sends `WATCHDOG=1` to systemd as long as all parts of the daemon advance.
//!
//! The parts are the HTTP service, which must answer a request; every worker of the runtime, which must return from
//! its task; every reading thread, which must be back when it announced; and every writer, which must get through its
//! records ([`Pulse`](crate::kafka::pulse::Pulse)). Otherwise the message is not sent, and systemd restarts the service
//! when `WatchdogSec=` is over. The watchdog is a task of the runtime that it checks, so a runtime that hangs sends
//! nothing. Neither Kafka nor clients are a reason: reading threads keep turning while a broker hangs.
//!
//! A part that advances, however slowly, is alive. Lateness is counted in checks, each of which counts for at most a
//! tick: where the machine is too busy to run the watchdog, the parts had no processor either.

use std::sync::Arc;
use std::time::Duration;

use log::{error, info};
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::http::self_check::SelfCheck;
use crate::kafka::status::KafkaStatus;
use crate::systemd;
use crate::writers::Pulses;

/// Checks in the time that a part may be late.
const CHECKS: u32 = 8;

/// Checks from one message to the next: eight messages in `WatchdogSec=`, as each may be seconds late on a busy
/// machine.
const CHECKS_PER_MESSAGE: u32 = 2;

#[derive(Debug)]
pub(crate) struct Watchdog {
    slack: Duration,
    threads: Arc<KafkaStatus>,
    writers: Arc<Pulses>,
    workers: Workers,
    service: SelfCheck,
    /// Checks with an idle runtime in which the service did not answer.
    unanswered: u32,
}

impl Watchdog {
    /// Checks these threads and writers, the runtime of the caller, and the service. A part may be late by `slack`.
    pub(crate) fn new(
        slack: Duration,
        threads: Arc<KafkaStatus>,
        writers: Arc<Pulses>,
        service: SelfCheck,
    ) -> Self {
        Self {
            slack,
            threads,
            writers,
            workers: Workers::new(Handle::current().metrics()),
            service,
            unanswered: 0,
        }
    }

    /// Checks all parts. Waits for the service until `end` at most. An error names the first part that does not
    /// advance.
    async fn look(&mut self, end: Instant) -> Result<(), String> {
        let tick = self.slack / CHECKS;
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
                "worker {worker} of the runtime does not return from its task"
            ));
        }
        match timeout_at(end, self.service.answers()).await {
            Ok(Ok(())) => self.unanswered = 0,
            Ok(Err(error)) => return Err(format!("the service does not answer: {error}")),
            // An idle runtime had the time to answer.
            Err(_) => self.unanswered += u32::from(has_rested),
        }
        if self.unanswered > CHECKS {
            return Err("the service does not answer".to_owned());
        }
        Ok(())
    }

    /// Sends `WATCHDOG=1` four times per `slack`, as long as all parts advance.
    pub(crate) async fn run(mut self) -> ! {
        let mut is_well = true;
        let mut checks = 0;
        loop {
            let end = Instant::now() + self.slack / CHECKS;
            match self.look(end).await {
                Ok(()) => {
                    // After a failure at once, before the time of systemd is over.
                    if !is_well || checks % CHECKS_PER_MESSAGE == 0 {
                        systemd::alive();
                    }
                    if !is_well {
                        info!("watchdog: all parts advance again");
                    }
                    is_well = true;
                }
                Err(why) => {
                    if is_well {
                        error!("watchdog: {why}; no longer reporting to systemd");
                    }
                    is_well = false;
                }
            }
            checks = checks.wrapping_add(1);
            sleep_until(end).await;
        }
    }
}

/// The workers of a runtime, and for how long each has not advanced.
#[derive(Debug)]
pub struct Workers {
    metrics: RuntimeMetrics,
    looked_at: std::time::Instant,
    seen: Vec<((u64, Duration), Duration)>,
}

impl Workers {
    /// The workers of the runtime with these metrics.
    pub fn new(metrics: RuntimeMetrics) -> Self {
        let seen = (0..metrics.num_workers()).map(|worker| (figures(&metrics, worker), Duration::ZERO));
        Self {
            seen: seen.collect(),
            looked_at: std::time::Instant::now(),
            metrics,
        }
    }

    /// Checks all workers; the time since the last check counts for at most `tick`. Returns whether a worker has parked
    /// since then, so that no task waited for a worker.
    pub fn look(&mut self, tick: Duration) -> bool {
        let now = std::time::Instant::now();
        let passed = now.duration_since(self.looked_at).min(tick);
        self.looked_at = now;
        let mut has_rested = false;
        for (worker, (seen, late)) in self.seen.iter_mut().enumerate() {
            let current = figures(&self.metrics, worker);
            // Odd: it is parked. A busy one updates its metrics every few tasks.
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

    /// The first that has been in one task for longer than `slack`.
    pub fn stuck(&self, slack: Duration) -> Option<usize> {
        self.seen.iter().position(|(_, late)| *late > slack)
    }
}

/// How often a worker was parked and unparked, and how long it was busy.
fn figures(metrics: &RuntimeMetrics, worker: usize) -> (u64, Duration) {
    (
        metrics.worker_park_unpark_count(worker),
        metrics.worker_total_busy_duration(worker),
    )
}
