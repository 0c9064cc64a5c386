//! Each record is shown by the schema that it was written with, however schemas of a topic follow each other.

use super::{descriptors, invalid, produce, shown};
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
        on_broker(
            Version::V4_4,
            records_of_incompatible_schemas_are_shown_each_by_its_own,
        ),
        on_broker(
            Version::V4_4,
            a_topic_may_change_from_one_kind_of_schemas_to_another,
        ),
    ]
}

fn avro(schema: &Value, value: &Value) -> Value {
    json!({ "kind": "AVRO", "schema": schema, "value": value })
}

/// A field changes its type, one is removed, and one without a default is added.
fn versions() -> [Value; 2] {
    let record =
        |fields: Value| json!({ "type": "record", "name": "Order", "namespace": "shop", "fields": fields });
    [
        record(json!([{ "name": "id", "type": "int" }, { "name": "note", "type": ["null", "string"] }])),
        record(json!([{ "name": "total", "type": "double" }, { "name": "id", "type": "string" }])),
    ]
}

/// Opens the stream of these values, and returns what is shown of all records.
fn show(broker: &Broker, topic: &str, stream: &str) -> Vec<Value> {
    let registry = format!("[kafka.schema_registry]\nurls = [{:?}]", Apicurio::shared().url());
    let daemon = Daemon::start(&config(
        broker,
        &[topic],
        &format!("start = \"earliest\"\n{stream}\n{registry}"),
    ));
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        let figures = daemon.get("/streams").await.json();
        assert_eq!(invalid(&figures), 0, "{figures}");
        shown(&events).into_iter().map(|(_, value)| value).collect()
    })
}

fn records_of_incompatible_schemas_are_shown_each_by_its_own(broker: &Broker) {
    let topic = topic_name("evolution");
    broker.create_topic(&topic, 1, &[]);
    let [one, two] = versions();
    let values: Vec<(&Value, Value)> = vec![
        (&one, json!({ "id": 1, "note": "a" })),
        (&one, json!({ "id": 2, "note": null })),
        (&two, json!({ "total": 1.5, "id": "three" })),
        (&one, json!({ "id": 4, "note": "Zürich" })),
        (&two, json!({ "total": -0.25, "id": "" })),
    ];
    let records: Vec<Value> = values
        .iter()
        .map(
            |(schema, value)| json!({ "topic": topic, "key": { "text": "k" }, "value": avro(schema, value) }),
        )
        .collect();
    produce(broker, &[Apicurio::shared().url()], &records);
    let expected: Vec<Value> = values.into_iter().map(|(_, value)| value).collect();
    for format in ["avro", "registry"] {
        assert_eq!(
            show(broker, &topic, &format!("value_format = \"{format}\"")),
            expected,
            "{format}"
        );
    }
}

fn a_topic_may_change_from_one_kind_of_schemas_to_another(broker: &Broker) {
    let topic = topic_name("kinds");
    broker.create_topic(&topic, 1, &[]);
    let proto =
        "syntax = \"proto3\"; package shop; message Order { int32 id = 1; repeated string lines = 2; }";
    let protobuf = json!({ "files": descriptors(proto, &[]), "message": "shop.Order" });
    let schema = json!({ "title": "Order", "type": "object", "properties": { "id": { "type": "integer" } } });
    let parts = [
        avro(&versions()[0], &json!({ "id": 1, "note": "a" })),
        json!({ "kind": "PROTOBUF", "schema": protobuf, "value": { "id": 2, "lines": ["x", ""] } }),
        json!({ "kind": "JSON", "schema": schema, "value": { "id": 3 } }),
        avro(&versions()[1], &json!({ "total": 0.5, "id": "four" })),
        json!({ "kind": "PROTOBUF", "schema": protobuf, "value": { "id": 5 } }),
    ];
    let records: Vec<Value> = parts
        .iter()
        .map(|part| json!({ "topic": topic, "key": null, "value": part }))
        .collect();
    produce(broker, &[Apicurio::shared().url()], &records);
    let expected: Vec<&Value> = parts.iter().map(|part| &part["value"]).collect();
    let shown = show(broker, &topic, "value_format = \"registry\"");
    assert_eq!(shown.iter().collect::<Vec<_>>(), expected);
}
