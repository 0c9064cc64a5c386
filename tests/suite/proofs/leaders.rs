//! Three brokers, of which one after the other is killed, frozen or restarted while records come steadily: all must be
//! handed on by the daemon's reading thread, once and in order.

use super::writer::{Shape, Writer};
use super::{Report, SILENCE};
use crate::harness::broker::{Version, topic_name};
use crate::harness::cluster::Cluster;
use crate::harness::wait::millis;
use kafka_sse_bridge::config::{Client, Isolation};
use kafka_sse_bridge::kafka::connection::Connection;
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::kafka::reader_status::ReaderStatus;
use kafka_sse_bridge::kafka::record::{Batch, Feed};
use kafka_sse_bridge::kafka::security::Credentials;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A fault of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Killed as by a power cut, and started again once others lead.
    Kill,
    /// Stopped, as a machine that hangs, until others lead and for so long after that: longer than clients
    /// wait for an answer.
    Freeze(Duration),
    /// Stopped in peace, and started again.
    Restart,
}

/// How much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub partitions: u32,
    /// Records a second.
    pub rate: u32,
    /// Bytes of a value.
    pub bytes: usize,
    /// Faults and their nodes; each starts once the cluster has recovered from the one before.
    pub deeds: Vec<(usize, Deed)>,
    /// Properties for librdkafka.
    pub properties: Vec<(String, String)>,
}

/// The delivered records.
struct Account {
    began: Instant,
    /// The number of each partition's next record, and when the last one came.
    next: Vec<(u32, Instant)>,
    last: Instant,
    records: u64,
    lost: u64,
    doubled: u64,
    strange: Vec<String>,
    /// The longest time without a record of a partition, of any, and from writing a record to handing it on.
    pauses: Pauses,
}

#[derive(Clone, Copy, Default)]
struct Pauses {
    partition: Duration,
    all: Duration,
    way: Duration,
}

impl fmt::Display for Pauses {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pauses { partition, all, way } = self;
        write!(
            out,
            "{partition:.1?} of a partition, {all:.1?} of all; {way:.1?} from writing"
        )
    }
}

impl Account {
    fn new(partitions: u32, began: Instant) -> Account {
        Account {
            began,
            next: vec![(0, began); partitions as usize],
            last: began,
            records: 0,
            lost: 0,
            doubled: 0,
            strange: Vec::new(),
            pauses: Pauses::default(),
        }
    }

    fn enter(&mut self, batch: &Batch) {
        let now = Instant::now();
        self.pauses.all = self.pauses.all.max(now - self.last);
        self.last = now;
        for record in batch.iter() {
            let text = String::from_utf8_lossy(record.value.unwrap_or_default());
            let mut fields = text.split(' ');
            let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
            let (Some(partition), Some(number), _, Some(written)) = (number(), number(), number(), number())
            else {
                self.strange.push(format!("{text:?}"));
                continue;
            };
            if partition != u64::from(record.partition) {
                self.strange
                    .push(format!("{text:?} in partition {}", record.partition));
                continue;
            }
            let (next, heard) = &mut self.next[record.partition as usize];
            let number = u32::try_from(number).expect("few records");
            self.lost += u64::from(number.saturating_sub(*next));
            self.doubled += u64::from(number < *next);
            self.pauses.partition = self.pauses.partition.max(now - *heard);
            let way = (now - self.began).saturating_sub(Duration::from_micros(written));
            self.pauses.way = self.pauses.way.max(way);
            *heard = now;
            *next = (*next).max(number + 1);
            self.records += 1;
        }
    }

    /// The longest pauses since the last call.
    fn pauses(&mut self) -> Pauses {
        std::mem::take(&mut self.pauses)
    }
}

/// Ends reading and writing, also if the test fails meanwhile.
struct Ending<'a> {
    reader: Option<ReaderHandle>,
    is_over: &'a AtomicBool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // The channel closes when the thread has ended, and then its reader ends.
        if let Some(reader) = self.reader.take() {
            let _ = reader.stop().join();
        }
    }
}

