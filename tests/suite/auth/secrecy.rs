//! A model of clients with claims: whatever happens, nobody learns that keys of others exist.

use super::claims::{by, of, opening};
use crate::harness::sse::Event;
use crate::rig::{Client, Rig, rec, tombstone};
use crate::trials;
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Lag, Start};
use kafka_sse_bridge::stream::start_position::Opening;
use libtest_mimic::Trial;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    trials![
        nobody_learns_that_other_keys_exist,
        a_client_that_falls_behind_learns_of_no_number_of_records,
    ]
}

/// What claims may be compared with: keys alone, or what tells records of a key apart.
const NAMES: [&str; 3] = ["header.tenant", "value.tenant", "key"];

const TENANTS: [&str; 3] = ["a", "b", "c"];
const KEYS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    /// Records in one batch: key, and tenant or a tombstone.
    Produce(Vec<(usize, Option<usize>)>),
    /// More than the log holds, of nobody here.
    Flood,
    /// A client takes at most so many steps, and is then cut off if the flag is set.
    Take(usize, usize, bool),
    /// A client connects, or resumes with its id.
    Come(usize),
    /// Somebody of a tenant opens the stream with the id of another client.
    Steal(usize, usize),
    /// Time passes.
    Wait,
}

fn op() -> impl Strategy<Value = Op> {
    let record = (0..KEYS, prop::option::weighted(0.75, 0..TENANTS.len()));
    prop_oneof![
        4 => prop::collection::vec(record, 1..4).prop_map(Op::Produce),
        1 => Just(Op::Flood),
        4 => (0..TENANTS.len(), 0..6_usize, any::<bool>()).prop_map(|(client, steps, cut)| Op::Take(client, steps, cut)),
        4 => (0..TENANTS.len()).prop_map(Op::Come),
        2 => (0..TENANTS.len(), 0..TENANTS.len()).prop_map(|(tenant, victim)| Op::Steal(tenant, victim)),
        1 => Just(Op::Wait),
    ]
}

/// A browser of one tenant: what it shows, and the id that it would resume with.
#[derive(Default)]
struct Browser {
    client: Option<Client>,
    rows: BTreeMap<String, i64>,
    id: String,
}

/// What the topic has had: the latest record of each key, and the keys that each tenant ever had a record of.
#[derive(Default)]
struct Model {
    latest: BTreeMap<String, (String, i64)>,
    owned: BTreeMap<String, BTreeSet<String>>,
}

/// Checks that an event is for a tenant.
fn check(event: &Event, tenant: &str, model: &Model) -> Result<(), TestCaseError> {
    let data = event.json();
    match event.name.as_str() {
        "message" => prop_assert_eq!(&data["tenant"], tenant),
        "delete" => {
            let key = data["id"].as_str().expect("a key");
            let owned = model.owned.get(tenant).is_some_and(|keys| keys.contains(key));
            prop_assert!(owned, "{} is told of key {}", tenant, key);
        }
        "conflated" => prop_assert!(false, "{} is told how many records there were", tenant),
        _ => {}
    }
    Ok(())
}

fn follow(
    browser: &mut Browser,
    tenant: &str,
    events: Vec<Event>,
    model: &Model,
) -> Result<(), TestCaseError> {
    let is_over = events.iter().any(|event| event.is("goodbye"));
    for event in events {
        check(&event, tenant, model)?;
        let data = event.json();
        match event.name.as_str() {
            "message" => {
                let key = data["key"].as_str().expect("a key").to_owned();
                browser.rows.insert(key, data["n"].as_i64().expect("n"));
            }
            "delete" => {
                browser.rows.remove(data["id"].as_str().expect("a key"));
            }
            "reset" => browser.rows.clear(),
            _ => {}
        }
    }
    if let Some(client) = &browser.client {
        // One that has received nothing keeps the id that it came with.
        if !client.last_event_id().is_empty() {
            client.last_event_id().clone_into(&mut browser.id);
        }
    }
    if is_over {
        browser.client = None;
    }
    Ok(())
}

/// A stream, its records, and a browser of each tenant.
struct World {
    rig: Rig,
    /// Each tenant has keys of its own, by which alone its claims select.
    is_by_key: bool,
    model: Model,
    browsers: [Browser; TENANTS.len()],
    /// The last record's number.
    number: i64,
}

impl World {
    fn new(name: &str, lag: Option<Lag>, is_throttled: bool) -> World {
        let is_by_key = name == "key";
        let rig = Rig::ready(|settings| {
            settings.start = Start::Snapshot;
            settings.log_bytes = Size(512 * 1024);
            settings.key_field = Some("id".to_owned());
            settings.lag = lag;
            if is_throttled {
                settings.throttle = Span::seconds(1);
            }
            let claim = if is_by_key { "keys" } else { "tenant" };
            by(settings, &[(name, &format!("${{claims.{claim}}}"))]);
        });
        World {
            rig,
            is_by_key,
            model: Model::default(),
            browsers: Default::default(),
            number: 0,
        }
    }

