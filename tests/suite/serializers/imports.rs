//! Schemas that refer to others. Confluent's serializers register no reference for Google's common types and Confluent's
//! own; the schemas are usable as they are registered.

use super::{descriptors, invalid, produce, shown};
use crate::common::{config, named};
use crate::decoding::{framed, schema, settings, value_of};
use crate::harness::apicurio::Apicurio;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, promise};
use kafka_sse_bridge::config::DataFormat;
use kafka_sse_bridge::decode::{Reference, SchemaKind, SchemaText};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        promise(types_and_options_of_no_reference_are_known),
        promise(a_registered_file_is_used_instead_of_a_bundled_one),
        on_broker(Version::V4_4, a_value_with_a_type_of_googles_needs_no_reference),
        on_broker(Version::V4_4, values_whose_schemas_have_references_are_shown),
    ]
}

const MONEY: &str = "google/type/money.proto";

fn types_and_options_of_no_reference_are_known() {
    // As Java's serializer registers the text.
    let text = r#"
        syntax = "proto3";
        import "confluent/meta.proto";
        import "confluent/type/decimal.proto";
        import "google/type/money.proto";
        message Order {
            option (confluent.message_meta) = { doc: "an order", tags: ["PII"], params: { key: "a" value: "b" } };
            google.type.Money total = 1 [(confluent.field_meta).doc = "with tax"];
            confluent.type.Decimal rate = 2;
        }
    "#;
    let supplied = schema(SchemaKind::Protobuf, text, Vec::new());
    let payload = [
        0, 0x0a, 7, 0x0a, 3, b'E', b'U', b'R', 0x10, 5, 0x12, 5, 0x0a, 1, 7, 0x18, 2,
    ];
    let shown = value_of(
        &settings(DataFormat::Text, DataFormat::Protobuf),
        &supplied,
        &framed(&payload),
    );
    assert_eq!(
        shown.as_deref(),
        Ok(r#"{"total":{"currencyCode":"EUR","units":5},"rate":{"value":"Bw==","scale":2}}"#)
    );
}

fn a_registered_file_is_used_instead_of_a_bundled_one() {
    let text = "syntax = \"proto3\"; import \"google/type/money.proto\"; message Order { google.type.Money total = 1; }";
    let newer = SchemaText {
        kind: SchemaKind::Protobuf,
        text: "syntax = \"proto3\"; package google.type; message Money { string code = 1; }".to_owned(),
        references: Vec::new(),
    };
    let newer = Reference {
        name: MONEY.to_owned(),
        schema: newer,
    };
    let supplied = schema(SchemaKind::Protobuf, text, vec![newer]);
    let payload = framed(&[0, 0x0a, 5, 0x0a, 3, b'E', b'U', b'R']);
    let shown = value_of(
        &settings(DataFormat::Text, DataFormat::Protobuf),
        &supplied,
        &payload,
    );
    assert_eq!(shown.as_deref(), Ok(r#"{"total":{"code":"EUR"}}"#));
}

fn a_value_with_a_type_of_googles_needs_no_reference(broker: &Broker) {
    let topic = topic_name("imports");
    broker.create_topic(&topic, 1, &[]);
    let money = "syntax = \"proto3\"; package google.type; \
                 message Money { string currency_code = 1; int64 units = 2; int32 nanos = 3; }";
    let text = "syntax = \"proto3\"; package shop; import \"google/type/money.proto\"; \
                message Order { int32 id = 1; google.type.Money total = 2; }";
    let files = descriptors(text, &[(MONEY.to_owned(), money.to_owned())]);
    let value = json!({ "id": 1, "total": { "currencyCode": "EUR", "units": "12", "nanos": 500_000_000 } });
    let schema = json!({ "files": files, "message": "shop.Order" });
    let part = json!({ "kind": "PROTOBUF", "schema": schema, "value": value });
    let registry = Apicurio::shared();
    produce(
        broker,
        &[registry.url()],
        &[json!({ "topic": topic, "key": null, "value": part })],
    );
    let stream = format!(
        "start = \"earliest\"\nvalue_format = \"registry\"\nint64 = \"string\"\n[kafka.schema_registry]\nurls = [\"{}\"]",
        registry.url()
    );
    let daemon = Daemon::start(&config(broker, &[&topic], &stream));
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        let shown: Vec<Value> = shown(&events).into_iter().map(|(_, value)| value).collect();
        assert_eq!(shown, [value]);
        assert_eq!(invalid(&daemon.get("/streams").await.json()), 0);
    });
}

fn values_whose_schemas_have_references_are_shown(broker: &Broker) {
    let topics = ["customers", "orders"].map(topic_name);
    for topic in &topics {
        broker.create_topic(topic, 1, &[]);
    }
    let address = json!({ "type": "record", "name": "Address", "namespace": "shop",
                          "fields": [{ "name": "city", "type": "string" }] });
    let customer = json!({ "type": "record", "name": "Customer", "namespace": "shop", "fields": [
        { "name": "id", "type": "long" },
        { "name": "home", "type": "shop.Address" },
        { "name": "work", "type": ["null", "shop.Address"] },
    ] });
    let anne = json!({ "id": 1, "home": { "city": "Zürich" }, "work": { "city": "Bern" } });
    let avro = json!({ "kind": "AVRO", "schema": customer, "value": anne,
                       "references": [{ "name": "shop.Address", "schema": address }] });
    let item = "syntax = \"proto3\"; package stock; message Item { string sku = 1; int32 count = 2; }";
    let text = "syntax = \"proto3\"; package shop; import \"stock-item.proto\"; \
                message Order { int32 id = 1; repeated stock.Item items = 2; }";
    let files = descriptors(text, &[("stock-item.proto".to_owned(), item.to_owned())]);
    let order = json!({ "id": 2, "items": [{ "sku": "a", "count": 3 }, { "sku": "b", "count": 4 }] });
    let protobuf = json!({ "kind": "PROTOBUF", "schema": { "files": files, "message": "shop.Order" },
                           "value": order });
    let registry = Apicurio::shared();
    let records = [(&topics[0], avro), (&topics[1], protobuf)]
        .map(|(topic, value)| json!({ "topic": topic, "key": null, "value": value }));
    produce(broker, &[registry.url()], &records);
    let stream = format!(
        "start = \"earliest\"\nvalue_format = \"registry\"\n[kafka.schema_registry]\nurls = [\"{}\"]",
        registry.url()
    );
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&config(broker, &names, &stream));
    block_on(async {
        for (topic, name) in topics.iter().zip(["shop.Address", "stock-item.proto"]) {
            let url = format!("{}/subjects/{topic}-value/versions/latest", registry.url());
            let registered = get(&url, &[]).await.json();
            assert_eq!(registered["references"][0]["name"], name, "{registered}");
        }
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(named("caught-up"), secs(60)).await;
        let mut shown: Vec<Value> = shown(&events).into_iter().map(|(_, value)| value).collect();
        shown.sort_by_key(|value| value["id"].as_u64());
        assert_eq!(shown, [anne, order]);
        assert_eq!(invalid(&daemon.get("/streams").await.json()), 0);
    });
}
