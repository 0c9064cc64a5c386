//! Compiles the text of a schema to tables.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{
    self as reflect, Cardinality, DescriptorPool, EnumDescriptor, MessageDescriptor, Syntax,
};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::bundled::Bundled;
use super::{DENSE, Enum, Field, Kind, Known, Message, Protobuf, Shape};
use crate::decode::json;
use crate::decode::registered::{SchemaError, SchemaKind, SchemaText};

/// The name of the file itself, which no import may have: `confluent-kafka` names none either.
const ROOT: &str = "__registered__.proto";

impl Protobuf {
    pub(in crate::decode) fn compile(text: &SchemaText) -> Result<Self, SchemaError> {
        compile(text)
    }
}

fn compile(text: &SchemaText) -> Result<Protobuf, SchemaError> {
    let mut files = HashMap::from([(ROOT.to_owned(), text.text.clone())]);
    collect(text, &mut files)?;
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(files));
    resolver.add(GoogleFileResolver::new());
    resolver.add(Bundled);
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler
        .open_file(ROOT)
        .map_err(|error| SchemaError(format!("not a valid Protobuf schema: {error}")))?;
    let pool = compiler.descriptor_pool();
    let top = pool.get_file_by_name(ROOT).map_or_else(Vec::new, |file| {
        file.messages()
            .map(|message| message.full_name().to_owned())
            .collect()
    });
    Ok(tables(&pool, &top))
}

/// Collects the texts of all imports by their paths.
fn collect(text: &SchemaText, files: &mut HashMap<String, String>) -> Result<(), SchemaError> {
    for reference in &text.references {
        if reference.schema.kind != SchemaKind::Protobuf {
            let kind = reference.schema.kind;
            return Err(SchemaError(format!("{} is of type {kind}", reference.name)));
        }
        if files.contains_key(&reference.name) {
            continue;
        }
        files.insert(reference.name.clone(), reference.schema.text.clone());
        collect(&reference.schema, files)?;
    }
    Ok(())
}

struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = self
            .0
            .get(name)
            .ok_or_else(|| protox::Error::file_not_found(name))?;
        // Serializers of some languages register the descriptor in base64 instead of the text.
        let bytes = STANDARD.decode(text.trim()).ok();
        let descriptor = bytes.and_then(|bytes| FileDescriptorProto::decode(&*bytes).ok());
        match descriptor {
            Some(descriptor) => Ok(File::from_file_descriptor_proto(FileDescriptorProto {
                name: Some(name.to_owned()),
                ..descriptor
            })),
            None => File::from_source(name, text),
        }
    }
}

fn tables(pool: &DescriptorPool, top: &[String]) -> Protobuf {
    let places: HashMap<String, usize> = pool
        .all_messages()
        .enumerate()
        .map(|(place, message)| (message.full_name().to_owned(), place))
        .collect();
    let mut tables = Tables {
        places,
        enums: Vec::new(),
        enum_places: HashMap::new(),
    };
    let messages = pool
        .all_messages()
        .map(|message| tables.message(&message))
        .collect();
    let top = top
        .iter()
        .filter_map(|name| tables.places.get(name).copied())
        .collect();
    Protobuf {
        messages,
        enums: tables.enums,
        top,
    }
}

struct Tables {
    /// The places of messages by their names.
    places: HashMap<String, usize>,
    enums: Vec<Enum>,
    enum_places: HashMap<String, usize>,
}

impl Tables {
    fn place(&self, message: &MessageDescriptor) -> usize {
        // All messages of the pool have one.
        self.places.get(message.full_name()).copied().unwrap_or_default()
    }

    fn message(&mut self, message: &MessageDescriptor) -> Message {
        let mut fields: Vec<Field> = message.fields().map(|field| self.field(&field)).collect();
        fields.extend(message.extensions().map(|extension| self.extension(&extension)));
        fields.sort_by_key(|field| field.number);
        let dense = dense(fields.iter().map(|field| field.number));
        Message {
            name: message.full_name().to_owned(),
            known: known(message.full_name()),
            fields,
            dense,
            oneofs: oneofs(message).count(),
            is_map_entry: message.is_map_entry(),
            nested: message.child_messages().map(|child| self.place(&child)).collect(),
        }
    }

    fn field(&mut self, field: &reflect::FieldDescriptor) -> Field {
        let shape = if field.is_map() {
            Shape::Map
        } else if field.cardinality() == Cardinality::Repeated {
            Shape::List
        } else if field.supports_presence() {
            Shape::Optional
        } else {
            Shape::Implicit
        };
        let oneof = field.containing_oneof();
        Field {
            number: field.number(),
            name: json::name(field.json_name()),
            kind: self.kind(&field.kind(), field.is_group()),
            shape,
            oneof: oneof.and_then(|oneof| oneofs(field.parent_message()).position(|other| other == oneof)),
        }
    }

