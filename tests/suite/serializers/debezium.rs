//! Debezium's change events in Avro, as Confluent's converter registers and writes them: an envelope, keys that are
//! records, heartbeats and transactions. The schemas follow the field lists of Debezium's documentation.

use super::{invalid, produce, shown};
use crate::common::{config, named};
use crate::harness::apicurio::Apicurio;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(Version::V4_4, change_events_in_avro_are_shown_as_rows_and_deletes),
        on_broker(
            Version::V4_4,
            a_table_of_change_events_in_avro_has_the_rows_that_are_left,
        ),
    ]
}

/// A type with one of Connect's names.
fn connect(kind: &str, name: &str) -> Value {
    json!({ "type": kind, "connect.version": 1, "connect.name": name })
}

fn optional(kind: &Value) -> Value {
    json!(["null", kind])
}

fn field(name: &str, kind: &Value) -> Value {
    match kind {
        Value::Array(branches) if branches[0] == "null" => {
            json!({ "name": name, "type": kind, "default": null })
        }
        _ => json!({ "name": name, "type": kind }),
    }
}

fn key_schema() -> Value {
    json!({
        "type": "record", "name": "Key", "namespace": "dbserver1.inventory.customers",
        "fields": [field("id", &json!("int"))],
        "connect.name": "dbserver1.inventory.customers.Key",
    })
}

fn envelope_schema() -> Value {
    let decimal = json!({
        "type": "bytes", "scale": 2, "precision": 10, "connect.version": 1,
        "connect.parameters": { "scale": "2", "connect.decimal.precision": "10" },
        "connect.name": "org.apache.kafka.connect.data.Decimal", "logicalType": "decimal",
    });
    let row = json!({
        "type": "record", "name": "Value",
        "fields": [
            field("id", &json!("int")),
            field("email", &json!("string")),
            field("balance", &optional(&decimal)),
            field("born", &optional(&connect("int", "io.debezium.time.Date"))),
            field("seen", &connect("long", "io.debezium.time.MicroTimestamp")),
            field("token", &optional(&connect("string", "io.debezium.data.Uuid"))),
            field("photo", &optional(&json!("bytes"))),
        ],
        "connect.name": "dbserver1.inventory.customers.Value",
    });
    let snapshot = json!([
        { "type": "string", "connect.version": 1, "connect.parameters": { "allowed": "true,first,last,false" },
          "connect.default": "false", "connect.name": "io.debezium.data.Enum" },
        "null",
    ]);
    let source = json!({
        "type": "record", "name": "Source", "namespace": "io.debezium.connector.postgresql",
        "fields": [
            field("connector", &json!("string")),
            field("name", &json!("string")),
            field("ts_ms", &json!("long")),
            { "name": "snapshot", "type": snapshot, "default": "false" },
            field("db", &json!("string")),
            field("table", &json!("string")),
            field("lsn", &optional(&json!("long"))),
        ],
        "connect.name": "io.debezium.connector.postgresql.Source",
    });
    let block = json!({
        "type": "record", "name": "block", "namespace": "event",
        "fields": [
            field("id", &json!("string")),
            field("total_order", &json!("long")),
            field("data_collection_order", &json!("long")),
        ],
        "connect.version": 1, "connect.name": "event.block",
    });
    json!({
        "type": "record", "name": "Envelope", "namespace": "dbserver1.inventory.customers",
        "fields": [
            field("before", &optional(&row)),
            field("after", &optional(&json!("Value"))),
            field("source", &source),
            field("transaction", &optional(&block)),
            field("op", &json!("string")),
            field("ts_ms", &optional(&json!("long"))),
            field("ts_us", &optional(&json!("long"))),
        ],
        "connect.version": 2, "connect.name": "dbserver1.inventory.customers.Envelope",
    })
}

fn avro(schema: &Value, value: &Value) -> Value {
    json!({ "kind": "AVRO", "schema": schema, "value": value })
}

const NOW: u64 = 1_764_410_000_000;

fn source() -> Value {
    json!({ "connector": "postgresql", "name": "dbserver1", "ts_ms": NOW, "snapshot": "false", "db": "inventory",
            "table": "customers", "lsn": 24_023_128 })
}

/// A row as it is written, and as it is shown.
fn row(id: u32, email: &str) -> (Value, Value) {
    let same = json!({ "id": id, "email": email, "born": 4_521, "seen": 1_764_410_000_000_001_u64,
                       "token": "0f8fad5b-d9cb-469f-a165-70867728950e" });
    let (mut written, mut shown) = (same.clone(), same);
    written["balance"] = json!({ "$decimal": "-12.50" });
    shown["balance"] = json!("-12.50");
    written["photo"] = json!({ "$bytes": "AQI=" });
    shown["photo"] = json!("AQI=");
    (written, shown)
}

fn change(topic: &str, id: u32, op: &str, before: &Value, after: &Value) -> Value {
    let transaction = json!({ "id": "571:53195829", "total_order": 1, "data_collection_order": 1 });
    let event = json!({ "before": before, "after": after, "source": source(), "transaction": transaction, "op": op,
                        "ts_ms": NOW, "ts_us": NOW * 1000 });
    json!({ "topic": topic, "key": avro(&key_schema(), &json!({ "id": id })), "value": avro(&envelope_schema(), &event) })
}

fn tombstone(topic: &str, id: u32) -> Value {
    json!({ "topic": topic, "key": avro(&key_schema(), &json!({ "id": id })), "value": null })
}

