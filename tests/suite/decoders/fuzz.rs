//! No bytes make a decoder panic, run out of stack, or take memory by a length that they claim.

use super::draws::{Draws, runner, seeds};
use super::{avro, protobuf};
use crate::decoding::{framed, schema, settings, value_of};
use crate::trials;
use kafka_sse_bridge::config::DataFormat;
use kafka_sse_bridge::decode::{Reference, Schema, SchemaKind, SchemaText, Supplied};
use kafka_sse_bridge::kafka::invalid::Invalid;
use libtest_mimic::Trial;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestCaseResult};
use serde_json::Value;
use std::thread;

pub fn trials() -> Vec<Trial> {
    trials![
        values_are_bounded_in_depth_and_size,
        bytes_that_no_serializer_wrote_are_never_trusted,
        no_bytes_break_a_decoder_of_a_random_avro_schema,
        no_bytes_break_a_decoder_of_a_random_protobuf_file,
        a_schema_that_is_nested_without_end_is_refused,
    ]
}

/// Half of what the threads of streams have.
const STACK: usize = 1 << 20;

/// Most bytes of memory for a record that is refused: the JSON up to its bound, while its buffer grows.
const MOST: u64 = 300 << 20;

/// Runs on a small stack.
fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new()
        .stack_size(STACK)
        .spawn(test)
        .expect("a thread");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Decodes bytes; fails where that breaks a bound.
fn decode(
    format: DataFormat,
    supplied: &Supplied,
    payload: &[u8],
) -> Result<Result<String, Invalid>, TestCaseError> {
    let settings = settings(DataFormat::Text, format);
    let payload = framed(payload);
    let mut shown = Ok(String::new());
    let measured = allocation_counter::measure(|| shown = value_of(&settings, supplied, &payload));
    let most = match &shown {
        Ok(text) => {
            prop_assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
            // Entries of messages, and buffers that double.
            (256 << 10) + 64 * payload.len() as u64 + 8 * text.len() as u64
        }
        Err(_) => MOST,
    };
    prop_assert!(
        measured.bytes_max < most,
        "{payload:?} took {} bytes: {shown:?}",
        measured.bytes_max
    );
    Ok(shown)
}

/// Decodes what random changes make of valid bytes, and random bytes.
fn damage(draws: &mut Draws, format: DataFormat, supplied: &Supplied, valid: &[u8]) -> TestCaseResult {
    for _ in 0..8 {
        let mut bytes = valid.to_vec();
        for _ in 0..=draws.below(3) {
            let place = u16::from_le_bytes(draws.array());
            let place = usize::from(place).checked_rem(bytes.len());
            if let Some(byte) = place.and_then(|place| bytes.get_mut(place)) {
                *byte ^= 1 << draws.below(8);
            }
        }
        let _ = decode(format, supplied, &bytes)?;
    }
    for _ in 0..4 {
        let bytes = draws.bytes(60);
        let _ = decode(format, supplied, &bytes)?;
        // Behind valid ones.
        let _ = decode(format, supplied, &[valid, &bytes].concat())?;
    }
    Ok(())
}

/// Lengths of beginnings: the first ones, and some of the others.
fn lengths(valid: &[u8]) -> impl Iterator<Item = usize> {
    let length = valid.len();
    (0..length).filter(move |at| *at < 40 || at % (1 + length / 40) == 0)
}

fn no_bytes_break_a_decoder_of_a_random_avro_schema() {
    on_small_stack(|| {
        let run = runner(150).run(&seeds(), |seed| {
            let mut draws = Draws::new(seed);
            let case = avro::case(&mut draws);
            let supplied = schema(SchemaKind::Avro, &case.schema, Vec::new());
            let shown = decode(DataFormat::Avro, &supplied, &case.payload)?;
            prop_assert!(shown.is_ok(), "{shown:?}: {case:?}");
            for length in lengths(&case.payload) {
                let shown = decode(DataFormat::Avro, &supplied, &case.payload[..length])?;
                prop_assert_eq!(
                    shown,
                    Err(Invalid::ValueMalformed),
                    "{} bytes of {:?}",
                    length,
                    case
                );
            }
            damage(&mut draws, DataFormat::Avro, &supplied, &case.payload)
        });
        run.unwrap_or_else(|error| panic!("{error}"));
    });
}

fn no_bytes_break_a_decoder_of_a_random_protobuf_file() {
    on_small_stack(|| {
        let run = runner(50).run(&seeds(), |seed| {
            let mut draws = Draws::new(seed);
            let files = protobuf::files(&mut draws);
            let pool = protobuf::compile(&files.root, std::slice::from_ref(&files.import)).descriptor_pool();
            let file = pool.get_file_by_name(protobuf::ROOT).expect("it is compiled");
            let message = file.messages().next().expect("a message");
            let (name, text) = files.import;
            let text = SchemaText {
                kind: SchemaKind::Protobuf,
                text,
                references: Vec::new(),
            };
            let supplied = schema(
                SchemaKind::Protobuf,
                &files.root,
                vec![Reference { name, schema: text }],
            );
            for _ in 0..8 {
                let payload = [&[0][..], &protobuf::nearly(&mut draws, &message, 6)].concat();
                for length in lengths(&payload) {
                    let _ = decode(DataFormat::Protobuf, &supplied, &payload[..length])?;
                }
                damage(&mut draws, DataFormat::Protobuf, &supplied, &payload)?;
            }
            Ok(())
        });
        run.unwrap_or_else(|error| panic!("{error}"));
    });
}

