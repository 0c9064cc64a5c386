//! JSON Schemas (2020-12) of what a stream shows, for descriptions of its API.
//!
//! A [`Description`] has few keywords: `type`, `properties`, `items`, `anyOf` and the like, and `$ref` to its own
//! types. So it can be read as draft 7 too, which AsyncAPI uses. Pure.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The prefix of a reference within a description.
const TYPES: &str = "#/$defs/";

/// Keywords that have one schema.
const WITH_SCHEMA: [&str; 2] = ["additionalProperties", "items"];

/// Keywords that have a list of schemas.
pub(crate) const WITH_LIST: [&str; 3] = ["allOf", "anyOf", "prefixItems"];

/// Keywords that have schemas by name.
const WITH_NAMES: [&str; 2] = ["patternProperties", "properties"];

/// Most references that are followed from one place: a type may be nothing but itself.
const MAX_REFERENCES: usize = 32;

/// The schema of a value, with the types that it refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The schema.
    pub root: Value,
    /// Types by name, of letters, digits, dots, dashes and underscores.
    pub types: BTreeMap<String, Value>,
}

/// A reference to a type of the description.
#[must_use]
pub(crate) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{TYPES}{name}") })
}

/// The type that a schema is a reference to.
#[must_use]
pub(crate) fn referred(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(TYPES)
}

/// A name in which all other characters than those of a type's name are replaced.
#[must_use]
pub(crate) fn type_name(text: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.chars().map(|c| if is_kept(c) { c } else { '_' }).collect()
}

/// Any of these schemas, each once.
#[must_use]
pub(crate) fn any_of(schemas: impl IntoIterator<Item = Value>) -> Value {
    let mut different: Vec<Value> = Vec::new();
    for schema in schemas {
        if !different.contains(&schema) {
            different.push(schema);
        }
    }
    if different.len() == 1 {
        return different.remove(0);
    }
    json!({ "anyOf": different })
}

/// A schema, or null.
#[must_use]
pub(crate) fn or_null(mut schema: Value) -> Value {
    let null = json!({ "type": "null" });
    if schema.as_object().is_some_and(Map::is_empty) {
        return schema;
    }
    if let Some(alternatives) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        if !alternatives.contains(&null) {
            alternatives.push(null);
        }
        return schema;
    }
    if schema.get("enum").is_none() && schema.get("const").is_none() {
        match schema.get_mut("type") {
            Some(kind @ Value::String(_)) if kind != "null" => {
                *kind = json!([kind.take(), "null"]);
                return schema;
            }
            Some(Value::Array(kinds)) => {
                if !kinds.iter().any(|kind| kind == "null") {
                    kinds.push(json!("null"));
                }
                return schema;
            }
            _ => {}
        }
    }
    any_of([schema, null])
}

impl Description {
    /// A schema without types of its own.
    #[must_use]
    pub fn of(root: Value) -> Self {
        Self {
            root,
            types: BTreeMap::new(),
        }
    }

    /// The schema that a chain of references leads to; any value where it leads nowhere.
    #[must_use]
    pub fn resolve<'d>(&'d self, mut schema: &'d Value) -> &'d Value {
        for _ in 0..MAX_REFERENCES {
            let Some(name) = referred(schema) else {
                return schema;
            };
            schema = self.types.get(name).unwrap_or(&Value::Bool(true));
        }
        &Value::Bool(true)
    }

    /// The schema of a member of an object, where it is the same in all of its alternatives that have one.
    #[must_use]
    pub fn member<'d>(&'d self, of: &'d Value, name: &str) -> Option<&'d Value> {
        let of = self.resolve(of);
        if let Some(member) = of.get("properties").and_then(|members| members.get(name)) {
            return Some(member);
        }
        let alternatives = ["anyOf", "allOf"]
            .into_iter()
            .filter_map(|list| of.get(list)?.as_array());
        alternatives
            .flatten()
            .find_map(|alternative| self.resolve(alternative).get("properties")?.get(name))
    }

