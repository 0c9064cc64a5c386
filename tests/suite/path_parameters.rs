//! Paths with parameters: each request gets what its path selects, and nothing in it selects more.

use crate::common::{config, named, records};
use crate::configuration::complains;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, promise};
use crate::limits::config_of;
use crate::rig::{Client, Rec, Rig, filter, rec, tombstone};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kafka_sse_bridge::config::path_parameters::{MAX_VALUE_BYTES, PathTemplate, PathValues};
use kafka_sse_bridge::config::{DataFormat, Start, StreamSettings};
use kafka_sse_bridge::stream::document::Rows;
use kafka_sse_bridge::stream::filter_index::OverLimit;
use kafka_sse_bridge::stream::start_position::Opening;
use libtest_mimic::Trial;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(each_client_gets_the_records_that_its_path_selects),
        promise(a_document_has_the_rows_that_its_path_selects),
        promise(a_text_beside_a_parameter_selects_for_every_client),
        promise(a_query_narrows_what_a_path_selects),
        promise(a_json_key_is_selected_by_its_text_alone),
        promise(a_client_without_values_gets_nothing),
        promise(filters_by_path_count_towards_the_limits_of_filters),
        promise(a_rebuilt_stream_selects_by_the_path_anew),
        promise(nothing_in_a_path_or_query_widens_what_a_path_selects),
        promise(values_that_could_mean_another_path_are_refused),
        promise(a_literal_path_takes_precedence_however_it_is_escaped),
        promise(paths_with_parameters_are_shown_as_templates_and_values_are_not_logged),
        promise(a_path_with_parameters_is_served_below_a_base_path_to_other_origins),
        promise(errors_for_path_parameters_name_line_key_and_remedy),
        promise(paths_that_match_the_same_requests_are_refused),
        on_broker(Version::V4_4, a_browser_reads_only_the_records_of_its_path),
    ]
}

const PATH: &str = "/users/{id}/orders";

/// Serves [`PATH`] with this filter.
fn by(settings: &mut StreamSettings, terms: &[(&str, &str)]) {
    PATH.clone_into(&mut settings.path);
    for (name, value) in terms {
        let values = settings.filter.entry((*name).to_owned()).or_default();
        values.push((*value).to_owned());
    }
}

/// The values of a request for [`PATH`].
fn values(id: &str) -> PathValues {
    let template = PathTemplate::parse(PATH).expect("a path").expect("parameters");
    let values = template.values(&format!("/users/{id}/orders"));
    values.expect("it matches").expect("a value")
}

fn opening(rig: &Rig, id: &str, terms: &[(&str, &str)]) -> Opening {
    Opening {
        path_values: Some(values(id)),
        filter: Some(filter(terms, &rig.stream.settings().topics).expect("a filter")),
        ..Opening::default()
    }
}

fn client(rig: &Rig, id: &str) -> Client {
    rig.open(opening(rig, id, &[]))
}

/// A record of an owner, by key, header and value.
fn owned(owner: &str, number: u32) -> Rec {
    let value = json!({ "owner": owner, "n": number });
    rec(owner, value.to_string()).header("owner", owner)
}

/// The numbers of the records among what a client is shown, and `-1` for a delete.
fn numbers(client: &mut Client) -> Vec<i64> {
    let events = client.events();
    let shown = events
        .iter()
        .filter(|event| event.is("message") || event.is("delete"));
    let number = |event: &crate::harness::sse::Event| event.json()["n"].as_i64().unwrap_or(-1);
    shown.map(number).collect()
}

