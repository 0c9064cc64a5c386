//! A stream that does not take the records that are read for it.

use super::reader::{Bench, PATIENCE, Plan, Reader, same};
use crate::common::numbered;
use crate::harness::broker::{Version, topic_name};
use crate::harness::produce::Message;
use crate::harness::wait::ensure;
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