    fn produce(&mut self, records: Vec<(usize, Option<usize>)>) {
        let mut batch = Vec::new();
        for (place, tenant) in records {
            let whose = TENANTS[tenant.unwrap_or(place % TENANTS.len())];
            let key = self.key(whose, place);
            self.number += 1;
            if tenant.is_some() || self.is_by_key {
                let owned = self.model.owned.entry(whose.to_owned()).or_default();
                owned.insert(key.clone());
            }
            if tenant.is_some() {
                batch.push(of(whose, &key, self.number));
                self.model.latest.insert(key, (whose.to_owned(), self.number));
            } else {
                batch.push(tombstone(&key));
                self.model.latest.remove(&key);
            }
        }
        self.rig.records(&batch);
    }

    fn flood(&mut self) {
        for number in 0..8 {
            let value = json!({ "tenant": "nobody", "pad": "x".repeat(100_000), "n": number });
            let flood = rec("flood", value.to_string()).header("tenant", "nobody");
            self.rig.records(&[flood]);
        }
    }

    fn key(&self, tenant: &str, place: usize) -> String {
        let owner = if self.is_by_key { tenant } else { "" };
        format!("{owner}k{place}")
    }

    /// Opens the stream for a tenant, with this id if it is not empty.
    fn open(&self, tenant: usize, id: &str) -> Client {
        let tenant = TENANTS[tenant];
        let keys: Vec<String> = (0..KEYS).map(|place| self.key(tenant, place)).collect();
        self.rig.open(Opening {
            last_event_id: Some(id.to_owned()).filter(|id| !id.is_empty()),
            ..opening(json!({ "tenant": tenant, "keys": keys }))
        })
    }

    fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Produce(records) => self.produce(records),
            Op::Flood => self.flood(),
            Op::Take(index, steps, is_cut) => {
                let browser = &mut self.browsers[index];
                let Some(client) = &mut browser.client else {
                    return Ok(());
                };
                let mut events = Vec::new();
                for _ in 0..steps {
                    events.extend(client.step().0.into_iter().filter_map(crate::rig::event));
                }
                follow(browser, TENANTS[index], events, &self.model)?;
                if is_cut {
                    browser.client = None;
                }
            }
            Op::Come(index) => {
                if self.browsers[index].client.is_none() {
                    let client = self.open(index, &self.browsers[index].id);
                    self.browsers[index].client = Some(client);
                }
            }
            Op::Steal(index, victim) => {
                let mut thief = self.open(index, &self.browsers[victim].id);
                for event in thief.events() {
                    check(&event, TENANTS[index], &self.model)?;
                }
            }
            Op::Wait => {
                let clients = self.browsers.iter_mut();
                for client in clients.filter_map(|browser| browser.client.as_mut()) {
                    client.advance(Duration::from_secs(2));
                }
            }
        }
        Ok(())
    }

    /// Lets every browser catch up; each must show its tenant's rows then.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for (index, tenant) in TENANTS.into_iter().enumerate() {
            // A client that was too slow comes back, as EventSource does.
            for _ in 0..3 {
                let before = self.browsers[index].client.take();
                let mut client = before.unwrap_or_else(|| self.open(index, &self.browsers[index].id));
                let mut events = client.events();
                // What a throttle holds back.
                client.advance(Duration::from_secs(5));
                events.extend(client.events());
                let browser = &mut self.browsers[index];
                browser.client = Some(client);
                follow(browser, tenant, events, &self.model)?;
                if browser.client.is_some() {
                    break;
                }
            }
            let latest = self.model.latest.iter();
            let own = latest.filter(|(_, (owner, _))| owner == tenant);
            let expected: BTreeMap<String, i64> =
                own.map(|(key, (_, number))| (key.clone(), *number)).collect();
            prop_assert_eq!(&self.browsers[index].rows, &expected, "{}", tenant);
        }
        Ok(())
    }
}

fn nobody_learns_that_other_keys_exist() {
    let mut runner = TestRunner::new(Config {
        cases: 192,
        failure_persistence: None,
        ..Config::default()
    });
    let lag = prop::sample::select(vec![None, Some(Lag::Replay), Some(Lag::Disconnect)]);
    let name = prop::sample::select(NAMES.to_vec());
    let cases = (name, lag, any::<bool>(), prop::collection::vec(op(), 1..40));
    let outcome = runner.run(&cases, |(name, lag, is_throttled, ops)| {
        let mut world = World::new(name, lag, is_throttled);
        for op in ops {
            world.apply(op)?;
        }
        world.settle()
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// `conflated` would say how many there were, of all clients.
fn a_client_that_falls_behind_learns_of_no_number_of_records() {
    for name in NAMES {
        let mut world = World::new(name, None, false);
        let mut client = world.open(0, "");
        client.events();
        world.produce(vec![(0, Some(0)), (1, Some(1))]);
        world.flood();
        let events = client.events();
        let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["reset", "message"], "{name}");
        assert_eq!(events[0].json()["reason"], "too-old", "{name}");
        assert_eq!(world.rig.stream.counters().conflated.get(), 1, "{name}");
    }
}
