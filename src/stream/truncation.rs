//! Truncated logs: offsets that clients may have seen but that no longer exist in Kafka, or hold other records.
//!
//! After an unclean election, or a power loss with one replica, the log of a partition ends before the last offset that
//! was read, and grows again with other records, of later leader epochs. The reading thread goes back. This module
//! remembers truncations and updates positions from before. Pure: positions in, positions and gaps out.

use std::sync::Arc;

use super::control::{Gap, GapReason};
use super::log::Sequence;
use super::position::{Position, mark_of};
use crate::kafka::epochs::{EpochEnd, Epochs};

/// Most truncations that are remembered; beyond that, the oldest are forgotten.
const MAX_CUTS: usize = 4096;

/// A partition whose log was truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// The first record behind the notice.
    pub(super) sequence: Sequence,
    /// Index of its topic in the stream's configuration.
    pub(super) topic: usize,
    pub(super) partition: u32,
    /// The first offset that holds another record.
    pub(super) from: i64,
    /// The next offset that the stream would have read.
    pub(super) to: i64,
    /// The mark of the leader epoch of the record before that; zero where it is unknown.
    pub(super) epoch: u32,
    /// The mark of the leader epoch of the last record that was lost, likewise. Positions with a greater one are of the
    /// current log.
    pub(super) lost: u32,
}

/// Truncations and leader epochs of the logs that a stream reads.
#[derive(Debug, Default)]
pub(super) struct Truncations {
    /// In the order in which they were noticed.
    cuts: Vec<Cut>,
    /// Copied when they change while a scan holds them: a leader changes rarely.
    epochs: Arc<LogEpochs>,
}

/// Leader epochs of the records that a stream has read, by topic and partition; shorter where none are known.
#[derive(Debug, Clone, Default)]
pub(super) struct LogEpochs(Vec<Vec<Epochs>>);

impl LogEpochs {
    /// The [`mark_of`] the leader epoch of a record that the stream has read.
    pub(super) fn mark(&self, topic: usize, partition: u32, offset: i64) -> u32 {
        let epochs = self.0.get(topic);
        let epochs = epochs.and_then(|epochs| epochs.get(partition as usize));
        mark_of(epochs.and_then(|epochs| epochs.at(offset)))
    }
}

/// The part of a position that is not in the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Divergence {
    /// Offsets beyond the point where it diverges from the log.
    pub(super) gaps: Vec<Gap>,
    /// Topics, by index, where it diverges from the log before the first record that was read.
    pub(super) unknown: Vec<usize>,
}

impl Truncations {
    /// Remembers a truncation.
    pub(super) fn note(&mut self, cut: Cut) {
        if let Some(epochs) = self.epochs_of(cut.topic, cut.partition) {
            epochs.go_back(cut.from);
        }
        if self.cuts.len() == MAX_CUTS {
            self.cuts.remove(0);
        }
        self.cuts.push(cut);
    }

    /// Notes that a record at this offset has another leader epoch than the one before it in its partition.
    pub(super) fn note_epoch(&mut self, (topic, partition): (usize, u32), epoch: Option<u32>, offset: i64) {
        let LogEpochs(topics) = Arc::make_mut(&mut self.epochs);
        if topics.len() <= topic {
            topics.resize(topic + 1, Vec::new());
        }
        let (epochs, partition) = (&mut topics[topic], partition as usize);
        if epochs.len() <= partition {
            epochs.resize(partition + 1, Epochs::default());
        }
        epochs[partition].note(epoch, offset);
    }

    /// Forgets the leader epochs of a topic that is reset.
    pub(super) fn forget_epochs(&mut self, topic: usize) {
        if let Some(epochs) = Arc::make_mut(&mut self.epochs).0.get_mut(topic) {
            epochs.clear();
        }
    }

    /// The leader epochs of what was read until now.
    pub(super) fn epochs(&self) -> Arc<LogEpochs> {
        Arc::clone(&self.epochs)
    }

