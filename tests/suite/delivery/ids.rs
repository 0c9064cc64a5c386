//! The positions that event ids name.

use super::model::NOT_BEGUN;
use super::replica::Next;
use super::setup::{Place, TOPICS};
use crate::harness::wait::ensure;
use kafka_sse_bridge::stream::position::{self, Position, fingerprint};

/// The offsets that an id names, and up to when its holder knows of deletes.
pub fn read_id(id: &str) -> Result<(Next, Option<u64>), String> {
    let position = Position::parse(id.as_bytes()).map_err(|error| error.to_string())?;
    let names: Vec<u32> = position.topics.iter().map(|topic| topic.name).collect();
    ensure(
        names == TOPICS.map(fingerprint),
        "an id of other topics, or in another order",
    )?;
    let offset = |&next: &i64| match next {
        position::NOT_BEGUN => NOT_BEGUN,
        next => usize::try_from(next).unwrap(),
    };
    let offsets = |next: &Vec<i64>| next.iter().map(offset).collect();
    let next = position.topics.iter().map(|topic| offsets(&topic.next)).collect();
    Ok((next, position.as_of))
}

/// The same, with partitions that have not begun at their beginning.
pub fn begun(next: &Next) -> Next {
    let offset = |&next: &usize| if next == NOT_BEGUN { 0 } else { next };
    next.iter()
        .map(|topic| topic.iter().map(offset).collect())
        .collect()
}

/// Whether no partition is behind.
pub fn has_passed(one: &Next, other: &Next) -> bool {
    // One that has not begun is before all others.
    let offset = |next: usize| if next == NOT_BEGUN { 0 } else { next };
    let next = |topic: usize, partition: usize| one.get(topic).and_then(|topic| topic.get(partition));
    other.iter().enumerate().all(|(topic, other)| {
        let mut other = other.iter().enumerate();
        other.all(|(partition, &other)| next(topic, partition).copied().map_or(0, offset) >= offset(other))
    })
}

/// The leader epoch that an id names for a partition.
pub fn epoch_in(id: &str, place: Place) -> Option<u32> {
    let position = Position::parse(id.as_bytes()).ok()?;
    position.topics.get(place.topic)?.epoch(place.partition)
}
