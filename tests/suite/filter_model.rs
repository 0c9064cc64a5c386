//! Filters against a naive model of them: random records, random filters, readers that are cut off
//! anywhere. What a filtered client is shown is what an unfiltered one is, less what the model leaves out.

use crate::harness::sse::Event;
use crate::harness::trial;
use crate::harness::wait::ensure;
use crate::rig::{Client, Rec, Rig, run};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Format, Lag, Start, StreamSettings};
use libtest_mimic::Trial;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_filtered_client_gets_exactly_the_matching_records", || {
            simulate(false);
        }),
        trial(
            "a_filtered_client_ends_with_the_matching_rows_of_the_table",
            || {
                simulate(true);
            },
        ),
    ]
}

/// Partitions of the topics `t` and `u`.
const PARTITIONS: [usize; 2] = [2, 1];
const CLIENTS: usize = 3;

/// Names with the values that pass.
type Terms = BTreeMap<String, BTreeSet<String>>;

#[derive(Clone, Debug)]
enum Op {
    /// A batch of one topic.
    Produce(Vec<Rec>),
    /// A client takes at most so many steps, and is then disconnected if the flag is set.
    Take {
        client: usize,
        steps: usize,
        is_cut: bool,
    },
    /// A client connects or resumes.
    Come { client: usize },
}

fn terms(most: usize) -> impl Strategy<Value = Terms> {
    let of = |name: &'static str, values: &'static [&'static str]| {
        (Just(name), prop::sample::select(values))
            .prop_map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let term = prop_oneof![
        of("key", &["k0", "k1", "base64:azE=", "base64:AP8=", "none"]),
        of("topic", &["t", "u"]),
        of("partition", &["0", "1", "7"]),
        of("header.type", &["a", "b", ""]),
        of("header.other", &["a"]),
        of("value.city", &["Paris", "Rome", "\"", "null"]),
        of("value.n.x", &["0", "1", "true"]),
        of("value.tags.1", &["Paris", "0"]),
    ];
    prop::collection::vec(term, 0..=most).prop_map(|terms| {
        let mut by_name = Terms::new();
        for (name, value) in terms {
            by_name.entry(name).or_default().insert(value);
        }
        by_name
    })
}

fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let city = prop::sample::select(
        &[
            "\"Paris\"",
            "\"Rome\"",
            "\"\\u0022\"",
            "null",
            "[]",
            "\"P\\u0061ris\"",
        ][..],
    );
    let x = prop::sample::select(&["0", "1", "true", "{}"][..]);
    let object = (city, x).prop_map(|(city, x)| {
        format!("{{\"city\":\"no\", \"n\":{{\"x\":{x}}},\n\"tags\":[{x},{city},{x}],\"city\":{city}}}")
            .into_bytes()
    });
    let other = prop::sample::select(&["", "text", "{\"city\":\"Paris\"", "[1,2]", "7"][..]);
    prop_oneof![
        6 => object.prop_map(Some),
        1 => other.prop_map(|text| Some(text.as_bytes().to_vec())),
        2 => Just(None),
    ]
}

/// One of the keys is not text.
const BINARY_KEY: &[u8] = b"\0\xff";

/// How a key is shown, and how it is asked for in base64.
fn names(key: &[u8]) -> (Value, String) {
    let base64 = STANDARD.encode(key);
    let shown = match key {
        BINARY_KEY => json!({ "base64": base64 }),
        text => json!(String::from_utf8_lossy(text)),
    };
    (shown, format!("base64:{base64}"))
}

const HEADER_VALUES: [&[u8]; 3] = [b"a", b"b", b"\xff"];

