//! A browser that writes down what it is told, and sees at once where that breaks a promise.

mod log_client;
mod table_client;

use super::archive::{Shared, TERMS};
use super::clock::{self, DELETE_RETENTION, LOADING_PATIENCE};
use super::ids::{epoch_in, read_id};
use super::model::{Kafka, Key, NOT_BEGUN, Shown};
use super::reached::Reached;
use super::replica::{Next, Replica};
use super::setup::{Place, TOPICS, Wants};
use crate::harness::sse::{Event, Item, Parser};
use crate::harness::wait::ensure;
use kafka_sse_bridge::config::{Lag, Start};
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// The position that it had read.
    here: Next,
    /// The id the browser came with.
    brought: Option<(Next, Option<u64>)>,
    is_caught_up: bool,
    /// Whether it had read all that its replica had, and was no further. One that falls off the log before that is given
    /// the table again, without an event that says so.
    is_live: bool,
    /// When it connected.
    at: u64,
    /// The versions of the logs that the replica had read.
    versions: BTreeMap<Place, usize>,
    /// Those that it had read when the subscription produced the pending events.
    compared: BTreeMap<Place, usize>,
    /// How often the replica had gone back in each topic.
    truncations: [usize; TOPICS.len()],
    /// How often the browser was told to forget a topic because a log was truncated.
    truncated: [usize; TOPICS.len()],
    /// Partitions of which the replica cannot know whether the id is of another log.
    unread: BTreeSet<Place>,
    /// Partitions of which a replay has sent records that are only in versions later than `compared`. The gap follows
    /// when the replica notices the truncation, although the browser may have caught up before.
    ahead: BTreeSet<Place>,
    has_heard: bool,
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
    /// Without a table: how far it has come in every partition.
    reached: BTreeMap<Place, Reached>,
    /// The same before gaps that had no id: a browser that comes back gets them again.
    before_gaps: BTreeMap<Place, Option<Reached>>,
    /// Partitions of which it has had records of a later log, and is owed the gap.
    owed: BTreeSet<Place>,
    /// Topics that it begins where the next id says.
    fresh: BTreeSet<usize>,
    /// With a table: the record that it shows of each key.
    table: BTreeMap<Key, Shown>,
    /// Whether the table is just what its id says, not half-way through a snapshot.
    is_whole: bool,
    /// Whether the last event had an id.
    ends_with_id: bool,
    /// Whether rows of the table came in this connection, but not yet all, or none with an id behind them.
    is_partial: bool,
    /// Whether it left like that, so that it may keep rows of records that are lost, and lack those that they replaced.
    may_keep_lost: bool,
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
            before_gaps: BTreeMap::new(),
            owed: BTreeSet::new(),
            fresh: BTreeSet::new(),
            table: BTreeMap::new(),
            is_whole: false,
            ends_with_id: false,
            is_partial: false,
            may_keep_lost: false,
        }
    }

    /// Another that holds the same and has the same id, not connected.
    pub fn twin(&self) -> Self {
        Self {
            kafka: self.kafka.clone(),
            connection: None,
            pending: VecDeque::new(),
            id: self.id.clone(),
            reached: self.reached_by_id(),
            before_gaps: BTreeMap::new(),
            owed: BTreeSet::new(),
            fresh: self.fresh.clone(),
            table: self.table.clone(),
            ..*self
        }
    }

    /// How far it has come in a partition, without a table.
    pub fn next_of(&self, place: Place) -> usize {
        self.reached.get(&place).map_or(0, |reached| reached.next)
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
        self.reached = self.reached_by_id();
        self.before_gaps.clear();
        self.owed.clear();
        self.connection = None;
        self.pending.clear();
    }

    pub fn go(&mut self, replica: &Rc<RefCell<Replica>>) {
        self.leave();
        self.may_keep_lost |= self.is_partial;
        self.is_whole &= !std::mem::take(&mut self.is_partial);
        let last_event_id = Some(self.id.clone()).filter(|id| !id.is_empty());
        let brought = last_event_id.as_ref().map(|id| read_id(id).unwrap());
        // From now on the id names offsets.
        let places = self.kafka.lock().places();
        for place in places {
            let topic = brought.as_ref().map(|(next, _)| &next[place.topic]);
            let next = topic.and_then(|topic| topic.get(place.partition));
            if next.is_some_and(|next| *next != NOT_BEGUN) {
                let kafka = self.kafka.lock();
                let view = self.view(&kafka, place);
                let nothing = Reached::at(0, view.with_end(0));
                drop(kafka);
                self.reached.entry(place).or_insert(nothing);
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
            is_live: false,
            at: clock::now(),
            versions: at.versions.clone(),
            compared: at.versions.clone(),
            truncations: at.truncations,
            truncated: [0; TOPICS.len()],
            unread: BTreeSet::new(),
            ahead: BTreeSet::new(),
            has_heard: false,
        });
    }

    /// The next event; `None` when there is nothing more for now.
    async fn next(&mut self) -> Option<Event> {
        let mut pauses = 0;
        while self.pending.is_empty() {
            let connection = self.connection.as_mut()?;
            match connection.subscription.step(clock::instant()) {
                Step::Send(bytes) => {
                    connection
                        .compared
                        .clone_from(&connection.replica.borrow().versions);
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
                    self.note_at_head();
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
        self.note_unread();
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
                let place = place(&data);
                self.record(&kafka, place, number(&data["offset"]), epoch(&data))?;
                let named = epoch_in(&event.id, place);
                ensure(
                    !kafka.setup.has_epochs || named == Some(epoch(&data)),
                    "an id with another leader epoch",
                )?;
            }
            "gap" => {
                ensure(!has_table, "a gap in a table")?;
                let range = (number(&data["from"]), number(&data["to"]));
                match data["reason"].as_str() {
                    Some("expired") => self.gap(&kafka, place(&data), range)?,
                    Some("truncated") => self.truncated(&kafka, place(&data), range, event.own_id)?,
                    _ => return Err("no reason for it".to_owned()),
                }
            }
            "caught-up" | "heartbeat" => {}
            "checkpoint" => {
                let is_quiet = self.wants.filter().is_some() || kafka.setup.is_fixed;
                ensure(event.own_id && (is_quiet || has_table), "nothing to say")?;
            }
            "conflated" => {
                ensure(kafka.setup.lag == Lag::Latest, "not what was asked for")?;
                ensure(number(&data["skipped"]) > 0, "nothing is skipped")?;
                // Rows without ids follow, and no event that ends them.
                (self.is_whole, self.is_partial) = (false, true);
                let connection = self.connection.as_mut().ok_or("not connected")?;
                connection.is_live = false;
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
        if let Some(connection) = &mut self.connection {
            connection.has_heard = true;
        }
        self.ends_with_id = event.own_id;
        if event.own_id {
            self.id.clone_from(&event.id);
            self.before_gaps.clear();
            self.reach(&kafka, has_table)?;
        }
        if event.name == "caught-up" {
            ensure(event.own_id, "no id")?;
            self.caught_up(&kafka, data["reason"].as_str().unwrap_or_default())?;
            self.note_at_head();
        }
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
                // A replica that does not get as far as the id cannot say what is hidden or lost.
                let is_lost = is_lost || connection.at + LOADING_PATIENCE <= clock::now();
                let knows_hidden_since = replica.knows_hidden_since;
                let is_hidden = kafka.setup.is_fixed && as_of.is_none_or(|as_of| as_of < knows_hidden_since);
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
                // A replica that read a hidden record before an older one of another partition does not know who holds
                // that.
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
                drop(replica);
                let connection = self.connection.as_mut().ok_or("not connected")?;
                connection.is_live = false;
                (self.is_new, self.is_whole, self.may_keep_lost) = (true, false, false);
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
            (Some(reason @ ("truncated" | "ahead-of-topic")), Some(_)) => {
                let topic = topic(data);
                let replica = connection.replica.borrow();
                let gone_back = replica.truncations[topic] - connection.truncations[topic];
                let is_truncated = |place: Place| {
                    let next = brought.and_then(|(next, _)| next[topic].get(place.partition));
                    let from = kafka.divergence(place, 0, kafka.version(place));
                    place.topic == topic && next.is_some_and(|next| *next != NOT_BEGUN && *next > from)
                };
                let is_of_id = !connection.has_heard || connection.truncated[topic] == 0;
                let by_id = usize::from(is_of_id && kafka.places().any(is_truncated));
                let is_right = match reason {
                    // One that is half-way through the table or the log may be told again where it goes on.
                    "truncated" => connection.truncated[topic] < 2 * gone_back + by_id,
                    _ => by_id > 0,
                };
                ensure(is_right, "no log was truncated that concerns it")?;
                ensure(kafka.setup.has_table() || by_id > 0, "a reset instead of a gap")?;
                drop(replica);
                let is_live = self.begins(kafka) == Start::Live && !kafka.setup.has_table();
                let connection = self.connection.as_mut().ok_or("not connected")?;
                connection.truncated[topic] += 1;
                self.table.retain(|key, _| key.0 != topic);
                self.reached.retain(|place, _| place.topic != topic);
                self.owed.retain(|place| place.topic != topic);
                self.is_whole = false;
                if is_live {
                    self.fresh.insert(topic);
                }
            }
            _ => return Err("no reason for it".to_owned()),
        }
        Ok(())
    }

    /// Whether it has had everything, once all was read.
    pub fn check(&mut self) -> Result<(), String> {
        ensure(self.is_caught_up(), "it has not caught up")?;
        let shared = self.kafka.clone();
        let kafka = shared.lock();
        if !kafka.setup.has_table() {
            ensure(
                self.owed.is_empty(),
                format!("it was not sent the gap of {:?}", self.owed),
            )?;
            return kafka.places().try_for_each(|place| {
                let present = self.view(&kafka, place).present();
                self.pass(&kafka, place, kafka.high(place), present)
            });
        }
        if self.begins(&kafka) == Start::Live {
            return Ok(());
        }
        // It may also lack rows whose older records count again.
        let is_truncated = |topic| {
            let mut places = kafka.places().filter(|place| place.topic == topic);
            places.any(|place| kafka.version(place) > 0)
        };
        let may_keep = |key: &Key| self.may_keep_lost && is_truncated(key.0);
        let mut keys = self.table.keys();
        if let Some(key) = keys.find(|key| !kafka.latest.contains_key(key) && !may_keep(key)) {
            return Err(format!("key {key:?} is shown, of which Kafka has no record"));
        }
        for (key, row) in &kafka.latest {
            let shown = self.table.get(key);
            let latest = kafka.value(self.wants, *key, row);
            // Records without a row are not shown to later clients. Nobody is left with an older
            // record, unless the table has forgotten in which partition a key had its latest.
            let has_forgotten =
                || kafka.setup.is_spread && (kafka.has_forgotten || kafka.may_forget_hidden());
            if kafka.setup.bounds.is_some() && (shown.is_none() || has_forgotten()) {
                continue;
            }
            let is_unknown = kafka.is_unknown(*key, row) && (kafka.setup.is_spread || shown.is_none());
            let is_left = latest.is_none() && kafka.may_be_left(self.wants, *key, row);
            ensure(
                shown == latest.as_ref() || is_unknown || is_left || may_keep(key),
                format!("key {key:?} is shown as {shown:?}, not {latest:?}"),
            )?;
        }
        Ok(())
    }
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number")).unwrap()
}

/// The leader epoch of a record.
fn epoch(data: &Value) -> u32 {
    let header = || data["headers"]["epoch"].as_str()?.parse().ok();
    let value = data["epoch"].as_u64().map(|epoch| u32::try_from(epoch).unwrap());
    value.or_else(header).expect("a leader epoch")
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
