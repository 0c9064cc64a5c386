//! The state of the registry, for health, metrics and logs: requests by outcome, schemas, and the ids that are waited
//! for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cache::Cache;
use crate::config::units::Span;
use crate::decode::{SchemaId, Supplied};

/// Most ids that a message names.
const MAX_NAMED: usize = 3;

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 200.
    Ok,
    /// The registry has no such schema, subject or version.
    NotFound,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// No answer in time.
    Timeout,
    /// No connection.
    Unreachable,
    /// An answer above the bound.
    TooLarge,
    /// Anything else.
    Error,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::NotFound,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Timeout,
        Self::Unreachable,
        Self::TooLarge,
        Self::Error,
    ];

    /// Its label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not-found",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::TooLarge => "too-large",
            Self::Error => "error",
        }
    }
}

/// Why an id has no answer yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delay {
    /// The registry cannot be used; the reason with a remedy.
    Failing(String),
    /// The registry does not know it, or what it refers to.
    Unknown {
        /// The unknown id or reference.
        what: String,
        /// For how long it is waited for.
        limit: Span,
    },
}

/// The figures of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryFigures {
    /// Schemas that are kept.
    pub schemas: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Schemas that are being fetched or waited for.
    pub waiting: usize,
    /// How long the registry has failed.
    pub failing: Duration,
}

/// The state of the registry.
#[derive(Debug)]
pub struct RegistryStatus {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    pub(super) cache: Mutex<Cache>,
    /// Ids that are waited for, since when, and why. Locked after the cache.
    waiting: Mutex<BTreeMap<SchemaId, (Instant, Option<Delay>)>>,
}

impl Default for RegistryStatus {
    fn default() -> Self {
        Self {
            outcomes: Default::default(),
            cache: Mutex::new(Cache::new(0)),
            waiting: Mutex::default(),
        }
    }
}

impl RegistryStatus {
    /// Requests by outcome.
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, u64)> {
        let counts = self.outcomes.iter().map(|count| count.load(Ordering::Relaxed));
        Outcome::ALL.into_iter().zip(counts)
    }

    /// The figures now.
    #[must_use]
    pub fn figures(&self) -> RegistryFigures {
        let (schemas, bytes) = self.cache.lock().figures();
        let waiting = self.waiting.lock();
        let failing = waiting
            .values()
            .filter(|(_, delay)| matches!(delay, Some(Delay::Failing(_))))
            .map(|(since, _)| since.elapsed());
        RegistryFigures {
            schemas,
            bytes,
            waiting: waiting.len(),
            failing: failing.max().unwrap_or_default(),
        }
    }

    /// The faults for operators: a failing registry, and schemas that are unknown or cannot be used.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let mut degraded = Vec::new();
        let failures = self.cache.lock().failures(Instant::now());
        let waiting = self.waiting.lock();
        let mut failing: BTreeMap<&str, (Duration, Vec<SchemaId>)> = BTreeMap::new();
        for (id, (since, delay)) in &*waiting {
            match delay {
                Some(Delay::Failing(reason)) => {
                    let entry = failing.entry(reason.as_str()).or_default();
                    entry.0 = entry.0.max(since.elapsed());
                    entry.1.push(*id);
                }
                Some(Delay::Unknown { what, limit }) => degraded.push(format!(
                    "schema registry: it does not know {what}; records with schema {id} wait for it, for {limit} at most"
                )),
                None => {}
            }
        }
        for (reason, (elapsed, ids)) in failing {
            let elapsed = Span(Duration::from_secs(elapsed.as_secs()));
            let named = named(&ids);
            degraded.push(format!(
                "schema registry: {reason}; it has failed for {elapsed}, and records with schema {named} wait"
            ));
        }
        let is_waited_for = |id: &SchemaId| waiting.contains_key(id);
        let (mut unknown, mut unusable) = (Vec::new(), Vec::new());
        for (id, supplied) in failures.iter().filter(|(id, _)| !is_waited_for(id)) {
            match supplied {
                Supplied::Unknown => unknown.push(*id),
                Supplied::Unusable(reason) => unusable.push((*id, reason)),
                Supplied::Schema(_) => {}
            }
        }
        for (id, reason) in unusable.iter().take(MAX_NAMED) {
            degraded.push(format!(
                "schema registry: schema {id} cannot be used: {reason}; records with it are passed over"
            ));
        }
        if unusable.len() > MAX_NAMED {
            let more: Vec<SchemaId> = unusable.iter().skip(MAX_NAMED).map(|(id, _)| *id).collect();
            degraded.push(format!(
                "schema registry: schema {} cannot be used either",
                named(&more)
            ));
        }
        if !unknown.is_empty() {
            degraded.push(format!(
                "schema registry: it does not know schema {}; records with it are passed over: register it, or correct \
                 urls in [kafka.schema_registry]",
                named(&unknown)
            ));
        }
        degraded
    }

    pub(super) fn count(&self, outcome: Outcome) {
        // In the order of the enum, which is that of ALL.
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether something waits for a registry that fails.
    pub(super) fn is_failing(&self) -> bool {
        let waiting = self.waiting.lock();
        let mut delays = waiting.values().map(|(_, delay)| delay);
        delays.any(|delay| matches!(delay, Some(Delay::Failing(_))))
    }

    pub(super) fn wait_for(&self, id: SchemaId) {
        self.waiting.lock().insert(id, (Instant::now(), None));
    }

    pub(super) fn delay(&self, id: SchemaId, delay: Delay) {
        if let Some((_, before)) = self.waiting.lock().get_mut(&id) {
            *before = Some(delay);
        }
    }

    /// Ends the wait for an id. Returns how long it took, if it was delayed.
    pub(super) fn end_wait(&self, id: SchemaId) -> Option<Duration> {
        let (since, delay) = self.waiting.lock().remove(&id)?;
        delay.map(|_| since.elapsed())
    }
}

/// The first ids, and how many more there are.
fn named(ids: &[SchemaId]) -> String {
    let mut text: Vec<String> = ids.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    if ids.len() > MAX_NAMED {
        text.push(format!("{} more", ids.len() - MAX_NAMED));
    }
    text.join(", ")
}
