//! Decodes keys and values of records to JSON: plain numbers, UUIDs, Avro and Protobuf.
//!
//! Sans-I/O: a [`Decoder`] says which schema it needs, and a driver fetches it. Behind it, a batch is an ordinary
//! [`Batch`](crate::kafka::record::Batch), whose keys and values are what clients see.
//!
//! - [`registered`]: ids and texts of registered schemas; [`schema`]: what they are compiled to
//! - `decoder`: the records of a stream, one after the other; [`feeds`]: its feeds; `framing`: how a record names its
//!   schema
//! - `primitives`: numbers and UUIDs; `avro`, `protobuf`: the formats with schemas
//! - `json`, `times`: what they write
//! - [`used`]: the schemas that the records of a stream have had; `shapes`, `json_schema`: what descriptions say by them
#![forbid(unsafe_code)]

#[cfg(feature = "avro")]
mod avro;
mod decoder;
pub mod feeds;
mod framing;
#[cfg(all(feature = "avro", feature = "protobuf", any(test, fuzzing)))]
pub(crate) mod fuzzing;
mod json;
mod json_schema;
mod primitives;
#[cfg(feature = "protobuf")]
mod protobuf;
pub(crate) mod registered;
pub(crate) mod schema;
#[cfg(any(feature = "avro", feature = "protobuf"))]
mod shapes;
#[cfg(any(feature = "avro", feature = "protobuf"))]
mod times;
pub mod used;

pub use decoder::{Decoder, Step, Supplied};
pub use framing::Part;
pub(crate) use framing::has_schema_id;
pub use registered::{Reference, SchemaError, SchemaId, SchemaKind, SchemaText};
pub use schema::Schema;
