//! Fetches one batch of one partition at a time, to find out whether it can be received.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::handle_factory::HandleFactory;
use super::settings::REQUEST_TIMEOUT;
use crate::kafka::pulse::Pulse;

const LIMIT: Duration = Duration::from_secs(10);

const POLL_WAIT: Duration = Duration::from_millis(100);

pub(super) enum ProbeResult {
    /// A batch arrived, or the end of the partition.
    Readable,
    /// The response is larger than the library accepts. Holds the library's text.
    TooLarge(String),
    /// No response shows either.
    Unknown,
}

pub(super) struct BatchProbe {
    factory: HandleFactory,
    pulse: Arc<Pulse>,
    handle: Option<BaseConsumer<Context>>,
}

impl BatchProbe {
    pub(super) const fn new(factory: HandleFactory, pulse: Arc<Pulse>) -> Self {
        Self {
            factory,
            pulse,
            handle: None,
        }
    }

    /// Fetches the batch of a partition that contains this offset or follows it.
    pub(super) fn probe(&mut self, topic: &str, partition: i32, from: i64) -> ProbeResult {
        let handle = match self.handle.take().map_or_else(|| self.factory.probing(), Ok) {
            Ok(handle) => handle,
            Err(error) => {
                debug!("probing {topic:?}/{partition}: {error}");
                return ProbeResult::Unknown;
            }
        };
        match self.first(&handle, topic, partition, from) {
            Ok(ProbeResult::Readable) => {
                // A handle that has failed repeats its error only after a while, so it is not kept.
                self.handle = Some(handle);
                ProbeResult::Readable
            }
            Ok(probed) => probed,
            Err(error) => {
                debug!("probing {topic:?}/{partition}: {error}");
                ProbeResult::Unknown
            }
        }
    }

    fn first(
        &self,
        handle: &BaseConsumer<Context>,
        topic: &str,
        partition: i32,
        from: i64,
    ) -> Result<ProbeResult, RdKafkaError> {
        // Finds the leader, and shows that other responses arrive.
        handle.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from))?;
        handle.assign(&list)?;
        let deadline = Instant::now() + LIMIT;
        let mut probed = ProbeResult::Unknown;
        while Instant::now() < deadline && !self.pulse.has_command() {
            let polled = handle.poll(POLL_WAIT);
            if let Some(reason) = handle.context().last_oversize() {
                probed = ProbeResult::TooLarge(reason);
                break;
            }
            // The handle has only this partition, so any end is its end.
            if let Some(Ok(_) | Err(RdKafkaError::PartitionEOF(_))) = polled {
                probed = ProbeResult::Readable;
                break;
            }
        }
        handle.unassign()?;
        Ok(probed)
    }
}
