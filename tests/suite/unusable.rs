//! Records that cannot be shown, on streams that keep a table: they end what their keys had before.

use crate::common::{config, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{promise, promise_on};
use crate::rig::{Rec, Rig, rec, tombstone};
use kafka_sse_bridge::config::{Start, StreamSettings};
use kafka_sse_bridge::stream::encode::Invalid;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(an_unusable_record_deletes_its_keys_row_for_every_client),
        promise(keys_with_an_unusable_record_are_counted_while_it_is_their_latest),
        promise(an_unusable_record_of_another_partition_counts_by_its_time),
        promise(a_fixed_filter_keeps_unusable_records_of_other_keys_from_clients),
        promise_on(Version::V4_4, health_ready_names_keys_with_unusable_records),
    ]
}

/// Values that no client can be shown, and why.
const UNUSABLE: [(&[u8], Invalid); 8] = [
    (b"null", Invalid::ValueNotObject),
    (b"{\"status\":NaN}", Invalid::ValueNotObject),
    (b"{\"status\":\"open\"", Invalid::ValueNotObject),
    (b"7", Invalid::ValueNotObject),
    (b"[{\"status\":\"open\"}]", Invalid::ValueNotObject),
    (b"\"open\"", Invalid::ValueNotObject),
    (b"", Invalid::ValueNotObject),
    // Latin-1.
    (b"{\"status\":\"ge\xf6ffnet\"}", Invalid::ValueNotUtf8),
];

fn table(settings: &mut StreamSettings) {
    settings.start = Start::Snapshot;
    settings.key_field = Some("id".to_owned());
}

