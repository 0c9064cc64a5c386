//! The position that a stream has read up to, with the leader epochs of its records, and the positions at which clients
//! may begin. Pure.

use std::collections::BTreeMap;

use crate::kafka::record::{Record, TopicId};
use crate::stream::position::{BEGINNING, NOT_BEGUN, Position, TopicPosition, id_fingerprint, mark_of};
use crate::stream::state::Begin;

/// A change of the leader epoch at an offset of a partition, which is given by topic and number.
pub(super) type EpochChange = ((usize, u32), Option<u32>, i64);

/// The offsets of all partitions of a stream, in the order of its topics.
#[derive(Debug)]
pub(super) struct NextOffsets {
    pub(super) position: Position,
    /// The first offset of every partition when it was assigned.
    pub(super) low: Position,
    /// Where a client begins to read a partition that its id says has not begun.
    pub(super) live: Position,
    /// Partitions that had no leader at first, by topic and partition, with their first live offsets.
    begun: BTreeMap<(usize, u32), i64>,
    /// The leader epoch of the last record of every partition; shorter where none are known.
    epochs: Vec<Vec<Option<u32>>>,
    /// Changes of `epochs` that the log does not know yet.
    changes: Vec<EpochChange>,
    /// Whether ids are short enough for leader epochs.
    names_epochs: bool,
    has_table: bool,
}

impl NextOffsets {
    pub(super) fn new(topics: &[String], has_table: bool) -> Self {
        let unread = Position {
            as_of: None,
            topics: topics.iter().map(|name| TopicPosition::unread(name)).collect(),
        };
        Self {
            position: Position {
                // Half-way through loading, no id can claim to know of deletes: the rest may contain old ones.
                as_of: has_table.then_some(0),
                ..unread.clone()
            },
            low: unread.clone(),
            live: unread,
            begun: BTreeMap::new(),
            epochs: Vec::new(),
            changes: Vec::new(),
            names_epochs: true,
            has_table,
        }
    }

    /// Notes that a partition that had no leader has one, and its first live offset.
    pub(super) fn begin(&mut self, topic: usize, partition: u32, at: i64) {
        self.begun.insert((topic, partition), at);
    }

    /// Forgets the offsets of a topic that is reset.
    pub(super) fn reset(&mut self, index: usize) {
        for position in [&mut self.position, &mut self.live] {
            position.topics[index].start_over(Vec::new());
        }
        if let Some(epochs) = self.epochs.get_mut(index) {
            epochs.clear();
        }
        self.begun.retain(|(topic, _), _| *topic != index);
    }

    /// Sets the position to the next offsets of a topic. Returns the partitions that begin after others were read. The
    /// log must not contain the past of such a partition, because clients would take it for new, but a table needs it.
    pub(super) fn assign(&mut self, index: usize, next: &[i64]) -> Vec<Begin> {
        let (position, live) = (&mut self.position.topics[index], &mut self.live.topics[index]);
        position.next.truncate(next.len());
        live.next.truncate(next.len());
        let (mut begins, mut jumped) = (Vec::new(), Vec::new());
        for (partition, &next) in (0..).zip(next) {
            let is_late = position.next.get(partition as usize) == Some(&NOT_BEGUN) && next >= 0;
            let at = match self.begun.get(&(index, partition)) {
                Some(&at) if is_late && !self.has_table => at.max(next),
                _ if next < 0 => NOT_BEGUN,
                _ => next,
            };
            match position.next.get_mut(partition as usize) {
                // A record that the stream has read or passed over is not read again.
                Some(&mut known) if at > known => {
                    position.move_to(partition as usize, at);
                    jumped.push(partition);
                }
                Some(_) => {}
                None => position.next.push(at),
            }
            match live.next.get_mut(partition as usize) {
                Some(live) if *live == NOT_BEGUN => *live = at,
                Some(_) => {}
                None => live.next.push(at),
            }
            if is_late {
                begins.push(Begin {
                    sequence: 0,
                    topic: index,
                    partition,
                    at,
                });
            }
        }
        for partition in jumped {
            self.set_epoch(index, partition, None);
        }
        begins
    }

    /// Sets the id and the first offsets of an assigned topic, which `is_new` if it was reset.
    pub(super) fn identify(&mut self, index: usize, id: Option<TopicId>, low: &[i64], is_new: bool) {
        // The id of the same topic stays known.
        if is_new || id.is_some() {
            self.position.topics[index].id = id_fingerprint(id);
        }
        let known = &mut self.low.topics[index].next;
        if is_new {
            known.clear();
        }
        // A first offset that is known is kept, even after retention deletes the record.
        known.resize(known.len().max(low.len()), BEGINNING);
        for (known, &low) in known.iter_mut().zip(low) {
            if *known == BEGINNING {
                *known = low;
            }
        }
        self.names_epochs = self.position.has_room_for_epochs();
        if !self.names_epochs {
            self.position.forget_epochs();
        }
    }

    /// Moves to a record, unless the stream has passed it: the past of a partition that began late is read again for the
    /// table. Returns whether it moved.
    pub(super) fn advance(&mut self, index: usize, record: &Record<'_>) -> bool {
        let next = &mut self.position.topics[index].next;
        let Some(next) = next.get_mut(record.partition as usize) else {
            return false;
        };
        if record.offset < *next {
            return false;
        }
        *next = record.offset.saturating_add(1);
        let epochs = self.epochs.get(index);
        let epoch = epochs.and_then(|epochs| *epochs.get(record.partition as usize)?);
        if epoch != record.epoch {
            self.set_epoch(index, record.partition, record.epoch);
            let mark = self.mark_in_ids(record.epoch);
            self.position.topics[index].set_mark(record.partition as usize, mark);
            self.changes
                .push(((index, record.partition), record.epoch, record.offset));
        }
        true
    }

    /// The changes of leader epochs since the last call.
    pub(super) fn epoch_changes(&mut self) -> impl Iterator<Item = EpochChange> {
        self.changes.drain(..)
    }

    /// Moves a partition back to where its log was truncated, behind a record of that epoch.
    pub(super) fn truncate(&mut self, index: usize, partition: u32, from: i64, epoch: Option<u32>) {
        let mark = self.mark_in_ids(epoch);
        let position = &mut self.position.topics[index];
        position.move_to(partition as usize, from);
        position.set_mark(partition as usize, mark);
        self.set_epoch(index, partition, epoch);
    }

    /// The mark of a leader epoch in ids; zero where these are too long for epochs.
    pub(super) fn mark_in_ids(&self, epoch: Option<u32>) -> u32 {
        mark_of(epoch.filter(|_| self.names_epochs))
    }

    /// Sets the leader epoch of the last record of a partition.
    pub(super) fn set_epoch(&mut self, index: usize, partition: u32, epoch: Option<u32>) {
        if self.epochs.len() <= index {
            self.epochs.resize(index + 1, Vec::new());
        }
        let (epochs, partition) = (&mut self.epochs[index], partition as usize);
        if epochs.len() <= partition {
            epochs.resize(partition + 1, None);
        }
        epochs[partition] = epoch;
    }

    /// A topic is loaded. A client begins at most `preload` records back in a partition that it has not read.
    pub(super) fn loaded(&mut self, index: usize, preload: i64) {
        let (read, live) = (&self.position.topics[index], &mut self.live.topics[index]);
        for (partition, (&next, live)) in (0..).zip(read.next.iter().zip(&mut live.next)) {
            if !self.begun.contains_key(&(index, partition)) {
                *live = (next - preload).max(*live);
            }
        }
    }
}
