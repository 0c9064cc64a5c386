//! Targets of the fuzzer: values in Avro and Protobuf, and their schemas.

use std::sync::{Arc, LazyLock};

use serde::de::IgnoredAny;

use super::json::MAX_BYTES;
use super::{Decoder, Schema, SchemaId, SchemaKind, SchemaText, Step, Supplied};
use crate::config::{AvroJson, DataFormat, Int64, StreamSettings, Timestamps};
use crate::kafka::record::{Batch, Stamp};

/// Most bytes that a decoded value may have: the bound, and what is written before it is noticed.
const MOST: usize = MAX_BYTES + (2 << 20);

/// Longer texts of schemas say no more: the cost is that of the compilers.
const MAX_TEXT: usize = 4 * 1024;

/// The id in front of each payload.
const FRAME: [u8; 5] = [0, 0, 0, 0, 7];

const ID: SchemaId = SchemaId::Number(7);

/// Schemas that have something of everything.
const AVRO: &str = include_str!("../../tests/schemas/everything.avsc");
const PROTOBUF: &str = include_str!("../../tests/schemas/everything.proto");

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
            Step::Need(ids) => {
                assert_eq!(ids, [ID]);
                decoder.supply(ID, supplied.clone());
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