fn each_client_gets_the_records_that_its_path_selects() {
    for name in ["key", "header.owner", "value.owner"] {
        for start in [Start::Earliest, Start::Snapshot] {
            let mut rig = Rig::with(&[1], true, |settings| {
                settings.start = start;
                settings.client_filters = false;
                by(settings, &[(name, "{id}")]);
            });
            let mut live = [client(&rig, "a"), client(&rig, "b"), client(&rig, "c")];
            for client in &mut live {
                client.items();
            }
            rig.records(&[owned("a", 1), owned("b", 2), owned("b", 3), owned("x", 4)]);
            let [a, b, c] = &mut live;
            let (of_a, of_b) = (numbers(a), numbers(b));
            assert_eq!((of_a, numbers(c)), (vec![1], vec![]), "{name} {start:?}");
            assert_eq!(of_b.last(), Some(&3), "{name} {start:?}");
            // The same from the log and the table, and for a client that resumes.
            assert_eq!(numbers(&mut client(&rig, "a")), [1], "{name} {start:?}");
            let mut late = client(&rig, "b");
            assert_eq!(numbers(&mut late).last(), Some(&3), "{name} {start:?}");
            let back = |client: &Client, id: &str| {
                rig.open(Opening {
                    last_event_id: Some(client.last_event_id().to_owned()),
                    ..opening(&rig, id, &[])
                })
            };
            assert_eq!(numbers(&mut back(&late, "b")), [0; 0], "{name} {start:?}");
            let mut returned = back(&late, "b");
            returned.items();
            rig.records(&[owned("b", 5), owned("a", 6), tombstone("b")]);
            let deletes = start == Start::Snapshot || name == "key";
            let expected: &[i64] = if deletes { &[5, -1] } else { &[5] };
            assert_eq!(numbers(&mut late), expected, "{name} {start:?}");
            assert_eq!(numbers(&mut returned), expected, "{name} {start:?}");
            assert_eq!(
                rig.stream.counters().hidden.get(),
                0,
                "no filter applies to all clients"
            );
        }
    }
}

fn a_document_has_the_rows_that_its_path_selects() {
    let mut rig = Rig::ready(|settings| {
        settings.start = Start::Snapshot;
        by(settings, &[("key", "{id}"), ("key", "all")]);
    });
    rig.records(&[owned("a", 1), owned("b", 2), owned("all", 3)]);
    let rows = |opening: &Opening| {
        let document = rig.stream.document(opening, None, None);
        let mut document = document.expect("no position").expect("loaded");
        let mut rows = 0;
        while document.read(usize::MAX, |_| rows += 1) == Rows::More {}
        rows
    };
    assert_eq!(rows(&opening(&rig, "a", &[])), 2);
    assert_eq!(rows(&opening(&rig, "a", &[("key", "b")])), 0);
    assert_eq!(rows(&Opening::default()), 0);
}

fn a_text_beside_a_parameter_selects_for_every_client() {
    let mut rig = Rig::ready(|settings| {
        settings.start = Start::Earliest;
        by(
            settings,
            &[
                ("key", "{id}"),
                ("key", "all"),
                ("value.owner", "a"),
                ("value.owner", "{{id}}"),
                ("value.owner", "all"),
            ],
        );
    });
    rig.records(&[owned("a", 1), owned("b", 2), owned("all", 3), owned("{id}", 4)]);
    assert_eq!(numbers(&mut client(&rig, "a")), [1, 3]);
    assert_eq!(
        numbers(&mut client(&rig, "b")),
        [3],
        "the fixed terms hide it from all"
    );
    assert_eq!(numbers(&mut client(&rig, "{id}")), [3, 4]);
    assert_eq!(rig.stream.counters().hidden.get(), 1);
}

fn a_query_narrows_what_a_path_selects() {
    for start in [Start::Earliest, Start::Snapshot] {
        let mut rig = Rig::ready(|settings| {
            settings.start = start;
            by(settings, &[("key", "{id}"), ("key", "all")]);
        });
        rig.records(&[owned("a", 1), owned("b", 2), owned("all", 3)]);
        for (terms, expected) in [
            (&[("key", "a")][..], &[1][..]),
            (&[("key", "base64:YQ")], &[1]),
            (&[("key", "b")], &[]),
            (&[("key", "b"), ("key", "all")], &[3]),
            (&[("value.n", "3"), ("value.n", "2")], &[3]),
            (&[("header.owner", "b")], &[]),
        ] {
            let mut client = rig.open(opening(&rig, "a", terms));
            assert_eq!(numbers(&mut client), expected, "{start:?} {terms:?}");
        }
        let mut both = Rig::ready(|settings| {
            settings.start = start;
            by(settings, &[("header.h", "{id}")]);
        });
        both.records(&[
            owned("x", 1).header("h", "a").header("h", "b"),
            owned("y", 2).header("h", "b"),
            owned("z", 3).header("h", "a"),
        ]);
        let mut client = both.open(opening(&both, "a", &[("header.h", "b")]));
        assert_eq!(
            numbers(&mut client),
            [1],
            "a record has several values of a header"
        );
    }
}

