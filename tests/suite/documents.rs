//! The table as a document, and streams as lines of JSON.

use crate::common::{config, json};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http::{Response, get, request};
use crate::harness::produce::Message;
use crate::harness::stream::Stream as Connection;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{on_broker, promise};
use crate::rig::{Rec, Rig, apply, filter, rec, tombstone};
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Start, StreamSettings, WhenFull};
use kafka_sse_bridge::stream::document::{Document, Rows};
use kafka_sse_bridge::stream::live_settings::LiveSettings;
use kafka_sse_bridge::stream::position::Position;
use kafka_sse_bridge::stream::start_position::Opening;
use libtest_mimic::Trial;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::task::{Poll, Waker};

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_document_has_the_rows_of_one_moment_however_the_table_changes_while_it_is_read),
        promise(pages_and_the_events_after_the_first_page_give_the_whole_table),
        promise(a_document_of_a_table_that_changes_too_much_is_cut_off),
        promise(the_tag_of_a_document_changes_with_its_rows_alone),
        promise(pages_end_where_a_daemon_lacks_rows_that_the_first_page_promises),
        on_broker(
            Version::V4_4,
            a_table_stream_answers_its_table_and_a_client_goes_on_from_its_position,
        ),
        on_broker(
            Version::V4_4,
            a_stream_is_read_as_lines_and_resumed_from_any_of_them,
        ),
        promise(parameters_of_another_form_are_refused),
    ]
}

/// A step of a schedule.
#[derive(Debug, Clone)]
enum Step {
    /// A batch of updates and deletes, by key.
    Write(Vec<(u8, bool)>),
    /// Some bytes of the document are read.
    Read(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = prop::collection::vec((0..12_u8, prop::bool::weighted(0.8)), 1..6).prop_map(Step::Write);
    let step = prop_oneof![write, (1..200_usize).prop_map(Step::Read)];
    prop::collection::vec(step, 0..40)
}

/// A stream with a table, and what is in it.
struct Model {
    rig: Rig,
    /// By key: the number of the update, and the value.
    rows: BTreeMap<String, (usize, String)>,
    written: usize,
}

impl Model {
    fn new(change: impl FnOnce(&mut StreamSettings)) -> Self {
        let rig = Rig::with(&[3], false, |settings| {
            settings.start = Start::Snapshot;
            settings.key_field = Some("id".to_owned());
            settings.delete_retention = Span::seconds(1_000_000);
            change(settings);
        });
        Self {
            rig,
            rows: BTreeMap::new(),
            written: 0,
        }
    }

    fn write(&mut self, batch: &[(u8, bool)]) {
        let mut records = Vec::new();
        for &(key, is_update) in batch {
            let name = format!("k{key}");
            let partition = u32::from(key % 3);
            self.written += 1;
            if is_update {
                let value = json!({ "n": self.written, "odd": self.written % 2 }).to_string();
                records.push(rec(&name, value.as_str()).partition(partition));
                let shown = value.replace('}', &format!(",\"id\":\"{name}\"}}"));
                self.rows.insert(name, (self.written, shown));
            } else {
                records.push(tombstone(&name).partition(partition));
                self.rows.remove(&name);
            }
        }
        self.rig.records(&records);
    }

    /// The rows in the order of their last update.
    fn sorted(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.rows.values().cloned().collect();
        rows.sort();
        rows.into_iter().map(|(_, value)| value).collect()
    }

