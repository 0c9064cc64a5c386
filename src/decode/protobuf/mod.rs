//! Protobuf to JSON, straight from the bytes: protox and prost-reflect compile the schema, which is compiled again to
//! tables that a walk over the bytes follows. The JSON is that of the Protobuf documentation ("ProtoJSON").

mod bundled;
mod compile;
mod describe;
pub(super) mod entries;
mod known;
mod walk;
mod wire;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Protobuf {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    /// The messages of the file itself, in its order.
    top: Vec<usize>,
}

/// A type of messages.
#[derive(Debug)]
struct Message {
    name: String,
    known: Known,
    /// By number.
    fields: Vec<Field>,
    /// For the smallest numbers the place in `fields` plus one, or 0.
    dense: [u16; DENSE],
    oneofs: usize,
    is_map_entry: bool,
    /// The messages within it, in its order, with those of maps.
    nested: Vec<usize>,
}

/// Numbers of fields that are found without a search.
const DENSE: usize = 32;

#[derive(Debug)]
struct Field {
    number: u32,
    /// Its name in JSON, with a colon.
    name: Box<[u8]>,
    kind: Kind,
    shape: Shape,
    oneof: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Shown if it is present.
    Optional,
    /// Shown unless it has its default.
    Implicit,
    List,
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Message(usize),
    Group(usize),
    Enum(usize),
}

/// How the fields of a message are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Varint,
    Eight,
    Length,
    Group,
    Four,
}

impl Kind {
    const fn wire(self) -> Wire {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => Wire::Eight,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => Wire::Four,
            Self::String | Self::Bytes | Self::Message(_) => Wire::Length,
            Self::Group(_) => Wire::Group,
            _ => Wire::Varint,
        }
    }

    const fn is_packable(self) -> bool {
        !matches!(self.wire(), Wire::Length | Wire::Group)
    }
}

#[derive(Debug)]
struct Enum {
    /// By number, with the names as JSON.
    values: Vec<(i32, Box<[u8]>)>,
    /// Whether other numbers count as unknown fields.
    is_closed: bool,
}

impl Enum {
    fn name(&self, number: i32) -> Option<&[u8]> {
        let place = self
            .values
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()?;
        Some(&self.values[place].1)
    }

    fn is_unknown(&self, number: i32) -> bool {
        self.is_closed && self.name(number).is_none()
    }
}

/// Messages with a JSON of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    None,
    Any,
    Duration,
    FieldMask,
    ListValue,
    Struct,
    Timestamp,
    Value,
    Wrapper,
}

impl Protobuf {
    fn field(&self, message: usize, number: u32) -> Option<usize> {
        let message = &self.messages[message];
        if let Some(place) = message.dense.get(number as usize) {
            return usize::from(*place).checked_sub(1);
        }
        message
            .fields
            .binary_search_by_key(&number, |field| field.number)
            .ok()
    }
}
