//! The JSON Schemas of what is written for the simple types of all languages.

use serde_json::{Value, json};

use super::json::Options;
use crate::json_schema::any_of;

/// `contentEncoding` of bytes.
pub(super) const BASE64: &str = "base64";

/// An integer of 64 bits.
pub(super) fn int64(options: Options) -> Value {
    if options.quotes_int64 {
        json!({ "type": "string", "pattern": "^-?[0-9]+$" })
    } else {
        json!({ "type": "integer", "format": "int64" })
    }
}

/// An integer of 64 bits without a sign.
#[cfg(feature = "protobuf")]
pub(super) fn uint64(options: Options) -> Value {
    if options.quotes_int64 {
        json!({ "type": "string", "pattern": "^[0-9]+$" })
    } else {
        json!({ "type": "integer", "minimum": 0 })
    }
}

/// A number of floating point, with strings for what JSON has no numbers for.
pub(super) fn not_finite() -> Value {
    number_or(
        json!({ "type": "string", "enum": ["NaN", "Infinity", "-Infinity"] }),
        json!({ "type": "number" }),
    )
}

/// A text, or a number where the value has no text.
pub(super) fn number_or(text: Value, number: Value) -> Value {
    any_of([number, text])
}

/// The name of a member, from how it is written: a JSON string with a colon, perhaps with a comma in front.
pub(super) fn member_name(written: &[u8]) -> String {
    let written = written.strip_prefix(b",").unwrap_or(written);
    let name = written.strip_suffix(b":").unwrap_or(written);
    serde_json::from_slice(name).unwrap_or_default()
}
