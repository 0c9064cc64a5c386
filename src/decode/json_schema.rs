//! The registered schemas of JSON: what descriptions of the API say by them.
//!
//! They are of any draft, and refer to each other by URIs of any kind. Only keywords that mean the same in all drafts
//! are kept, and what cannot be expressed is left open, so a value that matches the registered schema matches the
//! description.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::registered::SchemaText;
use crate::json_schema::{Description, reference, type_name};

/// Keywords without schemas, with the type of their value in all drafts.
const KEPT: [(&str, IsType); 19] = [
    ("const", |_| true),
    ("contentEncoding", Value::is_string),
    ("contentMediaType", Value::is_string),
    ("deprecated", Value::is_boolean),
    ("description", Value::is_string),
    ("enum", Value::is_array),
    ("exclusiveMaximum", Value::is_number),
    ("exclusiveMinimum", Value::is_number),
    ("format", Value::is_string),
    ("maxItems", Value::is_u64),
    ("maxLength", Value::is_u64),
    ("maximum", Value::is_number),
    ("minItems", Value::is_u64),
    ("minLength", Value::is_u64),
    ("minimum", Value::is_number),
    ("multipleOf", Value::is_number),
    ("pattern", Value::is_string),
    ("title", Value::is_string),
    ("uniqueItems", Value::is_boolean),
];

/// Whether a value has a type.
type IsType = fn(&Value) -> bool;

/// The types of a schema.
const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

/// Most schemas around a schema.
const MAX_DEPTH: usize = 100;

/// A registered schema with those that it refers to. A text that is not JSON is as good as no schema: values are shown
/// all the same.
#[derive(Debug)]
pub(super) struct JsonSchema {
    /// The schema itself, then the others, each with the name by which it is referred to.
    documents: Vec<(String, Value)>,
}

impl JsonSchema {
    pub(super) fn new(text: &SchemaText) -> Self {
        let mut documents = vec![(String::new(), parse(&text.text))];
        collect(text, &mut documents);
        Self { documents }
    }

    pub(super) fn describe(&self) -> Description {
        let mut describer = Describer {
            documents: &self.documents,
            names: HashMap::new(),
            open: Vec::new(),
        };
        let (_, root) = &self.documents[0];
        let root = describer.schema(root, 0, 0);
        let mut types = BTreeMap::new();
        // A type at a time: they may refer to each other in chains of any length.
        while let Some((name, document, schema)) = describer.open.pop() {
            let schema = describer.schema(schema, document, 0);
            types.insert(name, schema);
        }
        Description { root, types }
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Bool(true))
}

fn collect(text: &SchemaText, documents: &mut Vec<(String, Value)>) {
    for reference in &text.references {
        if documents.iter().all(|(name, _)| *name != reference.name) {
            documents.push((reference.name.clone(), parse(&reference.schema.text)));
            collect(&reference.schema, documents);
        }
    }
}

struct Describer<'d> {
    documents: &'d [(String, Value)],
    /// Of schemas that were referred to, by document and JSON Pointer.
    names: HashMap<(usize, String), String>,
    /// Those of them that are not described yet.
    open: Vec<(String, usize, &'d Value)>,
}

impl<'d> Describer<'d> {
    /// The part of a schema that is kept.
    fn schema(&mut self, schema: &'d Value, document: usize, depth: usize) -> Value {
        let Some(keywords) = schema.as_object().filter(|_| depth < MAX_DEPTH) else {
            return if *schema == Value::Bool(false) {
                json!(false)
            } else {
                json!({})
            };
        };
        if let Some(target) = keywords.get("$ref") {
            // In older drafts, other keywords beside it have no effect.
            let target = target.as_str().and_then(|target| self.target(target, document));
            return target.map_or_else(|| json!({}), |name| reference(&name));
        }
        let mut parts = Vec::new();
        let plain = self.plain(keywords, document, depth + 1);
        if !plain.is_empty() {
            parts.push(Value::Object(plain));
        }
        let list = |keyword: &str| keywords.get(keyword).and_then(Value::as_array);
        for part in list("allOf").into_iter().flatten() {
            parts.push(self.schema(part, document, depth + 1));
        }
        // A part of a schema may match more than the schema does, so at least one alternative, not just one.
        for alternatives in [list("anyOf"), list("oneOf")].into_iter().flatten() {
            let alternatives: Vec<Value> = alternatives
                .iter()
                .map(|alternative| self.schema(alternative, document, depth + 1))
                .collect();
            if !alternatives.is_empty() {
                parts.push(json!({ "anyOf": alternatives }));
            }
        }
        match parts.len() {
            0 => json!({}),
            1 => parts.remove(0),
            _ => json!({ "allOf": parts }),
        }
    }

