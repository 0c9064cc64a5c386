//! The history pool: replays and offset lookups, over a scripted Kafka and on real brokers.

mod brokers;
mod lookups;
mod queue;
mod quotas;

use crate::harness::wait::secs;
use crate::scripted::{self, BROKERS, Pool};
use kafka_sse_bridge::kafka::error::KafkaError;
use kafka_sse_bridge::kafka::history::fair_queue::Flow;
use kafka_sse_bridge::kafka::history::quota::{QuotaLimits, ReplayQuota};
use kafka_sse_bridge::kafka::history::{
    Archive, Busy, History, LookupUnsupported, OffsetLookup, OffsetRange, OffsetSpec, Offsets, Payer,
    ReplayRequest, ReplaySlot,
};
use kafka_sse_bridge::kafka::record::Feed;
use libtest_mimic::Trial;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc as std_mpsc};
use tokio::sync::mpsc;

pub fn trials() -> Vec<Trial> {
    let mut trials = lookups::trials();
    trials.extend(queue::trials());
    trials.extend(quotas::trials());
    trials.extend(brokers::trials());
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
    /// Lookups, and replays that begin, block until this is cleared.
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
        let mut script = self.answer();
        script.looks += 1;
        script.ends.len()
    }

    fn ends(&self) -> Vec<i64> {
        self.answer().ends.clone()
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
    /// The script, once it is not held.
    fn answer(&self) -> MutexGuard<'_, Script> {
        let held = self.script.lock().unwrap();
        self.change.wait_while(held, |script| script.is_held).unwrap()
    }

    fn is_silent(&self) -> bool {
        let script = self.script.lock().unwrap();
        script.is_silent && script.connects == 1
    }
}

struct Rig {
    kafka: Arc<Kafka>,
    history: Pool,
    quota: Arc<ReplayQuota>,
}

impl Rig {
    fn new(script: Script) -> Self {
        Self::within(script, QuotaLimits::default())
    }

    fn within(script: Script, limits: QuotaLimits) -> Self {
        let quota = Arc::new(ReplayQuota::new(limits));
        let kafka = Arc::new(Kafka {
            script: Mutex::new(script),
            ..Kafka::default()
        });
        Self {
            history: Pool::over(&kafka, Arc::clone(&quota)),
            kafka,
            quota,
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

fn job(flow: Flow, to: i64) -> (ReplayRequest, mpsc::Receiver<Feed>) {
    let (feed, feeds) = mpsc::channel(1);
    let range = OffsetRange { from: 0, to };
    let job = ReplayRequest {
        flow,
        payer: Arc::new(Payer::new(flow)),
        topics: vec![("t".into(), vec![range])],
        feed,
    };
    (job, feeds)
}
