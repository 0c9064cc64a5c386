//! The history pool: replays and offset lookups, over a scripted Kafka and on real brokers.

use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::produce::Message;
use crate::harness::wait::{ensure, eventually, secs};
use crate::harness::{on_broker, on_each_broker};
use crate::scripted::{self, BROKERS, Pool};
use crate::trials;
use kafka_sse_bridge::config::{Client, Isolation};
use kafka_sse_bridge::kafka::connection::Connection;
use kafka_sse_bridge::kafka::error::KafkaError;
use kafka_sse_bridge::kafka::history::fair_queue::{FairQueue, Flow, MAX_OVERTAKEN};
use kafka_sse_bridge::kafka::history::{
    Archive, Busy, History, LookupUnsupported, OffsetLookup, OffsetRange, OffsetSpec, Offsets, ReplayRequest,
    ReplaySlot,
};
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::kafka::reader_status::ReaderStatus;
use kafka_sse_bridge::kafka::record::Feed;
use kafka_sse_bridge::kafka::security::Credentials;
use kafka_sse_bridge::kafka::status::KafkaStatus;
use libtest_mimic::Trial;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc as std_mpsc};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        a_lookup_returns_the_requested_offset_of_each_partition,
        a_lookup_is_retried_until_a_broker_answers,
        a_lookup_is_dropped_when_no_reader_waits_for_it,
        a_lookup_does_not_wait_for_replays,
        a_freed_slot_goes_to_the_replay_that_waits,
        a_flow_that_queues_many_replays_delays_its_own,
        a_flow_that_fills_the_queue_loses_its_last_replay,
        cheap_work_overtakes_costly_work_a_bounded_number_of_times,
        a_replay_that_receives_nothing_continues_with_another_client,
        a_replay_whose_slot_is_dropped_is_not_read,
        waiting_lookups_are_bounded,
        a_lookup_says_whether_its_reply_will_be_fresh,
        a_lookup_that_the_client_library_does_not_support_fails_at_once,
        a_lookup_is_repeated_where_a_partition_seems_to_be_missing,
    ];
    trials.extend(on_each_broker(offsets_are_found_by_time_with_librdkafka));
    trials.push(on_broker(
        Version::V3_9,
        the_kafka_crate_finds_ends_and_reports_that_it_finds_no_times,
    ));
    trials
}

/// A scripted Kafka, shared by the sources built over it.
#[derive(Default)]
struct Script {
    ends: Vec<i64>,
    /// Connecting fails so many times.
    unreachable: usize,
    connects: usize,
    /// How often partitions were counted.
    looks: usize,
    knows_no_times: bool,
    /// The first client receives no records and no end.
    is_silent: bool,
    /// Lookups block until this is cleared.
    is_held: bool,
}

#[derive(Default)]
struct Kafka {
    script: Mutex<Script>,
    change: Condvar,
}

impl scripted::Kafka for Kafka {
    fn answers(&self) -> bool {
        let mut script = self.script.lock().unwrap();
        script.connects += 1;
        let answers = script.unreachable == 0;
        script.unreachable = script.unreachable.saturating_sub(1);
        answers
    }

    fn partitions(&self) -> usize {
        let held = self.script.lock().unwrap();
        let mut script = self.change.wait_while(held, |script| script.is_held).unwrap();
        script.looks += 1;
        script.ends.len()
    }

    fn ends(&self) -> Vec<i64> {
        self.script.lock().unwrap().ends.clone()
    }

    fn offsets_at(&self, times: &[Option<i64>]) -> Result<Vec<Option<i64>>, KafkaError> {
        if self.script.lock().unwrap().knows_no_times {
            return Err(KafkaError::unsupported(
                &BROKERS.into(),
                "it knows no times",
                "take the other",
            ));
        }
        Ok(times.to_vec())
    }

    /// A megabyte, so that a channel is soon full.
    fn values(&self, _next: i64) -> Vec<Vec<u8>> {
        if self.is_silent() {
            return Vec::new();
        }
        vec![vec![b'x'; 1 << 20]]
    }

    fn is_at_end(&self) -> bool {
        !self.is_silent()
    }
}

