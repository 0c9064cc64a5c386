//! Keys that are not text: shown in base64, found by it, and deleted like others.

use crate::common::{config, json, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::harness::{promise, promise_on};
use crate::rig::{Rec, Rig, filter, rec, tombstone};
use kafka_sse_bridge::config::filter::FilterError;
use kafka_sse_bridge::config::{Format, Start};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_filter_finds_a_key_by_text_and_by_base64),
        promise(a_key_filter_that_is_not_base64_is_refused),
        promise(a_fixed_filter_takes_keys_in_base64),
        promise_on(
            Version::V4_4,
            a_tombstone_of_a_binary_key_deletes_its_row_for_every_client,
        ),
    ]
}

/// As 8 bytes, big endian: 17 is UTF-8, 200 is not.
const SEVENTEEN: [u8; 8] = 17_u64.to_be_bytes();
const TWO_HUNDRED: [u8; 8] = 200_u64.to_be_bytes();

fn binary(key: &[u8], value: &str) -> Rec {
    Rec {
        key: Some(key.to_vec()),
        ..rec("", value)
    }
}

/// Of records with all these keys, those that are shown to a client with this filter: live, from memory and
/// from a table, always alike.
fn shown(keys: &[&[u8]], wanted: &[&str]) -> Vec<Value> {
    let terms: Vec<(&str, &str)> = wanted.iter().map(|value| ("key", *value)).collect();
    let records: Vec<Rec> = keys.iter().map(|key| binary(key, "1")).collect();
    let mut answers: Vec<Vec<Value>> = Vec::new();
    for start in [Start::Live, Start::Earliest, Start::Snapshot] {
        let mut rig = Rig::ready(|settings| {
            settings.start = start;
            settings.format = Format::Envelope;
        });
        let mut live = rig.client(&terms);
        live.items();
        rig.records(&records);
        let mut clients = vec![live];
        if start != Start::Live {
            clients.push(rig.client(&terms));
        }
        for mut client in clients {
            let events = client.events();
            let records = events.iter().filter(|event| event.is("message"));
            answers.push(records.map(|event| event.json()["key"].clone()).collect());
        }
    }
    let first = answers[0].clone();
    assert!(
        answers.iter().all(|answer| *answer == first),
        "{wanted:?}: {answers:?}"
    );
    first
}

fn a_filter_finds_a_key_by_text_and_by_base64() {
    let keys: [&[u8]; 6] = [
        b"NL",
        &SEVENTEEN,
        &TWO_HUNDRED,
        b"base64:TkwK",
        b"NL\n",
        b"\xfb\xff\xbf",
    ];
    let base64 = |text: &str| json!({"base64": text});
    for (wanted, found) in [
        (&["NL"][..], vec![json!("NL")]),
        (&["base64:TkwK"], vec![json!("NL\n")]),
        (&["base64:TkwK", "NL"], vec![json!("NL"), json!("NL\n")]),
        (&["base64:AAAAAAAAABE="], vec![base64("AAAAAAAAABE=")]),
        (&["base64:AAAAAAAAABE"], vec![base64("AAAAAAAAABE=")]),
        (&["\0\0\0\0\0\0\0\x11"], vec![base64("AAAAAAAAABE=")]),
        (&["base64:AAAAAAAAAMg="], vec![base64("AAAAAAAAAMg=")]),
        // A key that is such a text itself is asked for by its own bytes.
        (&["base64:YmFzZTY0OlRrd0s="], vec![json!("base64:TkwK")]),
        // As shown, as a query has it where the plus was not escaped, and in the alphabet for URLs.
        (&["base64:+/+/"], vec![base64("+/+/")]),
        (&["base64: / /"], vec![base64("+/+/")]),
        (&["base64:-_-_"], vec![base64("+/+/")]),
        (&["base64:"], vec![]),
        (&["base64:AAAA"], vec![]),
    ] {
        assert_eq!(shown(&keys, wanted), found, "{wanted:?}");
    }
    assert_eq!(shown(&[b"", b"x"], &["base64:"]), [json!("")]);
}

fn a_key_filter_that_is_not_base64_is_refused() {
    let topics = ["t".to_owned()];
    for value in ["base64:A", "base64:!!!!", "base64:AAA=A", "base64:é"] {
        let asked = filter(&[("key", value)], &topics);
        assert_eq!(asked, Err(FilterError::Key(value.to_owned())));
    }
    assert!(filter(&[("header.type", "base64:A")], &topics).is_ok());
}

