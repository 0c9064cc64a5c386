//! Consumer lag on real brokers: of a slow reader, at transaction markers, and behind an open transaction.

use crate::common::config;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::{Message, Outcome};
use crate::harness::wait::{block_on, ensure, eventually, millis, secs};
use crate::harness::{on_each_broker, promise_on, trial};
use kafka_sse_bridge::config::{Client, Isolation};
use kafka_sse_bridge::kafka::batcher::Batcher;
use kafka_sse_bridge::kafka::client::build;
use kafka_sse_bridge::kafka::connection::{Connection, Purpose};
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::kafka::reader_status::ReaderStatus;
use kafka_sse_bridge::kafka::record::Feed;
use kafka_sse_bridge::kafka::security::Credentials;
use libtest_mimic::Trial;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::mpsc;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![promise_on(
        Version::V4_4,
        an_open_transaction_is_counted_and_reported,
    )];
    for (version, client) in [
        (Version::V3_9, Client::Kafka),
        (Version::V3_9, Client::Librdkafka),
        (Version::V4_4, Client::Librdkafka),
    ] {
        trials.push(trial(
            format!("the_lag_of_a_slow_reader_shrinks_as_it_reads@{version}_{client}"),
            move || shrinks(version, client),
        ));
    }
    trials.extend(on_each_broker(only_readable_partitions_count_as_fetched));
    for (version, client, isolation) in [
        (Version::V4_4, Client::Librdkafka, Isolation::ReadCommitted),
        (Version::V4_4, Client::Librdkafka, Isolation::ReadUncommitted),
        (Version::V3_9, Client::Kafka, Isolation::ReadUncommitted),
    ] {
        trials.push(trial(
            format!(
                "a_transactions_marker_is_no_lag@{version}_{client}_{}",
                isolation.as_str()
            ),
            move || markers(version, client, isolation),
        ));
    }
    trials
}

fn an_open_transaction_is_counted_and_reported() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("held");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[Message::value("before")]);
    let daemon = Daemon::start(&config(&broker, &[&topic], "start = \"earliest\""));
    block_on(daemon.wait_ready(secs(30)));
    let three = [Message::value("a"), Message::value("b"), Message::value("c")];
    let (open, _) = broker.open_transaction(&topic, &three);
    let figures = || {
        let text = block_on(daemon.get("/metrics")).text();
        let figure = |name: &str| {
            let line = format!("kafka_sse_bridge_{name}{{topic=\"{topic}\",partition=\"0\"}} ");
            text.lines()
                .find_map(|text| text.strip_prefix(&line).map(str::to_owned))
        };
        (
            figure("kafka_lag_records"),
            figure("kafka_lag_high_watermark_records"),
        )
    };
    let both = |lag: &str, to_high: &str| (Some(lag.to_owned()), Some(to_high.to_owned()));
    eventually(secs(30), "what it holds back is counted", || {
        ensure(figures() == both("0", "3"), format!("{:?}", figures()))
    });
    let named = format!("kafka: topic {topic:?}: an open transaction has kept records from being read");
    let health = || block_on(daemon.get("/health/ready")).text().replace("\\\"", "\"");
    assert!(!health().contains(&named), "{}", health());
    eventually(secs(120), "it is named", || {
        ensure(health().contains(&named), health())
    });
    daemon.wait_log(&named, secs(10));
    open.end(Outcome::Commit);
    eventually(secs(30), "it has ended", || {
        ensure(
            !health().contains(&named) && figures() == both("0", "0"),
            health(),
        )
    });
    daemon.wait_log("the transaction that held it has ended", secs(10));
}

/// By the library itself: an idle partition too, and none that does not exist.
fn only_readable_partitions_count_as_fetched(broker: &Broker) {
    let topic = topic_name("fetched");
    broker.create_topic(&topic, 2, &[]);
    broker.produce(&topic, &[Message::value("one").partition(0)]);
    let connection = Connection {
        brokers: vec![broker.bootstrap()],
        client: Client::Librdkafka,
        isolation: Isolation::ReadCommitted,
        credentials: Credentials::default(),
        librdkafka: Vec::new(),
        needs_headers: false,
        needs_librdkafka: None,
    };
    let mut consumer = build(&connection, Client::Librdkafka, Purpose::Live, &Arc::default())
        .expect("a client")
        .consumer;
    let (feed, _feeds) = mpsc::channel(16);
    let mut batcher = Batcher::new([(topic.as_str().into(), vec![feed])]);
    // The third partition does not exist.
    batcher.assign(&topic, None, vec![0; 3], vec![0; 3]);
    consumer.assign(&batcher).expect("it is assigned");
    eventually(secs(30), "statistics say so of each", || {
        // The error of the third is no failure of the others.
        let _ = consumer.poll(millis(100), &mut batcher);
        batcher.flush();
        let mut partitions: Vec<(u32, Option<i64>, bool)> = consumer
            .ends()
            .iter()
            .map(|end| (end.partition, end.offset, end.is_fetched))
            .collect();
        partitions.sort_unstable();
        ensure(
            partitions == [(0, Some(1), true), (1, Some(0), true), (2, None, false)],
            format!("{partitions:?}"),
        )
    });
}

