//! All attacks that have killed or stalled a daemon, at once, against one with limits of memory and CPU time, while an
//! audience of regular clients counts every record.
//!
//! [`attacks`] are the clients and producers that do it. None of them may cost the audience a record, end the daemon or
//! make its memory grow.

mod attacks;
mod more;

use super::readers::{Promise, Readers};
use super::watch::{Times, ask_whether_it_lives};
use super::writer::{Shape, Writer};
use super::{Report, SILENCE, launch};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::confined::{Confined, Limits};
use crate::harness::daemon::Daemon;
use crate::harness::memory::{mebibytes, peak, resident_if_any};
use crate::harness::scratch;
use crate::harness::systemd::Systemd;
use crate::harness::wait::{block_on, millis, secs};
use attacks::Attacks;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// The daemon's `http.delivery`.
    pub delivery: &'static str,
    pub lasts: Duration,
    /// None is unlimited.
    pub limits: Option<Limits>,
    /// Clients that behave well.
    pub audience: usize,
    pub partitions: u32,
    /// Records a second for them, of so many bytes.
    pub rate: u32,
    pub bytes: usize,
    /// Clients with a value filter of their own each, of records that come at so many a second.
    pub filters: usize,
    pub filtered_rate: u32,
    /// Clients with filters that no index serves.
    pub unindexed: usize,
    /// Clients that resume at distinct positions and do not read.
    pub returning: usize,
    /// Connections that ask for the large asset, and its bytes.
    pub storming: usize,
    pub asset: usize,
    /// Keys of the table that is cleared and deleted.
    pub keys: usize,
    /// Pause between reloads.
    pub reload: Duration,
    /// The most memory that the daemon may take in the last quarter of the time, in percent of what it took in the
    /// second. None where the time is too short to tell.
    pub most_growth: Option<u64>,
}

/// Tolerance of memory comparisons in bytes: allocators return pages in steps.
const UNEVEN: u64 = 32 << 20;

/// Memory of the audience's log: so little that resuming clients need a replay.
const LOG_BYTES: &str = "1MiB";

/// The streams.
const AUDIENCE: &str = "/audience";
const FILTERED: &str = "/filtered";
const SLOW: &str = "/slow";
const TABLE: &str = "/table";
const ODD: &str = "/odd";

const TRANSACTIONS: &str = "/transactions";
const GROWING: &str = "/growing";
const SKEWED: &str = "/skewed";
const LARGE: &str = "/large";

/// Those that some clients read without a filter.
const OTHERS: [&str; 6] = [TABLE, ODD, TRANSACTIONS, GROWING, SKEWED, LARGE];

/// Partitions of the topic that grows, at first.
const GROWING_PARTITIONS: i32 = 2;

/// The large asset's name.
const ASSET: &str = "large.js";

/// The daemon, its broker and its topics.
struct Stage<'a> {
    plan: &'a Plan,
    broker: &'a Broker,
    daemon: &'a Daemon,
    topics: &'a Topics,
    systemd: &'a Systemd,
    /// The names in the configuration.
    assets: &'a Path,
    /// Records that were written for the audience.
    written: AtomicU32,
    is_over: AtomicBool,
}

impl Stage<'_> {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Sleeps unless it is over, for so long at most.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_over() && Instant::now() < until {
            thread::sleep(millis(20).min(time));
        }
    }
}

/// The topics' names.
struct Topics {
    audience: String,
    filtered: String,
    table: String,
    odd: String,
    transactions: String,
    growing: String,
    skewed: String,
    large: String,
}

impl Topics {
    fn create(broker: &Broker, plan: &Plan) -> Topics {
        let topics = Topics {
            audience: topic_name("hostile-audience"),
            filtered: topic_name("hostile-filtered"),
            table: topic_name("hostile-table"),
            odd: topic_name("hostile-odd"),
            transactions: topic_name("hostile-transactions"),
            growing: topic_name("hostile-growing"),
            skewed: topic_name("hostile-skewed"),
            large: topic_name("hostile-large"),
        };
        let partitions = plan.partitions.try_into().expect("few partitions");
        broker.create_topic(&topics.audience, partitions, &[]);
        broker.create_topic(&topics.filtered, attacks::FILTERED_PARTITIONS, &[]);
        broker.create_topic(&topics.table, 4, &[]);
        broker.create_topic(&topics.odd, 2, &[]);
        broker.create_topic(&topics.transactions, 4, &[]);
        broker.create_topic(&topics.growing, GROWING_PARTITIONS, &[]);
        // Kafka 4 refuses what is more than an hour ahead, unless it is told otherwise.
        let any_time = ("message.timestamp.after.max.ms", "9223372036854775807");
        broker.create_topic(&topics.skewed, 2, &[any_time]);
        broker.create_topic(&topics.large, 1, &[("max.message.bytes", "10485760")]);
        topics
    }