    fn document(
        &self,
        terms: &[(&str, &str)],
        after: Option<(Position, &Position)>,
        limit: Option<usize>,
    ) -> Document {
        let filter = filter(terms, &self.rig.stream.settings().topics).expect("a filter");
        let opening = Opening {
            filter: Some(filter),
            ..Opening::default()
        };
        let document = self.rig.stream.document(&opening, after, limit);
        document.expect("a position of this stream").expect("loaded")
    }
}

/// The id of a document's moment.
fn id(document: &Document) -> String {
    match document.poll_id(Waker::noop()) {
        Poll::Ready(id) => String::from_utf8(id.to_vec()).expect("text"),
        Poll::Pending => panic!("no batch is being written"),
    }
}

/// Reads on, until about so many bytes.
fn read(document: &mut Document, limit: usize, rows: &mut Vec<String>) -> Rows {
    let mut scratch = Vec::new();
    document.read(limit, |frame| {
        let data = kafka_sse_bridge::sse::write::payload(frame, &mut scratch);
        rows.push(String::from_utf8(data.to_vec()).expect("text"));
    })
}

fn read_all(document: &mut Document) -> (Vec<String>, Option<Position>) {
    let mut rows = Vec::new();
    loop {
        match read(document, 50, &mut rows) {
            Rows::More => {}
            Rows::Last(next) => return (rows, next.map(|id| Position::parse(&id).expect("a position"))),
            Rows::Void => panic!("little has changed"),
        }
    }
}

fn a_document_has_the_rows_of_one_moment_however_the_table_changes_while_it_is_read() {
    proptest!(|(before in steps(), during in steps(), odd in any::<bool>(), max_keys in 3..20_u64)| {
        let mut model = Model::new(|settings| {
            settings.max_keys = max_keys;
            settings.when_full = WhenFull::EvictOldest;
        });
        for step in &before {
            if let Step::Write(batch) = step {
                model.write(batch);
            }
        }
        // Which rows were evicted, the table knows.
        let (kept, _) = read_all(&mut model.document(&[], None, None));
        let all = model.sorted();
        prop_assert!(kept.iter().all(|row| all.contains(row)));
        if max_keys > 12 {
            prop_assert_eq!(&kept, &all);
        }
        let terms: &[(&str, &str)] = if odd { &[("value.odd", "1")] } else { &[] };
        let expected: Vec<String> = kept.into_iter().filter(|row| !odd || row.contains("\"odd\":1")).collect();
        let mut document = model.document(terms, None, None);
        let mut rows = Vec::new();
        for step in &during {
            match step {
                Step::Write(batch) => model.write(batch),
                Step::Read(limit) => match read(&mut document, *limit, &mut rows) {
                    Rows::More => {}
                    Rows::Last(next) => {
                        prop_assert_eq!(next, None);
                        prop_assert_eq!(&rows, &expected);
                        return Ok(());
                    }
                    Rows::Void => panic!("little has changed"),
                },
            }
        }
        rows.extend(read_all(&mut document).0);
        prop_assert_eq!(rows, expected);
    });
}

fn pages_and_the_events_after_the_first_page_give_the_whole_table() {
    proptest!(|(before in steps(), during in steps(), limit in 1..5_usize)| {
        let mut model = Model::new(|_| {});
        for step in &before {
            if let Step::Write(batch) = step {
                model.write(batch);
            }
        }
        let mut document = model.document(&[], None, Some(limit));
        let first = id(&document);
        let mut browser = BTreeMap::new();
        let mut during = during.iter();
        loop {
            let (rows, next) = read_all(&mut document);
            prop_assert!(rows.len() <= limit);
            prop_assert!(rows.len() == limit || next.is_none());
            for row in rows {
                let key = serde_json::from_str::<Value>(&row).expect("JSON")["id"].as_str().expect("a key").to_owned();
                browser.insert(key, row);
            }
            let Some(next) = next else { break };
            if let Some(Step::Write(batch)) = during.next() {
                model.write(batch);
            }
            let first = Position::parse(first.as_bytes()).expect("a position");
            document = model.document(&[], Some((next, &first)), Some(limit));
        }
        apply(&mut browser, &model.rig.resume(&first, &[]).events());
        let rows: BTreeMap<String, String> = model.rows.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect();
        prop_assert_eq!(browser, rows);
    });
}

fn a_document_of_a_table_that_changes_too_much_is_cut_off() {
    let mut model = Model::new(|settings| settings.max_table_bytes = Size::mebibytes(1));
    let large = |number: usize| Rec {
        value: Some(
            json!({ "n": number, "fill": "x".repeat(20_000) })
                .to_string()
                .into(),
        ),
        ..rec(&format!("k{number}"), "")
    };
    let all: Vec<Rec> = (0..20).map(large).collect();
    model.rig.records(&all);
    let mut document = model.document(&[], None, None);
    let mut rows = Vec::new();
    assert_eq!(read(&mut document, 1, &mut rows), Rows::More);
    // A sixteenth of the table holds two of the rows that are replaced.
    model.rig.records(&all[10..12]);
    assert_eq!(read(&mut document, 1, &mut rows), Rows::More);
    model.rig.records(&all[12..]);
    assert_eq!(read(&mut document, 1, &mut rows), Rows::Void);
    assert_eq!(model.rig.stream.counters().cut_documents.get(), 1);
    let mut document = model.document(&[], None, None);
    model.rig.recreate(0, 3);
    assert_eq!(read(&mut document, 1, &mut rows), Rows::Void, "its topic is gone");
}

fn the_tag_of_a_document_changes_with_its_rows_alone() {
    let mut model = Model::new(|settings| settings.when_full = WhenFull::EvictOldest);
    model.write(&[(1, true), (2, true), (3, true), (4, true), (1, false)]);
    let (position, rows) = {
        let document = model.document(&[], None, None);
        (id(&document), document.fingerprint())
    };
    let replica = Model {
        rig: model.rig.other(Start::Snapshot),
        rows: BTreeMap::new(),
        written: 0,
    };
    assert_eq!(replica.document(&[], None, None).fingerprint(), rows);
    // Lower bounds evict rows, while the position stays.
    let before = model.rig.stream.live_settings();
    let mut settings = LiveSettings { ..*before };
    settings.bounds.keys = 2;
    model.rig.stream.apply(settings);
    while model.rig.writer.tidy() {}
    let document = model.document(&[], None, None);
    assert_eq!(id(&document), position);
    assert_ne!(document.fingerprint(), rows);
}

fn pages_end_where_a_daemon_lacks_rows_that_the_first_page_promises() {
    let mut model = Model::new(|_| {});
    model.write(&[(0, true), (3, true)]);
    let behind = model.rig.other(Start::Snapshot);
    model.write(&[(6, true), (9, true)]);
    let mut page = model.document(&[], None, Some(1));
    let first = Position::parse(id(&page).as_bytes()).expect("a position");
    let (_, next) = read_all(&mut page);
    let next = next.expect("another page");
    let after = || Some((next.clone(), &first));
    // A client that resumes at the first page's position would never get the rows that are missing there.
    assert!(matches!(
        behind.stream.document(&Opening::default(), after(), None),
        Ok(None)
    ));
    let replica = model.rig.other(Start::Snapshot);
    let document = replica.stream.document(&Opening::default(), after(), None);
    let (rows, _) = read_all(&mut document.expect("a position of this stream").expect("loaded"));
    assert_eq!(rows, model.sorted()[1..]);
    // Kafka loses records that the first page has seen.
    model.rig.truncate(0, 1, None, None);
    assert!(
        model
            .rig
            .stream
            .document(&Opening::default(), after(), None)
            .is_err()
    );
}

/// A table of countries at `/events`.
fn countries(broker: &Broker, format: &str) -> (Daemon, String) {
    let topic = topic_name("countries");
    broker.create_topic(&topic, 2, &[]);
    let settings = format!("start = \"snapshot\"\nkey_field = \"code\"\n{format}");
    broker.produce(
        &topic,
        &[
            Message::new("NL", r#"{"name":"Netherlands"}"#),
            Message::new("DE", r#"{"name":"Germany"}"#),
            Message::new("BE", "{\"name\":\n\"Belgium\"}"),
            Message::tombstone("DE"),
        ],
    );
    let daemon = Daemon::start(&config(broker, &[&topic], &settings));
    block_on(daemon.wait_ready(secs(60)));
    (daemon, topic)
}

fn names(document: &Value) -> Vec<&str> {
    let rows = document["rows"].as_array().expect("rows");
    let mut names: Vec<&str> = rows.iter().filter_map(|row| row["code"].as_str()).collect();
    names.sort_unstable();
    names
}

fn a_table_stream_answers_its_table_and_a_client_goes_on_from_its_position(broker: &Broker) {
    let (daemon, topic) = countries(broker, "");
    let url = daemon.url("/events");
    block_on(async {
        let accept = ("accept", "application/json");
        let answer = get(&url, &[accept]).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/json"))
        );
        assert_eq!(answer.header("vary"), Some("accept, accept-encoding"));
        let document = answer.json();
        assert_eq!(names(&document), ["BE", "NL"]);
        assert!(
            document["rows"]
                .as_array()
                .is_some_and(|rows| rows.contains(&json!({"name": "Belgium", "code": "BE"})))
        );
        let etag = answer.header("etag").expect("a tag").to_owned();
        let unchanged = get(&url, &[accept, ("if-none-match", &etag)]).await;
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
        let head = request(reqwest::Method::HEAD, &format!("{url}?format=json"), &[])
            .await
            .expect("an answer");
        assert_eq!((head.status, head.header("etag")), (200, Some(&*etag)));
        let packed = get(&format!("{url}?format=json"), &[("accept-encoding", "gzip")]).await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(unpacked(&packed)["rows"], document["rows"]);
        assert_eq!(
            names(&get(&format!("{url}?key=NL"), &[accept]).await.json()),
            ["NL"]
        );
        let page = get(&format!("{url}?limit=1"), &[accept]).await.json();
        let next = page["next"].as_str().expect("a next page");
        let rest = get(&format!("{url}?limit=5&after={next}"), &[accept])
            .await
            .json();
        assert_eq!((names(&rest).len(), rest.get("next")), (1, None));
        assert_eq!(rest["position"], page["position"]);
        // The events after the document, and nothing else.
        broker.produce(&topic, &[Message::new("FR", r#"{"name":"France"}"#)]);
        let position = document["position"].as_str().expect("an id");
        let mut events = Connection::to(format!("{url}?lastEventId={position}"))
            .send()
            .await
            .expect("a stream");
        let event = events.next(secs(30)).await;
        assert_eq!(
            (event.name.as_str(), json(&event)["code"].as_str()),
            ("message", Some("FR"))
        );
        let changed = get(&url, &[accept, ("if-none-match", &etag)]).await;
        assert_eq!(
            (changed.status, names(&changed.json())),
            (200, vec!["BE", "FR", "NL"])
        );
    });
}

fn unpacked(answer: &Response) -> Value {
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&*answer.body);
    decoder.read_to_string(&mut text).expect("gzip");
    serde_json::from_str(&text).expect("JSON")
}

/// The lines of a response that ends.
fn lines(answer: &Response) -> Vec<Value> {
    let text = answer.text();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn a_stream_is_read_as_lines_and_resumed_from_any_of_them(broker: &Broker) {
    let (daemon, topic) = countries(broker, "log_bytes = \"1 MiB\"");
    let url = daemon.url("/events");
    block_on(async {
        let answer = get(
            &format!("{url}?follow=false"),
            &[("accept", "application/x-ndjson")],
        )
        .await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/x-ndjson"))
        );
        let snapshot = lines(&answer);
        let events: Vec<&str> = snapshot
            .iter()
            .filter_map(|line| line["event"].as_str())
            .collect();
        assert_eq!(events, ["message", "message", "caught-up"]);
        assert!(
            snapshot
                .iter()
                .any(|line| line["data"] == json!({"name": "Belgium", "code": "BE"}))
        );
        broker.produce(
            &topic,
            &[
                Message::new("FR", r#"{"name":"France"}"#),
                Message::tombstone("NL"),
            ],
        );
        let id = snapshot[2]["id"].as_str().expect("an id");
        eventually_async(secs(30), "both changes are in the table", async || {
            let document = get(&format!("{url}?format=json"), &[]).await.json();
            ensure(names(&document) == ["BE", "FR"], document.to_string())
        })
        .await;
        let answer = get(&format!("{url}?format=ndjson&follow=false&lastEventId={id}"), &[]).await;
        let mut changes: Vec<(String, Value)> = lines(&answer)
            .iter()
            .map(|line| {
                (
                    line["event"].as_str().expect("a name").to_owned(),
                    line["data"]["code"].clone(),
                )
            })
            .collect();
        changes.sort_by_key(|(event, _)| event.clone());
        let expected = [
            ("caught-up", Value::Null),
            ("delete", json!("NL")),
            ("message", json!("FR")),
        ];
        assert_eq!(changes, expected.map(|(event, code)| (event.to_owned(), code)));
    });
}

fn parameters_of_another_form_are_refused() {
    let daemon = Daemon::start(&crate::limits::config_of(""));
    block_on(async {
        for (query, code) in [
            ("format=xml", "bad_format"),
            ("format=json", "bad_format"),
            ("format=ndjson&format=ndjson", "bad_format"),
            ("follow=false", "bad_follow"),
            ("format=ndjson&follow=no", "bad_follow"),
            ("limit=5", "bad_limit"),
            ("format=ndjson&limit=5", "bad_limit"),
            ("limit=0", "bad_limit"),
            ("after=x", "bad_after"),
        ] {
            let answer = get(&daemon.url(&format!("/events?{query}")), &[]).await;
            assert_eq!(answer.status, 400, "{query}");
            assert_eq!(answer.json()["error"]["code"], json!(code), "{query}");
        }
    });
    let daemon =
        Daemon::start(&crate::limits::config_of("").replace("topics", "start = \"snapshot\"\ntopics"));
    block_on(async {
        for parameter in ["start=live", "since=1m", "throttle=1s"] {
            let answer = get(&daemon.url(&format!("/events?format=json&{parameter}")), &[]).await;
            assert_eq!(answer.json()["error"]["code"], json!("bad_format"), "{parameter}");
        }
    });
}
