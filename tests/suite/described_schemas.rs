//! The descriptions of registered schemas in the API, compared with the values that streams show.

use crate::common::{config, json as data, named};
use crate::harness::apicurio::Apicurio;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::followers::{PROGRAMS, Runtime};
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::registered::produce;
use crate::trials;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kafka_sse_bridge::config::{AvroJson, DataFormat, Int64, StreamSettings, Timestamps};
use kafka_sse_bridge::decode::used::UsedSchemas;
use kafka_sse_bridge::decode::{Decoder, Part, Schema, SchemaKind, SchemaText, Step, Supplied};
use kafka_sse_bridge::kafka::record::{Batch, Stamp};
use libtest_mimic::Trial;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn trials() -> Vec<Trial> {
    if Runtime::Schemas.is_missing() {
        return Vec::new();
    }
    let mut trials = trials![
        avro_is_described_as_it_is_shown,
        protobuf_is_described_as_it_is_shown,
    ];
    trials.push(on_broker(
        Version::V4_4,
        events_of_registered_schemas_match_their_descriptions,
    ));
    trials
}

/// A value, and where its schema is.
struct Case {
    document: Value,
    at: String,
    instance: Value,
}

fn python(program: &str) -> Command {
    let mut command = Command::new(Runtime::Schemas.home().join("bin/python"));
    command.arg(Path::new(PROGRAMS).join("schemas").join(program));
    command
}

