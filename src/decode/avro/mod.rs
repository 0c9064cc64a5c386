//! Avro to JSON, straight from the bytes: apache-avro parses the schema, and the parsed schema is compiled to nodes that
//! a walk over the bytes follows.
//!
//! The crate's own values allocate every string, name and map of a record; the walk allocates nothing.

mod compile;
mod decimal;
mod describe;
mod walk;

use std::collections::HashMap;

use super::times::Unit;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Avro {
    nodes: Vec<Node>,
    root: Index,
    /// Full names of named types.
    names: HashMap<Index, String>,
}

/// The place of a node.
type Index = usize;

/// A type.
#[derive(Debug)]
enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    /// The symbols as JSON.
    Enum(Vec<Box<[u8]>>),
    Array(Index),
    Map(Index),
    Union(Vec<Branch>),
    Record(Vec<Field>),
    /// A decimal in so many bytes, if their number is fixed.
    Decimal(u32, Option<usize>),
    BigDecimal,
    UuidText,
    /// A UUID of 16 bytes, which have a length in front of them unless it is fixed.
    UuidBytes(Option<usize>),
    Date,
    TimeMillis,
    TimeMicros,
    Timestamp(Unit, bool),
    Duration,
}

#[derive(Debug)]
struct Branch {
    /// The name of the type as JSON, with a colon.
    name: Box<[u8]>,
    node: Index,
    is_null: bool,
}

#[derive(Debug)]
struct Field {
    /// The name as JSON, with a colon, and a comma in front of it where another field precedes it.
    name: Box<[u8]>,
    node: Index,
}
