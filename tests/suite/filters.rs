//! Filters: which records are for whom, step by step, without Kafka or sockets.

use crate::rig::{Rec, Rig, filter, rec};
use crate::trials;
use kafka_sse_bridge::config::filter::{FilterError, MAX_BYTES, MAX_PATH, MAX_TERMS};
use kafka_sse_bridge::config::{Format, Start, StreamSettings};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        a_scalar_is_compared_by_its_text,
        a_name_with_dots_matches_whole_before_it_is_a_path,
        a_payload_that_is_not_json_matches_no_path,
        a_payload_of_several_lines_is_searched_whole,
        a_filter_sees_the_value_as_it_is_sent,
        a_header_matches_by_any_of_its_values,
        keys_topics_and_partitions_match_separately,
        values_of_one_name_are_ored_and_names_are_anded,
        filters_are_bounded_and_equal_in_any_order,
        a_shared_filter_stays_until_its_last_client_leaves,
    ]
}

/// Whether a client with this filter is shown the record: live, from memory, through a table, and with
/// another reader of the same filter, always alike.
fn passes(change: impl Fn(&mut StreamSettings), terms: &[(&str, &str)], record: &Rec) -> bool {
    let mut answers = Vec::new();
    for start in [Start::Live, Start::Earliest, Start::Snapshot] {
        let mut rig = Rig::with(&[2, 2], false, |settings| {
            settings.start = start;
            change(settings);
        });
        let count = |shown: Vec<String>| shown.iter().filter(|said| !said.contains("filler")).count();
        if start == Start::Live {
            let mut live = rig.client(terms);
            live.items();
            rig.records(std::slice::from_ref(record));
            answers.push(count(live.shown()));
        } else if start == Start::Earliest || record.key.is_some() {
            // With others before and after: the right one must be found.
            let filler = rec("filler", "filler").topic(record.topic);
            rig.records(&[filler.clone(), record.clone(), filler]);
            answers.push(count(rig.client(terms).shown()));
        }
    }
    let shown = answers[0];
    assert!(
        shown <= 1 && answers.iter().all(|answer| *answer == shown),
        "{terms:?} {record:?}: {answers:?}"
    );
    shown == 1
}

/// Cases of a path, a text and whether it is found there, with a value.
fn look(change: impl Fn(&mut StreamSettings), value: &[u8], cases: &[(&str, &str, bool)]) {
    for (path, text, wanted) in cases {
        let name = format!("value.{path}");
        let passed = passes(&change, &[(&name, text)], &rec("k", value));
        assert_eq!(
            passed,
            *wanted,
            "{name}={text} in {}",
            String::from_utf8_lossy(value)
        );
    }
}

