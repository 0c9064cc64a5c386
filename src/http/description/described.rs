//! A stream, with what registered schemas say of its keys and values.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::common::name_of;
use super::schemas;
use crate::config::{Format, StreamSettings};
use crate::decode::Part;
use crate::decode::used::Described;
use crate::json_schema::{any_of, or_null};
use crate::stream::Stream;

/// Where both documents have their schemas.
const COMPONENTS: &str = "#/components/schemas/";

/// A stream in the documents.
pub(super) struct DescribedStream<'s> {
    pub(super) stream: &'s Stream,
    /// Its name, which no other stream has.
    pub(super) name: String,
    /// The data of a record's event.
    pub(super) record: Value,
    /// The data of `delete`.
    pub(super) delete: Value,
}

impl DescribedStream<'_> {
    pub(super) fn settings(&self) -> &StreamSettings {
        self.stream.settings()
    }
}

/// Describes all streams, and puts the schemas that they refer to into `components`.
pub(super) fn describe<'s>(
    streams: &'s [Arc<Stream>],
    components: &mut Map<String, Value>,
) -> Vec<DescribedStream<'s>> {
    let mut described: Vec<DescribedStream<'s>> = Vec::new();
    for stream in streams {
        let settings = stream.settings();
        let wanted = name_of(&settings.path);
        let is_taken = |name: &String| described.iter().any(|other| other.name == *name);
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        let mut names = std::iter::once(wanted.clone()).chain(numbered);
        let name = names.find(|name| !is_taken(name)).unwrap_or_default();

        let keys = stream.schemas().describe(Part::Key, settings);
        let key = refer(keys, &format!("{name}.key"), components);
        let key = match key {
            Some(key) => schemas::key(or_null(key)),
            None => schemas::unregistered_key(settings),
        };
        let mut values = stream.schemas().describe(Part::Value, settings);
        let members = schemas::added(settings, &key);
        if settings.format == Format::Value && !members.is_empty() {
            for (_, description) in &mut values.schemas {
                description.put(&members);
            }
        }
        let value = refer(values, &format!("{name}.value"), components);
        described.push(DescribedStream {
            record: match (&value, settings.format) {
                (Some(value), Format::Value) => value.clone(),
                (Some(value), Format::Envelope) => {
                    schemas::envelope(settings, value, &key, &["json", "text", "base64"])
                }
                (None, _) => schemas::unregistered(settings, &key),
            },
            delete: schemas::delete(settings, &key),
            stream,
            name,
        });
    }
    described
}

/// Moves what schemas say to the components. Returns the reference to any of it; `None` where nothing is known.
fn refer(described: Described, name: &str, components: &mut Map<String, Value>) -> Option<Value> {
    let Described { schemas, is_complete } = described;
    if schemas.is_empty() {
        return None;
    }
    let references: Vec<Value> = schemas
        .into_iter()
        .map(|(label, description)| description.move_to(components, COMPONENTS, &format!("{name}.{label}")))
        .collect();
    // Values of other schemas may be anything.
    let open = (!is_complete).then(|| json!({}));
    components.insert(name.to_owned(), any_of(references.into_iter().chain(open)));
    Some(json!({ "$ref": format!("{COMPONENTS}{name}") }))
}
