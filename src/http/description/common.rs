//! Parts that both documents share.

use serde_json::{Value, json};

/// The product, in both documents.
pub(super) fn info(what: &str) -> Value {
    json!({
        "title": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "description": what,
        "license": { "name": env!("CARGO_PKG_LICENSE") },
    })
}

/// A path as part of a name: letters, digits and dashes.
pub(super) fn name_of(path: &str) -> String {
    let plain: String = path
        .trim_matches('/')
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                '-'
            }
        })
        .collect();
    if plain.is_empty() {
        "root".to_owned()
    } else {
        plain
    }
}
