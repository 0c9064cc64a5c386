//! The writing side of a stream: turns the feeds of the Kafka threads into blocks of the log.
//!
//! A [`Writer`] takes one [`Feed`] per call. It uses no task and no thread: `writers.rs` drives it, and tests do so
//! step by step.

mod next_offsets;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use log::error;

use self::next_offsets::NextOffsets;
use self::records::RecordWriter;
use super::block::Builder;
use super::control::{Gap, GapReason, Reset};
use super::counters::To;
use super::known_deletes::KnownDeletes;
use super::notice::{self, to_u16};
use super::position::{MAX_ID, mark_of};
use super::shared::Stream;
use super::state::Begin;
use super::table::Cleared;
use super::truncation::Cut;
use crate::decode::used::UsedSchemas;
use crate::kafka::pulse::Pulse;
use crate::kafka::record::{Feed, TopicId};

/// Batches that may wait for a stream: at most 256 KiB of records each, so 4 MiB. That decouples fetching from encoding
/// at a bounded memory cost. A full channel stops the fetching thread, which is the back-pressure on Kafka.
pub const CHANNEL_BATCHES: usize = 16;

/// Most rows of a reset topic that are freed at once: about a millisecond's work, and twice the records of a batch, so
/// that old rows are freed faster than new ones arrive.
pub const FREED_AT_ONCE: usize = 8192;

/// Numbers, encodes and appends the records of one stream.
#[derive(Debug)]
pub struct Writer {
    stream: Arc<Stream>,
    records: RecordWriter,
    offsets: NextOffsets,
    /// The time up to which all deletes are known.
    known: KnownDeletes,
    loading: BTreeSet<usize>,
    unassigned: BTreeSet<usize>,
    /// Topics that are reset at their next assignment, and why.
    resets: BTreeMap<usize, Reset>,
    /// Rows that have left the table and are not freed yet.
    cleared: Vec<Cleared>,
}

impl Writer {
    /// The one writer of `stream`.
    pub fn new(stream: Arc<Stream>) -> Self {
        let settings = stream.settings();
        let topics = 0..settings.topics.len();
        Self {
            records: RecordWriter::new(Arc::clone(&stream)),
            offsets: NextOffsets::new(&settings.topics, settings.has_table()),
            known: KnownDeletes::new(settings.topics.len(), stream.now()),
            loading: topics.clone().collect(),
            unassigned: topics.collect(),
            resets: BTreeMap::new(),
            cleared: Vec::new(),
            stream,
        }
    }

    /// Where the schemas of its records are noted.
    pub fn schemas(&self) -> &Arc<UsedSchemas> {
        self.stream.schemas()
    }

    /// The pulse, which steps at every record.
    pub fn pulse(&self) -> &Arc<Pulse> {
        self.records.pulse()
    }

    /// Applies a feed.
    pub fn take(&mut self, feed: &Feed) {
        let mut topics = self.stream.settings().topics.iter();
        let Some(topic) = topics.position(|name| name == feed.topic()) else {
            return;
        };
        if self.stream.failure().is_some() {
            return;
        }
        match feed {
            Feed::Recreated { .. } => self.reset(topic, Reset::Recreated),
            Feed::Truncated {
                partition,
                from,
                epoch,
                lost,
                ..
            } => self.truncated((topic, *partition), *from, *epoch, *lost),
            Feed::Begun { partition, at, .. } => self.offsets.begin(topic, *partition, *at),
            Feed::Assigned { id, next, low, .. } => self.assigned(topic, *id, next, low),
            Feed::Records(batch) => {
                self.tidy();
                self.records.write(batch, topic, &mut self.offsets, &self.loading);
            }
            Feed::Loaded { .. } => self.loaded(topic),
            Feed::AtEnd { at, .. } => self.at_end(topic, *at),
        }
    }

