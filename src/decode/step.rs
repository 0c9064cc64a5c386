//! What a decoder asks of its driver.

use std::sync::Arc;

use super::schema::{Schema, SchemaId};
use crate::kafka::record::Batch;

/// The result of a step of a decoder.
#[derive(Debug)]
pub enum Step {
    /// The batch is decoded.
    Done(Arc<Batch>),
    /// The driver is to supply this schema, and to call again with the same batch.
    Need(SchemaId),
}

/// A driver's answer to [`Step::Need`].
#[derive(Debug, Clone)]
pub enum Supplied {
    /// The schema.
    Schema(Arc<Schema>),
    /// The registry does not know the id.
    Unknown,
    /// The registry has a schema that cannot be used, and why.
    Unusable(String),
}
