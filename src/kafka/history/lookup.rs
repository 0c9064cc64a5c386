//! Offset lookups: one attempt at a time, and when the next is due.
//!
//! Knows nothing of threads or of the readers that wait; the pool runs the attempts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::debug;

use super::request::{LookupUnsupported, OffsetLookup, OffsetSpec, Offsets};
use crate::kafka::client::Connect;
use crate::kafka::connection::backoff;
use crate::kafka::error::{ErrorKind, KafkaError, Location};
use crate::kafka::metadata::{DOUBT, DOUBT_PAUSE};
use crate::kafka::source::Source;

/// A lookup that has not succeeded yet.
#[derive(Debug)]
pub(super) struct PendingLookup {
    lookup: OffsetLookup,
    /// When the next attempt is due.
    pub(super) due: Instant,
    failures: u32,
    /// Since when one of its partitions has seemed not to exist.
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

    /// Makes one attempt, over `source` or else a new one, and leaves a source that works there. Returns the lookup
    /// if it must be tried again.
    pub(super) fn attempt(
        mut self,
        connect: &mut dyn Connect,
        source: &mut Option<Box<dyn Source>>,
    ) -> Option<Self> {
        // Before the first request to a broker: a reader that sees it unset gets offsets newer than its own request.
        self.lookup.is_started.store(true, Ordering::SeqCst);
        let connected = source.take().map_or_else(|| connect.connect(), Ok);
        let error = match connected {
            Ok(mut connected) => match offsets(&self.lookup, &mut *connected, connect) {
                Ok(offsets) => {
                    *source = Some(connected);
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
            // Another broker, or an upgraded one, may suit the client: only a connected client is believed when it
            // reports that something is unsupported.
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

    /// Whether a partition seems not to exist: a broker that has just started, or a new leader, may not know of one
    /// that does.
    fn is_doubtful(&mut self, offsets: &Offsets) -> bool {
        let specs = self.lookup.topics.iter().flat_map(|(_, specs)| specs);
        let is_missing = specs
            .zip(offsets.iter().flatten())
            .any(|(spec, offset)| *spec != OffsetSpec::Skip && offset.is_none());
        is_missing && self.in_doubt.get_or_insert_with(Instant::now).elapsed() < DOUBT
    }
}

fn offsets(
    lookup: &OffsetLookup,
    source: &mut dyn Source,
    connect: &dyn Connect,
) -> Result<Offsets, KafkaError> {
    let names: Vec<Arc<str>> = lookup.topics.iter().map(|(name, _)| Arc::clone(name)).collect();
    let counts = source.partitions(&names)?;
    // A topic without READ permission, for one, may still exist.
    if let Some(trouble) = source.trouble() {
        return Err(KafkaError::unreachable(&connect.brokers(), trouble));
    }
    // A hidden topic existed before and may become visible again; until then its offsets are unknown.
    let is_hidden = |((name, specs), count): (&(Arc<str>, Vec<OffsetSpec>), &usize)| {
        *count < specs.len() && source.forbidden().contains(name)
    };
    if lookup.topics.iter().zip(&counts).any(is_hidden) {
        return Err(KafkaError::unreachable(
            &connect.brokers(),
            "a topic may not be seen any more",
        ));
    }
    lookup
        .topics
        .iter()
        .zip(counts)
        .map(|((topic, specs), count)| topic_offsets(source, &connect.brokers(), topic, specs, count))
        .collect()
}

/// Looks up the offsets of one topic that has `count` partitions.
fn topic_offsets(
    source: &mut dyn Source,
    brokers: &Arc<str>,
    topic: &str,
    specs: &[OffsetSpec],
    count: usize,
) -> Result<Vec<Option<i64>>, KafkaError> {
    let existing = &specs[..specs.len().min(count)];
    let mut found = vec![None; specs.len()];
    if let Some(last) = existing.iter().rposition(|spec| *spec == OffsetSpec::Latest) {
        let bounds = source.bounds(topic, last + 1)?;
        let wanted = existing.iter().zip(bounds);
        for (partition, (found, (spec, bounds))) in (0..).zip(found.iter_mut().zip(wanted)) {
            if *spec == OffsetSpec::Latest {
                let bounds = bounds.ok_or_else(|| {
                    let at = Location::partition(topic, partition);
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
        for (found, offset) in found.iter_mut().zip(source.offsets_at(topic, &times)?) {
            *found = found.or(offset);
        }
    }
    Ok(found)
}
