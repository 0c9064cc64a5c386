//! Finds keys in the text of a TOML file, to name their lines.

use toml::de::{DeTable, DeValue};

/// `stream[0].path` in parts: `stream`, `0`, `path`. A part in quotes may hold dots.
pub(super) fn segments(key: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for character in key.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            '.' | '[' if !is_quoted => parts.push(String::new()),
            ']' if !is_quoted => {}
            other => {
                if let Some(part) = parts.last_mut() {
                    part.push(other);
                }
            }
        }
    }
    parts
}

/// Byte offset at which the file writes the key of these parts.
pub(super) fn find(table: &DeTable<'_>, parts: &[String]) -> Option<usize> {
    let (first, rest) = parts.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first.as_str())?;
    if rest.is_empty() {
        return Some(key.span().start);
    }
    match value.get_ref() {
        DeValue::Table(inner) => find(inner, rest),
        DeValue::Array(items) => {
            let (index, rest) = rest.split_first()?;
            let item = items.get(index.parse::<usize>().ok()?)?;
            match item.get_ref() {
                DeValue::Table(inner) if !rest.is_empty() => find(inner, rest),
                _ => Some(item.span().start),
            }
        }
        _ => None,
    }
}

/// The key whose name or value covers a byte of the file.
pub(super) fn key_at(table: &DeTable<'_>, at: usize) -> Option<String> {
    for (key, value) in table {
        if key.span().contains(&at) {
            return Some(key.get_ref().to_string());
        }
        let inner = match value.get_ref() {
            DeValue::Table(inner) => key_at(inner, at).map(|inner| format!("{}.{inner}", key.get_ref())),
            DeValue::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .find_map(|(index, item)| match item.get_ref() {
                        DeValue::Table(inner) => {
                            key_at(inner, at).map(|inner| format!("{}[{index}].{inner}", key.get_ref()))
                        }
                        _ => None,
                    })
            }
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
        if value.span().contains(&at) {
            return Some(key.get_ref().to_string());
        }
    }
    None
}

/// The line, from 1, of a byte offset.
pub(super) fn line(text: &str, at: usize) -> usize {
    memchr::memchr_iter(b'\n', &text.as_bytes()[..at.min(text.len())]).count() + 1
}