    /// A schema without null as an alternative.
    #[must_use]
    pub(crate) fn without_null(&self, schema: &Value) -> Value {
        let is_null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
        let mut schema = schema.clone();
        if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
            kinds.retain(|kind| kind != "null");
        }
        if let Some(alternatives) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
            alternatives.retain(|alternative| !is_null(self.resolve(alternative)));
            if let [only] = alternatives.as_mut_slice() {
                return only.take();
            }
        }
        schema
    }

    /// Whether a value of the schema may be a string.
    #[must_use]
    pub(crate) fn may_be_text(&self, schema: &Value) -> bool {
        let schema = self.resolve(schema);
        if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
            return alternatives
                .iter()
                .any(|alternative| match referred(alternative) {
                    // Named types are objects, but for some of JSON Schema.
                    Some(_) => has_type(self.resolve(alternative), "string"),
                    None => self.may_be_text(alternative),
                });
        }
        has_type(schema, "string")
    }

    /// Gives the object that the root describes these members; they replace those of the same names.
    pub fn put(&mut self, members: &Map<String, Value>) {
        self.root = self.with(&self.root, members, MAX_REFERENCES);
        self.prune();
    }

    fn with(&self, schema: &Value, members: &Map<String, Value>, depth: usize) -> Value {
        let Some(depth) = depth.checked_sub(1) else {
            return object_of(members);
        };
        let schema = self.resolve(schema);
        let list = |keyword: &str| schema.get(keyword).and_then(Value::as_array);
        if let Some(alternatives) = list("anyOf") {
            let objects = alternatives
                .iter()
                .filter(|alternative| has_type(self.resolve(alternative), "object"));
            return any_of(objects.map(|alternative| self.with(alternative, members, depth)));
        }
        if let Some(parts) = list("allOf") {
            let parts: Vec<_> = parts.iter().map(|part| self.with(part, members, depth)).collect();
            return json!({ "allOf": parts });
        }
        let mut object = object_of(members);
        if let Some(before) = schema.get("properties").and_then(Value::as_object) {
            for (name, member) in before {
                if !members.contains_key(name) {
                    object["properties"][name] = member.clone();
                }
            }
        }
        if let Some(before) = schema.get("required").and_then(Value::as_array) {
            let mut required: BTreeSet<&str> = before.iter().filter_map(Value::as_str).collect();
            required.extend(members.keys().map(String::as_str));
            object["required"] = json!(required);
        }
        if let Some(others) = schema.get("additionalProperties")
            && schema.get("patternProperties").is_none()
        {
            object["additionalProperties"] = others.clone();
        }
        object
    }

    /// Forgets the types that nothing refers to.
    pub(crate) fn prune(&mut self) {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&Value> = vec![&self.root];
        while let Some(schema) = open.pop() {
            if let Some(name) = referred(schema)
                && let Some((name, schema)) = self.types.get_key_value(name)
                && reached.insert(name.clone())
            {
                open.push(schema);
            }
            open.extend(subschemas(schema));
        }
        self.types.retain(|name, _| reached.contains(name));
    }

    /// Moves the types, and the root where it is none of them, to a collection that is found at `at`, under names that
    /// begin with `prefix`. Returns the reference to the root.
    pub fn move_to(mut self, types: &mut Map<String, Value>, at: &str, prefix: &str) -> Value {
        let named = |name: &str| format!("{prefix}.{name}");
        for (name, mut schema) in std::mem::take(&mut self.types) {
            redirect(&mut schema, &|name| format!("{at}{}", named(name)));
            types.insert(named(&name), schema);
        }
        let is_type = referred(&self.root).is_some();
        redirect(&mut self.root, &|name| format!("{at}{}", named(name)));
        if is_type {
            return self.root;
        }
        types.insert(prefix.to_owned(), self.root);
        json!({ "$ref": format!("{at}{prefix}") })
    }

    /// Bytes of it as JSON.
    #[must_use]
    pub fn size(&self) -> usize {
        let types = self
            .types
            .iter()
            .map(|(name, schema)| name.len() + schema.to_string().len());
        self.root.to_string().len() + types.sum::<usize>()
    }
}

/// An object with these members, all of them required.
#[must_use]
pub(crate) fn object_of(members: &Map<String, Value>) -> Value {
    let required: Vec<&String> = members.keys().collect();
    json!({ "type": "object", "properties": members, "required": required })
}

