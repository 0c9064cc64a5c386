//! The writing side of a stream: turns the feeds of the Kafka threads into blocks of the log.
//!
//! A [`Writer`] takes one [`Feed`] per call. It uses no task and no thread: `writers.rs` drives it, and tests do so
//! step by step.

mod led;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::{error, warn};

use super::block::Builder;
use super::control::Reset;
use super::counters::To;
use super::encode::{Encoder, Invalid};
use super::filter::pack_headers;
use super::group::Group;
use super::known_deletes::KnownDeletes;
use super::log::Sequence;
use super::notice::{self, to_u16};
use super::path_index::{Lookups, Replaced};
use super::position::{BEGINNING, MAX_ID, NOT_BEGUN, Position, TopicPosition, id_fingerprint};
use super::shared::Stream;
use super::state::Begin;
use super::table::Cleared;
use super::table_writer::{Arrival, Kept, Shown, TableWriter};
use crate::kafka::pulse::Pulse;
use crate::kafka::record::{Batch, Feed, Record, TopicId};
use crate::logging::Seldom;

/// Batches that may wait for a stream: at most 256 KiB of records each, so 4 MiB. That decouples fetching from encoding
/// at a bounded memory cost. A full channel stops the fetching thread, which is the back-pressure on Kafka.
pub const CHANNEL_BATCHES: usize = 16;

/// Most rows of a reset topic that are freed at once: about a millisecond's work, and twice the records of a batch, so
/// that old rows are freed faster than new ones arrive.
pub const FREED_AT_ONCE: usize = 8192;

/// Typical bytes of a frame beside its id and the record's own bytes: names of fields and line ends.
const FRAME_OVERHEAD: usize = 16;

/// Least time between two warnings about passed-over records; each gives the number of those since the last.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

/// Numbers, encodes and appends the records of one stream.
#[derive(Debug)]
pub struct Writer {
    stream: Arc<Stream>,
    encoder: Encoder,
    /// In the order of the stream's topics.
    position: Position,
    /// The first offset of every partition when it was assigned.
    low: Position,
    /// The time up to which all deletes are known.
    known: KnownDeletes,
    loading: BTreeSet<usize>,
    unassigned: BTreeSet<usize>,
    /// Where a client begins to read a partition that its id says has not begun.
    live: Position,
    /// Partitions that had no leader at first, by topic and partition, with their first live offsets.
    begun: BTreeMap<(usize, u32), i64>,
    /// Topics that are reset at their next assignment, and why.
    anew: BTreeMap<usize, Reset>,
    /// The leader epoch of the last record of every partition; shorter where none are known.
    led: Vec<Vec<Option<u32>>>,
    /// Changes of `led` since the log was last appended to.
    changes: Vec<((usize, u32), Option<u32>, i64)>,
    /// Whether ids have room for leader epochs.
    names_epochs: bool,
    /// Whether filters may ask for headers, which are kept beside the frames then.
    keeps_headers: bool,
    /// Rows that have left the table and are not freed yet.
    cleared: Vec<Cleared>,
    /// Groups that are to be woken when the log has their matches.
    dirty: Vec<Arc<Group>>,
    scratch: Vec<u8>,
    table: TableWriter,
    warnings: Seldom,
    pulse: Arc<Pulse>,
}

impl Writer {
    /// The one writer of `stream`.
    pub fn new(stream: Arc<Stream>) -> Self {
        let settings = stream.settings();
        let topics = 0..settings.topics.len();
        // Half-way through loading, no id can claim to know of deletes: the rest may contain old ones.
        let as_of = settings.has_table().then_some(0);
        let unread: Vec<TopicPosition> = settings
            .topics
            .iter()
            .map(|name| TopicPosition::unread(name))
            .collect();
        Self {
            encoder: Encoder::new(settings),
            low: Position {
                as_of: None,
                topics: unread.clone(),
            },
            position: Position {
                as_of,
                topics: unread.clone(),
            },
            live: Position {
                as_of: None,
                topics: unread,
            },
            begun: BTreeMap::new(),
            known: KnownDeletes::new(settings.topics.len(), stream.now()),
            loading: topics.clone().collect(),
            unassigned: topics.collect(),
            anew: BTreeMap::new(),
            led: Vec::new(),
            changes: Vec::new(),
            names_epochs: true,
            keeps_headers: settings.keeps_headers(),
            cleared: Vec::new(),
            dirty: Vec::new(),
            scratch: Vec::new(),
            warnings: Seldom::new(WARNING_PAUSE),
            pulse: Arc::default(),
            table: TableWriter::new(Arc::clone(&stream)),
            stream,
        }
    }

