//! Targets of the fuzzer: values in Avro and Protobuf, and their schemas.

use std::sync::{Arc, LazyLock};

use serde::de::IgnoredAny;

use super::{Decoder, Schema, SchemaId, SchemaKind, SchemaText, Step, Supplied};
use crate::config::{AvroJson, DataFormat, Int64, StreamSettings, Timestamps};
use crate::kafka::record::{Batch, Stamp};

/// Most bytes that a decoded value may have: a documented bound, and what is written before it is noticed.
const MOST: usize = 66 << 20;

/// Longer texts of schemas say no more: the cost is that of the compilers.
const MAX_TEXT: usize = 4 * 1024;

/// The id in front of each payload.
const FRAME: [u8; 5] = [0, 0, 0, 0, 7];

const ID: SchemaId = SchemaId::Number(7);

/// A schema with every type of Avro.
const AVRO: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"a","type":["null","boolean","int","long","float","double","bytes","string","R",
        {"type":"array","items":"R"},{"type":"map","values":["null","R"]}]},
    {"name":"b","type":{"type":"array","items":{"type":"enum","name":"E","symbols":["X","Y"]}}},
    {"name":"c","type":{"type":"bytes","logicalType":"decimal","precision":40,"scale":3}},
    {"name":"d","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"e","type":{"type":"int","logicalType":"date"}},
    {"name":"f","type":{"type":"long","logicalType":"time-micros"}},
    {"name":"g","type":{"type":"bytes","logicalType":"big-decimal"}},
    {"name":"h","type":{"type":"string","logicalType":"uuid"}},
    {"name":"i","type":{"type":"array","items":"null"}},
    {"name":"j","type":{"type":"fixed","name":"F","size":12,"logicalType":"duration"}}
]}"#;

/// The same for Protobuf.
const PROTOBUF: &str = r#"
    syntax = "proto2";
    import "google/protobuf/any.proto";
    import "google/protobuf/duration.proto";
    import "google/protobuf/field_mask.proto";
    import "google/protobuf/struct.proto";
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    message R {
        optional R a = 1;
        repeated R b = 2;
        map<string, R> c = 3;
        repeated sint64 d = 4 [packed = true];
        optional group G = 5 { optional R r = 1; }
        oneof o { string e = 6; R f = 7; }
        optional google.protobuf.Any p = 8;
        optional google.protobuf.Duration h = 9;
        optional google.protobuf.FieldMask i = 10;
        optional google.protobuf.Value j = 11;
        optional google.protobuf.Timestamp k = 12;
        optional google.protobuf.StringValue l = 13;
        repeated fixed32 m = 14;
        enum E { X = 0; }
        repeated E n = 15;
        optional bytes q = 16;
        optional double r = 17;
    }
"#;

static SCHEMAS: LazyLock<[Supplied; 2]> = LazyLock::new(|| {
    [(SchemaKind::Avro, AVRO), (SchemaKind::Protobuf, PROTOBUF)]
        .map(|(kind, text)| compiled(kind, text.to_owned()).expect("it is valid"))
});

fn compiled(kind: SchemaKind, text: String) -> Option<Supplied> {
    let text = SchemaText {
        kind,
        text,
        references: Vec::new(),
    };
    let schema = Schema::compile(&text).ok()?;
    Some(Supplied::Schema(Arc::new(schema)))
}

/// Any payload is shown as JSON of a bounded size, or is refused. The first byte says by which schema and how.
pub(crate) fn payloads(data: &[u8]) {
    let Some((&how, payload)) = data.split_first() else {
        return;
    };
    let settings = StreamSettings {
        value_format: [DataFormat::Avro, DataFormat::Protobuf][usize::from(how & 1)],
        avro_json: [AvroJson::Plain, AvroJson::Tagged][usize::from(how >> 1 & 1)],
        int64: [Int64::Number, Int64::String][usize::from(how >> 2 & 1)],
        timestamps: [Timestamps::Number, Timestamps::Rfc3339][usize::from(how >> 3 & 1)],
        key_field: (how & 16 != 0).then(|| "a".to_owned()),
        ..StreamSettings::default()
    };
    decode(&settings, &SCHEMAS[usize::from(how & 1)], payload);
}

/// Any text is a schema or an error, and decodes any payload. The first byte is the kind, the first line a payload, the rest
/// is the text.
pub(crate) fn schemas(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else {
        return;
    };
    let Some(end) = memchr::memchr(b'\n', rest).filter(|_| rest.len() <= MAX_TEXT) else {
        return;
    };
    let (payload, text) = rest.split_at(end);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let (kind, format) = [
        (SchemaKind::Avro, DataFormat::Avro),
        (SchemaKind::Protobuf, DataFormat::Protobuf),
    ][usize::from(how & 1)];
    let settings = StreamSettings {
        value_format: format,
        ..StreamSettings::default()
    };
    if let Some(supplied) = compiled(kind, text.to_owned()) {
        decode(&settings, &supplied, payload);
    }
}

fn decode(settings: &StreamSettings, supplied: &Supplied, payload: &[u8]) {
    let mut batch = Batch::new("t".into());
    let stamp = Stamp {
        partition: 0,
        offset: 0,
        timestamp: Some(1),
    };
    let value = [&FRAME, payload].concat();
    batch.push(stamp, None, Some(&value), std::iter::empty());
    let batch = Arc::new(batch);
    let mut decoder = Decoder::new(settings);
    let result = loop {
        match decoder.decode(&batch, || {}) {
            Step::Done(result) | Step::Part(result) => break result,
            Step::Need(id) => {
                assert_eq!(id, ID);
                decoder.supply(id, supplied.clone());
            }
        }
    };
    let record = result.iter().next().expect("a record");
    if record.undecodable.is_none() {
        let shown = record.value.expect("it is no tombstone");
        assert!(shown.len() <= MOST);
        assert!(
            serde_json::from_slice::<IgnoredAny>(shown).is_ok(),
            "{}",
            shown.escape_ascii()
        );
    }
}
