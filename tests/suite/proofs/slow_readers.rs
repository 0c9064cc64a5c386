//! Some clients stop reading for a while, one after the other. The others must not be delayed, the daemon's memory must
//! not grow with the records that the stalled ones miss, and these must get them when they read again: every record
//! (`lag = "replay"`), or the right table (`lag = "latest"`).

use super::readers::{Promise, Reader, Readers};
use super::writer::{Shape, Writer};
use super::{Report, launch};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::memory::{mebibytes, peak, reset_peak, resident};
use crate::harness::wait::{block_on, millis, secs};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

/// The two streams of the topic: of every record, and of a table.
const ALL: &str = "/all";
const TABLE: &str = "/table";

/// A slow client's own buffer, so that the daemon feels the stall at once.
const RECEIVE_BUFFER: usize = 4096;

/// The most by which the daemon's memory may grow from the stall's beginning to the end.
const MOST_GROWTH: u64 = 64 << 20;

/// How much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// The daemon's `http.delivery`.
    pub delivery: &'static str,
    /// Half of them on each stream.
    pub clients: usize,
    /// How many of these stop reading: half of them on each stream.
    pub slow: usize,
    pub partitions: u32,
    pub keys: u32,
    /// Records a second, at most.
    pub rate: u32,
    /// How many records the writer may be ahead of the fast clients, where these must not fall
    /// behind however busy the machine is.
    pub ahead: Option<u32>,
    /// Bytes of a value.
    pub bytes: usize,
    pub log_bytes: String,
    /// How long the daemon waits for a client that takes nothing.
    pub write_timeout: Option<String>,
    /// Records until measuring begins, before the stall, during the stall and after it.
    pub records: [u32; 4],
    /// The most by which the 99th percentile of the others' latency may grow in the stall.
    pub most_latency: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Warming,
    Before,
    Stalled,
    After,
}

const PHASES: [Phase; 4] = [Phase::Warming, Phase::Before, Phase::Stalled, Phase::After];

/// The progress of the run, shared by its threads.
struct Progress<'a> {
    plan: &'a Plan,
    written: AtomicU32,
    /// The number of records that every fast client has.
    seen: AtomicU32,
    is_done: AtomicBool,
}

impl Progress<'_> {
    fn phase(&self) -> Phase {
        let mut left = self.written.load(Ordering::Relaxed);
        for (phase, length) in PHASES.into_iter().zip(self.plan.records) {
            if left < length {
                return phase;
            }
            left -= length;
        }
        Phase::After
    }

    /// Whether the writer has to wait.
    fn is_ahead(&self) -> bool {
        let lead = || {
            let written = self.written.load(Ordering::Relaxed);
            written.saturating_sub(self.seen.load(Ordering::Relaxed))
        };
        self.plan.ahead.is_some_and(|most| lead() > most) && !self.is_done()
    }

    /// How many of the slow clients read nothing now: in the first half of the stall they stop one after the other, each
    /// at other records.
    fn stalled(&self) -> usize {
        if self.phase() != Phase::Stalled {
            return 0;
        }
        let [warming, before, stall, _] = self.plan.records;
        let passed = self
            .written
            .load(Ordering::Relaxed)
            .saturating_sub(warming + before);
        let half = (stall / 2).max(1);
        (self.plan.slow * passed.min(half) as usize).div_ceil(half as usize)
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }
}

