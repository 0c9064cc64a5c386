//! The compiled form of registered schemas.

use super::json::{Fault, Options, Output};
use super::json_schema::JsonSchema;
use super::registered::{SchemaError, SchemaKind, SchemaText};
use crate::json_schema::Description;

/// A compiled schema: immutable, shared by all streams.
#[derive(Debug)]
pub struct Schema {
    program: Program,
    /// Bytes of memory, estimated from the texts.
    size: usize,
}

#[derive(Debug)]
enum Program {
    #[cfg(feature = "avro")]
    Avro(super::avro::Avro),
    #[cfg(feature = "protobuf")]
    Protobuf(super::protobuf::Protobuf),
    Json(JsonSchema),
}

/// Buffers that are reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    #[cfg(feature = "protobuf")]
    pub(super) protobuf: super::protobuf::entries::Scratch,
}

/// Bytes of a compiled schema for each byte of its text, about.
const COMPILED_SIZE: usize = 8;

impl Schema {
    /// Compiles a schema. May take milliseconds.
    ///
    /// # Errors
    /// When the text, or a text that it refers to, is not valid.
    pub fn compile(text: &SchemaText) -> Result<Self, SchemaError> {
        let program = match text.kind {
            #[cfg(feature = "avro")]
            SchemaKind::Avro => Program::Avro(super::avro::Avro::compile(text)?),
            #[cfg(feature = "protobuf")]
            SchemaKind::Protobuf => Program::Protobuf(super::protobuf::Protobuf::compile(text)?),
            SchemaKind::Json => Program::Json(JsonSchema::new(text)),
            #[cfg(not(all(feature = "avro", feature = "protobuf")))]
            kind => return Err(SchemaError(format!("this program was built without {kind}"))),
        };
        Ok(Self {
            program,
            size: size_of(text) * COMPILED_SIZE,
        })
    }

    /// Its language.
    pub const fn kind(&self) -> SchemaKind {
        match self.program {
            #[cfg(feature = "avro")]
            Program::Avro(_) => SchemaKind::Avro,
            #[cfg(feature = "protobuf")]
            Program::Protobuf(_) => SchemaKind::Protobuf,
            Program::Json(_) => SchemaKind::Json,
        }
    }

    /// Bytes of memory, about.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// For each root, by its place as [`write`](Self::write) returns it, whether its JSON is an object without space,
    /// none of whose members has one of these names: each as JSON with a colon.
    #[cfg_attr(
        not(feature = "avro"),
        expect(unused_variables, reason = "only Avro's unions depend on the options")
    )]
    pub(super) fn objects_without(&self, names: &[Box<[u8]>], options: Options) -> Vec<bool> {
        match &self.program {
            #[cfg(feature = "avro")]
            Program::Avro(avro) => vec![avro.is_object_without(names, options)],
            #[cfg(feature = "protobuf")]
            Program::Protobuf(protobuf) => protobuf.objects_without(names),
            Program::Json(_) => Vec::new(),
        }
    }

    /// Writes a payload as JSON; `header` is what followed the id in a header. Returns the place of its message, in a
    /// schema of Protobuf.
    #[cfg_attr(
        not(feature = "protobuf"),
        expect(unused_variables, reason = "only Protobuf uses them")
    )]
    #[cfg_attr(
        not(any(feature = "avro", feature = "protobuf")),
        expect(clippy::unnecessary_wraps, reason = "JSON is copied")
    )]
    pub(super) fn write(
        &self,
        header: Option<&[u8]>,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<usize, Fault> {
        match &self.program {
            #[cfg(feature = "avro")]
            Program::Avro(avro) => avro.write(payload, out).map(|()| 0),
            #[cfg(feature = "protobuf")]
            Program::Protobuf(protobuf) => protobuf.write(header, payload, &mut scratch.protobuf, out),
            Program::Json(_) => {
                out.raw(payload);
                Ok(0)
            }
        }
    }
}

impl Schema {
    /// The schema of what [`write`](Self::write) writes, of the message at `root`. May take milliseconds.
    #[cfg_attr(
        not(feature = "protobuf"),
        expect(unused_variables, reason = "only Protobuf has messages, and JSON no options")
    )]
    pub(super) fn describe(&self, root: usize, options: Options) -> Description {
        match &self.program {
            #[cfg(feature = "avro")]
            Program::Avro(avro) => avro.describe(options),
            #[cfg(feature = "protobuf")]
            Program::Protobuf(protobuf) => protobuf.describe(root, options),
            Program::Json(json) => json.describe(),
        }
    }
}

fn size_of(text: &SchemaText) -> usize {
    let references = text.references.iter();
    text.text.len()
        + references
            .map(|reference| size_of(&reference.schema))
            .sum::<usize>()
}
