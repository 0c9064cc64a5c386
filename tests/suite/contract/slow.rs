//! Streams that do not take the records that are read for them.

use super::reader::{Bench, PATIENCE, Plan, Reader, same};
use crate::common::numbered;
use crate::harness::broker::{Version, topic_name};
use crate::harness::produce::Message;
use crate::harness::wait::{ensure, eventually};
use kafka_sse_bridge::kafka::status::KafkaStatus;
use std::sync::Arc;

/// Records of each partition of the slow stream's topic, and their size: more than is read ahead.
const RECORDS: usize = 700;
const SIZE: usize = 10_000;

/// Feeds that the slow stream's channel holds.
const ROOM: usize = 2;

/// The topics of a stream that takes nothing are paused, and those of another are read on; once it takes, it is given
/// each record once and in order.
pub fn a_blocked_stream_pauses_only_its_own_topics(version: Version) {
    let mut bench = Bench::shared(version);
    let (slow, fast) = (topic_name("slow"), topic_name("fast"));
    for topic in [&slow, &fast] {
        bench.broker.create_topic(topic, 2, &[]);
    }
    for partition in 0..2 {
        let large = |number| Message::value(format!("{number:0>SIZE$}")).partition(partition);
        bench.write(&slow, &(0..RECORDS).map(large).collect::<Vec<_>>(), &[]);
    }
    for (round, plan) in Plan::all(version).into_iter().enumerate() {
        let streams = [("/slow", &[&*slow][..], ROOM), ("/fast", &[&*fast][..], 1024)];
        let [mut slow_reader, mut fast_reader] =
            Reader::beside(vec![bench.broker.bootstrap()], streams, plan);
        let board = KafkaStatus::default();
        board.set(vec![Arc::clone(&fast_reader.status)]);
        fast_reader.until(PATIENCE, "the topics of the slow stream are paused", |_| {
            let held = board.paused_by("/slow");
            ensure(held.iter().any(|topic| **topic == *slow), format!("{held:?}"))
        });
        for partition in 0..2 {
            bench.write(&fast, &numbered(partition, round * 5, 5), &[]);
        }
        fast_reader.until(PATIENCE, "the other is read on", |reader| {
            let received = reader.received(&fast);
            ensure(
                received.count() == (round + 1) * 10 && received.is_loaded,
                format!("{:?}", received.counts()),
            )
        });
        assert_eq!(
            slow_reader.waiting(),
            ROOM,
            "{}: nobody has taken anything",
            plan.client
        );
        slow_reader.until(PATIENCE, "the slow one is given everything", |reader| {
            let received = reader.received(&slow);
            ensure(
                received.count() == 2 * RECORDS && received.is_loaded,
                format!("{:?}", received.counts()),
            )
        });
        for (topic, reader) in [(&slow, &slow_reader), (&fast, &fast_reader)] {
            for partition in 0..2 {
                let expected = bench.expected(topic, partition, reader);
                let at = format!("{}: {topic}/{partition}", plan.client);
                same(&reader.received(topic).records[partition], &expected, &at);
            }
            assert!(
                reader.received(topic).passed.is_empty(),
                "{:?}",
                reader.received(topic).passed
            );
        }
        assert!(board.paused_by("/fast").is_empty());
    }
}

/// Streams that take nothing hold up neither another stream of their topics nor each other, whenever they stop; once they
/// take, each is given each record once and in order.
pub fn a_blocked_stream_does_not_hold_up_another_of_its_topics(version: Version) {
    let mut bench = Bench::shared(version);
    let topics = [topic_name("one"), topic_name("two"), topic_name("own")];
    let [one, two, own] = &topics;
    for topic in &topics {
        bench.broker.create_topic(topic, 2, &[]);
    }
    let large = |number| Message::value(format!("{number:0>SIZE$}"));
    for plan in Plan::all(version) {
        let streams = [
            ("/first", &[&**one, &**own][..], ROOM),
            ("/second", &[&**two][..], ROOM),
            ("/fast", &[&**one, &**two][..], 1024),
        ];
        let mut readers = Reader::beside(vec![bench.broker.bootstrap()], streams, plan);
        let board = KafkaStatus::default();
        board.set(vec![Arc::clone(&readers[0].status)]);
        // The first one stops at once, the second one later: each at offsets of its own.
        for (stopped, topic) in [(1, one), (2, two)] {
            for partition in 0..2 {
                let messages = (0..RECORDS).map(|number| large(number).partition(partition));
                bench.write(topic, &messages.collect::<Vec<_>>(), &[]);
                bench.write(own, &numbered(partition, stopped * 5, 5), &[]);
            }
            eventually(PATIENCE, "the stream that takes is read on", || {
                readers.iter_mut().skip(stopped).for_each(Reader::take);
                let partition = |number| bench.expected(topic, number, &readers[2]).len();
                let expected = partition(0) + partition(1);
                let count = readers[2].received(topic).count();
                ensure(count == expected, format!("{count} of {expected}"))
            });
        }
        eventually(PATIENCE, "the others' topics are paused for them", || {
            let held = ["/first", "/second", "/fast"].map(|stream| board.paused_by(stream).len());
            ensure(held == [2, 1, 0], format!("{held:?}"))
        });
        let expectations = [(0, one), (0, own), (1, two), (2, one), (2, two)];
        eventually(PATIENCE, "all are given everything", || {
            readers.iter_mut().for_each(Reader::take);
            let mut missing = expectations.iter().filter(|(reader, topic)| {
                let reader = &readers[*reader];
                let count = |partition| bench.expected(topic, partition, reader).len();
                let received = reader.received(topic);
                received.counts() != [count(0), count(1)] || !received.is_loaded
            });
            ensure(missing.next().is_none(), board.snapshot().degraded.join("; "))
        });
        for (reader, topic) in expectations {
            let reader = &readers[reader];
            for partition in 0..2 {
                let expected = bench.expected(topic, partition, reader);
                let at = format!("{}: {topic}/{partition}", plan.client);
                same(&reader.received(topic).records[partition], &expected, &at);
            }
            assert!(reader.received(topic).passed.is_empty());
        }
        // Streams that have moved get later notices: added partitions, and a recreated topic.
        let partitions = i32::try_from(readers[0].received(one).counts().len()).expect("few") + 1;
        bench.broker.add_partitions(one, partitions);
        bench.write(one, &numbered(partitions - 1, 0, 5), &[]);
        eventually(PATIENCE, "an added partition is read for both", || {
            readers.iter_mut().for_each(Reader::take);
            let count = |reader: usize| readers[reader].received(one).counts().pop();
            ensure(
                [count(0), count(2)] == [Some(5); 2],
                format!("{:?}", (count(0), count(2))),
            )
        });
        for topic in &topics {
            bench.broker.delete_topic(topic);
            bench.broker.create_topic(topic, 2, &[]);
            bench.forget(topic);
        }
        bench.write(one, &numbered(0, 0, 3), &[]);
        eventually(PATIENCE, "a recreated topic is read for both", || {
            readers.iter_mut().for_each(Reader::take);
            let is_read = |reader: usize| {
                let received = readers[reader].received(one);
                received.recreated == 1 && received.count() == 3
            };
            ensure(is_read(0) && is_read(2), board.snapshot().degraded.join("; "))
        });
    }
}
