//! Records that Confluent's serializers write with schemas of all kinds, as a daemon shows them.

mod debezium;
mod evolution;
mod headers;
mod imports;

use crate::common::json as data;
use crate::decoders::protobuf::compile;
use crate::harness::broker::Broker;
use crate::harness::followers::{PROGRAMS, Runtime};
use crate::harness::sse::Event;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::Trial;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn trials() -> Vec<Trial> {
    if Runtime::Schemas.is_missing() {
        return Vec::new();
    }
    [
        debezium::trials(),
        evolution::trials(),
        headers::trials(),
        imports::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Writes records as tests/clients/schemas/records.py describes them. Returns the lines that it prints.
fn produce(broker: &Broker, arguments: &[&str], records: &[Value]) -> Vec<Value> {
    let program = Path::new(PROGRAMS).join("schemas/records.py");
    let mut producer = Command::new(Runtime::Schemas.home().join("bin/python"))
        .arg(program)
        .arg(broker.bootstrap())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the producer");
    let mut lines = producer.stdin.take().expect("its stdin");
    for record in records {
        writeln!(lines, "{record}").expect("it reads");
    }
    drop(lines);
    let output = producer.wait_with_output().expect("the producer ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Names and data of records and deletes.
fn shown(events: &[Event]) -> Vec<(String, Value)> {
    events
        .iter()
        .filter(|event| matches!(event.name.as_str(), "message" | "delete"))
        .map(|event| (event.name.clone(), data(event)))
        .collect()
}

/// A file of Protobuf as Python takes it, with the files that it imports, in base64. Paths and texts of files that protox
/// does not have are given.
fn descriptors(text: &str, imports: &[(String, String)]) -> String {
    STANDARD.encode(compile(text, imports).encode_file_descriptor_set())
}

/// How many records of the only stream could not be shown.
fn invalid(figures: &Value) -> u64 {
    let causes = figures["streams"][0]["invalid_records"]
        .as_object()
        .expect("causes");
    causes.values().filter_map(Value::as_u64).sum()
}