fn a_scalar_is_compared_by_its_text() {
    let both = |value: &str, cases: &[(&str, &str, bool)]| {
        look(|_| {}, value.as_bytes(), cases);
        look(
            |settings| settings.format = Format::Envelope,
            value.as_bytes(),
            cases,
        );
    };
    both(
        r#"{"a":1,"address":{"city":"Paris","zip":[75,"01"]},"tags":["x",{"y":"z"},null]}"#,
        &[
            ("a", "1", true),
            ("a", "1.0", false),
            ("address.city", "Paris", true),
            ("address.city", "paris", false),
            ("city", "Paris", false),
            ("address.zip.0", "75", true),
            ("address.zip.1", "01", true),
            ("address.zip.2", "01", false),
            ("address.zip.01", "01", false),
            ("address.zip.+1", "01", false),
            ("address.zip", "[75,\"01\"]", false),
            ("address", r#"{"city":"Paris","zip":[75,"01"]}"#, false),
            ("tags.0", "x", true),
            ("tags.1.y", "z", true),
            ("tags.2", "null", true),
            ("tags.x", "x", false),
            ("a.b", "1", false),
            ("missing", "null", false),
        ],
    );
    both(
        r#"{"a":1,"a":{"b":2},"a":3,"n":{"0":"zero"}}"#,
        &[
            ("a", "3", true),
            ("a", "1", false),
            ("a.b", "2", false),
            ("n.0", "zero", true),
        ],
    );
    both(
        r#"{"q":"say \"hi\"\n","u":"gr\u00fc\u00df","\u006b\u00ea":"\ud83d\ude00","bad":"\ud800","e":""}"#,
        &[
            ("q", "say \"hi\"\n", true),
            ("q", r#"say \"hi\"\n"#, false),
            ("u", "grüß", true),
            ("u", r"gr\u00fc\u00df", false),
            ("kê", "😀", true),
            ("bad", r"\ud800", false),
            ("bad", "\u{fffd}", false),
            ("e", "", true),
        ],
    );
    both(
        r#"{"f":1.50,"e":1e3,"z":-0,"t":true,"n":null,"s":"true","big":123456789012345678901}"#,
        &[
            ("f", "1.50", true),
            ("f", "1.5", false),
            ("e", "1e3", true),
            ("e", "1000", false),
            ("z", "-0", true),
            ("t", "true", true),
            ("s", "true", true),
            ("n", "null", true),
            ("n", "", false),
            ("big", "123456789012345678901", true),
        ],
    );
    both(
        r#"[{"größe":"ü"},2]"#,
        &[("0.größe", "ü", true), ("1", "2", true), ("2", "2", false)],
    );
}

fn a_name_with_dots_matches_whole_before_it_is_a_path() {
    let both = |value: &str, cases: &[(&str, &str, bool)]| {
        look(|_| {}, value.as_bytes(), cases);
        let envelope = |settings: &mut StreamSettings| settings.format = Format::Envelope;
        look(envelope, value.as_bytes(), cases);
        // Fixed filters have the same syntax.
        for (path, text, wanted) in cases {
            let fixed = |settings: &mut StreamSettings| {
                settings.filter = [(format!("value.{path}"), vec![(*text).to_owned()])].into();
            };
            assert_eq!(
                passes(fixed, &[], &rec("k", value)),
                *wanted,
                "fixed {path}={text}"
            );
        }
    };
    both(
        r#"{"log.level":"error","log":{"level":"info","a.b":{"c":1,"c.d":2}},"back\\slash":3}"#,
        &[
            ("log.level", "error", true),
            ("log.level", "info", false),
            (r"log\.level", "error", true),
            (r"log\.level", "info", false),
            ("log.a.b.c", "1", false),
            (r"log.a\.b.c", "1", true),
            (r"log.a\.b.c.d", "2", true),
            (r"log.a\.b.c\.d", "2", true),
            (r"back\\slash", "3", true),
        ],
    );
    both(
        r#"{"log":{"level":"info","x.y.z":"deep"}}"#,
        &[
            ("log.level", "info", true),
            (r"log\.level", "info", false),
            ("log.x.y.z", "deep", true),
        ],
    );
    // A value that is not a scalar does not match.
    both(
        r#"{"a.b":{"c":1},"a":{"b":2},"0.1":"x","1":["y"]}"#,
        &[("a.b", "2", true), ("0.1", "x", true), ("1.0", "y", true)],
    );
    both(
        r#"{"a.b":1,"a.b":[],"a":{"b":2}}"#,
        &[("a.b", "1", false), ("a.b", "2", true)],
    );
    let topics = ["t".to_owned()];
    for path in [r"value.a\b", r"value.a\"] {
        let refused = filter(&[(path, "x")], &topics);
        assert_eq!(refused, Err(FilterError::Escape(path.to_owned())));
    }
    let deep = format!("value.{}a", "a.".repeat(MAX_PATH));
    assert_eq!(filter(&[(&deep, "x")], &topics), Err(FilterError::TooDeep));
}

fn a_payload_that_is_not_json_matches_no_path() {
    for value in [
        "plain",
        "",
        "{\"a\":1",
        "{\"a\":1,}",
        "{\"a\":1} x",
        "{\"a\":1}{\"a\":1}",
        "\"a\"",
        "1",
        "nul",
    ] {
        look(|_| {}, value.as_bytes(), &[("a", "1", false), ("0", "1", false)]);
        look(
            |settings| settings.format = Format::Envelope,
            value.as_bytes(),
            &[("a", "1", false)],
        );
    }
    look(
        |settings| settings.format = Format::Envelope,
        b"{\"a\":1}\xff",
        &[("a", "1", false)],
    );
}

fn a_payload_of_several_lines_is_searched_whole() {
    let cases = [("a", "1", true), ("b.c", "x", true), ("b.c", "y", false)];
    for value in [
        "{\n  \"a\": 1,\n  \"b\": {\"c\":\n\"x\"}\n}\n",
        "\n\n{\r\n\"a\":\r1 ,\r\n\"b\":{\"c\":\"x\"}}",
        "{\"a\"\n:\n1,\"b\"\r:{\r\"c\"\r\n:\"x\"}}\r\n\r\n",
    ] {
        look(|_| {}, value.as_bytes(), &cases);
        look(
            |settings| settings.format = Format::Envelope,
            value.as_bytes(),
            &cases,
        );
    }
}

/// A filter refers to the value that the browser receives.
fn a_filter_sees_the_value_as_it_is_sent() {
    let with_key = |settings: &mut StreamSettings| settings.key_field = Some("id".to_owned());
    look(with_key, br#"{"x":1}"#, &[("id", "k", true), ("x", "1", true)]);
    look(
        with_key,
        br#"{"id":"other","x":1}"#,
        &[("id", "k", true), ("id", "other", false)],
    );
    let keyless = Rec {
        key: None,
        ..rec("", r#"{"x":1}"#)
    };
    assert!(passes(with_key, &[("value.id", "null")], &keyless));
    // The envelope's own members are not the value's.
    let envelope = |settings: &mut StreamSettings| settings.format = Format::Envelope;
    look(
        envelope,
        br#"{"x":1}"#,
        &[
            ("topic", "t", false),
            ("value.x", "1", false),
            ("partition", "0", false),
        ],
    );
    look(envelope, br#"{"value":{"x":1}}"#, &[("value.x", "1", true)]);
}

fn a_header_matches_by_any_of_its_values() {
    let record = rec("k", "v")
        .header("type", "created")
        .header("type", "seen")
        .header("raw", b"\xff\xfe")
        .header("raw", "text")
        .header("empty", "")
        .header("größe", "ü");
    let mut record = record;
    record.headers.push((b"null".to_vec(), None));
    record.headers.push((b"\xff".to_vec(), Some(b"x".to_vec())));
    for (name, value, wanted) in [
        ("type", "created", true),
        ("type", "seen", true),
        ("type", "Created", false),
        ("Type", "created", false),
        ("raw", "text", true),
        ("raw", "\u{fffd}\u{fffd}", false),
        ("empty", "", true),
        ("null", "", true),
        ("null", "null", false),
        ("größe", "ü", true),
        ("absent", "", false),
        ("\u{fffd}", "x", false),
    ] {
        let name = format!("header.{name}");
        assert_eq!(
            passes(|_| {}, &[(&name, value)], &record),
            wanted,
            "{name}={value}"
        );
    }
    assert!(
        !passes(|_| {}, &[("header.type", "created")], &rec("k", "v")),
        "without headers"
    );
    // A name may hold dots.
    assert!(passes(
        |_| {},
        &[("header.a.b", "c")],
        &rec("k", "v").header("a.b", "c")
    ));
}

fn keys_topics_and_partitions_match_separately() {
    let record = rec("größe 1", "v").partition(1);
    for (name, value, wanted) in [
        ("key", "größe 1", true),
        ("key", "größe", false),
        ("topic", "t", true),
        ("topic", "u", false),
        ("partition", "1", true),
        ("partition", "0", false),
        ("partition", "01", true),
    ] {
        assert_eq!(
            passes(|_| {}, &[(name, value)], &record),
            wanted,
            "{name}={value}"
        );
    }
    let keyless = Rec {
        key: None,
        ..rec("", "v")
    };
    assert!(
        !passes(|_| {}, &[("key", "")], &keyless),
        "no key is no empty one"
    );
    assert!(passes(|_| {}, &[("key", "")], &rec("", "v")));
    let binary = Rec {
        key: Some(vec![0xff]),
        ..rec("", "v")
    };
    assert!(!passes(|_| {}, &[("key", "\u{fffd}")], &binary));
    let topics = ["t".to_owned(), "u".to_owned()];
    for value in ["-1", "x", "", "4294967296", "0.0"] {
        assert_eq!(
            filter(&[("partition", value)], &topics),
            Err(FilterError::Partition(value.to_owned()))
        );
    }
    let unknown = filter(&[("topic", "w")], &topics);
    assert_eq!(
        unknown,
        Err(FilterError::Topic("w".to_owned(), "t, u".to_owned()))
    );
    for name in ["header.", "value.", "value.a..b", "value..a", "value.a."] {
        assert_eq!(
            filter(&[(name, "x")], &topics),
            Err(FilterError::EmptyPart(name.to_owned()))
        );
    }
}

fn values_of_one_name_are_ored_and_names_are_anded() {
    let record = rec("k", r#"{"a":1,"b":2}"#).header("h", "x").partition(1);
    let all = [
        ("key", "k"),
        ("header.h", "x"),
        ("value.a", "1"),
        ("value.b", "2"),
        ("partition", "1"),
        ("topic", "t"),
    ];
    assert!(passes(|_| {}, &all, &record));
    for wrong in 0..all.len() {
        // One name that fails hides it, whichever it is; another of its values lets it pass again.
        let mut terms = all.to_vec();
        let other = match terms[wrong].0 {
            "partition" => "0",
            "topic" => "u",
            _ => "other",
        };
        terms[wrong].1 = other;
        assert!(!passes(|_| {}, &terms, &record), "{terms:?}");
        terms.push(all[wrong]);
        assert!(passes(|_| {}, &terms, &record), "{terms:?}");
    }
}

fn filters_are_bounded_and_equal_in_any_order() {
    let topics = ["t".to_owned()];
    let values: Vec<String> = (0..=MAX_TERMS).map(|number| number.to_string()).collect();
    let keys: Vec<(&str, &str)> = values.iter().map(|value| ("key", value.as_str())).collect();
    assert!(filter(&keys[..MAX_TERMS], &topics).is_ok());
    assert_eq!(filter(&keys, &topics), Err(FilterError::TooManyTerms));
    let twice: Vec<(&str, &str)> = keys[..MAX_TERMS]
        .iter()
        .chain(&keys[..MAX_TERMS])
        .copied()
        .collect();
    assert!(filter(&twice, &topics).is_ok(), "the same term again is no other");
    // Names count for every value: "key" is three bytes.
    let long = "x".repeat(MAX_BYTES - 3 - 4);
    assert!(filter(&[("key", &long), ("key", "y")], &topics).is_ok());
    assert_eq!(
        filter(&[("key", &long), ("key", "yy")], &topics),
        Err(FilterError::TooLong)
    );

    let written = [("key", "a"), ("value.a.b", "1"), ("header.h", "x"), ("key", "b")];
    let mut other = written;
    other.reverse();
    assert_eq!(filter(&written, &topics), filter(&other, &topics));
    assert_ne!(filter(&written, &topics), filter(&written[1..], &topics));
}

fn a_shared_filter_stays_until_its_last_client_leaves() {
    let mut rig = Rig::ready(|_| {});
    let terms = [("key", "a"), ("key", "b"), ("value.n", "1")];
    let mut reversed = terms;
    reversed.reverse();
    let (mut first, mut second) = (rig.client(&terms), rig.client(&reversed));
    let mut other = rig.client(&[("key", "a")]);
    for client in [&mut first, &mut second, &mut other] {
        client.items();
    }
    let both = [
        rec("a", r#"{"n":1}"#),
        rec("b", r#"{"n":1}"#),
        rec("a", r#"{"n":2}"#),
    ];
    rig.records(&both);
    assert_eq!(first.shown(), ["message {\"n\":1}"; 2]);
    drop(first);
    rig.records(&both);
    assert_eq!(second.shown(), ["message {\"n\":1}"; 4], "in its own pace");
    assert_eq!(other.shown().len(), 4, "other filters are not touched");
    drop(second);
    rig.records(&both);
    let mut late = rig.client(&terms);
    late.items();
    rig.records(&both);
    assert_eq!(late.shown(), ["message {\"n\":1}"; 2]);
    assert_eq!(other.shown().len(), 4);
}
