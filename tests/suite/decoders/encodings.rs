//! Encodings that a format allows, and that serializers seldom write.

use crate::decoding::{framed, schema, settings, value_of};
use crate::trials;
use kafka_sse_bridge::config::DataFormat;
use kafka_sse_bridge::decode::SchemaKind;
use kafka_sse_bridge::kafka::invalid::Invalid;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        avro_blocks_of_any_form_are_read,
        numbers_that_a_closed_enum_lacks_are_unknown_fields,
    ]
}

fn avro_blocks_of_any_form_are_read() {
    let avro = settings(DataFormat::Text, DataFormat::Avro);
    let array = schema(SchemaKind::Avro, r#"{"type":"array","items":"int"}"#, Vec::new());
    let map = schema(SchemaKind::Avro, r#"{"type":"map","values":"int"}"#, Vec::new());
    for (kind, bytes, expected) in [
        // Two items behind the size of their block, then one without.
        (&array, &[3, 4, 2, 4, 2, 6, 0][..], Ok("[1,2,3]")),
        (&array, &[0], Ok("[]")),
        (
            &map,
            &[1, 6, 2, b'a', 2, 2, 2, b'b', 4, 0],
            Ok(r#"{"a":1,"b":2}"#),
        ),
        (&array, &[3, 4, 2, 4], Err(Invalid::ValueMalformed)),
        // -2^63 items.
        (
            &array,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0],
            Err(Invalid::ValueMalformed),
        ),
    ] {
        let shown = value_of(&avro, kind, &framed(bytes));
        assert_eq!(shown.as_deref().map_err(|cause| *cause), expected, "{bytes:?}");
    }
}

fn numbers_that_a_closed_enum_lacks_are_unknown_fields() {
    let text = "syntax = \"proto2\"; enum E { ZERO = 0; ONE = 1; } message R { map<string, E> m = 1; \
                oneof o { E x = 2; int32 y = 3; } repeated E r = 4; optional E p = 5; }";
    let closed = schema(SchemaKind::Protobuf, text, Vec::new());
    let protobuf = settings(DataFormat::Text, DataFormat::Protobuf);
    // As Google's libraries for Python and C read them.
    for (bytes, expected) in [
        (&[0x0a, 5, 0x0a, 1, b'k', 0x10, 99][..], "{}"),
        (&[0x0a, 7, 0x0a, 1, b'k', 0x10, 99, 0x10, 1], "{}"),
        (&[0x0a, 7, 0x0a, 1, b'k', 0x10, 1, 0x10, 99], "{}"),
        (
            &[0x0a, 5, 0x0a, 1, b'a', 0x10, 99, 0x0a, 5, 0x0a, 1, b'b', 0x10, 1],
            r#"{"m":{"b":"ONE"}}"#,
        ),
        (&[0x0a, 3, 0x0a, 1, b'k'], r#"{"m":{"k":"ZERO"}}"#),
        (&[0x18, 5, 0x10, 99], r#"{"y":5}"#),
        (&[0x10, 1, 0x10, 99], r#"{"x":"ONE"}"#),
        (&[0x22, 3, 1, 99, 0], r#"{"r":["ONE","ZERO"]}"#),
        (&[0x28, 1, 0x28, 99], r#"{"p":"ONE"}"#),
    ] {
        let payload = framed(&[&[0], bytes].concat());
        assert_eq!(
            value_of(&protobuf, &closed, &payload).as_deref(),
            Ok(expected),
            "{bytes:?}"
        );
    }
}
