//! Any path and any query: nothing in them selects more than the path does.

use super::{PATH, by, numbers, owned};
use crate::harness::promise;
use crate::rig::{Rig, filter};
use kafka_sse_bridge::config::Start;
use kafka_sse_bridge::config::path_parameters::{MAX_VALUE_BYTES, PathTemplate, PathValues};
use kafka_sse_bridge::stream::start_position::Opening;
use libtest_mimic::Trial;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

pub(super) fn trials() -> Vec<Trial> {
    vec![promise(nothing_in_a_path_or_query_widens_what_a_path_selects)]
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