fn records(has_table: bool) -> impl Strategy<Value = Vec<Rec>> {
    let header = (
        prop::sample::select(&["type", "other"][..]),
        prop::option::weighted(0.9, prop::sample::select(&HEADER_VALUES[..])),
    );
    let headers = prop::collection::vec(header, 0..3);
    let key = prop::option::weighted(0.8, 0..5_u8)
        .prop_map(move |key| if has_table { key.or(Some(5)) } else { key });
    let record = (key, any::<prop::sample::Index>(), headers, value());
    let batch = prop::collection::vec(record, 1..15);
    (0..PARTITIONS.len(), batch).prop_map(|(topic, records)| {
        let record = |(key, partition, headers, value): (Option<u8>, prop::sample::Index, Vec<_>, _)| Rec {
            topic,
            // On a table too: a key may move.
            partition: u32::try_from(partition.index(PARTITIONS[topic])).expect("few"),
            key: key.map(|key| match key {
                4 => BINARY_KEY.to_vec(),
                key => format!("k{key}").into_bytes(),
            }),
            value,
            headers: headers
                .into_iter()
                .map(|(name, value): (&str, Option<&[u8]>)| (name.into(), value.map(<[u8]>::to_vec)))
                .collect(),
            timestamp: None,
            epoch: None,
        };
        records.into_iter().map(record).collect()
    })
}

fn ops(has_table: bool) -> impl Strategy<Value = Vec<Op>> {
    let take = (0..CLIENTS, 1..6_usize, any::<bool>()).prop_map(|(client, steps, is_cut)| Op::Take {
        client,
        steps,
        is_cut,
    });
    let come = (0..CLIENTS).prop_map(|client| Op::Come { client });
    let op = prop_oneof![5 => records(has_table).prop_map(Op::Produce), 4 => take, 3 => come];
    prop::collection::vec(op, 5..60)
}

/// The model: whether a record is wanted, by the words of the documentation.
fn wants(terms: &Terms, record: &Rec, has_table: bool) -> bool {
    terms.iter().all(|(name, wanted)| {
        let is_delete = has_table && record.value.is_none();
        match name.split_once('.') {
            None => match name.as_str() {
                "key" => record.key.as_ref().is_some_and(|key| {
                    let (shown, base64) = names(key);
                    wanted.contains(&base64) || shown.as_str().is_some_and(|text| wanted.contains(text))
                }),
                "topic" => wanted.contains(["t", "u"][record.topic]),
                _ => wanted.contains(&record.partition.to_string()),
            },
            Some(("header", name)) => {
                let named = record
                    .headers
                    .iter()
                    .filter(|(other, _)| other == name.as_bytes());
                let texts =
                    named.filter_map(|(_, value)| String::from_utf8(value.clone().unwrap_or_default()).ok());
                is_delete || texts.into_iter().any(|text| wanted.contains(&text))
            }
            Some((_, path)) => {
                let value = record
                    .value
                    .as_deref()
                    .and_then(|value| serde_json::from_slice::<Value>(value).ok());
                let pointer = format!("/{}", path.replace('.', "/"));
                let found = value.as_ref().and_then(|value| value.pointer(&pointer));
                is_delete
                    || found.is_some_and(|found| match found {
                        Value::String(text) => wanted.contains(text),
                        Value::Array(_) | Value::Object(_) => false,
                        other => wanted.contains(&other.to_string()),
                    })
            }
        }
    })
}

/// The content of an event: topic, partition, offset, and whether it is a delete.
type Shown = (String, u64, u64, bool);

fn shown(event: &Event) -> Option<Shown> {
    let is_delete = event.is("delete");
    if !is_delete && !event.is("message") {
        return None;
    }
    let data = event.json();
    let number = |name: &str| data[name].as_u64().expect("a number");
    let topic = data["topic"].as_str().expect("a topic").to_owned();
    Some((topic, number("partition"), number("offset"), is_delete))
}

/// The model's stream: every record with what it is shown as, live, by a filter.
#[derive(Default)]
struct Model {
    has_table: bool,
    fixed: Terms,
    /// All records that some client gets, with their coordinates, in order.
    written: Vec<(Shown, Rec)>,
    /// The latest value by topic and key after the fixed filter.
    rows: BTreeMap<(usize, Vec<u8>), Rec>,
}

