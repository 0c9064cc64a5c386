//! Checks the rows that a client of a table shows.

use super::super::ids::{begun, has_passed, read_id};
use super::super::model::{Kafka, Key, NOT_BEGUN, Record, Row, Shown};
use super::super::replica::Moment;
use super::super::setup::TOPICS;
use super::{Browser, epoch, number, place, topic};
use crate::harness::wait::ensure;
use kafka_sse_bridge::config::{Lag, Start};
use serde_json::Value;
use std::collections::BTreeMap;

impl Browser {
    /// Notes that it has read all that its replica had.
    pub(super) fn note_at_head(&mut self) {
        let id = read_id(&self.id);
        let Some(connection) = self
            .connection
            .as_mut()
            .filter(|connection| connection.is_caught_up)
        else {
            return;
        };
        self.is_partial &= !self.ends_with_id;
        let here = &connection.replica.borrow().next;
        // A client of a table wants a partition that has not begun from its beginning, which is further.
        let have_begun = here.iter().flatten().all(|next| *next != NOT_BEGUN);
        connection.is_live |= have_begun && id.is_ok_and(|(next, _)| has_passed(here, &next));
    }

    pub(super) fn row(&mut self, kafka: &Kafka, name: &str, data: &Value) -> Result<(), String> {
        let Some(key) = data["key"].as_str() else {
            // Such a record has no place in a table.
            return Ok(());
        };
        // One that falls off the log may be given the table again, without an event that says so, and with an id that
        // says less than what it has.
        let is_live = self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.is_live);
        self.is_partial |= !is_live || kafka.setup.lag == Lag::Replay;
        let topic = topic(data);
        let key = (topic, key.parse().map_err(|_| "no key of ours")?);
        if name == "delete" {
            ensure(kafka.may_be_deleted(key), "a key that was never shown")?;
            self.table.remove(&key);
            return Ok(());
        }
        let (place, offset, epoch) = (place(data), number(&data["offset"]), epoch(data));
        let record = kafka.record(place, offset, epoch);
        let is_right = |record: &Record| record.key == Some(key.1) && kafka.is_for(self.wants, place, record);
        ensure(record.is_some_and(is_right), "no such record")?;
        self.table.insert(key, (place.partition, offset, epoch));
        Ok(())
    }

    pub(super) fn caught_up(&mut self, kafka: &Kafka, reason: &str) -> Result<(), String> {
        let start = self.begins(kafka);
        let connection = self.connection.as_mut().ok_or("not connected")?;
        ensure(!connection.is_caught_up, "twice in a connection")?;
        connection.is_caught_up = true;
        self.is_partial = false;
        let replica = connection.replica.borrow();
        let loaded = replica.loaded.ok_or("its replica is not loaded")?;
        let (next, _) = read_id(&self.id)?;
        let since = loaded.max(connection.moments.saturating_sub(1));
        // A truncation takes it back.
        let has_gone_back =
            replica.truncations != connection.truncations || connection.truncated != [0; TOPICS.len()];
        ensure(
            has_gone_back || has_passed(&next, &replica.moments[since].next),
            "too early",
        )?;
        let is_replay = start == Start::Earliest || connection.brought.is_some() && reason == "replay";
        let wanted = if is_replay { "replay" } else { start.as_str() };
        ensure(reason == wanted, format!("not {wanted}"))?;
        if !kafka.setup.has_table() || start == Start::Live {
            return Ok(());
        }
        // One that has been with a replica further on may hold what this one has still to read.
        let brought = connection.brought.as_ref();
        let is_ahead = brought.is_some_and(|(brought, _)| !has_passed(&connection.here, brought));
        let is_fresh = connection.brought.is_none() || reason == "snapshot";
        self.is_whole = (is_fresh || self.is_whole && !is_ahead) && !has_gone_back;
        // Of a full table it is not known here what has left it.
        if !self.is_whole || kafka.setup.bounds.is_some() {
            return Ok(());
        }
        // The table is that of the replica, as of the moment that the id names.
        // Partitions that it does not know yet stay in the id.
        // Of a partition that has not begun a table's client holds nothing, as of one that is at its beginning.
        let next = begun(&next);
        let is_named = |moment: &&Moment| {
            let here = begun(&moment.next);
            let mut topics = next.iter().zip(&here);
            topics.all(|(next, here)| next.starts_with(here))
        };
        let mut moments = replica.moments[since..].iter();
        let exact = moments.clone().find(|moment| begun(&moment.next) == next);
        let moment = exact.or_else(|| moments.rfind(is_named));
        let moment = moment.ok_or("of no moment that its replica has seen")?;
        let is_certain = |key: &Key| !kafka.expired.contains(key);
        let wants = self.wants;
        let value = |(key, row): (&Key, &Row)| Some((*key, kafka.value(wants, *key, row)?));
        let mut wanted: BTreeMap<Key, Shown> = moment.rows.iter().filter_map(value).collect();
        wanted.retain(|key, _| is_certain(key));
        let mut shown = self.table.clone();
        shown.retain(|key, _| is_certain(key));
        ensure(shown == wanted, format!("holds {shown:?}, not {wanted:?}"))
    }
}
