//! Contents of records and of batches.

use super::reader::{Bench, PATIENCE, Plan, Reader, same};
use crate::common::numbered;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::produce::{Message, Outcome};
use crate::harness::wait::ensure;
use kafka_sse_bridge::config::{Client, Isolation};
use std::sync::Arc;

/// Null and empty, as key and as value, in every combination.
pub fn null_and_empty_are_distinguished_if_the_client_can(version: Version) {
    let mut bench = Bench::shared(version);
    let topic = topic_name("null");
    bench.broker.create_topic(&topic, 1, &[]);
    let contents = [None, Some(Vec::new()), Some(b"x".to_vec())];
    let mut messages = Vec::new();
    for key in &contents {
        for value in &contents {
            messages.push(Message {
                key: key.clone(),
                value: value.clone(),
                ..Message::default()
            });
        }
    }
    bench.write(&topic, &messages, &[]);
    // Packed, they are read by other code.
    bench.write(&topic, &messages, &[("compression.type", "gzip")]);
    bench.read(&[&topic]);
    bench.whole(&[&topic]);
}

/// Of a batch with one record without a key, beside its value.
const OVERHEAD: usize = 61 + 11;

/// `message.max.bytes`, as Kafka has it by default.
const LARGEST: usize = 1_048_588;

/// A batch for every record.
const EACH_ALONE: [(&str, &str); 1] = [("batch.num.messages", "1")];

/// Whatever a client asks for at first, and whatever lies around a large record.
pub fn records_from_one_byte_to_the_brokers_limit_are_read(version: Version) {
    let mut bench = Bench::shared(version);
    let (usual, large) = (topic_name("usual"), topic_name("large"));
    bench.broker.create_topic(&usual, 2, &[]);
    bench
        .broker
        .create_topic(&large, 2, &[("max.message.bytes", "10000000")]);
    // Of letters that do not repeat soon, so that a packed one is large too.
    let mut state = 1_u32;
    let mut value = |bytes: usize| {
        let letter = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + u8::try_from(state >> 24).expect("a byte") % 26
        };
        Message::value((0..bytes).map(letter).collect::<Vec<u8>>())
    };
    for bytes in [
        1,
        2,
        127,
        128,
        16_383,
        65_535,
        65_536,
        65_537,
        300_000,
        LARGEST - OVERHEAD,
    ] {
        for partition in 0..2 {
            let around = [value(1), value(bytes), value(1)].map(|message| message.partition(partition));
            bench.write(&usual, &around, &EACH_ALONE);
        }
    }
    let around = [1, 5_000_000, 1, 9_900_000, 1].map(|bytes| value(bytes).partition(1));
    bench.write(&large, &around, &EACH_ALONE);
    bench.write(
        &large,
        &[value(5_000_000).partition(1)],
        &[("compression.type", "gzip")],
    );
    bench.write(&large, &[value(1).partition(0)], &[]);
    bench.read(&[&usual, &large]);
    bench.whole(&[&usual, &large]);
}

/// A record above the limit of the `kafka` crate, behind a transaction marker and before a small record. The partition
/// that stops is named with the offset, and counts as loaded.
pub fn a_record_above_the_kafka_crates_limit_is_reported_and_others_are_read(version: Version) {
    const BYTES: usize = 70_000_000;
    let mut bench = Bench::on(Arc::new(Broker::start(version)));
    let (topic, beside) = (topic_name("above"), topic_name("beside"));
    bench
        .broker
        .create_topic(&topic, 2, &[("max.message.bytes", "80000000")]);
    bench.broker.create_topic(&beside, 1, &[]);
    bench.write_transaction(&topic, &numbered(0, 0, 3), Outcome::Commit);
    bench.write_transaction(&topic, &numbered(1, 0, 3), Outcome::Commit);
    let large = Message::value("x".repeat(BYTES)).partition(0);
    let written = bench.write(&topic, &[large], &[("message.max.bytes", "80000000")]);
    assert_eq!(written[0].offset, 4, "a marker lies before it");
    bench.write(&topic, &numbered(0, 3, 1), &[]);
    bench.write(&beside, &numbered(0, 0, 3), &[]);
    bench.read_with(&[&topic, &beside], Plan::of(Client::Librdkafka));
    bench.given(&[&topic, &beside]);
    if version != Version::V3_9 {
        return;
    }
    bench.readers.clear();
    bench.read_with(&[&topic, &beside], Plan::of(Client::Kafka));
    let mut reader = bench.readers.remove(0);
    let name = format!(
        "topic \"{topic}\" partition 0 at offset 4: a record, or the batch that holds it, is larger than 67108864 bytes"
    );
    let is_named = |reader: &Reader| {
        let troubles = reader.troubles();
        ensure(
            troubles.contains(&name) && troubles.contains("set client = \"librdkafka\" in [kafka]"),
            troubles,
        )
    };
    reader.until(PATIENCE, "the partition is named", is_named);
    reader.until(PATIENCE, "all that can be read is loaded", |reader| {
        let is_loaded = reader.received(&topic).is_loaded && reader.received(&beside).is_loaded;
        ensure(is_loaded, "it is not")
    });
    assert_eq!(
        reader.status.stopped_partitions().len(),
        1,
        "{:?}",
        reader.status.stopped_partitions()
    );
    bench.write(&topic, &numbered(1, 3, 5), &[]);
    bench.write(&beside, &numbered(0, 3, 5), &[]);
    reader.until(PATIENCE, "the others continue", |reader| {
        let counts = (
            reader.received(&topic).counts(),
            reader.received(&beside).counts(),
        );
        ensure(counts == (vec![3, 8], vec![8]), format!("{counts:?}"))
    });
    is_named(&reader).expect("it is named on");
    for (topic, partition, count) in [(&topic, 0, 3), (&topic, 1, 8), (&beside, 0, 8)] {
        let expected = bench.expected(topic, partition, &reader);
        let at = format!("{topic}/{partition}");
        same(
            &reader.received(topic).records[partition],
            &expected[..count],
            &at,
        );
    }
    drop(reader);

    // Where the choice is the daemon's, the other library takes over at the same offset.
    let plan = Plan {
        isolation: Isolation::ReadUncommitted,
        ..Plan::of(Client::Auto)
    };
    bench.read_with(&[&topic, &beside], plan);
    let mut reader = bench.readers.remove(0);
    reader.until(PATIENCE, "everything is read", |reader| {
        let counts = (
            reader.received(&topic).counts(),
            reader.received(&beside).counts(),
        );
        ensure(counts == (vec![5, 8], vec![8]), format!("{counts:?}"))
    });
    assert_eq!(reader.status.snapshot().client.as_deref(), Some("librdkafka"));
    assert!(reader.status.stopped_partitions().is_empty());
}