impl Model {
    /// The live event of the record for a client with this filter.
    fn take(&mut self, record: &Rec, offset: u64, filter: &Terms) -> Option<Shown> {
        let key = record.key.clone().map(|key| (record.topic, key));
        let before = key
            .as_ref()
            .and_then(|key| self.rows.get(key))
            .filter(|row| row.value.is_some())
            .cloned();
        let mut record = record.clone();
        let passes = wants(&self.fixed, &record, self.has_table);
        if self.has_table && !self.fixed.is_empty() && (!passes || record.value.is_none()) {
            before.as_ref()?;
            record.value = None;
            record.headers.clear();
        } else if !passes {
            return None;
        }
        let place = |is_delete| {
            (
                ["t", "u"][record.topic].to_owned(),
                u64::from(record.partition),
                offset,
                is_delete,
            )
        };
        let own = place(record.value.is_none());
        self.written.push((own.clone(), record.clone()));
        let answer = if wants(filter, &record, self.has_table) {
            Some(own)
        } else if self.has_table && before.is_some_and(|before| wants(filter, &before, true)) {
            Some(place(true))
        } else {
            None
        };
        if let (true, Some(key)) = (self.has_table, key) {
            self.rows.insert(key, record);
        }
        answer
    }

    /// Offsets of each partition that a client with this filter must receive.
    fn log(&self, filter: &Terms) -> BTreeMap<(String, u64), Vec<u64>> {
        let mut log: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for ((topic, partition, offset, _), record) in &self.written {
            if wants(filter, record, false) {
                log.entry((topic.clone(), *partition)).or_default().push(*offset);
            }
        }
        log
    }

    /// The table that such a client must hold in the end.
    fn table(&self, filter: &Terms) -> BTreeMap<(String, String), Value> {
        let held = self
            .rows
            .iter()
            .filter(|(_, row)| row.value.is_some() && wants(filter, row, true));
        held.map(|((topic, key), row)| {
            let key = names(key).0.to_string();
            let value = row.value.as_deref().unwrap();
            let value = serde_json::from_slice(value);
            let text = || Value::String(String::from_utf8(row.value.clone().unwrap()).unwrap());
            (
                (["t", "u"][*topic].to_owned(), key),
                value.unwrap_or_else(|_| text()),
            )
        })
        .collect()
    }
}

#[derive(Default)]
struct Browser {
    filter: Terms,
    connection: Option<Client>,
    id: String,
    log: BTreeMap<(String, u64), Vec<u64>>,
    table: BTreeMap<(String, String), Value>,
    caught_up: usize,
}

impl Browser {
    fn come(&mut self, rig: &Rig) {
        let terms: Vec<(&str, &str)> = listed(&self.filter).collect();
        self.connection = Some(if self.id.is_empty() {
            rig.client(&terms)
        } else {
            rig.resume(&self.id, &terms)
        });
        self.caught_up = 0;
    }

    fn hear(&mut self, event: &Event) -> Result<(), String> {
        if event.own_id {
            self.id.clone_from(&event.id);
        }
        match event.name.as_str() {
            "message" | "delete" => {
                let (topic, partition, offset, is_delete) = shown(event).expect("a record");
                self.log
                    .entry((topic.clone(), partition))
                    .or_default()
                    .push(offset);
                let data = event.json();
                let key = (topic, data["key"].to_string());
                if is_delete {
                    self.table.remove(&key);
                } else {
                    self.table.insert(key, data["value"].clone());
                }
            }
            "caught-up" => {
                self.caught_up += 1;
                ensure(self.caught_up == 1, "caught-up comes once per connection")?;
            }
            "conflated" => ensure(
                event.json()["skipped"].as_u64() > Some(0),
                "conflated skips something",
            )?,
            other => return Err(format!("{other}: {}", event.data)),
        }
        Ok(())
    }

