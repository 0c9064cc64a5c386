//! Backpressure: pauses and resumes the topics of streams that take batches more slowly than Kafka delivers them, and
//! counts, logs and shows that.
//!
//! [`stream_queues`](crate::kafka::stream_queues) decides which streams are slow. Knows nothing of offsets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::state::KafkaReader;
use super::topic::Topic;
use crate::kafka::consumer::Consumer;
use crate::kafka::error::KafkaError;
use crate::kafka::stream_queues::FlowChange;

/// How long a stream may be slow after it was loaded until an operator must act.
const REPORT_AFTER: Duration = Duration::from_secs(30);

impl KafkaReader {
    /// Waits briefly for streams with full channels, then pauses and resumes topics.
    pub(super) fn update_paused(&mut self, consumer: &mut dyn Consumer) -> Result<(), KafkaError> {
        let mut is_changed = false;
        for change in self.batcher.update_paused(self.status.pulse()) {
            match change {
                FlowChange::Paused { queue, is_first } => {
                    is_changed = true;
                    let (stream, topics) = (self.batcher.stream(queue), self.batcher.topics_of(queue));
                    self.status.counters().pauses(stream).count();
                    if is_first {
                        let sharing = self.batcher.sharing(&BTreeSet::from([queue]));
                        let also = if sharing.is_empty() {
                            String::new()
                        } else {
                            format!(", also for streams {sharing:?}, which use them too")
                        };
                        info!(
                            "stream {stream}: takes batches more slowly than they come; its topics {topics:?} are \
                             paused until it has caught up{also}"
                        );
                    }
                    self.status.set_paused(stream, Some(topics));
                }
                FlowChange::Resumed(queue, paused) => {
                    is_changed = true;
                    let stream = self.batcher.stream(queue);
                    self.status.counters().pauses(stream).add(paused);
                    self.status.set_paused(stream, None);
                }
                FlowChange::KeepsUp(queue, slow) => {
                    let stream = self.batcher.stream(queue);
                    self.status.set_slow(stream, None);
                    info!(
                        "stream {stream}: keeps up again; its topics were paused {} times, {:.1?} in all",
                        slow.times, slow.paused
                    );
                }
            }
        }
        let now = Instant::now();
        is_changed |= self.move_blocking(now);
        self.report_slow(now);
        if is_changed {
            consumer.assign(&self.batcher)?;
        }
        Ok(())
    }

    /// Reports streams that do not keep up although their topics are loaded.
    fn report_slow(&self, now: Instant) {
        for (queue, slow) in self.batcher.slow() {
            if now.saturating_duration_since(slow.since) < REPORT_AFTER {
                continue;
            }
            let topics = self.batcher.topics_of(queue);
            let is_loading = |topic: &Topic| topic.loading.is_some() && topics.contains(&topic.name);
            if self.topics.iter().any(is_loading) {
                continue;
            }
            let stream = self.batcher.stream(queue);
            let sharing = self.batcher.sharing(&BTreeSet::from([queue]));
            let also = if sharing.is_empty() {
                String::new()
            } else {
                format!(", and so are those of streams {sharing:?}, which use its topics {topics:?}")
            };
            if self.status.set_slow(stream, Some(sharing)) {
                warn!(
                    "stream {stream}: has not kept up for {REPORT_AFTER:?}: its clients are late{also}; give it fewer \
                     distinct filters, split it, or spread it over more processors"
                );
            }
        }
    }
}
