//! A browser that writes down what it is told, and sees at once where that breaks a promise.

use super::archive::{Shared, TERMS};
use super::clock::{self, DELETE_RETENTION};
use super::ids::{begun, has_passed, read_id};
use super::model::{Kafka, Key, NOT_BEGUN, Row};
use super::replica::{Moment, Next, Replica};
use super::setup::{Place, TOPICS, Wants};
use crate::harness::sse::{Event, Item, Parser};
use crate::harness::wait::ensure;
use kafka_sse_bridge::config::{Lag, Start};
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Waker};

/// Pauses that bring nothing, after which nothing will come: each of the other clients may hold the seat for a few
/// times the patience.
const PAUSES: usize = 100;

struct Connection {
    subscription: Subscription,
    parser: Parser,
    replica: Rc<RefCell<Replica>>,
    /// How many moments the replica had seen.
    moments: usize,
    /// What it had read.
    here: Next,
    /// The id the browser came with.
    brought: Option<(Next, Option<u64>)>,
    is_caught_up: bool,
}

pub struct Browser {
    kafka: Shared,
    /// Where it begins when it brings no id.
    start: Option<Start>,
    wants: Wants,
    connection: Option<Connection>,
    pending: VecDeque<Event>,
    id: String,
    /// Whether it holds nothing, and has no place yet.
    is_new: bool,
    /// Without a table: before this offset, it has had everything of a partition.
    reached: BTreeMap<Place, usize>,
    /// With a table: where the value that it shows of each key stands.
    table: BTreeMap<Key, (usize, usize)>,
    /// Whether the table is just what its id says, not half-way through a snapshot.
    is_whole: bool,
    /// Whether rows came in this connection, but not yet all.
    is_partial: bool,
}

impl Browser {
    pub fn new(kafka: Shared, (start, wants): (Option<Start>, Wants)) -> Self {
        Self {
            kafka,
            start,
            wants,
            connection: None,
            pending: VecDeque::new(),
            id: String::new(),
            is_new: true,
            reached: BTreeMap::new(),
            table: BTreeMap::new(),
            is_whole: false,
            is_partial: false,
        }
    }

    /// Another that holds the same and has the same id, not connected.
    pub fn twin(&self) -> Self {
        Self {
            kafka: self.kafka.clone(),
            connection: None,
            pending: VecDeque::new(),
            id: self.id.clone(),
            reached: self.reached.clone(),
            table: self.table.clone(),
            ..*self
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub fn is_connected_to(&self, replica: &Rc<RefCell<Replica>>) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| Rc::ptr_eq(&connection.replica, replica))
    }

