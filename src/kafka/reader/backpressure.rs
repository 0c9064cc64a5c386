//! What is made of streams that do not take batches as fast as they come: their topics are paused, and that is counted,
//! logged and shown.
//!
//! Who is slow is decided by [`stream_queues`](crate::kafka::stream_queues). Knows nothing of offsets.

use std::time::{Duration, Instant};

use log::{info, warn};

use super::Worker;
use crate::kafka::error::KafkaError;
use crate::kafka::source::Source;
use crate::kafka::stream_queues::Change;

/// A stream that does not keep up for so long after it has been loaded needs a person.
const LASTING: Duration = Duration::from_secs(30);

impl Worker {
    /// Waits a moment for streams that have not taken what came, and pauses and resumes their topics.
    pub(super) fn settle_streams(&mut self, source: &mut dyn Source) -> Result<(), KafkaError> {
        let mut is_changed = false;
        for change in self.batcher.settle(self.status.pulse()) {
            match change {
                Change::Held { outlet, is_first } => {
                    is_changed = true;
                    let (stream, topics) = (self.batcher.stream(outlet), self.batcher.topics_of(outlet));
                    self.status.counters().pauses(stream).count();
                    if is_first {
                        info!(
                            "stream {stream}: takes batches more slowly than they come; its topics {topics:?} are \
                             paused until it has caught up, also for other streams that use them"
                        );
                    }
                    self.status.set_held(stream, Some(topics));
                }
                Change::Resumed(outlet, paused) => {
                    is_changed = true;
                    let stream = self.batcher.stream(outlet);
                    self.status.counters().pauses(stream).add(paused);
                    self.status.set_held(stream, None);
                }
                Change::KeepsUp(outlet, slow) => {
                    let stream = self.batcher.stream(outlet);
                    self.status.set_slow(stream, false);
                    info!(
                        "stream {stream}: keeps up again; its topics were paused {} times, {:.1?} in all",
                        slow.times, slow.paused
                    );
                }
            }
        }
        self.note_slow(Instant::now());
        if is_changed {
            source.assign(&self.batcher)?;
        }
        Ok(())
    }

    /// Names streams that do not keep up although they have been loaded.
    fn note_slow(&self, now: Instant) {
        for (outlet, slow) in self.batcher.slow() {
            if now.saturating_duration_since(slow.since) < LASTING {
                continue;
            }
            let topics = self.batcher.topics_of(outlet);
            let is_loading =
                |topic: &super::topic::Topic| topic.loading.is_some() && topics.contains(&topic.name);
            if self.topics.iter().any(is_loading) {
                continue;
            }
            let stream = self.batcher.stream(outlet);
            if self.status.set_slow(stream, true) {
                warn!(
                    "stream {stream}: has not kept up for {LASTING:?}: its clients are late; give it fewer distinct \
                     filters, split it, or spread it over more processors"
                );
            }
        }
    }
}