/// Whether a value of a schema without references may be of this type.
#[must_use]
pub(crate) fn has_type(schema: &Value, wanted: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == wanted,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == wanted),
        _ => match schema.get("enum").and_then(Value::as_array) {
            Some(values) => values.iter().any(|value| type_of(value) == wanted),
            None => true,
        },
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The schemas within a schema.
fn subschemas(schema: &Value) -> impl Iterator<Item = &Value> {
    let one = WITH_SCHEMA.iter().filter_map(|keyword| schema.get(keyword));
    let lists = WITH_LIST
        .iter()
        .filter_map(|keyword| schema.get(keyword)?.as_array());
    let names = WITH_NAMES
        .iter()
        .filter_map(|keyword| schema.get(keyword)?.as_object());
    one.chain(lists.flatten()).chain(names.flat_map(Map::values))
}

/// Has the references of a schema lead to where `to` says.
fn redirect(schema: &mut Value, to: &dyn Fn(&str) -> String) {
    let Some(keywords) = schema.as_object_mut() else {
        return;
    };
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("$ref", Value::String(target)) => {
                if let Some(name) = target.strip_prefix(TYPES) {
                    *target = to(name);
                }
            }
            (keyword, Value::Array(schemas)) if WITH_LIST.contains(&keyword) => {
                for schema in schemas {
                    redirect(schema, to);
                }
            }
            (keyword, Value::Object(schemas)) if WITH_NAMES.contains(&keyword) => {
                for schema in schemas.values_mut() {
                    redirect(schema, to);
                }
            }
            (keyword, schema) if WITH_SCHEMA.contains(&keyword) => redirect(schema, to),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Description {
        let next = or_null(reference("List"));
        let list = json!({ "type": "object", "properties": { "next": next, "$ref": { "type": "string" } } });
        Description {
            root: reference("List"),
            types: [("List".to_owned(), list), ("Unused".to_owned(), json!({}))].into(),
        }
    }

    #[test]
    fn types_are_moved_with_their_references() {
        let mut description = list();
        description.prune();
        let mut types = Map::new();
        let root = description.move_to(&mut types, "#/components/schemas/", "orders.value.7");
        let expected = json!({ "$ref": "#/components/schemas/orders.value.7.List" });
        assert_eq!(root, expected);
        assert_eq!(types.keys().collect::<Vec<_>>(), ["orders.value.7.List"]);
        let list = &types["orders.value.7.List"]["properties"];
        assert_eq!(list["next"]["anyOf"][0], expected);
        assert_eq!(list["$ref"], json!({ "type": "string" }), "a member of that name");
    }

    #[test]
    fn members_are_put_into_every_alternative_that_is_an_object() {
        let mut description = list();
        description.root = json!({ "anyOf": [
            reference("List"),
            { "type": "string" },
            { "type": "object", "additionalProperties": { "type": "string" } },
        ] });
        let mut members = Map::new();
        members.insert("next".to_owned(), json!({ "type": "integer" }));
        description.put(&members);
        assert_eq!(
            description.root,
            json!({ "anyOf": [
                {
                    "type": "object",
                    "properties": { "next": { "type": "integer" }, "$ref": { "type": "string" } },
                    "required": ["next"],
                },
                {
                    "type": "object",
                    "properties": { "next": { "type": "integer" } },
                    "required": ["next"],
                    "additionalProperties": { "type": "string" },
                },
            ] })
        );
        assert_eq!(description.types, BTreeMap::new(), "nothing refers to them now");
    }

    #[test]
    fn null_is_added_to_a_schema_and_taken_out() {
        for (schema, nullable) in [
            (json!({ "type": "string" }), json!({ "type": ["string", "null"] })),
            (json!({ "type": "null" }), json!({ "type": "null" })),
            (json!({}), json!({})),
            (
                json!({ "type": ["string", "null"] }),
                json!({ "type": ["string", "null"] }),
            ),
            (
                json!({ "anyOf": [reference("List")] }),
                json!({ "anyOf": [reference("List"), { "type": "null" }] }),
            ),
            (
                json!({ "type": "string", "enum": ["a"] }),
                json!({ "anyOf": [{ "type": "string", "enum": ["a"] }, { "type": "null" }] }),
            ),
        ] {
            assert_eq!(or_null(schema), nullable);
        }
        let description = list();
        assert_eq!(
            description.without_null(&or_null(reference("List"))),
            reference("List")
        );
        let text = or_null(json!({ "type": "string" }));
        assert_eq!(description.without_null(&text), json!({ "type": ["string"] }));
        assert!(description.may_be_text(&text) && !description.may_be_text(&reference("List")));
    }
}
