//! Nothing a producer writes into a record can forge an event, a field or a second stream: a strict
//! parser reads back exactly what was put in, line ends as LF.

use crate::harness::sse::{Event, Item, Parser};
use crate::trials;
use kafka_sse_bridge::config::{DataFormat, Format, StreamSettings};
use kafka_sse_bridge::kafka::record::{Batch, Stamp};
use kafka_sse_bridge::sse::control::ControlEvent;
use kafka_sse_bridge::sse::write;
use kafka_sse_bridge::stream::encode::{Encoder, Invalid};
use libtest_mimic::Trial;
use proptest::prelude::*;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    trials![
        any_text_value_arrives_whole_with_line_ends_as_lf,
        control_events_arrive_whole,
        the_key_joins_the_object_and_the_rest_stays_byte_for_byte,
        any_object_keeps_its_members_when_the_key_joins,
        a_member_of_the_keys_name_is_replaced,
        a_value_that_is_not_an_object_is_refused_where_the_key_joins,
        a_tombstone_is_a_delete_with_its_key,
        a_key_is_the_same_in_every_format,
        bytes_are_shown_in_base64_whatever_they_are,
        a_byte_order_mark_is_not_part_of_a_value,
        an_envelope_without_a_timestamp_has_null,
        an_envelope_carries_every_part_of_any_record,
        an_envelope_names_its_encoding,
        an_envelope_joins_repeated_headers,
        as_many_headers_as_fit_are_sent,
        an_event_name_is_sent_where_configured,
    ]
}

type Headers = Vec<(String, Option<Vec<u8>>)>;

fn settings(format: Format, key_field: Option<&str>) -> StreamSettings {
    StreamSettings {
        path: "/x".to_owned(),
        topics: vec!["t".to_owned()],
        format,
        key_field: key_field.map(str::to_owned),
        ..StreamSettings::default()
    }
}

fn encode(
    settings: &StreamSettings,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &Headers,
) -> Result<Vec<u8>, Invalid> {
    let mut batch = Batch::new("t".into());
    let stamp = Stamp {
        partition: 3,
        offset: 41,
        timestamp: Some(1_700_000_000_123),
    };
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_deref()));
    batch.push(stamp, key, value, headers);
    let mut out = b"before".to_vec();
    let record = batch.iter().next().expect("one record");
    let written = Encoder::new(settings).write(&record, &mut out, |out| out.extend_from_slice(b"ID"));
    let frame = out
        .strip_prefix(b"before")
        .expect("what was there stays")
        .to_vec();
    assert_eq!(
        written.is_err(),
        frame.is_empty(),
        "a refused record leaves nothing behind"
    );
    written.map(|()| frame)
}

