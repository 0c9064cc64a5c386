//! The JSON Schema of the JSON that values are shown as.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Avro, Branch, Field, Index, Node};
use crate::decode::json::Options;
use crate::decode::shapes::{BASE64, int64, member_name, not_finite, number_or};
use crate::json_schema::{Description, any_of, object_of, or_null, reference, type_name};

impl Avro {
    pub(in crate::decode) fn describe(&self, options: Options) -> Description {
        let mut describer = Describer {
            avro: self,
            options,
            met: BTreeSet::new(),
            open: Vec::new(),
        };
        let root = describer.value(self.root);
        let mut types = BTreeMap::new();
        // A type at a time: they may refer to each other in chains of any length.
        while let Some((index, fields)) = describer.open.pop() {
            let record = describer.record(fields);
            types.insert(describer.name(index), record);
        }
        Description { root, types }
    }
}

struct Describer<'a> {
    avro: &'a Avro,
    options: Options,
    /// Records that were referred to.
    met: BTreeSet<Index>,
    /// Those of them that are not described yet.
    open: Vec<(Index, &'a [Field])>,
}

impl<'a> Describer<'a> {
    fn name(&self, index: Index) -> String {
        let name = self.avro.names.get(&index).map_or("record", |name| name);
        type_name(name)
    }

    fn value(&mut self, index: Index) -> Value {
        let avro: &'a Avro = self.avro;
        match &avro.nodes[index] {
            Node::Null => json!({ "type": "null" }),
            Node::Boolean => json!({ "type": "boolean" }),
            Node::Int => json!({ "type": "integer", "format": "int32" }),
            Node::Long => int64(self.options),
            Node::Float | Node::Double => not_finite(),
            Node::Bytes | Node::Fixed(_) => json!({ "type": "string", "contentEncoding": BASE64 }),
            Node::String => json!({ "type": "string" }),
            Node::Enum(symbols) => {
                let symbols: Vec<Value> = symbols
                    .iter()
                    .filter_map(|symbol| serde_json::from_slice(symbol).ok())
                    .collect();
                json!({ "type": "string", "enum": symbols })
            }
            Node::Array(items) => json!({ "type": "array", "items": self.value(*items) }),
            Node::Map(values) => json!({ "type": "object", "additionalProperties": self.value(*values) }),
            Node::Union(branches) => self.union(branches),
            Node::Record(fields) => {
                if self.met.insert(index) {
                    self.open.push((index, fields));
                }
                reference(&self.name(index))
            }
            Node::Decimal(..) | Node::BigDecimal => {
                json!({ "type": "string", "pattern": "^-?[0-9]+([.][0-9]+)?$" })
            }
            Node::UuidText | Node::UuidBytes(_) => json!({ "type": "string", "format": "uuid" }),
            Node::Date => self.time(json!({ "type": "string", "format": "date" }), false),
            Node::TimeMillis => self.time(time_of_day(), false),
            Node::TimeMicros => self.time(time_of_day(), true),
            Node::Timestamp(_, true) => {
                let local = json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+$" });
                self.time(local, true)
            }
            Node::Timestamp(_, false) => self.time(json!({ "type": "string", "format": "date-time" }), true),
            Node::Duration => json!({ "type": "string", "pattern": "^P[0-9]+M[0-9]+DT[0-9]+[.][0-9]{3}S$" }),
        }
    }

    /// A time, or the number that it is where RFC 3339 cannot express it.
    fn time(&self, text: Value, is_long: bool) -> Value {
        let number = if is_long {
            int64(self.options)
        } else {
            json!({ "type": "integer", "format": "int32" })
        };
        if self.options.numbers_times {
            number
        } else {
            number_or(text, number)
        }
    }

    fn union(&mut self, branches: &[Branch]) -> Value {
        let mut schemas = Vec::new();
        for branch in branches.iter().filter(|branch| !branch.is_null) {
            let schema = self.value(branch.node);
            schemas.push(if self.options.tags_unions {
                tagged(&member_name(&branch.name), schema)
            } else {
                schema
            });
        }
        let has_null = branches.iter().any(|branch| branch.is_null);
        match schemas.is_empty() {
            true => json!({ "type": "null" }),
            false if has_null => or_null(any_of(schemas)),
            false => any_of(schemas),
        }
    }

    fn record(&mut self, fields: &[Field]) -> Value {
        let mut members = Map::new();
        for field in fields {
            members.insert(member_name(&field.name), self.value(field.node));
        }
        // Each of them is always there.
        object_of(&members)
    }
}

fn time_of_day() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]+$" })
}

fn tagged(name: &str, schema: Value) -> Value {
    let mut members = Map::new();
    members.insert(name.to_owned(), schema);
    let mut object = object_of(&members);
    object["additionalProperties"] = json!(false);
    object
}
