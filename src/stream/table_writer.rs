//! Puts records into the table of a stream, and reports those that are not accepted.
//!
//! Only the writing side uses it. On a stream without a table every record passes.

use std::sync::Arc;
use std::time::Duration;

use log::{error, warn};

use super::encode::Invalid;
use super::log::Sequence;
use super::record_time;
use super::record_time::{CLOCK_TOLERANCE, RecordTimes, millis};
use super::shared::Stream;
use super::table::{Applied, Origin, Row, Update};
use crate::kafka::record::Record;
use crate::logging::Seldom;
use crate::sse::write;

/// Least time between two messages of a kind; each gives the number of those since the last.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

/// Puts records into the table of a stream.
#[derive(Debug)]
pub(super) struct TableWriter {
    stream: Arc<Stream>,
    times: RecordTimes,
    full: Seldom,
    superseded: Seldom,
    /// Records without a key since they were last taken.
    keyless: u64,
}

/// The context of a record's arrival.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// The number that it gets.
    pub(super) sequence: Sequence,
    /// Index of its topic.
    pub(super) topic: usize,
    /// Unix seconds.
    pub(super) now: u64,
    /// Whether its topic is still being read up to its end at the start.
    pub(super) is_topic_loading: bool,
    /// Whether any topic of the stream is still being read up to that end.
    pub(super) is_loading: bool,
}

/// A record as clients see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    /// Its frame.
    pub(super) frame: &'a [u8],
    /// Its headers, packed.
    pub(super) headers: &'a [u8],
}

/// The result of adding a record.
#[derive(Debug)]
pub(super) enum Kept {
    /// It is shown; with the previous row of its key, if clients may hold that record.
    Shown(Option<Row>),
    /// It is not its key's latest: another partition held a newer one, which clients must end with.
    Older,
}

