//! Lookups of offsets on real brokers.

use super::ask;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::produce::Message;
use crate::harness::{on_broker, on_each_broker};
use crate::scripted::Pool;
use kafka_sse_bridge::config::{Client, Isolation};
use kafka_sse_bridge::kafka::connection::Connection;
use kafka_sse_bridge::kafka::history::{Archive, History, LookupUnsupported, OffsetSpec};
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::kafka::reader_status::ReaderStatus;
use kafka_sse_bridge::kafka::security::Credentials;
use kafka_sse_bridge::kafka::status::KafkaStatus;
use libtest_mimic::Trial;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

pub fn trials() -> Vec<Trial> {
    let mut trials = on_each_broker(offsets_are_found_by_time_with_librdkafka);
    trials.push(on_broker(
        Version::V3_9,
        the_kafka_crate_finds_ends_and_reports_that_it_finds_no_times,
    ));
    trials
}

fn connection(broker: &Broker, client: Client) -> Connection {
    Connection {
        brokers: vec![broker.bootstrap()],
        client,
        isolation: Isolation::ReadUncommitted,
        credentials: Credentials::default(),
        librdkafka: Vec::new(),
        needs_headers: false,
        needs_librdkafka: None,
    }
}

/// A pool over a real broker.
fn pool(connection: Connection, status: &Arc<ReaderStatus>) -> Pool {
    let live = KafkaStatus::default();
    live.set(vec![Arc::clone(status)]);
    Pool::new(History::new(connection, Arc::new(live), Arc::default()))
}

/// The offsets that it finds for a topic.
fn offsets_of(pool: &Pool, topic: &str, asks: &[OffsetSpec]) -> Result<Vec<Option<i64>>, LookupUnsupported> {
    let asked = ask(pool, topic, asks).expect("the queue is not full");
    asked.answer().map(|mut offsets| offsets.remove(0))
}

/// An hour ago, in milliseconds since the epoch: young enough for retention.
fn an_hour_ago() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the year 292278994") - 3_600_000
}

fn offsets_are_found_by_time_with_librdkafka(broker: &Broker) {
    let topic = topic_name("times");
    broker.create_topic(&topic, 4, &[]);
    let base = an_hour_ago();
    let at = |partition: i32, seconds: i64| {
        Message::value("v")
            .partition(partition)
            .timestamp(base + seconds * 1000)
    };
    // Partition 0 in three batches, 1 one record, 2 nothing, 3 out of order.
    for seconds in [[10, 20], [30, 40], [50, 60]] {
        broker.produce(&topic, &seconds.map(|seconds| at(0, seconds)));
    }
    broker.produce(&topic, &[at(1, 35)]);
    broker.produce(&topic, &[at(3, 50), at(3, 5), at(3, 55), at(3, 6)]);

    let status = Arc::new(ReaderStatus::default());
    let pool = pool(connection(broker, Client::Librdkafka), &status);
    assert!(!pool.lacks_times_and_headers());
    let all = |ask: OffsetSpec| offsets_of(&pool, &topic, &[ask; 4]);
    let offsets = |offsets: [i64; 4]| Ok(offsets.map(Some).to_vec());
    assert_eq!(all(OffsetSpec::Latest), offsets([6, 1, 0, 4]));
    for (seconds, found) in [
        // Before the first record of all; of some; between records; at one; just behind one.
        (-100, [0, 0, 0, 0]),
        (15, [1, 0, 0, 0]),
        (36, [3, 1, 0, 0]),
        (50, [4, 1, 0, 0]),
        (51, [5, 1, 0, 2]),
        // After the last.
        (1000, [6, 1, 0, 4]),
    ] {
        assert_eq!(
            all(OffsetSpec::Timestamp(base + seconds * 1000)),
            offsets(found),
            "{seconds} s"
        );
    }
    assert_eq!(all(OffsetSpec::Timestamp(i64::MIN)), offsets([0, 0, 0, 0]));
    assert_eq!(all(OffsetSpec::Timestamp(-1)), offsets([0, 0, 0, 0]));
    assert_eq!(all(OffsetSpec::Timestamp(i64::MAX)), offsets([6, 1, 0, 4]));
    let mixed = [
        OffsetSpec::Timestamp(base),
        OffsetSpec::Skip,
        OffsetSpec::Latest,
        OffsetSpec::Timestamp(base + 51_000),
    ];
    assert_eq!(
        offsets_of(&pool, &topic, &mixed),
        Ok(vec![Some(0), None, Some(0), Some(2)])
    );
    // Records deleted by retention are not found; new ones are.
    broker.delete_records(&topic, 0, 3);
    broker.produce(&topic, &[at(2, 70)]);
    assert_eq!(all(OffsetSpec::Timestamp(base)), offsets([3, 0, 0, 0]));
    assert_eq!(all(OffsetSpec::Latest), offsets([6, 1, 1, 4]));
    // A partition and a topic that do not exist, which is not created by asking.
    assert_eq!(
        offsets_of(&pool, &topic, &[OffsetSpec::Latest; 5]),
        Ok(vec![Some(6), Some(1), Some(1), Some(4), None])
    );
    let no_topic = topic_name("none");
    assert_eq!(
        offsets_of(
            &pool,
            &no_topic,
            &[OffsetSpec::Timestamp(base), OffsetSpec::Latest]
        ),
        Ok(vec![None, None])
    );
    assert!(!broker.topics().contains(&no_topic));
}

fn the_kafka_crate_finds_ends_and_reports_that_it_finds_no_times(broker: &Broker) {
    let topic = topic_name("ends");
    broker.create_topic(&topic, 2, &[]);
    broker.produce(&topic, &vec![Message::value("v").partition(1); 3]);
    for client in [Client::Kafka, Client::Auto] {
        let status = Arc::new(ReaderStatus::default());
        let pool = pool(connection(broker, client), &status);
        assert_eq!(pool.lacks_times_and_headers(), client == Client::Kafka);
        assert_eq!(
            offsets_of(&pool, &topic, &[OffsetSpec::Latest; 2]),
            Ok(vec![Some(0), Some(3)])
        );
        let Err(LookupUnsupported(why)) =
            offsets_of(&pool, &topic, &[OffsetSpec::Timestamp(0), OffsetSpec::Latest])
        else {
            panic!("it knows times")
        };
        assert!(why.ends_with("set client = \"librdkafka\" in [kafka]"), "{why}");
        // Known from the reader, too, once that has chosen.
        let (feed, mut feeds) = mpsc::channel(16);
        let plan = TopicPlan {
            name: topic.as_str().into(),
            start: StartOffset::Earliest,
            feeds: vec![feed.into()],
        };
        let reader = ReaderHandle::spawn(connection(broker, client), vec![plan], Arc::clone(&status))
            .expect("a thread");
        assert!(feeds.blocking_recv().is_some());
        assert!(pool.lacks_times_and_headers());
        drop(feeds);
        assert!(reader.stop().join().is_ok());
    }
}
