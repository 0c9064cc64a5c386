//! The promises of delivery, by simulation: two replicas that read the same topic in different
//! interleavings, clients that are cut off anywhere and come back to either, logs that forget,
//! retention and compaction. The real stream room, without network, sleeps or chance beyond the seed.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a model's offsets are small"
)]

use crate::harness::sse::{Event, Item, Parser};
use crate::harness::trial;
use crate::harness::wait::ensure;
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Format, Lag, Start, StreamSettings};
use kafka_sse_bridge::kafka::history::{Archive, Busy, Job, Question, Seat, Terms};
use kafka_sse_bridge::kafka::record::{Batch, Feed, Stamp};
use kafka_sse_bridge::stream::feed::Feeder;
use kafka_sse_bridge::stream::opening::Opening;
use kafka_sse_bridge::stream::stream::{Pace, Stream};
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use libtest_mimic::Trial;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a_log_client_gets_every_record_exactly_once_whatever_happens",
            || simulate(false),
        ),
        trial(
            "a_table_client_ends_with_the_latest_of_every_key_whatever_happens",
            || simulate(true),
        ),
    ]
}

const PARTITIONS: usize = 3;
const KEYS: u8 = 12;
const REPLICAS: usize = 2;
const CLIENTS: usize = 6;

/// What happens next.
#[derive(Clone, Debug)]
enum Op {
    /// So many records with keys from here on, some of them tombstones.
    Produce { partition: usize, keys: Vec<(u8, bool)> },
    /// A replica reads so many records of a partition.
    Read {
        replica: usize,
        partition: usize,
        count: usize,
    },
    /// A client takes at most so many events, then is cut off if it says so.
    Take {
        client: usize,
        count: usize,
        is_cut: bool,
    },
    /// A client goes to a replica, with the id it has.
    Go { client: usize, replica: usize },
    /// Records before this part of a partition go away.
    Retain { partition: usize, eighths: usize },
    /// All but the last record of each key go away from the older half of a partition.
    Compact { partition: usize },
    /// The history pool takes no more jobs, or does again.
    Busy { is_busy: bool },
    /// From now on the pool gives up its jobs after so many feeds, if any.
    Cut { after: Option<usize> },
    /// More time passes than anybody has patience with.
    Wait,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let partition = 0..PARTITIONS;
    let produce = (
        partition.clone(),
        prop::collection::vec((0..KEYS, prop::bool::weighted(0.2)), 1..20),
    )
        .prop_map(|(partition, keys)| Op::Produce { partition, keys });
    let read =
        (0..REPLICAS, partition.clone(), 1..25_usize).prop_map(|(replica, partition, count)| Op::Read {
            replica,
            partition,
            count,
        });
    let take = (0..CLIENTS, 1..40_usize, any::<bool>()).prop_map(|(client, count, is_cut)| Op::Take {
        client,
        count,
        is_cut,
    });
    let go = (0..CLIENTS, 0..REPLICAS).prop_map(|(client, replica)| Op::Go { client, replica });
    let retain =
        (partition.clone(), 0..8_usize).prop_map(|(partition, eighths)| Op::Retain { partition, eighths });
    let compact = partition.prop_map(|partition| Op::Compact { partition });
    let busy = any::<bool>().prop_map(|is_busy| Op::Busy { is_busy });
    let cut = prop::option::of(0..6_usize).prop_map(|after| Op::Cut { after });
    let op = prop_oneof![
        6 => produce, 8 => read, 6 => take, 4 => go, 2 => retain, 1 => compact, 1 => busy, 1 => cut,
        2 => Just(Op::Wait),
    ];
    prop::collection::vec(op, 10..120)
}

/// A partition of the model topic: records by offset, `None` where one has gone.
#[derive(Debug, Default)]
struct Partition {
    records: Vec<Option<(String, Option<String>)>>,
    low: usize,
}

type Topic = Arc<Mutex<Vec<Partition>>>;

fn push(batch: &mut Batch, partition: usize, offset: usize, record: &(String, Option<String>)) {
    // Time stands still, so that the order of a key's records across partitions does not matter here:
    // every key stays in one partition.
    let stamp = Stamp {
        partition: partition as u32,
        offset: offset as i64,
        timestamp: Some(1),
    };
    let (key, value) = record;
    batch.push(
        stamp,
        Some(key.as_bytes()),
        value.as_ref().map(String::as_bytes),
        std::iter::empty(),
    );
}

/// What a reader may hold: three records, for hardly any time.
const TERMS: Terms = Terms {
    window: 512,
    patience: Duration::from_millis(1),
};

/// History as Kafka would give it: what is there now, partition by partition, in small batches. One
/// job at a time has a seat.
#[derive(Debug, Clone)]
struct Model(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    topic: Topic,
    seats: Arc<Semaphore>,
    waiting: AtomicUsize,
    is_busy: AtomicBool,
    /// Jobs are given up after so many feeds.
    cut: AtomicUsize,
}