fn an_unusable_record_deletes_its_keys_row_for_every_client() {
    for (value, cause) in UNUSABLE {
        let name = String::from_utf8_lossy(value);
        let mut rig = Rig::ready(table);
        rig.records(&[rec("a", r#"{"status":"open"}"#), rec("b", r#"{"status":"open"}"#)]);
        let open = [
            r#"message {"status":"open","id":"a"}"#,
            r#"message {"status":"open","id":"b"}"#,
        ];
        let filter = [("value.status", "open")];
        let (mut connected, mut filtered, mut away) = (rig.client(&[]), rig.client(&filter), rig.client(&[]));
        for client in [&mut connected, &mut filtered, &mut away] {
            assert_eq!(client.shown(), open);
        }
        let id = away.last_event_id().to_owned();
        rig.records(&[rec("a", value)]);
        let delete = [r#"delete {"id":"a"}"#];
        assert_eq!(connected.shown(), delete, "{name}: a connected client");
        assert_eq!(filtered.shown(), delete, "{name}: a client with a filter");
        assert_eq!(
            rig.resume(&id, &[]).shown(),
            delete,
            "{name}: a client that comes back"
        );
        assert_eq!(
            rig.resume(&id, &filter).shown(),
            delete,
            "{name}: one with a filter that does"
        );
        assert_eq!(rig.client(&[]).shown(), open[1..], "{name}: a new client");
        let invalid = rig.stream.counters().invalid();
        assert!(invalid.contains(&(cause, 1)), "{name}: {invalid:?}");
        // Resuming clients get it as well, also from another replica.
        let mut other = Rig::ready(table);
        other.records(&[
            rec("a", r#"{"status":"open"}"#),
            rec("b", r#"{"status":"open"}"#),
            rec("a", value),
        ]);
        assert_eq!(
            other.resume(&id, &[]).shown(),
            delete,
            "{name}: at another replica"
        );
        assert_eq!(
            other.resume(connected.last_event_id(), &[]).shown(),
            [""; 0],
            "{name}: clients that have it"
        );
    }
}

/// The keys of a stream whose latest record cannot be shown: not UTF-8, and no object.
fn unusable(rig: &Rig) -> [usize; 2] {
    let keys = rig.stream.unusable_keys();
    assert_eq!(
        keys.iter().map(|(cause, _)| *cause).collect::<Vec<_>>(),
        [
            Invalid::ValueNotUtf8,
            Invalid::ValueNotObject,
            Invalid::ValueHasSchemaId
        ]
    );
    [keys[0].1, keys[1].1]
}

fn keys_with_an_unusable_record_are_counted_while_it_is_their_latest() {
    let mut rig = Rig::with(&[1, 1], false, table);
    assert_eq!(unusable(&rig), [0, 0]);
    rig.records(&[
        rec("a", "null"),
        rec("b", "\u{e9}"),
        rec("c", [0xe9]),
        rec("d", "{}"),
    ]);
    rig.records(&[rec("a", "null").topic(1)]);
    assert_eq!(unusable(&rig), [1, 3]);
    rig.records(&[rec("a", [0xe9]), rec("c", "null")]);
    assert_eq!(unusable(&rig), [1, 3], "by the cause of the latest");
    rig.records(&[rec("a", "{}"), tombstone("c")]);
    assert_eq!(unusable(&rig), [0, 2], "good again, or deleted");
    rig.recreate(1, 1);
    assert_eq!(unusable(&rig), [0, 1], "the topic starts again");
    rig.records(&[Rec {
        key: None,
        ..rec("", "null")
    }]);
    assert_eq!(unusable(&rig), [0, 1], "without a key it is none of the table's");
    let invalid: u64 = rig
        .stream
        .counters()
        .invalid()
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(invalid, 7, "every record that cannot be shown");
}

fn an_unusable_record_of_another_partition_counts_by_its_time() {
    let at = |mut record: Rec, partition: u32, timestamp: i64| {
        record.timestamp = Some(timestamp);
        record.partition(partition)
    };
    let mut rig = Rig::with(&[2], false, table);
    rig.records(&[at(rec("a", r#"{"n":1}"#), 0, 1000), at(rec("a", "null"), 1, 500)]);
    assert_eq!(
        rig.client(&[]).shown(),
        [r#"message {"n":1,"id":"a"}"#],
        "an older one"
    );
    assert_eq!(unusable(&rig), [0, 0]);
    rig.records(&[at(rec("a", "null"), 1, 2000), at(rec("a", r#"{"n":2}"#), 0, 1500)]);
    assert_eq!(
        rig.client(&[]).shown(),
        [""; 0],
        "a newer one, and an older that is good"
    );
    assert_eq!(unusable(&rig), [0, 1]);
}

fn a_fixed_filter_keeps_unusable_records_of_other_keys_from_clients() {
    let mut rig = Rig::ready(|settings| {
        table(settings);
        settings
            .filter
            .insert("value.status".to_owned(), vec!["open".to_owned()]);
    });
    let mut client = rig.client(&[]);
    client.items();
    rig.records(&[
        rec("a", "null"),
        rec("b", r#"{"status":"open"}"#),
        rec("b", "null"),
    ]);
    assert_eq!(
        client.shown(),
        [r#"message {"status":"open","id":"b"}"#, r#"delete {"id":"b"}"#]
    );
    assert_eq!(unusable(&rig), [0, 1], "of a key that was shown");
    assert_eq!(
        rig.stream.counters().hidden.get(),
        0,
        "each record is counted once"
    );
}

fn health_ready_names_keys_with_unusable_records() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("unusable");
    broker.create_topic(&topic, 1, &[("cleanup.policy", "compact")]);
    let open = r#"{"status":"open"}"#;
    broker.produce(
        &topic,
        &[
            Message::new("a", open),
            Message::new("b", open),
            Message::new("a", r#"{"status":NaN}"#),
        ],
    );
    let daemon = Daemon::start(&config(
        &broker,
        &[&topic],
        "start = \"snapshot\"\nkey_field = \"id\"",
    ));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut client = Stream::open(daemon.url("/events")).await;
        let rows = client.collect_until(named("caught-up"), secs(20)).await;
        assert_eq!(records(&rows), [r#"{"status":"open","id":"b"}"#]);
        let degraded = || async { daemon.get("/health/ready").await.json()["degraded"].to_string() };
        let said = degraded().await;
        assert!(
            said.contains("stream /events: keys whose newest record cannot be shown")
                && said.contains(": 1 (value-not-a-json-object); write these keys again"),
            "{said}"
        );
        let streams = daemon.get("/streams").await.json();
        let keys = &streams["streams"][0]["table"]["unusable_keys"];
        assert_eq!(
            keys.to_string(),
            r#"{"value-has-schema-id":0,"value-not-a-json-object":1,"value-not-utf8":0}"#
        );
        broker.produce(&topic, &[Message::new("b", [0xff]), Message::new("a", open)]);
        let events = client.collect_until(named("message"), secs(20)).await;
        let shown: Vec<(&str, &str)> = events
            .iter()
            .map(|it| (it.name.as_str(), it.data.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("delete", r#"{"id":"b"}"#),
                ("message", r#"{"status":"open","id":"a"}"#)
            ]
        );
        let said = degraded().await;
        assert!(
            said.contains(": 1 (value-not-utf8)") && !said.contains("json-object"),
            "{said}"
        );
        broker.produce(&topic, &[Message::tombstone("b")]);
        eventually_async(secs(20), "health names nothing any more", async || {
            let said = degraded().await;
            ensure(said == "[]", said)
        })
        .await;
    });
}