fn a_json_key_is_selected_by_its_text_alone() {
    let mut rig = Rig::ready(|settings| {
        settings.start = Start::Earliest;
        settings.key_format = DataFormat::Json;
        by(settings, &[("key", "{id}")]);
    });
    // The second is how a filter writes the first.
    let encoded = format!("base64:{}", STANDARD.encode("base64:NDI="));
    let keys = [
        r#""base64:NDI=""#.to_owned(),
        format!("\"{encoded}\""),
        "42".to_owned(),
    ];
    let records = (0..)
        .zip(&keys)
        .map(|(number, key)| rec(key, json!({ "n": number }).to_string()));
    rig.records(&records.collect::<Vec<_>>());
    assert_eq!(numbers(&mut client(&rig, "base64:NDI=")), [0]);
    assert_eq!(numbers(&mut client(&rig, &encoded)), [1]);
    assert_eq!(numbers(&mut client(&rig, "42")), [2]);
}

fn a_client_without_values_gets_nothing() {
    let mut rig = Rig::ready(|settings| {
        settings.start = Start::Earliest;
        by(settings, &[("key", "{id}")]);
    });
    rig.records(&[owned("a", 1)]);
    assert_eq!(numbers(&mut rig.client(&[])), [0; 0]);
    assert_eq!(numbers(&mut rig.client(&[("key", "a")])), [0; 0]);
}

fn filters_by_path_count_towards_the_limits_of_filters() {
    let rig = Rig::ready(|settings| {
        settings.max_filter_paths = 2;
        by(settings, &[("value.owner", "{id}"), ("header.owner", "{id}")]);
    });
    let mut open = Vec::new();
    for id in ["a", "b", "c"] {
        open.push(
            rig.stream
                .admit(opening(&rig, id, &[]))
                .expect("the names are shared"),
        );
    }
    let figures = rig.stream.filters();
    assert_eq!((figures.filters, figures.paths), (3, 2));
    let (limit, _) = rig
        .stream
        .admit(opening(&rig, "a", &[("value.n", "1")]))
        .expect_err("a third name");
    assert_eq!(limit, OverLimit::Paths);
    drop(open);
    assert_eq!(rig.stream.filters().filters, 0);
    let unindexed = Rig::with(&[1, 1], false, |settings| {
        settings.max_unindexed_filters = 1;
        by(settings, &[("topic", "{id}")]);
    });
    let open = unindexed
        .stream
        .admit(opening(&unindexed, "t", &[]))
        .expect("one");
    let (limit, _) = unindexed
        .stream
        .admit(opening(&unindexed, "u", &[]))
        .expect_err("another one");
    assert_eq!(limit, OverLimit::Unindexed);
    drop(open);
}

fn a_rebuilt_stream_selects_by_the_path_anew() {
    let old = Rig::ready(|settings| {
        settings.start = Start::Earliest;
        by(settings, &[("header.tenant", "{id}")]);
    });
    let mut moved = old.open(opening(
        &old,
        "a",
        &[("value.n", "1"), ("value.n", "2"), ("value.n", "3")],
    ));
    moved.items();
    let mut new = Rig::ready(|settings| {
        settings.start = Start::Earliest;
        by(settings, &[("key", "{id}")]);
    });
    new.records(&[owned("a", 1), owned("b", 2).header("tenant", "a"), owned("a", 4)]);
    old.stream.succeed(&new.stream);
    assert_eq!(
        numbers(&mut moved),
        [1],
        "by the new filter, and still by its query"
    );
    new.records(&[owned("b", 3).header("tenant", "a"), owned("a", 2)]);
    assert_eq!(numbers(&mut moved), [2]);
}

