//! Keys and values in formats other than text: what a stream shows of them. `decoders` compares it with the reference
//! libraries.

use crate::common::{named, records};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::on_each_broker;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::trials;
use kafka_sse_bridge::config::{AvroJson, DataFormat, Int64, StreamSettings, Timestamps};
use kafka_sse_bridge::decode::{
    Decoder, Reference, Schema, SchemaId, SchemaKind, SchemaText, Step, Supplied,
};
use kafka_sse_bridge::kafka::invalid::Invalid;
use kafka_sse_bridge::kafka::record::{Batch, Stamp};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        numbers_and_uuids_are_shown_as_json,
        a_number_of_the_wrong_length_is_malformed,
        a_json_key_has_one_text,
        keys_of_registered_schemas_are_shown_as_json,
        avro_values_are_shown_as_documented,
        avro_types_of_references_are_found,
        protobuf_text_with_imports_is_shown_as_documented,
        a_message_is_found_by_its_indexes,
        schemas_are_named_in_headers_too,
    ];
    trials.extend(crate::missing_schemas::trials());
    trials.extend(on_each_broker(number_keys_are_shown_filtered_and_deleted));
    trials
}

pub fn settings(key_format: DataFormat, value_format: DataFormat) -> StreamSettings {
    StreamSettings {
        key_format,
        value_format,
        ..StreamSettings::default()
    }
}

pub fn schema(kind: SchemaKind, text: &str, references: Vec<Reference>) -> Supplied {
    let text = SchemaText {
        kind,
        text: text.to_owned(),
        references,
    };
    Supplied::Schema(Arc::new(
        Schema::compile(&text).unwrap_or_else(|error| panic!("{error}: {text:?}")),
    ))
}

pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Key, value and headers.
pub type Parts<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, &'a [Header<'a>]);

pub fn batch(records: &[Parts<'_>]) -> Arc<Batch> {
    let mut batch = Batch::new("t".into());
    for (offset, (key, value, headers)) in (0..).zip(records) {
        let stamp = Stamp {
            partition: 0,
            offset,
            timestamp: Some(1),
        };
        batch.push(stamp, *key, *value, headers.iter().copied());
    }
    Arc::new(batch)
}

/// Decodes a batch to its end. `supply` is asked for every schema.
pub fn decode_all(
    decoder: &mut Decoder,
    batch: &Arc<Batch>,
    mut supply: impl FnMut(SchemaId) -> Supplied,
) -> Vec<Arc<Batch>> {
    let mut parts = Vec::new();
    loop {
        match decoder.decode(batch, || {}) {
            Step::Done(part) => {
                parts.push(part);
                return parts;
            }
            Step::Part(part) => parts.push(part),
            Step::Need(ids) => decoder.supply(ids[0], supply(ids[0])),
        }
    }
}

/// The decoded value, or the cause.
pub fn value_of(settings: &StreamSettings, supplied: &Supplied, value: &[u8]) -> Result<String, Invalid> {
    let parts = decode_all(
        &mut Decoder::new(settings),
        &batch(&[(None, Some(value), &[])]),
        |_| supplied.clone(),
    );
    let record = parts[0].iter().next().expect("a record");
    match record.undecodable {
        Some(error) => Err(error.cause),
        None => Ok(String::from_utf8(record.value.expect("a value").to_vec()).expect("UTF-8")),
    }
}

fn key_of(format: DataFormat, key: &[u8]) -> Result<String, Invalid> {
    let parts = decode_all(
        &mut Decoder::new(&settings(format, DataFormat::Json)),
        &batch(&[(Some(key), Some(b"{}"), &[])]),
        |_| Supplied::Unknown,
    );
    let record = parts[0].iter().next().expect("a record");
    match record.undecodable {
        Some(error) => Err(error.cause),
        None => Ok(String::from_utf8(record.key.expect("a key").to_vec()).expect("UTF-8")),
    }
}

pub fn framed(payload: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 7], payload].concat()
}

