//! The members that a stream adds to values beside the key: topic, partition, offset, timestamp and headers.

use crate::configuration::complains;
use crate::rig::{Rig, rec, tombstone};
use crate::trials;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::config::{Start, StreamSettings};
use kafka_sse_bridge::kafka::record::{Batch, Stamp};
use kafka_sse_bridge::stream::encode::{Encoder, Invalid};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        every_field_is_added_at_the_end_in_its_order,
        members_of_these_names_are_replaced_and_nested_ones_stay,
        values_that_are_not_objects_are_refused,
        deletes_have_all_but_the_headers,
        clients_tell_topics_apart_without_an_envelope,
        deletes_that_a_table_sends_have_the_time_by_which_it_compares,
        names_that_make_no_sense_are_refused_with_a_remedy,
    ]
}

type Header = (&'static [u8], Option<&'static [u8]>);

/// Sets the name of a field.
type Change = fn(&mut StreamSettings, Option<String>);

const HEADERS: [Header; 4] = [
    (b"n", Some(b"1")),
    (b"bin", Some(b"\xff\0")),
    (b"none", None),
    (b"n", Some(b"2")),
];

/// Every field, under its own name.
fn all(settings: &mut StreamSettings) {
    settings.key_field = Some("key".to_owned());
    settings.topic_field = Some("topic".to_owned());
    settings.partition_field = Some("partition".to_owned());
    settings.offset_field = Some("offset".to_owned());
    settings.timestamp_field = Some("timestamp".to_owned());
    settings.headers_field = Some("headers".to_owned());
}

fn settings(change: impl FnOnce(&mut StreamSettings)) -> StreamSettings {
    let mut settings = StreamSettings {
        topics: vec!["t\"1".to_owned()],
        ..StreamSettings::default()
    };
    change(&mut settings);
    settings
}

/// The data of a record with the key `K`.
fn shown_at(
    timestamp: Option<i64>,
    settings: &StreamSettings,
    value: Option<&str>,
    headers: &[Header],
) -> Result<String, Invalid> {
    let mut batch = Batch::new(settings.topics[0].as_str().into());
    let stamp = Stamp {
        partition: 3,
        offset: 9_007_199_254_740_993,
        timestamp,
    };
    batch.push(
        stamp,
        Some(b"K"),
        value.map(str::as_bytes),
        headers.iter().copied(),
    );
    let record = batch.iter().next().expect("one record");
    let mut frame = Vec::new();
    Encoder::new(settings).write_body(&record, &mut frame)?;
    let frame = String::from_utf8(frame).expect("UTF-8");
    let frame = frame.strip_prefix("event: delete\n").unwrap_or(&frame);
    let data = frame
        .strip_prefix("data: ")
        .and_then(|data| data.strip_suffix("\n\n"));
    Ok(data.expect("one line").to_owned())
}

fn shown(settings: &StreamSettings, value: &str, headers: &[Header]) -> String {
    shown_at(Some(1_700_000_000_123), settings, Some(value), headers).expect("a valid record")
}

const ALL: &str = r#""key":"K","topic":"t\"1","partition":3,"offset":9007199254740993,"timestamp":1700000000123,"headers":{"n":["1","2"],"bin":{"base64":"/wA="},"none":null}"#;