/// A job's seat, once it has one; `None` when that is given up.
type Held = Arc<Mutex<Option<Vec<OwnedSemaphorePermit>>>>;

impl Model {
    fn new(topic: &Topic) -> Self {
        Self(Arc::new(Pool {
            topic: Arc::clone(topic),
            seats: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            is_busy: AtomicBool::new(false),
            cut: AtomicUsize::new(usize::MAX),
        }))
    }

    /// Waits for a seat; false when it is not wanted any more.
    async fn sit(&self, job: &Job, held: &Held) -> bool {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        let permit = tokio::select! {
            permit = Arc::clone(&self.0.seats).acquire_owned() => permit.ok(),
            () = job.feed.closed() => None,
        };
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        let mut held = held.lock().unwrap();
        match (&mut *held, permit) {
            (Some(held), Some(permit)) => {
                held.push(permit);
                true
            }
            _ => false,
        }
    }

    /// What a job is told, as things are now.
    fn feeds(&self, job: &Job) -> Vec<Feed> {
        let (name, ranges) = job.topics[0].clone();
        let (mut next, mut low) = (Vec::new(), Vec::new());
        let mut batches = Vec::new();
        let partitions = self.0.topic.lock().unwrap();
        for (partition, (range, model)) in ranges.iter().zip(&*partitions).enumerate() {
            let from = range.from.max((model.low as i64).min(range.to)).max(0);
            next.push(from);
            low.push(model.low as i64);
            let mut batch = Batch::new(name.clone());
            for offset in from as usize..range.to.max(0) as usize {
                if let Some(Some(record)) = model.records.get(offset) {
                    push(&mut batch, partition, offset, record);
                }
                if batch.len() >= 7 {
                    batches.push(std::mem::replace(&mut batch, Batch::new(name.clone())));
                }
            }
            batches.push(batch);
        }
        let mut feeds = vec![Feed::Assigned {
            topic: name.clone(),
            next,
            low,
        }];
        feeds.extend(
            batches
                .into_iter()
                .filter(|batch| !batch.is_empty())
                .map(|batch| Feed::Records(Arc::new(batch))),
        );
        feeds.push(Feed::Loaded { topic: name });
        feeds
    }
}

impl Archive for Model {
    fn read(&self, job: Job) -> Result<Seat, Busy> {
        if self.0.is_busy.load(Ordering::Relaxed) {
            return Err(Busy);
        }
        let held: Held = Arc::new(Mutex::new(Some(Vec::new())));
        let seat = Seat::new(TERMS, {
            let held = Arc::clone(&held);
            move || drop(held.lock().unwrap().take())
        });
        let model = self.clone();
        tokio::spawn(async move {
            if !model.sit(&job, &held).await {
                return;
            }
            let count = model.0.cut.load(Ordering::Relaxed);
            for feed in model.feeds(&job).into_iter().take(count) {
                if job.feed.send(feed).await.is_err() {
                    return;
                }
            }
        });
        Ok(seat)
    }

    fn is_contended(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    fn ask(&self, _question: Question) -> Result<(), Busy> {
        Err(Busy)
    }

    fn lacks_times_and_headers(&self) -> bool {
        false
    }
}

struct Replica {
    stream: Arc<Stream>,
    feeder: Feeder,
    next: Vec<usize>,
}

impl Replica {
    fn new(model: &Model, has_table: bool) -> Self {
        let settings = StreamSettings {
            path: "/x".to_owned(),
            topics: vec!["t".to_owned()],
            start: if has_table {
                Start::Snapshot
            } else {
                Start::Earliest
            },
            format: Format::Envelope,
            // Some thirty records: resuming, conflation and replay happen all the time.
            log_bytes: Size(8 * 1024),
            delete_retention: Span::seconds(1_000_000_000_000),
            lag: Some(if has_table { Lag::Latest } else { Lag::Replay }),
            ..StreamSettings::default()
        };
        let pace = Pace {
            keepalive: Duration::from_secs(15),
            retry: Duration::from_secs(2),
            max_lifetime: Duration::ZERO,
        };
        let stream = Stream::new(settings, pace, Some(Arc::new(model.clone())));
        let mut replica = Self {
            feeder: Feeder::new(Arc::clone(&stream)),
            stream,
            next: vec![0; PARTITIONS],
        };
        let zeros = vec![0; PARTITIONS];
        replica.feeder.take(&Feed::Assigned {
            topic: "t".into(),
            next: zeros.clone(),
            low: zeros,
        });
        replica.feeder.take(&Feed::Loaded { topic: "t".into() });
        replica
    }