impl Kafka {
    fn is_silent(&self) -> bool {
        let script = self.script.lock().unwrap();
        script.is_silent && script.connects == 1
    }
}

struct Rig {
    kafka: Arc<Kafka>,
    history: Pool,
}

impl Rig {
    fn new(script: Script) -> Self {
        let kafka = Arc::new(Kafka {
            script: Mutex::new(script),
            ..Kafka::default()
        });
        Self {
            history: Pool::over(&kafka),
            kafka,
        }
    }

    /// Begins to read up to an offset.
    fn read(&self, to: i64) -> (ReplaySlot, mpsc::Receiver<Feed>) {
        self.read_for(Flow::default(), to)
    }

    fn read_for(&self, flow: Flow, to: i64) -> (ReplaySlot, mpsc::Receiver<Feed>) {
        let (job, feeds) = job(flow, to);
        (self.history.replay(job).expect("the queue is not full"), feeds)
    }

    fn script<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        let result = act(&mut self.kafka.script.lock().unwrap());
        self.kafka.change.notify_all();
        result
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // No thread of the pool ends before.
        self.script(|script| script.is_held = false);
    }
}

/// A lookup that is waited for.
struct Asked {
    is_started: Arc<AtomicBool>,
    wanted: Arc<()>,
    answers: std_mpsc::Receiver<Result<Offsets, LookupUnsupported>>,
}

impl Asked {
    fn answer(&self) -> Result<Offsets, LookupUnsupported> {
        self.answers.recv_timeout(secs(30)).expect("an answer")
    }

    fn is_started(&self) -> bool {
        self.is_started.load(Ordering::SeqCst)
    }
}

fn ask(history: &History, topic: &str, asks: &[OffsetSpec]) -> Result<Asked, Busy> {
    let (sender, answers) = std_mpsc::channel();
    let (is_started, wanted) = (Arc::new(AtomicBool::new(false)), Arc::new(()));
    history.look_up(OffsetLookup {
        topics: vec![(topic.into(), asks.to_vec())],
        is_started: Arc::clone(&is_started),
        wanted: Arc::downgrade(&wanted),
        reply: Box::new(move |answer| drop(sender.send(answer))),
    })?;
    Ok(Asked {
        is_started,
        wanted,
        answers,
    })
}

fn a_lookup_returns_the_requested_offset_of_each_partition() {
    let rig = Rig::new(Script {
        ends: vec![10, 20, 30, 40],
        ..Script::default()
    });
    let asks = [
        OffsetSpec::Latest,
        OffsetSpec::Skip,
        OffsetSpec::Timestamp(7),
        OffsetSpec::Latest,
    ];
    let asked = ask(&rig.history, "t", &asks).expect("the queue is not full");
    assert_eq!(asked.answer(), Ok(vec![vec![Some(10), None, Some(7), Some(40)]]));
    let nothing = ask(&rig.history, "t", &[OffsetSpec::Skip; 2]).expect("the queue is not full");
    assert_eq!(nothing.answer(), Ok(vec![vec![None, None]]));
}

fn a_lookup_is_retried_until_a_broker_answers() {
    let rig = Rig::new(Script {
        ends: vec![10],
        unreachable: 3,
        ..Script::default()
    });
    let asked = ask(&rig.history, "t", &[OffsetSpec::Latest]).expect("the queue is not full");
    assert_eq!(asked.answer(), Ok(vec![vec![Some(10)]]));
    assert!(asked.is_started());
    assert_eq!(rig.script(|script| script.connects), 4);
}

fn a_lookup_is_dropped_when_no_reader_waits_for_it() {
    let rig = Rig::new(Script {
        unreachable: usize::MAX,
        ..Script::default()
    });
    let asked = ask(&rig.history, "t", &[OffsetSpec::Latest]).expect("the queue is not full");
    eventually(secs(20), "it is asked again", || {
        ensure(rig.script(|script| script.connects) >= 2, "not yet")
    });
    drop(asked.wanted);
    // The lookup is dropped, and with it our sender.
    assert_eq!(
        asked.answers.recv_timeout(secs(30)),
        Err(std_mpsc::RecvTimeoutError::Disconnected)
    );
}