    /// Does a bounded part of the deferred work: frees rows that have left the table, and removes those that must leave
    /// it. Returns whether there is more to do.
    pub fn tidy(&mut self) -> bool {
        if let Some(cleared) = self.cleared.last_mut()
            && !cleared.free(FREED_AT_ONCE)
        {
            self.cleared.pop();
        }
        // While the topics are loaded, an older record of a deleted key may still come from another partition.
        let has_expired = self.loading.is_empty() && self.stream.tidy_table();
        has_expired || !self.cleared.is_empty()
    }

    fn assigned(&mut self, topic: usize, id: Option<TopicId>, next: &[i64], low: &[i64]) {
        let reset = self.resets.remove(&topic);
        let before = if reset.is_some() {
            // The id of the position before the reset: a client that leaves there must be reset when it resumes.
            self.stream.read().log.head().clone()
        } else {
            self.offsets.position.id().into()
        };
        let mut notices = Builder::new(before, self.stream.instant());
        if reset.is_none() && !self.unassigned.contains(&topic) {
            self.skipped(topic, next, &mut notices);
        }
        let begins = self.offsets.assign(topic, next);
        self.offsets.identify(topic, id, low, reset.is_some());
        self.unassigned.remove(&topic);
        let position = &self.offsets.position;
        if let Some(reason) = reset {
            let topics = &self.stream.settings().topics;
            notice::append_reset(position, topic, reason, topics, &mut notices);
            self.stream.counters().count_reset(reason, To::All);
        }
        let length = position.id_len_ahead();
        if length > MAX_ID {
            let partitions: usize = position.topics.iter().map(|topic| topic.next.len()).sum();
            let why = format!(
                "stream {}: its {partitions} partitions make event ids of {length} bytes, more than the {MAX_ID} \
                 that proxies let through; split its topics over several streams",
                self.stream.settings().path
            );
            error!("{why}");
            self.stream.fail(why);
            return;
        }
        // Ids are valid once every topic has reported its partitions.
        if self.unassigned.is_empty() {
            self.announce(notices, reset.map(|reason| (topic, reason)));
            let mut state = self.stream.write();
            state.is_assigned = true;
            state.low = self.offsets.low.clone();
            state.live = self.offsets.live.clone();
            if !begins.is_empty() {
                // A reader cannot join at a record that has left the log.
                let (first, sequence) = (state.log.first(), state.log.next());
                state.begins.retain(|begin| begin.sequence >= first);
                let begins = begins.into_iter();
                state
                    .begins
                    .extend(begins.map(|begin| Begin { sequence, ..begin }));
                // No read may cross this place.
                state.log.turn();
            }
            drop(state);
            self.stream.changed();
        }
    }

    /// Appends gaps for the records of a topic that were deleted before they could be read.
    fn skipped(&mut self, topic: usize, next: &[i64], notices: &mut Builder) {
        let known = self.offsets.position.topics[topic].next.clone();
        let ranges = (0..).zip(known.into_iter().zip(next));
        let ranges = ranges.map(|(partition, (from, &to))| (partition, from, to));
        let topics = &self.stream.settings().topics;
        for partition in notice::append_expired(&mut self.offsets.position, topic, ranges, topics, notices) {
            self.offsets.set_epoch(topic, partition, None);
            self.stream.counters().count_gap(To::All);
        }
    }

    /// Appends notices for all clients. The topic `turned`, if given, is reset behind them for that reason.
    fn announce(&mut self, notices: Builder, turned: Option<(usize, Reset)>) {
        let groups = self.stream.client_filters().index();
        let (mut sequence, first) = {
            let state = self.stream.read();
            (state.log.next(), state.log.first())
        };
        let came = notices.came();
        let blocks = notices.finish();
        for entry in blocks.iter().flat_map(|block| &block.entries) {
            // The caller wakes all readers.
            groups.offer_notice((sequence, first), entry, &mut Vec::new());
            sequence += 1;
        }
        let mut state = self.stream.write();
        let first = state.log.next();
        state.notices += sequence - first;
        if sequence > first {
            state.arrivals.note(first, came);
        }
        state.log.append(blocks, self.offsets.position.id().into());
        if let Some((topic, reason)) = turned {
            state.log.turn();
            state.turns[topic] = (state.log.next(), reason);
        }
    }