    /// The configuration; each `turn` differs in what a reload may change.
    fn config(&self, broker: &Broker, assets: &Path, turn: usize) -> String {
        let stream = |path: &str, topic: &str, how: &str| {
            format!("[[stream]]\npath = \"{path}\"\ntopics = [\"{topic}\"]\n{how}\n")
        };
        let log_bytes = ["1MiB", "2MiB"][turn % 2];
        // Now and then a stream comes, goes, or shows other records.
        let extra = match turn % 10 {
            5 | 6 => stream("/extra", &self.filtered, "preload = 10"),
            7 | 8 => stream(
                "/extra",
                &self.filtered,
                "preload = 10\nfilter = { partition = [\"0\"] }",
            ),
            _ => String::new(),
        };
        [
            format!(
                "[kafka]\nbrokers = [\"{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\nkeepalive = \"{}s\"\n\
                 max_clients_per_ip = {}\n[ui]\ntitle = \"Turn {turn}\"\nassets = \"{}\"\n",
                broker.bootstrap(),
                10 + turn % 3,
                5000 + turn % 4,
                assets.display(),
            ),
            stream(
                AUDIENCE,
                &self.audience,
                &format!("lag = \"replay\"\nlog_bytes = \"{LOG_BYTES}\""),
            ),
            stream(FILTERED, &self.filtered, "log_bytes = \"2MiB\""),
            stream(SLOW, &self.filtered, &format!("log_bytes = \"{log_bytes}\"")),
            stream(TABLE, &self.table, "start = \"snapshot\"\nlog_bytes = \"2MiB\""),
            stream(
                ODD,
                &self.odd,
                "start = \"snapshot\"\nkey_field = \"key\"\nlog_bytes = \"1MiB\"",
            ),
            stream(TRANSACTIONS, &self.transactions, "log_bytes = \"1MiB\""),
            stream(GROWING, &self.growing, "log_bytes = \"1MiB\""),
            stream(SKEWED, &self.skewed, "start = \"snapshot\"\nlog_bytes = \"1MiB\""),
            stream(LARGE, &self.large, "log_bytes = \"1MiB\""),
            extra,
        ]
        .concat()
    }
}

/// External observations of the daemon.
#[derive(Default)]
struct Seen {
    /// Resident bytes, as the time went on.
    memory: Vec<u64>,
    /// How long `/health/live` took, each time.
    answers: Vec<Duration>,
    unanswered: u64,
    /// Whether it ran to the end.
    has_ended: bool,
}

/// Runs it.
pub fn run(broker: &Broker, plan: &Plan) -> Report {
    let mut report = Report::default();
    report.figure("seed", plan.seed);
    report.figure("http.delivery", plan.delivery);
    let topics = Topics::create(broker, plan);
    let assets = assets(plan);
    let systemd = Systemd::new();
    // Before the daemon, so that it is dropped after it.
    let confined = Confined::new(plan.limits);
    report.figure("limits", &confined);
    let launch = launch(&topics.config(broker, assets.path(), 0), plan.delivery);
    // It notifies systemd; a socket that is not read is one of the attacks.
    let launch = systemd.hears(launch).env("WATCHDOG_USEC", "30000000");
    let daemon = confined.confines(launch).start();
    block_on(daemon.wait_ready(secs(120)));
    let began = Instant::now();
    let mut audience = Readers::new(&vec![Promise::EVERY; plan.audience], plan.partitions, 0, began);
    let shape = Shape::unkeyed(plan.partitions, plan.bytes);
    let mut writer = Writer::new(broker, &topics.audience, shape, plan.seed, began);
    let stage = Stage {
        plan,
        broker,
        daemon: &daemon,
        topics: &topics,
        systemd: &systemd,
        assets: assets.path(),
        written: AtomicU32::new(0),
        is_over: AtomicBool::new(false),
    };
    let attacks = Attacks::default();
    let mut ages = Vec::new();
    let connected = audience.connect(daemon.port(), |_| AUDIENCE, None);
    let outcome = connected.and_then(|()| audience.catch_up()).and_then(|()| {
        let seen = act(&stage, &attacks, &mut writer, &mut audience, &mut ages);
        if seen.has_ended {
            report.wrong.push("the daemon ended".to_owned());
        }
        look(&mut report, plan, seen);
        // Twice: one more of each partition shows that nothing doubled came after the last.
        audience.finish(&writer.finish())?;
        audience.finish(&writer.finish())?;
        read_all(&stage)
    });
    report.wrong.extend(outcome.err());
    report.figure(
        "peak of memory, MiB",
        format!("{:.1}", mebibytes(peak_of(&daemon))),
    );
    let written = writer.finish().next.iter().sum::<u32>();
    report.figure(
        "audience",
        format!("{} clients, {written} records", plan.audience),
    );
    report.figure("its latency, p50, p99, most, ms", Times::of(ages));
    attacks.report(&mut report);
    let tally = audience.tally;
    report.figure("deliveries", tally.deliveries);
    tally.report(&mut report);
    if !report.wrong.is_empty() {
        report
            .wrong
            .push(format!("the end of the daemon's log:\n{}", end_of(&daemon.log())));
    }
    report
}