    fn plain(
        &mut self,
        keywords: &'d Map<String, Value>,
        document: usize,
        depth: usize,
    ) -> Map<String, Value> {
        let mut kept = Map::new();
        for (keyword, is_right) in KEPT {
            if let Some(value) = keywords.get(keyword).filter(|value| is_right(value)) {
                kept.insert(keyword.to_owned(), value.clone());
            }
        }
        let is_type = |value: &Value| value.as_str().is_some_and(|kind| TYPES.contains(&kind));
        let kinds = keywords.get("type").filter(|kinds| match kinds {
            Value::Array(kinds) => !kinds.is_empty() && kinds.iter().all(is_type),
            kind => is_type(kind),
        });
        kept.extend(kinds.map(|kinds| ("type".to_owned(), kinds.clone())));
        let are_names = |value: &Value| {
            value
                .as_array()
                .is_some_and(|names| names.iter().all(Value::is_string))
        };
        let required = keywords.get("required").filter(|required| are_names(required));
        kept.extend(required.map(|required| ("required".to_owned(), required.clone())));
        let mut by_name = |keyword: &str| {
            let schemas = keywords.get(keyword)?.as_object()?;
            let schemas: Map<String, Value> = schemas
                .iter()
                .map(|(name, schema)| (name.clone(), self.schema(schema, document, depth)))
                .collect();
            Some((keyword.to_owned(), Value::Object(schemas)))
        };
        kept.extend(by_name("properties"));
        kept.extend(by_name("patternProperties"));
        // A list of items, in older drafts, is one schema for each; so is the other keyword in newer ones.
        let is_tuple = keywords.contains_key("prefixItems");
        let items = keywords
            .get("items")
            .filter(|items| !items.is_array() && !is_tuple);
        let others = keywords.get("additionalProperties");
        for (keyword, schema) in [("items", items), ("additionalProperties", others)] {
            if let Some(schema) = schema {
                kept.insert(keyword.to_owned(), self.schema(schema, document, depth));
            }
        }
        kept
    }

    /// The name of the type that a URI leads to, from within a document.
    fn target(&mut self, uri: &str, document: usize) -> Option<String> {
        let (base, fragment) = uri.split_once('#').unwrap_or((uri, ""));
        let documents = self.documents;
        let document = if base.is_empty() {
            document
        } else {
            let is_meant = |(name, schema): &(String, Value)| {
                let ids = ["$id", "id"]
                    .into_iter()
                    .filter_map(|keyword| schema.get(keyword)?.as_str());
                let mut ids = ids.map(|id| id.trim_end_matches('#'));
                name == base || ids.any(|id| id == base || id.rsplit('/').next() == Some(base))
            };
            documents.iter().position(is_meant)?
        };
        let fragment = percent_encoding::percent_decode_str(fragment)
            .decode_utf8()
            .ok()?;
        let schema = documents.get(document)?.1.pointer(&fragment)?;
        let place = (document, fragment.into_owned());
        if let Some(name) = self.names.get(&place) {
            return Some(name.clone());
        }
        let last = place.1.rsplit('/').next().unwrap_or_default();
        let (file, _) = documents.get(document)?;
        let wanted = match type_name(if last.is_empty() { file } else { last }) {
            name if name.is_empty() => "root".to_owned(),
            name => name,
        };
        let is_taken = |name: &String| self.names.values().any(|taken| taken == name);
        let mut names = (2..).map(|number| format!("{wanted}-{number}"));
        let name = Some(wanted.clone()).filter(|name| !is_taken(name));
        let name = name.or_else(|| names.find(|name| !is_taken(name)))?;
        self.names.insert(place, name.clone());
        self.open.push((name.clone(), document, schema));
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::registered::{Reference, SchemaKind};

    fn text(schema: &Value, references: Vec<Reference>) -> SchemaText {
        SchemaText {
            kind: SchemaKind::Json,
            text: schema.to_string(),
            references,
        }
    }

    #[test]
    fn references_within_and_between_documents_are_types() {
        let address = json!({
            "$id": "http://example.org/schemas/address.json",
            "definitions": { "city": { "type": "string", "minLength": 1 } },
            "type": "object",
            "properties": { "city": { "$ref": "#/definitions/city" } },
        });
        let person = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "http://example.org/schemas/person.json",
            "type": "object",
            "properties": {
                "home": { "$ref": "address.json" },
                "city": { "$ref": "address.json#/definitions/city" },
                "friends": { "type": "array", "items": { "$ref": "#" } },
                "lost": { "$ref": "elsewhere.json" },
            },
            "required": ["home"],
        });
        let address = Reference {
            name: "address.json".to_owned(),
            schema: text(&address, Vec::new()),
        };
        let described = JsonSchema::new(&text(&person, vec![address])).describe();
        let properties = &described.root["properties"];
        assert_eq!(properties["home"], reference("address.json"));
        assert_eq!(properties["city"], reference("city"));
        assert_eq!(properties["friends"]["items"], reference("root"));
        assert_eq!(properties["lost"], json!({}));
        assert_eq!(described.root["required"], json!(["home"]));
        assert_eq!(described.types["root"], described.root);
        assert_eq!(
            described.types["address.json"]["properties"]["city"],
            reference("city")
        );
        assert_eq!(
            described.types["city"],
            json!({ "type": "string", "minLength": 1 })
        );
    }

    #[test]
    fn what_drafts_disagree_on_is_left_open() {
        let schema = json!({
            "type": ["object", "null"],
            "properties": {
                "pair": { "type": "array", "items": [{ "type": "string" }, {}], "additionalItems": false },
                "price": { "type": "number", "minimum": 0, "exclusiveMinimum": true },
                "kind": { "oneOf": [{ "const": "a" }, { "type": "string" }], "description": "what it is" },
            },
            "required": true,
            "not": { "required": ["x"] },
            "if": {}, "then": false,
            "examples": [{ "pair": ["a"] }],
        });
        assert_eq!(
            JsonSchema::new(&text(&schema, Vec::new())).describe().root,
            json!({
                "type": ["object", "null"],
                "properties": {
                    "pair": { "type": "array" },
                    "price": { "type": "number", "minimum": 0 },
                    "kind": { "allOf": [
                        { "description": "what it is" },
                        { "anyOf": [{ "const": "a" }, { "type": "string" }] },
                    ] },
                },
            })
        );
        let broken = SchemaText {
            text: "{".to_owned(),
            ..text(&json!({}), Vec::new())
        };
        assert_eq!(JsonSchema::new(&broken).describe(), Description::of(json!({})));
    }
}