fn job(flow: Flow, to: i64) -> (ReplayRequest, mpsc::Receiver<Feed>) {
    let (feed, feeds) = mpsc::channel(1);
    let range = OffsetRange { from: 0, to };
    let job = ReplayRequest {
        flow,
        topics: vec![("t".into(), vec![range])],
        feed,
    };
    (job, feeds)
}

fn a_replay_that_receives_nothing_continues_with_another_client() {
    let rig = Rig::new(Script {
        ends: vec![3],
        is_silent: true,
        ..Script::default()
    });
    let (_slot, mut feeds) = rig.read(3);
    let mut offsets = Vec::new();
    eventually(secs(90), "all is read", || match feeds.try_recv() {
        Ok(Feed::Loaded { .. }) => Ok(()),
        Ok(Feed::Records(batch)) => {
            offsets.extend(batch.iter().map(|record| record.offset));
            Err("more is to come")
        }
        _ => Err("nothing comes"),
    });
    assert_eq!(offsets, [0, 1, 2]);
    assert_eq!(rig.script(|script| script.connects), 2);
}

fn a_lookup_does_not_wait_for_replays() {
    let rig = Rig::new(Script {
        ends: vec![1000],
        ..Script::default()
    });
    // Their records are not consumed, so that every reading thread is busy, and others wait.
    let replays: Vec<(ReplaySlot, mpsc::Receiver<Feed>)> = (0..12).map(|_| rig.read(1000)).collect();
    eventually(secs(20), "replays run", || {
        let running = replays.iter().filter(|(_, feeds)| feeds.len() == 1).count();
        ensure(running == 4, format!("{running}"))
    });
    for _ in 0..20 {
        let asked = ask(&rig.history, "t", &[OffsetSpec::Latest]).expect("the queue is not full");
        assert_eq!(asked.answer(), Ok(vec![vec![Some(1000)]]));
    }
}

/// Takes everything; true at the end of the range.
fn read_all(mut feeds: mpsc::Receiver<Feed>) -> bool {
    let mut is_loaded = false;
    while let Some(feed) = feeds.blocking_recv() {
        is_loaded |= matches!(feed, Feed::Loaded { .. });
    }
    is_loaded
}

fn a_freed_slot_goes_to_the_replay_that_waits() {
    let rig = Rig::new(Script {
        ends: vec![1000],
        ..Script::default()
    });
    // Read to their ends, but held on to.
    let mut held = Vec::new();
    for _ in 0..8 {
        let (slot, feeds) = rig.read(2);
        assert!(read_all(feeds));
        held.push(slot);
    }
    assert!(!rig.history.is_contended());
    let (_ninth, feeds) = rig.read(2);
    let (tenth, _feeds) = rig.read(2);
    assert!(rig.history.is_contended());
    drop(held.pop());
    assert!(read_all(feeds));
    assert!(rig.history.is_contended(), "the tenth waits");
    assert_eq!(rig.script(|script| script.connects), 9);
    drop(tenth);
    assert!(!rig.history.is_contended());
}

/// As 70 clients of one address do that read nothing, at distinct places.
fn a_flow_that_queues_many_replays_delays_its_own() {
    let rig = Rig::new(Script {
        ends: vec![1000],
        ..Script::default()
    });
    let hog = Flow(1);
    let mut held = Vec::new();
    for _ in 0..8 {
        let (slot, feeds) = rig.read_for(hog, 2);
        assert!(read_all(feeds));
        held.push(slot);
    }
    let mut waiting: Vec<_> = (0..62).map(|_| rig.read_for(hog, 2)).collect();
    let (_other, feeds) = rig.read_for(Flow(2), 1000);
    eventually(secs(20), "the eight have ended, and the others wait", || {
        ensure(rig.history.load() == (0, 63), "not yet")
    });
    drop(held.pop());
    eventually(secs(20), "the freed slot is taken", || {
        ensure(rig.history.load() == (1, 62), "not yet")
    });
    for (_, feeds) in &mut waiting {
        assert!(feeds.try_recv().is_err(), "it is not for the flow that has seven");
    }
    drop(feeds);
}

