//! Decodes keys and values of records to JSON: plain numbers, UUIDs, Avro and Protobuf.
//!
//! Sans-I/O: a [`Decoder`] says which schema it needs, and a driver fetches it. Behind it, a batch is an ordinary
//! [`Batch`](crate::kafka::record::Batch), whose keys and values are what clients see.
#![forbid(unsafe_code)]

pub mod schema;
pub mod step;

pub use schema::{Reference, Schema, SchemaError, SchemaId, SchemaKind, SchemaText};
pub use step::{Step, Supplied};