    fn extension(&mut self, extension: &reflect::ExtensionDescriptor) -> Field {
        Field {
            number: extension.number(),
            name: json::name(extension.json_name()),
            kind: self.kind(&extension.kind(), extension.is_group()),
            shape: if extension.cardinality() == Cardinality::Repeated {
                Shape::List
            } else {
                Shape::Optional
            },
            oneof: None,
        }
    }

    fn kind(&mut self, kind: &reflect::Kind, is_group: bool) -> Kind {
        match kind {
            reflect::Kind::Double => Kind::Double,
            reflect::Kind::Float => Kind::Float,
            reflect::Kind::Int32 => Kind::Int32,
            reflect::Kind::Int64 => Kind::Int64,
            reflect::Kind::Uint32 => Kind::Uint32,
            reflect::Kind::Uint64 => Kind::Uint64,
            reflect::Kind::Sint32 => Kind::Sint32,
            reflect::Kind::Sint64 => Kind::Sint64,
            reflect::Kind::Fixed32 => Kind::Fixed32,
            reflect::Kind::Fixed64 => Kind::Fixed64,
            reflect::Kind::Sfixed32 => Kind::Sfixed32,
            reflect::Kind::Sfixed64 => Kind::Sfixed64,
            reflect::Kind::Bool => Kind::Bool,
            reflect::Kind::String => Kind::String,
            reflect::Kind::Bytes => Kind::Bytes,
            reflect::Kind::Message(message) if is_group => Kind::Group(self.place(message)),
            reflect::Kind::Message(message) => Kind::Message(self.place(message)),
            reflect::Kind::Enum(symbols) => Kind::Enum(self.symbols(symbols)),
        }
    }

    fn symbols(&mut self, symbols: &EnumDescriptor) -> usize {
        if let Some(place) = self.enum_places.get(symbols.full_name()) {
            return *place;
        }
        let is_null = symbols.full_name() == "google.protobuf.NullValue";
        let mut values = BTreeMap::new();
        // In the order of the file, which `EnumDescriptor::values` has not for names of one number.
        for value in &symbols.enum_descriptor_proto().value {
            let name = if is_null {
                b"null".to_vec().into()
            } else {
                json::string(value.name())
            };
            // Of several names of a number the first one is shown.
            values.entry(value.number()).or_insert(name);
        }
        self.enums.push(Enum {
            values: values.into_iter().collect(),
            is_closed: symbols.parent_file().syntax() == Syntax::Proto2,
        });
        let place = self.enums.len() - 1;
        self.enum_places.insert(symbols.full_name().to_owned(), place);
        place
    }
}

/// The places, from 1 on, of fields with small numbers, of all numbers in their order.
fn dense(numbers: impl Iterator<Item = u32>) -> [u16; DENSE] {
    let mut dense = [0; DENSE];
    // These come first, so their places are small, however many fields there are.
    let small = numbers.map_while(|number| usize::try_from(number).ok().filter(|number| *number < DENSE));
    for (place, number) in (1..).zip(small) {
        dense[number] = place;
    }
    dense
}

/// The oneofs of which a member can replace another. `optional` in proto3 makes one of a single member.
fn oneofs(message: &MessageDescriptor) -> impl Iterator<Item = reflect::OneofDescriptor> {
    message.oneofs().filter(|oneof| oneof.fields().len() > 1)
}

fn known(name: &str) -> Known {
    match name.strip_prefix("google.protobuf.") {
        Some("Any") => Known::Any,
        Some("Duration") => Known::Duration,
        Some("FieldMask") => Known::FieldMask,
        Some("ListValue") => Known::ListValue,
        Some("Struct") => Known::Struct,
        Some("Timestamp") => Known::Timestamp,
        Some("Value") => Known::Value,
        Some(
            "BoolValue" | "BytesValue" | "DoubleValue" | "FloatValue" | "Int32Value" | "Int64Value"
            | "StringValue" | "UInt32Value" | "UInt64Value",
        ) => Known::Wrapper,
        _ => Known::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_small_numbers_have_places_beside_any_number_of_others() {
        let places = dense([2, 5].into_iter().chain(100..200_000));
        assert_eq!((places[1], places[2], places[5], places[31]), (0, 1, 2, 0));
    }
}
