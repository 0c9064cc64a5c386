//! The records that clients are to be shown, and those that they may be shown or keep.

use super::super::clock::{DELETE_RETENTION, now};
use super::super::setup::{FIXED, Place, TOPICS, Wants};
use super::{Kafka, Key, Kind, Record, Row, Shown};

impl Kafka {
    /// Whether retention took what makes a key's latest record: a replica that began later does not know
    /// of it, or goes by what other partitions still have.
    pub fn is_unknown(&self, key: Key, latest: &Row) -> bool {
        let place = Place {
            topic: key.0,
            partition: latest.partition,
        };
        let is_there = self.partition(place).is_there[latest.offset];
        self.expired.contains(&key) && (self.setup.is_spread || !is_there)
    }

    /// Whether a client may keep an older record of a key whose latest does not pass its filter or the stream's:
    /// retention took a record of the key, and a replica that began later does not know that one had passed.
    pub fn may_be_left(&self, wants: Wants, key: Key, latest: &Row) -> bool {
        let place = Place {
            topic: key.0,
            partition: latest.partition,
        };
        let is_delete = self
            .written(place, latest.offset)
            .is_some_and(|record| record.kind == Kind::Tombstone);
        let has_filter = matches!(wants, Wants::Shade(_) | Wants::Partition(_)) && !is_delete;
        self.expired.contains(&key) && (self.setup.is_fixed || has_filter)
    }

    /// Whether a delete was written, or a record that may be shown as one, from an offset on whose timestamp is older
    /// than deletes are remembered.
    pub fn has_old_delete(&self, place: Place, from: usize) -> bool {
        let is_old = |(_, record): (usize, &Record)| {
            let time = u64::try_from(record.timestamp / 1000);
            let is_delete = record.kind == Kind::Tombstone || self.setup.is_fixed;
            is_delete && time.is_ok_and(|time| time + DELETE_RETENTION < now())
        };
        self.ever(place, from).any(is_old)
    }

    /// Whether the table may forget keys whose latest record the stream's own filter hides: half of a sixteenth of its
    /// bytes is certain to hold what was hidden last, at 54 bytes per key.
    pub fn may_forget_hidden(&self) -> bool {
        let keys = TOPICS.len() * usize::from(super::super::KEYS);
        let bytes = self.setup.bounds.map_or(u64::MAX, |(_, bytes, _)| bytes);
        self.setup.is_fixed && bytes / 16 / 2 / 54 < keys as u64
    }

    /// Whether a record from an offset on is hidden by the stream's own filter and of a key of which another partition
    /// has one that passes: a client to which a replica has shown that one may have to be told by another that it is
    /// outdated.
    pub fn hides_since(&self, place: Place, from: usize) -> bool {
        let mut hidden = self.ever(place, from).filter(|(_, record)| {
            record.kind != Kind::Hole && record.key.is_some() && !self.is_let_through(place, record)
        });
        hidden.any(|(_, record)| {
            let mut others = self
                .places()
                .filter(|other| other.topic == place.topic && *other != place);
            others.any(|other| {
                let passes =
                    |(_, one): (usize, &Record)| one.key == record.key && self.is_let_through(other, one);
                self.ever(other, 0).any(passes)
            })
        })
    }

    /// Whether a client is to see a record, that is there or was: its stream shows it, and it passes.
    pub fn is_for(&self, wants: Wants, place: Place, record: &Record) -> bool {
        let is_shown = match record.kind {
            Kind::Value | Kind::Tombstone => true,
            Kind::Bad => self.setup.is_envelope,
            Kind::Hole => false,
        };
        is_shown && self.is_let_through(place, record) && wants.passes(place, record)
    }

    /// Whether the stream's own filter lets a record through.
    fn is_let_through(&self, place: Place, record: &Record) -> bool {
        !self.setup.is_fixed || FIXED.passes(place, record)
    }

    /// Whether one of the key's records was let through before this time, so that a delete of it tells nothing.
    pub fn may_be_deleted(&self, key: Key) -> bool {
        let mut places = self.places().filter(|place| place.topic == key.0);
        places.any(|place| {
            let mut records = self.ever(place, 0);
            records.any(|(_, record)| record.key == Some(key.1) && self.is_let_through(place, record))
        })
    }

    /// The record that a client is to show of a key with this latest record.
    pub fn value(&self, wants: Wants, key: Key, latest: &Row) -> Option<Shown> {
        let place = Place {
            topic: key.0,
            partition: latest.partition,
        };
        let record = self.record(place, latest.offset, latest.epoch)?;
        let is_shown = !latest.is_tombstone && self.is_for(wants, place, record);
        is_shown.then_some((latest.partition, latest.offset, latest.epoch))
    }
}