/// A segment of a path: characters and escapes, among them all that mean something in a path, a query or a filter.
fn segment() -> impl Strategy<Value = String> {
    let plain = select(vec![
        "4",
        "2",
        "42",
        "43",
        "a",
        "base64:",
        "base64:NDI=",
        "{id}",
        "{",
        "}",
        "*",
        "+",
        "&key=43",
        "?",
        "#",
        ";",
        ",",
        "|",
        "\\",
        "\"",
        "..",
        ".",
        "%",
        "%2",
        "%2F",
        "%2f..%2f43",
        "%2e",
        "%00",
        "%0A",
        "%25",
        "%252F",
        "%C3%A9",
        "%ff",
        "%26key%3D43",
        "é",
        "null",
        "true",
        "/",
        "//",
    ]);
    let escape = any::<u8>().prop_map(|byte| format!("%{byte:02X}"));
    let any_character = any::<char>().prop_map(String::from);
    let part = prop_oneof![4 => plain.prop_map(str::to_owned), 2 => escape, 1 => any_character];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

/// Decodes escapes, by the words of RFC 3986 alone.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| *first == b'%' && !tail.starts_with(b"+")) {
            Some(byte) => (out.push(byte), rest = &tail[2..]),
            None => (out.push(*first), rest = tail),
        };
    }
    out
}

