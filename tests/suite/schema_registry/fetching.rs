//! How a schema is asked for, and kept.

use super::{SCHEMA, SEVEN, count, kind, registry, settings};
use crate::harness::scripted_registry::{Answer, ScriptedRegistry};
use crate::harness::wait::block_on;
use crate::trials;
use kafka_sse_bridge::decode::{SchemaId, SchemaKind};
use kafka_sse_bridge::schema_registry::Outcome;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        fifty_needs_of_a_schema_at_once_are_one_request,
        a_schema_is_kept_and_not_requested_again,
        the_cache_stays_within_its_bound,
        a_schema_of_a_header_is_requested_by_its_guid,
        a_reload_with_other_urls_requests_schemas_again,
    ]
}

fn fifty_needs_of_a_schema_at_once_are_one_request() {
    let server = ScriptedRegistry::start(|_| Answer::schema(SCHEMA));
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "");
        let needs: Vec<_> = (0..50)
            .map(|_| {
                let registry = registry.clone();
                tokio::spawn(async move { registry.schema(SEVEN).await })
            })
            .collect();
        for need in needs {
            assert_eq!(kind(&need.await.expect("no panic")), SchemaKind::Avro);
        }
        assert_eq!(server.paths(), ["/schemas/ids/7"]);
        let figures = status.figures();
        assert_eq!((figures.schemas, figures.waiting), (1, 0), "{figures:?}");
        assert_eq!(count(&status, Outcome::Ok), 1);
    });
}

fn a_schema_is_kept_and_not_requested_again() {
    let server = ScriptedRegistry::start(|_| Answer::schema(SCHEMA));
    block_on(async {
        // With a path, and with a slash that is not doubled.
        let (registry, _) = registry(&[&format!("{}/apis/ccompat/v7/", server.url())], "");
        for _ in 0..3 {
            kind(&registry.schema(SEVEN).await);
        }
        assert_eq!(server.paths(), ["/apis/ccompat/v7/schemas/ids/7"]);
    });
}

fn the_cache_stays_within_its_bound() {
    // A long name makes a large schema.
    let server = ScriptedRegistry::start(|request| {
        let name = format!("N{}{}", request.path.replace('/', "_"), "x".repeat(20_000));
        Answer::schema(&format!(r#"{{"type":"fixed","size":4,"name":"{name}"}}"#).replace('-', "_"))
    });
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "max_cache_bytes = \"1MiB\"");
        for number in 1..=100 {
            kind(&registry.schema(SchemaId::Number(number)).await);
            // Used all the time, so it stays.
            kind(&registry.schema(SchemaId::Number(1)).await);
        }
        let figures = status.figures();
        assert!(figures.bytes <= 1 << 20, "{figures:?}");
        assert!(figures.schemas > 1 && figures.schemas < 100, "{figures:?}");
        let first = server
            .paths()
            .iter()
            .filter(|path| *path == "/schemas/ids/1")
            .count();
        assert_eq!(first, 1, "the most used schema is kept");
        let before = server.paths().len();
        kind(&registry.schema(SchemaId::Number(2)).await);
        assert_eq!(
            server.paths().len(),
            before + 1,
            "an evicted schema is requested again"
        );
    });
}

fn a_schema_of_a_header_is_requested_by_its_guid() {
    let server = ScriptedRegistry::start(|_| Answer::schema(SCHEMA));
    block_on(async {
        let (registry, _) = registry(&[&server.url()], "");
        let guid = SchemaId::Guid(*b"\x9f\x3e\x5d\x01\x00\x7f\x40\x01\x80\x02\x00\x01\x02\x03\x04\xff");
        kind(&registry.schema(guid).await);
        assert_eq!(
            server.paths(),
            ["/schemas/guids/9f3e5d01-007f-4001-8002-0001020304ff"]
        );
    });
}

fn a_reload_with_other_urls_requests_schemas_again() {
    let [one, other] = [(); 2].map(|()| ScriptedRegistry::start(|_| Answer::schema(SCHEMA)));
    block_on(async {
        let (registry, status) = registry(&[&one.url()], "");
        kind(&registry.schema(SEVEN).await);
        registry.apply(&settings(&format!("urls = [{:?}]\ntimeout = \"5s\"", one.url())));
        kind(&registry.schema(SEVEN).await);
        assert_eq!(one.paths().len(), 1, "the same registry: schemas are kept");
        registry.apply(&settings(&format!("urls = [{:?}]", other.url())));
        assert_eq!(status.figures().schemas, 0);
        kind(&registry.schema(SEVEN).await);
        assert_eq!((one.paths().len(), other.paths().len()), (1, 1));
    });
}
