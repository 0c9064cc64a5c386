//! Offsets without a record: what transactions, compaction and retention leave.

use super::reader::{Bench, PATIENCE, Plan, same, stamped};
use crate::common::numbered;
use crate::harness::broker::{Version, topic_name};
use crate::harness::produce::{Message, Outcome, Written};
use crate::harness::wait::{ensure, eventually, secs};
use kafka_sse_bridge::config::{Client, Isolation};
use rdkafka::message::Message as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Committed, aborted and open ones, each with records before and behind it; control records last.
pub fn transactions_are_read_by_isolation_level(version: Version) {
    let mut bench = Bench::shared(version);
    let (topic, open) = (topic_name("transactions"), topic_name("open"));
    for topic in [&topic, &open] {
        bench.broker.create_topic(topic, 1, &[]);
    }
    bench.write(&topic, &numbered(0, 0, 5), &[]);
    bench.write_transaction(&topic, &numbered(0, 5, 5), Outcome::Abort);
    bench.write_transaction(&topic, &numbered(0, 10, 5), Outcome::Commit);
    bench.write_transaction(&topic, &numbered(0, 15, 1), Outcome::Abort);
    bench.write(&open, &numbered(0, 0, 5), &[]);
    let hidden: Vec<Message> = numbered(0, 5, 5).into_iter().map(stamped).collect();
    let (transaction, written) = bench.broker.open_transaction(&open, &hidden);
    // Later records are not stable either.
    let behind: Vec<Message> = numbered(0, 10, 5).into_iter().map(stamped).collect();
    let behind_written = bench.broker.produce(&open, &behind);

    bench.read(&[&topic, &open]);
    bench.read_with(
        &[&topic, &open],
        Plan {
            isolation: Isolation::ReadUncommitted,
            ..Plan::of(Client::Librdkafka)
        },
    );
    // Loaded although control records are never handed on: 17 and 18 of the first end it.
    bench.given(&[&topic]);
    for reader in &mut bench.readers {
        let expected = match reader.isolation {
            Isolation::ReadCommitted => 5,
            Isolation::ReadUncommitted => 15,
        };
        reader.until(PATIENCE, "what is stable of the other is handed on", |reader| {
            let received = reader.received(&open);
            ensure(
                received.count() == expected && received.is_loaded,
                format!(
                    "{} of {expected}, loaded: {}",
                    received.count(),
                    received.is_loaded
                ),
            )
        });
    }
    transaction.end(Outcome::Commit);
    bench.note(&open, &hidden, &written, Outcome::Commit);
    bench.note(&open, &behind, &behind_written, Outcome::Commit);
    bench.write(&open, &numbered(0, 15, 1), &[]);
    bench.write(&topic, &numbered(0, 16, 1), &[]);
    bench.given(&[&topic, &open]);
    // No further record, and none skipped: an offset without a record is a marker, or was aborted.
    for reader in &bench.readers {
        let passed: i64 = reader
            .received(&topic)
            .passed
            .iter()
            .map(|passed| passed.to - passed.from)
            .sum();
        let aborted = match reader.isolation {
            Isolation::ReadCommitted => 6,
            Isolation::ReadUncommitted => 0,
        };
        assert_eq!(
            passed,
            3 + aborted,
            "{}: {:?}",
            reader.client,
            reader.received(&topic).passed
        );
        let passed: i64 = reader
            .received(&open)
            .passed
            .iter()
            .map(|passed| passed.to - passed.from)
            .sum();
        assert_eq!(passed, 1, "{}: the marker", reader.client);
    }
}

/// A topic of which only the latest of each key is left, with holes within batches and between them.
pub fn records_left_by_compaction_are_all_read(version: Version) {
    let mut bench = Bench::shared(version);
    let topic = topic_name("compacted");
    let config = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.ms", "60000"),
        ("min.compaction.lag.ms", "0"),
    ];
    bench.broker.create_topic(&topic, 2, &config);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let begin = i64::try_from(now.as_millis()).expect("years") - 3_600_000;
    let keyed = |round: i64, partition: i32, keys: std::ops::Range<u32>| -> Vec<Message> {
        let message = |key: u32| {
            Message::new(format!("key{key}"), format!("round {round} of key{key}"))
                .partition(partition)
                .timestamp(begin + round * 600_000)
        };
        keys.map(message).collect()
    };
    // Every round is a segment, and leaves some keys of the rounds before as they are.
    for (round, keys, codec) in [
        (0, 0..900, "gzip"),
        (1, 0..300, "none"),
        (2, 100..800, "snappy"),
        (3, 350..355, "none"),
    ] {
        for partition in 0..2 {
            let records = keyed(round, partition, keys.clone());
            bench
                .broker
                .produce_with(&topic, &records, &[("compression.type", codec)]);
        }
    }
    // The newest segment is never compacted.
    for partition in 0..2 {
        bench.broker.produce(&topic, &keyed(4, partition, 0..1));
    }
    let left = eventually(secs(60), "the topic is compacted", || {
        let left = bench.broker.read(&topic, 2);
        // 900 keys, and key0 once more, as its last record is in the newest segment.
        if left.len() <= 2 * 901 {
            Ok(left)
        } else {
            Err(left.len())
        }
    });
    for record in left {
        let message = Message {
            key: record.key().map(<[u8]>::to_vec),
            value: record.payload().map(<[u8]>::to_vec),
            timestamp: record.timestamp().to_millis(),
            ..Message::default()
        };
        let written = Written {
            partition: record.partition(),
            offset: record.offset(),
        };
        bench.note(&topic, &[message], &[written], Outcome::Commit);
    }
    bench.read(&[&topic]);
    bench.given(&[&topic]);
}

