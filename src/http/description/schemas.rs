//! JSON Schemas (2020-12) of what streams send.

use serde_json::{Map, Value, json};

use crate::config::{AddedField, DataFormat, Format, Int64, StreamSettings};
use crate::json_schema::object_of;
use crate::sse::control::ControlEvent;
use crate::stream::control::{CaughtUp, Goodbye, Reset};

/// The data of a record's event, where no registered schema describes the value.
pub(super) fn unregistered(settings: &StreamSettings, key: &Value) -> Value {
    let members = added(settings, key);
    match settings.format {
        Format::Envelope => envelope(settings, &value(settings), key, &["json", "text", "base64"]),
        Format::Value if members.is_empty() => value(settings),
        Format::Value => {
            let mut schema = object_of(&members);
            schema["description"] = json!("the value of the record, with what the stream puts into it");
            schema
        }
    }
}

/// The members that the stream adds to its values.
pub(super) fn added(settings: &StreamSettings, key: &Value) -> Map<String, Value> {
    let added = AddedField::of(settings).map(|(field, name)| (field, name.as_str()));
    members(settings, key, added)
}

/// The data of `delete`.
pub(super) fn delete(settings: &StreamSettings, key: &Value) -> Value {
    if settings.format == Format::Envelope {
        return envelope(settings, &json!({ "type": "null" }), key, &["tombstone"]);
    }
    object_of(&members(settings, key, AddedField::of_deletes(settings)))
}

fn members<'s>(
    settings: &StreamSettings,
    key: &Value,
    fields: impl Iterator<Item = (AddedField, &'s str)>,
) -> Map<String, Value> {
    let mut members = Map::new();
    for (field, name) in fields {
        let schema = match field {
            AddedField::Key => key.clone(),
            AddedField::Topic => topic(settings),
            AddedField::Partition => partition(),
            AddedField::Offset => offset(),
            AddedField::Timestamp => timestamp(),
            AddedField::Headers => headers(),
        };
        members.insert(name.to_owned(), schema);
    }
    members
}

fn value(settings: &StreamSettings) -> Value {
    let mut schema = match settings.value_format {
        DataFormat::Text => json!({ "type": "string" }),
        DataFormat::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        format => decoded(format, settings, &[]),
    };
    schema["description"] = json!("the value of the record");
    schema
}

/// The key, where no registered schema describes it.
pub(super) fn unregistered_key(settings: &StreamSettings) -> Value {
    let base64 = json!({
        "type": "object",
        "properties": { "base64": { "type": "string", "contentEncoding": "base64" } },
        "required": ["base64"],
        "additionalProperties": false,
    });
    key(match settings.key_format {
        DataFormat::Text => json!({ "oneOf": [{ "type": ["string", "null"] }, base64] }),
        DataFormat::Bytes => json!({ "oneOf": [{ "type": "null" }, base64] }),
        format => decoded(format, settings, &["null"]),
    })
}

/// The key, by this schema.
pub(super) fn key(mut schema: Value) -> Value {
    schema["description"] = json!("the key of the record");
    schema
}

/// A decoded value, or any of the `other` types. Everything that a schema describes may be anything here.
fn decoded(format: DataFormat, settings: &StreamSettings, other: &[&str]) -> Value {
    let types: &[&str] = match format {
        DataFormat::Int16 | DataFormat::Int32 => &["integer"],
        DataFormat::Int64 if settings.int64 == Int64::Number => &["integer"],
        DataFormat::Int64 | DataFormat::Uuid => &["string"],
        // Strings for what JSON has no numbers for.
        DataFormat::Float | DataFormat::Double => &["number", "string"],
        _ => return json!({}),
    };
    let types = [types, other].concat();
    json!({ "type": types })
}

fn topic(settings: &StreamSettings) -> Value {
    json!({ "type": "string", "enum": settings.topics })
}

fn partition() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn offset() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn timestamp() -> Value {
    json!({ "type": ["integer", "null"], "description": "milliseconds since 1970" })
}

fn headers() -> Value {
    json!({ "type": "object", "description": "values by name; an array where a name is repeated" })
}

/// An envelope around this value.
pub(super) fn envelope(settings: &StreamSettings, value: &Value, key: &Value, encodings: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": {
            "topic": topic(settings),
            "partition": partition(),
            "offset": offset(),
            "timestamp": timestamp(),
            "key": key,
            "headers": headers(),
            "value": value,
            "encoding": { "type": "string", "enum": encodings },
        },
        "required": ["topic", "partition", "offset", "timestamp", "key", "headers", "value", "encoding"],
    })
}

/// When a control event is sent, and its data; `None` for `delete`, which depends on the stream.
pub(super) fn control(event: ControlEvent) -> Option<(&'static str, Value)> {
    let nothing = json!({ "type": "object", "additionalProperties": false });
    Some(match event {
        ControlEvent::Delete => return None,
        ControlEvent::CaughtUp => (
            "All following events are live.",
            reason(CaughtUp::ALL.iter().map(|reason| reason.as_str())),
        ),
        ControlEvent::Checkpoint => (
            "The position of a client to which nothing was sent for a while.",
            nothing,
        ),
        ControlEvent::Conflated => (
            "The client was too slow: the latest record of each key replaces those that it has missed.",
            json!({
                "type": "object",
                "properties": { "skipped": { "type": "integer", "minimum": 0 } },
                "required": ["skipped"],
            }),
        ),
        ControlEvent::Gap => (
            "Offsets that no longer exist, or that other records have.",
            json!({
                "type": "object",
                "properties": {
                    "topic": { "type": "string" },
                    "partition": { "type": "integer", "minimum": 0 },
                    "from": { "type": "integer", "minimum": 0 },
                    "to": { "type": "integer", "minimum": 0 },
                    "reason": { "type": "string", "enum": ["expired", "truncated"] },
                },
                "required": ["topic", "partition", "from", "to", "reason"],
            }),
        ),
        ControlEvent::Goodbye => (
            "The server ends the stream; reconnect after the time in retry.",
            reason(Goodbye::ALL.iter().map(|reason| reason.as_str())),
        ),
        ControlEvent::Heartbeat => (
            "The connection is alive.",
            json!({
                "type": "object",
                "properties": { "time": { "type": "string", "format": "date-time" } },
                "required": ["time"],
            }),
        ),
        ControlEvent::Reauthenticate => (
            "The token of the client is about to end.",
            json!({
                "type": "object",
                "properties": { "seconds": { "type": "integer", "minimum": 0 } },
                "required": ["seconds"],
            }),
        ),
        ControlEvent::Reset => {
            let mut schema = reason(Reset::ALL.iter().map(|reason| reason.as_str()));
            schema["properties"]["topic"] = json!({ "type": "string" });
            (
                "Discard your data, of the topic if one is named; the following events rebuild it.",
                schema,
            )
        }
    })
}

fn reason<'r>(reasons: impl Iterator<Item = &'r str>) -> Value {
    json!({
        "type": "object",
        "properties": { "reason": { "type": "string", "enum": reasons.collect::<Vec<_>>() } },
        "required": ["reason"],
    })
}