fn a_fixed_filter_takes_keys_in_base64() {
    let mut rig = Rig::ready(|settings| {
        settings.start = Start::Snapshot;
        settings
            .filter
            .insert("key".to_owned(), vec!["base64:AAAAAAAAABE=".to_owned()]);
    });
    let mut live = rig.client(&[]);
    live.items();
    rig.records(&[binary(&SEVENTEEN, "1"), binary(&TWO_HUNDRED, "2"), rec("NL", "3")]);
    assert_eq!(live.shown(), ["message 1"]);
    assert_eq!(rig.client(&[]).shown(), ["message 1"]);
    rig.records(&[
        Rec {
            key: Some(SEVENTEEN.to_vec()),
            ..tombstone("")
        },
        Rec {
            key: Some(TWO_HUNDRED.to_vec()),
            ..tombstone("")
        },
    ]);
    assert_eq!(live.shown(), [r#"delete {"key":{"base64":"AAAAAAAAABE="}}"#]);
}

/// The state of a browser after these events, by key.
fn apply(table: &mut BTreeMap<String, String>, events: &[Event]) {
    for event in events {
        match event.name.as_str() {
            "message" => drop(table.insert(json(event)["id"].to_string(), event.data.clone())),
            "delete" => drop(table.remove(&json(event)["id"].to_string())),
            _ => {}
        }
    }
}

async fn snapshot(url: &str) -> (BTreeMap<String, String>, Stream) {
    let mut stream = Stream::open(url).await;
    let mut table = BTreeMap::new();
    apply(
        &mut table,
        &stream.collect_until(named("caught-up"), secs(20)).await,
    );
    (table, stream)
}

fn a_tombstone_of_a_binary_key_deletes_its_row_for_every_client() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("binary-keys");
    broker.create_topic(&topic, 1, &[("cleanup.policy", "compact")]);
    broker.produce(
        &topic,
        &[
            Message::new(SEVENTEEN, r#"{"n":17}"#),
            Message::new(TWO_HUNDRED, r#"{"n":200}"#),
            Message::new("NL", r#"{"n":1}"#),
        ],
    );
    let text = config(
        &broker,
        &[&topic],
        "start = \"snapshot\"\nformat = \"value\"\nkey_field = \"id\"",
    );
    // Without a field for it, the key is shown in deletes only.
    let plain = format!("[[stream]]\npath = \"/plain\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\n");
    let daemon = Daemon::start(&format!("{text}{plain}"));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut plain = Stream::open(daemon.url("/plain")).await;
        plain.collect_until(named("caught-up"), secs(20)).await;
        let url = daemon.url("/events");
        let (mut held, mut connected) = snapshot(&url).await;
        let rows = [
            r#"{"n":17,"id":{"base64":"AAAAAAAAABE="}}"#,
            r#"{"n":200,"id":{"base64":"AAAAAAAAAMg="}}"#,
            r#"{"n":1,"id":"NL"}"#,
        ];
        let mut wanted: Vec<&str> = rows.to_vec();
        wanted.sort_unstable();
        let values = |table: &BTreeMap<String, String>| {
            let mut values: Vec<String> = table.values().cloned().collect();
            values.sort_unstable();
            values
        };
        assert_eq!(values(&held), wanted);
        let (mut away, gone) = snapshot(&url).await;
        let id = gone.last_event_id().to_owned();
        drop(gone);
        let (one, _) = snapshot(&format!("{url}?key=base64:AAAAAAAAAMg%3D")).await;
        assert_eq!(values(&one), [rows[1]]);

        broker.produce(
            &topic,
            &[Message::tombstone(SEVENTEEN), Message::tombstone(TWO_HUNDRED)],
        );
        let two_deletes = || {
            let mut deletes = 0;
            move |event: &Event| {
                deletes += usize::from(event.is("delete"));
                deletes == 2
            }
        };
        let deletes = plain.collect_until(two_deletes(), secs(20)).await;
        let keys: Vec<&str> = deletes.iter().map(|event| event.data.as_str()).collect();
        assert_eq!(
            keys,
            [
                r#"{"key":{"base64":"AAAAAAAAABE="}}"#,
                r#"{"key":{"base64":"AAAAAAAAAMg="}}"#
            ]
        );
        let mut plain = Stream::open(daemon.url("/plain")).await;
        let new = plain.collect_until(named("caught-up"), secs(20)).await;
        assert_eq!(records(&new), [r#"{"n":1}"#], "a new client without the field");
        apply(&mut held, &connected.collect_until(two_deletes(), secs(20)).await);
        assert_eq!(values(&held), [rows[2]], "a connected client");
        let mut back = Stream::to(&url)
            .last_event_id(&id)
            .send()
            .await
            .expect("an answer");
        apply(&mut away, &back.collect_until(named("caught-up"), secs(20)).await);
        assert_eq!(values(&away), [rows[2]], "a client that resumes");
        let (new, _) = snapshot(&url).await;
        assert_eq!(values(&new), [rows[2]], "a new client");
        let (none, _) = snapshot(&format!("{url}?key=base64:AAAAAAAAAMg%3D")).await;
        assert!(none.is_empty());
    });
}