/// Runs it.
pub fn run(broker: &Broker, plan: &Plan) -> Report {
    let mut report = Report::default();
    report.figure("seed", plan.seed);
    report.figure("http.delivery", plan.delivery);
    let topic = topic_name("slow");
    let partitions = plan.partitions.try_into().expect("few partitions");
    broker.create_topic(&topic, partitions, &[]);
    let daemon = launch(&config(broker, &topic, plan), plan.delivery).start();
    block_on(daemon.wait_ready(secs(60)));
    let began = Instant::now();
    let shape = Shape {
        partitions: plan.partitions,
        bytes: plan.bytes,
        keys: plan.keys,
        tombstones: 50,
    };
    let mut writer = Writer::new(broker, &topic, shape, plan.seed, began);
    let mut fast = audience(plan, plan.clients - plan.slow, true, began);
    let mut slow = audience(plan, plan.slow, false, began);
    let outcome = fast
        .connect(daemon.port(), path_of, None)
        .and_then(|()| fast.catch_up())
        .and_then(|()| slow.connect(daemon.port(), path_of, Some(RECEIVE_BUFFER)))
        .and_then(|()| slow.catch_up())
        .map(|()| act(plan, &mut writer, &mut fast, &mut slow, &daemon))
        // Twice: one more of each partition shows that nothing doubled came after the last.
        .and_then(|seen| finish(&mut writer, &mut fast, &mut slow).map(|()| seen))
        .and_then(|seen| finish(&mut writer, &mut fast, &mut slow).map(|()| seen));
    let seen = match outcome {
        Ok(seen) => seen,
        Err(why) => {
            report.wrong.push(why);
            report.wrong.extend(fast.tally.and(slow.tally).problems);
            report.wrong.push(format!("the daemon's log:\n{}", daemon.log()));
            return report;
        }
    };
    let recovered = peak(daemon.pid());
    report.figure(
        "clients, of which slow",
        format!("{}, {}", plan.clients, plan.slow),
    );
    report.figure(
        "records a second, of bytes",
        format!("{}, {}", plan.rate, plan.bytes),
    );
    report.figure(
        "seconds of the stall, about",
        format!("{:.1}", f64::from(plan.records[2]) / f64::from(plan.rate)),
    );
    memory(&mut report, seen.before, seen.stalled, recovered);
    latency(&mut report, plan, seen.ages);
    fell_behind(&mut report, plan, &daemon, &slow, seen.returned);
    let tally = fast.tally.and(slow.tally);
    report.figure("deliveries", tally.deliveries);
    tally.report(&mut report);
    report
}

fn finish(writer: &mut Writer, fast: &mut Readers, slow: &mut Readers) -> Result<(), String> {
    let written = writer.finish();
    fast.finish(&written)?;
    slow.finish(&written)
}

/// Observations by phase.
struct Seen {
    /// Ages of records, in microseconds.
    ages: [Vec<u32>; PHASES.len()],
    /// The daemon's resident memory in bytes where the stall began, and the most while it lasted.
    before: u64,
    stalled: u64,
    /// Slow clients that had to reconnect.
    returned: usize,
}

/// Writes and reads through all phases.
fn act(plan: &Plan, writer: &mut Writer, fast: &mut Readers, slow: &mut Readers, daemon: &Daemon) -> Seen {
    let progress = Progress {
        plan,
        written: AtomicU32::new(0),
        seen: AtomicU32::new(0),
        is_done: AtomicBool::new(false),
    };
    let total: u32 = plan.records.iter().sum();
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            writer.pace(plan.rate, |written| {
                progress.written.store(written, Ordering::Relaxed);
                while progress.is_ahead() {
                    thread::sleep(millis(2));
                }
                written < total
            });
        });
        let reading = scope.spawn(|| read(fast, &progress));
        let stalling = scope.spawn(|| stall(slow, &progress, daemon.port()));
        let (mut before, mut stalled) = (0, 0);
        while !writing.is_finished() && !reading.is_finished() && !stalling.is_finished() {
            let now = resident(daemon.pid());
            match progress.phase() {
                Phase::Warming | Phase::Before => before = now,
                Phase::Stalled => {
                    if stalled == 0 {
                        reset_peak(daemon.pid());
                    }
                    stalled = now.max(stalled);
                }
                Phase::After => {}
            }
            thread::sleep(millis(50));
        }
        progress.is_done.store(true, Ordering::Relaxed);
        writing.join().expect("the records are written");
        Seen {
            ages: reading.join().expect("the fast read"),
            before,
            stalled,
            returned: stalling.join().expect("the slow read"),
        }
    })
}

fn config(broker: &Broker, topic: &str, plan: &Plan) -> String {
    let (brokers, log_bytes) = (broker.bootstrap(), &plan.log_bytes);
    let write_timeout = plan.write_timeout.as_ref();
    let write_timeout =
        write_timeout.map_or_else(String::new, |span| format!("write_timeout = \"{span}\"\n"));
    let stream = |path: &str, how: &str| {
        format!("[[stream]]\npath = \"{path}\"\ntopics = [\"{topic}\"]\nlog_bytes = \"{log_bytes}\"\n{how}\n")
    };
    format!(
        "[kafka]\nbrokers = [\"{brokers}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n{write_timeout}{}{}",
        stream(ALL, "start = \"live\"\nlag = \"replay\""),
        stream(TABLE, "start = \"snapshot\"\nlag = \"latest\"")
    )
}

fn path_of(client: usize) -> &'static str {
    if client.is_multiple_of(2) { ALL } else { TABLE }
}