fn numbers_and_uuids_are_shown_as_json() {
    let shown = |format, bytes: &[u8]| {
        value_of(&settings(DataFormat::Text, format), &Supplied::Unknown, bytes).expect("decoded")
    };
    assert_eq!(shown(DataFormat::Int16, &(-2_i16).to_be_bytes()), "-2");
    assert_eq!(shown(DataFormat::Int32, &200_i32.to_be_bytes()), "200");
    assert_eq!(
        shown(DataFormat::Int64, &i64::MIN.to_be_bytes()),
        "-9223372036854775808"
    );
    assert_eq!(shown(DataFormat::Float, &0.1_f32.to_be_bytes()), "0.1");
    assert_eq!(shown(DataFormat::Double, &(-1.5_f64).to_be_bytes()), "-1.5");
    assert_eq!(
        shown(DataFormat::Double, &f64::NEG_INFINITY.to_be_bytes()),
        "\"-Infinity\""
    );
    assert_eq!(shown(DataFormat::Float, &f32::NAN.to_be_bytes()), "\"NaN\"");
    let uuid = "0f8fad5b-d9cb-469f-a165-70867728950e";
    assert_eq!(
        shown(DataFormat::Uuid, uuid.to_uppercase().as_bytes()),
        format!("\"{uuid}\"")
    );
    let bytes = [
        0x0f, 0x8f, 0xad, 0x5b, 0xd9, 0xcb, 0x46, 0x9f, 0xa1, 0x65, 0x70, 0x86, 0x77, 0x28, 0x95, 0x0e,
    ];
    assert_eq!(shown(DataFormat::Uuid, &bytes), format!("\"{uuid}\""));
    assert_eq!(key_of(DataFormat::Uuid, &bytes).as_deref(), Ok(uuid));
    for (format, bytes, shown) in [
        (DataFormat::Int16, &(-2_i16).to_be_bytes()[..], "-2"),
        (DataFormat::Int32, &200_i32.to_be_bytes(), "200"),
        (DataFormat::Int64, &17_i64.to_be_bytes(), "17"),
        (DataFormat::Float, &0.1_f32.to_be_bytes(), "0.1"),
        (DataFormat::Double, &(-1.5_f64).to_be_bytes(), "-1.5"),
        (DataFormat::Double, &f64::NAN.to_be_bytes(), "\"NaN\""),
    ] {
        assert_eq!(key_of(format, bytes).as_deref(), Ok(shown), "{format}");
    }
    let quoted = StreamSettings {
        int64: Int64::String,
        ..settings(DataFormat::Text, DataFormat::Int64)
    };
    assert_eq!(
        value_of(&quoted, &Supplied::Unknown, &17_i64.to_be_bytes()).as_deref(),
        Ok("\"17\"")
    );
}

fn a_number_of_the_wrong_length_is_malformed() {
    for (format, right) in [
        (DataFormat::Int16, 2),
        (DataFormat::Int32, 4),
        (DataFormat::Int64, 8),
        (DataFormat::Float, 4),
        (DataFormat::Double, 8),
        (DataFormat::Uuid, 16),
    ] {
        for length in (0..40).filter(|length| *length != right) {
            let bytes = vec![1; length];
            let value = value_of(&settings(DataFormat::Text, format), &Supplied::Unknown, &bytes);
            assert_eq!(value, Err(Invalid::ValueMalformed), "{format} of {length} bytes");
            assert_eq!(key_of(format, &bytes), Err(Invalid::KeyMalformed));
        }
    }
}

fn a_json_key_has_one_text() {
    let key = |text: &str| key_of(DataFormat::Json, text.as_bytes());
    assert_eq!(key(" \"\\u00e9\" ").as_deref(), Ok("\"é\""));
    assert_eq!(key("{\"id\": 1}\n").as_deref(), Ok("{\"id\": 1}"));
    assert_eq!(key("200").as_deref(), Ok("200"));
    assert_eq!(key("key"), Err(Invalid::KeyMalformed));
}

