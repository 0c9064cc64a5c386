//! What a stream shows of its values: rows of change events, and no member that is hidden.

use crate::common::{config, json as data, named};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::http::get;
use crate::harness::produce::Message;
use crate::harness::scratch;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{on_broker, promise};
use kafka_sse_bridge::config::StreamSettings;
use kafka_sse_bridge::config::Unwrap;
use kafka_sse_bridge::kafka::record::{Effect, Guarantee};
use kafka_sse_bridge::reshape::Reshaper;
use libtest_mimic::Trial;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;

pub fn trials() -> Vec<Trial> {
    let mut trials = crate::connectors::trials();
    trials.extend([
        promise(metadata_replaces_a_column_of_its_name_and_hides_what_the_row_hides),
        promise(the_sql_of_a_change_is_not_shown_where_columns_are_hidden),
        promise(no_bytes_make_the_reshaper_show_what_is_hidden),
        promise(a_large_value_leaves_no_memory_behind),
        promise(combinations_that_make_no_sense_are_refused_with_a_remedy),
        on_broker(Version::V4_4, change_events_are_shown_as_rows_and_deletes),
        on_broker(
            Version::V4_4,
            a_tombstone_whose_delete_was_compacted_away_removes_its_row,
        ),
        on_broker(Version::V4_4, hidden_members_never_leave_the_process),
    ]);
    trials
}

fn reshaper(change: impl FnOnce(&mut StreamSettings)) -> Reshaper {
    let mut settings = StreamSettings::default();
    change(&mut settings);
    Reshaper::new(&settings).expect("it reshapes")
}

