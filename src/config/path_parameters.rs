//! Paths with parameters, such as `/users/{id}/orders`: which requests they match, and with what values.
//! [`bound_filter`](super::bound_filter) has the filter that the values select.
//!
//! Pure; must not know HTTP beyond the syntax of a path.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;

use super::filter::FilterError;
use super::filter_value::is_parameter_name;

/// Most bytes of a value, after its escapes are decoded: longer than a UUID, a number or an email address.
pub const MAX_VALUE_BYTES: usize = 256;

/// A part of a path between slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// The name of a parameter.
    Parameter(String),
}

/// A path of which some segments are parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    segments: Vec<Segment>,
}

/// The values of a path's parameters, in the order of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathValues(Vec<String>);

impl PathValues {
    /// The values.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// A value that a parameter cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value of {{{parameter}}} in the path {why}")]
pub struct BadValue {
    /// The parameter.
    pub parameter: String,
    /// The fault of its value.
    pub why: ValueError,
}

/// Why a value cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A `%` without two hexadecimal digits.
    #[error("has a \"%\" that begins no escape; write %25 for a percent sign")]
    Escape,
    /// Not text.
    #[error("is not UTF-8 after its escapes are decoded; only text can be filtered by a path")]
    NotUtf8,
    /// `%2F`.
    #[error(
        "contains an encoded slash, which a proxy may decode to another path; filter by a value without a slash"
    )]
    Slash,
    /// `.` or `..`, also as `%2e`.
    #[error("is a dot segment, which clients and proxies remove; filter by another value")]
    DotSegment,
    /// More than [`MAX_VALUE_BYTES`].
    #[error("is longer than {MAX_VALUE_BYTES} bytes; filter by a shorter value")]
    TooLong,
    /// The filter cannot have it.
    #[error("does not fit the stream's filter: {0}")]
    Filter(FilterError),
}

/// The names of the parameters of a configured path such as `/users/{id}/orders`, in their order.
pub(crate) fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

impl PathTemplate {
    /// Parses a configured path. `None` where it has no parameter.
    ///
    /// # Errors
    /// The message.
    pub fn parse(path: &str) -> Result<Option<Self>, String> {
        if !path.contains(['{', '}']) {
            return Ok(None);
        }
        let mut names = BTreeSet::new();
        let mut segments = Vec::new();
        for (index, text) in path.split('/').skip(1).enumerate() {
            let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let Some(name) = name else {
                if text.contains(['{', '}']) {
                    return Err(format!(
                        "{text:?} has a parameter that is not a whole part of the path; write it like \"/users/{{id}}/orders\""
                    ));
                }
                segments.push(Segment::Literal(text.to_owned()));
                continue;
            };
            if !is_parameter_name(name) {
                return Err(format!(
                    "{text:?} does not name a parameter; a name has letters, digits and underscores, and no digit first"
                ));
            }
            if index == 0 {
                return Err(format!(
                    "{path:?} begins with a parameter, and would match paths that the daemon serves itself; begin with a \
                     literal part, as in \"/users/{text}\""
                ));
            }
            if !names.insert(name) {
                return Err(format!("{text:?} occurs twice; give each parameter its own name"));
            }
            segments.push(Segment::Parameter(name.to_owned()));
        }
        Ok(Some(Self { segments }))
    }

    /// The names of the parameters, in the order of the path.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Whether a request could match both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let could_match = |pair: (&Segment, &Segment)| match pair {
            (Segment::Literal(one), Segment::Literal(other)) => one == other,
            // No value is empty.
            (Segment::Literal(text), _) | (_, Segment::Literal(text)) => !text.is_empty(),
            _ => true,
        };
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(could_match)
    }

    /// Every segment with that of a request's path. `None` where they do not match; `is_same` compares literal ones.
    fn pairs<'a>(
        &'a self,
        path: &'a str,
        is_same: impl Fn(&str, &str) -> bool,
    ) -> Option<impl Iterator<Item = (&'a Segment, &'a str)>> {
        let texts = path.strip_prefix('/')?.split('/');
        let pairs = || self.segments.iter().zip(texts.clone());
        let matches = texts.clone().count() == self.segments.len()
            && pairs().all(|(segment, text)| match segment {
                Segment::Literal(literal) => is_same(literal, text),
                Segment::Parameter(_) => !text.is_empty(),
            });
        matches.then(pairs)
    }

    /// The values in a request's path, as the request escapes them. `None` where the path does not match.
    ///
    /// # Errors
    /// The first value that cannot be one.
    pub fn values(&self, path: &str) -> Option<Result<PathValues, BadValue>> {
        let pairs = self.pairs(path, |literal, text| literal == text)?;
        let values = pairs.filter_map(|(segment, text)| match segment {
            Segment::Literal(_) => None,
            Segment::Parameter(name) => Some(decoded(text).map_err(|why| BadValue {
                parameter: name.clone(),
                why,
            })),
        });
        Some(values.collect::<Result<_, _>>().map(PathValues))
    }

    /// The path with these values, without escapes.
    pub(crate) fn with_values(&self, values: &PathValues) -> String {
        let mut values = values.iter();
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => text,
            Segment::Parameter(_) => values.next().unwrap_or_default(),
        });
        segments.fold(String::new(), |path, segment| path + "/" + segment)
    }

    /// The path with the values of a request whose literal segments may differ, as the request escapes them.
    pub(crate) fn with_values_of(&self, path: &str) -> Option<String> {
        let pairs = self.pairs(path, |_, _| true)?;
        let segments = pairs.map(|(segment, text)| match segment {
            Segment::Literal(literal) => literal.as_str(),
            Segment::Parameter(_) => text,
        });
        Some(segments.fold(String::new(), |path, segment| path + "/" + segment))
    }
}