fn keys_of_registered_schemas_are_shown_as_json() {
    let key_of = |format, supplied: &Supplied, key: &[u8]| {
        let parts = decode_all(
            &mut Decoder::new(&settings(format, DataFormat::Json)),
            &batch(&[(Some(key), Some(b"{}"), &[])]),
            |_| supplied.clone(),
        );
        let record = parts[0].iter().next().expect("a record");
        assert_eq!(record.undecodable, None, "{format}");
        String::from_utf8(record.key.expect("a key").to_vec()).expect("UTF-8")
    };
    let avro = schema(SchemaKind::Avro, "\"long\"", Vec::new());
    let message = "syntax = \"proto3\"; message Key { int32 order_id = 1; }";
    let protobuf = schema(SchemaKind::Protobuf, message, Vec::new());
    let json = schema(SchemaKind::Json, r#"{"type":"object"}"#, Vec::new());
    // A Protobuf payload begins with the index of its message.
    let (number, order) = (framed(&[34]), framed(&[0, 8, 17]));
    let object = framed(br#"{"id": 17}"#);
    for (format, supplied, key, shown) in [
        (DataFormat::Avro, &avro, &number, "17"),
        (DataFormat::Protobuf, &protobuf, &order, r#"{"orderId":17}"#),
        (DataFormat::JsonSchema, &json, &object, r#"{"id": 17}"#),
        (DataFormat::Registry, &avro, &number, "17"),
        (DataFormat::Registry, &protobuf, &order, r#"{"orderId":17}"#),
        (DataFormat::Registry, &json, &object, r#"{"id": 17}"#),
    ] {
        assert_eq!(key_of(format, supplied, key), shown, "{format}");
    }
}

fn avro_values_are_shown_as_documented() {
    let text = r#"{"type":"record","name":"R","namespace":"n","fields":[
        {"name":"id","type":"long"},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-nanos"}},
        {"name":"note","type":["null","string"]},
        {"name":"took","type":{"type":"fixed","name":"D","size":12,"logicalType":"duration"}}
    ]}"#;
    let avro = schema(SchemaKind::Avro, text, Vec::new());
    let value = framed(&[
        0x02, // 1
        0x80, 0x80, 0x94, 0xb5, 0xdb, 0xe4, 0x8b, 0x80, 0x2e, // 1656000000 s
        0x02, 0x04, b'h', b'i', // branch 1
        1, 0, 0, 0, 2, 0, 0, 0, 0xdc, 5, 0, 0,
    ]);
    let shown = |settings: &StreamSettings| value_of(settings, &avro, &value);
    let plain = settings(DataFormat::Text, DataFormat::Avro);
    let text = shown(&plain).expect("decoded");
    let read: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&read["id"], &read["note"]), (&json!(1), &json!("hi")));
    assert_eq!(read["took"], "P1M2DT1.500S");
    assert!(read["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{text}");
    let other = StreamSettings {
        avro_json: AvroJson::Tagged,
        int64: Int64::String,
        timestamps: Timestamps::Number,
        ..plain
    };
    let read: Value = serde_json::from_str(&shown(&other).expect("decoded")).expect("JSON");
    assert_eq!(
        (&read["id"], &read["note"]),
        (&json!("1"), &json!({"string": "hi"}))
    );
    assert!(read["at"].as_str().is_some_and(|at| at.parse::<i64>().is_ok()));
}

fn avro_types_of_references_are_found() {
    let named = |name: &str, text: &str, references| Reference {
        name: name.to_owned(),
        schema: SchemaText {
            kind: SchemaKind::Avro,
            text: text.to_owned(),
            references,
        },
    };
    let city = || {
        named(
            "a.City",
            r#"{"type":"record","name":"City","namespace":"a","fields":[{"name":"name","type":"string"}]}"#,
            Vec::new(),
        )
    };
    let address = named(
        "a.Address",
        r#"{"type":"record","name":"Address","namespace":"a","fields":[{"name":"city","type":"City"}]}"#,
        vec![city()],
    );
    let user = r#"{"type":"record","name":"User","fields":[
        {"name":"home","type":"a.Address"},{"name":"born","type":"a.City"}]}"#;
    let supplied = schema(SchemaKind::Avro, user, vec![address, city()]);
    let shown = value_of(
        &settings(DataFormat::Text, DataFormat::Registry),
        &supplied,
        &framed(&[2, b'x', 2, b'y']),
    );
    assert_eq!(
        shown.as_deref(),
        Ok(r#"{"home":{"city":{"name":"x"}},"born":{"name":"y"}}"#)
    );
}

/// Text with an import of the schema's own and one of a well-known type.
fn shop() -> Supplied {
    let text = r#"
        syntax = "proto3";
        package shop;
        import "shop/money.proto";
        import "google/protobuf/timestamp.proto";
        message Order {
            int64 order_id = 1;
            google.protobuf.Timestamp placed_at = 2;
            repeated Line lines = 3;
            oneof paid { string card = 4; Cash cash = 5; }
            map<string, int32> counts = 6;
            message Line { string sku = 1; shop.Money price = 2; }
            message Cash { bool exact = 1; }
        }
        message Refund { int64 order_id = 1; }
    "#;
    let money = Reference {
        name: "shop/money.proto".to_owned(),
        schema: SchemaText {
            kind: SchemaKind::Protobuf,
            text: "syntax = \"proto3\"; package shop; message Money { uint32 cents = 1; }".to_owned(),
            references: Vec::new(),
        },
    };
    schema(SchemaKind::Protobuf, text, vec![money])
}

fn protobuf_text_with_imports_is_shown_as_documented() {
    let order = [
        0, // the first message
        0x22, 1, b'c', // card, which cash replaces
        0x08, 0x96, 0x01, // order_id
        0x12, 2, 0x08, 0x01, // placed_at
        0x1a, 7, 0x0a, 1, b'a', 0x12, 2, 0x08, 5, // a line
        0x1a, 0, // an empty one
        0x2a, 0, // cash
        0x32, 5, 0x0a, 1, b'k', 0x10, 3, // a count
        0xf8, 0x07, 1, // an unknown field
    ];
    let protobuf = settings(DataFormat::Text, DataFormat::Protobuf);
    assert_eq!(
        value_of(&protobuf, &shop(), &framed(&order)).as_deref(),
        Ok(
            r#"{"orderId":150,"placedAt":"1970-01-01T00:00:01Z","lines":[{"sku":"a","price":{"cents":5}},{}],"cash":{},"counts":{"k":3}}"#
        )
    );
}

fn a_message_is_found_by_its_indexes() {
    let protobuf = settings(DataFormat::Text, DataFormat::Registry);
    let shown = |bytes: &[u8]| value_of(&protobuf, &shop(), &framed(bytes));
    assert_eq!(
        shown(&[2, 2, 0x08, 1]).as_deref(),
        Ok(r#"{"orderId":1}"#),
        "Refund"
    );
    assert_eq!(
        shown(&[4, 0, 0, 0x0a, 1, b'a']).as_deref(),
        Ok(r#"{"sku":"a"}"#),
        "Line"
    );
    for wrong in [&[2, 4][..], &[4, 2, 2], &[1], &[], &[0xff; 12], &[4, 0]] {
        assert_eq!(shown(wrong), Err(Invalid::ValueMalformed), "{wrong:?}");
    }
}

fn schemas_are_named_in_headers_too() {
    let guid = *b"0123456789abcdef";
    let header = [&[1][..], &guid, &[0]].concat();
    let records = batch(&[
        (None, Some(&[0x08, 9]), &[(b"__value_schema_id", Some(&header))]),
        (None, Some(b"not framed"), &[]),
    ]);
    let mut asked = Vec::new();
    let parts = decode_all(
        &mut Decoder::new(&settings(DataFormat::Text, DataFormat::Registry)),
        &records,
        |id| {
            asked.push(id);
            shop()
        },
    );
    assert_eq!(asked, [SchemaId::Guid(guid)]);
    let value = |number| parts[0].iter().nth(number).expect("a record");
    assert_eq!(value(0).value, Some(&br#"{"orderId":9}"#[..]));
    let cause = value(1).undecodable.map(|error| error.cause);
    assert_eq!(cause, Some(Invalid::ValueWithoutSchemaId));
}

fn number_keys_are_shown_filtered_and_deleted(broker: &Broker) {
    let topic = topic_name("numbers");
    broker.create_topic(&topic, 1, &[]);
    let key = |number: i64| number.to_be_bytes().to_vec();
    broker.produce(
        &topic,
        &[
            Message::new(key(200), r#"{"a":1}"#),
            Message::new(key(-1), r#"{"a":2}"#),
            Message::new("short", r#"{"a":3}"#),
            Message::tombstone(key(-1)),
        ],
    );
    let daemon = Daemon::start(&crate::common::config(
        broker,
        &[&topic],
        "start = \"earliest\"\nkey_format = \"int64\"\nkey_field = \"id\"",
    ));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut client = Stream::open(daemon.url("/events")).await;
        let events = client.collect_until(named("caught-up"), secs(20)).await;
        assert_eq!(records(&events), [r#"{"a":1,"id":200}"#, r#"{"a":2,"id":-1}"#]);
        let deleted = events.iter().find(|event| event.name == "delete");
        assert_eq!(deleted.map(|event| event.data.as_str()), Some(r#"{"id":-1}"#));
        let mut client = Stream::open(daemon.url("/events?key=200")).await;
        let events = client.collect_until(named("caught-up"), secs(20)).await;
        assert_eq!(records(&events), [r#"{"a":1,"id":200}"#]);
        let streams = daemon.get("/streams").await.json();
        let invalid = &streams["streams"][0]["invalid_records"];
        assert_eq!(invalid["key-malformed"], 1, "{invalid}");
    });
}
