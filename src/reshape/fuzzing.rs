//! Targets of the fuzzer: members that are left out, and change events.

use serde_json::Value;

use super::Reshaper;
use super::projection::project;
use crate::config::projection::{Projection, Rule};
use crate::config::{StreamSettings, Unwrap};
use crate::kafka::record::Guarantee;

/// Nothing that is hidden is in what is shown of any JSON, all that is shown is JSON again, and showing it again changes
/// nothing. The first byte is the rule, the first line has paths with commas between them, the rest is the value.
pub(crate) fn projections(data: &[u8]) {
    let Some((&rule, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Some((paths, json)) = text.split_once('\n') else {
        return;
    };
    // Escapes make names with dots, which have one reading less.
    let paths: Vec<&str> = paths
        .split(',')
        .filter(|path| !path.contains('\\') && !path.split('.').any(str::is_empty))
        .collect();
    let rule = if rule % 2 == 0 { Rule::Hide } else { Rule::Show };
    let projection = Projection::new(rule, &paths);
    let mut shown = Vec::new();
    let outcome = project(&projection, json, &mut shown);
    assert_eq!(
        outcome.is_ok(),
        serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok()
    );
    if outcome.is_err() {
        assert!(shown.is_empty());
        return;
    }
    let shown = String::from_utf8(shown).expect("text as before");
    let mut again = Vec::new();
    assert_eq!(project(&projection, &shown, &mut again), Ok(()), "{shown}");
    assert_eq!(String::from_utf8(again).as_ref(), Ok(&shown));
    if let Ok(value) = serde_json::from_str::<Value>(&shown) {
        check_members(&value, &mut Vec::new(), &|names, is_scalar| {
            let mut beginnings = (1..=names.len()).filter_map(|end| names.get(..end));
            let is_named = beginnings.any(|names| paths.iter().any(|path| means(path, names)));
            match rule {
                Rule::Hide => assert!(!is_named, "{names:?} is hidden: {shown}"),
                Rule::Show => assert!(is_named || !is_scalar, "{names:?} is not shown: {shown}"),
            }
        });
    }
}

/// Calls for the names that lead to each value, and whether that is a scalar.
fn check_members(value: &Value, names: &mut Vec<String>, check: &dyn Fn(&[String], bool)) {
    // The rest of a value of which nothing is shown.
    if !(value.is_null() && names.is_empty()) {
        check(names, !value.is_object() && !value.is_array());
    }
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                names.push(name.clone());
                check_members(value, names, check);
                names.pop();
            }
        }
        Value::Array(elements) => {
            for value in elements {
                check_members(value, names, check);
            }
        }
        _ => {}
    }
}

/// Whether a path leads to the member with these names: to one after the other, the last of which may be the rest of the
/// path with its dots.
fn means(path: &str, names: &[String]) -> bool {
    let is_single = |name: &String| !name.contains('.');
    path == names.join(".") && names.iter().rev().skip(1).all(is_single)
}

/// A name of which a path needs escapes.
const METADATA: &str = "__meta.\"x";

/// Whether a row, or each of an array, has nothing that [`changes`] hides.
fn is_clean(row: &Value) -> bool {
    match row {
        Value::Object(_) => {
            let card = row.get("card").unwrap_or(&Value::Null);
            let cards = card.as_array().map_or(std::slice::from_ref(card), Vec::as_slice);
            let has_number = |card: &Value| card.get("number").is_some();
            row.get("ssn").is_none() && row.get("card.number").is_none() && !cards.iter().any(has_number)
        }
        Value::Array(rows) => rows.iter().all(is_clean),
        _ => true,
    }
}

/// A reshaper turns any value into JSON, or refuses it. The first byte says how it reshapes.
pub(crate) fn changes(data: &[u8]) {
    let Some((&how, value)) = data.split_first() else {
        return;
    };
    let (adds, hides) = (how & 1 != 0, how & 2 != 0);
    let settings = StreamSettings {
        unwrap: Some(Unwrap::Debezium),
        metadata_field: adds.then(|| METADATA.to_owned()),
        hide: if hides {
            vec!["ssn".to_owned(), "card.number".to_owned()]
        } else {
            Vec::new()
        },
        ..StreamSettings::default()
    };
    let Some(mut reshaper) = Reshaper::new(&settings) else {
        return;
    };
    let Ok(outcome) = reshaper.value(Some(value), Guarantee::Nothing) else {
        return;
    };
    if let Some(shown) = outcome.value {
        let text = std::str::from_utf8(shown).expect("text");
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        // Without hidden members or metadata a row is copied.
        assert!(is_json || (!hides && !adds), "{text}");
        if let (Ok(shown), true) = (serde_json::from_str::<Value>(text), hides) {
            assert!(is_clean(&shown), "{text}");
            let change = shown.get(METADATA).filter(|_| adds);
            if let Some(before) = change.and_then(|change| change.get("before")) {
                assert!(is_clean(before) && !before.is_string(), "{text}");
            }
            let source = change.and_then(|change| change.get("source"));
            assert!(
                source.is_none_or(|source| source.get("query").is_none()),
                "{text}"
            );
        }
    }
    let key = reshaper.key(value);
    assert!(key.len() <= value.len());
}