/// As from producers that compress only large batches: plain batches before, between and behind compressed ones.
pub fn gzip_and_snappy_batches_between_plain_ones_are_read(version: Version) {
    let mut bench = Bench::shared(version);
    let topics = [topic_name("gzip"), topic_name("snappy")];
    for (topic, codec) in topics.iter().zip(["gzip", "snappy"]) {
        bench.broker.create_topic(topic, 2, &[]);
        let mut first = 0;
        for (index, count) in [1, 50, 1, 1, 200, 3, 1, 700, 1, 40, 40].into_iter().enumerate() {
            let codec = if index % 2 == 0 { "none" } else { codec };
            for partition in 0..2 {
                let records = numbered(partition, first, count);
                bench.write(topic, &records, &[("compression.type", codec)]);
            }
            first += count;
        }
        // One that decides by itself: a batch that does not get smaller stays plain.
        let records = numbered(0, first, 1500);
        let properties = [("compression.type", codec), ("batch.num.messages", "7")];
        bench.write(topic, &records, &properties);
    }
    let topics = topics.each_ref().map(String::as_str);
    bench.read(&topics);
    bench.whole(&topics);
    // And those that come while reading is at the end.
    for topic in topics {
        for (first, codec) in [(5000, "none"), (5001, "gzip"), (5301, "none")] {
            let count = if codec == "gzip" { 300 } else { 1 };
            bench.write(topic, &numbered(1, first, count), &[("compression.type", codec)]);
        }
    }
    bench.whole(&topics);
}

/// The `kafka` crate reports a batch that it cannot read and stops before it; all else is read.
fn packed_with(version: Version, codec: &str) {
    let mut bench = Bench::shared(version);
    let (topic, beside) = (topic_name(codec), topic_name("beside"));
    bench.broker.create_topic(&topic, 2, &[]);
    bench.broker.create_topic(&beside, 1, &[]);
    bench.write(&topic, &numbered(0, 0, 10), &[]);
    let first = bench.write(&topic, &numbered(0, 10, 300), &[("compression.type", codec)]);
    bench.write(&topic, &numbered(0, 310, 10), &[]);
    bench.write(&topic, &numbered(1, 0, 20), &[]);
    bench.write(&beside, &numbered(0, 0, 20), &[]);
    bench.read_with(&[&topic, &beside], Plan::of(Client::Librdkafka));
    bench.whole(&[&topic, &beside]);
    if version != Version::V3_9 {
        return;
    }
    bench.readers.clear();
    bench.read_with(&[&topic, &beside], Plan::of(Client::Kafka));
    let name = format!("topic \"{topic}\" partition 0 at offset ");
    let mut reader = bench.readers.remove(0);
    reader.until(
        PATIENCE,
        "the partition is named, and the others are read",
        |reader| {
            let received = (reader.received(&topic), reader.received(&beside));
            let healthy = (received.0.records.get(1).map_or(0, Vec::len), received.1.count());
            let troubles = reader.troubles();
            let is_named = troubles.contains(&name) && troubles.contains("set client = \"librdkafka\"");
            ensure(healthy == (20, 20) && is_named, format!("{healthy:?}"))
        },
    );
    // The others continue.
    bench.write(&topic, &numbered(1, 20, 5), &[]);
    bench.write(&beside, &numbered(0, 20, 5), &[]);
    reader.until(PATIENCE, "the others continue", |reader| {
        let counts = (
            reader.received(&topic).records[1].len(),
            reader.received(&beside).count(),
        );
        ensure(counts == (25, 25), format!("{counts:?}"))
    });
    let before = reader.received(&topic).records[0].len();
    let expected = bench.expected(&topic, 0, &reader);
    same(
        &reader.received(&topic).records[0],
        &expected[..before],
        "what came of the partition",
    );
    assert!(
        i64::try_from(before).expect("few") <= first[0].offset,
        "nothing behind what it cannot read"
    );
    assert!(reader.received(&topic).passed.is_empty());
}

pub fn lz4_is_read_or_reported(version: Version) {
    packed_with(version, "lz4");
}

pub fn zstd_is_read_or_reported(version: Version) {
    packed_with(version, "zstd");
}
