//! Compiles parsed schemas to nodes.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, NamespaceRef, UuidSchema};

use super::{Avro, Branch, Field, Index, Node};
use crate::decode::json;
use crate::decode::registered::{SchemaError, SchemaKind, SchemaText};
use crate::decode::times::Unit;

/// Most digits behind the point of a decimal, which a schema merely claims.
pub(super) const MAX_SCALE: usize = 4096;

impl Avro {
    pub(in crate::decode) fn compile(text: &SchemaText) -> Result<Self, SchemaError> {
        compile(text)
    }
}

fn compile(text: &SchemaText) -> Result<Avro, SchemaError> {
    let mut references = Vec::new();
    flatten(text, &mut references)?;
    let invalid = |error: apache_avro::Error| SchemaError(format!("not a valid Avro schema: {error}"));
    let (root, named) = if references.is_empty() {
        (Schema::parse_str(&text.text).map_err(invalid)?, Vec::new())
    } else {
        Schema::parse_str_with_list(&text.text, references).map_err(invalid)?
    };
    let mut compiler = Compiler::default();
    for schema in &named {
        compiler.add(schema, None)?;
    }
    let root = compiler.add(&root, None)?;
    let missing = compiler
        .names
        .iter()
        .find(|(_, index)| compiler.nodes[**index].is_none());
    if let Some((name, _)) = missing {
        return Err(SchemaError(format!("the type {name} is not defined")));
    }
    Ok(Avro {
        nodes: compiler.nodes.into_iter().flatten().collect(),
        root,
        names: compiler
            .names
            .into_iter()
            .map(|(name, index)| (index, name))
            .collect(),
    })
}

/// Collects the texts that a schema refers to, each once.
fn flatten<'a>(text: &'a SchemaText, texts: &mut Vec<&'a str>) -> Result<(), SchemaError> {
    for reference in &text.references {
        if reference.schema.kind != SchemaKind::Avro {
            let kind = reference.schema.kind;
            return Err(SchemaError(format!("{} is of type {kind}", reference.name)));
        }
        if texts.contains(&reference.schema.text.as_str()) {
            continue;
        }
        texts.push(&reference.schema.text);
        flatten(&reference.schema, texts)?;
    }
    Ok(())
}

#[derive(Default)]
struct Compiler {
    /// `None` where a type has been named, but not defined yet.
    nodes: Vec<Option<Node>>,
    names: HashMap<String, Index>,
}