/// A reader of one topic, whose channel holds one batch.
struct Reader {
    status: Arc<ReaderStatus>,
    feeds: mpsc::Receiver<Feed>,
    handle: Option<ReaderHandle>,
}

impl Reader {
    fn start(broker: &Broker, topic: &str, client: Client, isolation: Isolation) -> Self {
        let (feed, feeds) = mpsc::channel(1);
        let plan = TopicPlan {
            name: topic.into(),
            start: StartOffset::Earliest,
            feeds: vec![feed.into()],
        };
        let connection = Connection {
            brokers: vec![broker.bootstrap()],
            client,
            isolation,
            credentials: Credentials::default(),
            librdkafka: Vec::new(),
            needs_headers: false,
            needs_librdkafka: None,
        };
        let status = Arc::new(ReaderStatus::default());
        Self {
            handle: Some(ReaderHandle::spawn(connection, vec![plan], Arc::clone(&status)).expect("a thread")),
            status,
            feeds,
        }
    }

    fn lag(&self) -> Vec<u64> {
        self.status.lag().iter().map(|lag| lag.records).collect()
    }

    /// Takes the next batch, if there is one, and returns the number of its records.
    fn take(&mut self) -> usize {
        match self.feeds.try_recv() {
            Ok(Feed::Records(batch)) => batch.len(),
            _ => 0,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.feeds.close();
        let stopped: Option<JoinHandle<()>> = self.handle.take().map(ReaderHandle::stop);
        if let Some(thread) = stopped {
            let _ = thread.join();
        }
    }
}

/// Two records of them make a batch, so a hundred batches are read.
const LARGE: usize = 130 * 1024;
const RECORDS: usize = 200;

fn shrinks(version: Version, client: Client) {
    let broker = Broker::shared(version);
    let topic = topic_name("lag");
    broker.create_topic(&topic, 2, &[]);
    let large = Message::value("x".repeat(LARGE)).partition(1);
    for _ in 0..RECORDS / 20 {
        broker.produce(&topic, &vec![large.clone(); 20]);
    }
    let mut reader = Reader::start(&broker, &topic, client, Isolation::ReadUncommitted);
    eventually(secs(30), "the lag is known before anything is taken", || {
        ensure(
            reader.lag() == [0, RECORDS as u64],
            format!("{:?}", reader.status.lag()),
        )
    });
    // The reader is slow: a batch at a time, with a pause in between.
    let (mut taken, mut last) = (0, Instant::now());
    eventually(secs(60), "a part is read", || {
        if last.elapsed() >= millis(100) {
            last = Instant::now();
            taken += reader.take();
        }
        let lag = reader.lag()[1];
        // Records sent and not yet received are in the channel, or about to enter it.
        ensure(
            lag > 0 && lag < RECORDS as u64,
            format!("{lag} behind after {taken} taken"),
        )
    });
    assert!(taken < RECORDS, "it is still reading");
    eventually(secs(60), "all is read, and then nothing is behind", || {
        taken += reader.take();
        ensure(
            taken == RECORDS && reader.lag() == [0, 0],
            format!("{:?} after {taken}", reader.lag()),
        )
    });
    assert_eq!(
        reader.status.counters().records(),
        [(topic.as_str().into(), RECORDS as u64)]
    );
}

fn markers(version: Version, client: Client, isolation: Isolation) {
    let broker = Broker::shared(version);
    let topic = topic_name("markers");
    broker.create_topic(&topic, 1, &[]);
    let two = [Message::value("a"), Message::value("b")];
    broker.produce_transaction(&topic, &two, Outcome::Commit);
    broker.produce_transaction(&topic, &two, Outcome::Abort);
    let readable = match isolation {
        Isolation::ReadCommitted => 2,
        Isolation::ReadUncommitted => 4,
    };
    let mut reader = Reader::start(&broker, &topic, client, isolation);
    let mut taken = 0;
    eventually(secs(60), "it is up to date", || {
        taken += reader.take();
        ensure(
            taken == readable && reader.lag() == [0],
            format!("{:?} after {taken}", reader.lag()),
        )
    });
}