/// Runs it.
pub fn run(version: Version, plan: &Plan) -> Report {
    let mut report = Report::default();
    report.figure("seed", plan.seed);
    let cluster = Cluster::start(version);
    let topic = topic_name("leaders");
    cluster.create_topic(&topic, plan.partitions.try_into().expect("few partitions"));
    let began = Instant::now();
    let shape = Shape::unkeyed(plan.partitions, plan.bytes);
    let mut client = cluster.client();
    // The producer leaves a hanging broker sooner than the reader, so that the reader is measured.
    client
        .set("socket.timeout.ms", "2000")
        .set("request.timeout.ms", "2000");
    let mut writer = Writer::with(client, &topic, shape, plan.seed, began);
    let status = Arc::new(ReaderStatus::default());
    let (reader, mut feeds) = read(&cluster, &topic, plan, &status);
    let account = Mutex::new(Account::new(plan.partitions, began));
    let lock = || account.lock().unwrap_or_else(PoisonError::into_inner);
    let is_over = AtomicBool::new(false);
    let taking = writer.taking();
    let written = thread::scope(|scope| {
        let ending = Ending {
            reader: Some(reader),
            is_over: &is_over,
        };
        scope.spawn(|| {
            while let Some(feed) = feeds.blocking_recv() {
                if let Feed::Records(batch) = feed {
                    lock().enter(&batch);
                }
            }
        });
        let writing = scope.spawn(|| {
            writer.pace(plan.rate, |_| !is_over.load(Ordering::Relaxed));
            writer.finish()
        });
        for &(node, deed) in &plan.deeds {
            lock().pauses();
            taking.slowest();
            let done = disturb(&cluster, &topic, plan, node, deed);
            let pauses = lock().pauses();
            let line = format!(
                "{deed:?} of node {node}: longest pause {pauses}, {:.1?} of them until Kafka had it; all well after {done:.1?}",
                taking.slowest()
            );
            println!("{line}");
            report.figure("", line);
        }
        is_over.store(true, Ordering::Relaxed);
        let written = writing.join().expect("the records are written");
        let is_whole = || {
            lock()
                .next
                .iter()
                .map(|(next, _)| *next)
                .eq(written.next.iter().copied())
        };
        while !is_whole() && lock().last.elapsed() < SILENCE {
            thread::sleep(millis(20));
        }
        if !is_whole() {
            report.wrong.push(format!(
                "what was written never came (nothing came for {SILENCE:?})"
            ));
        }
        drop(ending);
        written
    });
    let account = account.into_inner().unwrap_or_else(PoisonError::into_inner);
    let records: u32 = written.next.iter().sum();
    report.figure("records written", records);
    report.figure("records handed on", account.records);
    report.figure("lost", account.lost);
    report.figure("doubled", account.doubled);
    report.figure("seconds", format!("{:.1}", began.elapsed().as_secs_f64()));
    report.figure("troubles", format!("{:?}", status.counters().errors()));
    report.demand(
        account.lost + account.doubled == 0 && account.strange.is_empty(),
        format!(
            "{} lost, {} doubled, {:?}",
            account.lost, account.doubled, account.strange
        ),
    );
    report.demand(
        account.records == u64::from(records),
        format!("{} records handed on, not {records}", account.records),
    );
    report
}

/// Lets the daemon's reading thread begin.
fn read(
    cluster: &Cluster,
    topic: &str,
    plan: &Plan,
    status: &Arc<ReaderStatus>,
) -> (ReaderHandle, mpsc::Receiver<Feed>) {
    let (feed, feeds) = mpsc::channel(16);
    let connection = Connection {
        brokers: cluster.bootstrap(),
        client: Client::Librdkafka,
        isolation: Isolation::ReadCommitted,
        credentials: Credentials::default(),
        librdkafka: plan.properties.clone(),
        needs_headers: false,
        needs_librdkafka: None,
    };
    let topics = vec![TopicPlan {
        name: topic.into(),
        start: StartOffset::Earliest,
        feeds: vec![feed.into()],
    }];
    let reader = ReaderHandle::spawn(connection, topics, Arc::clone(status)).expect("a thread");
    (reader, feeds)
}

/// Does it, and waits until all is well again; returns how long that took.
fn disturb(cluster: &Cluster, topic: &str, plan: &Plan, node: usize, deed: Deed) -> Duration {
    let began = Instant::now();
    match deed {
        Deed::Kill => {
            cluster[node].kill9();
            cluster.await_moved(topic, node);
            cluster[node].restart();
        }
        Deed::Freeze(lasts) => {
            cluster[node].freeze();
            cluster.await_moved(topic, node);
            thread::sleep(lasts);
            cluster[node].thaw();
        }
        Deed::Restart => {
            cluster[node].stop();
            cluster.await_moved(topic, node);
            cluster[node].restart();
        }
    }
    cluster.await_calm(topic, plan.partitions.try_into().expect("few partitions"));
    began.elapsed()
}
