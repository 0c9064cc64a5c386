//! Frames of decoded records: what the decoder guarantees of a value is true, so nothing changes where it is not parsed
//! again.

use crate::decoding::{batch, decode_all, framed, schema, settings};
use crate::trials;
use kafka_sse_bridge::config::{AvroJson, DataFormat, Format, StreamSettings};
use kafka_sse_bridge::decode::{Decoder, SchemaKind, Supplied};
use kafka_sse_bridge::kafka::record::{Guarantee, Record};
use kafka_sse_bridge::stream::encode::{Encoder, Invalid};
use libtest_mimic::Trial;
use serde_json::Value;

pub fn trials() -> Vec<Trial> {
    trials![
        objects_of_a_schema_are_extended_without_a_parser,
        a_member_of_an_added_name_is_replaced,
        values_that_are_no_objects_are_refused_or_shown,
    ]
}

/// The frame of a decoded record, and what was guaranteed of its value.
fn frame(
    settings: &StreamSettings,
    supplied: &Supplied,
    payload: &[u8],
) -> (Result<String, Invalid>, Guarantee) {
    let batch = batch(&[(Some(b"k"), Some(&framed(payload)), &[])]);
    let parts = decode_all(&mut Decoder::new(settings), &batch, |_| supplied.clone());
    let record = parts[0].iter().next().expect("a record");
    let encode = |record: &Record<'_>| {
        let mut frame = Vec::new();
        let written = Encoder::new(settings).write_body(record, &mut frame);
        written.map(|()| String::from_utf8(frame).expect("UTF-8"))
    };
    let encoded = encode(&record);
    let mut distrusted = record;
    distrusted.guarantee = Guarantee::Nothing;
    assert_eq!(encoded, encode(&distrusted), "{settings:?}");
    (encoded, record.guarantee)
}

/// The frames of a payload are the same where its value is parsed: with members of new names and of names that it has,
/// in an envelope, and without some of its members.
pub fn assert_frames_as_if_parsed(settings: &StreamSettings, supplied: &Supplied, payload: &[u8]) {
    let with = |change: &dyn Fn(&mut StreamSettings)| {
        let mut changed = settings.clone();
        change(&mut changed);
        frame(&changed, supplied, payload).0.ok()
    };
    with(&|_| ());
    with(&|settings| settings.format = Format::Envelope);
    let shown = with(&|settings| settings.key_field = Some("added \"key\"".to_owned()));
    let payload = shown.and_then(|frame| {
        let data = frame.strip_prefix("data: ")?.trim_end().to_owned();
        serde_json::from_str::<Value>(&data).ok()
    });
    let members = payload.as_ref().and_then(Value::as_object);
    let names = members.into_iter().flat_map(|members| members.keys());
    for name in names.filter(|name| !name.is_empty()).take(2) {
        let path = name.replace('\\', "\\\\").replace('.', "\\.");
        with(&|settings| settings.key_field = Some(name.clone()));
        with(&|settings| {
            settings.hide = vec![path.clone()];
            settings.key_field = Some("key".to_owned());
            settings.offset_field = Some(name.clone());
        });
        with(&|settings| {
            settings.fields = vec![path.clone()];
            settings.topic_field = Some("topic".to_owned());
        });
    }
}

fn avro(text: &str) -> Supplied {
    schema(SchemaKind::Avro, text, Vec::new())
}

fn protobuf(text: &str) -> Supplied {
    let text = format!("syntax = \"proto3\"; {text}");
    schema(SchemaKind::Protobuf, &text, Vec::new())
}

fn with_key(format: DataFormat) -> StreamSettings {
    StreamSettings {
        key_field: Some("id".to_owned()),
        ..settings(DataFormat::Text, format)
    }
}

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"n","type":"int"}]}"#;

const EMPTY: &str = r#"{"type":"record","name":"Empty","fields":[]}"#;

fn objects_of_a_schema_are_extended_without_a_parser() {
    let union = format!("[{ORDER},{EMPTY}]");
    for (settings, supplied, payload, expected) in [
        (
            with_key(DataFormat::Avro),
            avro(ORDER),
            &[2][..],
            r#"{"n":1,"id":"k"}"#,
        ),
        (with_key(DataFormat::Avro), avro(EMPTY), &[], r#"{"id":"k"}"#),
        (
            with_key(DataFormat::Avro),
            avro(&union),
            &[0, 2],
            r#"{"n":1,"id":"k"}"#,
        ),
        (
            StreamSettings {
                avro_json: AvroJson::Tagged,
                ..with_key(DataFormat::Avro)
            },
            avro(&union),
            &[2],
            r#"{"Empty":{},"id":"k"}"#,
        ),
        (
            with_key(DataFormat::Protobuf),
            protobuf("message A { int32 id = 1; } message B { int32 n = 1; }"),
            &[2, 2, 8, 1],
            r#"{"n":1,"id":"k"}"#,
        ),
        (
            StreamSettings {
                hide: vec!["n".to_owned()],
                ..with_key(DataFormat::Avro)
            },
            avro(ORDER),
            &[2],
            r#"{"id":"k"}"#,
        ),
    ] {
        let (frame, guarantee) = frame(&settings, &supplied, payload);
        assert_eq!(guarantee, Guarantee::Object, "{expected}");
        assert_eq!(frame, Ok(format!("data: {expected}\n\n")));
    }
}

fn a_member_of_an_added_name_is_replaced() {
    let order = ORDER.replace("\"n\"", "\"id\"");
    let message = "message A { int32 n = 1 [json_name = \"id\"]; }";
    for (format, supplied, payload) in [
        (DataFormat::Avro, avro(&order), &[2][..]),
        (DataFormat::Avro, avro(&format!("[{EMPTY},{order}]")), &[2, 2]),
        (
            DataFormat::Avro,
            avro(r#"{"type":"map","values":"int"}"#),
            &[2, 4, b'i', b'd', 2, 0],
        ),
        (DataFormat::Protobuf, protobuf(message), &[0, 8, 1]),
    ] {
        let (frame, guarantee) = frame(&with_key(format), &supplied, payload);
        assert_eq!(guarantee, Guarantee::Json);
        assert_eq!(frame.as_deref(), Ok("data: {\"id\":\"k\"}\n\n"));
    }
}

fn values_that_are_no_objects_are_refused_or_shown() {
    let null_or_order = format!("[\"null\",{ORDER}]");
    for (supplied, payload, expected) in [
        (avro("\"string\""), &[4, b'"', b'\n'][..], "\"\\\"\\n\""),
        (avro(&null_or_order), &[0], "null"),
    ] {
        let with_key = with_key(DataFormat::Avro);
        let (refused, _) = frame(&with_key, &supplied, payload);
        assert_eq!(refused, Err(Invalid::ValueNotObject));
        let alone = settings(DataFormat::Text, DataFormat::Avro);
        let (shown, guarantee) = frame(&alone, &supplied, payload);
        assert_eq!(guarantee, Guarantee::Json);
        assert_eq!(shown, Ok(format!("data: {expected}\n\n")));
    }
}