    fn epochs_of(&mut self, topic: usize, partition: u32) -> Option<&mut Epochs> {
        let LogEpochs(topics) = Arc::make_mut(&mut self.epochs);
        topics.get_mut(topic)?.get_mut(partition as usize)
    }

    /// Moves the position of a returning client back to where logs were truncated; the stream is at `here`. Returns the
    /// offsets beyond.
    pub(super) fn take_back(&self, wanted: &mut Position, here: &Position) -> Vec<Gap> {
        let cuts = self.cuts.iter();
        cuts.filter_map(|cut| {
            let to = wanted.next(cut.topic, cut.partition);
            // Without leader epochs, only an id beyond the end of the current log is certainly of the one before.
            let are_known = cut.lost > 0 && cut.mark(wanted) > 0;
            let is_sure = are_known || to <= cut.to && to > here.next(cut.topic, cut.partition);
            (is_sure && cut.is_lost(wanted)).then(|| cut.take_back(wanted))
        })
        .collect()
    }

    /// Whether a position has seen records that the logs have lost; the stream is at `here`.
    pub(super) fn is_of_lost(&self, position: &Position, here: &Position) -> bool {
        let mut position = position.clone();
        !self.take_back(&mut position, here).is_empty()
            || self.compare(&mut position) != Divergence::default()
    }

    /// The same for a connected reader, for truncations behind record `since`. Records that it has read from Kafka
    /// since then may be of the log before or after the truncation.
    pub(super) fn take_reader_back(
        &self,
        wanted: &mut Position,
        since: Sequence,
        has_read_kafka: bool,
    ) -> Vec<Gap> {
        let cuts = self.cuts.iter().filter(|cut| cut.sequence > since);
        cuts.filter_map(|cut| {
            let is_beyond = wanted.next(cut.topic, cut.partition) > cut.from;
            let is_lost = cut.is_lost(wanted) || has_read_kafka && is_beyond;
            is_lost.then(|| cut.take_back(wanted))
        })
        .collect()
    }

    /// Compares the leader epochs of a position with those that were read, and moves it back to where they differ.
    pub(super) fn compare(&self, wanted: &mut Position) -> Divergence {
        let mut divergence = Divergence::default();
        for (index, (topic, epochs)) in wanted.topics.iter_mut().zip(&self.epochs.0).enumerate() {
            for (number, (partition, epochs)) in (0..).zip(epochs.iter().enumerate()) {
                let (Some(epoch), Some(&to)) = (topic.epoch(partition), topic.next.get(partition)) else {
                    continue;
                };
                match epochs.end_of(epoch) {
                    EpochEnd::At(from) if from < to => {
                        topic.move_to(partition, from);
                        divergence.gaps.push(Gap {
                            reason: GapReason::Truncated,
                            topic: index,
                            partition: number,
                            from,
                            to,
                        });
                    }
                    EpochEnd::Before(first) if first < to => divergence.unknown.push(index),
                    // A later epoch than this process has read is of a log that it has yet to read.
                    EpochEnd::At(_) | EpochEnd::Before(_) | EpochEnd::Open | EpochEnd::Unknown => {}
                }
            }
        }
        divergence.unknown.dedup();
        divergence
    }
}

impl Cut {
    fn mark(&self, position: &Position) -> u32 {
        position.mark(self.topic, self.partition)
    }

    /// Whether a position has seen lost records; false if it has no leader epoch and is of the current log.
    fn is_lost(&self, position: &Position) -> bool {
        let is_since = self.lost > 0 && self.mark(position) > self.lost;
        !is_since && position.next(self.topic, self.partition) > self.from
    }

    /// Moves a position back; returns the offsets beyond.
    fn take_back(&self, position: &mut Position) -> Gap {
        let to = position.next(self.topic, self.partition);
        position.set(self.topic, self.partition, self.from, self.epoch);
        Gap {
            reason: GapReason::Truncated,
            topic: self.topic,
            partition: self.partition,
            from: self.from,
            to,
        }
    }
}
