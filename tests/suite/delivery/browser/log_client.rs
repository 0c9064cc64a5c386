//! Checks what a client receives of every partition: all records of a stream without a table, and the ids of any.

use super::super::clock::{self, LOADING_PATIENCE};
use super::super::ids::{epoch_in, read_id};
use super::super::model::{Kafka, NOT_BEGUN, Record};
use super::super::reached::{Reached, View};
use super::super::replica::Next;
use super::super::setup::Place;
use super::Browser;
use crate::harness::wait::ensure;
use kafka_sse_bridge::config::{Lag, Start};
use std::collections::BTreeMap;

impl Browser {
    pub(super) fn view<'a>(&self, kafka: &'a Kafka, place: Place) -> View<'a> {
        View {
            kafka,
            wants: self.wants,
            place,
        }
    }

    /// Whether a replay may have read a log beyond a truncation that the replica noticed later, or has yet to notice. A
    /// browser that leaves before it receives the gap comes back with an id of that log, and misses records.
    pub(super) fn may_mix(&self, kafka: &Kafka, place: Place) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        let (before, now) = (connection.versions.get(&place), kafka.version(place));
        let is_unnoticed = || connection.replica.borrow().version(place) < now;
        let may_replay = !connection.is_caught_up || kafka.setup.lag == Lag::Replay;
        let is_ahead = connection.ahead.contains(&place);
        before.is_none_or(|before| *before < now) && (may_replay || is_ahead || is_unnoticed())
    }

    /// The position of its last id, with which it returns.
    pub(super) fn reached_by_id(&self) -> BTreeMap<Place, Reached> {
        let kafka = self.kafka.lock();
        let mut all = self.reached.clone();
        for (place, before) in &self.before_gaps {
            match before {
                Some(before) => all.insert(*place, *before),
                None => all.remove(place),
            };
        }
        let Ok((next, _)) = read_id(&self.id) else {
            return all;
        };
        for (place, reached) in &mut all {
            let view = self.view(&kafka, *place);
            let named = next[place.topic].get(place.partition);
            let Some((next, epoch)) = named.copied().zip(epoch_in(&self.id, *place)) else {
                continue;
            };
            let versions = view.with_record(next.saturating_sub(1), epoch);
            if self.may_mix(&kafka, *place) && versions > 0 && view.differs(*reached, versions) {
                *reached = Reached::at(next, versions);
            }
        }
        all
    }

    /// Notes the partitions for which its replica cannot compare leader epochs: the id names none, or the replica has not
    /// read what is before it.
    pub(super) fn note_unread(&mut self) {
        let Some(connection) = self
            .connection
            .as_mut()
            .filter(|connection| !connection.has_heard)
        else {
            return;
        };
        let has_waited = connection.brought.is_some() && connection.at + LOADING_PATIENCE <= clock::now();
        for (topic, next) in connection
            .brought
            .iter()
            .flat_map(|(next, _)| next.iter().enumerate())
        {
            for (partition, &next) in next.iter().enumerate() {
                let place = Place { topic, partition };
                let first = connection.replica.borrow().first_read(place);
                if has_waited
                    || first.is_none_or(|first| first >= next)
                    || epoch_in(&self.id, place).is_none()
                {
                    connection.unread.insert(place);
                }
            }
        }
    }

    /// Whether its replica knows the leader epoch of a record before this offset: otherwise it knows only where the log
    /// ended when it looked.
    fn is_compared_before(&self, place: Place, offset: usize) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            let first = connection.replica.borrow().first_read(place);
            first.is_some_and(|first| first < offset)
        })
    }

    /// Whether it may get records of a later log without a gap, for now or for ever.
    pub(super) fn is_excused(&mut self, kafka: &Kafka, place: Place) -> bool {
        let is_unread = self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.unread.contains(&place));
        let reached = self.reached.get(&place).map_or(0, |reached| reached.next);
        if is_unread || epoch_in(&self.id, place).is_none() || !self.is_compared_before(place, reached) {
            return true;
        }
        let may_mix = self.may_mix(kafka, place);
        if may_mix {
            self.owed.insert(place);
        }
        may_mix
    }

    /// Whether the present log has no record at the offsets of the lost records before its id, so that its replica finds
    /// the end of their leader epoch behind them.
    fn is_of_holes(&self, view: View<'_>, before: Reached) -> bool {
        let connection = self.connection.as_ref();
        let brought = connection.and_then(|connection| connection.brought.as_ref());
        let next = brought.and_then(|(next, _)| next[view.place.topic].get(view.place.partition));
        next == Some(&before.next) && view.has_only_holes(before)
    }

    /// Goes on to an offset of one of these versions of the log. Nothing that Kafka still has may be missing before it,
    /// whether retention took it since or not, and in a partition that it begins to read, nothing that is still there.
    pub(super) fn pass(
        &mut self,
        kafka: &Kafka,
        place: Place,
        to: usize,
        versions: u64,
    ) -> Result<(), String> {
        let (view, before) = (self.view(kafka, place), self.reached.get(&place).copied());
        let passed = view.pass(before, self.first_of(kafka, place), to, versions);
        let passed = match (passed, before) {
            (Err(what), Some(before)) if self.is_of_holes(view, before) => {
                // It is as if it had had the records of the present log.
                let before = Reached::at(before.next, view.present());
                view.pass(Some(before), 0, to, versions).or(Err(what))
            }
            (passed, _) => passed,
        };
        let passed = match passed {
            Err(_) if self.is_excused(kafka, place) => Reached::at(to, versions),
            passed => passed?,
        };
        self.reached.insert(place, passed);
        Ok(())
    }

    /// Where it begins to read a partition of which it has had nothing.
    pub(super) fn first_of(&self, kafka: &Kafka, place: Place) -> usize {
        let low = kafka.low(place);
        let Some(connection) = &self.connection else {
            return low;
        };
        // Of one that had not begun, what is new since: from where it ended without a leader, or as far back as the
        // replica had others begin when it was loaded.
        let brought = connection.brought.as_ref().map(|(next, _)| &next[place.topic]);
        let had_not_begun = brought.is_some_and(|next| next.get(place.partition) == Some(&NOT_BEGUN));
        if had_not_begun || brought.is_none() && self.begins(kafka) == Start::Live {
            let live = connection.replica.borrow().live.get(&place).copied();
            return live.unwrap_or(low).max(low);
        }
        low
    }

    pub(super) fn record(
        &mut self,
        kafka: &Kafka,
        place: Place,
        offset: usize,
        epoch: u32,
    ) -> Result<(), String> {
        let record = kafka.record(place, offset, epoch);
        let is_for = |record: &Record| kafka.is_for(self.wants, place, record);
        ensure(record.is_some_and(is_for), "no such record")?;
        let versions = self.view(kafka, place).with_record(offset, epoch);
        if let Some(connection) = &mut self.connection {
            let compared = connection.compared.get(&place).copied().unwrap_or(0);
            if versions & ((2 << compared) - 1) == 0 {
                connection.ahead.insert(place);
            }
        }
        self.pass(kafka, place, offset, versions)?;
        if let Some(reached) = self.reached.get_mut(&place) {
            reached.next = offset + 1;
        }
        Ok(())
    }

    pub(super) fn gap(
        &mut self,
        kafka: &Kafka,
        place: Place,
        (from, to): (usize, usize),
    ) -> Result<(), String> {
        ensure(from < to, "an empty gap")?;
        ensure(to <= kafka.low(place), "it names what is still there")?;
        self.pass(kafka, place, from, self.view(kafka, place).with_end(from))?;
        if let Some(reached) = self.reached.get_mut(&place) {
            reached.next = to;
        }
        Ok(())
    }

    /// Whether its id may be taken for one of a log from before a truncation at `from`, whatever log it is of: it names no
    /// leader epoch, or its replica knows none of the lost records, and the replica has not read as far.
    fn may_be_taken_for_lost(&self, kafka: &Kafka, place: Place, from: usize) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| {
            let next = |all: &Next| all.get(place.topic)?.get(place.partition).copied();
            let brought = connection.brought.as_ref().and_then(|(all, _)| next(all));
            let read = connection.replica.borrow().has_read(place);
            brought.is_some_and(|brought| brought != NOT_BEGUN)
                && brought > next(&connection.here).min(read)
                && (epoch_in(&self.id, place).is_none() || !self.is_compared_before(place, from))
                && kafka.version(place) > 0
        })
    }

    /// Is told that records that it has had, except those that did not pass, are no longer in Kafka.
    pub(super) fn truncated(
        &mut self,
        kafka: &Kafka,
        place: Place,
        (from, to): (usize, usize),
        has_id: bool,
    ) -> Result<(), String> {
        ensure(from < to, "an empty gap")?;
        let view = self.view(kafka, place);
        let before = self.reached.get(&place).copied();
        if before.is_none_or(|before| before.next < from) {
            self.pass(kafka, place, from, view.with_end(from))?;
        }
        let Some(&reached) = self.reached.get(&place) else {
            return Err("it has had nothing".to_owned());
        };
        let connection = self.connection.as_ref();
        let is_unread = connection.is_some_and(|connection| connection.unread.contains(&place));
        let has_epoch =
            epoch_in(&self.id, place).is_some() && !is_unread && self.is_compared_before(place, from);
        let may_mix = self.owed.remove(&place)
            || self.may_mix(kafka, place)
            || !has_id && self.may_be_taken_for_lost(kafka, place, from);
        if let Some(connection) = &mut self.connection {
            connection.ahead.remove(&place);
        }
        ensure(reached.next <= to || may_mix, "it has had more")?;
        if !has_id {
            self.before_gaps.entry(place).or_insert(before);
        }
        self.reached
            .insert(place, view.truncated(reached, from, (may_mix, has_epoch))?);
        Ok(())
    }

    /// Notes what an id claims: whoever comes back with it gets what follows it, and no more.
    pub(super) fn reach(&mut self, kafka: &Kafka, has_table: bool) -> Result<(), String> {
        let (next, as_of) = read_id(&self.id)?;
        ensure(as_of.is_some() == has_table, "an id of another kind")?;
        for place in kafka.places() {
            let Some(&next) = next[place.topic].get(place.partition) else {
                let is_lost = self.reached.get(&place).is_some_and(|reached| reached.next > 0);
                ensure(!is_lost, format!("the id says nothing of {place:?} any more"))?;
                continue;
            };
            if next == NOT_BEGUN {
                ensure(
                    has_table || !self.reached.contains_key(&place),
                    format!("the id says that {place:?} has not begun any more"),
                )?;
                continue;
            }
            let view = self.view(kafka, place);
            let versions = view.with_end(next);
            ensure(versions > 0, "an id ahead of the topic")?;
            if has_table {
                continue;
            }
            if self.is_new && self.begins(kafka) == Start::Live || self.fresh.contains(&place.topic) {
                // Earlier records do not concern it.
                let named =
                    epoch_in(&self.id, place).map(|epoch| view.with_record(next.saturating_sub(1), epoch));
                let versions = named.filter(|named| *named > 0).unwrap_or(versions);
                self.reached.insert(place, Reached::at(next, versions));
            }
            // Nothing, while that may still be the partition's beginning, whichever that is.
            if next > 0 || self.reached.contains_key(&place) {
                self.pass(kafka, place, next, versions)?;
            }
        }
        self.is_new = false;
        self.fresh.clear();
        Ok(())
    }
}
