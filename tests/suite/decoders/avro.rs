//! Random schemas of Avro, with values that apache-avro encodes.

use super::draws::Draws;
use apache_avro::Schema;
use apache_avro::types::Value as Datum;
use apache_avro::writer::datum::GenericDatumWriter;
use kafka_sse_bridge::decode::SchemaId;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// A schema, and an encoded value.
#[derive(Debug)]
pub struct Case {
    pub schema: String,
    pub payload: Vec<u8>,
}

pub fn case(draws: &mut Draws) -> Case {
    let mut maker = Maker {
        draws,
        count: 0,
        names: Vec::new(),
    };
    let schema = maker.kind(4, "");
    let datum = maker.datum(&schema, "", 6);
    // Logical types change no byte, and apache-avro has values of its own for them.
    let plain = Schema::parse_str(&without_logical(&schema).to_string())
        .unwrap_or_else(|error| panic!("{error}: {schema}"));
    let writer = GenericDatumWriter::builder(&plain)
        .build()
        .expect("a complete schema");
    let payload = writer
        .write_value_to_vec(datum)
        .unwrap_or_else(|error| panic!("{error}: {schema}"));
    Case {
        schema: schema.to_string(),
        payload,
    }
}

fn without_logical(schema: &Value) -> Value {
    match schema {
        Value::Array(branches) => branches.iter().map(without_logical).collect(),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "logicalType" | "precision" | "scale"))
            .map(|(name, value)| (name.clone(), without_logical(value)))
            .collect(),
        other => other.clone(),
    }
}

const SIMPLE: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];

/// The first two are valid for no type below them, so they say nothing.
const LOGICAL: [(&str, &str); 15] = [
    ("date", "string"),
    ("timestamp-millis", "int"),
    ("date", "int"),
    ("time-millis", "int"),
    ("time-micros", "long"),
    ("timestamp-millis", "long"),
    ("timestamp-micros", "long"),
    ("timestamp-nanos", "long"),
    ("local-timestamp-millis", "long"),
    ("local-timestamp-micros", "long"),
    ("local-timestamp-nanos", "long"),
    ("uuid", "string"),
    ("decimal", "bytes"),
    ("big-decimal", "bytes"),
    ("no-such-type", "long"),
];

struct Named {
    full: String,
    namespace: String,
    schema: Value,
    /// Whether it is being defined, so that it may be within itself where it can end.
    is_open: bool,
}

struct Maker<'d> {
    draws: &'d mut Draws,
    count: usize,
    names: Vec<Named>,
}

