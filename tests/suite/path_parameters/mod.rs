//! Paths with parameters: each request gets what its path selects, and nothing in it selects more.

mod configured;
mod hostile;
mod served;

use crate::harness::promise;
use crate::rig::{Client, Rec, Rig, filter, rec, tombstone};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kafka_sse_bridge::config::path_parameters::{PathTemplate, PathValues};
use kafka_sse_bridge::config::{DataFormat, Start, StreamSettings};
use kafka_sse_bridge::stream::document::Rows;
use kafka_sse_bridge::stream::filter_index::OverLimit;
use kafka_sse_bridge::stream::start_position::Opening;
use libtest_mimic::Trial;
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        promise(each_client_gets_the_records_that_its_path_selects),
        promise(a_document_has_the_rows_that_its_path_selects),
        promise(a_text_beside_a_parameter_selects_for_every_client),
        promise(a_query_narrows_what_a_path_selects),
        promise(a_json_key_is_selected_by_its_text_alone),
        promise(a_client_without_values_gets_nothing),
        promise(filters_by_path_count_towards_the_limits_of_filters),
        promise(a_rebuilt_stream_selects_by_the_path_anew),
    ];
    trials.extend(hostile::trials());
    trials.extend(served::trials());
    trials.extend(configured::trials());
    trials
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
