//! The rules of what a stream shows of its values.

use super::faults::Faults;
use super::filter::{MAX_PATH, Name, split};
use super::formats::{AvroJson, DataFormat, Unwrap};
use super::projection::Projection;
use super::stream::StreamSettings;

pub(super) fn validate(stream: &StreamSettings, key: &dyn Fn(&str) -> String, faults: &mut Faults) {
    let needs_objects = [
        ("unwrap", stream.unwrap.is_some()),
        ("fields", !stream.fields.is_empty()),
        ("hide", !stream.hide.is_empty()),
    ];
    for (name, is_set) in needs_objects {
        if is_set && !stream.value_format.has_objects() {
            let message = format!(
                "needs values that are JSON objects, which value_format = \"{}\" has none of; remove it, or say what the values \
                 are",
                stream.value_format
            );
            faults.add(key(name), message);
        }
    }
    if !stream.fields.is_empty() && !stream.hide.is_empty() {
        faults.add(
            key("hide"),
            "is set beside fields, which shows nothing else anyway; keep one of them",
        );
    }
    for (name, paths) in [("fields", &stream.fields), ("hide", &stream.hide)] {
        if is_tagged(stream) && !paths.is_empty() {
            // The names of types are between the names of members, also at the outside of a value.
            faults.add(
                key(name),
                "does not find members of a union in avro_json = \"tagged\", where they are within the name of their type; \
                 remove avro_json",
            );
        }
        for path in paths {
            if let Some(fault) = fault_of(path) {
                faults.add(key(name), format!("{path:?} {fault}"));
            }
        }
    }
    check_unwrap(stream, key, faults);
    check_filter(stream, key, faults);
}

/// Whether a value of a union is within the name of its type.
fn is_tagged(stream: &StreamSettings) -> bool {
    stream.avro_json == AvroJson::Tagged
        && matches!(stream.value_format, DataFormat::Avro | DataFormat::Registry)
}

/// The fault of a path, if any.
pub(super) fn fault_of(path: &str) -> Option<String> {
    let Some(names) = split(path) else {
        return Some(
            "has a backslash before something other than a dot or a backslash; write \\\\ for a backslash"
                .to_owned(),
        );
    };
    if names.iter().any(String::is_empty) {
        return Some("lacks a name between or beside its dots; write it like address.city".to_owned());
    }
    (names.len() > MAX_PATH).then(|| format!("has more than {MAX_PATH} names"))
}

fn check_unwrap(stream: &StreamSettings, key: &dyn Fn(&str) -> String, faults: &mut Faults) {
    if let Some(Unwrap::Debezium) = stream.unwrap
        && is_tagged(stream)
    {
        faults.add(
            key("unwrap"),
            "does not find \"after\" in avro_json = \"tagged\"; remove avro_json",
        );
    }
    let Some(field) = &stream.metadata_field else {
        return;
    };
    if stream.unwrap.is_none() {
        faults.add(
            key("metadata_field"),
            "has no effect without unwrap, which takes the row out of a change event; set unwrap = \"debezium\", or remove it",
        );
    }
    if field.is_empty() {
        faults.add(
            key("metadata_field"),
            "is empty; name it like \"change\", or remove it",
        );
    }
}

/// The stream's own filter compares what clients see.
fn check_filter(stream: &StreamSettings, key: &dyn Fn(&str) -> String, faults: &mut Faults) {
    let Some(projection) = Projection::of(stream) else {
        return;
    };
    for name in stream.filter.keys() {
        if let Ok(Some(Name::Value(path))) = Name::parse(name)
            && !projection.shows(&path)
        {
            let message = format!(
                "{name:?} compares what fields or hide leaves out, so nothing would pass; filter by the key or a header, or show \
                 it"
            );
            faults.add(key("filter"), message);
        }
    }
}
