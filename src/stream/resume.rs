//! Matches the position of a client that returns with that of the stream. Pure: positions in, positions out.

use super::control::Reset;
use super::position::{BEGINNING, NOT_BEGUN, Position, TopicPosition};

/// A client's position in the terms of the stream it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resumed {
    /// Where to go on: the stream's topics and partitions, [`BEGINNING`] where the client has none. A topic has
    /// more partitions than the stream knows where this daemon's metadata lags behind.
    pub(super) wanted: Position,
    /// Topics (by index) that are reset.
    pub(super) recreated: Vec<usize>,
}

/// Matches a client's position with the stream's. Topics are matched by the fingerprint of their name, not by their
/// order; a topic or partition that the id lacks is new and wanted from its beginning. Kafka never removes partitions
/// from a topic: where both topic ids are known and equal, partitions that only the client names are kept until the
/// stream knows them too.
///
/// # Errors
/// [`Reset::OtherStream`] when nothing matches.
pub(super) fn resume(client: &Position, stream: &Position) -> Result<Resumed, Reset> {
    let mut recreated = Vec::new();
    let mut is_known = false;
    let mut topics = Vec::with_capacity(stream.topics.len());
    for (index, here) in stream.topics.iter().enumerate() {
        let mut next = vec![BEGINNING; here.next.len()];
        let mut marks = Vec::new();
        if let Some(theirs) = client.topics.iter().find(|theirs| theirs.name == here.name) {
            is_known = true;
            // Zero is unknown, and unknown matches any.
            let is_same = theirs.id == here.id || theirs.id == 0 || here.id == 0;
            let is_known_same = theirs.id == here.id && here.id != 0;
            // A topic that does not exist now has no partitions, and may be back with all of them.
            let has_shrunk = theirs.next.len() > here.next.len() && !here.next.is_empty();
            if is_same && (is_known_same || !has_shrunk) {
                next.resize(next.len().max(theirs.next.len()), BEGINNING);
                next[..theirs.next.len()].copy_from_slice(&theirs.next);
                marks.clone_from(&theirs.marks);
            } else {
                recreated.push(index);
            }
        }
        topics.push(TopicPosition {
            next,
            marks,
            ..here.clone()
        });
    }
    if !is_known && !client.topics.is_empty() {
        return Err(Reset::OtherStream);
    }
    Ok(Resumed {
        wanted: Position {
            as_of: client.as_of,
            topics,
        },
        recreated,
    })
}

/// Whether an id names partitions of an existing topic that this daemon's metadata does not show yet.
pub(super) fn names_more_partitions(wanted: &Position, here: &Position) -> bool {
    let mut topics = wanted.topics.iter().zip(&here.topics);
    topics.any(|(wanted, here)| !here.next.is_empty() && wanted.next.len() > here.next.len())
}

/// Whether an id names partitions as not begun that have begun here.
pub(super) fn names_unbegun(wanted: &Position, here: &Position) -> bool {
    let mut partitions = wanted.partitions();
    partitions.any(|(topic, partition, next)| next == NOT_BEGUN && here.next(topic, partition) >= 0)
}

/// Whether an id has leader epochs at offsets that the stream has not reached, and so cannot compare yet.
pub(super) fn names_unread_epochs(wanted: &Position, here: &Position) -> bool {
    wanted.partitions().any(|(topic, partition, next)| {
        let read = here.next(topic, partition);
        wanted.mark(topic, partition) > 0 && read >= 0 && read < next
    })
}

/// The topics of which a client has seen more than this replica; `None` where there are none.
pub(super) fn ahead_of(wanted: &Position, here: &Position) -> Option<Vec<usize>> {
    let is_ahead = |(wanted, here): (&TopicPosition, &TopicPosition)| {
        wanted
            .next
            .iter()
            .zip(&here.next)
            // A partition that has not begun here has no leader that could be asked for its end.
            .any(|(wanted, here)| *here >= 0 && wanted > here)
    };
    let topics = wanted.topics.iter().zip(&here.topics);
    let ahead: Vec<usize> = (0..)
        .zip(topics)
        .filter(|(_, pair)| is_ahead(*pair))
        .map(|(index, _)| index)
        .collect();
    (!ahead.is_empty()).then_some(ahead)
}
