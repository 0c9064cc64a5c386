//! Registered schemas as a registry has them: ids, types and texts.

use std::fmt;

use super::primitives;

/// How a record names its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaId {
    /// The number that a registry gives to a schema: four bytes behind the magic byte 0, in front of the payload or in
    /// a header.
    Number(u32),
    /// A UUID, behind the magic byte 1 in a header.
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(id) => id.fmt(f),
            Self::Guid(guid) => f.write_str(&primitives::hyphenated(*guid)),
        }
    }
}

/// The language of a schema, as a registry's `schemaType` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaKind {
    /// `AVRO`, also where a registry names no type.
    Avro,
    /// `PROTOBUF`.
    Protobuf,
    /// `JSON`.
    Json,
}

impl fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::Json => "JSON",
        })
    }
}

/// A schema as a registry has it, with all schemas that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaText {
    /// Its language.
    pub kind: SchemaKind,
    /// The text.
    pub text: String,
    /// Schemas that the text refers to.
    pub references: Vec<Reference>,
}

/// A schema that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name by which the text refers to it: a full name in Avro, the path of an import in Protobuf, a `$ref` in JSON
    /// Schema.
    pub name: String,
    /// The schema.
    pub schema: SchemaText,
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(pub String);
