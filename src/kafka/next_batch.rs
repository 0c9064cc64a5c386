//! Finds the next batch of a partition by its header alone, whatever its size: the `kafka` crate receives nothing of a
//! batch above its limit, and cannot tell it from transaction markers.
//!
//! A fetch with a limit of one byte returns one whole batch; only its header is read, and the connection is dropped.

use std::io;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::connection::host_port;
use super::wire_protocol::{BrokerClient, BrokerConnection, invalid};

/// The version of `Fetch` that returns a whole batch of any size (KIP-74), in the format with markers (KIP-98).
const FETCH: i16 = 4;

/// Bytes of a response up to the end of its first batch header: topic names have at most 249 bytes.
const HEAD_BYTES: usize = 512;

/// How long a broker holds a fetch that finds nothing, in milliseconds.
const WAIT: i32 = 100;

/// Most batches without a record that are skipped before a partition counts as read to its end.
const MAX_PASSED: usize = 1000;

/// The attribute of a batch of transaction markers.
const CONTROL: i16 = 1 << 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    /// The offset after it.
    next: i64,
    bytes: i64,
    has_records: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextBatch {
    /// The offset from which it was requested: after the markers before it.
    pub(super) offset: i64,
    /// The size of the batch, with the markers before it from where the search began.
    pub(super) bytes: i64,
}

impl BrokerClient {
    /// The next batch with records from an offset on; `None` if only markers follow.
    pub(super) fn next_batch(
        &mut self,
        topic: &str,
        partition: u32,
        from: i64,
    ) -> io::Result<Option<NextBatch>> {
        let leader = self.leader(topic, partition)?;
        if !self.speaks(ApiKey::Fetch, FETCH) {
            // Such a broker has no transactions, and so no markers: a batch that it does not return is too large.
            return Ok(Some(NextBatch {
                offset: from,
                bytes: i64::MAX,
            }));
        }
        let (mut offset, mut bytes) = (from, 0_i64);
        for _ in 0..MAX_PASSED {
            // The rest of the response is not read, so the connection is unusable.
            let mut plain = BrokerConnection::connect(&leader, self.credentials())?;
            let answer = plain.request_head(
                ApiKey::Fetch,
                FETCH,
                &request(topic, partition, offset)?,
                HEAD_BYTES,
            )?;
            let Some(head) = head(answer)? else {
                return Ok(None);
            };
            bytes = bytes.saturating_add(head.bytes);
            if head.has_records {
                return Ok(Some(NextBatch { offset, bytes }));
            }
            offset = head.next.max(offset + 1);
        }
        Ok(None)
    }

    /// `host:port` of the broker that leads a partition.
    fn leader(&mut self, topic: &str, partition: u32) -> io::Result<String> {
        let found = self.metadata(&[topic])?;
        let partition = i32::try_from(partition).map_err(invalid)?;
        let partitions = found.topics.iter().flat_map(|topic| &topic.partitions);
        let leader = partitions
            .filter(|found| found.partition_index == partition)
            .map(|found| found.leader_id)
            .next();
        let broker = found.brokers.iter().find(|broker| Some(broker.node_id) == leader);
        let broker = broker.ok_or_else(|| invalid("no leader answers"))?;
        Ok(host_port(&broker.host, broker.port))
    }
}

fn request(topic: &str, partition: u32, offset: i64) -> io::Result<FetchRequest> {
    let partition = FetchPartition::default()
        .with_partition(i32::try_from(partition).map_err(invalid)?)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![partition]);
    Ok(FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(WAIT)
        .with_min_bytes(1)
        .with_max_bytes(1)
        .with_topics(vec![topic]))
}

/// The header of the first batch in a response to [`request`], after the response's own header; `None` without a batch.
fn head(mut answer: Bytes) -> io::Result<Option<Head>> {
    let short = |_| invalid("the answer is too short");
    // The throttle time; one topic, its name; one partition, its number.
    answer.try_get_i32().map_err(short)?;
    if answer.try_get_i32().map_err(short)? != 1 {
        return Err(invalid("the answer is of other topics"));
    }
    let name = usize::try_from(answer.try_get_i16().map_err(short)?).map_err(invalid)?;
    skip(&mut answer, name)?;
    if answer.try_get_i32().map_err(short)? != 1 {
        return Err(invalid("the answer is of other partitions"));
    }
    answer.try_get_i32().map_err(short)?;
    let error = answer.try_get_i16().map_err(short)?;
    if error != 0 {
        return Err(invalid(format!("the broker's error {error}")));
    }
    // High watermark, last stable offset, aborted transactions of two numbers each.
    skip(&mut answer, 16)?;
    let aborted = usize::try_from(answer.try_get_i32().map_err(short)?).unwrap_or(0);
    skip(&mut answer, aborted.saturating_mul(16))?;
    if answer.try_get_i32().map_err(short)? <= 0 {
        return Ok(None);
    }
    let base = answer.try_get_i64().map_err(short)?;
    let length = answer.try_get_i32().map_err(short)?;
    let bytes = i64::from(length) + 12;
    // Leader epoch, or the checksum of a message in an older format.
    answer.try_get_i32().map_err(short)?;
    if answer.try_get_i8().map_err(short)? < 2 {
        return Ok(Some(Head {
            next: base + 1,
            bytes,
            has_records: true,
        }));
    }
    answer.try_get_i32().map_err(short)?;
    let attributes = answer.try_get_i16().map_err(short)?;
    let last = answer.try_get_i32().map_err(short)?;
    // Two times, the producer's id, epoch and sequence.
    skip(&mut answer, 30)?;
    let records = answer.try_get_i32().map_err(short)?;
    Ok(Some(Head {
        next: base + i64::from(last) + 1,
        bytes,
        has_records: records > 0 && attributes & CONTROL == 0,
    }))
}

fn skip(answer: &mut Bytes, count: usize) -> io::Result<()> {
    if answer.remaining() < count {
        return Err(invalid("the answer is too short"));
    }
    answer.advance(count);
    Ok(())
}
