//! Leader epochs of written records, and truncated logs.

use super::Writer;
use crate::stream::block::Builder;
use crate::stream::control::{Gap, GapReason, Reset};
use crate::stream::counters::To;
use crate::stream::notice;
use crate::stream::position::mark_of;
use crate::stream::truncation::Cut;

impl Writer {
    /// Handles a truncation of a partition's log at `from`. A topic with a table is reset, since the table no longer
    /// has the records that the lost ones had replaced.
    pub(super) fn truncated(
        &mut self,
        (index, partition): (usize, u32),
        from: i64,
        epoch: Option<u32>,
        lost: Option<u32>,
    ) {
        let position = &self.position.topics[index];
        let number = partition as usize;
        let Some(&to) = position.next.get(number) else {
            return;
        };
        let cut = Cut {
            sequence: 0,
            topic: index,
            partition,
            from,
            to,
            epoch: mark_of(epoch.filter(|_| self.names_epochs)),
            lost: mark_of(lost).max(position.mark(number)),
        };
        if let Some(history) = self.stream.history() {
            history.outdate_replays();
        }
        if self.stream.settings().has_table() {
            self.begin_anew(index, Reset::Truncated);
            let mut state = self.stream.write();
            let sequence = state.log.next();
            state.truncations.note(Cut { sequence, ..cut });
            return;
        }
        // Another stream has read further, or this one begins at a later offset.
        if to <= from {
            return;
        }
        let mut notices = Builder::new(self.position.id().into(), self.stream.instant());
        let position = &mut self.position.topics[index];
        position.move_to(number, from);
        position.set_mark(number, cut.epoch);
        self.set_led(index, partition, epoch);
        // Before every topic has been assigned no client has seen a record.
        if self.unassigned.is_empty() {
            let gap = Gap {
                reason: GapReason::Truncated,
                topic: index,
                partition,
                from,
                to,
            };
            notice::append_truncated(&gap, &self.position, &self.stream.settings().topics, &mut notices);
            self.stream.counters().count_gap(To::All);
            self.announce(notices, None);
        }
        let mut state = self.stream.write();
        // Ids decrease here.
        state.log.turn();
        let sequence = state.log.next();
        state.truncations.note(Cut { sequence, ..cut });
        drop(state);
        self.stream.changed();
    }

    /// Sets the leader epoch of the last record of a partition.
    pub(super) fn set_led(&mut self, topic: usize, partition: u32, epoch: Option<u32>) {
        if self.led.len() <= topic {
            self.led.resize(topic + 1, Vec::new());
        }
        let (led, partition) = (&mut self.led[topic], partition as usize);
        if led.len() <= partition {
            led.resize(partition + 1, None);
        }
        led[partition] = epoch;
    }

    /// Notes that a record has another leader epoch than the one before it in its partition.
    pub(super) fn led_by(&mut self, topic: usize, partition: u32, epoch: Option<u32>, offset: i64) {
        self.set_led(topic, partition, epoch);
        let mark = mark_of(epoch.filter(|_| self.names_epochs));
        self.position.topics[topic].set_mark(partition as usize, mark);
        self.changes.push(((topic, partition), epoch, offset));
    }
}
