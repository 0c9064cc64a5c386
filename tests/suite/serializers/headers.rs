//! Ids of schemas in headers, as Confluent's header serializer writes them: GUIDs, which its own registry alone knows. A
//! scripted one stands in for it.

use super::{descriptors, produce};
use crate::common::{config, json as data, named};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::scripted_registry::{Answer, ScriptedRegistry};
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::collections::HashMap;

pub fn trials() -> Vec<Trial> {
    vec![on_broker(
        Version::V4_4,
        schemas_that_headers_name_by_guid_are_found_for_keys_and_values,
    )]
}

fn schemas_that_headers_name_by_guid_are_found_for_keys_and_values(broker: &Broker) {
    let topic = topic_name("headers");
    broker.create_topic(&topic, 1, &[]);
    let avro = json!({ "type": "record", "name": "Order", "fields": [{ "name": "id", "type": "long" }] });
    let proto = "syntax = \"proto3\"; package shop; message Other {} message Outer { message Unused {} \
                 message Order { int32 id = 1; } }";
    let protobuf = json!({ "files": descriptors(proto, &[]), "message": "shop.Outer.Order" });
    let schema = json!({ "title": "Order", "type": "object" });
    let values = [
        json!({ "kind": "AVRO", "schema": avro, "value": { "id": 1 } }),
        json!({ "kind": "PROTOBUF", "schema": protobuf, "value": { "id": 2 } }),
        json!({ "kind": "JSON", "schema": schema, "value": { "id": 3 } }),
    ];
    let key = json!({ "type": "record", "name": "Key", "fields": [{ "name": "user", "type": "string" }] });
    let records: Vec<Value> = values
        .iter()
        .map(|value| {
            let key = json!({ "kind": "AVRO", "schema": key, "value": { "user": "ü" } });
            json!({ "topic": topic, "key": key, "value": value })
        })
        .collect();
    let registered = produce(broker, &["mock://", "headers"], &records);
    assert_eq!(registered.len(), 4, "a key and three values");
    let schemas: HashMap<String, Value> = registered
        .into_iter()
        .map(|schema| {
            (
                format!("/schemas/guids/{}", schema["guid"].as_str().expect("a GUID")),
                schema,
            )
        })
        .collect();
    let registry = ScriptedRegistry::start(move |request| match schemas.get(&request.path) {
        Some(schema) => {
            let answer = json!({ "schema": schema["schema"], "schemaType": schema["schemaType"] });
            Answer::Json(200, answer.to_string())
        }
        None => Answer::unknown_schema(),
    });
    let stream = format!(
        "start = \"earliest\"\nformat = \"envelope\"\nkey_format = \"registry\"\nvalue_format = \"registry\"\n\
         [kafka.schema_registry]\nurls = [\"{}\"]",
        registry.url()
    );
    let daemon = Daemon::start(&config(broker, &[&topic], &stream));
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        let shown: Vec<(Value, Value)> = events
            .iter()
            .filter(|event| event.name == "message")
            .map(data)
            .map(|record| (record["key"].clone(), record["value"].clone()))
            .collect();
        let expected = [1, 2, 3].map(|id| (json!({ "user": "ü" }), json!({ "id": id })));
        assert_eq!(shown, expected);
    });
    assert_eq!(registry.requests().len(), 4, "once each: {:?}", registry.paths());
}
