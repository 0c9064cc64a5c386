//! The ids of Wikimedia's [KafkaSSE](https://github.com/wikimedia/KafkaSSE), whose clients can move over. Pure.

use serde::Deserialize;

use super::control::Reset;
use super::position::{BEGINNING, Position};
use crate::config::Start;
use crate::config::units::other_unit;

/// One entry of an id: the next offset of a partition, or a time in
/// milliseconds since the epoch.
#[derive(Debug, Deserialize)]
pub(crate) struct IdEntry {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// The next offset, [`LATEST`] or [`EARLIEST`]. It goes before a time.
    pub offset: Option<i64>,
    /// The time of the first record to read; -1 where KafkaSSE knew none.
    pub timestamp: Option<i64>,
}

impl IdEntry {
    /// All entries of an id of KafkaSSE.
    ///
    /// # Errors
    /// When it is not a JSON array of them.
    pub(crate) fn all(id: &str) -> serde_json::Result<Vec<Self>> {
        serde_json::from_str(id)
    }
}

/// librdkafka's, and so KafkaSSE's, offset for the end of a partition.
pub(crate) const LATEST: i64 = -1;
/// The same for its beginning.
pub(crate) const EARLIEST: i64 = -2;

/// The content of an id of KafkaSSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KafkaSse {
    /// Where to go on.
    pub(super) wanted: Position,
    /// For every partition of every topic the time to go on at instead, where one was given; `None` where
    /// none was.
    pub(super) times: Option<Vec<Vec<Option<i64>>>>,
}

/// Whether an id is one of KafkaSSE, a JSON array; ours hold no bracket.
pub(super) fn is_kafka_sse(id: &str) -> bool {
    id.starts_with('[')
}

/// Reads an id of KafkaSSE, a JSON array of topics, partitions and next offsets or times. Partitions that it omits begin
/// at the first record at or after `since`, in milliseconds since the epoch, or else as `start` says.
///
/// # Errors
/// [`Reset::UnknownId`] for anything else, and for a time that is not in milliseconds; [`Reset::OtherStream`] when it
/// names none of `topics`.
pub(super) fn from_kafka_sse(
    id: &str,
    topics: &[String],
    here: &Position,
    since: Option<i64>,
    start: Start,
) -> Result<KafkaSse, Reset> {
    let entries = IdEntry::all(id).map_err(|_| Reset::UnknownId)?;
    let mut wanted = here.clone();
    wanted.forget_epochs();
    if since.is_some() || start != Start::Live {
        wanted
            .topics
            .iter_mut()
            .for_each(|topic| topic.next.fill(BEGINNING));
    }
    let mut times: Vec<Vec<Option<i64>>> = here
        .topics
        .iter()
        .map(|topic| vec![since; topic.next.len()])
        .collect();
    if !entries.iter().any(|entry| topics.contains(&entry.topic)) {
        return Err(Reset::OtherStream);
    }
    for entry in entries {
        let Some(index) = topics.iter().position(|topic| *topic == entry.topic) else {
            continue;
        };
        let partition = entry.partition as usize;
        let (Some(next), Some(time), Some(&end)) = (
            wanted
                .topics
                .get_mut(index)
                .and_then(|topic| topic.next.get_mut(partition)),
            times.get_mut(index).and_then(|times| times.get_mut(partition)),
            here.topics.get(index).and_then(|topic| topic.next.get(partition)),
        ) else {
            continue;
        };
        // As KafkaSSE has it: an offset goes before a time, and librdkafka's names are offsets too.
        let offset = match (entry.offset, entry.timestamp) {
            (Some(LATEST), _) => end,
            (Some(EARLIEST), _) => BEGINNING,
            (Some(offset), _) if offset >= 0 => offset,
            // Seconds would replay the whole topic.
            (_, Some(at)) if other_unit(at).is_some() => return Err(Reset::UnknownId),
            // KafkaSSE has -1 for a record without a timestamp: nothing to look for.
            (_, Some(at)) if at >= 0 => {
                *time = Some(at);
                continue;
            }
            _ => continue,
        };
        (*next, *time) = (offset, None);
    }
    let has_times = times.iter().flatten().any(Option::is_some);
    Ok(KafkaSse {
        wanted,
        times: has_times.then_some(times),
    })
}