impl Maker<'_> {
    fn kind(&mut self, depth: usize, namespace: &str) -> Value {
        let choices = if depth == 0 { 12 } else { 24 };
        match self.draws.below(choices) {
            simple @ 0..8 => json!(SIMPLE[simple]),
            8 | 9 => {
                let (name, under) = self.draws.of(&LOGICAL);
                let mut schema = json!({ "type": under, "logicalType": name });
                if name == "decimal" {
                    let precision = 1 + self.draws.below(60);
                    schema["precision"] = json!(precision);
                    schema["scale"] = json!(self.draws.below(precision + 1));
                }
                schema
            }
            10 => self.fixed(namespace),
            11 => {
                let symbols: Vec<String> = (0..=self.draws.below(5)).map(|n| format!("S{n}")).collect();
                self.define("E", namespace, json!({ "type": "enum", "symbols": symbols }))
            }
            12..16 => self.record(depth, namespace),
            16 | 17 => json!({ "type": "array", "items": self.kind(depth - 1, namespace) }),
            18 | 19 => json!({ "type": "map", "values": self.kind(depth - 1, namespace) }),
            20..23 => self.union(depth, namespace),
            _ => self.reference(namespace).unwrap_or_else(|| json!("string")),
        }
    }

    fn fixed(&mut self, namespace: &str) -> Value {
        let mut schema = json!({ "type": "fixed", "size": 1 + self.draws.below(20) });
        match self.draws.below(4) {
            0 => {
                schema["logicalType"] = json!("duration");
                schema["size"] = json!(12);
            }
            1 => {
                schema["logicalType"] = json!("uuid");
                schema["size"] = json!(16);
            }
            2 => {
                schema["logicalType"] = json!("decimal");
                schema["size"] = json!(12);
                schema["precision"] = json!(28);
                schema["scale"] = json!(self.draws.below(29));
            }
            _ => {}
        }
        self.define("F", namespace, schema)
    }

    /// Adds a name to a schema, and notes it.
    fn define(&mut self, prefix: &str, namespace: &str, mut schema: Value) -> Value {
        let (name, full, inner) = self.name(prefix, namespace);
        for (member, value) in name {
            schema[member] = value;
        }
        self.names.push(Named {
            full,
            namespace: inner,
            schema: schema.clone(),
            is_open: false,
        });
        schema
    }

    /// The members of a new name, the full name, and its namespace.
    fn name(&mut self, prefix: &str, namespace: &str) -> (Map<String, Value>, String, String) {
        self.count += 1;
        let name = format!("{prefix}{}", self.count);
        let (written, stated, inner) = match self.draws.below(4) {
            0 | 1 => (name.clone(), None, namespace.to_owned()),
            2 => (name.clone(), Some("a.b"), "a.b".to_owned()),
            _ => (format!("c.d.{name}"), None, "c.d".to_owned()),
        };
        let mut members = Map::new();
        members.insert("name".to_owned(), json!(written));
        if let Some(stated) = stated {
            members.insert("namespace".to_owned(), json!(stated));
        }
        let full = if inner.is_empty() {
            name
        } else {
            format!("{inner}.{name}")
        };
        (members, full, inner)
    }

    fn record(&mut self, depth: usize, namespace: &str) -> Value {
        let mut schema = self.define("R", namespace, json!({ "type": "record", "doc": "é" }));
        let place = self.names.len() - 1;
        self.names[place].is_open = true;
        let (full, inner) = (
            self.names[place].full.clone(),
            self.names[place].namespace.clone(),
        );
        let mut fields = Vec::new();
        for number in 0..self.draws.below(7) {
            let kind = self.kind(depth - 1, &inner);
            fields.push(json!({ "name": format!("f{number}"), "type": kind }));
        }
        let itself = json!(full);
        let recursive = match self.draws.below(6) {
            0 => Some(json!(["null", itself])),
            1 => Some(json!({ "type": "array", "items": itself })),
            2 => Some(json!({ "type": "map", "values": ["string", itself] })),
            _ => None,
        };
        if let Some(kind) = recursive {
            fields.push(json!({ "name": "_Next", "type": kind }));
        }
        schema["fields"] = json!(fields);
        self.names[place].schema = schema.clone();
        self.names[place].is_open = false;
        schema
    }

    fn union(&mut self, depth: usize, namespace: &str) -> Value {
        let mut branches = Vec::new();
        let mut seen = Vec::new();
        for _ in 0..=self.draws.below(4) {
            let before = self.names.len();
            let branch = self.kind(depth - 1, namespace);
            let word = self.word(&branch, namespace);
            if branch.is_array() || seen.contains(&word) {
                self.names.truncate(before);
                continue;
            }
            seen.push(word);
            branches.push(branch);
        }
        if branches.is_empty() {
            branches.push(json!("null"));
        }
        json!(branches)
    }

    /// What tells the branches of a union apart.
    fn word(&self, schema: &Value, namespace: &str) -> String {
        let name = match schema {
            Value::String(name) => name.as_str(),
            _ => match (schema["name"].as_str(), schema["type"].as_str()) {
                (Some(_), _) => {
                    return self
                        .names
                        .iter()
                        .rev()
                        .find(|named| named.schema == *schema)
                        .map_or_else(String::new, |named| named.full.clone());
                }
                (None, kind) => kind.unwrap_or_default(),
            },
        };
        self.find(name, namespace)
            .map_or_else(|| name.to_owned(), |named| named.full.clone())
    }

    /// A type that is defined already, by a name that means it here.
    fn reference(&mut self, namespace: &str) -> Option<Value> {
        let usable: Vec<usize> = (0..self.names.len())
            .filter(|place| {
                let named = &self.names[*place];
                !named.is_open && (!named.namespace.is_empty() || namespace.is_empty())
            })
            .collect();
        if usable.is_empty() {
            return None;
        }
        let named = &self.names[self.draws.of(&usable)];
        let short = named.full.rsplit('.').next().unwrap_or_default();
        if named.namespace == namespace && self.draws.once_in(2) {
            return Some(json!(short));
        }
        Some(json!(named.full))
    }

    fn find(&self, name: &str, namespace: &str) -> Option<&Named> {
        if SIMPLE.contains(&name) {
            return None;
        }
        let full = if name.contains('.') || namespace.is_empty() {
            name.to_owned()
        } else {
            format!("{namespace}.{name}")
        };
        self.names.iter().find(|named| named.full == full)
    }

    fn datum(&mut self, schema: &Value, namespace: &str, depth: usize) -> Datum {
        if let Some(name) = schema.as_str()
            && let Some(named) = self.find(name, namespace)
        {
            let (schema, namespace) = (named.schema.clone(), named.namespace.clone());
            return self.defined(&schema, &namespace, depth);
        }
        if let Value::Array(branches) = schema {
            let null = branches.iter().position(|branch| branch == "null");
            let place = match null {
                Some(null) if depth == 0 => null,
                _ if depth == 0 => 0,
                _ => self.draws.below(branches.len()),
            };
            let value = self.datum(&branches[place], namespace, depth.saturating_sub(1));
            return Datum::Union(u32::try_from(place).expect("few"), Box::new(value));
        }
        if schema["name"].is_string() {
            let named = self.names.iter().find(|named| named.schema == *schema);
            let namespace = named.expect("it is noted").namespace.clone();
            return self.defined(schema, &namespace, depth);
        }
        let kind = schema.as_str().or(schema["type"].as_str()).expect("a type");
        let items = if depth == 0 { 0 } else { self.draws.below(4) };
        match kind {
            "array" => Datum::Array(
                (0..items)
                    .map(|_| self.datum(&schema["items"], namespace, depth - 1))
                    .collect(),
            ),
            "map" => {
                let entries: HashMap<String, Datum> = (0..items)
                    .map(|_| {
                        (
                            self.draws.text(),
                            self.datum(&schema["values"], namespace, depth - 1),
                        )
                    })
                    .collect();
                Datum::Map(entries)
            }
            _ => self.simple(kind, schema["logicalType"].as_str().unwrap_or_default()),
        }
    }

    /// A value of a named type; `namespace` is that of the type.
    fn defined(&mut self, schema: &Value, namespace: &str, depth: usize) -> Datum {
        match schema["type"].as_str() {
            Some("fixed") => {
                let size = usize::try_from(schema["size"].as_u64().expect("a size")).expect("small");
                Datum::Fixed(size, self.draws.exactly(size))
            }
            Some("enum") => {
                let symbols = schema["symbols"].as_array().expect("symbols");
                let place = self.draws.below(symbols.len());
                let symbol = symbols[place].as_str().expect("a symbol").to_owned();
                Datum::Enum(u32::try_from(place).expect("few"), symbol)
            }
            _ => {
                let fields = schema["fields"].as_array().expect("fields");
                let values = fields.iter().map(|field| {
                    let name = field["name"].as_str().expect("a name").to_owned();
                    (
                        name,
                        self.datum(&field["type"], namespace, depth.saturating_sub(1)),
                    )
                });
                Datum::Record(values.collect())
            }
        }
    }

    fn simple(&mut self, kind: &str, logical: &str) -> Datum {
        // Nearly all dates and times are those that RFC 3339 expresses; the years 0 to 9999 begin and end here.
        let is_any = self.draws.once_in(8);
        let number = self.draws.long();
        let day = || -719_528 + number.rem_euclid(3_652_425);
        match kind {
            "null" => Datum::Null,
            "boolean" => Datum::Boolean(self.draws.once_in(2)),
            "int" => {
                let number = match logical {
                    "date" if !is_any => day(),
                    "time-millis" if !is_any => number.rem_euclid(86_400_000),
                    _ => number,
                };
                let [a, b, c, d, ..] = number.to_le_bytes();
                Datum::Int(i32::from_le_bytes([a, b, c, d]))
            }
            "long" => {
                let per_day = match logical.rsplit('-').next() {
                    Some("millis") => 86_400_000,
                    Some("micros") => 86_400_000_000,
                    _ => 86_400_000_000_000,
                };
                Datum::Long(match logical {
                    "time-micros" if !is_any => number.rem_euclid(per_day),
                    _ if logical.contains("timestamp") && !is_any => day()
                        .saturating_mul(per_day)
                        .saturating_add(self.draws.long().rem_euclid(per_day)),
                    _ => number,
                })
            }
            "float" => Datum::Float(f32::from_bits(u32::from_le_bytes(self.draws.array()))),
            "double" => Datum::Double(f64::from_bits(u64::from_le_bytes(self.draws.array()))),
            "string" if logical == "uuid" => Datum::String(SchemaId::Guid(self.draws.array()).to_string()),
            "string" => Datum::String(self.draws.text()),
            "bytes" if logical == "big-decimal" => {
                let unscaled = self.draws.bytes(20);
                let mut bytes = zigzag(i64::try_from(unscaled.len()).expect("short"));
                bytes.extend(unscaled);
                bytes.extend(zigzag(i64::from(self.draws.byte()) - 100));
                Datum::Bytes(bytes)
            }
            _ => Datum::Bytes(self.draws.bytes(40)),
        }
    }
}

fn zigzag(number: i64) -> Vec<u8> {
    let mut rest = (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned();
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = (rest & 0x7f).to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