    /// The pulse, which steps at every record.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Applies a feed.
    pub fn take(&mut self, feed: &Feed) {
        if self.stream.failure().is_some() {
            return;
        }
        match feed {
            Feed::Recreated { topic } => {
                if let Some(index) = self.index(topic) {
                    self.begin_anew(index, Reset::Recreated);
                }
            }
            Feed::Truncated {
                topic,
                partition,
                from,
                epoch,
                lost,
            } => {
                if let Some(index) = self.index(topic) {
                    self.truncated((index, *partition), *from, *epoch, *lost);
                }
            }
            Feed::Begun { topic, partition, at } => {
                if let Some(index) = self.index(topic) {
                    self.begun.insert((index, *partition), *at);
                }
            }
            Feed::Assigned { topic, id, next, low } => self.assigned(topic, *id, next, low),
            Feed::Records(batch) => self.records(batch),
            Feed::Loaded { topic } => self.loaded(topic),
            Feed::AtEnd { topic, at } => self.at_end(topic, *at),
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

    fn index(&self, topic: &str) -> Option<usize> {
        self.stream
            .settings()
            .topics
            .iter()
            .position(|name| name == topic)
    }

    fn assigned(&mut self, topic: &str, id: Option<TopicId>, next: &[i64], low: &[i64]) {
        let Some(index) = self.index(topic) else { return };
        let mut notices = Builder::new(self.position.id().into(), self.stream.instant());
        let anew = self.anew.remove(&index);
        let is_new = anew.is_some();
        if !is_new && !self.unassigned.contains(&index) {
            self.skipped(index, next, &mut notices);
        }
        let begins = self.place(index, next);
        let position = &mut self.position.topics[index];
        // The id of the same topic stays known.
        if is_new || id.is_some() {
            position.id = id_fingerprint(id);
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
        self.unassigned.remove(&index);
        self.names_epochs = self.position.has_room_for_epochs();
        if !self.names_epochs {
            self.position.forget_epochs();
        }
        if let Some(reason) = anew {
            let topics = &self.stream.settings().topics;
            notice::append_reset(&self.position, index, reason, topics, &mut notices);
            self.stream.counters().count_reset(reason, To::All);
        }
        let length = self.position.id_len_ahead();
        if length > MAX_ID {
            let partitions: usize = self.position.topics.iter().map(|topic| topic.next.len()).sum();
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
            self.announce(notices, anew.map(|reason| (index, reason)));
            let mut state = self.stream.write();
            state.is_assigned = true;
            state.low = self.low.clone();
            state.live = self.live.clone();
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

    /// Sets the position to the next offsets of a topic. Returns the partitions that begin after others were read. The
    /// log must not contain the past of such a partition, because clients would take it for new, but a table needs it.
    fn place(&mut self, index: usize, next: &[i64]) -> Vec<Begin> {
        let has_table = self.stream.settings().has_table();
        let (position, live) = (&mut self.position.topics[index], &mut self.live.topics[index]);
        position.next.truncate(next.len());
        live.next.truncate(next.len());
        let (mut begins, mut jumped) = (Vec::new(), Vec::new());
        for (partition, &next) in (0..).zip(next) {
            let is_late = position.next.get(partition as usize) == Some(&NOT_BEGUN) && next >= 0;
            let at = match self.begun.get(&(index, partition)) {
                Some(&at) if is_late && !has_table => at.max(next),
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
            self.set_led(index, partition, None);
        }
        begins
    }

    /// Appends gaps for the records of a topic that were deleted before they could be read.
    fn skipped(&mut self, index: usize, next: &[i64], notices: &mut Builder) {
        let known = self.position.topics[index].next.clone();
        let ranges = (0..).zip(known.into_iter().zip(next));
        let ranges = ranges.map(|(partition, (from, &to))| (partition, from, to));
        let stream = Arc::clone(&self.stream);
        let topics = &stream.settings().topics;
        for partition in notice::append_expired(&mut self.position, index, ranges, topics, notices) {
            self.set_led(index, partition, None);
            stream.counters().count_gap(To::All);
        }
    }

    /// Appends notices for all clients. The topic `turned`, if given, is reset behind them for that reason.
    fn announce(&mut self, notices: Builder, turned: Option<(usize, Reset)>) {
        let stream = Arc::clone(&self.stream);
        let groups = stream.groups();
        let (mut sequence, first) = {
            let state = stream.read();
            (state.log.next(), state.log.first())
        };
        let came = notices.came();
        let blocks = notices.finish();
        for entry in blocks.iter().flat_map(|block| &block.entries) {
            groups.offer_notice((sequence, first), entry, &mut self.dirty);
            sequence += 1;
        }
        let mut state = stream.write();
        let first = state.log.next();
        state.notices += sequence - first;
        if sequence > first {
            state.arrivals.note(first, came);
        }
        state.log.append(blocks, self.position.id().into());
        if let Some((topic, reason)) = turned {
            state.log.turn();
            state.turns[topic] = (state.log.next(), reason);
        }
        // The caller wakes all readers.
        self.dirty.clear();
    }

    /// Resets a topic: forgets all its records and rows.
    fn begin_anew(&mut self, index: usize, reason: Reset) {
        for position in [&mut self.position, &mut self.live] {
            position.topics[index].start_over(Vec::new());
        }
        if let Some(led) = self.led.get_mut(index) {
            led.clear();
        }
        self.stream.write().truncations.forget_epochs(index);
        self.begun.retain(|(topic, _), _| *topic != index);
        self.anew.insert(index, reason);
        self.known.forget(index);
        // Freed later, in parts: the table is locked only while its rows are moved out as a whole.
        let cleared = self
            .stream
            .write_table()
            .map(|mut table| table.clear(to_u16(index)));
        self.cleared.extend(cleared);
        self.table.forget_times(index);
    }

    fn records(&mut self, batch: &Batch) {
        let Some(index) = self.index(batch.topic()) else {
            return;
        };
        let now = self.stream.now();
        self.tidy();
        let stream = Arc::clone(&self.stream);
        let id: Bytes = self.position.id().into();
        let frames = batch.size() + batch.len() * (id.len() + FRAME_OVERHEAD);
        let mut builder = Builder::with_room(id, stream.instant(), frames);
        let (next, first) = {
            // This writer alone appends, so the log's next number cannot change here.
            let state = stream.read();
            (state.log.next(), state.log.first())
        };
        let mut incoming = Incoming {
            topic: index,
            next,
            now,
            builder: &mut builder,
            replaced: Vec::new(),
        };
        for (number, record) in batch.iter().enumerate() {
            self.pulse.step();
            self.record(number, &record, &mut incoming);
        }
        let replaced = incoming.replaced;
        self.pulse.step();
        // The last records may have been passed over; the position moved in any case.
        let head: Bytes = self.position.id().into();
        let (came, count) = (builder.came(), builder.len());
        let blocks = builder.finish();
        let trie = stream.paths();
        let mut lookups = Lookups::new(&trie);
        let asks_for_values = stream.groups().asks_for_values();
        if asks_for_values {
            lookups.look_up(&blocks, &replaced, |slot| stream.groups().paths_since(slot));
        }
        self.pulse.step();
        // Held until the log has the records, so that a group that joins in between is offered all later records and
        // finds these in the log.
        let groups = stream.groups();
        lookups.add(groups.paths_since(lookups.end()));
        let encoder = &mut self.encoder;
        let delete = |record| {
            let mut frame = Vec::new();
            let written = encoder.write_body(&batch.get(record)?.as_tombstone(), &mut frame);
            // No client has seen a key that cannot be shown.
            written.is_ok().then(|| frame.into())
        };
        groups.offer(
            (next, first),
            &blocks,
            (&replaced, &lookups),
            delete,
            &mut self.dirty,
        );
        let mut state = stream.write();
        if count > 0 {
            state.arrivals.note(next, came);
        }
        state.log.append(blocks, Bytes::clone(&head));
        let end = state.log.next();
        for (place, epoch, offset) in self.changes.drain(..) {
            state.truncations.note_epoch(place, epoch, offset);
        }
        drop(state);
        drop(groups);
        drop(lookups);
        drop(trie);
        if let Some(mut table) = stream.write_table() {
            table.settle(end, &head);
        }
        stream.counters().records.fetch_add(count, Ordering::Relaxed);
        stream.audience().appended(&mut self.dirty);
        stream.note_forgettings();
    }

    fn record(&mut self, number: usize, record: &Record<'_>, to: &mut Incoming<'_>) {
        let Some(next) = self.position.topics[to.topic]
            .next
            .get_mut(record.partition as usize)
        else {
            return;
        };
        // The past of a partition that began late, read for the table.
        if record.offset < *next {
            return;
        }
        *next = record.offset.saturating_add(1);
        let led = self.led.get(to.topic);
        let led = led.and_then(|led| *led.get(record.partition as usize)?);
        if led != record.epoch {
            self.led_by(to.topic, record.partition, record.epoch, record.offset);
        }
        let mut record = *record;
        let mut unusable = None;
        if let Err(cause) = self.encode(&record, to.builder) {
            self.passed_over(&record, cause);
            // The table's row of the key is outdated, as after a tombstone.
            if record.key.is_none() || !self.stream.settings().has_table() {
                return;
            }
            unusable = Some(cause);
            record = record.as_tombstone();
            self.encode_delete(&record, to.builder);
        }
        let arrival = Arrival {
            sequence: to.next + to.builder.len(),
            topic: to.topic,
            now: to.now,
            is_topic_loading: self.loading.contains(&to.topic),
            is_loading: !self.loading.is_empty(),
        };
        if let Some(fixed) = self.stream.fixed() {
            let is_shown = fixed.accepts(&to.builder.candidate(&record, to_u16(to.topic)));
            let has_table = self.stream.settings().has_table();
            // Shown as a delete: another replica may have shown it before it read the newer one.
            let is_outdated = is_shown && has_table && self.table.is_outdated(&record, &arrival);
            let is_held = || self.table.holds(to_u16(to.topic), record.key);
            // A delete needs an earlier record of its key.
            match (is_shown && !is_outdated, has_table) {
                (true, false) => {}
                (true, true) if record.value.is_some() || is_held() => {}
                (false, true) if is_outdated && record.value.is_some() || is_held() => {
                    to.builder.discard_frame();
                    unusable = None;
                    record = record.as_tombstone();
                    self.encode_delete(&record, to.builder);
                }
                _ => {
                    to.builder.discard_frame();
                    // A record that cannot be shown is already counted.
                    if unusable.is_none() {
                        self.stream.counters().hidden.fetch_add(1, Ordering::Relaxed);
                    }
                    self.table.hide(&record, &arrival);
                    return;
                }
            }
        }
        let shown = Shown {
            frame: to.builder.unfinished(),
            headers: to.builder.unfinished_headers(),
        };
        let Kept::Shown(previous) = self.table.keep(&record, unusable, shown, &arrival) else {
            to.builder.discard_frame();
            return;
        };
        if let Some(row) = previous {
            to.replaced.push(Replaced {
                frame: usize::try_from(to.builder.len()).unwrap_or(usize::MAX),
                record: number,
                row,
            });
        }
        to.builder.finish_record(&record, to_u16(to.topic));
    }

    /// Writes the record's frame, and its headers beside it where filters may ask for them.
    fn encode(&mut self, record: &Record<'_>, builder: &mut Builder) -> Result<(), Invalid> {
        let (position, scratch) = (&self.position, &mut self.scratch);
        self.encoder
            .write(record, builder.frame(), |out| position.write_id(scratch, out))?;
        if self.keeps_headers {
            pack_headers(record, builder.headers());
        }
        Ok(())
    }

    /// Writes the frame of a tombstone, of which only its key is shown.
    fn encode_delete(&mut self, tombstone: &Record<'_>, builder: &mut Builder) {
        let written = self.encode(tombstone, builder);
        debug_assert_eq!(written, Ok(()), "every key can be shown");
    }

    fn passed_over(&mut self, record: &Record<'_>, cause: Invalid) {
        self.stream.counters().count_invalid(cause);
        if let Some(unsaid) = self.warnings.admit() {
            warn!(
                "stream {}: passed over topic {:?} partition {} offset {}: {}{unsaid}",
                self.stream.settings().path,
                record.topic,
                record.partition,
                record.offset,
                cause.as_str()
            );
        }
    }

    fn loaded(&mut self, topic: &str) {
        let Some(index) = self.index(topic) else { return };
        self.loading.remove(&index);
        // Where a client begins in a partition that it has not read: no further back than `preload`.
        let preload = i64::from(self.stream.settings().preload);
        let (read, live) = (&self.position.topics[index], &mut self.live.topics[index]);
        for (partition, (&next, live)) in (0..).zip(read.next.iter().zip(&mut live.next)) {
            if !self.begun.contains_key(&(index, partition)) {
                *live = (next - preload).max(*live);
            }
        }
        if self.loading.is_empty() {
            self.know_deletes();
            if let Some(mut table) = self.stream.write_table() {
                table.loaded(self.stream.now());
            }
            let id = self.position.id().into();
            let mut state = self.stream.write();
            let head = state.log.next();
            state.loaded.get_or_insert(head);
            state.live = self.live.clone();
            if state.is_assigned {
                state.log.set_head(id);
            }
            drop(state);
            self.stream.changed();
        }
    }

    /// Notes that everything written to a topic before `at` was read.
    fn at_end(&mut self, topic: &str, at: Instant) {
        let Some(index) = self.index(topic) else { return };
        self.known.at_end(index, at);
        if self.loading.is_empty() && self.know_deletes() {
            let id = self.position.id().into();
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
        match &mut self.position.as_of {
            Some(as_of) if *as_of < until => {
                *as_of = until;
                true
            }
            _ => false,
        }
    }
}

/// The batch that is being written.
struct Incoming<'a> {
    /// Index of its topic.
    topic: usize,
    /// The number of its first record.
    next: Sequence,
    /// Unix seconds.
    now: u64,
    builder: &'a mut Builder,
    /// Rows of the table that it replaced.
    replaced: Vec<Replaced>,
}