    /// Resets a topic: forgets all its records and rows.
    fn reset(&mut self, topic: usize, reason: Reset) {
        self.offsets.reset(topic);
        self.stream.write().truncations.forget_epochs(topic);
        self.resets.insert(topic, reason);
        self.known.forget(topic);
        // Freed later, in parts: the table is locked only while its rows are moved out as a whole.
        let cleared = self
            .stream
            .write_table()
            .map(|mut table| table.clear(to_u16(topic)));
        self.cleared.extend(cleared);
        self.records.forget_times(topic);
    }

    /// Handles a truncation of a partition's log at `from`. A topic with a table is reset, since the table no longer
    /// has the records that the lost ones had replaced.
    fn truncated(
        &mut self,
        (topic, partition): (usize, u32),
        from: i64,
        epoch: Option<u32>,
        lost: Option<u32>,
    ) {
        let position = &self.offsets.position.topics[topic];
        let Some(&to) = position.next.get(partition as usize) else {
            return;
        };
        let cut = Cut {
            sequence: 0,
            topic,
            partition,
            from,
            to,
            epoch: self.offsets.mark_in_ids(epoch),
            lost: mark_of(lost).max(position.mark(partition as usize)),
        };
        if let Some(history) = self.stream.history() {
            history.outdate_replays();
        }
        if self.stream.settings().has_table() {
            // Which keys were shown before a hidden record is forgotten with the rows, and Kafka may have compacted
            // the records that were shown: clients that were away would get no delete for them.
            if self.stream.fixed().is_some()
                && let Some(mut table) = self.stream.write_table()
            {
                table.knows_nothing_before(self.stream.now().saturating_add(1));
            }
            self.reset(topic, Reset::Truncated);
            let mut state = self.stream.write();
            let sequence = state.log.next();
            state.truncations.note(Cut { sequence, ..cut });
            return;
        }
        // Another stream has read further, or this one begins at a later offset.
        if to <= from {
            return;
        }
        let mut notices = Builder::new(self.offsets.position.id().into(), self.stream.instant());
        self.offsets.truncate(topic, partition, from, epoch);
        // Before every topic has been assigned no client has seen a record.
        if self.unassigned.is_empty() {
            let gap = Gap {
                reason: GapReason::Truncated,
                topic,
                partition,
                from,
                to,
            };
            let topics = &self.stream.settings().topics;
            notice::append_truncated(&gap, &self.offsets.position, topics, &mut notices);
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

    fn loaded(&mut self, topic: usize) {
        self.loading.remove(&topic);
        self.offsets.loaded(topic, self.stream.settings().preload.into());
        if self.loading.is_empty() {
            self.know_deletes();
            if let Some(mut table) = self.stream.write_table() {
                table.loaded(self.stream.now());
            }
            let mut state = self.stream.write();
            self.stream.note_loaded(state.log.next());
            state.live = self.offsets.live.clone();
            if state.is_assigned {
                state.log.set_head(self.offsets.position.id().into());
            }
            drop(state);
            self.stream.changed();
        }
    }

    /// Notes that everything written to a topic before `at` was read.
    fn at_end(&mut self, topic: usize, at: Instant) {
        self.known.at_end(topic, at);
        if self.loading.is_empty() && self.know_deletes() {
            let id = self.offsets.position.id().into();
            let mut state = self.stream.write();
            if state.is_assigned {
                // Readers are not woken for it: later ids include it.
                state.log.set_head(id);
            }
        }
    }

    /// Updates the time in ids up to which deletes are known. Returns whether it changed.
    fn know_deletes(&mut self) -> bool {
        let until = self.known.until(self.stream.now(), self.stream.instant());
        match &mut self.offsets.position.as_of {
            Some(as_of) if *as_of < until => {
                *as_of = until;
                true
            }
            _ => false,
        }
    }
}
