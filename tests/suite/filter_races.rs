//! Filtered readers beside a writer on another thread: none misses a record that comes while it joins, or a
//! wake while it goes to sleep.

use crate::harness::sse::{Event, Item, Parser};
use crate::rig::{Rec, Rig, filter, rec};
use crate::trials;
use kafka_sse_bridge::config::{Start, StreamSettings};
use kafka_sse_bridge::stream::Stream;
use kafka_sse_bridge::stream::position::Position;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use libtest_mimic::Trial;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    trials![
        a_filtered_client_that_joins_between_records_misses_none,
        a_filtered_client_that_sleeps_between_records_is_woken,
    ]
}

/// Every third record matches the client's filter. The value of each record is its offset.
fn record(number: i64) -> Rec {
    let is_mine = number % 3 == 0;
    let key = if is_mine { "mine" } else { "other" };
    // As many members as there are paths that come and go.
    let more: Vec<String> = (0..PATHS)
        .map(|path| format!("\"m{path}\":{{\"x\":{is_mine}}}"))
        .collect();
    let more = more.join(",");
    rec(key, format!("{{\"mine\":{is_mine},\"n\":{number},{more}}}"))
}

const PATHS: usize = 12;

fn open(stream: &Arc<Stream>, term: (&str, &str)) -> Subscription {
    let topics = stream.settings().topics.clone();
    stream.subscribe(Opening {
        filter: Some(filter(&[term], &topics).expect("a filter")),
        ..Opening::default()
    })
}

/// The offset in the value of a record.
fn number(event: &Event) -> i64 {
    event.json()["n"].as_i64().expect("a number")
}

const TERMS: [(&str, &str); 3] = [("key", "mine"), ("value.mine", "true"), ("partition", "0")];

fn a_filtered_client_that_joins_between_records_misses_none() {
    let table = |settings: &mut StreamSettings| settings.start = Start::Snapshot;
    for (round, mut rig) in [Rig::ready(|_| {}), Rig::ready(table)].into_iter().enumerate() {
        let stream = Arc::clone(&rig.stream);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = thread::spawn(move || {
            let mut next = 0;
            while !stopped.load(Ordering::Relaxed) {
                let count = 1 + next % 5;
                rig.records(&(next..next + count).map(record).collect::<Vec<_>>());
                next += count;
            }
        });
        for client in 0..600 {
            let path = format!("value.m{}.x", client % PATHS);
            let term = match client % 4 {
                3 => (path.as_str(), "true"),
                index => TERMS[index],
            };
            let stride = if term.0 == "partition" { 1 } else { 3 };
            let mut subscription = open(&stream, term);
            let (mut parser, mut place, mut left) = (Parser::new(), None, 3);
            while left > 0 {
                let Step::Send(bytes) = subscription.step(Instant::now()) else {
                    thread::yield_now();
                    continue;
                };
                for item in parser.feed(&bytes) {
                    match item {
                        Item::Event(event) if event.is("caught-up") => {
                            let at = Position::parse(event.id.as_bytes()).expect("a position");
                            place = Some(at.topics[0].next[0]);
                        }
                        Item::Event(event) if event.is("message") => {
                            // Before it has caught up, rows of the table come in no such order.
                            if let Some(place) = &mut place {
                                let wanted = (*place + stride - 1) / stride * stride;
                                assert_eq!(number(&event), wanted, "{term:?} in round {round}");
                                *place = wanted + 1;
                                left = i32::max(left - 1, 0);
                            }
                        }
                        Item::Event(event) => panic!("{event:?}"),
                        _ => {}
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends");
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Sleeps while idle, and counts the records that it receives.
fn sleeper(mut subscription: Subscription, shown: &AtomicUsize, stop: &AtomicBool) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    // The clock does not advance, so that only a wake ends a sleep.
    let now = Instant::now();
    let mut parser = Parser::new();
    while !stop.load(Ordering::SeqCst) {
        match subscription.step(now) {
            Step::Send(bytes) => {
                let items = parser.feed(&bytes);
                let records = items
                    .iter()
                    .filter(|item| matches!(item, Item::Event(event) if event.is("message")));
                shown.fetch_add(records.count(), Ordering::SeqCst);
            }
            Step::Wait(_) => {
                if subscription.wait(&waker) {
                    thread::park();
                }
            }
            Step::Yield => {}
            Step::End => return,
        }
    }
}

fn a_filtered_client_that_sleeps_between_records_is_woken() {
    const CLIENTS: usize = 3;
    let mut rig = Rig::ready(|_| {});
    let shown: Arc<[AtomicUsize]> = (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let spawn = |client: usize| {
        let mut subscription = open(&rig.stream, TERMS[client % 2]);
        // It begins when it is first driven.
        while !matches!(subscription.step(Instant::now()), Step::Wait(_)) {}
        let (shown, stop) = (Arc::clone(&shown), Arc::clone(&stop));
        thread::spawn(move || sleeper(subscription, &shown[client], &stop))
    };
    let threads: Vec<_> = (0..CLIENTS).map(spawn).collect();
    for round in 1..=5000 {
        rig.records(&[rec("other", "{}"), record(0)]);
        // The next round must not wake clients that this one did not.
        let began = Instant::now();
        while shown.iter().any(|shown| shown.load(Ordering::SeqCst) < round) {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "asleep in round {round}: {shown:?}"
            );
            thread::yield_now();
        }
    }
    stop.store(true, Ordering::SeqCst);
    for thread in threads {
        thread.thread().unpark();
        thread.join().expect("a client ends");
    }
}
