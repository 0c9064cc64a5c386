//! The effect on the records of one topic of a thousand others, one of which appears, grows or is recreated: the longest
//! time in which none arrives. The reading thread runs in this process, without a daemon around it.

use crate::Options;
use crate::count::connection;
use crate::harness::broker::{Broker, topic_name};
use crate::harness::wait::wait_for;
use crate::measure::now;
use crate::report::{Table, at_most, figure};
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::kafka::record::Feed;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// From one record to the next. The reading thread hands records on that come so closely every 10 ms.
const PAUSE: Duration = Duration::from_millis(5);

/// Most milliseconds without one.
const MOST: f64 = 100.0;

/// How long the baseline is measured, and how long the effect of each change.
const WINDOW: Duration = Duration::from_secs(8);

const PATIENCE: Duration = Duration::from_secs(120);

/// Topics that one request creates.
const AT_ONCE: usize = 200;

/// A topic that was assigned or reset, and its number of partitions.
type Assigned = (String, usize);

/// Records delivered by the reading thread.
#[derive(Default)]
struct Seen {
    /// When each batch of the topic came that is written to.
    arrivals: Vec<u64>,
    assigned: Vec<Assigned>,
    loaded: usize,
}

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(1000, 50);
    let names: Vec<String> = (0..count).map(|_| topic_name("topics")).collect();
    create(broker, &names);
    let (written, grows, recreated, late) = (&names[0], &names[1], &names[2], topic_name("late"));
    let seen = Arc::<Mutex<Seen>>::default();
    let (feed, feeds) = mpsc::channel(1024);
    let plan = |name: &String| TopicPlan {
        name: name.as_str().into(),
        start: StartOffset::Earliest,
        feeds: vec![feed.clone().into()],
    };
    let plans = names.iter().chain([&late]).map(plan).collect();
    let taking = take(feeds, written.clone(), Arc::clone(&seen));
    let began = Instant::now();
    let reader =
        ReaderHandle::spawn(connection(&broker.bootstrap()), plans, Arc::default()).expect("a thread");
    drop(feed);
    until("all topics are loaded", || {
        seen.lock().expect("whole").loaded > count
    });
    let ready = began.elapsed();

    let ends = AtomicBool::new(false);
    let mut table = Table::new(&["", "longest pause, ms", "target"]);
    thread::scope(|scope| {
        scope.spawn(|| write(broker, written, &ends));
        let mut row = |what: &str, pause: f64| {
            table.row(&[what.to_owned(), figure(pause), at_most(pause, MOST)]);
        };
        row("nothing happens", pause_after(&seen, || {}, |_| true));
        row(
            "one appears",
            pause_after(
                &seen,
                || broker.create_topic(&late, 1, &[]),
                |seen| is_among(seen, &late, 1),
            ),
        );
        row(
            "one grows",
            pause_after(
                &seen,
                || broker.add_partitions(grows, 2),
                |seen| is_among(seen, grows, 2),
            ),
        );
        let recreate = || {
            broker.delete_topic(recreated);
            broker.create_topic(recreated, 3, &[]);
        };
        row(
            "one is recreated",
            pause_after(&seen, recreate, |seen| is_among(seen, recreated, 3)),
        );
        ends.store(true, Ordering::Relaxed);
    });
    table.print(&format!(
        "topics: a record every {PAUSE:?} to one of {count} topics, which were ready after {ready:.1?}"
    ));
    let _ = reader.stop().join();
    taking.join().expect("all is taken");
}

/// Creates topics of one partition.
pub fn create(broker: &Broker, names: &[String]) {
    let admin: AdminClient<DefaultClientContext> = broker.client().create().expect("a client");
    for some in names.chunks(AT_ONCE) {
        let topics: Vec<NewTopic<'_>> = some
            .iter()
            .map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1)))
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let created = wait_for(admin.create_topics(&topics, &options)).expect("an answer");
        for topic in created {
            topic.unwrap_or_else(|(name, code)| panic!("{name}: {code}"));
        }
    }
}

fn take(mut feeds: mpsc::Receiver<Feed>, written: String, seen: Arc<Mutex<Seen>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while let Some(feed) = feeds.blocking_recv() {
            let mut seen = seen.lock().expect("whole");
            match feed {
                Feed::Records(batch) if **batch.topic() == *written => seen.arrivals.push(now()),
                Feed::Records(_)
                | Feed::Recreated { .. }
                | Feed::Begun { .. }
                | Feed::Truncated { .. }
                | Feed::AtEnd { .. } => {}
                Feed::Assigned { topic, next, .. } => seen.assigned.push((topic.to_string(), next.len())),
                Feed::Loaded { .. } => seen.loaded += 1,
            }
        }
    })
}

fn write(broker: &Broker, topic: &str, ends: &AtomicBool) {
    let mut client = broker.client();
    client.set("linger.ms", "0").set("socket.nagle.disable", "true");
    let producer: BaseProducer = client.create().expect("a producer");
    while !ends.load(Ordering::Relaxed) {
        let record = BaseRecord::<str, str>::to(topic).payload("x").partition(0);
        producer
            .send(record)
            .unwrap_or_else(|(error, _)| panic!("{error}"));
        producer.poll(Duration::ZERO);
        thread::sleep(PAUSE);
    }
}

/// The longest pause from when something is done until a while after it was seen.
fn pause_after(seen: &Mutex<Seen>, act: impl FnOnce(), is_seen: impl Fn(&[Assigned]) -> bool) -> f64 {
    seen.lock().expect("whole").assigned.clear();
    let from = now();
    act();
    until("it is seen", || is_seen(&seen.lock().expect("whole").assigned));
    thread::sleep(WINDOW);
    longest_pause(&seen.lock().expect("whole").arrivals, from)
}

fn is_among(assigned: &[Assigned], name: &str, partitions: usize) -> bool {
    let mut assigned = assigned.iter();
    assigned.any(|(topic, count)| topic == name && *count == partitions)
}

/// The longest time between two arrivals, in milliseconds.
fn longest_pause(arrivals: &[u64], from: u64) -> f64 {
    let since: Vec<u64> = arrivals.iter().copied().filter(|&time| time >= from).collect();
    let pauses = since.windows(2).map(|pair| pair[1] - pair[0]);
    pauses.max().map_or(f64::NAN, |pause| pause as f64 / 1e6)
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
