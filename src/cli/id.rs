//! `kafka-sse-bridge id`: an event id as the offsets that it holds.

use clap::Args;

use super::common::{Failure, say};
use crate::stream::position::{NOT_BEGUN, Position, TopicPosition};

/// The id to print.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The id as it stands in the event.
    id: String,
}

/// Prints a line for each topic.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let id = &options.id;
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
