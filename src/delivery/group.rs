//! The parked clients of one stream, and the sweep that writes a batch to them.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::chunk::framed;
use super::intake::Alarm;
use super::sockets::number;
use crate::stream::subscription::parked::{Batch, Head, HeadStep};

/// About how many bytes a sweep writes to each client.
const MOST: usize = 64 * 1024;

/// The parked clients of a stream.
pub(super) struct Group<S> {
    pub(super) head: Head,
    members: Vec<u32>,
    sweep: Option<Sweep>,
    /// Whether the next sweep goes from the last member to the first: who was last is first then.
    is_backwards: bool,
    pub(super) generation: u32,
    /// Whether it is in the worker's queue.
    pub(super) is_queued: bool,
    pub(super) alarm: Arc<Alarm<S>>,
    waker: Waker,
}

/// A batch that is being written.
#[derive(Debug)]
struct Sweep {
    batch: Arc<Batch>,
    chunk: Bytes,
    /// The members that are yet to be looked at are `from..to`. Those that came since are behind them.
    from: usize,
    to: usize,
}

/// What a group does next.
pub(super) enum GroupStep {
    /// It waits to be woken.
    Wait,
    /// Some may have come in the meantime.
    Again,
    /// Its members have to be unparked.
    Changed,
    /// These get the batch.
    Write {
        batch: Arc<Batch>,
        chunk: Bytes,
        members: Vec<u32>,
    },
}

impl<S: Send + 'static> Group<S> {
    pub(super) fn new(head: Head, generation: u32, alarm: Arc<Alarm<S>>) -> Self {
        Self {
            head,
            members: Vec::new(),
            sweep: None,
            is_backwards: false,
            generation,
            is_queued: false,
            waker: alarm.waker(),
            alarm,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The batch that is being written.
    pub(super) fn batch(&self) -> Option<&Arc<Batch>> {
        self.sweep.as_ref().map(|sweep| &sweep.batch)
    }

    /// Adds a client; returns its place.
    pub(super) fn add(&mut self, slot: u32) -> u32 {
        self.members.push(slot);
        number(self.members.len() - 1)
    }

    /// The last client, if there is one.
    pub(super) fn last(&self) -> Option<u32> {
        self.members.last().copied()
    }

    /// Removes the client at a place. `moved` is told who has another place now.
    pub(super) fn remove(&mut self, place: u32, mut moved: impl FnMut(u32, u32)) {
        let members = &mut self.members;
        let mut place = place as usize;
        let mut swap = |members: &mut Vec<u32>, one: usize, other: usize| {
            if one != other {
                members.swap(one, other);
                moved(members[one], number(one));
            }
        };
        // No member that is yet to be looked at may come among those that were.
        if let Some(sweep) = &mut self.sweep {
            if place < sweep.from {
                sweep.from -= 1;
                swap(members, place, sweep.from);
                place = sweep.from;
            }
            if (sweep.from..sweep.to).contains(&place) {
                sweep.to -= 1;
                swap(members, place, sweep.to);
                place = sweep.to;
            }
        }
        let last = members.len() - 1;
        swap(members, place, last);
        members.pop();
    }

    /// The next slice of at most `most` members.
    pub(super) fn step(&mut self, most: usize) -> GroupStep {
        if self.sweep.is_none() {
            match self.head.step(MOST) {
                HeadStep::Nothing if self.head.wait(&self.waker) => return GroupStep::Wait,
                HeadStep::Nothing => return GroupStep::Again,
                HeadStep::Changed => return GroupStep::Changed,
                HeadStep::Batch(batch) => {
                    let chunk = framed(&batch.frames);
                    let sweep = Sweep {
                        batch: Arc::new(batch),
                        chunk,
                        from: 0,
                        to: self.members.len(),
                    };
                    self.sweep = Some(sweep);
                }
            }
        }
        let Some(sweep) = &mut self.sweep else {
            return GroupStep::Again;
        };
        let count = most.min(sweep.to - sweep.from);
        if count == 0 {
            self.sweep = None;
            self.is_backwards = !self.is_backwards;
            return GroupStep::Again;
        }
        let members = if self.is_backwards {
            sweep.to -= count;
            sweep.to..sweep.to + count
        } else {
            sweep.from += count;
            sweep.from - count..sweep.from
        };
        GroupStep::Write {
            batch: Arc::clone(&sweep.batch),
            chunk: sweep.chunk.clone(),
            members: self.members[members].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests;
