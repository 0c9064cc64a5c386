//! References are fetched with the schema that has them, and bounded.

use super::{SCHEMA, SEVEN, kind, registry, unusable};
use crate::harness::scripted_registry::{Answer, Request, ScriptedRegistry};
use crate::harness::wait::block_on;
use crate::trials;
use libtest_mimic::Trial;
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    trials![
        references_are_fetched_recursively_and_each_once,
        references_in_a_circle_are_refused,
        references_that_are_too_deep_are_refused,
        references_that_grow_exponentially_are_refused,
        a_missing_reference_is_waited_for_and_named,
        a_schema_of_another_language_is_named,
    ]
}

/// A schema that refers to version 1 of these subjects.
fn referring(name: &str, subjects: &[&str]) -> Answer {
    let references: Vec<_> = subjects
        .iter()
        .map(|subject| json!({ "name": subject, "subject": subject, "version": 1 }))
        .collect();
    let fields: Vec<_> = subjects
        .iter()
        .map(|subject| json!({ "name": subject, "type": subject }))
        .collect();
    let schema = json!({ "type": "record", "name": name, "fields": fields }).to_string();
    Answer::Json(
        200,
        json!({ "schema": schema, "references": references }).to_string(),
    )
}

/// The subject that a request asks for; nothing for the schema itself.
fn subject(request: &Request) -> Option<String> {
    let rest = request.path.strip_prefix("/subjects/")?;
    let (subject, rest) = rest.split_once('/')?;
    assert_eq!(rest, "versions/1?deleted=true");
    Some(subject.to_owned())
}

fn references_are_fetched_recursively_and_each_once() {
    let server = ScriptedRegistry::start(|request| match subject(request).as_deref() {
        None => referring("Order", &["left", "right"]),
        Some("left") => referring("left", &["shared"]),
        Some("right") => referring("right", &["shared"]),
        Some(_) => Answer::schema(r#"{"type":"record","name":"shared","fields":[]}"#),
    });
    block_on(async {
        let (registry, _) = registry(&[&server.url()], "");
        kind(&registry.schema(SEVEN).await);
        let paths = [
            "/schemas/ids/7",
            "/subjects/left/versions/1?deleted=true",
            "/subjects/shared/versions/1?deleted=true",
            "/subjects/right/versions/1?deleted=true",
        ];
        assert_eq!(server.paths(), paths);
    });
}

fn references_in_a_circle_are_refused() {
    let server = ScriptedRegistry::start(|request| match subject(request).as_deref() {
        Some("one") => referring("one", &["other"]),
        _ => referring("other", &["one"]),
    });
    block_on(async {
        let (registry, _) = registry(&[&server.url()], "");
        let reason = unusable(registry.schema(SEVEN).await);
        assert_eq!(
            reason,
            "its references form a circle through version 1 of subject \"one\""
        );
    });
}

/// The next of subjects that are numbered.
fn next(request: &Request) -> usize {
    let number = subject(request).map(|subject| subject.replace('s', "").parse::<usize>());
    number.map_or(0, |number| number.expect("a number") + 1)
}

fn references_that_are_too_deep_are_refused() {
    let server = ScriptedRegistry::start(|request| {
        let next = format!("s{}", next(request));
        referring("Deep", &[&next])
    });
    block_on(async {
        let (registry, _) = registry(&[&server.url()], "");
        let reason = unusable(registry.schema(SEVEN).await);
        assert!(reason.contains("more than 32 deep"), "{reason}");
        assert!(server.paths().len() < 40, "{}", server.paths().len());
    });
}

fn references_that_grow_exponentially_are_refused() {
    // Each refers twice to the next one, so that 20 texts become a million.
    let server = ScriptedRegistry::start(|request| match next(request) {
        20 => Answer::schema(SCHEMA),
        next => referring("Wide", &[&format!("s{next}"), &format!("s{next}")]),
    });
    block_on(async {
        let (registry, _) = registry(&[&server.url()], "");
        let reason = unusable(registry.schema(SEVEN).await);
        assert_eq!(reason, "it refers to more than 1000 schemas");
    });
}

fn a_missing_reference_is_waited_for_and_named() {
    let server = ScriptedRegistry::start(|request| match subject(request) {
        None => referring("Order", &["gone"]),
        Some(_) => Answer::Json(
            404,
            r#"{"error_code":40401,"message":"Subject not found"}"#.to_owned(),
        ),
    });
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "unknown_schema_timeout = \"300ms\"");
        let reason = unusable(registry.schema(SEVEN).await);
        assert_eq!(
            reason,
            "it refers to version 1 of subject \"gone\", which the registry does not know"
        );
        assert!(server.paths().len() > 2, "it is waited for: {:?}", server.paths());
        let degraded = status.degraded().join("\n");
        assert!(
            degraded.contains("schema 7 cannot be used: it refers to"),
            "{degraded}"
        );
    });
}

fn a_schema_of_another_language_is_named() {
    let server =
        ScriptedRegistry::start(|_| Answer::Json(200, r#"{"schema":"","schemaType":"THRIFT"}"#.to_owned()));
    block_on(async {
        let (registry, _) = registry(&[&server.url()], "");
        let reason = unusable(registry.schema(SEVEN).await);
        assert_eq!(
            reason,
            "its schemaType is \"THRIFT\"; AVRO, PROTOBUF and JSON can be read"
        );
    });
}
