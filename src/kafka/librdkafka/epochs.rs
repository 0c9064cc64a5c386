//! Where leader epochs end in the logs of leaders (KIP-320).
//!
//! The library has no call for `OffsetForLeaderEpoch`. A seek beyond every log to an offset with the epoch fails, and the
//! error has the leader's answer.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::asking::ASK_TIMEOUT;
use super::consuming::Consuming;
use crate::kafka::native::{self, Read};
use crate::kafka::pulse::Pulse;
use crate::kafka::source::Cut;

/// Longest wait in one poll.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// An offset beyond every log.
const BEYOND: i64 = i64::MAX >> 1;

impl Consuming {
    /// Where the logs of partitions, from 0, end the epochs asked for, or the last ones before those; 0 where a log has
    /// later epochs only, and `None` where nothing is asked or the leader does not know. Of a handle that reads nothing.
    pub(super) fn epoch_ends(
        &mut self,
        topic: &str,
        asked: &[Option<u32>],
        pulse: &Pulse,
    ) -> Result<Vec<Option<i64>>, KafkaError> {
        let mut list = TopicPartitionList::new();
        let mut reads = Vec::new();
        for (partition, epoch) in (0..).zip(asked) {
            let Some(epoch) = *epoch else { continue };
            if self.queue.attach(topic, partition) {
                // At the end nothing is fetched meanwhile.
                list.add_partition_offset(topic, partition, Offset::End)?;
                reads.push(Read {
                    topic,
                    partition,
                    next: BEYOND,
                    epoch,
                });
            }
        }
        pulse.beat(ASK_TIMEOUT);
        // Makes the leaders known.
        self.handle.fetch_metadata(Some(topic), ASK_TIMEOUT)?;
        self.handle.incremental_assign(&list)?;
        let answered = self.answers(&reads, asked.len(), pulse);
        self.handle.incremental_unassign(&list)?;
        self.handle.assignment()?;
        answered
    }

    fn answers(
        &mut self,
        reads: &[Read<'_>],
        count: usize,
        pulse: &Pulse,
    ) -> Result<Vec<Option<i64>>, KafkaError> {
        pulse.beat(ASK_TIMEOUT);
        native::validate(&self.handle, reads, ASK_TIMEOUT)
            .map_err(|code| KafkaError::Seek(code.to_string()))?;
        let (mut ends, mut left) = (vec![None; count], reads.len());
        let until = Instant::now() + ASK_TIMEOUT;
        while left > 0 {
            if Instant::now() >= until || pulse.is_called() {
                return Err(KafkaError::Seek("no answer to OffsetForLeaderEpoch".to_owned()));
            }
            pulse.beat(POLL_WAIT);
            self.queue.take(POLL_WAIT, |fetched| {
                let Some((RDKafkaErrorCode::AutoOffsetReset, text)) = fetched.error() else {
                    return;
                };
                let Ok(partition) = usize::try_from(fetched.partition()) else {
                    return;
                };
                left = left.saturating_sub(1);
                if let Some(end) = ends.get_mut(partition) {
                    *end = Cut::from_text(&text).map(|cut| match cut {
                        Cut::Diverged { end, .. } | Cut::Shorter { end } => end,
                        Cut::Unrelated => 0,
                    });
                }
            });
        }
        Ok(ends)
    }
}