    /// At most so many steps that bring something.
    async fn take(&mut self, steps: usize) -> Result<(), String> {
        let mut idle = 0;
        let mut taken = 0;
        while taken < steps && idle < 50 {
            let Some(client) = &mut self.connection else { break };
            let (items, _) = client.step();
            if items.is_empty() {
                idle += 1;
                tokio::task::yield_now().await;
                continue;
            }
            taken += 1;
            for event in items.into_iter().filter_map(crate::rig::event) {
                self.hear(&event)?;
            }
        }
        Ok(())
    }
}

fn listed(terms: &Terms) -> impl Iterator<Item = (&str, &str)> {
    terms
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_str())))
}

fn settings(settings: &mut StreamSettings, fixed: &Terms, has_table: bool) {
    settings.format = Format::Envelope;
    settings.start = if has_table {
        Start::Snapshot
    } else {
        Start::Earliest
    };
    settings.lag = Some(if has_table { Lag::Latest } else { Lag::Replay });
    // Some thirty records: resuming, conflation and replay happen all the time.
    settings.log_bytes = Size(8 * 1024);
    settings.delete_retention = Span::seconds(1_000_000_000_000);
    for (name, value) in listed(fixed) {
        settings
            .filter
            .entry(name.to_owned())
            .or_default()
            .push(value.to_owned());
    }
}

fn simulate(has_table: bool) {
    let cases = ProptestConfig {
        cases: 300,
        ..ProptestConfig::default()
    };
    let fixed = prop_oneof![2 => Just(Terms::new()), 1 => terms(2)];
    let filters = prop::collection::vec(terms(4), CLIENTS);
    proptest!(cases, |(ops in ops(has_table), fixed in fixed, filters in filters)| {
        run(simulation(&ops, &fixed, filters, has_table)).map_err(TestCaseError::fail)?;
    });
}

async fn simulation(ops: &[Op], fixed: &Terms, filters: Vec<Terms>, has_table: bool) -> Result<(), String> {
    let mut rig = Rig::with(&PARTITIONS, true, |it| settings(it, fixed, has_table));
    let mut model = Model {
        has_table,
        fixed: fixed.clone(),
        ..Model::default()
    };
    // The first filter has a witness that is always there and keeps up.
    let witness = filters[0].clone();
    let mut filtered = rig.client(&listed(&witness).collect::<Vec<_>>());
    filtered.items();
    let browser = |filter| Browser {
        filter,
        ..Browser::default()
    };
    let mut browsers: Vec<Browser> = filters.into_iter().map(browser).collect();
    for op in ops {
        match op {
            Op::Produce(records) => {
                let next = rig.next.clone();
                let mut taken = Vec::new();
                let mut ahead: BTreeMap<(usize, u32), i64> = BTreeMap::new();
                for record in records {
                    let passed = ahead.entry((record.topic, record.partition)).or_default();
                    let offset = next[record.topic][record.partition as usize] + *passed;
                    *passed += 1;
                    taken.extend(model.take(record, offset.unsigned_abs(), &witness));
                }
                rig.records(records);
                let seen: Vec<Shown> = filtered.events().iter().filter_map(shown).collect();
                ensure(seen == taken, format!("live: {seen:?}\nnot {taken:?}"))?;
            }
            Op::Take {
                client,
                steps,
                is_cut,
            } => {
                browsers[*client].take(*steps).await?;
                if *is_cut {
                    browsers[*client].connection = None;
                }
            }
            Op::Come { client } => browsers[*client].come(&rig),
        }
    }
    for (number, browser) in browsers.iter_mut().enumerate() {
        if browser.connection.is_none() {
            browser.come(&rig);
        }
        browser.take(usize::MAX).await?;
        ensure(
            browser.caught_up == 1,
            format!("client {number} has not caught up"),
        )?;
        if has_table {
            let wanted = model.table(&browser.filter);
            ensure(
                browser.table == wanted,
                format!("client {number} holds {:?}\nnot {wanted:?}", browser.table),
            )?;
            continue;
        }
        let wanted = model.log(&browser.filter);
        ensure(
            browser.log == wanted,
            format!("client {number} saw {:?}\nnot {wanted:?}", browser.log),
        )?;
    }
    Ok(())
}