fn metadata_replaces_a_column_of_its_name_and_hides_what_the_row_hides() {
    let mut reshaper = reshaper(|settings| {
        settings.unwrap = Some(Unwrap::Debezium);
        settings.metadata_field = Some("a.b".to_owned());
        settings.hide = vec!["ssn".to_owned()];
    });
    for (before, after, shown) in [
        (
            "null",
            r#"{"a.b":1,"id":2,"ssn":3}"#,
            r#"{"id":2,"a.b":{"op":"u","ts_ms":5,"source":null,"before":null}}"#,
        ),
        (
            r#"{"id":1,"ssn":3}"#,
            "{ }",
            r#"{"a.b":{"op":"u","ts_ms":5,"source":null,"before":{"id":1}}}"#,
        ),
        (
            "null",
            r#"{"a":{"b":4}}"#,
            r#"{"a.b":{"op":"u","ts_ms":5,"source":null,"before":null}}"#,
        ),
        // MongoDB's documents are strings.
        (
            r#""{\"id\": 1,\"ssn\": 3}""#,
            r#""{\"id\": 2,\"ssn\": 4}""#,
            r#"{"id":2,"a.b":{"op":"u","ts_ms":5,"source":null,"before":{"id":1}}}"#,
        ),
    ] {
        let event = format!("{{\"before\":{before},\"after\":{after},\"op\":\"u\",\"ts_ms\":5}}");
        let row = reshaper
            .value(Some(event.as_bytes()), Guarantee::Nothing)
            .expect("a row");
        assert_eq!(row.effect, Effect::Shown);
        let value: Value = serde_json::from_slice(row.value.expect("a value")).expect("JSON");
        let mut expected: Value = serde_json::from_str(shown).expect("JSON");
        if after.contains("\"a\":") {
            // Another member, whose path the name only resembles.
            expected["a"] = json!({ "b": 4 });
        }
        assert_eq!(value, expected, "{after}");
    }
    let mut refused = |event: &str| {
        let refused = reshaper.value(Some(event.as_bytes()), Guarantee::Nothing);
        refused.expect_err(event).cause.as_str()
    };
    assert_eq!(refused(r#"{"after":[1],"op":"u"}"#), "value-not-a-json-object");
    // Nothing could be left out of a string.
    for event in [
        r#"{"before":"ssn 1","after":{},"op":"u"}"#,
        r#"{"before":"\"{\\\"ssn\\\":1}\"","after":{},"op":"u"}"#,
        r#"{"after":"\"{\\\"ssn\\\":1}\"","op":"u"}"#,
    ] {
        assert_eq!(refused(event), "value-not-a-change-event", "{event}");
    }
}

/// Connectors put the statement of a change, which names the values of all columns, into its source on request.
fn the_sql_of_a_change_is_not_shown_where_columns_are_hidden() {
    let event = br#"{"after":{"id":1,"ssn":2},"source":{"db":"d","query":"set ssn = 2","redo_sql":"ssn","redoSql":"ssn"},"op":"u"}"#;
    for (hide, source) in [
        (&["ssn"][..], json!({ "db": "d" })),
        (
            &[],
            json!({ "db": "d", "query": "set ssn = 2", "redo_sql": "ssn", "redoSql": "ssn" }),
        ),
    ] {
        let mut reshaper = reshaper(|settings| {
            settings.unwrap = Some(Unwrap::Debezium);
            settings.metadata_field = Some("change".to_owned());
            settings.hide = hide.iter().map(|path| (*path).to_owned()).collect();
        });
        let row = reshaper.value(Some(event), Guarantee::Nothing).expect("a row");
        let value: Value = serde_json::from_slice(row.value.expect("a value")).expect("JSON");
        assert_eq!(value["change"]["source"], source);
    }
}

/// Whether an object, or every one in an array, lacks the hidden member.
fn is_clean(value: &Value) -> bool {
    match value {
        Value::Object(members) => !members.contains_key("ssn"),
        Value::Array(elements) => elements.iter().all(is_clean),
        _ => true,
    }
}

fn no_bytes_make_the_reshaper_show_what_is_hidden() {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"ssn\"",
        "\"s\\u0073n\"",
        "\"op\":\"u\"",
        "\"after\":",
        "\"before\":",
        "\"payload\":",
        "\"schema\":{}",
        "\"hush\"",
        "\"a\":1",
        " ",
        "\\",
        "\"",
        "\u{feff}",
        "null",
    ]);
    let noise = prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat());
    let row = prop::sample::select(vec![
        "null",
        r#"{"ssn":1,"a":2}"#,
        r#"[{"ssn":1}]"#,
        r#""{\"ssn\": 1}""#,
        r#""[{\"ssn\": 1}]""#,
        r#""\"{\\\"ssn\\\": 1}\"""#,
        r#""ssn""#,
    ]);
    let event = (row.clone(), row, noise.clone()).prop_map(|(before, after, noise)| {
        let source = serde_json::to_string(&noise).expect("JSON");
        format!("{{\"before\":{before},\"after\":{after},\"source\":{{\"query\":{source}}},\"op\":\"u\"}}")
    });
    let text = prop_oneof![noise, event];
    proptest!(|(text in text, unwraps in any::<bool>(), with_metadata in any::<bool>())| {
        let mut reshaper = reshaper(|settings| {
            settings.unwrap = unwraps.then_some(Unwrap::Debezium);
            settings.metadata_field = (unwraps && with_metadata).then(|| "change".to_owned());
            settings.hide = vec!["ssn".to_owned()];
        });
        if let Ok(made) = reshaper.value(Some(text.as_bytes()), Guarantee::Nothing)
                && let Some(value) = made.value {
            let value: Value = serde_json::from_slice(value).expect("JSON");
            prop_assert!(is_clean(&value), "{}", value);
            if let Some(change) = value.get("change").filter(|_| unwraps && with_metadata) {
                prop_assert!(is_clean(&change["before"]) && !change["before"].is_string(), "{}", value);
                prop_assert_eq!(change["source"].get("query"), None);
            }
        }
    });
}

fn a_large_value_leaves_no_memory_behind() {
    let mut reshaper = reshaper(|settings| settings.hide = vec!["ssn".to_owned()]);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(32 << 20));
    let allocated = allocation_counter::measure(|| {
        for value in [large.as_bytes(), b"{}"] {
            let shown = reshaper.value(Some(value), Guarantee::Nothing).expect("a value");
            assert_eq!(shown.value, Some(value));
        }
    });
    assert!(allocated.bytes_max > 32 << 20, "{allocated:?}");
    assert!(allocated.bytes_current < 4 << 20, "{allocated:?}");
}

