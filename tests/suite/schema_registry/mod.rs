//! Schemas come from the registry, once each and whatever happens to it. Most trials script a registry, because a real
//! one has no bad days to order; `real` asks one.

mod credentials;
mod failures;
mod fetching;
mod real;
mod references;
mod settings;
mod unknown;

use kafka_sse_bridge::config::SchemaRegistrySettings;
use kafka_sse_bridge::decode::{SchemaId, SchemaKind, Supplied};
use kafka_sse_bridge::schema_registry::{Outcome, RegistryStatus, SchemaRegistry};
use libtest_mimic::Trial;
use std::sync::Arc;

pub fn trials() -> Vec<Trial> {
    [
        fetching::trials(),
        failures::trials(),
        unknown::trials(),
        references::trials(),
        credentials::trials(),
        settings::trials(),
        real::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A valid schema of Avro.
const SCHEMA: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}"#;

/// The settings of these lines of `[kafka.schema_registry]`.
fn settings(lines: &str) -> SchemaRegistrySettings {
    toml::from_str(lines).unwrap_or_else(|error| panic!("{lines}: {error}"))
}

/// A registry at these URLs; to be called within a runtime.
fn registry(urls: &[&str], more: &str) -> (SchemaRegistry, Arc<RegistryStatus>) {
    let status = Arc::new(RegistryStatus::default());
    let settings = settings(&format!("urls = {urls:?}\n{more}"));
    (SchemaRegistry::new(&settings, Arc::clone(&status)), status)
}

/// How many requests had this outcome.
fn count(status: &RegistryStatus, wanted: Outcome) -> u64 {
    let counted = status.outcomes().find(|(outcome, _)| *outcome == wanted);
    counted.expect("it is listed").1
}

#[track_caller]
fn kind(supplied: &Supplied) -> SchemaKind {
    match supplied {
        Supplied::Schema(schema) => schema.kind(),
        other => panic!("no schema: {other:?}"),
    }
}

/// Why a schema cannot be used.
#[track_caller]
fn unusable(supplied: Supplied) -> String {
    match supplied {
        Supplied::Unusable(reason) => reason,
        other => panic!("not unusable: {other:?}"),
    }
}

const SEVEN: SchemaId = SchemaId::Number(7);
