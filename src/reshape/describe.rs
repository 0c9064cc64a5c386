//! Reshapes the schemas of values as the values are reshaped, so that a description has no member that nobody may see.
//!
//! Members that are left out of an object may be required, counted or compared elsewhere in its schema: of an object that is
//! shown in part, only the types of its members are kept.

use std::collections::{BTreeMap, HashMap};
use std::ptr;

use serde_json::{Map, Value, json};

use super::debezium::SQL;
use crate::config::StreamSettings;
use crate::config::projection::{Node, Projection, Rule};
use crate::json_schema::{Description, any_of, has_type, or_null, reference, referred};

/// Keywords of scalars, which nothing is left out of.
const OF_SCALARS: [&str; 10] = [
    "contentEncoding",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxLength",
    "maximum",
    "minLength",
    "minimum",
    "multipleOf",
    "pattern",
];

/// The types of scalars.
const SCALARS: [&str; 5] = ["boolean", "integer", "null", "number", "string"];

/// The schema of the values that a stream of these settings shows, from the schema of those that it reads.
#[must_use]
pub(crate) fn value(settings: &StreamSettings, mut of: Description) -> Description {
    let projection = Projection::of(settings);
    if settings.unwrap.is_none() {
        of.root = project(projection.as_ref(), &of.root.clone(), &mut of.types);
        of.prune();
        return of;
    }
    let nothing = json!({});
    let event = event(&of);
    let member = |name: &str| of.member(event, name).unwrap_or(&nothing);
    let after = of.without_null(member("after"));
    let (before, source, ts_ms) = (
        member("before").clone(),
        member("source").clone(),
        member("ts_ms").clone(),
    );
    // MongoDB's documents are strings that contain JSON.
    let is_document = of.may_be_text(&after);
    let [after, before] = [after, before].map(|row| {
        let row = if is_document { json!({}) } else { row };
        project(projection.as_ref(), &row, &mut of.types)
    });
    of.root = after;
    let source = if projection.is_some() {
        let without_sql = Projection::new(Rule::Hide, &SQL);
        project(Some(&without_sql), &source, &mut of.types)
    } else {
        source
    };
    if let Some(field) = &settings.metadata_field {
        let metadata = json!({
            "type": "object",
            "properties": {
                "op": { "type": "string", "enum": ["c", "r", "u"] },
                "ts_ms": or_null(ts_ms),
                "source": or_null(source),
                "before": or_null(before),
            },
            "required": ["op", "ts_ms", "source", "before"],
        });
        let mut members = Map::new();
        members.insert(field.clone(), metadata);
        of.put(&members);
    }
    of.prune();
    of
}

/// The schema of the keys that a stream of these settings shows, from that of its JSON keys.
#[must_use]
pub(crate) fn json_key(settings: &StreamSettings, mut of: Description) -> Description {
    if settings.unwrap.is_some()
        && let Some(payload) = of.member(&of.root, "payload")
        && of.member(&of.root, "schema").is_some()
    {
        of.root = payload.clone();
        of.prune();
    }
    of
}

/// The change event: in Connect's JSON it is beside its schema.
fn event(of: &Description) -> &Value {
    let payload = of.member(&of.root, "payload");
    payload
        .filter(|_| of.member(&of.root, "op").is_none())
        .unwrap_or(&of.root)
}

/// The schema of what is shown; types that are shown in part are added.
fn project(projection: Option<&Projection>, schema: &Value, types: &mut BTreeMap<String, Value>) -> Value {
    let Some(projection) = projection else {
        return schema.clone();
    };
    let before = Description {
        root: json!({}),
        types: types.clone(),
    };
    let mut projector = Projector {
        rule: projection.rule,
        of: &before,
        types,
        done: HashMap::new(),
    };
    let shown = projector.value(schema, &projection.paths);
    let null = json!({ "type": "null" });
    match shown.schema {
        None => null,
        Some(schema) if shown.may_be_absent => or_null(schema),
        Some(schema) => schema,
    }
}

/// The shown part of a schema.
struct Shown {
    /// `None` where nothing of any value is.
    schema: Option<Value>,
    /// Whether nothing of some value is.
    may_be_absent: bool,
}

