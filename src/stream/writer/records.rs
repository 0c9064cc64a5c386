//! Encodes the records of a batch, puts them into the table and appends them to the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log::warn;

use super::next_offsets::NextOffsets;
use crate::kafka::pulse::Pulse;
use crate::kafka::record::{Batch, Effect, Record};
use crate::logging::Seldom;
use crate::stream::block::Builder;
use crate::stream::encode::{Encoder, Invalid};
use crate::stream::filter::pack_headers;
use crate::stream::group::Group;
use crate::stream::id_writer::IdWriter;
use crate::stream::notice::to_u16;
use crate::stream::path_index::{Lookups, Replaced};
use crate::stream::position::Position;
use crate::stream::shared::Stream;
use crate::stream::table_writer::{Arrival, Kept, Shown, TableWriter};

/// Typical bytes of a frame beside its id and the record's own bytes: names of fields and line ends.
const FRAME_OVERHEAD: usize = 16;

/// Least time between two warnings about passed-over records; each gives the number of those since the last.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct RecordWriter {
    stream: Arc<Stream>,
    encoder: Encoder,
    table: TableWriter,
    /// Whether filters may ask for headers, which are kept beside the frames then.
    keeps_headers: bool,
    /// Groups that are to be woken when the log has their matches.
    dirty: Vec<Arc<Group>>,
    ids: IdWriter,
    warnings: Seldom,
    pulse: Arc<Pulse>,
}

/// The batch that is being written.
struct Incoming {
    /// The arrival of its first record.
    arrival: Arrival,
    builder: Builder,
    /// Rows of the table that it replaced.
    replaced: Vec<Replaced>,
}

