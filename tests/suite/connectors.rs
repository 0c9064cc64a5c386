//! Change events of Debezium's four main connectors, with every field that its documentation lists for them
//! (tests/debezium): snapshot, create, update, delete, and their key, as Connect's JSON converter writes them with and
//! without schemas.

use crate::trials;
use kafka_sse_bridge::config::{StreamSettings, Unwrap};
use kafka_sse_bridge::kafka::record::{Effect, Guarantee};
use kafka_sse_bridge::reshape::Reshaper;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    trials![
        events_of_the_four_main_connectors_are_shown_as_rows,
        a_hidden_column_is_nowhere_in_an_event_of_the_four_main_connectors,
    ]
}

const CONNECTORS: [&str; 4] = ["mysql", "postgresql", "sqlserver", "mongodb"];

/// What both addresses in the examples contain.
const ADDRESSES: [&str; 2] = ["noanswer.org", "example.org"];

/// An event as it is written, and what is shown of it: `row` and `before`, or null for a delete.
struct Event {
    name: String,
    written: [String; 2],
    payload: Value,
    shown: Value,
}

fn read(connector: &str) -> (Value, Vec<Event>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/debezium/{connector}.json"));
    let text = fs::read_to_string(file).expect("a file");
    let mut example: Value = serde_json::from_str(&text).expect("JSON");
    let schema = example["schema"].take();
    let events = example["events"].as_array().expect("events").iter();
    let events = events.map(|event| {
        let payload = event["payload"].clone();
        Event {
            name: format!("{connector}, {}", payload["op"]),
            written: [
                payload.to_string(),
                json!({ "schema": schema, "payload": payload }).to_string(),
            ],
            payload,
            shown: event["shown"].clone(),
        }
    });
    let events: Vec<Event> = events.collect();
    let ops: Vec<&str> = events
        .iter()
        .filter_map(|event| event.payload["op"].as_str())
        .collect();
    assert_eq!(ops, ["r", "c", "u", "d"], "{connector}");
    (example["key"].take(), events)
}

fn reshaper(hide: &[&str]) -> Reshaper {
    Reshaper::new(&StreamSettings {
        unwrap: Some(Unwrap::Debezium),
        metadata_field: Some("change".to_owned()),
        hide: hide.iter().map(|path| (*path).to_owned()).collect(),
        ..StreamSettings::default()
    })
    .expect("it reshapes")
}

/// The shown value, `None` for a delete.
fn shown(reshaper: &mut Reshaper, event: &Event, text: &str) -> Option<Value> {
    let shown = reshaper.value(Some(text.as_bytes()), Guarantee::Nothing);
    let shown = shown.unwrap_or_else(|error| panic!("{}: {error}", event.name));
    assert_eq!(shown.effect, Effect::Shown, "{}", event.name);
    let value = shown.value?;
    Some(serde_json::from_slice(value).expect("JSON"))
}

fn events_of_the_four_main_connectors_are_shown_as_rows() {
    for connector in CONNECTORS {
        let (key, events) = read(connector);
        let mut reshaper = reshaper(&[]);
        let payload = key["payload"].to_string();
        for text in [&payload, &key.to_string()] {
            assert_eq!(reshaper.key(text.as_bytes()), payload.as_bytes(), "{connector}");
        }
        for event in &events {
            let expected = event.shown["row"].as_object().map(|row| {
                let mut row = row.clone();
                let change = json!({
                    "op": event.payload["op"],
                    "ts_ms": event.payload["ts_ms"],
                    "source": event.payload["source"],
                    "before": event.shown["before"],
                });
                row.insert("change".to_owned(), change);
                Value::Object(row)
            });
            for text in &event.written {
                assert_eq!(shown(&mut reshaper, event, text), expected, "{}", event.name);
            }
        }
        let tombstone = reshaper.value(None, Guarantee::Nothing).expect("a delete");
        assert_eq!(tombstone.effect, Effect::RepeatedDelete);
    }
}

fn a_hidden_column_is_nowhere_in_an_event_of_the_four_main_connectors() {
    for connector in CONNECTORS {
        let (_, events) = read(connector);
        let mut reshaper = reshaper(&["email"]);
        for event in &events {
            for text in &event.written {
                let Some(value) = shown(&mut reshaper, event, text) else {
                    continue;
                };
                assert!(
                    ADDRESSES.iter().any(|address| text.contains(address)),
                    "{}",
                    event.name
                );
                assert_eq!(value["last_name"], "Kretchmar", "{}", event.name);
                assert!(value["change"]["source"].get("db").is_some(), "{}", event.name);
                let said = value.to_string();
                assert!(
                    !said.contains("email") && !ADDRESSES.iter().any(|address| said.contains(address)),
                    "{}: {said}",
                    event.name
                );
            }
        }
    }
}