/// The one event of these bytes; no violation, nothing else.
fn parse(frame: &[u8]) -> Event {
    let mut items = Parser::new().feed(frame);
    assert_eq!(
        items.len(),
        1,
        "{items:?} in {:?}",
        String::from_utf8_lossy(frame)
    );
    match items.remove(0) {
        Item::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

fn shown(settings: &StreamSettings, key: Option<&[u8]>, value: Option<&[u8]>) -> String {
    parse(&encode(settings, key, value, &Vec::new()).expect("a valid record")).data
}

/// Text with more line ends, colons and NULs than chance would give.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\r\n".to_owned()),
        Just("\0".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("id: forged".to_owned()),
        Just("event: forged\n\ndata: ".to_owned()),
        Just(" ".to_owned()),
        Just(":".to_owned()),
        ".{0,12}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

const BOM: &str = "\u{feff}";

fn normalised(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn any_text_value_arrives_whole_with_line_ends_as_lf() {
    let settings_of_text = StreamSettings {
        value_format: DataFormat::Text,
        ..settings(Format::Value, None)
    };
    proptest!(|(text in hostile_text())| {
        let event = parse(&encode(&settings_of_text, None, Some(text.as_bytes()), &Vec::new()).unwrap());
        // A byte order mark in front says how the text is encoded, and is no part of it.
        let text = text.strip_prefix(BOM).unwrap_or(&text);
        prop_assert_eq!(event.data, normalised(text));
        prop_assert_eq!(event.name, "message");
        prop_assert_eq!(event.id, "ID");
    });
    let refused = encode(&settings(Format::Value, None), None, Some(b"\xff"), &Vec::new());
    assert_eq!(refused, Err(Invalid::ValueNotUtf8));
    // No JSON begins with the magic byte of a registered schema.
    let refused = encode(
        &settings(Format::Value, None),
        None,
        Some(b"\0\0\0\0\x07text"),
        &Vec::new(),
    );
    assert_eq!(refused, Err(Invalid::ValueHasSchemaId));
}

fn control_events_arrive_whole() {
    let event = parse(&ControlEvent::Reset.frame(Some(b"P"), r#"{"reason":"x"}"#));
    assert_eq!(
        (event.name.as_str(), event.data.as_str(), event.id.as_str()),
        ("reset", r#"{"reason":"x"}"#, "P")
    );
    assert!(!parse(&ControlEvent::Heartbeat.frame(None, "{}")).own_id);
    let mut parser = Parser::new();
    let quiet = [write::KEEPALIVE, write::retry(1500).as_bytes()].concat();
    assert_eq!(
        parser.feed(&quiet),
        [Item::Comment(String::new()), Item::Retry(1500)]
    );
}

fn the_key_joins_the_object_and_the_rest_stays_byte_for_byte() {
    let stream = settings(Format::Value, Some("continent"));
    let cases = [
        ("{}", r#"{"continent":"K"}"#),
        ("  {  } \n", "  {  \"continent\":\"K\"} \n"),
        (
            r#"{"big":123456789012345678901234567890,"tiny":1e-400,"z":1.0,"a":"é"}"#,
            r#"{"big":123456789012345678901234567890,"tiny":1e-400,"z":1.0,"a":"é","continent":"K"}"#,
        ),
        (
            "{\"nested\": {\"continent\":1}\r\n}",
            "{\"nested\": {\"continent\":1}\n,\"continent\":\"K\"}",
        ),
    ];
    for (value, wanted) in cases {
        assert_eq!(shown(&stream, Some(b"K"), Some(value.as_bytes())), wanted);
    }
    assert_eq!(shown(&stream, None, Some(b"{}")), r#"{"continent":null}"#);
    assert_eq!(
        shown(&stream, Some(b"a\"b\n"), Some(b"{}")),
        r#"{"continent":"a\"b\n"}"#
    );
    let odd = settings(Format::Value, Some("na\"me"));
    assert_eq!(shown(&odd, Some(b"K"), Some(b"{}")), r#"{"na\"me":"K"}"#);
}

fn any_object_keeps_its_members_when_the_key_joins() {
    let member = (
        "[a-z\"\\\\\n]{0,5}",
        prop_oneof![
            any::<i64>().prop_map(|number| json!(number)),
            hostile_text().prop_map(|text| json!(text)),
            Just(json!({"continent": [null, {"continent": {}}]})),
        ],
    );
    proptest!(|(members in prop::collection::btree_map(member.0, member.1, 0..6), key in hostile_text())| {
        let value = serde_json::to_string_pretty(&members).unwrap();
        let data = shown(&settings(Format::Value, Some("continent")), Some(key.as_bytes()), Some(value.as_bytes()));
        let mut wanted: serde_json::Map<String, Value> = members.into_iter().collect();
        wanted.insert("continent".to_owned(), shown_key(Some(key.as_bytes())));
        prop_assert_eq!(serde_json::from_str::<Value>(&data).unwrap(), Value::Object(wanted));
    });
}

fn a_member_of_the_keys_name_is_replaced() {
    let stream = settings(Format::Value, Some("continent"));
    let cases = [
        (r#"{"continent":{"x":[1]},"a":1}"#, r#"{"continent":"K","a":1}"#),
        (
            r#"{"a":1, "continent" : null }"#,
            r#"{"a":1, "continent" : "K" }"#,
        ),
        (r#"{"contin\u0065nt":1}"#, r#"{"contin\u0065nt":"K"}"#),
        (
            r#"{"continent":1,"continent":2}"#,
            r#"{"continent":"K","continent":"K"}"#,
        ),
    ];
    for (value, wanted) in cases {
        assert_eq!(shown(&stream, Some(b"K"), Some(value.as_bytes())), wanted);
    }
}

fn a_value_that_is_not_an_object_is_refused_where_the_key_joins() {
    let stream = settings(Format::Value, Some("continent"));
    for value in [
        "",
        "1",
        "[]",
        "\"{}\"",
        "{",
        "{\"a\":}",
        "{} x",
        "{\"a\":1,}",
        "nul",
    ] {
        let refused = encode(&stream, Some(b"K"), Some(value.as_bytes()), &Vec::new());
        assert_eq!(refused, Err(Invalid::ValueNotObject), "{value:?}");
    }
}

fn a_tombstone_is_a_delete_with_its_key() {
    let deleted = |settings: &StreamSettings, key: Option<&[u8]>| {
        let event = parse(&encode(settings, key, None, &Vec::new()).unwrap());
        assert_eq!(event.name, "delete");
        event.data
    };
    assert_eq!(
        deleted(&settings(Format::Value, Some("continent")), Some(b"K")),
        r#"{"continent":"K"}"#
    );
    assert_eq!(
        deleted(&settings(Format::Value, None), Some(b"K")),
        r#"{"key":"K"}"#
    );
    assert_eq!(deleted(&settings(Format::Value, None), None), r#"{"key":null}"#);
    let mut many = settings(Format::Value, None);
    many.topics.push("u".to_owned());
    assert_eq!(deleted(&many, Some(b"K")), r#"{"key":"K","topic":"t"}"#);
}

/// Keys, and how they are shown.
const KEYS: [(&[u8], &str); 11] = [
    (b"NL", r#""NL""#),
    (b"", r#""""#),
    ("Zürich \u{1f3d4}".as_bytes(), "\"Zürich \u{1f3d4}\""),
    (b"a\tb\r\nc", r#""a\tb\r\nc""#),
    (b"base64:AAAA", r#""base64:AAAA""#),
    // 17 and 200 as 8 bytes, big endian: the first is UTF-8, the second is not.
    (b"\0\0\0\0\0\0\0\x11", r#"{"base64":"AAAAAAAAABE="}"#),
    (b"\0\0\0\0\0\0\0\xc8", r#"{"base64":"AAAAAAAAAMg="}"#),
    (b"\xff", r#"{"base64":"/w=="}"#),
    (b"a\x1b[0m", r#"{"base64":"YRtbMG0="}"#),
    // DEL and C1 are control characters too.
    (b"a\x7f", r#"{"base64":"YX8="}"#),
    ("a\u{85}".as_bytes(), r#"{"base64":"YcKF"}"#),
];

fn a_key_is_the_same_in_every_format() {
    for (key, wanted) in KEYS {
        let name = String::from_utf8_lossy(key);
        let deleted = shown(&settings(Format::Value, None), Some(key), None);
        assert_eq!(deleted, format!("{{\"key\":{wanted}}}"), "delete of {name:?}");
        let joined = settings(Format::Value, Some("id"));
        let data = shown(&joined, Some(key), Some(b"{\"a\":1}"));
        assert_eq!(data, format!("{{\"a\":1,\"id\":{wanted}}}"), "{name:?} joins");
        let data = shown(&joined, Some(key), Some(b"{\"id\":1}"));
        assert_eq!(data, format!("{{\"id\":{wanted}}}"), "{name:?} replaces");
        for value in [None, Some(b"1".as_slice())] {
            let envelope = shown(&settings(Format::Envelope, None), Some(key), value);
            let key = format!(",\"key\":{wanted},");
            assert!(envelope.contains(&key), "{name:?} in {envelope}");
        }
    }
}

fn bytes_are_shown_in_base64_whatever_they_are() {
    let bytes = |format| StreamSettings {
        key_format: DataFormat::Bytes,
        value_format: DataFormat::Bytes,
        ..settings(format, None)
    };
    for (value, text) in [(&b"hi"[..], "aGk="), (b"\0\0\0\0\x07\xff", "AAAAAAf/"), (b"", "")] {
        let plain = bytes(Format::Value);
        assert_eq!(shown(&plain, Some(b"k"), Some(value)), text);
        let deleted = json!({ "key": { "base64": text } });
        assert_eq!(shown(&plain, Some(value), None), deleted.to_string());
        let envelope: Value =
            serde_json::from_str(&shown(&bytes(Format::Envelope), Some(value), Some(value))).expect("JSON");
        assert_eq!(
            (&envelope["key"], &envelope["value"], &envelope["encoding"]),
            (&deleted["key"], &json!(text), &json!("base64"))
        );
    }
}

fn a_byte_order_mark_is_not_part_of_a_value() {
    let value = |text: &str| format!("{BOM}{text}").into_bytes();
    let plain = settings(Format::Value, None);
    assert_eq!(shown(&plain, None, Some(&value("{\"a\":1}"))), "{\"a\":1}");
    assert_eq!(shown(&plain, None, Some(&value(""))), "");
    assert_eq!(
        shown(&plain, None, Some(&value(BOM))),
        BOM,
        "only the first is a mark"
    );
    let joined = settings(Format::Value, Some("id"));
    let cases = [
        ("{\"a\":1}", "{\"a\":1,\"id\":\"K\"}"),
        (" {\"id\":1} ", " {\"id\":\"K\"} "),
    ];
    for (text, wanted) in cases {
        assert_eq!(shown(&joined, Some(b"K"), Some(&value(text))), wanted);
    }
    let envelope = settings(Format::Envelope, None);
    let parts = |value: &[u8]| {
        let envelope: Value = serde_json::from_str(&shown(&envelope, None, Some(value))).unwrap();
        (envelope["encoding"].clone(), envelope["value"].clone())
    };
    assert_eq!(parts(&value("{\"a\":1}")), (json!("json"), json!({"a": 1})));
    assert_eq!(parts(&value("text")), (json!("text"), json!("text")));
    // A value that is not UTF-8 is sent as bytes, complete.
    let bytes = [BOM.as_bytes(), b"\xff"].concat();
    assert_eq!(parts(&bytes), (json!("base64"), json!("77u//w==")));
}

fn an_envelope_without_a_timestamp_has_null() {
    let mut batch = Batch::new("t".into());
    let stamp = Stamp {
        partition: 0,
        offset: 0,
        timestamp: Some(-1),
    };
    batch.push(stamp, None, Some(b"1"), std::iter::empty());
    let record = batch.iter().next().unwrap();
    let mut frame = Vec::new();
    let mut encoder = Encoder::new(&settings(Format::Envelope, None));
    let written = encoder.write(&record, &mut frame, |out| out.extend_from_slice(b"ID"));
    assert_eq!(written, Ok(()));
    let envelope: Value = serde_json::from_str(&parse(&frame).data).unwrap();
    assert_eq!(envelope["timestamp"], Value::Null);
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop_oneof![
        any::<Vec<u8>>(),
        hostile_text().prop_map(String::into_bytes)
    ])
}

/// A header as the envelope shows it.
fn shown_header(bytes: Option<&[u8]>) -> Value {
    use base64::Engine;
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => json!(text),
        Some((bytes, Err(_))) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    }
}

/// A key as every format shows it.
fn shown_key(bytes: Option<&[u8]>) -> Value {
    use base64::Engine;
    let is_text = |text: &str| text.chars().all(|c| !c.is_control() || "\t\r\n".contains(c));
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        Some((bytes, Ok(text))) if !is_text(text) => {
            json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)})
        }
        _ => shown_header(bytes),
    }
}

fn an_envelope_carries_every_part_of_any_record() {
    proptest!(|(key in bytes(), value in bytes(), header in bytes(), name in hostile_text())| {
        let headers = vec![(name.clone(), header.clone())];
        let stream = settings(Format::Envelope, None);
        let event = parse(&encode(&stream, key.as_deref(), value.as_deref(), &headers).unwrap());
        prop_assert_eq!(event.name, if value.is_some() { "message" } else { "delete" });
        let envelope: Value = serde_json::from_str(&event.data).unwrap();
        prop_assert_eq!(&envelope["topic"], &json!("t"));
        prop_assert_eq!(&envelope["partition"], &json!(3));
        prop_assert_eq!(&envelope["offset"], &json!(41));
        prop_assert_eq!(&envelope["timestamp"], &json!(1_700_000_000_123_i64));
        prop_assert_eq!(&envelope["key"], &shown_key(key.as_deref()));
        prop_assert_eq!(&envelope["headers"][&name], &shown_header(header.as_deref()));
        prop_assert_eq!(envelope.as_object().unwrap().len(), 8);
    });
}

fn an_envelope_names_its_encoding() {
    let shown = |value: Option<&[u8]>| {
        let data = parse(&encode(&settings(Format::Envelope, None), None, value, &Vec::new()).unwrap()).data;
        let envelope: Value = serde_json::from_str(&data).unwrap();
        (
            envelope["encoding"].as_str().unwrap().to_owned(),
            envelope["value"].clone(),
            data,
        )
    };
    let big = b"{\"b\":12345678901234567890123}";
    assert_eq!(shown(Some(big)).0, "json");
    assert!(
        shown(Some(big)).2.contains("12345678901234567890123"),
        "JSON stays byte for byte"
    );
    assert_eq!(shown(Some(b"plain \"text\"")).1, json!("plain \"text\""));
    assert_eq!(shown(Some(b"plain")).0, "text");
    assert_eq!(
        (shown(Some(b"")).0.as_str(), shown(Some(b"")).1),
        ("text", json!(""))
    );
    assert_eq!(
        (shown(Some(b"\xff\x00")).0.as_str(), shown(Some(b"\xff\x00")).1),
        ("base64", json!("/wA="))
    );
    assert_eq!(
        (shown(None).0.as_str(), shown(None).1),
        ("tombstone", Value::Null)
    );
}

fn an_envelope_joins_repeated_headers() {
    let headers = [
        ("a", Some("1")),
        ("b", None),
        ("a", None),
        ("c", Some("x")),
        ("a", Some("3")),
    ];
    let headers =
        headers.map(|(name, value)| (name.to_owned(), value.map(|value| value.as_bytes().to_vec())));
    let frame = encode(
        &settings(Format::Envelope, None),
        None,
        Some(b"1"),
        &headers.to_vec(),
    )
    .unwrap();
    let envelope: Value = serde_json::from_str(&parse(&frame).data).unwrap();
    assert_eq!(
        envelope["headers"],
        json!({"a": ["1", null, "3"], "b": null, "c": "x"})
    );
}

/// As many headers as fit into a record must not hold up a stream.
fn as_many_headers_as_fit_are_sent() {
    let headers: Headers = (0..100_000).map(|number| (format!("h{number}"), None)).collect();
    let frame = encode(&settings(Format::Envelope, None), None, Some(b"1"), &headers).unwrap();
    let envelope: Value = serde_json::from_str(&parse(&frame).data).unwrap();
    assert_eq!(envelope["headers"].as_object().unwrap().len(), headers.len());
}

fn an_event_name_is_sent_where_configured() {
    let stream = StreamSettings {
        event: Some("update".to_owned()),
        ..settings(Format::Value, None)
    };
    let named = |value| parse(&encode(&stream, Some(b"k"), value, &Vec::new()).unwrap()).name;
    assert_eq!(named(Some(b"v".as_slice())), "update");
    assert_eq!(named(None), "delete");
}
