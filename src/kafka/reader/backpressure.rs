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
            is_changed |= self.note(change);
        }
        let now = Instant::now();
        is_changed |= self.move_blocking(now);
        self.report_slow(now);
        if is_changed {
            consumer.assign(&self.batcher)?;
        }
        Ok(())
    }

    /// Counts and reports a change. Returns whether topics are paused or resumed for it.
    fn note(&self, change: FlowChange) -> bool {
        match change {
            FlowChange::Paused { queue, is_first } => {
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
                true
            }
            FlowChange::Resumed(queue, paused) => {
                let stream = self.batcher.stream(queue);
                self.status.counters().pauses(stream).add(paused);
                self.status.set_paused(stream, None);
                true
            }
            FlowChange::KeepsUp(queue, slow) => {
                let stream = self.batcher.stream(queue);
                self.status.set_slow(stream, None);
                info!(
                    "stream {stream}: keeps up again; its topics were paused {} times, {:.1?} in all",
                    slow.times, slow.paused
                );
                false
            }
        }
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use tokio::sync::mpsc as channels;

    use super::*;
    use crate::kafka::client::{Connect, Handles};
    use crate::kafka::pulse::Pulse;
    use crate::kafka::reader::StartOffset;
    use crate::kafka::reader::beside::ThreadsBeside;
    use crate::kafka::reader::progress::Loading;
    use crate::kafka::reader::state::Role;
    use crate::kafka::reader_status::ReaderStatus;
    use crate::kafka::record::{Feed, Stamp};
    use crate::kafka::stream_queues::StreamChannel;

    struct NoClient;

    impl Connect for NoClient {
        fn connect(&mut self) -> Result<Handles, KafkaError> {
            Err(KafkaError::unreachable(&self.brokers(), "none"))
        }

        fn brokers(&self) -> Arc<str> {
            "none".into()
        }

        fn refuse(&mut self, _error: &KafkaError) -> bool {
            false
        }
    }

    fn channel(stream: &str, capacity: usize) -> (StreamChannel, channels::Receiver<Feed>) {
        let (feed, feeds) = channels::channel(capacity);
        let channel = StreamChannel {
            stream: stream.into(),
            feed,
            has_table: false,
        };
        (channel, feeds)
    }

    /// A reader of two topics. `/slow` uses both and takes nothing, `/other` uses the second one.
    fn reader() -> (KafkaReader, [channels::Receiver<Feed>; 2]) {
        let (slow, slow_feeds) = channel("/slow", 1);
        let (other, other_feeds) = channel("/other", 100);
        let plans = [("alone", vec![slow.clone()]), ("shared", vec![slow, other])];
        let plans = plans.map(|(topic, channels)| (topic.into(), StartOffset::Earliest, channels));
        let status = Arc::new(ReaderStatus::default());
        let beside = Arc::new(ThreadsBeside::new(None, Arc::clone(&status)));
        let mut reader = KafkaReader::new(
            Box::new(NoClient),
            plans.into_iter(),
            status,
            mpsc::channel().1,
            (beside, Role::First),
        );
        let batcher = &mut reader.batcher;
        for topic in ["alone", "shared"] {
            batcher.assign(topic, None, vec![0], vec![0]);
        }
        let stamp = Stamp {
            partition: 0,
            offset: 0,
            timestamp: None,
        };
        batcher.push(None, "shared", stamp, None, Some(b"v"), std::iter::empty());
        batcher.flush();
        let changes = batcher.update_paused(&Pulse::default());
        assert!(
            matches!(changes[..], [FlowChange::Paused { is_first: true, .. }]),
            "{changes:?}"
        );
        (reader, [slow_feeds, other_feeds])
    }

    /// The messages of health about the stream after it has been slow for a time.
    fn degraded(reader: &KafkaReader, slow_for: Duration) -> Vec<String> {
        let (_, slow) = reader.batcher.slow().next().expect("a slow stream");
        reader.report_slow(slow.since + slow_for);
        named(reader)
    }

    fn named(reader: &KafkaReader) -> Vec<String> {
        let degraded = reader.status.snapshot().degraded;
        degraded
            .into_iter()
            .filter(|message| message.contains("does not keep up"))
            .collect()
    }

    #[test]
    fn a_stream_that_does_not_keep_up_is_named_after_thirty_seconds() {
        let (reader, _feeds) = reader();
        assert_eq!(degraded(&reader, Duration::from_millis(29_999)), [""; 0]);
        let named = "stream /slow: does not keep up with its topics, its clients are late, and those of streams \
                     {\"/other\"}, which share topics with it";
        for seconds in [30, 31, 3600] {
            assert_eq!(degraded(&reader, Duration::from_secs(seconds)), [named]);
        }
    }

    #[test]
    fn a_stream_whose_topics_are_still_loaded_is_not_named() {
        let (mut reader, _feeds) = reader();
        reader.topics[0].loading = Some(Loading::new(vec![0], vec![9], Instant::now()));
        assert_eq!(degraded(&reader, Duration::from_secs(60)), [""; 0]);
        reader.topics[0].loading = None;
        assert_eq!(degraded(&reader, Duration::from_secs(60)).len(), 1);
    }

    #[test]
    fn pauses_are_counted_with_their_time_and_health_names_the_stream_until_it_keeps_up() {
        let (reader, _feeds) = reader();
        let (queue, slow) = reader.batcher.slow().next().expect("a slow stream");
        let counters = reader.status.counters().pauses(reader.batcher.stream(queue));
        let counted = || (counters.times(), counters.paused());
        let paused_by = || reader.status.paused_by("/slow").len();

        assert!(reader.note(FlowChange::Paused {
            queue,
            is_first: true
        }));
        assert_eq!(
            counted(),
            (1, Duration::ZERO),
            "the time of a pause counts when it ends"
        );
        assert_eq!(paused_by(), 2, "both of its topics");
        assert!(reader.note(FlowChange::Resumed(queue, Duration::from_secs(3))));
        assert_eq!(counted(), (1, Duration::from_secs(3)));
        assert_eq!(paused_by(), 0);
        assert!(reader.note(FlowChange::Paused {
            queue,
            is_first: false
        }));
        assert!(reader.note(FlowChange::Resumed(queue, Duration::from_secs(4))));
        assert_eq!(counted(), (2, Duration::from_secs(7)));

        assert_eq!(degraded(&reader, Duration::from_secs(60)).len(), 1);
        assert!(
            !reader.note(FlowChange::KeepsUp(queue, slow)),
            "nothing is resumed for it"
        );
        assert_eq!(named(&reader), [""; 0]);
    }
}
