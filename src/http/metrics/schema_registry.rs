//! Metrics of the schema registry: requests, schemas, failures.

use std::fmt;

use super::families::Families;
use crate::schema_registry::RegistryStatus;

pub(super) fn write(status: &RegistryStatus, families: &mut Families<'_>) -> fmt::Result {
    families.counter(
        "schema_registry_requests",
        "Requests to the schema registry, by result",
        status
            .outcomes()
            .map(|(outcome, count)| (vec![("result", outcome.as_str().to_owned())], count)),
    )?;
    let figures = status.figures();
    families.figure(
        "schema_registry_schemas",
        "Schemas that are kept",
        figures.schemas as u64,
    )?;
    families.figure(
        "schema_registry_cache_bytes",
        "Bytes of the schemas that are kept, about",
        figures.bytes as u64,
    )?;
    families.figure(
        "schema_registry_waiting",
        "Schemas that are being fetched or waited for",
        figures.waiting as u64,
    )?;
    families.figure(
        "schema_registry_failing_seconds",
        "How long the schema registry has failed while a stream needs a schema; 0 while it answers",
        figures.failing.as_secs_f64(),
    )
}