/// Records that leave Kafka before a slow reader has read them are reported, and all others are delivered.
pub fn records_deleted_by_retention_are_reported(version: Version) {
    const RECORDS: usize = 1500;
    let mut bench = Bench::shared(version);
    let topic = topic_name("overtaken");
    bench.broker.create_topic(&topic, 3, &[]);
    bench.write(&topic, &numbered(0, 0, 1), &[]);
    for plan in Plan::all(version) {
        bench.read_with(&[&topic], Plan { capacity: 1, ..plan });
    }
    for reader in &mut bench.readers {
        reader.until(PATIENCE, "it reads", |reader| {
            ensure(reader.received(&topic).count() == 1, "not yet")
        });
    }
    // Much more than what a client library reads ahead, 4 MiB, and what one fetch may hold, 8.
    let large = |partition: i32| -> Vec<Message> {
        let message =
            |number: usize| Message::value(format!("{number} {}", "x".repeat(10_000))).partition(partition);
        (0..RECORDS).map(message).collect()
    };
    for partition in 0..2 {
        bench.write(&topic, &large(partition), &[]);
    }
    bench.write(&topic, &numbered(2, 0, 100), &[]);
    let ends: Vec<i64> = bench
        .broker
        .watermarks(&topic, 3)
        .iter()
        .map(|marks| marks.1)
        .collect();
    // Most of one partition, all of another, nothing of the third.
    let lows = [ends[0] - 50, ends[1], 0];
    for (partition, low) in (0..2).zip(lows) {
        bench.broker.delete_records(&topic, partition, low);
    }
    for reader in &mut bench.readers {
        reader.until(PATIENCE, "it has passed what is gone", |reader| {
            let received = reader.received(&topic);
            let reached = |partition: usize| {
                let last = received.records[partition]
                    .last()
                    .map_or(0, |entry| entry.offset + 1);
                let jump = received
                    .passed
                    .iter()
                    .filter(|passed| passed.partition == partition);
                jump.map(|passed| passed.to).max().unwrap_or(0).max(last)
            };
            let reached: Vec<i64> = (0..3).map(reached).collect();
            ensure(reached == ends, format!("{reached:?} of {ends:?}"))
        });
    }
    // Reading continues after it.
    for partition in 0..3 {
        bench.write(&topic, &numbered(partition, 0, 3), &[]);
    }
    let mut readers = std::mem::take(&mut bench.readers);
    for reader in &mut readers {
        let last = ends.iter().map(|end| end + 3).collect::<Vec<i64>>();
        reader.until(PATIENCE, "it continues", |reader| {
            let received = reader.received(&topic);
            let at: Vec<i64> = received
                .records
                .iter()
                .map(|records| records.last().map_or(0, |entry| entry.offset + 1))
                .collect();
            ensure(at == last, format!("{at:?}"))
        });
        let received = reader.received(&topic);
        for (partition, &low) in lows.iter().enumerate() {
            let jumps: Vec<_> = received
                .passed
                .iter()
                .filter(|passed| passed.partition == partition)
                .collect();
            // Exactly the reported records are missing.
            let mut expected = bench.expected(&topic, partition, reader);
            match jumps.as_slice() {
                [] => assert_eq!(low, 0, "{}: partition {partition}: not announced", reader.client),
                [jump] => {
                    assert!(jump.is_announced && jump.to == low, "{}: {jump:?}", reader.client);
                    expected.retain(|entry| entry.offset < jump.from || entry.offset >= jump.to);
                }
                several => panic!("{}: announced in pieces: {several:?}", reader.client),
            }
            let at = format!("{}: {topic}/{partition}", reader.client);
            same(&received.records[partition], &expected, &at);
        }
    }
}
