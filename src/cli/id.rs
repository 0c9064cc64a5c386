//! `kafka-sse-bridge id`: prints the offsets in an event id.

use clap::Args;

use super::common::{Failure, say};
use crate::config::units::other_unit;
use crate::stream::kafka_sse_id::{EARLIEST, IdEntry, LATEST};
use crate::stream::position::{NOT_BEGUN, Position, TopicPosition};

/// The id to print.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The event's id.
    id: String,
}

/// Prints a line for each topic, or each entry of an id of KafkaSSE.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let id = &options.id;
    if id.trim_start().starts_with('[') {
        let entries = IdEntry::all(id).map_err(|error| {
            Failure::Other(format!(
                "id {id:?} is an array, as in KafkaSSE, but not of topics, partitions, and offsets or timestamps: {error}"
            ))
        })?;
        return say(&entries.iter().map(of_entry).collect::<String>());
    }
    let position =
        Position::parse(id.as_bytes()).map_err(|error| Failure::Other(format!("id {id:?} {error}")))?;
    let topic = |topic: &TopicPosition| {
        let next: Vec<String> = (0..)
            .zip(&topic.next)
            .map(|(partition, &next)| match (next, topic.epoch(partition)) {
                (NOT_BEGUN, _) => format!("{partition}:not-begun"),
                (next, None) => format!("{partition}:{next}"),
                (next, Some(epoch)) => format!("{partition}:{next}/{epoch}"),
            })
            .collect();
        format!(
            "topic name {:08x} id {:08x} next {}\n",
            topic.name,
            topic.id,
            next.join(" ")
        )
    };
    say(&position.topics.iter().map(topic).collect::<String>())
}

fn of_entry(entry: &IdEntry) -> String {
    let place = match (entry.offset, entry.timestamp) {
        (Some(LATEST), _) => "end".to_owned(),
        (Some(EARLIEST), _) => "beginning".to_owned(),
        (Some(offset), _) if offset >= 0 => format!("next {offset}"),
        (_, Some(at)) => match other_unit(at) {
            Some((unit, meant)) => {
                format!(
                    "timestamp {at}, which is in {unit} and makes the id unusable; in milliseconds it is {meant}"
                )
            }
            None if at >= 0 => format!("timestamp {at}"),
            None => "no position".to_owned(),
        },
        _ => "no position".to_owned(),
    };
    format!("topic {} partition {} {place}\n", entry.topic, entry.partition)
}