fn a_flow_that_fills_the_queue_loses_its_last_replay() {
    let rig = Rig::new(Script {
        unreachable: usize::MAX,
        ..Script::default()
    });
    let hog = Flow(1);
    let mut jobs = Vec::new();
    while let Ok(slot) = {
        let (job, feeds) = job(hog, 2);
        rig.history.replay(job).map(|slot| (slot, feeds))
    } {
        jobs.push(slot);
        assert!(jobs.len() < 5000, "there is a bound");
    }
    let (job, feeds) = job(Flow(2), 2);
    let slot = rig.history.replay(job).expect("a place for one more flow");
    let (_, last) = jobs.last_mut().expect("many");
    assert_eq!(
        last.try_recv().err(),
        Some(mpsc::error::TryRecvError::Disconnected),
        "the last of the flow that has most gives way"
    );
    drop((slot, feeds));
}

fn cheap_work_overtakes_costly_work_a_bounded_number_of_times() {
    let mut queue = FairQueue::default();
    let (one, other) = (Flow(1), Flow(2));
    let long = queue.push(one, u64::MAX, "long");
    queue.push(one, 5000, "middle");
    queue.push(one, 10, "short");
    queue.push(other, 1_000_000, "other");
    let next = |queue: &mut FairQueue<&'static str>| queue.pop().map(|(_, work)| work);
    assert_eq!(next(&mut queue), Some("short"));
    assert_eq!(
        next(&mut queue),
        Some("other"),
        "the flow that has nothing under way"
    );
    queue.done(other);
    assert_eq!(next(&mut queue), Some("middle"), "no other waits");
    queue.done(one);
    queue.done(one);
    // Short ones keep coming.
    let mut passed = 0;
    loop {
        queue.push(one, 0, "short");
        queue.push(other, 0, "other");
        let (number, work) = queue.pop().expect("work");
        queue.done(if work == "other" { other } else { one });
        if number == long {
            break;
        }
        passed += u64::from(work == "short");
        assert!(passed <= MAX_OVERTAKEN);
    }
    assert!(passed > 10, "{passed}");
    assert_eq!(queue.remove(one, long), None);
    let waits = queue.len();
    assert_eq!(queue.clear().len(), waits);
    assert!(queue.is_empty());
}

fn a_replay_whose_slot_is_dropped_is_not_read() {
    let rig = Rig::new(Script {
        ends: vec![1000],
        ..Script::default()
    });
    // All threads are taken.
    let mut replays: Vec<_> = (0..4).map(|_| rig.read(1000)).collect();
    let (fifth, fifth_feeds) = rig.read(2);
    let (_sixth, sixth_feeds) = rig.read(2);
    eventually(secs(20), "others wait", || {
        ensure(rig.history.is_contended(), "not yet")
    });
    drop(fifth);
    assert!(!read_all(fifth_feeds), "it is let go, unread");
    replays.pop();
    assert!(read_all(sixth_feeds));
}

fn waiting_lookups_are_bounded() {
    let rig = Rig::new(Script {
        unreachable: usize::MAX,
        ..Script::default()
    });
    let asked: Vec<Asked> = std::iter::from_fn(|| ask(&rig.history, "t", &[OffsetSpec::Latest]).ok())
        .take(2000)
        .collect();
    // Those that are being asked just now do not wait.
    assert!((1024..1030).contains(&asked.len()), "{}", asked.len());
    drop(asked);
    eventually(secs(20), "the queue is no longer full", || {
        ask(&rig.history, "t", &[OffsetSpec::Latest]).map(drop)
    });
}

fn a_lookup_says_whether_its_reply_will_be_fresh() {
    let rig = Rig::new(Script {
        ends: vec![10],
        is_held: true,
        ..Script::default()
    });
    let asked: Vec<Asked> = (0..4)
        .map(|_| ask(&rig.history, "t", &[OffsetSpec::Latest]).expect("the queue is not full"))
        .collect();
    let is_started = |from: usize| asked[from..].iter().filter(|asked| asked.is_started()).count();
    eventually(secs(20), "two are asked at once", || {
        ensure(is_started(0) == 2, format!("{}", is_started(0)))
    });
    assert_eq!(is_started(2), 0, "the first come first");
    rig.script(|script| {
        script.ends[0] = 11;
        script.is_held = false;
    });
    for asked in &asked {
        assert_eq!(asked.answer(), Ok(vec![vec![Some(11)]]));
        assert!(asked.is_started());
    }
}