/// Clients of both streams. Fast clients get every record of the table's stream too, because they connected before the
/// first one.
fn audience(plan: &Plan, count: usize, is_fast: bool, began: Instant) -> Readers {
    let promise = |client| {
        let table = path_of(client) == TABLE;
        Promise {
            every: is_fast || !table,
            table,
        }
    };
    let promises: Vec<Promise> = (0..count).map(promise).collect();
    Readers::new(&promises, plan.partitions, plan.keys, began)
}

/// Reads all the time, and returns the records' ages in each phase, in microseconds.
fn read(readers: &mut Readers, progress: &Progress<'_>) -> [Vec<u32>; PHASES.len()] {
    let mut ages: [Vec<u32>; PHASES.len()] = Default::default();
    while !progress.is_done() {
        let ages = &mut ages[progress.phase() as usize];
        let ended = readers.poll(millis(20), |age| {
            ages.push(age.as_micros().try_into().unwrap_or(u32::MAX));
        });
        for (client, why) in ended {
            readers
                .tally
                .strange(|| format!("client {client}, which was never slow, was cut off: {why}"));
        }
        let seen = readers.all.iter().map(Reader::heard).min().unwrap_or(0);
        progress.seen.store(seen, Ordering::Relaxed);
    }
    ages
}

/// Reads except during the stall. Closed clients reconnect; returns how many did.
fn stall(readers: &mut Readers, progress: &Progress<'_>, port: u16) -> usize {
    let (mut returned, mut muted) = (BTreeSet::new(), 0);
    while !progress.is_done() {
        let stalled = progress.stalled();
        for client in stalled.min(muted)..stalled.max(muted) {
            readers.crowd.mute(client, stalled > muted);
        }
        muted = stalled;
        for (client, _) in readers.poll(millis(20), |_| {}) {
            returned.insert(client);
            let path = path_of(client);
            if let Err(error) = readers.crowd.connect(client, port, path, Some(RECEIVE_BUFFER)) {
                readers
                    .tally
                    .strange(|| format!("client {client} cannot reconnect: {error}"));
            }
            readers.crowd.mute(client, client < muted);
        }
    }
    returned.len()
}

fn memory(report: &mut Report, before: u64, stalled: u64, recovered: u64) {
    report.figure("memory before, MiB", format!("{:.1}", mebibytes(before)));
    for (name, most) in [
        ("growth while stalled, MiB", stalled),
        ("growth until all were whole, MiB", recovered),
    ] {
        let growth = most.saturating_sub(before);
        report.figure(name, format!("{:.1}", mebibytes(growth)));
        report.demand(
            growth < MOST_GROWTH,
            format!("{name}: {:.1}, not below 64", mebibytes(growth)),
        );
    }
}

fn latency(report: &mut Report, plan: &Plan, mut ages: [Vec<u32>; PHASES.len()]) {
    let mut p99 = |phase: Phase| {
        let ages = &mut ages[phase as usize];
        ages.sort_unstable();
        let at = |percent: usize| ages.get(ages.len() * percent / 100).copied().unwrap_or(0);
        (f64::from(at(50)) / 1e3, f64::from(at(99)) / 1e3)
    };
    let (before, stalled, after) = (p99(Phase::Before), p99(Phase::Stalled), p99(Phase::After));
    for (name, (p50, p99)) in [
        ("latency before, p50 and p99, ms", before),
        ("while some are stalled", stalled),
        ("while they read again", after),
    ] {
        report.figure(name, format!("{p50:.2}  {p99:.2}"));
    }
    let ratio = stalled.1 / before.1;
    report.figure("p99 while stalled to before", format!("{ratio:.2}"));
    if let Some(most) = plan.most_latency {
        report.demand(
            ratio <= most,
            format!("p99 grew {ratio:.2} times, not at most {most}"),
        );
    }
}

/// All slow clients must have fallen behind the log or have been disconnected: the stall was long enough.
fn fell_behind(report: &mut Report, plan: &Plan, daemon: &Daemon, slow: &Readers, returned: usize) {
    let streams = block_on(daemon.get("/streams")).json();
    let replayed = streams["streams"][0]["slow_clients"].as_u64().unwrap_or(0);
    let got_latest: usize = slow.all.iter().filter(|reader| reader.conflated > 0).count();
    report.figure("fell behind and got all from Kafka", replayed);
    report.figure("fell behind and got the latest", got_latest);
    report.figure("disconnected, and reconnected", returned);
    let fell = replayed + (got_latest + returned) as u64;
    report.demand(
        fell >= plan.slow as u64,
        format!("only {fell} clients fell behind"),
    );
}