fn nothing_in_a_path_or_query_widens_what_a_path_selects() {
    let names = ["key", "header.owner", "value.owner"];
    let term = (select(names.to_vec()), any::<Index>());
    let terms = prop::collection::vec(term, 0..3);
    let case = (segment(), select(names.to_vec()), terms, any::<bool>());
    let mut runner = TestRunner::new(Config {
        cases: 400,
        source_file: Some(file!()),
        ..Config::default()
    });
    let outcome = runner.run(&case, |(segment, name, terms, has_table)| {
        let template = PathTemplate::parse(PATH).expect("a path").expect("parameters");
        let Some(Ok(values)) = template.values(&format!("/users/{segment}/orders")) else {
            return Ok(());
        };
        let bytes = unescaped(&segment);
        let wanted = String::from_utf8(bytes).expect("another value is refused");
        prop_assert!(!wanted.is_empty() && wanted.len() <= MAX_VALUE_BYTES);
        prop_assert!(!wanted.contains('/') && wanted != "." && wanted != "..");
        prop_assert_eq!(values.iter().collect::<Vec<_>>(), [wanted.as_str()]);
        let mut owners = vec![
            wanted.clone(),
            segment,
            String::new(),
            format!("base64:{wanted}"),
            wanted.to_lowercase(),
        ];
        owners.extend(["42", "43", "base64:NDI=", "{id}", "*", "null"].map(str::to_owned));
        owners.sort();
        owners.dedup();
        let start = if has_table {
            Start::Snapshot
        } else {
            Start::Earliest
        };
        let rigs = [true, false].map(|is_by_path| {
            let mut rig = Rig::ready(|settings| {
                settings.start = start;
                if is_by_path {
                    by(settings, &[(name, "{id}")]);
                }
            });
            let records = (0..).zip(&owners).map(|(number, owner)| owned(owner, number));
            rig.records(&records.collect::<Vec<_>>());
            rig
        });
        // A term that is no filter, such as broken base64, is refused before a stream opens.
        let terms: Vec<(&str, &str)> = terms
            .iter()
            .map(|(name, owner)| (*name, owner.get(&owners).as_str()))
            .filter(|term| filter(&[*term], &[]).is_ok())
            .collect();
        let of = |rig: &Rig, path_values: Option<PathValues>| {
            let asked = filter(&terms, &rig.stream.settings().topics).expect("a filter");
            numbers(&mut rig.open(Opening {
                path_values,
                filter: Some(asked),
                ..Opening::default()
            }))
        };
        let by_path = of(&rigs[0], Some(values));
        let of_owner = |number: &i64| owners[usize::try_from(*number).expect("no delete")] == wanted;
        let by_query: Vec<i64> = of(&rigs[1], None).into_iter().filter(of_owner).collect();
        prop_assert_eq!(by_path, by_query);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The status of a request whose target is sent as it is, and the body unless it is a stream.
fn raw(daemon: &Daemon, target: &str) -> (u16, Value) {
    let request = |method: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", daemon.port())).expect("a connection");
        socket.set_read_timeout(Some(secs(20))).expect("a timeout");
        let head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).expect("written");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let head = request("HEAD");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{head}"));
    if status == 200 {
        return (status, Value::Null);
    }
    let answer = request("GET");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// A daemon without Kafka that serves these paths, each by key.
fn daemon(http: &str, paths: &[&str]) -> Daemon {
    let streams = paths.iter().map(|path| {
        let is_literal = !path.contains('{');
        let filter = if is_literal {
            ""
        } else {
            "filter = { key = [\"{id}\"] }\n"
        };
        format!("[[stream]]\npath = \"{path}\"\ntopics = [\"t\"]\nclient_filters = false\n{filter}")
    });
    Daemon::start(&format!("{}{}", config_of(http), streams.collect::<String>()))
}

fn values_that_could_mean_another_path_are_refused() {
    let daemon = daemon("", &[PATH]);
    let long = "x".repeat(MAX_VALUE_BYTES);
    for id in [
        "42",
        "base64:NDI=",
        "a%20b",
        "%C3%A9",
        "...",
        "%5C",
        "{id}",
        "a;b",
        &long,
    ] {
        assert_eq!(raw(&daemon, &format!("/users/{id}/orders")).0, 200, "{id}");
        assert_eq!(
            raw(&daemon, &format!("//users///{id}/orders?start=live")).0,
            200,
            "{id}"
        );
    }
    for (id, why) in [
        ("%ff", "not UTF-8"),
        ("%zz", "begins no escape"),
        ("%2f", "encoded slash"),
        ("42%2F..%2F43", "encoded slash"),
        ("..", "dot segment"),
        ("%2E%2e", "dot segment"),
        (&format!("{long}x"), "longer than 256 bytes"),
    ] {
        let (status, body) = raw(&daemon, &format!("/users/{id}/orders"));
        let error = &body["error"];
        assert_eq!(
            (status, &error["code"], &error["parameter"]),
            (400, &json!("bad_path_parameter"), &json!("id")),
            "{id}"
        );
        let message = error["message"].as_str().expect("text");
        assert!(message.contains(why), "{message}");
    }
    for target in [
        "/users/orders",
        "/users//orders",
        "/users/42/../orders",
        "/users/42/43/orders",
        "/users/../users/42/orders",
    ] {
        assert_eq!(raw(&daemon, target).0, 404, "{target}");
    }
    // A query cannot add to it, even where a stream allows filters.
    let (status, body) = raw(&daemon, "/users/42/orders?key=43");
    assert_eq!(
        (status, &body["error"]["code"]),
        (403, &json!("filters_forbidden"))
    );
}

fn a_literal_path_takes_precedence_however_it_is_escaped() {
    let daemon = daemon("", &["/users/{id}", "/users/me", PATH]);
    let hint = |target: &str| {
        let (status, body) = raw(&daemon, target);
        assert_eq!(status, 404, "{target}: {body}");
        body["error"]["message"].as_str().expect("text").to_owned()
    };
    assert_eq!(raw(&daemon, "/users/me").0, 200);
    assert_eq!(
        raw(&daemon, "/users/me?key=x").1["error"]["message"],
        json!("this stream does not allow client filters; remove \"key\"")
    );
    assert_eq!(raw(&daemon, "/users/you").0, 200);
    for target in ["/users/%6de", "/users/%6D%65"] {
        assert!(hint(target).contains("did you mean /users/me?"), "{target}");
    }
    for (target, meant) in [
        ("/users/42/orders/", "/users/42/orders"),
        ("/Users/42/Orders", "/users/42/orders"),
        ("/users/Zoë%20X/odrers", "/users/Zoë%20X/orders"),
        ("/%75sers/you", "/users/you"),
    ] {
        let said = hint(target);
        assert!(
            said.contains(&format!("did you mean {meant}?")),
            "{target}: {said}"
        );
    }
    assert!(!hint("/users/42/invoices").contains("did you mean"));
}

fn paths_with_parameters_are_shown_as_templates_and_values_are_not_logged() {
    let daemon = daemon("max_clients = 2\n[log]\nlevel = \"trace\"", &[PATH]);
    block_on(async {
        let one = Stream::open(daemon.url("/users/hush-1/orders")).await;
        let _other = Stream::open(daemon.url("/users/hush-2/orders")).await;
        assert_eq!(one.status, 200);
        let over = get(&daemon.url("/users/hush-3/orders"), &[]).await;
        assert_eq!(
            (over.status, over.json()["error"]["code"].clone()),
            (503, json!("too_many_clients"))
        );
        let streams = daemon.get("/streams").await.json();
        assert_eq!(streams["streams"][1]["path"], json!(PATH));
        assert_eq!(
            (
                &streams["streams"][1]["clients"],
                &streams["streams"][1]["filters"]["count"]
            ),
            (&json!(2), &json!(2))
        );
        let metrics = daemon.get("/metrics").await.text();
        assert!(metrics.contains(&format!("stream=\"{PATH}\"")), "{metrics}");
        let about = daemon.get("/about").await.text();
        assert!(
            about.contains(PATH) && !about.contains(&format!("href=\".{PATH}")),
            "{about}"
        );
        drop(one);
        daemon.wait_log(&format!("{PATH}: "), secs(20));
        let shown = [streams.to_string(), metrics, daemon.log()];
        assert!(shown.iter().all(|text| !text.contains("hush")), "{shown:?}");
    });
}

fn a_path_with_parameters_is_served_below_a_base_path_to_other_origins() {
    let http = "base_path = \"/live\"\n[http.cors]\nallow_origins = [\"https://a.example\"]";
    let daemon = daemon(http, &[PATH]);
    let origin = [("origin", "https://a.example")];
    block_on(async {
        let answer = get(&daemon.url("/live/users/%2e%2e%2f/orders"), &origin).await;
        assert_eq!(answer.status, 400);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://a.example")
        );
    });
    assert_eq!(raw(&daemon, "/live/users/42/orders").0, 200);
    let (status, body) = raw(&daemon, "/users/42/orders");
    let message = body["error"]["message"].as_str().expect("text");
    assert!(
        status == 404 && message.contains("did you mean /live/users/42/orders?"),
        "{message}"
    );
}

fn errors_for_path_parameters_name_line_key_and_remedy() {
    let stream =
        |path: &str, rest: &str| format!("[[stream]]\npath = \"{path}\"\ntopics = [\"t\"]\n{rest}\n");
    let by_key = "filter = { key = [\"{id}\"] }";
    for (path, rest, place, pieces) in [
        (
            "/u/x{id}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["not a whole part", "/users/{id}/orders"][..],
        ),
        (
            "/u/{1d}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["does not name a parameter", "underscores"],
        ),
        (
            "/u/{}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["does not name a parameter"],
        ),
        (
            "/u/{id}/{id}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["occurs twice"],
        ),
        (
            "/{id}/orders",
            by_key,
            "FILE:2: stream[0].path: ",
            &["serves itself", "/users/{id}"],
        ),
        (
            "/health/{id}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["\"/health\" is served by the daemon itself"],
        ),
        (
            "/u/{id}",
            "",
            "FILE:2: stream[0].path: ",
            &["no filter uses", "filter = { key = [\"{id}\"] }"],
        ),
        (
            "/u",
            by_key,
            "FILE:4: stream[0].filter.\"key\": ",
            &["not a parameter of the path \"/u\"", "\"{{id}}\""],
        ),
        (
            "/u/{id}",
            "filter = { key = [\"{id}\"], \"header.h\" = [\"u-{id}\"] }",
            "FILE:4: stream[0].filter.\"header.h\": ",
            &["beside other text", "[\"{id}\"]"],
        ),
        (
            "/u/{id}",
            "filter = { keys = [\"{id}\"] }",
            "FILE:4: stream[0].filter.\"keys\": ",
            &["is nothing to filter by"],
        ),
        (
            "/u/{id}",
            "filter = { key = [\"{id}\", \"base64:?\"] }",
            "FILE:4: stream[0].filter.\"key\": ",
            &["invalid base64"],
        ),
        (
            "/u/{id}",
            "max_filter_paths = 1\nfilter = { \"value.a\" = [\"{id}\"], \"header.b\" = [\"{id}\"] }",
            "FILE:4: stream[0].max_filter_paths: ",
            &["less than the 2 headers and values", "1000 is usual"],
        ),
    ] {
        complains(&stream(path, rest), place, pieces);
    }
}

fn paths_that_match_the_same_requests_are_refused() {
    for (one, other, said) in [
        (
            "/u/{id}",
            "/u/{name}",
            "\"/u/{id}\" and \"/u/{name}\" match the same requests",
        ),
        ("/u/{id}/x", "/u/me/{kind}", "give them different literal parts"),
        ("/u/{id}", "/u/{id}", "is served by another stream"),
    ] {
        let stream = |path: &str| {
            let name = path.split(['{', '}']).nth(1).expect("a parameter");
            format!(
                "[[stream]]\npath = \"{path}\"\ntopics = [\"t\"]\nfilter = {{ key = [\"{{{name}}}\"] }}\n"
            )
        };
        let text = format!("{}{}", stream(one), stream(other));
        complains(&text, "FILE:6: stream[1].path: ", &[said]);
    }
}

fn a_browser_reads_only_the_records_of_its_path(broker: &Broker) {
    let topic = topic_name("owned");
    broker.create_topic(&topic, 2, &[]);
    let message = |owner: &str, number: u32| {
        Message::new(owner, json!({ "owner": owner, "n": number }).to_string()).header("owner", owner)
    };
    let first: Vec<Message> = (0..12)
        .map(|number| message(["a/b", "c", "base64:Yw"][number as usize % 3], number))
        .collect();
    broker.produce(&topic, &first);
    let table = format!(
        "[[stream]]\npath = \"/owners/{{owner}}/{{key}}\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\n\
         filter = {{ \"header.owner\" = [\"{{owner}}\"], key = [\"{{key}}\"] }}\n"
    );
    let one = "start = \"earliest\"\ncheckpoint_interval = \"1s\"\nfilter = { \"value.owner\" = [\"{id}\"] }";
    let all = config(broker, &[&topic], one).replace("/events", "/by/{id}");
    let daemon = Daemon::start(&format!("{all}{table}"));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let numbers = |events: &[crate::harness::sse::Event]| -> Vec<i64> {
            let number = |data: String| {
                serde_json::from_str::<Value>(&data).expect("JSON")["n"]
                    .as_i64()
                    .expect("n")
            };
            records(events).into_iter().map(number).collect()
        };
        let mut c = Stream::open(daemon.url("/by/c")).await;
        let mut encoded = Stream::open(daemon.url("/by/base64%3AYw")).await;
        let mut row = Stream::open(daemon.url("/owners/c/c")).await;
        let mut nothing = Stream::open(daemon.url("/owners/c/base64:Yw")).await;
        for (stream, expected) in [
            (&mut c, &[1, 4, 7, 10][..]),
            (&mut encoded, &[2, 5, 8, 11]),
            (&mut row, &[10]),
            (&mut nothing, &[]),
        ] {
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            let mut shown = numbers(&events);
            shown.sort_unstable();
            assert_eq!(shown, expected);
        }
        for (path, count) in [("/owners/c/c", 1), ("/owners/c/base64:Yw", 0)] {
            let document = get(&daemon.url(&format!("{path}?format=json")), &[]).await.json();
            assert_eq!(document["rows"].as_array().map(Vec::len), Some(count), "{path}");
        }
        let id = c.last_event_id().to_owned();
        drop(c);
        broker.produce(
            &topic,
            &[
                message("c", 20),
                message("base64:Yw", 21),
                Message::tombstone("c"),
            ],
        );
        let mut back = Stream::open(daemon.url(&format!("/by/c?lastEventId={id}"))).await;
        let events = back.collect_until(named("caught-up"), secs(30)).await;
        assert_eq!(numbers(&events), [20]);
        let deleted = row.collect_until(named("delete"), secs(30)).await;
        assert_eq!(numbers(&deleted), [20]);
    });
}
