//! Records that a full table has lost, and which clients have not seen them.

use std::collections::BTreeMap;

use super::log::Sequence;
use super::position::Position;
use super::row::Origin;

/// Latest records of keys that were evicted from the table or found no room in it: rows, and deletes that are no longer
/// remembered.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// The last such offset, by topic and partition: a client past it has seen the records.
    offsets: BTreeMap<(u16, u32), i64>,
    /// The last number of such a record.
    pub(super) sequence: Sequence,
    /// The last number of any row that was in the table.
    pub(super) row: Sequence,
}

impl Lost {
    /// Notes a record that found no room.
    pub(super) fn note(&mut self, sequence: Sequence, origin: &Origin) {
        self.sequence = self.sequence.max(sequence);
        let last = self.offsets.entry((origin.topic, origin.partition)).or_default();
        *last = origin.offset.max(*last);
    }

    /// Notes a row that was evicted.
    pub(super) fn note_row(&mut self, sequence: Sequence, origin: &Origin) {
        self.note(sequence, origin);
        self.row = self.row.max(sequence);
    }

    /// Forgets the offsets of a topic that is reset.
    pub(super) fn forget(&mut self, topic: u16) {
        self.offsets.retain(|(of, _), _| *of != topic);
    }

    /// Whether a client with this position has seen all of it.
    pub(super) fn is_behind(&self, wanted: &Position) -> bool {
        // A client has no records of a topic that it wants from the beginning. That does not hold for a single
        // partition: the client may hold older records of the same keys from another one.
        // Times are not compared here: clocks may have been set back since.
        self.offsets.iter().all(|(&(topic, partition), &last)| {
            let topic = usize::from(topic);
            let next = wanted.next(topic, partition);
            let holds_nothing = || {
                let topic = wanted.topics.get(topic);
                topic.is_none_or(|topic| topic.next.iter().all(|&next| next < 0))
            };
            next > last || next < 0 && holds_nothing()
        })
    }
}
