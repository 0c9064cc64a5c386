//! Retention that overtakes clients while they read history: each gets one gap
//! per partition, with the very offsets it misses.

use crate::common::{config_with, is_record, json, numbered, until_records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::trial;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [("librdkafka", Version::V4_4), ("kafka", Version::V3_9)]
        .map(|(client, version)| {
            let name =
                format!("retention_that_overtakes_a_resuming_client_is_one_gap_with_{client}@{version}");
            trial(name, move || overtaken(&Broker::shared(version), client))
        })
        .into()
}

const PARTITIONS: usize = 3;

/// Records of each partition, and their size: much more than anything on the way can hold (2 MiB of a replay, what a client
/// library reads ahead, 4 MiB at most, and sockets).
const RECORDS: usize = 1500;
const BYTES: usize = 10_000;

/// Where each partition begins afterwards: most of it is gone, all of it, nothing.
const LOW: [i64; PARTITIONS] = [1450, 1500, 0];

fn long(partition: i32, first: usize, count: usize) -> Vec<Message> {
    let mut messages = numbered(partition, first, count);
    for message in &mut messages {
        let value = message.value.as_mut().expect("a value");
        value.push(b' ');
        value.resize(BYTES, b'x');
    }
    messages
}

/// The progress of a client: the next number in each partition.
struct Reader {
    stream: Stream,
    next: [i64; PARTITIONS],
    /// Partition, from, to.
    gaps: Vec<(usize, i64, i64)>,
}

impl Reader {
    fn take(&mut self, events: &[Event]) {
        for event in events {
            if event.is("gap") {
                let gap = json(event);
                let number = |name: &str| gap[name].as_i64().expect("a number");
                let partition = usize::try_from(number("partition")).expect("a partition");
                let (from, to) = (number("from"), number("to"));
                assert_eq!(gap["reason"], "expired");
                assert_eq!(from, self.next[partition], "it begins where the records end");
                self.next[partition] = to;
                self.gaps.push((partition, from, to));
            } else if is_record(event) {
                let name = event
                    .data
                    .split(' ')
                    .next()
                    .and_then(|word| word.strip_prefix('p'));
                let (partition, number) = name.and_then(|name| name.split_once('-')).expect("a record");
                let next = &mut self.next[partition.parse::<usize>().expect("a partition")];
                assert_eq!(number.parse::<i64>().ok(), Some(*next), "partition {partition}");
                *next += 1;
            } else {
                assert!(event.is("caught-up"), "{event:?}");
            }
        }
    }
}

fn overtaken(broker: &Broker, client: &str) {
    let topic = topic_name("overtaken");
    broker.create_topic(&topic, 3, &[]);
    for partition in 0..3 {
        broker.produce(&topic, &long(partition, 0, RECORDS));
    }
    let daemon = Daemon::start(&config_with(
        client,
        broker,
        &[&topic],
        "start = \"live\"\npreload = 5\nlog_bytes = \"512KiB\"",
    ));
    block_on(async {
        daemon.wait_ready(secs(60)).await;
        let mut first = Stream::open(daemon.url("/events?start=earliest")).await;
        let seen = first.collect_until(until_records(30), secs(30)).await;
        let id = first.last_event_id().to_owned();
        drop(first);
        // Two clients that share a replay and have begun to read it.
        let mut readers = Vec::new();
        for _ in 0..2 {
            let stream = Stream::to(daemon.url("/events"))
                .last_event_id(&id)
                .receive_buffer(4096)
                .send()
                .await
                .expect("it opens");
            let mut reader = Reader {
                stream,
                next: [0; PARTITIONS],
                gaps: Vec::new(),
            };
            reader.take(&seen);
            let events = reader.stream.collect_until(until_records(10), secs(30)).await;
            reader.take(&events);
            readers.push(reader);
        }
        for (partition, offset) in (0..).zip(LOW) {
            if offset > 0 {
                broker.delete_records(&topic, partition, offset);
            }
        }
        // One more of each partition shows what follows the gap, and that nothing came twice.
        for partition in 0..3 {
            broker.produce(&topic, &long(partition, RECORDS, 1));
        }
        for mut reader in readers {
            while reader.next != [1501; PARTITIONS] {
                let event = reader.stream.next(secs(60)).await;
                reader.take(&[event]);
            }
            reader.gaps.sort_unstable();
            let gaps: Vec<(usize, i64)> = reader.gaps.iter().map(|gap| (gap.0, gap.2)).collect();
            assert_eq!(
                gaps,
                [(0, LOW[0]), (1, LOW[1])],
                "one gap for each partition that lost records: {:?}",
                reader.gaps
            );
        }
    });
}
