//! Topics and partitions that appear late, are recreated, or cannot be read.

use super::reader::{Bench, PATIENCE, Plan, Reader, same};
use crate::common::numbered;
use crate::harness::broker::{Version, topic_name};
use crate::harness::produce::Message;
use crate::harness::wait::{ensure, secs};
use kafka_sse_bridge::config::Client;
use kafka_sse_bridge::kafka::counters::ErrorClass;
use kafka_sse_bridge::kafka::reader::StartOffset;
use std::time::{Duration, Instant};

/// How soon a new topic is read, from its first record on.
const SOON: Duration = secs(10);

/// A missing topic is named, and read from its first record once it exists, although the start is the newest record.
pub fn a_missing_topic_is_read_from_its_first_record_once_it_exists(version: Version) {
    let mut bench = Bench::shared(version);
    let (here, missing) = (topic_name("here"), topic_name("missing"));
    bench.broker.create_topic(&here, 1, &[]);
    for plan in Plan::all(version) {
        let begin = StartOffset::BeforeEnd(0);
        bench.read_with(&[&here, &missing], Plan { start: begin, ..plan });
    }
    for reader in &mut bench.readers {
        reader.until(PATIENCE, "it is named, and counts as loaded", |reader| {
            let troubles = reader.troubles();
            let is_named = troubles.contains(&format!("topic {missing:?} does not exist"));
            ensure(is_named && reader.received(&missing).is_loaded, troubles)
        });
    }
    bench.write(&here, &numbered(0, 0, 5), &[]);
    bench.whole(&[&here]);
    assert!(
        !bench.broker.topics().contains(&missing),
        "reading creates no topic"
    );
    bench.broker.create_topic(&missing, 2, &[]);
    for partition in 0..2 {
        bench.write(&missing, &numbered(partition, 0, 5), &[]);
    }
    bench.given_within(SOON, &[&missing]);
    bench.whole(&[&here, &missing]);
    for reader in &mut bench.readers {
        reader.until(PATIENCE, "nothing is wrong any more", |reader| {
            ensure(reader.troubles().is_empty(), reader.troubles())
        });
    }
}

/// Partitions that are added are read from their first record, while the others are read on.
pub fn added_partitions_are_read_from_their_first_record(version: Version) {
    let mut bench = Bench::shared(version);
    let topic = topic_name("grows");
    bench.broker.create_topic(&topic, 1, &[]);
    bench.write(&topic, &numbered(0, 0, 5), &[]);
    for plan in Plan::all(version) {
        let begin = StartOffset::BeforeEnd(0);
        bench.read_with(&[&topic], Plan { start: begin, ..plan });
    }
    for reader in &mut bench.readers {
        reader.until(PATIENCE, "it reads", |reader| {
            ensure(reader.received(&topic).is_loaded, "not yet")
        });
    }
    bench.forget(&topic);
    bench.broker.add_partitions(&topic, 4);
    for partition in 0..4 {
        bench.write(&topic, &numbered(partition, 5, 5), &[]);
    }
    let began = Instant::now();
    bench.given_within(SOON, &[&topic]);
    println!("{version}: added partitions joined after {:.1?}", began.elapsed());
    for partition in 0..4 {
        bench.write(&topic, &numbered(partition, 10, 5), &[]);
    }
    bench.whole(&[&topic]);
}

/// A recreated topic is detected, whether it ends before or behind the read position, and read from its beginning. The
/// other topic is read on.
pub fn recreated_topics_are_read_from_their_beginning(version: Version) {
    let mut bench = Bench::shared(version);
    let topics = [topic_name("smaller"), topic_name("larger"), topic_name("beside")];
    let topics = topics.each_ref().map(String::as_str);
    for topic in topics {
        bench.broker.create_topic(topic, 2, &[]);
        for partition in 0..2 {
            bench.write(topic, &numbered(partition, 0, 20), &[]);
        }
    }
    bench.read(&topics);
    bench.whole(&topics);
    for (topic, count) in [(topics[0], 3), (topics[1], 50)] {
        bench.broker.delete_topic(topic);
        bench.forget(topic);
        bench.broker.create_topic(topic, 2, &[]);
        for partition in 0..2 {
            let new = |number| Message::value(format!("new {number}")).partition(partition);
            bench.write(topic, &(0..count).map(new).collect::<Vec<_>>(), &[]);
        }
    }
    bench.write(topics[2], &numbered(0, 20, 5), &[]);
    for reader in &mut bench.readers {
        reader.until(PATIENCE, "both are reported as recreated", |reader| {
            let recreated = topics.map(|topic| reader.received(topic).recreated);
            ensure(recreated == [1, 1, 0], format!("{recreated:?}"))
        });
    }
    for topic in topics {
        bench.write(topic, &numbered(1, 100, 1), &[]);
    }
    bench.whole(&topics);
    for reader in &bench.readers {
        assert_eq!(
            topics.map(|topic| reader.received(topic).recreated),
            [1, 1, 0],
            "announced once"
        );
    }
}