fn a_lookup_that_the_client_library_does_not_support_fails_at_once() {
    let rig = Rig::new(Script {
        ends: vec![10, 20],
        knows_no_times: true,
        ..Script::default()
    });
    let asked = ask(&rig.history, "t", &[OffsetSpec::Latest, OffsetSpec::Timestamp(1)])
        .expect("the queue is not full");
    assert_eq!(
        asked.answer(),
        Err(LookupUnsupported("it knows no times; take the other".to_owned()))
    );
    assert_eq!(rig.script(|script| script.connects), 1);
}

fn a_lookup_is_repeated_where_a_partition_seems_to_be_missing() {
    let rig = Rig::new(Script {
        ends: vec![10],
        ..Script::default()
    });
    let asked =
        ask(&rig.history, "t", &[OffsetSpec::Latest, OffsetSpec::Latest]).expect("the queue is not full");
    eventually(secs(20), "it is asked", || {
        ensure(rig.script(|script| script.looks) > 0, "not yet")
    });
    // A broker that has just come up: it knows the other partition a moment later.
    rig.script(|script| script.ends.push(20));
    assert_eq!(asked.answer(), Ok(vec![vec![Some(10), Some(20)]]));
    // One that stays away is believed in the end.
    let asked = ask(
        &rig.history,
        "t",
        &[OffsetSpec::Latest, OffsetSpec::Latest, OffsetSpec::Latest],
    )
    .expect("the queue is not full");
    assert_eq!(asked.answer(), Ok(vec![vec![Some(10), Some(20), None]]));
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
    let tails = KafkaStatus::default();
    tails.set(vec![Arc::clone(status)]);
    Pool::new(History::new(connection, Arc::new(tails)))
}

/// The offsets that it finds for a topic.
fn told(pool: &Pool, topic: &str, asks: &[OffsetSpec]) -> Result<Vec<Option<i64>>, LookupUnsupported> {
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
    let all = |ask: OffsetSpec| told(&pool, &topic, &[ask; 4]);
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
        told(&pool, &topic, &mixed),
        Ok(vec![Some(0), None, Some(0), Some(2)])
    );
    // Records deleted by retention are not found; new ones are.
    broker.delete_records(&topic, 0, 3);
    broker.produce(&topic, &[at(2, 70)]);
    assert_eq!(all(OffsetSpec::Timestamp(base)), offsets([3, 0, 0, 0]));
    assert_eq!(all(OffsetSpec::Latest), offsets([6, 1, 1, 4]));
    // A partition and a topic that do not exist, which is not created by asking.
    assert_eq!(
        told(&pool, &topic, &[OffsetSpec::Latest; 5]),
        Ok(vec![Some(6), Some(1), Some(1), Some(4), None])
    );
    let no_topic = topic_name("none");
    assert_eq!(
        told(
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
            told(&pool, &topic, &[OffsetSpec::Latest; 2]),
            Ok(vec![Some(0), Some(3)])
        );
        let Err(LookupUnsupported(why)) =
            told(&pool, &topic, &[OffsetSpec::Timestamp(0), OffsetSpec::Latest])
        else {
            panic!("it knows times")
        };
        assert!(why.ends_with("set client = \"librdkafka\" in [kafka]"), "{why}");
        // Known from the tail, too, once that has chosen.
        let (feed, mut feeds) = mpsc::channel(16);
        let plan = TopicPlan {
            name: topic.as_str().into(),
            start: StartOffset::Earliest,
            feeds: vec![feed.into()],
        };
        let tail = ReaderHandle::spawn(connection(broker, client), vec![plan], Arc::clone(&status))
            .expect("a thread");
        assert!(feeds.blocking_recv().is_some());
        assert!(pool.lacks_times_and_headers());
        drop(feeds);
        assert!(tail.stop().join().is_ok());
    }
}