    fn read(&mut self, topic: &Topic, partition: usize, count: usize) {
        let partitions = topic.lock().unwrap();
        let model = &partitions[partition];
        let mut batch = Batch::new("t".into());
        let end = (self.next[partition] + count).min(model.records.len());
        for offset in self.next[partition]..end {
            if let Some(record) = &model.records[offset] {
                push(&mut batch, partition, offset, record);
            }
        }
        self.next[partition] = end;
        if !batch.is_empty() {
            self.feeder.take(&Feed::Records(Arc::new(batch)));
        }
    }
}

/// A browser that writes down what it is told.
#[derive(Default)]
struct Browser {
    connection: Option<(Subscription, Parser)>,
    pending: Vec<Event>,
    id: String,
    /// Offsets by partition, in order of arrival; gaps as ranges.
    seen: Vec<Vec<usize>>,
    gaps: Vec<(usize, usize, usize)>,
    table: BTreeMap<String, String>,
    caught_up: usize,
}

impl Browser {
    fn new() -> Self {
        Self {
            seen: vec![Vec::new(); PARTITIONS],
            ..Self::default()
        }
    }

    fn go(&mut self, replica: &Replica) {
        let last_event_id = Some(self.id.clone()).filter(|id| !id.is_empty());
        let opening = Opening {
            last_event_id,
            ..Opening::default()
        };
        self.connection = Some((replica.stream.subscribe(opening), Parser::new()));
        self.pending.clear();
        self.caught_up = 0;
    }

    /// The next event; `None` when there is nothing more for now.
    async fn next(&mut self) -> Option<Event> {
        // What waits for a replay goes on once its tasks have run; how often they have to is theirs.
        let mut idle = 0;
        while self.pending.is_empty() {
            let (subscription, parser) = self.connection.as_mut()?;
            match subscription.step(Instant::now()) {
                Step::Send(bytes) => {
                    for item in parser.feed(&bytes) {
                        match item {
                            Item::Event(event) => self.pending.push(event),
                            Item::Violation(what) => panic!("{what}"),
                            Item::Comment(_) | Item::Retry(_) => {}
                        }
                    }
                }
                Step::End => panic!("nobody ended this stream"),
                Step::Yield => {}
                Step::Wait(_) => {
                    idle += 1;
                    if idle > 200 {
                        return None;
                    }
                    let _ = subscription.wait(Context::from_waker(Waker::noop()).waker());
                    tokio::task::yield_now().await;
                }
            }
        }
        Some(self.pending.remove(0))
    }

    fn hear(&mut self, event: &Event) -> Result<(), String> {
        if event.own_id {
            self.id.clone_from(&event.id);
        }
        let data: Value = serde_json::from_str(&event.data).map_err(|error| error.to_string())?;
        let number = |name: &str| data[name].as_u64().map_or(0, |number| number as usize);
        let key = || data["key"].as_str().unwrap_or_default().to_owned();
        match event.name.as_str() {
            "message" | "delete" => {
                self.seen[number("partition")].push(number("offset"));
                match event.name.as_str() {
                    "delete" => self.table.remove(&key()),
                    _ => self.table.insert(key(), data["value"].to_string()),
                };
            }
            "gap" => self
                .gaps
                .push((number("partition"), number("from"), number("to"))),
            "caught-up" => {
                self.caught_up += 1;
                ensure(self.caught_up == 1, "caught-up comes once per connection")?;
            }
            "conflated" => ensure(number("skipped") > 0, "conflated skips something")?,
            other => return Err(format!("{other}: {}", event.data)),
        }
        Ok(())
    }

    async fn take(&mut self, count: usize) -> Result<(), String> {
        for _ in 0..count {
            match self.next().await {
                Some(event) => self.hear(&event)?,
                None => break,
            }
        }
        Ok(())
    }
}

fn simulate(has_table: bool) {
    let cases = ProptestConfig {
        cases: 300,
        // In milliseconds: a case that fails has waited for its promise.
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    };
    proptest!(cases, |(ops in ops())| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&ops, has_table)).map_err(TestCaseError::fail)?;
    });
}

