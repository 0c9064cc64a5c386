//! Random values of random schemas are shown as fastavro and Google's protobuf read them.

use super::protobuf::{Files, ROOT};
use super::{avro, draws, protobuf};
use crate::decoded_frames::assert_frames_as_if_parsed;
use crate::decoding::{framed, schema, settings, value_of};
use crate::harness::followers::{PROGRAMS, Runtime};
use crate::trials;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kafka_sse_bridge::config::{AvroJson, DataFormat, Int64, StreamSettings, Timestamps};
use kafka_sse_bridge::decode::{Reference, SchemaKind, SchemaText, Supplied};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    if Runtime::Schemas.is_missing() {
        return Vec::new();
    }
    trials![
        what_fastavro_writes_is_shown_as_documented,
        what_apache_avro_writes_is_shown_as_fastavro_reads_it,
        what_protobufs_own_library_writes_is_shown_as_it_prints_it,
        files_of_protobuf_as_text_are_shown_as_its_own_library_prints_them,
    ]
}

/// Schemas that the reference libraries make, with a value each.
const CASES: usize = 1_200;

/// Schemas that are made here.
const FILES: usize = 150;
const AVRO_SCHEMAS: usize = 1_500;

/// Messages of each of these files.
const MESSAGES: usize = 12;

fn what_fastavro_writes_is_shown_as_documented() {
    let count = compare("avro", |case| {
        let supplied = schema(SchemaKind::Avro, &text(case, "schema"), Vec::new());
        vec![
            (plain(), supplied.clone(), &*case["json"]),
            (tagged(), supplied, &*case["tagged"]),
        ]
    });
    assert_eq!(count, CASES);
}

fn what_protobufs_own_library_writes_is_shown_as_it_prints_it() {
    let count = compare("protobuf", |case| {
        let supplied = schema(SchemaKind::Protobuf, &text(case, "schema"), Vec::new());
        vec![(like_protobuf(), supplied, &*case["json"])]
    });
    assert_eq!(count, CASES);
}

/// Compares random values of a reference library with what is shown of them; returns their number.
fn compare(
    kind: &str,
    expected: impl for<'c> Fn(&'c Line) -> Vec<(StreamSettings, Supplied, &'c RawValue)>,
) -> usize {
    let lines = python(
        "cases.py",
        &[kind, &draws::seed().to_string(), &CASES.to_string()],
        &[],
    );
    for case in &lines {
        let payload = STANDARD.decode(text(case, "payload")).expect("base64");
        for (settings, supplied, expected) in expected(case) {
            if let Err(fault) = is_shown(&settings, &supplied, &payload, expected) {
                panic!("{fault}\n{case:?}");
            }
        }
    }
    lines.len()
}

fn what_apache_avro_writes_is_shown_as_fastavro_reads_it() {
    let cases = draws::batch(AVRO_SCHEMAS, avro::case);
    let lines: Vec<Value> = cases
        .iter()
        .map(|case| json!({ "schema": case.schema, "payload": STANDARD.encode(&case.payload) }))
        .collect();
    let read = python("read.py", &["avro"], &lines);
    assert_eq!(read.len(), cases.len());
    let mut faults = Vec::new();
    for (case, expected) in cases.iter().zip(&read) {
        let supplied = schema(SchemaKind::Avro, &case.schema, Vec::new());
        let numbers = StreamSettings {
            int64: Int64::String,
            timestamps: Timestamps::Number,
            ..plain()
        };
        for (settings, name) in [(plain(), "plain"), (tagged(), "tagged"), (numbers, "numbers")] {
            if let Err(fault) = is_shown(&settings, &supplied, &case.payload, &expected[name]) {
                faults.push(format!("{name}: {fault}\n{case:?}"));
            }
        }
    }
    none(faults);
    let values = read.iter().map(|read| read["plain"].get());
    let deep = values.filter(|value| value.len() > 100).count();
    assert!(
        deep > AVRO_SCHEMAS / 10,
        "the schemas are not all trivial: {deep}"
    );
}

