//! Offset lookups: makes one attempt, and schedules the next.
//!
//! Knows nothing of threads or of waiting readers; the pool runs the attempts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::debug;

use super::request::{LookupUnsupported, OffsetLookup, OffsetSpec, Offsets};
use crate::kafka::admin::{AdminThread, TopicState};
use crate::kafka::client::Connect;
use crate::kafka::connection::backoff;
use crate::kafka::error::{ErrorKind, KafkaError, Location};
use crate::kafka::metadata::{DOUBT, DOUBT_PAUSE};

#[derive(Debug)]
pub(super) struct PendingLookup {
    lookup: OffsetLookup,
    pub(super) due: Instant,
    failures: u32,
    /// When one of its partitions first seemed to be missing.
    in_doubt: Option<Instant>,
}

impl PendingLookup {
    pub(super) fn new(lookup: OffsetLookup) -> Self {
        Self {
            lookup,
            due: Instant::now(),
            failures: 0,
            in_doubt: None,
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.lookup.wanted.strong_count() > 0
    }

    /// Makes one attempt with `admin`, or a new one if it is empty, and leaves a working admin there. Returns the
    /// lookup if it must be retried.
    pub(super) fn attempt(
        mut self,
        connect: &mut dyn Connect,
        admin: &mut Option<AdminThread>,
    ) -> Option<Self> {
        // Before the first request to a broker: a reader that sees it unset gets offsets newer than its own request.
        self.lookup.is_started.store(true, Ordering::SeqCst);
        let connected = admin.take().map_or_else(|| connect.connect_admin(), Ok);
        let error = match connected {
            Ok(connected) => match offsets(&self.lookup, &connected, connect) {
                Ok(offsets) => {
                    *admin = Some(connected);
                    if self.is_doubtful(&offsets) {
                        return Some(self.retry_after(DOUBT_PAUSE));
                    }
                    (self.lookup.reply)(Ok(offsets));
                    return None;
                }
                Err(KafkaError {
                    kind: ErrorKind::Unsupported { reason, remedy },
                    ..
                }) => {
                    (self.lookup.reply)(Err(LookupUnsupported(format!("{reason}; {remedy}"))));
                    return None;
                }
                Err(error) => error,
            },
            // Another or an upgraded broker may suit the client: "unsupported" counts only from a connected client.
            Err(error) => error,
        };
        self.failures += 1;
        debug!("offset lookup: {error}; retrying");
        let pause = backoff(self.failures);
        Some(self.retry_after(pause))
    }

    fn retry_after(mut self, pause: Duration) -> Self {
        self.lookup.is_started.store(false, Ordering::SeqCst);
        self.due = Instant::now() + pause;
        self
    }

    /// Whether a partition seems to be missing: a broker that has just started, or a new leader, may not know it yet.
    fn is_doubtful(&mut self, offsets: &Offsets) -> bool {
        let specs = self.lookup.topics.iter().flat_map(|(_, specs)| specs);
        let is_missing = specs
            .zip(offsets.iter().flatten())
            .any(|(spec, offset)| *spec != OffsetSpec::Skip && offset.is_none());
        is_missing && self.in_doubt.get_or_insert_with(Instant::now).elapsed() < DOUBT
    }
}

fn offsets(lookup: &OffsetLookup, admin: &AdminThread, connect: &dyn Connect) -> Result<Offsets, KafkaError> {
    let names: Vec<Arc<str>> = lookup.topics.iter().map(|(name, _)| Arc::clone(name)).collect();
    let states = admin.topics(&names, &BTreeSet::new())?;
    // Such a topic may still exist.
    if let Some(error) = states.iter().find_map(|state| state.error.as_ref()) {
        return Err(KafkaError::unreachable(&connect.brokers(), error));
    }
    // A hidden topic existed before and may become visible again; until then its offsets are unknown.
    let is_hidden = |((_, specs), state): (&(Arc<str>, Vec<OffsetSpec>), &TopicState)| {
        state.partitions < specs.len() && state.is_authorized == Some(false)
    };
    if lookup.topics.iter().zip(&states).any(is_hidden) {
        return Err(KafkaError::unreachable(
            &connect.brokers(),
            "a topic may not be seen any more",
        ));
    }
    lookup
        .topics
        .iter()
        .zip(states)
        .map(|((topic, specs), state)| {
            topic_offsets(admin, &connect.brokers(), topic, specs, state.partitions)
        })
        .collect()
}

fn topic_offsets(
    admin: &AdminThread,
    brokers: &Arc<str>,
    topic: &Arc<str>,
    specs: &[OffsetSpec],
    count: usize,
) -> Result<Vec<Option<i64>>, KafkaError> {
    let existing = &specs[..specs.len().min(count)];
    let mut found = vec![None; specs.len()];
    if let Some(last) = existing.iter().rposition(|spec| *spec == OffsetSpec::Latest) {
        let bounds = admin.bounds_of(topic, last + 1)?;
        let wanted = existing.iter().zip(bounds);
        for (partition, (found, (spec, bounds))) in (0..).zip(found.iter_mut().zip(wanted)) {
            if *spec == OffsetSpec::Latest {
                let bounds = bounds.ok_or_else(|| {
                    let at = Location::partition(Arc::clone(topic), partition);
                    KafkaError::partition(brokers, at, "no leader answers")
                })?;
                *found = Some(bounds.high);
            }
        }
    }
    let time = |spec: &OffsetSpec| match spec {
        OffsetSpec::Timestamp(time) => Some(*time),
        OffsetSpec::Skip | OffsetSpec::Latest => None,
    };
    let times: Vec<Option<i64>> = existing.iter().map(time).collect();
    if times.iter().any(Option::is_some) {
        for (found, offset) in found.iter_mut().zip(admin.offsets_at(topic, &times)?) {
            *found = found.or(offset);
        }
    }
    Ok(found)
}