/// Errors that replace the client while all partitions wait.
const REBUILT: [ErrorClass; 3] = [
    ErrorClass::Unreachable,
    ErrorClass::Partition,
    ErrorClass::Unsupported,
];

/// Records that are waited for, one after the other.
const ROUNDS: usize = 20;

/// They come at once, or wait for the broken partition to be tried again: by the poll, 0.1 s, at most. Asking for
/// its end, as long as it lasts, would be two seconds each time.
const WAITED: Duration = secs(15);

/// A batch that a disk has spoilt stops its partition, which is named; nothing of it is skipped. The others are
/// read on; with librdkafka they do not even wait for a moment.
pub fn a_broken_partition_is_reported_and_others_are_read(version: Version) {
    let mut bench = Bench::shared(version);
    let (topic, beside) = (topic_name("broken"), topic_name("beside"));
    bench.broker.create_topic(&topic, 2, &[]);
    bench.broker.create_topic(&beside, 1, &[]);
    bench.write(&topic, &numbered(0, 0, 10), &[]);
    let spoilt = bench.write(&topic, &numbered(0, 10, 300), &[("compression.type", "gzip")]);
    bench.write(&topic, &numbered(0, 310, 10), &[]);
    bench.write(&topic, &numbered(1, 0, 10), &[]);
    bench.write(&beside, &numbered(0, 0, 10), &[]);
    bench.broker.spoil(&topic, 0, spoilt[0].offset);
    bench.read(&[&topic, &beside]);
    let mut readers = std::mem::take(&mut bench.readers);
    for reader in &mut readers {
        let expected = (10, bench.expected(&beside, 0, reader).len());
        reader.until(
            PATIENCE,
            "the partition is named, and the others are read",
            |reader| {
                let received = (reader.received(&topic), reader.received(&beside));
                let healthy = (received.0.records.get(1).map_or(0, Vec::len), received.1.count());
                let is_named = reader
                    .troubles()
                    .contains(&format!("topic {topic:?} partition 0"));
                ensure(healthy == expected && is_named, format!("{healthy:?}"))
            },
        );
        let (before, begun) = (rebuilt(reader), Instant::now());
        let at = reader.received(&beside).count();
        for number in 1..=ROUNDS {
            bench.write(&beside, &numbered(0, number, 1), &[]);
            reader.until(PATIENCE, "the others continue", |reader| {
                let count = reader.received(&beside).count();
                ensure(count == at + number, format!("{count}"))
            });
        }
        println!(
            "{version}: {}: {ROUNDS} records beside a broken partition, one after the other, took {:.1?}",
            reader.client,
            begun.elapsed()
        );
        if reader.client == Client::Librdkafka {
            assert_eq!(rebuilt(reader), before, "it continues with the same client");
            assert_eq!(
                reader.status.counters().recoveries(),
                0,
                "nothing was over meanwhile"
            );
            assert!(begun.elapsed() < WAITED, "the others waited");
        }
        // Records before it, and none after it.
        let received = reader.received(&topic);
        assert!(received.passed.is_empty(), "{:?}", received.passed);
        let mut expected = bench.expected(&topic, 0, reader);
        expected.truncate(received.records[0].len().min(10));
        same(&received.records[0], &expected, "what came of the partition");
    }
}

/// How often an error of a reader's ended its client, so that all partitions waited for another one.
fn rebuilt(reader: &Reader) -> u64 {
    let troubles = reader.status.counters().errors();
    let kinds = troubles.iter().filter(|(kind, _)| REBUILT.contains(kind));
    kinds.map(|(_, count)| count).sum()
}