/// The objections of an independent validator to the values.
fn mismatches(cases: &[Case]) -> Vec<String> {
    let mut child = python("matches.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut input = child.stdin.take().expect("piped");
    let lines: Vec<String> = cases
        .iter()
        .map(|case| {
            json!({ "document": case.document, "at": case.at, "instance": case.instance }).to_string()
        })
        .collect();
    // A program that fails ends before it has read everything.
    let writer = thread::spawn(move || lines.iter().try_for_each(|line| writeln!(input, "{line}")));
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{}: its stderr is above", output.status);
    writer.join().expect("no panic").expect("it has read everything");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Values and schemas of a kind, made at random by its reference library.
fn random(kind: &str) -> (String, Vec<Value>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.map_or(0, |now| now.subsec_nanos()).to_string();
    let output = python("cases.py")
        .args([kind, &seed, "600"])
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "seed {seed}: {said}");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let cases = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    (seed, cases.collect())
}

/// A value as a stream of these settings shows it, and its description.
fn shown(settings: &StreamSettings, schema: &Arc<Schema>, payload: &[u8]) -> Case {
    let used = Arc::new(UsedSchemas::default());
    let mut decoder = Decoder::new(settings).noting(Arc::clone(&used));
    let mut batch = Batch::new("t".into());
    let stamp = Stamp {
        partition: 0,
        offset: 1,
        timestamp: None,
    };
    batch.push(
        stamp,
        None,
        Some(&[&[0, 0, 0, 0, 7], payload].concat()),
        std::iter::empty(),
    );
    let batch = Arc::new(batch);
    let part = loop {
        match decoder.decode(&batch, || {}) {
            Step::Need(ids) => decoder.supply(ids[0], Supplied::Schema(Arc::clone(schema))),
            Step::Done(part) | Step::Part(part) => break part,
        }
    };
    let record = part.iter().next().expect("a record");
    let instance = serde_json::from_slice(record.value.expect("a value")).expect("JSON");
    let mut described = used.describe(Part::Value, settings);
    assert!(described.is_complete);
    let (label, description) = described.schemas.remove(0);
    assert_eq!(label, "7");
    let mut types = Map::new();
    let root = description.move_to(&mut types, "#/types/", &label);
    Case {
        document: json!({ "types": types, "root": root }),
        at: "/root".to_owned(),
        instance,
    }
}

/// Checks random values of a kind, with these settings, and with half of their members hidden, and with half of them
/// shown.
fn check(kind: SchemaKind, settings: &[StreamSettings]) {
    let (seed, random) = random(&kind.to_string().to_lowercase());
    let mut cases = Vec::new();
    let mut parts = 0;
    for case in &random {
        let text = |name: &str| case[name].as_str().expect("text");
        let schema = Schema::compile(&SchemaText {
            kind,
            text: text("schema").to_owned(),
            references: Vec::new(),
        });
        let schema = Arc::new(schema.expect("valid"));
        let payload = STANDARD.decode(text("payload")).expect("base64");
        for settings in settings {
            let all = shown(settings, &schema, &payload);
            let names: Vec<String> = all
                .instance
                .as_object()
                .map_or_else(Vec::new, |members| members.keys().step_by(2).cloned().collect());
            cases.push(all);
            let is_path = |name: &String| !name.is_empty() && !name.contains(['.', '\\']);
            if names.is_empty() || !names.iter().all(is_path) {
                continue;
            }
            let hidden = StreamSettings {
                hide: names.clone(),
                ..settings.clone()
            };
            let only = StreamSettings {
                fields: names,
                ..settings.clone()
            };
            parts += 1;
            cases.extend([hidden, only].map(|settings| shown(&settings, &schema, &payload)));
        }
    }
    assert!(parts > 50, "seed {seed}: {parts} values with members");
    let mismatches = mismatches(&cases);
    if let Some(first) = mismatches.first() {
        let number: usize = first
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number");
        let Case {
            document, instance, ..
        } = &cases[number - 1];
        panic!(
            "seed {seed}: {} of {}: {first}\n{document}\n{instance}",
            mismatches.len(),
            cases.len()
        );
    }
    // The descriptions say something: hardly a value matches that of another one.
    for index in 1..cases.len() {
        let (one, other) = cases.split_at_mut(index);
        std::mem::swap(&mut one[index - 1].instance, &mut other[0].instance);
    }
    let wrong = self::mismatches(&cases);
    assert!(
        wrong.len() > cases.len() / 4,
        "seed {seed}: {} of {}",
        wrong.len(),
        cases.len()
    );
}

fn of(value_format: DataFormat) -> StreamSettings {
    StreamSettings {
        value_format,
        ..StreamSettings::default()
    }
}

fn avro_is_described_as_it_is_shown() {
    let plain = of(DataFormat::Avro);
    let other = StreamSettings {
        avro_json: AvroJson::Tagged,
        int64: Int64::String,
        timestamps: Timestamps::Number,
        ..plain.clone()
    };
    check(SchemaKind::Avro, &[plain, other]);
}

fn protobuf_is_described_as_it_is_shown() {
    let plain = of(DataFormat::Protobuf);
    let other = StreamSettings {
        int64: Int64::String,
        ..plain.clone()
    };
    check(SchemaKind::Protobuf, &[plain, other]);
}

fn events_of_registered_schemas_match_their_descriptions(broker: &Broker) {
    let apicurio = Apicurio::shared();
    for (kind, format) in [
        ("avro", "registry"),
        ("protobuf", "registry"),
        ("json", "registry"),
        ("json", "json-schema"),
    ] {
        let topic = topic_name(kind);
        broker.create_topic(&topic, 1, &[]);
        produce(broker, apicurio.url(), kind, &topic);
        // Another version, whose records have one more member.
        let later = json!({ "type": "record", "name": "Order", "namespace": "shop", "fields": [
            { "name": "id", "type": "long" },
            { "name": "next", "type": ["null", "Order"] },
        ] });
        if kind == "avro" {
            let id = apicurio.register(&format!("{topic}-later"), "AVRO", &later.to_string(), &[]);
            // 5, with another one, 6, behind it.
            let value = [&[0], &id.to_be_bytes()[..], &[10, 2, 12, 0]].concat();
            broker.produce(&topic, &[Message::value(value)]);
        }
        let stream = format!(
            "start = \"earliest\"\nvalue_format = \"{format}\"\nhide = [\"note\"]\noffset_field = \"offset\"\n\
             [kafka.schema_registry]\nurls = [\"{}\"]",
            apicurio.url()
        );
        let daemon = Daemon::start(&config(broker, &[&topic], &stream));
        block_on(async {
            let mut client = Stream::open(daemon.url("/events")).await;
            let events = client.collect_until(named("caught-up"), secs(60)).await;
            // Schemas that no record waits for may take longer than a document does.
            eventually_async(secs(30), "the value is described", async || {
                let asyncapi = daemon.get("/asyncapi.json").await.json();
                let payload = &asyncapi["channels"]["events"]["messages"]["record"]["payload"];
                ensure(
                    payload == &json!({ "$ref": "#/components/schemas/events.value" }),
                    payload.to_string(),
                )
            })
            .await;
            let openapi = daemon.get("/openapi.json").await.json();
            let asyncapi = daemon.get("/asyncapi.json").await.json();
            let schemas = asyncapi["components"]["schemas"].as_object().expect("schemas");
            assert!(
                !json!(schemas).to_string().contains("note"),
                "{kind}: a hidden member in {schemas:?}"
            );
            for (name, schema) in schemas {
                assert_eq!(&openapi["components"]["schemas"][name], schema, "{kind}: {name}");
            }
            if !Runtime::Node.is_missing() {
                let documents = json!({ "openapi": openapi, "asyncapi": asyncapi }).to_string();
                assert_eq!(Runtime::Node.run("node/validate.mjs", &documents), "", "{kind}");
            }
            let shown = events.iter().filter(|event| event.name == "message").map(data);
            let at = "/channels/events/messages/record/payload".to_owned();
            let case = |instance: Value| Case {
                document: asyncapi.clone(),
                at: at.clone(),
                instance,
            };
            let mut cases: Vec<Case> = shown.map(case).collect();
            assert_eq!(cases.len(), if kind == "avro" { 4 } else { 3 });
            let right = cases.len();
            let mut wrong = [cases[0].instance.clone(), cases[0].instance.clone()];
            wrong[0]["id"] = json!("one");
            wrong[1].as_object_mut().expect("an object").remove("offset");
            cases.extend(wrong.map(case));
            let numbers: Vec<usize> = mismatches(&cases)
                .iter()
                .map(|line| {
                    line.split(' ')
                        .next()
                        .and_then(|number| number.parse().ok())
                        .expect("a number")
                })
                .collect();
            assert!(
                numbers.iter().all(|number| *number > right),
                "{kind}: {numbers:?}"
            );
            assert!(
                numbers.contains(&(right + 1)) && numbers.contains(&(right + 2)),
                "{kind}: {numbers:?}"
            );
        });
    }
}
