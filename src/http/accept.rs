//! Content negotiation: `Accept` and `Accept-Encoding`, with their weights (RFC 9110, section 12), and
//! `If-None-Match` (section 13.1.2). Pure.

use http::{HeaderMap, HeaderName, header};

/// A client's weight for an item, then how exactly the client named it: an exact name precedes a range of the same
/// weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Preference {
    /// In thousandths; 0 is "not acceptable".
    weight: u16,
    exactness: Exactness,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Exactness {
    #[default]
    Unnamed,
    Any,
    Type,
    Exact,
}

impl Preference {
    /// Whether it is named exactly, and acceptable.
    pub(super) fn is_named(self) -> bool {
        self.weight > 0 && self.exactness == Exactness::Exact
    }
}

/// The preference of `Accept` for a media type like `text/html`, by the most exact range that covers it. Other parameters
/// are not compared.
pub(super) fn media_type(headers: &HeaderMap, wanted: &str) -> Preference {
    let main = wanted.split_once('/').map_or(wanted, |(main, _)| main);
    preference(headers, &header::ACCEPT, |range| {
        if range.eq_ignore_ascii_case(wanted) {
            return Exactness::Exact;
        }
        match range.split_once('/') {
            Some(("*", "*")) => Exactness::Any,
            Some((of, "*")) if of.eq_ignore_ascii_case(main) => Exactness::Type,
            _ => Exactness::Unnamed,
        }
    })
}

/// Whether `Accept-Encoding` allows gzip: by name, or else by `*`.
pub(super) fn gzip(headers: &HeaderMap) -> bool {
    let gzip = preference(headers, &header::ACCEPT_ENCODING, |coding| {
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            Exactness::Exact
        } else if coding == "*" {
            Exactness::Any
        } else {
            Exactness::Unnamed
        }
    });
    gzip.weight > 0
}

/// Whether `If-None-Match` has a tag, by weak comparison.
pub(super) fn if_none_match(headers: &HeaderMap, etag: &str) -> bool {
    let opaque = etag.trim_start_matches("W/");
    values(headers, &header::IF_NONE_MATCH)
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == opaque)
}

/// The values of a header that are text.
fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).into_iter();
    values.filter_map(|value| value.to_str().ok())
}

/// The preference by the most exact item that matches; of several, the one with the highest weight.
fn preference(headers: &HeaderMap, name: &HeaderName, exactness: impl Fn(&str) -> Exactness) -> Preference {
    values(headers, name)
        .flat_map(|text| split(text, b','))
        .filter_map(|item| {
            let mut parts = split(item, b';').map(str::trim);
            let exactness = exactness(parts.next()?);
            let weight = parts.find_map(weight).unwrap_or(Some(1000))?;
            (exactness > Exactness::Unnamed).then_some(Preference { weight, exactness })
        })
        .max_by_key(|preference| (preference.exactness, preference.weight))
        .unwrap_or_default()
}

/// The weight that a parameter gives in thousandths, if it is one; `Some(None)` where it is malformed.
#[expect(clippy::option_option, reason = "no weight and a malformed one differ")]
fn weight(parameter: &str) -> Option<Option<u16>> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, thousandths) = match value.trim().split_once('.') {
        Some((whole, digits)) => (whole, digits),
        None => (value.trim(), ""),
    };
    let is_digits = thousandths.len() <= 3 && thousandths.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = format!("{thousandths:0<3}")
        .parse::<u16>()
        .ok()
        .filter(|_| is_digits);
    Some(match (whole, fraction) {
        ("0", Some(fraction)) => Some(fraction),
        ("1", Some(0)) => Some(1000),
        _ => None,
    })
}

/// Splits at a separator, but not within quotes.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character: char| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match character {
            '"' if !was_escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            _ => {}
        }
        !is_quoted && character == char::from(separator)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let value = |text: &&str| (name.clone(), text.parse().expect("a value"));
        values.iter().map(value).collect()
    }

    fn of(accept: &[&str], wanted: &str) -> Preference {
        media_type(&headers(&header::ACCEPT, accept), wanted)
    }

    #[test]
    fn the_most_exact_range_gives_the_weight() {
        for (accept, weight) in [
            ("text/html", 1000),
            ("TEXT/HTML;Q=0.5", 500),
            ("text/html ; level=1 ; q=0.25, */*", 250),
            ("*/*;q=0.001", 1),
            ("text/*;q=0.3, */*;q=0.9", 300),
            ("*/*, text/html;q=0", 0),
            ("text/html;q=0.000", 0),
            ("text/html;q=1.000", 1000),
            ("text/html;level=\"a,b;q=0\\\"\";q=0.7", 700),
            ("text/html;q=0.2, text/html;version=2;q=0.8", 800),
            ("", 0),
            ("application/json", 0),
            ("text/htmlx", 0),
            ("x-text/html", 0),
        ] {
            assert_eq!(of(&[accept], "text/html").weight, weight, "{accept}");
        }
        assert_eq!(
            of(&["application/json;q=0.1", "text/html"], "text/html").weight,
            1000
        );
    }

    #[test]
    fn an_item_with_a_malformed_weight_counts_as_absent() {
        for q in ["", "2", "-1", "1.001", "0.1234", "0,5", "x", ".5", "0.x"] {
            assert!(!of(&[&format!("text/html;q={q}")], "text/html").is_named(), "{q}");
        }
        assert!(of(&["text/html;q=1."], "text/html").is_named());
    }

    #[test]
    fn what_is_named_precedes_what_a_range_covers() {
        let both = ["application/json, text/plain, */*"];
        assert!(of(&both, "application/json") > of(&both, "text/html"));
        let both = ["application/json;q=0.5, */*"];
        assert!(of(&both, "application/json") < of(&both, "text/html"));
    }

    #[test]
    fn gzip_is_allowed_by_name_or_by_a_star() {
        for (accept, is_allowed) in [
            ("gzip", true),
            ("br, GZIP;q=0.1", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("br", false),
            ("gzipped", false),
        ] {
            assert_eq!(
                gzip(&headers(&header::ACCEPT_ENCODING, &[accept])),
                is_allowed,
                "{accept}"
            );
        }
        assert!(!gzip(&HeaderMap::new()));
    }
    #[test]
    fn a_tag_matches_one_of_a_list_whether_weak_or_not() {
        for (values, is_known) in [
            (&["\"a\""][..], true),
            (&["W/\"a\""], true),
            (&["\"b\", W/\"a\" ,\"c\""], true),
            (&["\"b\"", "\"a\""], true),
            (&["*"], true),
            (&["\"b\", *"], true),
            (&["\"A\""], false),
            (&["a"], false),
            (&["\"ab\""], false),
            (&[""], false),
            (&[], false),
        ] {
            let headers = headers(&header::IF_NONE_MATCH, values);
            for etag in ["\"a\"", "W/\"a\""] {
                assert_eq!(if_none_match(&headers, etag), is_known, "{values:?} {etag}");
            }
        }
    }
}