#[expect(clippy::too_many_lines, reason = "an arm per operation")]
async fn run(ops: &[Op], has_table: bool) -> Result<(), String> {
    let topic: Topic = Arc::new(Mutex::new(
        (0..PARTITIONS).map(|_| Partition::default()).collect(),
    ));
    let model = Model::new(&topic);
    let mut replicas: Vec<Replica> = (0..REPLICAS).map(|_| Replica::new(&model, has_table)).collect();
    let mut browsers: Vec<Browser> = (0..CLIENTS).map(|_| Browser::new()).collect();
    let mut written: Vec<Vec<usize>> = vec![Vec::new(); PARTITIONS];
    let mut latest: BTreeMap<String, String> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Produce { partition, keys } => {
                let mut partitions = topic.lock().unwrap();
                let records = &mut partitions[*partition].records;
                for (key, is_tombstone) in keys {
                    // A key belongs to one partition, as a partitioner sees to.
                    let key = format!("{partition}-{key}");
                    let value = (!is_tombstone).then(|| format!("{{\"offset\":{}}}", records.len()));
                    match &value {
                        Some(value) => latest.insert(key.clone(), value.clone()),
                        None => latest.remove(&key),
                    };
                    written[*partition].push(records.len());
                    records.push(Some((key, value)));
                }
            }
            Op::Read {
                replica,
                partition,
                count,
            } => replicas[*replica].read(&topic, *partition, *count),
            Op::Take {
                client,
                count,
                is_cut,
            } => {
                browsers[*client].take(*count).await?;
                if *is_cut {
                    browsers[*client].connection = None;
                }
            }
            Op::Go { client, replica } => browsers[*client].go(&replicas[*replica]),
            Op::Retain { partition, eighths } => {
                // Not past what the replicas have read: they are readers that keep up.
                let read = replicas
                    .iter()
                    .map(|replica| replica.next[*partition])
                    .min()
                    .unwrap_or(0);
                let mut partitions = topic.lock().unwrap();
                let model = &mut partitions[*partition];
                model.low = model.low.max(read * eighths / 8);
                let low = model.low;
                model.records[..low].iter_mut().for_each(|record| *record = None);
            }
            Op::Compact { partition } if has_table => {
                let read = replicas
                    .iter()
                    .map(|replica| replica.next[*partition])
                    .min()
                    .unwrap_or(0);
                let mut partitions = topic.lock().unwrap();
                let records = &mut partitions[*partition].records;
                let last: BTreeMap<String, usize> = records
                    .iter()
                    .enumerate()
                    .filter_map(|(offset, record)| Some((record.as_ref()?.0.clone(), offset)))
                    .collect();
                for (offset, record) in records[..read].iter_mut().enumerate() {
                    if record.as_ref().is_some_and(|(key, _)| last[key] != offset) {
                        *record = None;
                    }
                }
            }
            Op::Compact { .. } => {}
            Op::Busy { is_busy } => model.0.is_busy.store(*is_busy, Ordering::Relaxed),
            Op::Cut { after } => {
                model.0.cut.store(after.unwrap_or(usize::MAX), Ordering::Relaxed);
            }
            Op::Wait => tokio::time::sleep(3 * TERMS.patience).await,
        }
    }
    model.0.is_busy.store(false, Ordering::Relaxed);
    model.0.cut.store(usize::MAX, Ordering::Relaxed);
    for replica in &mut replicas {
        for partition in 0..PARTITIONS {
            replica.read(&topic, partition, usize::MAX / 2);
        }
    }
    // One after the other, so that those who come later keep the first waiting.
    for (number, browser) in browsers.iter_mut().enumerate() {
        if browser.connection.is_none() {
            browser.go(&replicas[number % REPLICAS]);
        }
        let began = Instant::now();
        loop {
            browser.take(usize::MAX).await?;
            let outcome = is_whole(number, browser, has_table, &latest, &written);
            // Its turn may take a moment to come.
            if outcome.is_ok() || began.elapsed() > Duration::from_secs(5) {
                outcome?;
                break;
            }
            tokio::time::sleep(TERMS.patience).await;
        }
    }
    Ok(())
}

fn is_whole(
    number: usize,
    browser: &Browser,
    has_table: bool,
    latest: &BTreeMap<String, String>,
    written: &[Vec<usize>],
) -> Result<(), String> {
    ensure(
        browser.caught_up == 1,
        format!("client {number} has not caught up"),
    )?;
    if has_table {
        ensure(
            browser.table == *latest,
            format!("client {number} holds {:?}, not {latest:?}", browser.table),
        )
    } else {
        exactly_once(number, browser, written)
    }
}

/// Every record in order, once, but for those that a gap names, or that were gone before the client
/// ever asked for its partition.
fn exactly_once(number: usize, browser: &Browser, written: &[Vec<usize>]) -> Result<(), String> {
    for (partition, written) in written.iter().enumerate() {
        let seen = &browser.seen[partition];
        let is_named = |offset: &usize| {
            browser
                .gaps
                .iter()
                .any(|(at, from, to)| *at == partition && (*from..*to).contains(offset))
        };
        let first = seen.first().copied().unwrap_or(usize::MAX);
        let wanted: Vec<usize> = written
            .iter()
            .copied()
            .filter(|offset| *offset >= first && !is_named(offset))
            .collect();
        ensure(
            *seen == wanted,
            format!(
                "client {number}, partition {partition}: {seen:?}\nnot {wanted:?}, gaps {:?}",
                browser.gaps
            ),
        )?;
    }
    let total = json!(browser.gaps);
    ensure(
        browser.gaps.iter().all(|(_, from, to)| from < to),
        format!("{total}"),
    )
}
