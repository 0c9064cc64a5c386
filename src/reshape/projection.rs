//! Leaves out the members of JSON values that a stream does not show.

use serde::de::IgnoredAny;

use crate::config::projection::{Node, Projection, Rule};

/// The value is not JSON, so that nothing of it can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value is not JSON")]
pub(crate) struct NotJson;

/// Appends what is shown of a value, byte for byte. A value that is neither an object nor an array has no members:
/// where only some are shown, nothing of it is but `null`.
///
/// # Errors
/// [`NotJson`]; `out` is then unchanged.
pub(crate) fn project(projection: &Projection, value: &str, out: &mut Vec<u8>) -> Result<(), NotJson> {
    // Checked first, nesting included, so that the scanner below need not.
    serde_json::from_str::<IgnoredAny>(value).map_err(|_| NotJson)?;
    project_json(projection, value.as_bytes(), out);
    Ok(())
}

/// Like [`project`], for a value that is JSON and not deeper than a parser's limit.
pub(super) fn project_json(projection: &Projection, value: &[u8], out: &mut Vec<u8>) {
    let mut scanner = Scanner { bytes: value, at: 0 };
    scanner.skip_space();
    if !write(projection.rule, &mut scanner, &projection.paths, out) {
        out.extend_from_slice(b"null");
    }
}

/// Writes what is shown of the value that comes next. Returns false where nothing of it is; then nothing is written.
fn write(rule: Rule, from: &mut Scanner<'_>, node: &Node, out: &mut Vec<u8>) -> bool {
    match from.peek() {
        Some(b'{') => write_parts(from, *b"{}", out, |from, start, out| {
            let name_at = from.at;
            from.skip_string();
            let name = from.since(name_at);
            from.skip_to_value();
            out.extend_from_slice(from.since(start));
            write_member(rule, from, child(node, name), out)
        }),
        Some(b'[') => write_parts(from, *b"[]", out, |from, start, out| {
            out.extend_from_slice(from.since(start));
            write(rule, from, node, out)
        }),
        _ => {
            let start = from.at;
            from.skip_value();
            if rule == Rule::Hide {
                out.extend_from_slice(from.since(start));
            }
            return rule == Rule::Hide;
        }
    }
    true
}

/// The same for the value of a member, with the node of its name.
fn write_member(rule: Rule, from: &mut Scanner<'_>, node: Option<&Node>, out: &mut Vec<u8>) -> bool {
    if let Some(below) = node.filter(|node| !node.is_end) {
        return write(rule, from, below, out);
    }
    let is_shown = node.is_some() == (rule == Rule::Show);
    let start = from.at;
    from.skip_value();
    if is_shown {
        out.extend_from_slice(from.since(start));
    }
    is_shown
}

/// Writes the members of an object, or the elements of an array. `write_part` is at the next one; it writes what is
/// between the place that it is given and the value, then the value, and returns whether that is shown.
fn write_parts<'j>(
    from: &mut Scanner<'j>,
    brackets: [u8; 2],
    out: &mut Vec<u8>,
    mut write_part: impl FnMut(&mut Scanner<'j>, usize, &mut Vec<u8>) -> bool,
) {
    let [open, close] = brackets;
    out.push(open);
    from.at += 1;
    let mut is_first = true;
    // The space of an empty object or array.
    let mut start = from.at;
    from.skip_space();
    while from.peek().is_some_and(|byte| byte != close) {
        let before = out.len();
        if !is_first {
            out.push(b',');
        }
        let is_shown = write_part(from, start, out);
        let end = from.at;
        from.skip_space();
        if is_shown {
            out.extend_from_slice(from.since(end));
            is_first = false;
        } else {
            out.truncate(before);
        }
        if from.peek() == Some(b',') {
            from.at += 1;
        }
        start = from.at;
        from.skip_space();
    }
    if is_first {
        out.extend_from_slice(from.since(start));
    }
    from.at += 1;
    out.push(close);
}

/// The node of a member, by its name as it is written, quotes included.
fn child<'n>(node: &'n Node, written: &[u8]) -> Option<&'n Node> {
    // Most names have no escapes.
    let plain = written.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !plain.contains(&b'\\') {
        return node.below.get(std::str::from_utf8(plain).ok()?);
    }
    let name: String = serde_json::from_slice(written).ok()?;
    node.below.get(&name)
}

/// Moves over JSON that is known to be valid.
struct Scanner<'j> {
    bytes: &'j [u8],
    at: usize,
}