    pub fn is_caught_up(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.is_caught_up)
    }

    pub fn leave(&mut self) {
        self.connection = None;
        self.pending.clear();
    }

    pub fn go(&mut self, replica: &Rc<RefCell<Replica>>) {
        self.leave();
        self.is_whole &= !std::mem::take(&mut self.is_partial);
        let last_event_id = Some(self.id.clone()).filter(|id| !id.is_empty());
        let brought = last_event_id.as_ref().map(|id| read_id(id).unwrap());
        // From now on the id names offsets.
        for place in self.kafka.lock().places() {
            let topic = brought.as_ref().map(|(next, _)| &next[place.topic]);
            let next = topic.and_then(|topic| topic.get(place.partition));
            if next.is_some_and(|next| *next != NOT_BEGUN) {
                self.reached.entry(place).or_insert(0);
            }
        }
        let opening = Opening {
            last_event_id,
            start: self.start,
            filter: self.wants.filter(),
            ..Opening::default()
        };
        let at = replica.borrow();
        self.connection = Some(Connection {
            subscription: at.stream.subscribe(opening),
            parser: Parser::new(),
            replica: Rc::clone(replica),
            moments: at.moments.len(),
            here: at.next.clone(),
            brought,
            is_caught_up: false,
        });
    }

    /// The next event; `None` when there is nothing more for now.
    async fn next(&mut self) -> Option<Event> {
        let mut pauses = 0;
        while self.pending.is_empty() {
            let connection = self.connection.as_mut()?;
            match connection.subscription.step(clock::instant()) {
                Step::Send(bytes) => {
                    for item in connection.parser.feed(&bytes) {
                        match item {
                            Item::Event(event) => self.pending.push_back(event),
                            Item::Violation(what) => panic!("{what}"),
                            Item::Comment(_) | Item::Retry(_) => {}
                        }
                    }
                }
                Step::End => self.leave(),
                Step::Yield => tokio::task::yield_now().await,
                Step::Wait(_) => {
                    let _ = connection
                        .subscription
                        .wait(Context::from_waker(Waker::noop()).waker());
                    match pauses {
                        // Over when all tasks have done what they can.
                        0 => tokio::time::sleep(TERMS.slow_reader_timeout / 10).await,
                        // A client that takes nothing has the seat until the patience with it is over.
                        1..PAUSES if self.kafka.lock().jobs > 0 => {
                            tokio::time::sleep(TERMS.slow_reader_timeout).await;
                        }
                        _ => return None,
                    }
                    pauses += 1;
                }
            }
        }
        self.pending.pop_front()
    }

    /// Takes at most so many events.
    pub async fn take(&mut self, count: usize) -> Result<(), String> {
        for _ in 0..count {
            let Some(event) = self.next().await else { break };
            self.hear(&event).map_err(|what| format!("{what}: {event:?}"))?;
        }
        Ok(())
    }

    fn hear(&mut self, event: &Event) -> Result<(), String> {
        let shared = self.kafka.clone();
        let kafka = shared.lock();
        let has_table = kafka.setup.has_table();
        let data: Value = serde_json::from_str(&event.data).map_err(|error| error.to_string())?;
        match event.name.as_str() {
            "message" | "delete" if has_table => self.row(&kafka, &event.name, &data)?,
            "message" | "delete" => {
                ensure(event.own_id, "a record without an id")?;
                self.record(&kafka, place(&data), number(&data["offset"]))?;
            }
            "gap" => {
                ensure(!has_table, "a gap in a table")?;
                self.gap(&kafka, place(&data), number(&data["from"]), number(&data["to"]))?;
            }
            "caught-up" | "heartbeat" => {}
            "checkpoint" => {
                let is_quiet = self.wants.filter().is_some() || kafka.setup.is_fixed;
                ensure(event.own_id && (is_quiet || has_table), "nothing to say")?;
            }
            "conflated" => {
                ensure(kafka.setup.lag == Lag::Latest, "not what was asked for")?;
                ensure(number(&data["skipped"]) > 0, "nothing is skipped")?;
                self.is_whole = false;
            }
            "reset" => self.reset(&kafka, &data)?,
            "goodbye" => {
                let is_right = match data["reason"].as_str() {
                    Some("slow") => kafka.setup.lag == Lag::Disconnect,
                    Some("shutdown") => true,
                    _ => false,
                };
                ensure(is_right, "no reason for it")?;
            }
            _ => return Err("unknown".to_owned()),
        }
        if event.own_id {
            self.id.clone_from(&event.id);
            self.reach(&kafka, has_table)?;
        }
        if event.name == "caught-up" {
            ensure(event.own_id, "no id")?;
            self.caught_up(&kafka, data["reason"].as_str().unwrap_or_default())?;
        }
        Ok(())
    }

    fn row(&mut self, kafka: &Kafka, name: &str, data: &Value) -> Result<(), String> {
        let Some(key) = data["key"].as_str() else {
            // Such a record has no place in a table.
            return Ok(());
        };
        // One that falls off the log may be given the table again, with no word of that, and with an id that says
        // less than what it has.
        self.is_partial |= !self.is_caught_up() || kafka.setup.lag == Lag::Replay;
        let topic = topic(data);
        let key = (topic, key.parse().map_err(|_| "no key of ours")?);
        if name == "delete" {
            ensure(kafka.may_be_deleted(key), "a key that was never shown")?;
            self.table.remove(&key);
            return Ok(());
        }
        let (place, offset) = (place(data), number(&data["offset"]));
        let is_of_key = kafka
            .written(place, offset)
            .is_some_and(|record| record.key == Some(key.1));
        ensure(
            is_of_key && kafka.is_for(self.wants, place, offset),
            "no such record",
        )?;
        self.table.insert(key, (place.partition, offset));
        Ok(())
    }

    /// The first record that it is to see between two offsets.
    fn first(&self, kafka: &Kafka, place: Place, from: usize, to: usize) -> Option<usize> {
        (from..to.min(kafka.high(place))).find(|&offset| kafka.is_for(self.wants, place, offset))
    }

    /// Goes forward to an offset, before which nothing must be missing: what was ever written since its
    /// place, and in a partition that it begins to read, what is still there (so it was there before).
    fn pass(&mut self, kafka: &Kafka, place: Place, to: usize) -> Result<(), String> {
        let reached = self.reached.insert(place, to);
        let from = reached.unwrap_or_else(|| self.first_of(kafka, place).min(to));
        let between = self.first(kafka, place, from.min(to), from.max(to));
        // Back over records that are not shown, nothing is shown twice.
        let what = if to < from { "would double" } else { "has lost" };
        match between {
            Some(record) => Err(format!("{place:?} {what} {record}: from {reached:?} to {to}")),
            None => Ok(()),
        }
    }

    /// Where it begins to read a partition of which it has had nothing.
    fn first_of(&self, kafka: &Kafka, place: Place) -> usize {
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

    fn record(&mut self, kafka: &Kafka, place: Place, offset: usize) -> Result<(), String> {
        ensure(kafka.is_for(self.wants, place, offset), "no such record")?;
        self.pass(kafka, place, offset)?;
        self.reached.insert(place, offset + 1);
        Ok(())
    }

    fn gap(&mut self, kafka: &Kafka, place: Place, from: usize, to: usize) -> Result<(), String> {
        ensure(from < to, "an empty gap")?;
        ensure(to <= kafka.low(place), "it names what is still there")?;
        self.pass(kafka, place, from)?;
        self.reached.insert(place, to);
        Ok(())
    }

    /// Notes what an id claims: whoever comes back with it gets what follows it, and no more.
    fn reach(&mut self, kafka: &Kafka, has_table: bool) -> Result<(), String> {
        let (next, as_of) = read_id(&self.id)?;
        ensure(as_of.is_some() == has_table, "an id of another kind")?;
        for place in kafka.places() {
            let Some(&next) = next[place.topic].get(place.partition) else {
                let is_lost = self.reached.get(&place).is_some_and(|&reached| reached > 0);
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
            ensure(next <= kafka.high(place), "an id ahead of the topic")?;
            if has_table {
                continue;
            }
            if self.is_new && self.begins(kafka) == Start::Live {
                // What was before is no concern of its.
                self.reached.insert(place, next);
            }
            // Nothing, while that may still be the partition's beginning, whichever that is.
            if next > 0 || self.reached.contains_key(&place) {
                self.pass(kafka, place, next)?;
            }
        }
        self.is_new = false;
        Ok(())
    }

    fn begins(&self, kafka: &Kafka) -> Start {
        self.start.unwrap_or(kafka.setup.start)
    }

    fn reset(&mut self, kafka: &Kafka, data: &Value) -> Result<(), String> {
        let connection = self.connection.as_ref().ok_or("not connected")?;
        let brought = connection.brought.as_ref();
        match (data["reason"].as_str(), data["topic"].as_str()) {
            (Some("too-old"), None) => {
                let as_of = brought.and_then(|(_, as_of)| *as_of);
                // One that is still connected may have come no further than what was written long ago.
                let here = read_id(&self.id).ok().and_then(|(_, as_of)| as_of);
                let is_old = as_of
                    .into_iter()
                    .chain(here)
                    .any(|as_of| as_of + DELETE_RETENTION < clock::now());
                let replica = connection.replica.borrow();
                let is_before = |place: Place| {
                    let next = brought.and_then(|(next, _)| next[place.topic].get(place.partition));
                    let first = replica.first[place.topic].get(place.partition);
                    next.is_some_and(|next| *next != NOT_BEGUN && Some(next) < first)
                };
                // A client that left half-way through the table names an offset that may lie far behind.
                let is_lost = kafka.setup.bounds.is_some() || kafka.was_behind || !self.is_whole;
                // Of what was hidden before it began a replica knows nothing.
                let is_hidden = kafka.setup.is_fixed && as_of.is_none_or(|as_of| as_of < replica.began);
                // While its topics are loaded, a delete is as old as its timestamp says.
                let is_backfilled = || {
                    kafka.places().any(|place| {
                        let next = brought.and_then(|(next, _)| next[place.topic].get(place.partition));
                        kafka.has_old_delete(
                            place,
                            next.copied().filter(|next| *next != NOT_BEGUN).unwrap_or(0),
                        )
                    })
                };
                // A replica that read a hidden record before an older one of another partition does not know who holds that.
                let is_outdated = || {
                    kafka.places().any(|place| {
                        let next = brought.and_then(|(next, _)| next[place.topic].get(place.partition));
                        kafka.hides_since(
                            place,
                            next.copied().filter(|next| *next != NOT_BEGUN).unwrap_or(0),
                        )
                    })
                };
                let is_hidden = is_hidden || kafka.setup.is_fixed && is_outdated();
                ensure(
                    is_old || is_lost || is_hidden || is_backfilled() || kafka.places().any(is_before),
                    "it is not too old",
                )?;
                self.table.clear();
                self.reached.clear();
                (self.is_new, self.is_whole) = (true, false);
            }
            (Some("recreated"), Some(_)) => {
                let topic = topic(data);
                let here = connection.here.get(topic).map_or(0, Vec::len);
                let (next, _) = brought.ok_or("it brought nothing")?;
                ensure(
                    !kafka.setup.has_ids && next[topic].len() > here,
                    "it is the same topic",
                )?;
                self.table.retain(|key, _| key.0 != topic);
                self.reached.retain(|place, _| place.topic != topic);
            }
            _ => return Err("no reason for it".to_owned()),
        }
        Ok(())
    }

    fn caught_up(&mut self, kafka: &Kafka, reason: &str) -> Result<(), String> {
        let start = self.begins(kafka);
        let connection = self.connection.as_mut().ok_or("not connected")?;
        ensure(!connection.is_caught_up, "twice in a connection")?;
        connection.is_caught_up = true;
        self.is_partial = false;
        let replica = connection.replica.borrow();
        let loaded = replica.loaded.ok_or("its replica is not loaded")?;
        let (next, _) = read_id(&self.id)?;
        let since = loaded.max(connection.moments.saturating_sub(1));
        ensure(has_passed(&next, &replica.moments[since].next), "too early")?;
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
        self.is_whole = is_fresh || self.is_whole && !is_ahead;
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
        let mut wanted: BTreeMap<Key, (usize, usize)> = moment.rows.iter().filter_map(value).collect();
        wanted.retain(|key, _| is_certain(key));
        let mut shown = self.table.clone();
        shown.retain(|key, _| is_certain(key));
        ensure(shown == wanted, format!("holds {shown:?}, not {wanted:?}"))
    }

    /// Whether it has had everything, once all was read.
    pub fn check(&mut self) -> Result<(), String> {
        ensure(self.is_caught_up(), "it has not caught up")?;
        let shared = self.kafka.clone();
        let kafka = shared.lock();
        if !kafka.setup.has_table() {
            return kafka
                .places()
                .try_for_each(|place| self.pass(&kafka, place, kafka.high(place)));
        }
        if self.begins(&kafka) == Start::Live {
            return Ok(());
        }
        for (key, row) in &kafka.latest {
            let shown = self.table.get(key);
            let latest = kafka.value(self.wants, *key, row);
            // What had no place in the table is not shown to those who came later. Nobody is left with an older
            // record, unless the table has forgotten in which partition a key had its latest.
            let has_forgotten =
                || kafka.setup.is_spread && (kafka.has_forgotten || kafka.may_forget_hidden());
            if kafka.setup.bounds.is_some() && (shown.is_none() || has_forgotten()) {
                continue;
            }
            let is_unknown = kafka.is_unknown(*key, row) && (kafka.setup.is_spread || shown.is_none());
            let is_left = latest.is_none() && kafka.may_be_left(self.wants, *key, row);
            ensure(
                shown == latest.as_ref() || is_unknown || is_left,
                format!("key {key:?} is shown as {shown:?}, not {latest:?}"),
            )?;
        }
        Ok(())
    }
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number")).unwrap()
}

fn topic(data: &Value) -> usize {
    TOPICS
        .iter()
        .position(|name| data["topic"] == *name)
        .expect("a topic of ours")
}

fn place(data: &Value) -> Place {
    Place {
        topic: topic(data),
        partition: number(&data["partition"]),
    }
}