fn a_schema_that_is_nested_without_end_is_refused() {
    // In the registry's name, not in a record's: compiled on threads of the runtime.
    on_small_stack(|| {
        for depth in [1_000, 100_000] {
            let nested = |open: &str, inner: &str, close: &str| {
                format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
            };
            let avro = nested("{\"type\":\"array\",\"items\":", "\"int\"", "}");
            let messages = format!("syntax = \"proto3\"; {}", nested("message M { ", "", "}"));
            let option = nested("{ a: ", "1", "}");
            let options = format!("syntax = \"proto3\"; option (o) = {option}; message M {{}}");
            for (kind, text) in [
                (SchemaKind::Avro, avro),
                (SchemaKind::Protobuf, messages),
                (SchemaKind::Protobuf, options),
            ] {
                let compiled = Schema::compile(&SchemaText {
                    kind,
                    text,
                    references: Vec::new(),
                });
                assert!(compiled.is_err(), "{kind} of depth {depth}");
            }
        }
    });
}

fn values_are_bounded_in_depth_and_size() {
    let avro = settings(DataFormat::Text, DataFormat::Avro);
    let nulls = schema(SchemaKind::Avro, r#"{"type":"array","items":"null"}"#, Vec::new());
    // 2^62 nulls in ten bytes.
    let many = framed(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]);
    let allocated = allocation_counter::measure(|| {
        assert_eq!(value_of(&avro, &nulls, &many), Err(Invalid::ValueTooLarge));
    });
    // As docs/architecture.md says; buffers double.
    assert!(allocated.bytes_max < 192 << 20, "{allocated:?}");
    let numbers = schema(
        SchemaKind::Protobuf,
        "syntax = \"proto2\"; message N { repeated int64 n = 1; }",
        Vec::new(),
    );
    let of_numbers = settings(DataFormat::Text, DataFormat::Protobuf);
    // Four million numbers of a digit, each with its tag.
    let many = framed(&[[0].as_slice(), &[8, 1].repeat(4 << 20)].concat());
    let allocated = allocation_counter::measure(|| {
        assert_eq!(
            value_of(&of_numbers, &numbers, &many),
            Err(Invalid::ValueTooLarge)
        );
    });
    assert!(allocated.bytes_max < 128 << 20, "{allocated:?}");
    // A type within itself without an end, which takes no bytes.
    let endless = r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#;
    let endless = schema(SchemaKind::Avro, endless, Vec::new());
    assert_eq!(
        value_of(&avro, &endless, &framed(&[])),
        Err(Invalid::ValueTooLarge)
    );
    let list = r#"{"type":"record","name":"R","fields":[{"name":"r","type":["null","R"]}]}"#;
    let list = schema(SchemaKind::Avro, list, Vec::new());
    assert!(value_of(&avro, &list, &framed(&[[2; 90].as_slice(), &[0]].concat())).is_ok());
    let deep = framed(&[vec![2; 100_000].as_slice(), &[0]].concat());
    assert_eq!(value_of(&avro, &list, &deep), Err(Invalid::ValueTooLarge));
    // A string of two gigabytes in five bytes.
    let text = schema(SchemaKind::Avro, "\"string\"", Vec::new());
    let claimed = framed(&[0xfe, 0xff, 0xff, 0xff, 0x0f]);
    let allocated = allocation_counter::measure(|| {
        assert_eq!(value_of(&avro, &text, &claimed), Err(Invalid::ValueMalformed));
    });
    assert!(allocated.bytes_max < 64 * 1024, "{allocated:?}");
    let groups = "syntax = \"proto2\"; message R { optional R r = 1; }";
    let groups = schema(SchemaKind::Protobuf, groups, Vec::new());
    let protobuf = settings(DataFormat::Text, DataFormat::Protobuf);
    let unknown_groups = framed(&[[0].as_slice(), &vec![0x1b; 100_000]].concat());
    assert_eq!(
        value_of(&protobuf, &groups, &unknown_groups),
        Err(Invalid::ValueTooLarge)
    );
    let mut nested = Vec::new();
    for _ in 0..2_000 {
        let mut length = nested.len();
        let mut outer = vec![0x0a];
        while length > 0x7f {
            outer.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        outer.push(u8::try_from(length).expect("seven bits"));
        outer.append(&mut nested);
        nested = outer;
    }
    let nested = framed(&[&[0][..], &nested].concat());
    assert_eq!(value_of(&protobuf, &groups, &nested), Err(Invalid::ValueTooLarge));
}

/// Schemas that have something of everything.
fn everything() -> Vec<(DataFormat, Supplied)> {
    let avro = include_str!("../../schemas/everything.avsc");
    let protobuf = include_str!("../../schemas/everything.proto");
    vec![
        (DataFormat::Avro, schema(SchemaKind::Avro, avro, Vec::new())),
        (
            DataFormat::Protobuf,
            schema(SchemaKind::Protobuf, protobuf, Vec::new()),
        ),
    ]
}

fn bytes_that_no_serializer_wrote_are_never_trusted() {
    // Small numbers are tags, lengths and counts, so that more than the first field is reached.
    let byte = prop_oneof![4 => 0_u8..16, 2 => 16_u8..0x80, 1 => any::<u8>()];
    let everything = everything();
    let bytes = proptest::collection::vec(byte, 0..200);
    runner(2_000)
        .run(&bytes, |payload| {
            for (format, supplied) in &everything {
                if let Ok(text) = decode(*format, supplied, &payload)? {
                    prop_assert!(text.len() <= 66 << 20);
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