impl<'j> Scanner<'j> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The bytes from a place before this one on.
    fn since(&self, start: usize) -> &'j [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// From a member's name to its value.
    fn skip_to_value(&mut self) {
        self.skip_space();
        // The colon.
        self.at += 1;
        self.skip_space();
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(found) = memchr::memchr2(b'"', b'\\', self.bytes.get(self.at..).unwrap_or_default()) {
            self.at += found;
            if self.peek() == Some(b'"') {
                self.at += 1;
                return;
            }
            self.at += 2;
        }
        self.at = self.bytes.len();
    }

    fn skip_value(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.skip_string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    // That of the object or array which the value is in.
                    let Some(outer) = depth.checked_sub(1) else { return };
                    depth = outer;
                    self.at += 1;
                }
                b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            if depth == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn hide(texts: &[&str]) -> Projection {
        Projection::new(Rule::Hide, texts)
    }

    fn show(texts: &[&str]) -> Projection {
        Projection::new(Rule::Show, texts)
    }

    fn apply(projection: &Projection, value: &str) -> Result<String, NotJson> {
        let mut out = Vec::new();
        project(projection, value, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn hidden_members_are_left_out_and_all_else_is_kept_byte_for_byte() {
        let projection = hide(&["ssn", "card.number"]);
        for (value, shown) in [
            (
                r#"{ "id" : 1.50, "ssn":"x", "é\u0041": [ ] }"#,
                r#"{ "id" : 1.50, "é\u0041": [ ] }"#,
            ),
            (r#"{"ssn":1}"#, "{}"),
            (r#"{"ssn":1,"ssn":{"a":2}}"#, "{}"),
            (r#"{"\u0073sn":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":2,"ssn":"}\"{,"}"#, r#"{"a":2}"#),
            (r#"{"card":{"number":1,"type":"v"}}"#, r#"{"card":{"type":"v"}}"#),
            (r#"{"card.number":1,"card":2}"#, r#"{"card":2}"#),
            (
                r#"[{"ssn":1},{"card":[{"number":2},[{"number":3,"x":4}]]}]"#,
                r#"[{},{"card":[{},[{"x":4}]]}]"#,
            ),
            (r#"{"other":{"ssn":1}}"#, r#"{"other":{"ssn":1}}"#),
            (" 5 ", "5"),
            ("null", "null"),
            ("{ }", "{ }"),
        ] {
            assert_eq!(apply(&projection, value).as_deref(), Ok(shown), "{value}");
        }
    }

    #[test]
    fn only_named_members_are_shown() {
        let projection = show(&["id", "address.city"]);
        for (value, shown) in [
            (
                r#"{"id":{"a":[1]},"ssn":2,"address":{"street":"s","city":"c"}}"#,
                r#"{"id":{"a":[1]},"address":{"city":"c"}}"#,
            ),
            (r#"{"address":"one string"}"#, "{}"),
            (
                r#"{"address":[{"city":1},"x",{"street":2}]}"#,
                r#"{"address":[{"city":1},{}]}"#,
            ),
            (r#"{"address.city":"c"}"#, r#"{"address.city":"c"}"#),
            (r#""secret""#, "null"),
        ] {
            assert_eq!(apply(&projection, value).as_deref(), Ok(shown), "{value}");
        }
    }

    #[test]
    fn a_value_that_is_not_json_is_refused() {
        for value in ["", "{", "x", "{}{}", "{\"a\":1,}", &"[".repeat(1_000_000)] {
            assert_eq!(apply(&hide(&["a"]), value), Err(NotJson));
        }
    }

    /// The shown part, by the rules on parsed values. Without names that contain dots.
    fn expected(value: &Value, rule: Rule, node: &Node) -> Option<Value> {
        Some(match value {
            Value::Object(members) => {
                let shown = members.iter().filter_map(|(name, value)| {
                    let shown = match (rule, node.below.get(name)) {
                        (Rule::Show, None) => None,
                        (Rule::Hide, None) => Some(value.clone()),
                        (rule, Some(below)) if below.is_end => (rule == Rule::Show).then(|| value.clone()),
                        (rule, Some(below)) => expected(value, rule, below),
                    };
                    Some((name.clone(), shown?))
                });
                Value::Object(shown.collect::<Map<_, _>>())
            }
            Value::Array(elements) => Value::Array(
                elements
                    .iter()
                    .filter_map(|value| expected(value, rule, node))
                    .collect(),
            ),
            scalar => return (rule == Rule::Hide).then(|| scalar.clone()),
        })
    }

    fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            prop::sample::select(vec!["", "\"", "\\", "},{", "a\n"]).prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 40, 5, |inner| {
            let name = prop::sample::select(vec!["a", "b", "c", "\"", "\\u0061"]).prop_map(str::to_owned);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_of_any_value_follows_from_the_paths(
            value in values(),
            texts in prop::collection::vec(prop::sample::select(vec!["a", "b", "a.b", "b.c.a", "c.c"]), 1..4),
            is_hide in any::<bool>(),
            is_pretty in any::<bool>(),
        ) {
            let projection = if is_hide { hide(&texts) } else { show(&texts) };
            let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let shown = apply(&projection, &text.expect("JSON")).expect("JSON");
            let shown: Value = serde_json::from_str(&shown).expect("still JSON");
            prop_assert_eq!(shown, expected(&value, projection.rule, &projection.paths).unwrap_or_default());
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,40}|[\\[\\]{}\",:a\\\\ ]{0,40}") {
            let _ = apply(&hide(&["a"]), &text);
            let _ = apply(&show(&["a.a"]), &text);
        }
    }
}