/// The text of an escaped segment.
fn decoded(text: &str) -> Result<String, ValueError> {
    let mut escapes = text.split('%').skip(1).map(str::as_bytes);
    if !escapes.all(|rest| rest.len() >= 2 && rest.iter().take(2).all(u8::is_ascii_hexdigit)) {
        return Err(ValueError::Escape);
    }
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| ValueError::NotUtf8)?;
    if text.contains('/') {
        Err(ValueError::Slash)
    } else if matches!(&*text, "." | "..") {
        Err(ValueError::DotSegment)
    } else if text.len() > MAX_VALUE_BYTES {
        Err(ValueError::TooLong)
    } else {
        Ok(text.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(path: &str) -> PathTemplate {
        PathTemplate::parse(path)
            .expect("a path")
            .expect("with parameters")
    }

    fn values(path: &str) -> Option<Result<Vec<String>, ValueError>> {
        let values = template("/users/{id}/orders").values(path)?;
        Some(values.map(|values| values.0).map_err(|bad| bad.why))
    }

    #[test]
    fn a_value_is_one_whole_segment_with_its_escapes_decoded_once() {
        for (segment, value) in [
            ("42", "42"),
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("%25%32%66", "%2f"),
            ("caf%C3%A9", "café"),
            ("base64:NDI=", "base64:NDI="),
            ("{id}", "{id}"),
            ("*", "*"),
            ("a,b|c&key=d", "a,b|c&key=d"),
            ("...", "..."),
            ("%00", "\0"),
            ("a%5Cb", "a\\b"),
        ] {
            assert_eq!(
                values(&format!("/users/{segment}/orders")),
                Some(Ok(vec![value.to_owned()])),
                "{segment}"
            );
        }
        let longest = "x".repeat(MAX_VALUE_BYTES);
        assert_eq!(
            values(&format!("/users/{longest}/orders")),
            Some(Ok(vec![longest.clone()]))
        );
        for (segment, why) in [
            ("%", ValueError::Escape),
            ("%4", ValueError::Escape),
            ("%zz", ValueError::Escape),
            ("%ff", ValueError::NotUtf8),
            ("%c3", ValueError::NotUtf8),
            ("a%2Fb", ValueError::Slash),
            ("%2f", ValueError::Slash),
            (".", ValueError::DotSegment),
            ("..", ValueError::DotSegment),
            ("%2e%2E", ValueError::DotSegment),
            (&format!("{longest}%78"), ValueError::TooLong),
        ] {
            assert_eq!(
                values(&format!("/users/{segment}/orders")),
                Some(Err(why)),
                "{segment}"
            );
        }
    }

    #[test]
    fn other_paths_do_not_match() {
        for path in [
            "/users/42",
            "/users//orders",
            "/users/42/orders/",
            "/users/42/Orders",
            "/users/42/43/orders",
            "/users/42/../orders",
            "/%75sers/42/orders",
            "users/42/orders",
            "/",
            "*",
        ] {
            assert_eq!(values(path), None, "{path}");
        }
    }

    #[test]
    fn templates_overlap_where_one_request_matches_both() {
        for (one, other, overlaps) in [
            ("/users/{id}", "/users/{name}", true),
            ("/users/{id}/orders", "/users/me/{kind}", true),
            ("/users/{id}/orders", "/users/{id}/invoices", false),
            ("/users/{id}", "/users/{id}/orders", false),
            ("/a/{x}/", "/a/{x}/{y}", false),
        ] {
            assert_eq!(
                template(one).overlaps(&template(other)),
                overlaps,
                "{one} {other}"
            );
            assert_eq!(
                template(other).overlaps(&template(one)),
                overlaps,
                "{other} {one}"
            );
        }
    }
}
