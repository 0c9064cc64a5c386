//! The memory of the reading thread while a stream is blocked, for topics of any size.

use crate::Options;
use crate::bare::Bare;
use crate::count::connection;
use crate::harness::broker::{Broker, topic_name};
use crate::harness::produce::Message;
use crate::measure::{memory, peak, reset_peak};
use crate::report::{Table, at_most, figure};
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::stream::writer::CHANNEL_BATCHES;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of a record.
const VALUE: usize = 10_000;

/// Most MiB.
const MOST: f64 = 64.0;

/// Long enough to fetch all of the topic, were there no bounds.
const WAIT: Duration = Duration::from_secs(5);

pub fn run(broker: &Broker, options: &Options) {
    let records = options.pick(40_000, 10_000);
    let mut table = Table::new(&["", "topic, MiB", "growth, MiB", "target"]);
    for partitions in [1, 64] {
        let topic = topic_name("stalled");
        broker.create_topic(&topic, partitions, &[]);
        for chunk in 0..records / 1000 {
            let messages = (0..1000).zip((0..partitions).cycle()).map(|(number, partition)| {
                Message::value(format!("{chunk:0>8}{number:0>VALUE$}")).partition(partition)
            });
            broker.produce(&topic, &messages.collect::<Vec<_>>());
        }
        let mut bare = Bare::spawn(&["stalled", &broker.bootstrap(), &topic]);
        let growth = bare
            .numbers()
            .first()
            .map_or(f64::NAN, |&growth| growth as f64 / 1024.0);
        table.row(&[
            format!("{partitions} partition{}", if partitions == 1 { "" } else { "s" }),
            figure((records * VALUE) as f64 / f64::from(1 << 20)),
            figure(growth),
            at_most(growth, MOST),
        ]);
    }
    table.print("stalled: a source whose stream takes nothing");
}

/// Reads a topic for a stream that takes nothing, and prints by how many KiB this process grew.
pub fn main(brokers: &str, topic: &str) {
    let process = std::process::id();
    let before = memory(process).rss;
    reset_peak(process);
    let (feed, _kept) = mpsc::channel(CHANNEL_BATCHES);
    let plan = TopicPlan {
        name: topic.into(),
        start: StartOffset::Earliest,
        feeds: vec![feed.into()],
    };
    let reader = ReaderHandle::spawn(connection(brokers), vec![plan], Arc::default()).expect("a thread");
    thread::sleep(WAIT);
    println!("{}", peak(process).saturating_sub(before));
    drop(reader);
}