impl TableWriter {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        Self {
            times: RecordTimes::new(stream.settings().topics.len()),
            full: Seldom::new(WARNING_PAUSE),
            superseded: Seldom::new(WARNING_PAUSE),
            keyless: 0,
            stream,
        }
    }

    /// Forgets the timestamps of a topic that is reset.
    pub(super) fn forget_times(&mut self, topic: usize) {
        self.times.forget(topic);
    }

    /// Whether clients may hold a record of this key.
    pub(super) fn holds(&self, topic: u16, key: Option<&[u8]>) -> bool {
        let table = self.stream.read_table();
        key.zip(table.as_ref())
            .is_some_and(|(key, table)| table.may_be_held(topic, key))
    }

    /// Puts a record into the table, where the stream has one; `shown` is the record as clients see it. A record that
    /// is `unusable` is shown as a tombstone.
    pub(super) fn keep(
        &mut self,
        record: &Record<'_>,
        unusable: Option<Invalid>,
        shown: Shown<'_>,
        arrival: &Arrival,
    ) -> Kept {
        let Some(mut table) = self.stream.write_table() else {
            return Kept::Shown(None);
        };
        let Some(key) = record.key else {
            drop(table);
            self.note_keyless(record);
            return Kept::Shown(None);
        };
        let origin = origin(&self.stream, &mut self.times, record, arrival);
        // While the topics are loaded, a tombstone's own time, so that a restart does not make old deletes young again,
        // or a later one that its partition had before, since a backfill may write old times; afterwards the time at
        // which clients could see it.
        let before = || self.times.latest(arrival.topic, record.partition);
        let own = record.timestamp.map(|own| own.max(before()));
        let own = own.and_then(record_time::seconds);
        let made = own
            .filter(|_| arrival.is_loading)
            .unwrap_or(arrival.now)
            .min(arrival.now);
        let update = Update {
            key,
            origin,
            deleted: (record.value.is_none() && unusable.is_none()).then_some(made),
            unusable,
            frame: write::without_id(shown.frame),
            headers: shown.headers,
        };
        // While the topics are loaded, only if room is needed.
        if table.is_full() {
            table.expire(arrival.now);
        }
        let (applied, previous) = table.apply(arrival.sequence, &update);
        let met = table.met();
        drop(table);
        match applied {
            Applied::Taken => {}
            Applied::Older(winner) => {
                self.superseded(record, &winner, arrival);
                return Kept::Older;
            }
            Applied::Evicted => {
                self.displaced(met, "keys that were not updated for the longest time have left");
            }
            Applied::Refused => self.displaced(met, "a new key has no place; it is delivered live only"),
            Applied::Displaced => {
                self.displaced(
                    met,
                    "a key has left, as its new record has no place; that is delivered live only",
                );
            }
        }
        Kept::Shown(previous.filter(|row| row.is_stand_in() || !row.candidate().is_tombstone))
    }

    /// Remembers a record that the stream's own filter hides, of a key of which clients hold no record.
    pub(super) fn hide(&mut self, record: &Record<'_>, arrival: &Arrival) {
        let origin = origin(&self.stream, &mut self.times, record, arrival);
        if let Some((key, mut table)) = record.key.zip(self.stream.write_table()) {
            table.hide(key, origin);
        }
    }

    /// Whether the stream's own filter hides a newer record of this one's key.
    pub(super) fn is_outdated(&mut self, record: &Record<'_>, arrival: &Arrival) -> bool {
        let origin = origin(&self.stream, &mut self.times, record, arrival);
        let table = self.stream.read_table();
        let newer = table.and_then(|table| table.hidden_since(record.key?, &origin));
        if let Some(newer) = &newer {
            self.superseded(record, newer, arrival);
        }
        newer.is_some()
    }

    /// How many records without a key came since the last call.
    pub(super) fn take_keyless(&mut self) -> u64 {
        std::mem::take(&mut self.keyless)
    }

    fn note_keyless(&mut self, record: &Record<'_>) {
        self.keyless += 1;
        if self.stream.counters().keyless.add(1) == 0 {
            warn!(
                "stream {}: topic {:?} partition {} offset {} has no key: such records are delivered live, but have \
                 no place in the table (said once)",
                self.stream.settings().path,
                record.topic,
                record.partition,
                record.offset
            );
        }
    }

    fn displaced(&mut self, met: &str, consequence: &str) {
        self.stream.counters().displaced.add(1);
        self.stream.note_lack_of_rows();
        if let Some(unsaid) = self.full.admit() {
            error!(
                "stream {}: its table is full ({met}): {consequence}{unsaid}",
                self.stream.settings().path
            );
        }
    }

    /// Counts a record that is not shown because its key has a newer one in another partition.
    fn superseded(&mut self, record: &Record<'_>, winner: &Origin, arrival: &Arrival) {
        // While a topic is loaded, one partition is read before another, so older records come later. That
        // indicates no fault of the producers, unless the newer record is from the future.
        let is_from_future = winner
            .timestamp
            .and_then(|time| u64::try_from(time / 1000).ok())
            .is_some_and(|time| time > arrival.now.saturating_add(CLOCK_TOLERANCE.as_secs()));
        let is_notable = is_from_future || !arrival.is_topic_loading;
        self.stream
            .counters()
            .count_superseded(record.topic, is_notable.then_some(arrival.now));
        if is_notable && let Some(unsaid) = self.superseded.admit() {
            let readable =
                |time: Option<i64>| time.map_or_else(|| "none".to_owned(), |time| time.to_string());
            warn!(
                "stream {}: not shown: topic {:?} partition {} offset {}, timestamp {}: its key has a newer record in \
                 partition {} at offset {}, timestamp {}; write a key to one partition only{unsaid}",
                self.stream.settings().path,
                record.topic,
                record.partition,
                record.offset,
                readable(record.timestamp),
                winner.partition,
                winner.offset,
                readable(winner.timestamp),
            );
        }
    }
}

/// The origin of a record, with the time that the table compares.
fn origin(stream: &Stream, times: &mut RecordTimes, record: &Record<'_>, arrival: &Arrival) -> Origin {
    let clock = || millis(arrival.now, stream.time_of_day());
    Origin {
        // A stream has far fewer topics than that: their names alone would fill the id.
        topic: u16::try_from(arrival.topic).unwrap_or(u16::MAX),
        partition: record.partition,
        offset: record.offset,
        timestamp: times.of(arrival.topic, record, clock, arrival.is_topic_loading),
    }
}