impl Compiler {
    /// The place of a named type, defined or not.
    fn named(&mut self, name: &Name, namespace: NamespaceRef<'_>) -> Index {
        let name = name.fullname(namespace);
        *self.names.entry(name).or_insert_with(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        })
    }

    fn push(&mut self, node: Node) -> Index {
        self.nodes.push(Some(node));
        self.nodes.len() - 1
    }

    /// Puts the definition of a named type, or of an unnamed one, in place.
    fn place(&mut self, name: Option<(&Name, NamespaceRef<'_>)>, node: Node) -> Index {
        let Some((name, namespace)) = name else {
            return self.push(node);
        };
        let index = self.named(name, namespace);
        self.nodes[index] = Some(node);
        index
    }

    fn add(&mut self, schema: &Schema, namespace: NamespaceRef<'_>) -> Result<Index, SchemaError> {
        let node = match schema {
            Schema::Ref { name } => return Ok(self.named(name, namespace)),
            Schema::Record(record) => return self.record(record, namespace),
            Schema::Enum(symbols) => {
                let names = symbols.symbols.iter().map(|symbol| json::string(symbol));
                let node = Node::Enum(names.collect());
                return Ok(self.place(Some((&symbols.name, namespace)), node));
            }
            Schema::Fixed(fixed) => {
                return Ok(self.place(Some((&fixed.name, namespace)), Node::Fixed(fixed.size)));
            }
            Schema::Duration(fixed) => {
                return Ok(self.place(Some((&fixed.name, namespace)), Node::Duration));
            }
            Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                return Ok(self.place(Some((&fixed.name, namespace)), Node::UuidBytes(Some(fixed.size))));
            }
            Schema::Decimal(decimal) => {
                let scale = u32::try_from(decimal.scale).ok();
                let Some(scale) = scale.filter(|_| decimal.scale <= MAX_SCALE) else {
                    return Err(SchemaError(format!("a scale of {} is too large", decimal.scale)));
                };
                return Ok(match &decimal.inner {
                    InnerDecimalSchema::Bytes => self.push(Node::Decimal(scale, None)),
                    InnerDecimalSchema::Fixed(fixed) => {
                        let node = Node::Decimal(scale, Some(fixed.size));
                        self.place(Some((&fixed.name, namespace)), node)
                    }
                });
            }
            Schema::Array(array) => Node::Array(self.add(&array.items, namespace)?),
            Schema::Map(map) => Node::Map(self.add(&map.types, namespace)?),
            Schema::Union(union) => {
                let mut branches = Vec::new();
                for variant in union.variants() {
                    branches.push(Branch {
                        name: json::name(&type_name(variant, namespace)),
                        node: self.add(variant, namespace)?,
                        is_null: matches!(variant, Schema::Null),
                    });
                }
                Node::Union(branches)
            }
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int => Node::Int,
            Schema::Long => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes => Node::Bytes,
            Schema::String => Node::String,
            Schema::BigDecimal => Node::BigDecimal,
            Schema::Uuid(UuidSchema::String) => Node::UuidText,
            Schema::Uuid(UuidSchema::Bytes) => Node::UuidBytes(None),
            Schema::Date => Node::Date,
            Schema::TimeMillis => Node::TimeMillis,
            Schema::TimeMicros => Node::TimeMicros,
            Schema::TimestampMillis => Node::Timestamp(Unit::Millis, false),
            Schema::TimestampMicros => Node::Timestamp(Unit::Micros, false),
            Schema::TimestampNanos => Node::Timestamp(Unit::Nanos, false),
            Schema::LocalTimestampMillis => Node::Timestamp(Unit::Millis, true),
            Schema::LocalTimestampMicros => Node::Timestamp(Unit::Micros, true),
            Schema::LocalTimestampNanos => Node::Timestamp(Unit::Nanos, true),
        };
        Ok(self.push(node))
    }

    fn record(
        &mut self,
        record: &apache_avro::schema::RecordSchema,
        namespace: NamespaceRef<'_>,
    ) -> Result<Index, SchemaError> {
        let name = record.name.fully_qualified_name(namespace);
        // Types within it may name it.
        let index = self.named(&name, None);
        let mut fields = Vec::new();
        for field in &record.fields {
            let mut text = json::name(&field.name).into_vec();
            if !fields.is_empty() {
                text.insert(0, b',');
            }
            fields.push(Field {
                name: text.into(),
                node: self.add(&field.schema, name.namespace())?,
            });
        }
        self.nodes[index] = Some(Node::Record(fields));
        Ok(index)
    }
}

/// The name of a type in the JSON encoding of unions: the full name of a named type, otherwise that of the type below a
/// logical type.
fn type_name(schema: &Schema, namespace: NamespaceRef<'_>) -> String {
    match schema {
        Schema::Ref { name } => name.fullname(namespace),
        Schema::Record(record) => record.name.fullname(namespace),
        Schema::Enum(symbols) => symbols.name.fullname(namespace),
        Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
            fixed.name.fullname(namespace)
        }
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Fixed(fixed) => fixed.name.fullname(namespace),
            InnerDecimalSchema::Bytes => "bytes".to_owned(),
        },
        _ => match schema {
            Schema::Null => "null",
            Schema::Boolean => "boolean",
            Schema::Int | Schema::Date | Schema::TimeMillis => "int",
            Schema::Float => "float",
            Schema::Double => "double",
            Schema::String | Schema::Uuid(UuidSchema::String) => "string",
            Schema::Array(_) => "array",
            Schema::Map(_) => "map",
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(_) => "bytes",
            _ => "long",
        }
        .to_owned(),
    }
}