fn every_field_is_added_at_the_end_in_its_order() {
    let every = settings(all);
    assert_eq!(shown(&every, "{}", &HEADERS), format!("{{{ALL}}}"));
    assert_eq!(shown(&every, " { } ", &HEADERS), format!(" {{ {ALL}}} "));
    let value = r#"{"big":123456789012345678901234567890, "z":1.0,"é":[]"#;
    assert_eq!(
        shown(&every, &format!("{value} }}"), &HEADERS),
        format!("{value} ,{ALL}}}")
    );
    assert!(shown(&every, "{}", &[]).ends_with(r#","headers":{}}"#));
    let unknown = shown_at(None, &every, Some("{}"), &[]).expect("a valid record");
    assert!(unknown.contains(r#","timestamp":null,"#), "{unknown}");

    let each: [(Change, &str); 5] = [
        (|settings, name| settings.topic_field = name, r#""t\"1""#),
        (|settings, name| settings.partition_field = name, "3"),
        (|settings, name| settings.offset_field = name, "9007199254740993"),
        (|settings, name| settings.timestamp_field = name, "1700000000123"),
        (|settings, name| settings.headers_field = name, r#"{"n":"1"}"#),
    ];
    for (change, wanted) in each {
        let one = settings(|settings| change(settings, Some("na\"me".to_owned())));
        let headers = [HEADERS[0]];
        assert_eq!(
            shown(&one, r#"{"a":1}"#, &headers),
            format!(r#"{{"a":1,"na\"me":{wanted}}}"#)
        );
        assert_eq!(
            shown(&one, r#"{"na\u0022me": {"x":[1]} ,"a":1}"#, &headers),
            format!(r#"{{"na\u0022me": {wanted} ,"a":1}}"#)
        );
    }
}

fn members_of_these_names_are_replaced_and_nested_ones_stay() {
    let some = settings(|settings| {
        settings.topic_field = Some("topic".to_owned());
        settings.offset_field = Some("offset".to_owned());
        settings.partition_field = Some("p".to_owned());
    });
    let offset = "9007199254740993";
    let cases = [
        (
            r#"{"offset": 1 ,"a":{"topic":1,"offset":[{"p":2}]}}"#,
            format!(r#"{{"offset": {offset} ,"a":{{"topic":1,"offset":[{{"p":2}}]}},"topic":"t\"1","p":3}}"#),
        ),
        (
            r#"{"offset":1,"topic":{},"p":null}"#,
            format!(r#"{{"offset":{offset},"topic":"t\"1","p":3}}"#),
        ),
        (
            r#"{"p":1,"offset":1,"p":"x"}"#,
            format!(r#"{{"p":3,"offset":{offset},"p":3,"topic":"t\"1"}}"#),
        ),
        (
            r#"{"Topic":1}"#,
            format!(r#"{{"Topic":1,"topic":"t\"1","p":3,"offset":{offset}}}"#),
        ),
    ];
    for (value, wanted) in cases {
        assert_eq!(shown(&some, value, &HEADERS), wanted);
    }
}

fn values_that_are_not_objects_are_refused() {
    let some = settings(|settings| settings.topic_field = Some("topic".to_owned()));
    for value in ["", "1", "[]", "{", "{\"a\":}", "{} x", "{\"a\":1,}"] {
        let refused = shown_at(None, &some, Some(value), &[]);
        assert_eq!(refused, Err(Invalid::ValueNotObject), "{value:?}");
    }
}

fn deletes_have_all_but_the_headers() {
    let deleted =
        |settings: &StreamSettings| shown_at(Some(5), settings, None, &HEADERS).expect("a valid record");
    assert_eq!(
        deleted(&settings(all)),
        r#"{"key":"K","topic":"t\"1","partition":3,"offset":9007199254740993,"timestamp":5}"#
    );
    let mut some = settings(|settings| settings.partition_field = Some("p".to_owned()));
    assert_eq!(deleted(&some), r#"{"key":"K","p":3}"#);
    some.topics.push("other".to_owned());
    assert_eq!(deleted(&some), r#"{"key":"K","topic":"t\"1","p":3}"#);
    some.topic_field = Some("from".to_owned());
    assert_eq!(deleted(&some), r#"{"key":"K","from":"t\"1","p":3}"#);
}

fn clients_tell_topics_apart_without_an_envelope() {
    let mut rig = Rig::with(&[1, 1], true, |settings| {
        settings.start = Start::Snapshot;
        settings.key_field = Some("id".to_owned());
        settings.topic_field = Some("from".to_owned());
        settings.offset_field = Some("at".to_owned());
    });
    let names = rig.stream.settings().topics.clone();
    let added = |topic: usize, offset: i64| format!(r#""id":"a","from":{:?},"at":{offset}}}"#, names[topic]);
    let of_first = ("value.from", names[0].as_str());
    let (mut live, mut filtered) = (rig.client(&[]), rig.client(&[("value.x", "1")]));
    let mut first = rig.client(&[of_first]);
    for client in [&mut live, &mut filtered, &mut first] {
        client.items();
    }
    let with_x = |topic: usize, x: u32| rec("a", format!(r#"{{"x":{x}}}"#)).topic(topic);
    rig.records(&[with_x(0, 1)]);
    rig.records(&[with_x(1, 1)]);
    let shown_row = |topic: usize, offset: i64| format!(r#"message {{"x":1,{}"#, added(topic, offset));
    let both = [shown_row(0, 0), shown_row(1, 0)];
    assert_eq!(live.shown(), both);
    assert_eq!(filtered.shown(), both);
    assert_eq!(first.shown(), both[..1], "the filter compares what is added");
    assert_eq!(rig.client(&[]).shown(), both, "from the table");
    // A tombstone, and a record that no longer passes.
    rig.records(&[tombstone("a")]);
    rig.records(&[with_x(1, 2)]);
    let deletes = [0, 1].map(|topic| format!("delete {{{}", added(topic, 1)));
    assert_eq!(filtered.shown(), deletes);
    assert_eq!(live.shown()[0], deletes[0]);
}

fn deletes_that_a_table_sends_have_the_time_by_which_it_compares() {
    let mut rig = Rig::ready(|settings| {
        settings.start = Start::Snapshot;
        settings.log_bytes = Size(4 * 1024);
        settings.partition_field = Some("p".to_owned());
        settings.offset_field = Some("at".to_owned());
        settings.timestamp_field = Some("time".to_owned());
    });
    let filter = [("value.x", "1")];
    rig.records(&[rec("a", r#"{"x":1}"#).at(2000)]);
    let mut client = rig.client(&filter);
    assert_eq!(client.shown(), [r#"message {"x":1,"p":0,"at":0,"time":2000}"#]);
    let id = client.last_event_id().to_owned();
    rig.records(&[rec("a", r#"{"x":2}"#).at(1000)]);
    rig.flood(0);
    let shown = rig.resume(&id, &filter).shown();
    let deletes: Vec<_> = shown
        .iter()
        .filter(|line| line.contains(r#""key":"a""#))
        .collect();
    assert_eq!(deletes, [r#"delete {"key":"a","p":0,"at":1,"time":2000}"#]);
}

fn names_that_make_no_sense_are_refused_with_a_remedy() {
    for (lines, key, remedy) in [
        ("topic_field = ''", "topic_field", "name the field"),
        (
            "format = 'envelope'\noffset_field = 'o'",
            "offset_field",
            "remove it",
        ),
        (
            "value_format = 'int32'\nheaders_field = 'h'",
            "headers_field",
            "remove it",
        ),
        (
            "key_field = 'k'\ntopic_field = 'k'",
            "topic_field",
            "another name",
        ),
        (
            "unwrap = 'debezium'\nmetadata_field = 'k'\ntimestamp_field = 'k'",
            "timestamp_field",
            "another name",
        ),
        ("partition_field = 'key'", "partition_field", "set key_field too"),
    ] {
        let text = format!("[[stream]]\npath = '/x'\ntopics = ['t']\n{lines}\n");
        let line = 3 + lines.lines().count();
        complains(&text, &format!("FILE:{line}: stream[0].{key}: "), &[remedy]);
    }
    complains(
        "[[stream]]\npath = '/x'\ntopics = ['t', 'u']\noffset_field = 'topic'\n",
        "FILE:4: stream[0].offset_field: ",
        &["another name", "set topic_field too"],
    );
    complains(
        "[kafka]\nclient = 'kafka'\nisolation = 'read_uncommitted'\n[[stream]]\npath = '/x'\ntopics = ['t']\nheaders_field = 'h'\n",
        "FILE:7: stream[0].headers_field: ",
        &["client = \"auto\""],
    );
}
