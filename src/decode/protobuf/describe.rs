//! The JSON Schema of the JSON that messages are shown as.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Enum, Field, Kind, Known, Protobuf, Shape};
use crate::decode::json::Options;
use crate::decode::shapes::{BASE64, int64, member_name, not_finite, number_or, uint64};
use crate::json_schema::{Description, reference, type_name};

impl Protobuf {
    /// The schema of a message, by its place.
    pub(in crate::decode) fn describe(&self, root: usize, options: Options) -> Description {
        let mut describer = Describer {
            protobuf: self,
            options,
            met: BTreeSet::new(),
            open: Vec::new(),
        };
        let root = describer.message(root);
        let mut types = BTreeMap::new();
        // A type at a time: they may refer to each other in chains of any length.
        while let Some(place) = describer.open.pop() {
            let schema = describer.fields(place);
            types.insert(type_name(&self.messages[place].name), schema);
        }
        Description { root, types }
    }
}

struct Describer<'p> {
    protobuf: &'p Protobuf,
    options: Options,
    /// Messages that were referred to.
    met: BTreeSet<usize>,
    /// Those of them that are not described yet.
    open: Vec<usize>,
}

impl Describer<'_> {
    fn message(&mut self, place: usize) -> Value {
        let Some(message) = self.protobuf.messages.get(place) else {
            return json!({});
        };
        match message.known {
            Known::None => {
                if self.met.insert(place) {
                    self.open.push(place);
                }
                reference(&type_name(&message.name))
            }
            Known::Any => json!({ "type": "object", "properties": { "@type": { "type": "string" } } }),
            Known::Duration => json!({ "type": "string", "pattern": "^-?[0-9]+([.][0-9]+)?s$" }),
            Known::FieldMask => json!({ "type": "string" }),
            Known::ListValue => json!({ "type": "array" }),
            Known::Struct => json!({ "type": "object" }),
            Known::Timestamp => json!({ "type": "string", "format": "date-time" }),
            Known::Value => json!({}),
            Known::Wrapper => {
                let kind = message.fields.first().map(|field| field.kind);
                kind.map_or_else(|| json!({}), |kind| self.kind(kind))
            }
        }
    }

    /// A message of fields, each of which may be absent.
    fn fields(&mut self, place: usize) -> Value {
        let protobuf = self.protobuf;
        let fields = &protobuf.messages[place].fields;
        let members: Map<String, Value> = fields
            .iter()
            .map(|field| (member_name(&field.name), self.field(field)))
            .collect();
        json!({ "type": "object", "properties": members })
    }

    fn field(&mut self, field: &Field) -> Value {
        match field.shape {
            Shape::Optional | Shape::Implicit => self.kind(field.kind),
            Shape::List => json!({ "type": "array", "items": self.kind(field.kind) }),
            Shape::Map => {
                let value = match field.kind {
                    // The key and the value.
                    Kind::Message(entry) => self
                        .protobuf
                        .messages
                        .get(entry)
                        .and_then(|entry| entry.fields.get(1)),
                    _ => None,
                };
                let value = value.map_or_else(|| json!({}), |value| self.kind(value.kind));
                json!({ "type": "object", "additionalProperties": value })
            }
        }
    }

    fn kind(&mut self, kind: Kind) -> Value {
        match kind {
            Kind::Double | Kind::Float => not_finite(),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "minimum": 0 }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => int64(self.options),
            Kind::Uint64 | Kind::Fixed64 => uint64(self.options),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": BASE64 }),
            Kind::Message(place) | Kind::Group(place) => self.message(place),
            Kind::Enum(place) => self.protobuf.enums.get(place).map_or_else(|| json!({}), symbols),
        }
    }
}

/// The names of an enum; a number where an open one has no name for it.
fn symbols(of: &Enum) -> Value {
    let names = of
        .values
        .iter()
        .filter_map(|(_, name)| serde_json::from_slice(name).ok());
    let names: Vec<Value> = names.collect();
    let names = json!({ "enum": names });
    if of.is_closed {
        names
    } else {
        number_or(names, json!({ "type": "integer", "format": "int32" }))
    }
}
