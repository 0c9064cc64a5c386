//! A real registry, Apicurio, has the schemas that are asked for.

use super::{count, kind, registry};
use crate::doctor::Report;
use crate::harness::apicurio::Apicurio;
use crate::harness::broker::free_port;
use crate::harness::trial;
use crate::harness::wait::block_on;
use kafka_sse_bridge::decode::{SchemaId, SchemaKind, Supplied};
use kafka_sse_bridge::schema_registry::Outcome;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    // Marked as those with brokers are, so that a quick run can leave them out.
    let of = |test: fn(&Apicurio)| move || test(&Apicurio::shared());
    vec![
        trial(
            "schemas_and_their_references_are_fetched@apicurio",
            of(schemas_and_their_references_are_fetched),
        ),
        trial(
            "schemas_of_deleted_subjects_are_fetched@apicurio",
            of(schemas_of_deleted_subjects_are_fetched),
        ),
        trial(
            "an_id_that_the_registry_does_not_know_is_unknown@apicurio",
            of(an_id_that_the_registry_does_not_know_is_unknown),
        ),
        trial(
            "doctor_asks_each_url_of_the_registry@apicurio",
            of(doctor_asks_each_url_of_the_registry),
        ),
    ]
}

const MONEY: &str =
    r#"{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"cents","type":"long"}]}"#;
const ORDER: &str =
    r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"total","type":"shop.Money"}]}"#;

fn schemas_and_their_references_are_fetched(apicurio: &Apicurio) {
    // A subject that a path must encode.
    let avro = "fetched/money and more?";
    apicurio.register(avro, "AVRO", MONEY, &[]);
    let proto = r#"syntax = "proto3"; package shop; message Money { int64 cents = 1; }"#;
    apicurio.register("fetched-common.proto", "PROTOBUF", proto, &[]);
    let json = r#"{"type":"object","properties":{"cents":{"type":"integer"}}}"#;
    apicurio.register("fetched-money.json", "JSON", json, &[]);
    let ids = [
        apicurio.register("fetched-order", "AVRO", ORDER, &[("shop.Money", avro, 1)]),
        apicurio.register(
            "fetched-order.proto",
            "PROTOBUF",
            r#"syntax = "proto3"; package shop; import "common.proto"; message Order { Money total = 1; }"#,
            &[("common.proto", "fetched-common.proto", 1)],
        ),
        apicurio.register(
            "fetched-order.json",
            "JSON",
            r#"{"type":"object","properties":{"total":{"$ref":"money.json"}}}"#,
            &[("money.json", "fetched-money.json", 1)],
        ),
    ];
    block_on(async {
        let (registry, status) = registry(&[apicurio.url()], "");
        let kinds = [SchemaKind::Avro, SchemaKind::Protobuf, SchemaKind::Json];
        for (id, expected) in ids.into_iter().zip(kinds) {
            assert_eq!(kind(&registry.schema(SchemaId::Number(id)).await), expected);
        }
        assert_eq!(count(&status, Outcome::Ok), 6, "a schema and a reference each");
        assert_eq!(status.degraded(), Vec::<String>::new());
    });
}

fn schemas_of_deleted_subjects_are_fetched(apicurio: &Apicurio) {
    let money = MONEY.replace("shop", "deleted");
    apicurio.register("deleted-money", "AVRO", &money, &[]);
    let order = ORDER.replace("shop", "deleted");
    let id = apicurio.register(
        "deleted-order",
        "AVRO",
        &order,
        &[("deleted.Money", "deleted-money", 1)],
    );
    apicurio.delete("deleted-order", false);
    block_on(async {
        let (registry, _) = registry(&[apicurio.url()], "");
        assert_eq!(
            kind(&registry.schema(SchemaId::Number(id)).await),
            SchemaKind::Avro,
            "records that were written with it are still there"
        );
    });
}

fn an_id_that_the_registry_does_not_know_is_unknown(apicurio: &Apicurio) {
    block_on(async {
        let (registry, status) = registry(&[apicurio.url()], "unknown_schema_timeout = \"200ms\"");
        let supplied = registry.schema(SchemaId::Number(2_000_000_000)).await;
        assert!(matches!(supplied, Supplied::Unknown), "{supplied:?}");
        assert!(count(&status, Outcome::NotFound) > 1);
    });
}

fn doctor_asks_each_url_of_the_registry(apicurio: &Apicurio) {
    apicurio.register("doctor-value", "AVRO", MONEY, &[]);
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let root = apicurio.url().trim_end_matches("/apis/ccompat/v7");
    let urls = [apicurio.url(), &nowhere, root];
    // Kafka is absent, which are findings of their own.
    let report = Report::of(&format!(
        "[kafka]\nbrokers = [\"127.0.0.1:{}\"]\nschema_registry = {{ urls = {urls:?} }}\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n",
        free_port()
    ));
    assert_eq!(report.code, Some(1), "{}", report.text);
    for text in [
        &format!("ok    schema registry {}: it answers, and lists ", apicurio.url()),
        &format!("fail  schema registry {nowhere}: {nowhere} is not reached: "),
        "Connection refused",
        "remedy: start the registry, correct urls in [kafka.schema_registry]",
        &format!("fail  schema registry {root}: {root} has no schema registry: it answers 404"),
    ] {
        assert!(report.text.contains(text), "no {text:?} in:\n{}", report.text);
    }
}
