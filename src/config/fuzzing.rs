//! Targets of the fuzzer: the text of a configuration, and paths with parameters.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::bound_filter::BoundFilter;
use super::diff::diff;
use super::filter::{Name, key_bytes};
use super::load::{Document, Flags, Loaded, load};
use super::path_parameters::{MAX_VALUE_BYTES, PathTemplate, PathValues};
use super::print::{MASK, print};
use super::stream::StreamSettings;

/// Longer texts say no more: the cost is that of the parsers.
const MAX_TEXT: usize = 8 * 1024;

/// Any text is a configuration or an error that names a place. What is printed of a configuration is one with equal
/// settings, unless secrets are masked in it.
pub(crate) fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if text.len() > MAX_TEXT {
        return;
    }
    let Some(loaded) = loaded(text.to_owned()) else {
        return;
    };
    let printed = print(&loaded);
    if printed.contains(MASK) {
        return;
    }
    let again = self::loaded(printed).expect("what is printed is valid");
    let changes = diff(&loaded.settings, &again.settings, |_| false);
    assert!(changes.is_empty(), "{:?}", changes.keys);
    assert_eq!(again.settings, loaded.settings);
}

fn loaded(text: String) -> Option<Loaded> {
    let document = Document::BuiltIn {
        name: "fuzz.toml",
        text: Cow::Owned(text),
    };
    match load(&document, &BTreeMap::new(), &Flags::default()) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            assert!(!error.0.is_empty());
            for problem in error.0 {
                let is_here = problem.place == "fuzz.toml" || problem.place.starts_with("fuzz.toml:");
                assert!(is_here && !problem.message.is_empty(), "{problem}");
            }
            None
        }
    }
}

/// The values of a path are its segments, decoded once, and select the records with just these values. Lines: a configured
/// path, a request's path, and another configured path.
pub(crate) fn paths(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let (Some(configured), Some(path)) = (lines.next(), lines.next()) else {
        return;
    };
    let Ok(Some(template)) = PathTemplate::parse(configured) else {
        return;
    };
    if let Some(Ok(Some(other))) = lines.next().map(PathTemplate::parse) {
        assert_eq!(template.overlaps(&other), other.overlaps(&template));
        let match_one_request = template.values(path).is_some() && other.values(path).is_some();
        assert!(!match_one_request || template.overlaps(&other));
    }
    let Some(Ok(values)) = template.values(path) else {
        return;
    };
    let mut left = values.iter();
    let (mut decoded, mut escaped) = (String::new(), String::new());
    for (segment, asked) in configured.split('/').zip(path.split('/')).skip(1) {
        decoded.push('/');
        escaped.push('/');
        if !segment.starts_with('{') {
            assert_eq!(segment, asked);
            decoded.push_str(segment);
            escaped.push_str(segment);
            continue;
        }
        let value = left.next().expect("a value for each parameter");
        assert_eq!(percent_decode_str(asked).decode_utf8().as_deref(), Ok(value));
        assert!(!value.is_empty() && !value.contains('/') && value.len() <= MAX_VALUE_BYTES);
        assert!(value != "." && value != "..");
        decoded.push_str(value);
        escaped.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    assert_eq!(left.next(), None);
    assert_eq!(template.with_values(&values), decoded);
    assert_eq!(template.with_values_of(path).as_deref(), Some(path));
    assert_eq!(template.values(&escaped), Some(Ok(values.clone())));
    selects_the_key_that_is_its_value(configured, &template, &values);
}

fn selects_the_key_that_is_its_value(configured: &str, template: &PathTemplate, values: &PathValues) {
    let (Some(parameter), Some(value)) = (template.parameters().next(), values.iter().next()) else {
        return;
    };
    let settings = StreamSettings {
        path: configured.to_owned(),
        topics: vec!["t".to_owned()],
        filter: BTreeMap::from([("key".to_owned(), vec![format!("{{{parameter}}}")])]),
        ..StreamSettings::default()
    };
    let bound = BoundFilter::of(&settings).expect("a parameter");
    let filter = bound.filter(Some(values), None).expect("any text can be a key");
    let mut terms = filter.terms();
    let (name, wanted) = terms.next().expect("a term");
    let keys: Vec<_> = wanted.iter().map(|text| key_bytes(text)).collect();
    assert_eq!((name, terms.next()), (&Name::Key, None));
    assert_eq!(keys, [Some(Cow::Borrowed(value.as_bytes()))]);
    assert_eq!(
        bound.filter_or_nothing(None, None),
        super::filter::Filter::nothing()
    );
}