impl Shown {
    const fn always(schema: Value) -> Self {
        Self {
            schema: Some(schema),
            may_be_absent: false,
        }
    }
}

struct Projector<'d> {
    rule: Rule,
    of: &'d Description,
    types: &'d mut BTreeMap<String, Value>,
    /// Types that are shown in part, by their names and the paths below them.
    done: HashMap<(String, *const Node), String>,
}

impl Projector<'_> {
    fn value(&mut self, schema: &Value, paths: &Node) -> Shown {
        if self.rule == Rule::Hide && paths.below.is_empty() {
            return Shown::always(schema.clone());
        }
        if let Some(name) = referred(schema) {
            return self.named(name, paths);
        }
        let Some(keywords) = schema.as_object() else {
            // Any value, or none.
            return Shown {
                schema: (*schema != Value::Bool(false)).then(|| json!({})),
                may_be_absent: self.rule == Rule::Show,
            };
        };
        let list = |keyword: &str| keywords.get(keyword).and_then(Value::as_array);
        if let Some(alternatives) = list("anyOf") {
            let shown: Vec<Shown> = alternatives
                .iter()
                .map(|schema| self.value(schema, paths))
                .collect();
            let may_be_absent = shown
                .iter()
                .any(|shown| shown.may_be_absent || shown.schema.is_none());
            let schemas: Vec<Value> = shown.into_iter().filter_map(|shown| shown.schema).collect();
            return Shown {
                schema: (!schemas.is_empty()).then(|| any_of(schemas)),
                may_be_absent,
            };
        }
        if let Some(parts) = list("allOf") {
            let shown: Vec<Shown> = parts.iter().map(|schema| self.value(schema, paths)).collect();
            let may_be_absent = shown.iter().any(|shown| shown.may_be_absent);
            let schemas: Option<Vec<Value>> = shown.into_iter().map(|shown| shown.schema).collect();
            return Shown {
                schema: schemas.map(|schemas| json!({ "allOf": schemas })),
                may_be_absent,
            };
        }
        self.plain(schema, keywords, paths)
    }

    /// The shown part of a named type is another named type.
    fn named(&mut self, name: &str, paths: &Node) -> Shown {
        let place = (name.to_owned(), ptr::from_ref(paths));
        if let Some(done) = self.done.get(&place) {
            // Within itself, or again: then it is not known whether it is always shown.
            return Shown {
                schema: Some(reference(done)),
                may_be_absent: self.rule == Rule::Show,
            };
        }
        let of = self.of;
        let Some(schema) = of.types.get(name) else {
            return self.value(&Value::Bool(true), paths);
        };
        let taken = |name: &String| self.types.contains_key(name);
        let mut names = (1..).map(|number| format!("{name}-part{number}"));
        let part = names.find(|name| !taken(name)).unwrap_or_default();
        self.types.insert(part.clone(), json!({}));
        self.done.insert(place, part.clone());
        let shown = self.value(schema, paths);
        let Some(schema) = shown.schema else {
            return shown;
        };
        self.types.insert(part.clone(), schema);
        Shown {
            schema: Some(reference(&part)),
            may_be_absent: shown.may_be_absent,
        }
    }

    /// A schema that is neither a reference nor made of others.
    fn plain(&mut self, schema: &Value, keywords: &Map<String, Value>, paths: &Node) -> Shown {
        let is_hide = self.rule == Rule::Hide;
        let has_scalars = SCALARS.iter().any(|kind| has_type(schema, kind));
        let kinds: Vec<&str> = ["array", "object"]
            .into_iter()
            .chain(SCALARS.into_iter().filter(|_| is_hide))
            .filter(|kind| has_type(schema, kind))
            .collect();
        if kinds.is_empty() {
            return Shown {
                schema: None,
                may_be_absent: true,
            };
        }
        let mut shown = Map::new();
        // Without a type, it is any: of those, the shown ones.
        if keywords.contains_key("type") || keywords.contains_key("enum") || !is_hide {
            shown.insert(
                "type".to_owned(),
                if let [kind] = &*kinds {
                    json!(kind)
                } else {
                    json!(kinds)
                },
            );
        }
        if is_hide {
            let of_scalars = OF_SCALARS
                .iter()
                .filter_map(|keyword| keywords.get_key_value(*keyword));
            shown.extend(of_scalars.map(|(keyword, value)| (keyword.clone(), value.clone())));
            let has_no_members = |value: &Value| !value.is_object() && !value.is_array();
            if let Some(values) = keywords.get("enum").and_then(Value::as_array)
                && values.iter().all(has_no_members)
            {
                shown.insert("enum".to_owned(), json!(values));
            }
        }
        if kinds.contains(&"object") {
            self.members(keywords, paths, &mut shown);
        }
        if kinds.contains(&"array")
            && let Some(items) = keywords
                .get("items")
                .filter(|_| !keywords.contains_key("prefixItems"))
            && let Some(items) = self.value(items, paths).schema
        {
            shown.insert("items".to_owned(), items);
        }
        Shown {
            schema: Some(Value::Object(shown)),
            may_be_absent: !is_hide && has_scalars,
        }
    }

    fn members(&mut self, keywords: &Map<String, Value>, paths: &Node, shown: &mut Map<String, Value>) {
        let (nothing, is_hide) = (Map::new(), self.rule == Rule::Hide);
        let before = keywords
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&nothing);
        let has_patterns = keywords.contains_key("patternProperties");
        let others = keywords
            .get("additionalProperties")
            .filter(|others| others.is_object() && !has_patterns);
        let (mut members, mut always) = (Map::new(), Vec::new());
        // Members by name, and those of a map that paths name.
        let named = paths
            .below
            .keys()
            .filter(|name| others.is_some() && !before.contains_key(*name));
        for name in before.keys().chain(named) {
            let Some(schema) = before.get(name).or(others) else {
                continue;
            };
            let member = match paths.below.get(name) {
                None if is_hide => Shown::always(schema.clone()),
                Some(below) if below.is_end && !is_hide => Shown::always(schema.clone()),
                Some(below) if !below.is_end => self.value(schema, below),
                _ => continue,
            };
            let Some(schema) = member.schema else {
                continue;
            };
            if !member.may_be_absent {
                always.push(name);
            }
            members.insert(name.clone(), schema);
        }
        if let Some(required) = keywords.get("required").and_then(Value::as_array) {
            let is_always = |name: &&Value| always.iter().any(|always| *name == always.as_str());
            let required: Vec<&Value> = required.iter().filter(is_always).collect();
            if !required.is_empty() {
                shown.insert("required".to_owned(), json!(required));
            }
        }
        if !members.is_empty() {
            shown.insert("properties".to_owned(), Value::Object(members));
        }
        if let Some(others) = others.filter(|_| is_hide) {
            shown.insert("additionalProperties".to_owned(), others.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Unwrap;

    fn settings(change: impl FnOnce(&mut StreamSettings)) -> StreamSettings {
        let mut settings = StreamSettings::default();
        change(&mut settings);
        settings
    }

    /// A person with an address, and friends, as Avro describes one.
    fn person() -> Description {
        let text = json!({ "type": "string" });
        let address = json!({
            "type": "object",
            "properties": { "city": text, "street": text },
            "required": ["city", "street"],
        });
        let person = json!({
            "type": "object",
            "properties": {
                "id": { "type": "integer" },
                "ssn": text,
                "address": or_null(reference("Address")),
                "friends": { "type": "array", "items": reference("Person") },
                "tags": { "type": "object", "additionalProperties": text },
            },
            "required": ["id", "ssn", "address", "friends", "tags"],
        });
        Description {
            root: reference("Person"),
            types: [("Address".to_owned(), address), ("Person".to_owned(), person)].into(),
        }
    }

    fn paths(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn a_hidden_member_is_in_no_type() {
        let settings = settings(|settings| {
            settings.hide = paths(&["ssn", "address.street", "friends.ssn", "tags.secret"]);
        });
        let shown = value(&settings, person());
        let text = format!("{shown:?}");
        // Friends of friends are people as they are.
        assert!(!shown.types["Person-part1"].to_string().contains("ssn"), "{text}");
        let person = &shown.types["Person-part1"];
        assert_eq!(person["required"], json!(["id", "address", "friends", "tags"]));
        assert_eq!(
            person["properties"]["tags"]["additionalProperties"],
            json!({ "type": "string" })
        );
        assert!(!text.contains("secret"), "{text}");
        let address = &shown.types["Address-part1"];
        assert_eq!(address["properties"], json!({ "city": { "type": "string" } }));
        assert_eq!(address["required"], json!(["city"]));
        let friend = &shown.types["Person-part2"];
        assert!(friend["properties"].get("ssn").is_none(), "{text}");
        assert_eq!(friend["properties"]["friends"]["items"], reference("Person"));
    }

    #[test]
    fn only_members_that_are_shown_are_described() {
        let settings = settings(|settings| settings.fields = paths(&["id", "address.city", "tags.a"]));
        let shown = value(&settings, person());
        let root = shown.resolve(&shown.root);
        assert_eq!(
            shown.root["anyOf"].as_array().map(Vec::len),
            None,
            "an object is always shown"
        );
        assert_eq!(
            root,
            &json!({
                "type": "object",
                "properties": {
                    "id": { "type": "integer" },
                    // Null is no object with a city, so that it is not shown.
                    "address": reference("Address-part1"),
                    "tags": { "type": "object", "properties": { "a": { "type": "string" } } },
                },
                "required": ["id", "tags"],
            })
        );
        assert_eq!(
            shown.types.keys().collect::<Vec<_>>(),
            ["Address-part1", "Person-part1"]
        );
    }

    #[test]
    fn a_change_event_is_described_by_its_row() {
        let envelope = json!({
            "type": "object",
            "properties": {
                "before": or_null(reference("Person")),
                "after": or_null(reference("Person")),
                "op": { "type": "string" },
                "ts_ms": { "type": ["integer", "null"] },
                "source": reference("Source"),
            },
        });
        let mut event = Description {
            root: envelope.clone(),
            ..person()
        };
        let text = json!({ "type": "string" });
        let source = json!({ "type": "object", "properties": { "db": text, "query": text } });
        event.types.insert("Source".to_owned(), source);
        let unwrapping = |settings: &mut StreamSettings| settings.unwrap = Some(Unwrap::Debezium);
        let shown = value(&settings(unwrapping), event.clone());
        assert_eq!(shown, person());
        let beside_schema = Description {
            root: json!({ "type": "object", "properties": { "schema": {}, "payload": envelope } }),
            ..person()
        };
        assert_eq!(value(&settings(unwrapping), beside_schema), person());
        let all = settings(|settings| {
            unwrapping(settings);
            settings.fields = paths(&["id"]);
            settings.metadata_field = Some("change".to_owned());
        });
        let shown = value(&all, event.clone());
        let change = &shown.root["properties"]["change"];
        assert_eq!(shown.root["required"], json!(["change", "id"]));
        assert_eq!(
            change["properties"]["ts_ms"],
            json!({ "type": ["integer", "null"] })
        );
        assert_eq!(change["properties"]["source"], or_null(reference("Source-part1")));
        assert!(shown.types["Source-part1"]["properties"].get("db").is_some());
        let text = format!("{shown:?}");
        assert!(!text.contains("ssn") && !text.contains("query"), "{text}");
        let mut document = event;
        document.root["properties"]["after"] = json!({ "type": ["string", "null"] });
        assert_eq!(value(&settings(unwrapping), document).root, json!({}), "MongoDB");
    }

    #[test]
    fn types_that_contain_nothing_but_themselves_end() {
        let cases = [
            json!({ "$ref": "#/$defs/A" }),
            json!({ "anyOf": [{ "$ref": "#/$defs/A" }] }),
            json!({ "type": "array", "items": { "$ref": "#/$defs/A" } }),
            json!({ "allOf": [{ "$ref": "#/$defs/B" }] }),
        ];
        for case in cases {
            let description = Description {
                root: reference("A"),
                types: [("A".to_owned(), case), ("B".to_owned(), json!(false))].into(),
            };
            for settings in [
                settings(|settings| settings.fields = paths(&["a"])),
                settings(|settings| settings.hide = paths(&["a"])),
            ] {
                let _ = value(&settings, description.clone());
            }
        }
    }
}