/// Whether every stream has had records, and the one with keys in two partitions has passed over some.
fn read_all(stage: &Stage<'_>) -> Result<(), String> {
    let answer = block_on(stage.daemon.get("/streams")).json();
    let streams = answer["streams"].as_array().ok_or("no streams")?;
    for path in OTHERS {
        let stream = streams.iter().find(|stream| stream["path"] == path);
        let figures = stream.ok_or_else(|| format!("no stream {path}"))?;
        let has_records = figures["records"].as_u64() > Some(0);
        let superseded = figures["superseded_records"].as_object();
        if !has_records
            || path == SKEWED && superseded.is_none_or(|topics| topics.values().all(|records| records == 0))
        {
            return Err(format!("{path} is not read: {figures}"));
        }
    }
    Ok(())
}

/// A page whose large asset compresses badly.
fn assets(plan: &Plan) -> TempDir {
    let directory = scratch::directory("assets");
    fs::write(
        directory.path().join("index.html"),
        "<!doctype html><title>{{title}}</title>",
    )
    .expect("a page");
    let letters = (0..plan.asset).map(|_| rand::random_range(b'!'..=b'~'));
    fs::write(directory.path().join(ASSET), letters.collect::<Vec<u8>>()).expect("an asset");
    directory
}

/// Writes, reads and attacks for as long as the plan says, or until the daemon has ended.
fn act(
    stage: &Stage<'_>,
    attacks: &Attacks,
    writer: &mut Writer,
    audience: &mut Readers,
    ages: &mut Vec<Duration>,
) -> Seen {
    thread::scope(|scope| {
        attacks.start(scope, stage);
        let probing = scope.spawn(|| probe(stage));
        let reading = scope.spawn(|| {
            while !stage.is_over() {
                for (client, why) in audience.poll(millis(50), |age| ages.push(age)) {
                    let tally = &mut audience.tally;
                    tally.strange(|| format!("client {client} of the audience was cut off: {why}"));
                }
            }
        });
        let until = Instant::now() + stage.plan.lasts;
        writer.pace(stage.plan.rate, |written| {
            stage.written.store(written, Ordering::Relaxed);
            Instant::now() < until && stage.daemon.is_running()
        });
        stage.is_over.store(true, Ordering::Relaxed);
        reading.join().expect("the audience reads");
        probing.join().expect("the daemon is looked at")
    })
}

/// Asks whether the daemon lives, and looks at its memory, again and again.
fn probe(stage: &Stage<'_>) -> Seen {
    let mut seen = Seen::default();
    while !stage.is_over() {
        if !stage.daemon.is_running() {
            seen.has_ended = true;
            break;
        }
        seen.memory.extend(resident_if_any(stage.daemon.pid()));
        match ask_whether_it_lives(stage.daemon.port(), SILENCE) {
            Ok(took) => seen.answers.push(took),
            Err(_) => seen.unanswered += 1,
        }
        stage.rest(millis(250));
    }
    seen.has_ended |= !stage.daemon.is_running();
    seen
}

fn look(report: &mut Report, plan: &Plan, seen: Seen) {
    report.figure("/health/live, p50, p99, most, ms", Times::of(seen.answers));
    report.figure("/health/live unanswered", seen.unanswered);
    report.demand(
        seen.unanswered == 0,
        format!("/health/live did not answer {} times", seen.unanswered),
    );
    let quarter = |number: usize| {
        let length = seen.memory.len() / 4;
        let part = seen.memory.get(number * length..(number + 1) * length);
        part.unwrap_or_default().iter().copied().max().unwrap_or(0)
    };
    let most = [0, 1, 2, 3].map(quarter);
    report.figure(
        "most memory by quarter, MiB",
        most.map(|bytes| format!("{:.1}", mebibytes(bytes))).join("  "),
    );
    if let Some(percent) = plan.most_growth {
        let allowed = most[1] * percent / 100 + UNEVEN;
        report.demand(
            most[3] <= allowed,
            format!(
                "memory grows: {:.1} MiB, not {:.1}",
                mebibytes(most[3]),
                mebibytes(allowed)
            ),
        );
    }
}

/// Of one that may have ended.
fn peak_of(daemon: &Daemon) -> u64 {
    if daemon.is_running() {
        peak(daemon.pid())
    } else {
        0
    }
}

fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