fn heartbeat(topic: &str) -> Value {
    let key = json!({ "type": "record", "name": "ServerNameKey", "namespace": "io.debezium.connector.common",
                      "fields": [field("serverName", &json!("string"))] });
    let value = json!({ "type": "record", "name": "Heartbeat", "namespace": "io.debezium.connector.common",
                        "fields": [field("ts_ms", &json!("long"))] });
    json!({ "topic": topic, "key": avro(&key, &json!({ "serverName": "dbserver1" })),
            "value": avro(&value, &json!({ "ts_ms": NOW })) })
}

fn transaction(topic: &str, status: &str, count: &Value) -> Value {
    let common = "io.debezium.connector.common";
    let key = json!({ "type": "record", "name": "TransactionMetadataKey", "namespace": common,
                      "fields": [field("id", &json!("string"))] });
    let collection = json!({ "type": "record", "name": "Collection", "namespace": "event",
        "fields": [field("data_collection", &json!("string")), field("event_count", &json!("long"))] });
    let value = json!({ "type": "record", "name": "TransactionMetadataValue", "namespace": common, "fields": [
        field("status", &json!("string")),
        field("id", &json!("string")),
        field("event_count", &optional(&json!("long"))),
        field("data_collections", &optional(&json!({ "type": "array", "items": collection }))),
        field("ts_ms", &json!("long")),
    ] });
    let collections = count
        .as_u64()
        .map(|count| json!([{ "data_collection": "inventory.customers", "event_count": count }]));
    json!({
        "topic": topic,
        "key": avro(&key, &json!({ "id": "571:53195829" })),
        "value": avro(&value, &json!({ "status": status, "id": "571:53195829", "event_count": count,
                                       "data_collections": collections, "ts_ms": NOW })),
    })
}

/// Topics of a connector: of a table, of heartbeats and of transactions.
fn topics(broker: &Broker) -> [String; 3] {
    let topics = ["customers", "heartbeat", "transaction"].map(topic_name);
    for topic in &topics {
        broker.create_topic(topic, 1, &[]);
    }
    topics
}

/// Creates Anne and Bob, changes Anne, and deletes Bob.
fn events([customers, heartbeats, transactions]: &[String; 3]) -> Vec<Value> {
    let (anne, bob) = (row(1004, "anne@example.org").0, row(1005, "bob@example.org").0);
    let changed = row(1004, "annek@noanswer.org").0;
    vec![
        heartbeat(heartbeats),
        transaction(transactions, "BEGIN", &Value::Null),
        change(customers, 1004, "r", &Value::Null, &anne),
        change(customers, 1005, "c", &Value::Null, &bob),
        change(customers, 1004, "u", &anne, &changed),
        change(customers, 1005, "d", &bob, &Value::Null),
        tombstone(customers, 1005),
        transaction(transactions, "END", &json!(4)),
        heartbeat(heartbeats),
    ]
}

fn stream(broker: &Broker, topics: &[String; 3], more: &str) -> String {
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let formats = "value_format = \"avro\"\nkey_format = \"avro\"\nunwrap = \"debezium\"";
    let registry = format!("[kafka.schema_registry]\nurls = [{:?}]", Apicurio::shared().url());
    config(broker, &topics, &format!("{formats}\n{more}\n{registry}"))
}

fn change_events_in_avro_are_shown_as_rows_and_deletes(broker: &Broker) {
    let topics = topics(broker);
    let registry = Apicurio::shared();
    produce(broker, &[registry.url()], &events(&topics));
    let (anne, bob) = (row(1004, "anne@example.org").1, row(1005, "bob@example.org").1);
    let changed = row(1004, "annek@noanswer.org").1;
    let with = |row: &Value, op: &str, before: &Value| {
        let mut row = row.clone();
        row["change"] = json!({ "op": op, "ts_ms": NOW, "source": source(), "before": before });
        ("message".to_owned(), row)
    };
    let expected = [
        with(&anne, "r", &Value::Null),
        with(&bob, "c", &Value::Null),
        with(&changed, "u", &anne),
        (
            "delete".to_owned(),
            json!({ "topic": topics[0], "key": { "id": 1005 } }),
        ),
    ];
    let daemon = Daemon::start(&stream(
        broker,
        &topics,
        "start = \"earliest\"\nmetadata_field = \"change\"",
    ));
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        assert_eq!(shown(&events), expected);
        let figures = daemon.get("/streams").await.json();
        assert_eq!(invalid(&figures), 0, "{figures}");
    });
}

fn a_table_of_change_events_in_avro_has_the_rows_that_are_left(broker: &Broker) {
    let topics = topics(broker);
    let registry = Apicurio::shared();
    produce(broker, &[registry.url()], &events(&topics));
    let changed = row(1004, "annek@noanswer.org");
    let daemon = Daemon::start(&stream(broker, &topics, "start = \"snapshot\""));
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        assert_eq!(shown(&events), [("message".to_owned(), changed.1.clone())]);
        let document = daemon.get("/events?format=json").await.json();
        assert_eq!(document["rows"].as_array().map(Vec::len), Some(1), "{document}");
        // The key is filtered by its JSON.
        let mut filtered = Stream::open(daemon.url("/events?key=%7B%22id%22%3A1004%7D")).await;
        let events = filtered.collect_until(named("caught-up"), secs(60)).await;
        assert_eq!(shown(&events).len(), 1);
        let live = [
            change(&topics[0], 1004, "d", &changed.0, &Value::Null),
            tombstone(&topics[0], 1004),
            change(&topics[0], 1006, "c", &Value::Null, &row(1006, "c@example.org").0),
        ];
        produce(broker, &[registry.url()], &live);
        let events = client
            .collect_until(|event| event.data.contains("1006"), secs(60))
            .await;
        let expected = [
            (
                "delete".to_owned(),
                json!({ "topic": topics[0], "key": { "id": 1004 } }),
            ),
            ("message".to_owned(), row(1006, "c@example.org").1),
        ];
        assert_eq!(shown(&events), expected);
    });
}
