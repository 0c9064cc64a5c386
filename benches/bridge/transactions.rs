//! How soon a topic is loaded whose partitions end with a transaction marker, beside one without transactions. The
//! reading thread runs in this process, without a daemon around it.

use crate::Options;
use crate::count::connection;
use crate::harness::broker::{Broker, topic_name};
use crate::harness::produce::{Message, Outcome};
use crate::measure::{median, median_ratio, now};
use crate::report::{Table, at_most, figure};
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::kafka::record::Feed;
use std::sync::Arc;
use tokio::sync::mpsc;

const PARTITIONS: i32 = 100;

/// Records of each.
const RECORDS: usize = 20;

/// Most time, as a multiple of that without transactions.
const MOST: f64 = 2.0;

pub fn run(broker: &Broker, options: &Options) {
    let rounds = options.pick(9, 3);
    let (plain, transactional) = (topic_name("plain"), topic_name("transactional"));
    let messages: Vec<Message> = (0..PARTITIONS)
        .flat_map(|partition| (0..RECORDS).map(move |_| Message::value("x").partition(partition)))
        .collect();
    for topic in [&plain, &transactional] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    broker.produce(&plain, &messages);
    broker.produce_transaction(&transactional, &messages, Outcome::Commit);
    // The markers are written after the commit has been acknowledged.
    while load(broker, &transactional).1 < messages.len() {}
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (topic, times) in [(&transactional, &mut with), (&plain, &mut without)] {
            let (took, records) = load(broker, topic);
            assert_eq!(records, messages.len(), "records of {topic}");
            times.push(took);
        }
    }
    let ratio = median_ratio(&with, &without);
    let mut table = Table::new(&["", "transactional", "plain", "ratio", "target"]);
    table.row(&[
        "start to loaded, ms".to_owned(),
        figure(median(&with)),
        figure(median(&without)),
        figure(ratio),
        at_most(ratio, MOST),
    ]);
    table.print(&format!(
        "transactions: {PARTITIONS} partitions of {RECORDS} records, {rounds} rounds"
    ));
}

/// Milliseconds until all of a topic is loaded, and the records by then.
fn load(broker: &Broker, topic: &str) -> (f64, usize) {
    let (feed, mut feeds) = mpsc::channel(1024);
    let plan = TopicPlan {
        name: topic.into(),
        start: StartOffset::Earliest,
        feeds: vec![feed.into()],
    };
    let began = now();
    let reader =
        ReaderHandle::spawn(connection(&broker.bootstrap()), vec![plan], Arc::default()).expect("a thread");
    let mut records = 0;
    let took = loop {
        match feeds.blocking_recv() {
            Some(Feed::Records(batch)) => records += batch.len(),
            Some(Feed::Loaded { .. }) => break (now() - began) as f64 / 1e6,
            Some(_) => {}
            None => panic!("the reading thread has ended"),
        }
    };
    drop(feeds);
    let _ = reader.stop().join();
    (took, records)
}