fn files_of_protobuf_as_text_are_shown_as_its_own_library_prints_them() {
    let files = draws::batch(FILES, protobuf::files);
    let lines: Vec<Value> = files
        .iter()
        .map(|Files { root, import }| {
            let compiled = protobuf::compile(root, std::slice::from_ref(import));
            let files = STANDARD.encode(compiled.encode_file_descriptor_set());
            json!({ "files": files, "file": ROOT, "count": MESSAGES })
        })
        .collect();
    let messages = python("read.py", &["protobuf", &draws::seed().to_string()], &lines);
    assert_eq!(messages.len(), FILES * MESSAGES);
    let mut faults = Vec::new();
    for (number, (Files { root, import }, messages)) in
        files.iter().zip(messages.chunks(MESSAGES)).enumerate()
    {
        // A parser reads packed and unpacked numbers alike, whatever the schema says.
        let root = if number % 2 == 0 {
            root.clone()
        } else {
            root.replace("packed = true", "packed = false")
        };
        let reference = Reference {
            name: import.0.clone(),
            schema: SchemaText {
                kind: SchemaKind::Protobuf,
                text: import.1.clone(),
                references: Vec::new(),
            },
        };
        let supplied = schema(SchemaKind::Protobuf, &root, vec![reference]);
        for message in messages {
            let payload = STANDARD.decode(text(message, "payload")).expect("base64");
            if let Err(fault) = is_shown(&like_protobuf(), &supplied, &payload, &message["json"]) {
                faults.push(format!("{fault}\n{payload:?}\n{root}\n{}", import.1));
            }
        }
    }
    none(faults);
}

/// Fails with the shortest of these.
#[track_caller]
fn none(mut faults: Vec<String>) {
    faults.sort_by_key(String::len);
    let count = faults.len();
    faults.truncate(3);
    assert!(count == 0, "{count} cases, such as {}", faults.join("\n\n"));
}

fn plain() -> StreamSettings {
    settings(DataFormat::Text, DataFormat::Avro)
}

fn tagged() -> StreamSettings {
    StreamSettings {
        avro_json: AvroJson::Tagged,
        ..plain()
    }
}

/// Integers of 64 bits as its own printers write them.
fn like_protobuf() -> StreamSettings {
    StreamSettings {
        int64: Int64::String,
        ..settings(DataFormat::Text, DataFormat::Registry)
    }
}

/// What a reference library prints, by names. Its JSON is kept as it is, to the last digit.
type Line = HashMap<String, Box<RawValue>>;

fn text(line: &Line, name: &str) -> String {
    serde_json::from_str(line[name].get()).expect("text")
}

/// Runs a program of tests/clients/schemas with these lines.
fn python(program: &str, arguments: &[&str], lines: &[Value]) -> Vec<Line> {
    let directory = crate::harness::scratch::directory("python");
    let input = directory.path().join("input");
    let mut file = File::create(&input).expect("a file");
    for line in lines {
        writeln!(file, "{line}").expect("written");
    }
    let output = Command::new(Runtime::Schemas.home().join("bin/python"))
        .arg(Path::new(PROGRAMS).join("schemas").join(program))
        .args(arguments)
        .stdin(File::open(&input).expect("the file"))
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn is_shown(
    settings: &StreamSettings,
    supplied: &Supplied,
    payload: &[u8],
    expected: &RawValue,
) -> Result<(), String> {
    assert_frames_as_if_parsed(settings, supplied, payload);
    let shown = value_of(settings, supplied, &framed(payload))
        .map_err(|cause| format!("{cause:?}, not {expected}"))?;
    serde_json::from_str::<IgnoredAny>(&shown).map_err(|error| format!("{error}: {shown}"))?;
    if is_same(&shown, expected.get()) {
        Ok(())
    } else {
        Err(format!("shown as\n{shown}\ninstead of\n{expected}"))
    }
}

/// Equality of JSON, in which 1 and 1.0 are one number. Numbers are compared to the last bit, which the parser of values may
/// lose.
fn is_same(one: &str, other: &str) -> bool {
    fn read<'j, T: Deserialize<'j>>(json: &'j str) -> T {
        serde_json::from_str(json).expect("JSON")
    }
    match (one.as_bytes(), other.as_bytes()) {
        ([b'{', ..], [b'{', ..]) => {
            let [one, other]: [HashMap<String, &RawValue>; 2] = [one, other].map(read);
            let is_there = |(name, value): (&String, &&RawValue)| {
                let other = other.get(name);
                other.is_some_and(|other| is_same(value.get(), other.get()))
            };
            one.len() == other.len() && one.iter().all(is_there)
        }
        ([b'[', ..], [b'[', ..]) => {
            let [one, other]: [Vec<&RawValue>; 2] = [one, other].map(read);
            let mut pairs = one.iter().zip(&other);
            one.len() == other.len() && pairs.all(|(one, other)| is_same(one.get(), other.get()))
        }
        ([b'"', ..], [b'"', ..]) => read::<String>(one) == read::<String>(other),
        ([b'-' | b'0'..=b'9', ..], [b'-' | b'0'..=b'9', ..]) => {
            if let [Ok(one), Ok(other)] = [one, other].map(str::parse::<i128>) {
                return one == other;
            }
            let [one, other] = [one, other].map(|number| number.parse::<f64>().expect("a number"));
            one.to_bits() == other.to_bits()
        }
        _ => one == other,
    }
}