fn combinations_that_make_no_sense_are_refused_with_a_remedy() {
    let directory = scratch::directory("reshaping");
    let file = directory.path().join("config.toml");
    for (lines, key, remedy) in [
        ("hide = ['a']\nfields = ['b']", "hide", "keep one of them"),
        ("hide = ['a..b']", "hide", "address.city"),
        ("hide = ['a\\x']", "hide", "backslash"),
        ("hide = ['a']\nvalue_format = 'int32'", "hide", "remove it"),
        (
            "hide = ['address.city']\nvalue_format = 'avro'\navro_json = 'tagged'",
            "hide",
            "remove avro_json",
        ),
        (
            "fields = ['a']\nvalue_format = 'registry'\navro_json = 'tagged'",
            "fields",
            "remove avro_json",
        ),
        (
            "unwrap = 'debezium'\nvalue_format = 'text'",
            "unwrap",
            "remove it",
        ),
        ("metadata_field = 'change'", "metadata_field", "set unwrap"),
        (
            "unwrap = 'debezium'\nmetadata_field = 'k'\nkey_field = 'k'",
            "key_field",
            "another name",
        ),
        (
            "hide = ['tenant']\nfilter = { 'value.tenant' = ['a'] }",
            "filter",
            "filter by the key",
        ),
    ] {
        fs::write(
            &file,
            format!("[kafka.schema_registry]\nurls = ['http://r']\n[[stream]]\npath = '/a'\ntopics = ['t']\n{lines}\n"),
        )
        .expect("a file");
        let output = run_to_end(&["check", "--config", &file.to_string_lossy()], &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{lines}");
        assert!(said.contains(key) && said.contains(remedy), "{lines}: {said}");
    }
}

/// A change event, as Connect's JSON converter writes it with schemas.
fn change(op: &str, before: &Value, after: &Value) -> String {
    let source =
        json!({ "connector": "postgresql", "db": "inventory", "table": "customers", "lsn": 24_023_128 });
    json!({
        "schema": { "type": "struct", "name": "dbserver1.inventory.customers.Envelope" },
        "payload": { "before": before, "after": after, "source": source, "op": op, "ts_ms": 1_764_410_000_000_u64 },
    })
    .to_string()
}

fn key(id: u32) -> String {
    json!({ "schema": { "type": "struct" }, "payload": { "id": id } }).to_string()
}

fn change_events_are_shown_as_rows_and_deletes(broker: &Broker) {
    let topic = topic_name("customers");
    broker.create_topic(&topic, 1, &[]);
    let anne = json!({ "id": 1004, "email": "anne@example.org" });
    let mongo = r#"{"after":"{\"_id\": {\"$oid\": \"1\"}}","op":"c","source":{},"ts_ms":1}"#;
    broker.produce(
        &topic,
        &[
            // In front: the log names the first of those that cannot be shown.
            Message::value(b"\0\0\0\0\x07Avro".as_slice()),
            Message::new(key(1004), change("c", &Value::Null, &anne)),
            Message::new(key(1005), change("r", &Value::Null, &json!({ "id": 1005 }))),
            Message::value(r#"{"ts_ms":1764410000000}"#),
            Message::value(r#"{"status":"BEGIN","id":"571:53195829","event_count":null}"#),
            Message::new(key(1005), change("d", &json!({ "id": 1005 }), &Value::Null)),
            Message::tombstone(key(1005)),
            Message::new("\"m\"", mongo),
            Message::new(key(7), r#"{"id":7}"#),
        ],
    );
    let formats = "unwrap = \"debezium\"\nmetadata_field = \"change\"\nkey_format = \"json\"\nstart = ";
    for start in ["earliest", "snapshot"] {
        let others = [("/plain", ""), ("/hides", "hide = [\"ssn\"]")].map(|(path, more)| {
            format!("[[stream]]\npath = {path:?}\ntopics = [{topic:?}]\nstart = \"earliest\"\n{more}\n")
        });
        let lines = format!("{formats}{start:?}\n{}", others.concat());
        let daemon = Daemon::start(&config(broker, &[&topic], &lines));
        block_on(async {
            let mut stream = Stream::open(daemon.url("/events")).await;
            let events = stream.collect_until(named("caught-up"), secs(60)).await;
            let shown: Vec<(String, Value)> = events
                .iter()
                .filter(|event| matches!(event.name.as_str(), "message" | "delete"))
                .map(|event| (event.name.clone(), data(event)))
                .collect();
            let row = |value: &Value, op: &str, source: Value, ts: u64| {
                let mut row = value.clone();
                row["change"] = json!({ "op": op, "ts_ms": ts, "source": source, "before": null });
                ("message".to_owned(), row)
            };
            let source = json!({ "connector": "postgresql", "db": "inventory", "table": "customers", "lsn": 24_023_128 });
            let mut expected = vec![row(&anne, "c", source.clone(), 1_764_410_000_000)];
            if start == "earliest" {
                expected.push(row(&json!({ "id": 1005 }), "r", source, 1_764_410_000_000));
                expected.push(("delete".to_owned(), json!({ "key": { "id": 1005 } })));
            }
            expected.push(row(&json!({ "_id": { "$oid": "1" } }), "c", json!({}), 1));
            assert_eq!(shown, expected, "{start}");
            let figures = daemon.get("/streams").await.json();
            assert_eq!(
                figures["streams"][0]["invalid_records"]["value-not-a-change-event"],
                json!(1)
            );
            // The heartbeat, and the beginning of a transaction.
            assert_eq!(figures["streams"][0]["ignored_records"], 2, "{figures}");
            for path in ["/events", "/plain", "/hides"] {
                let line = format!(
                    "stream {path}: passed over topic {topic:?} partition 0 offset 0: value-has-schema-id"
                );
                eventually_async(secs(60), "the remedy is in the log", async || {
                    let log = daemon.log();
                    let said = log.lines().find(|said| said.contains(&line));
                    ensure(
                        said.is_some_and(|said| said.contains("set value_format = \"registry\"")),
                        log,
                    )
                })
                .await;
            }
        });
    }
}

fn a_tombstone_whose_delete_was_compacted_away_removes_its_row(broker: &Broker) {
    let topic = topic_name("compacted");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(
        &topic,
        &[Message::new(
            key(1),
            change("c", &Value::Null, &json!({ "id": 1 })),
        )],
    );
    let formats = "unwrap = \"debezium\"\nkey_format = \"json\"\nstart = \"snapshot\"";
    let daemon = Daemon::start(&config(broker, &[&topic], formats));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(60)).await;
        broker.produce(
            &topic,
            &[
                Message::tombstone(key(1)),
                Message::tombstone(key(1)),
                Message::new(key(2), change("c", &Value::Null, &json!({ "id": 2 }))),
            ],
        );
        let events = stream
            .collect_until(|event| event.data == r#"{"id":2}"#, secs(60))
            .await;
        let shown: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(shown, ["delete", "message"]);
    });
}

fn hidden_members_never_leave_the_process(broker: &Broker) {
    let topic = topic_name("people");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(
        &topic,
        &[
            Message::new(
                "1",
                r#"{"name":"Anne","ssn":"hush-1","card":{"number":"hush-2","type":"visa"}}"#,
            ),
            Message::new("2", "hush-3 is no JSON"),
            Message::new(
                "3",
                r#"{"s\u0073n":"hush-4","cards":[{"number":"shown"}],"card":[{"number":"hush-5"}]}"#,
            ),
        ],
    );
    let stream = |path: &str, more: &str| {
        format!(
            "[[stream]]\npath = \"{path}\"\ntopics = [\"{topic}\"]\nhide = [\"ssn\", \"card.number\"]\n{more}\n"
        )
    };
    let streams = [
        stream("/log", "start = \"earliest\""),
        stream("/envelope", "start = \"earliest\"\nformat = \"envelope\""),
        stream("/table", "start = \"snapshot\"\nkey_field = \"id\""),
    ]
    .concat();
    let head = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n[log]\nlevel = \"trace\"\n",
        broker.bootstrap()
    );
    let daemon = Daemon::start(&format!("{head}{streams}"));
    block_on(async {
        daemon.wait_ready(secs(60)).await;
        let mut seen = String::new();
        for path in ["/log", "/envelope", "/table"] {
            for query in [
                "?format=ndjson&follow=false",
                "?format=ndjson&follow=false&start=earliest",
            ] {
                let answer = get(&daemon.url(&format!("{path}{query}")), &[]).await;
                assert_eq!(answer.status, 200);
                assert!(answer.text().contains("visa"), "{}", answer.text());
                seen.push_str(&answer.text());
            }
            for query in ["value.ssn=hush-1", "value.card.number=hush-2"] {
                let answer = get(&daemon.url(&format!("{path}?{query}")), &[]).await;
                assert_eq!(
                    (answer.status, answer.json()["error"]["code"].clone()),
                    (403, json!("hidden_value"))
                );
            }
        }
        seen.push_str(&get(&daemon.url("/table?format=json"), &[]).await.text());
        for path in ["/streams", "/metrics", "/health/ready"] {
            seen.push_str(&daemon.get(path).await.text());
        }
        assert!(
            seen.contains("value-not-json") && seen.contains("shown"),
            "{seen}"
        );
        assert!(!seen.contains("hush"), "{seen}");
    });
    assert!(!daemon.log().contains("hush"), "{}", daemon.log());
}