impl RecordWriter {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        let settings = stream.settings();
        Self {
            encoder: Encoder::new(settings),
            keeps_headers: settings.keeps_headers(),
            dirty: Vec::new(),
            ids: IdWriter::default(),
            warnings: Seldom::new(WARNING_PAUSE),
            pulse: Arc::default(),
            table: TableWriter::new(Arc::clone(&stream)),
            stream,
        }
    }

    /// The pulse, which steps at every record.
    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Forgets the timestamps of a topic that is reset.
    pub(super) fn forget_times(&mut self, topic: usize) {
        self.table.forget_times(topic);
    }

    /// Writes a batch of a topic, while the topics in `loading` are still being read up to their ends at the start.
    pub(super) fn write(
        &mut self,
        batch: &Batch,
        topic: usize,
        offsets: &mut NextOffsets,
        loading: &BTreeSet<usize>,
    ) {
        let stream = Arc::clone(&self.stream);
        let id: Bytes = offsets.position.id().into();
        let frames = batch.size() + batch.len() * (id.len() + FRAME_OVERHEAD);
        let (next, first) = {
            // This writer alone appends, so the log's next number cannot change here.
            let state = stream.read();
            (state.log.next(), state.log.first())
        };
        let mut incoming = Incoming {
            arrival: Arrival {
                sequence: next,
                topic,
                now: stream.now(),
                is_topic_loading: loading.contains(&topic),
                is_loading: !loading.is_empty(),
            },
            builder: Builder::with_room(id, stream.instant(), frames),
            replaced: Vec::new(),
        };
        self.ids.start_over();
        for (number, record) in batch.iter().enumerate() {
            self.pulse.step();
            if offsets.advance(topic, &record) {
                self.ids.note(topic, record.partition);
                self.record(number, &record, &offsets.position, &mut incoming);
            }
        }
        let Incoming {
            builder, replaced, ..
        } = incoming;
        self.pulse.step();
        // The last records may have been passed over; the position moved in any case.
        let head: Bytes = offsets.position.id().into();
        let (came, count) = (builder.came(), builder.len());
        let blocks = builder.finish();
        let filters = stream.client_filters();
        let trie = filters.trie();
        let mut lookups = Lookups::new(&trie);
        let asks_for_values = filters.index().asks_for_values();
        if asks_for_values {
            lookups.look_up(&blocks, &replaced, |slot| filters.index().paths_since(slot));
        }
        self.pulse.step();
        // Held until the log has the records, so that a group that joins in between is offered all later records and
        // finds these in the log.
        let groups = filters.index();
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
        state.keyless += self.table.take_keyless();
        state.log.append(blocks, head.clone());
        let end = state.log.next();
        for (place, epoch, offset) in offsets.epoch_changes() {
            state.truncations.note_epoch(place, epoch, offset);
        }
        drop(state);
        drop(groups);
        drop(lookups);
        drop(trie);
        if let Some(mut table) = stream.write_table() {
            table.settle(end, &head);
        }
        stream.counters().records.add(count);
        stream.audience().appended(&mut self.dirty);
        stream.note_eviction_resets();
    }

    /// Writes one record. `position` is behind it.
    fn record(&mut self, number: usize, record: &Record<'_>, position: &Position, to: &mut Incoming) {
        match record.effect {
            Effect::None => {
                self.stream.counters().ignored.add(1);
                return;
            }
            Effect::RepeatedDelete if !self.table.holds(to_u16(to.arrival.topic), record.key) => return,
            Effect::RepeatedDelete | Effect::Shown => {}
        }
        let mut record = *record;
        let mut unusable = None;
        if let Err(cause) = self.encode(&record, position, &mut to.builder) {
            self.passed_over(&record, cause);
            // The table's row of the key is outdated, as after a tombstone.
            if record.key.is_none() || !self.stream.settings().has_table() {
                return;
            }
            unusable = Some(cause);
            record = record.as_tombstone();
            self.encode_delete(&record, position, &mut to.builder);
        }
        let arrival = Arrival {
            sequence: to.arrival.sequence + to.builder.len(),
            ..to.arrival
        };
        let topic = to_u16(arrival.topic);
        if let Some(fixed) = self.stream.fixed() {
            let is_shown = fixed.accepts(&to.builder.candidate(&record, topic));
            let has_table = self.stream.settings().has_table();
            // Shown as a delete: another replica may have shown it before it read the newer one.
            let is_outdated = is_shown && has_table && self.table.is_outdated(&record, &arrival);
            let is_held = || self.table.holds(topic, record.key);
            // A delete needs an earlier record of its key.
            match (is_shown && !is_outdated, has_table) {
                (true, false) => {}
                (true, true) if record.value.is_some() || is_held() => {}
                (false, true) if is_outdated && record.value.is_some() || is_held() => {
                    to.builder.discard_frame();
                    unusable = None;
                    record = record.as_tombstone();
                    self.encode_delete(&record, position, &mut to.builder);
                }
                _ => {
                    to.builder.discard_frame();
                    // A record that cannot be shown is already counted.
                    if unusable.is_none() {
                        self.stream.counters().hidden.add(1);
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
        to.builder.finish_record(&record, topic);
    }

    /// Writes the record's frame, and its headers beside it where filters may ask for them.
    fn encode(
        &mut self,
        record: &Record<'_>,
        position: &Position,
        builder: &mut Builder,
    ) -> Result<(), Invalid> {
        let ids = &mut self.ids;
        self.encoder
            .write(record, builder.frame(), |out| ids.write(position, out))?;
        if self.keeps_headers {
            pack_headers(record, builder.headers());
        }
        Ok(())
    }

    /// Writes the frame of a tombstone, of which only its key is shown.
    fn encode_delete(&mut self, tombstone: &Record<'_>, position: &Position, builder: &mut Builder) {
        let written = self.encode(tombstone, position, builder);
        debug_assert_eq!(written, Ok(()), "every key can be shown");
    }

    fn passed_over(&mut self, record: &Record<'_>, cause: Invalid) {
        self.stream.counters().count_invalid(cause);
        if let Some(unsaid) = self.warnings.admit() {
            warn!(
                "stream {}: passed over topic {:?} partition {} offset {}: {}{}{unsaid}",
                self.stream.settings().path,
                record.topic,
                record.partition,
                record.offset,
                cause.as_str(),
                explanation(record, cause),
            );
        }
    }
}

/// The part of a log line behind the cause.
fn explanation(record: &Record<'_>, cause: Invalid) -> String {
    let detail = record.undecodable.map(|error| format!(" ({})", error.detail));
    let remedy = cause.remedy().map(|remedy| format!("; {remedy}"));
    detail.into_iter().chain(remedy).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::config::{Format, HttpSettings, StreamSettings};
    use crate::kafka::record::{Feed, Stamp};
    use crate::stream::live_settings::Pace;
    use crate::stream::writer::Writer;

    /// Clients that join or leave with a filter, and wait for its lock, wait for no encoding.
    #[test]
    fn a_batch_is_encoded_before_the_index_of_filters_is_locked() {
        let settings = StreamSettings {
            topics: vec!["orders".to_owned()],
            format: Format::Value,
            ..StreamSettings::default()
        };
        let stream = Stream::new(settings, Pace::from(&HttpSettings::default()), None);
        let mut writer = Writer::new(Arc::clone(&stream));
        let topic = || "orders".into();
        writer.take(&Feed::Assigned {
            topic: topic(),
            id: None,
            next: vec![0],
            low: vec![0],
        });
        writer.take(&Feed::Loaded { topic: topic() });
        let mut batch = Batch::new(topic());
        // No text, so that it is counted when it is to be encoded, as the last of the batch.
        for (offset, value) in [(0, &b"{}"[..]), (1, &b"\xff"[..])] {
            let stamp = Stamp {
                partition: 0,
                offset,
                timestamp: None,
            };
            batch.push(stamp, None, Some(value), std::iter::empty());
        }
        let invalid = || -> u64 { stream.counters().invalid().iter().map(|(_, count)| count).sum() };
        let index = stream.client_filters().index();
        let writing = thread::spawn(move || writer.take(&Feed::Records(Arc::new(batch))));
        let begun = std::time::Instant::now();
        while invalid() == 0 && begun.elapsed() < Duration::from_secs(20) {
            thread::yield_now();
        }
        let encoded = (invalid(), stream.figures().records);
        drop(index);
        writing.join().expect("it has ended");
        assert_eq!(encoded, (1, 0), "encoded, and not in the log");
        assert_eq!(stream.figures().records, 1, "in the log once the index is free");
    }
}
