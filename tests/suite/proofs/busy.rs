//! A daemon that has too little processor time: beside busy loops while it loads a table, and with a value filter of each of
//! hundreds of clients while records come. systemd must hear from it, it must answer, and other streams must go on.

use super::readers::{Promise, Readers};
use super::watch::{Ends, Seen, Times, Watch};
use super::writer::{Shape, Writer};
use super::{Report, SILENCE, launch};
use crate::harness::broker::{Broker, topic_name};
use crate::harness::crowd::Crowd;
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::systemd::Systemd;
use crate::harness::wait::{block_on, eventually, millis, secs};
use serde_json::Value;
use std::fmt::Write as _;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The streams.
const TABLE: &str = "/table";
const FILTERED: &str = "/filtered";
const OTHER: &str = "/other";

/// As the packaged unit sets it, in microseconds.
const WATCHDOG: &str = "30000000";

/// Records that are produced at once.
const PIECE: usize = 50_000;

/// Of the members that clients ask for, so many are in a record.
const MEMBERS: usize = 10;

/// How long a table may take to load beside busy loops.
const PATIENCE: Duration = secs(600);

/// How much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// The daemon's `http.delivery`.
    pub delivery: &'static str,
    /// Threads that do nothing but take processor time while the table loads.
    pub loops: usize,
    /// Records of the table, each with a key of its own.
    pub rows: usize,
    /// Clients with a value filter of their own each.
    pub filters: usize,
    /// Records for them, and the bytes of each.
    pub records: usize,
    pub bytes: usize,
    /// Clients of the other stream, and its records a second.
    pub audience: usize,
    pub rate: u32,
    /// The longest that something may take; none where a machine may be too slow to tell.
    pub bounds: Option<Bounds>,
}

/// What a daemon keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Between two keepalives to systemd.
    pub ping: Duration,
    /// Until `/health/live` has answered.
    pub answer: Duration,
    /// From a record of the other stream's until 99 of 100 clients have it.
    pub latency: Duration,
}

/// Runs it.
pub fn run(broker: &Broker, plan: &Plan) -> Report {
    let mut report = Report::default();
    report.figure("seed", plan.seed);
    report.figure("http.delivery", plan.delivery);
    load(broker, plan, &mut report);
    filter(broker, plan, &mut report);
    report
}

/// A table loads beside busy loops.
fn load(broker: &Broker, plan: &Plan, report: &mut Report) {
    let topic = topic_name("busy-table");
    broker.create_topic(&topic, 4, &[]);
    let row = |key: usize| {
        Message::new(
            format!("key-{key}"),
            format!("{{\"row\":{key},\"text\":\"some text\"}}"),
        )
    };
    write(broker, &topic, plan.rows, row);
    let config = format!(
        "{}[[stream]]\npath = \"{TABLE}\"\ntopics = [\"{topic}\"]\nstart = \"snapshot\"\nlog_bytes = \"8MiB\"\n\
         max_keys = {}\nmax_table_bytes = \"4GiB\"\n",
        beginning(broker),
        plan.rows
    );
    let systemd = Systemd::new();
    let is_over = AtomicBool::new(false);
    let (took, seen) = thread::scope(|scope| {
        let _ends = Ends(&is_over);
        for _ in 0..plan.loops {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        let daemon = start(&systemd, &config, plan);
        let began = Instant::now();
        let watch = Watch {
            port: daemon.port(),
            systemd: &systemd,
            is_over: &is_over,
        };
        let seen = watch.during(|| {
            block_on(daemon.wait_ready(PATIENCE));
        });
        (began.elapsed(), seen)
    });
    report.figure("busy loops", plan.loops);
    report.figure("rows of the table", plan.rows);
    report.figure(
        "seconds until it was loaded",
        format!("{:.1}", took.as_secs_f64()),
    );
    report_seen(report, "loading", &seen, plan);
}

/// Records come for clients with a value filter of their own each.
fn filter(broker: &Broker, plan: &Plan, report: &mut Report) {
    let (filtered, other) = (topic_name("busy-filtered"), topic_name("busy-other"));
    broker.create_topic(&filtered, 4, &[]);
    broker.create_topic(&other, 4, &[]);
    let stream = |path: &str, topic: &str| format!("[[stream]]\npath = \"{path}\"\ntopics = [\"{topic}\"]\n");
    let config = [
        beginning(broker),
        stream(FILTERED, &filtered),
        stream(OTHER, &other),
    ]
    .concat();
    let systemd = Systemd::new();
    let daemon = start(&systemd, &config, plan);
    block_on(daemon.wait_ready(secs(60)));
    let mut crowd = Crowd::new(plan.filters);
    for client in 0..plan.filters {
        let path = format!("{FILTERED}?value.p{client}=x");
        crowd
            .connect(client, daemon.port(), &path, None)
            .expect("a connection");
    }
    eventually(secs(60), "all filters are in use", || {
        let filters = stream_of(&daemon, FILTERED)["filters"]["count"].as_u64();
        let all = u64::try_from(plan.filters).ok();
        (filters == all).then_some(()).ok_or(format!("{filters:?} are"))
    });
    let began = Instant::now();
    let mut audience = Readers::new(&vec![Promise::EVERY; plan.audience], 4, 0, began);
    audience
        .connect(daemon.port(), |_| OTHER, None)
        .expect("connections");
    audience.catch_up().expect("they catch up");
    let mut writer = Writer::new(broker, &other, Shape::unkeyed(4, 100), plan.seed, began);
    // Once, so that every connection is in use.
    audience
        .finish(&writer.finish())
        .expect("they have the first records");
    let mut ages = Vec::new();
    let is_over = AtomicBool::new(false);
    let mut took = Duration::ZERO;
    let seen = thread::scope(|scope| {
        let _ends = Ends(&is_over);
        scope.spawn(|| writer.pace(plan.rate, |_| !is_over.load(Ordering::Relaxed)));
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for (client, why) in audience.poll(millis(50), |age| ages.push(age)) {
                    audience
                        .tally
                        .strange(|| format!("client {client} of the audience was cut off: {why}"));
                }
            }
        });
        let watch = Watch {
            port: daemon.port(),
            systemd: &systemd,
            is_over: &is_over,
        };
        watch.during(|| {
            let began = Instant::now();
            write(broker, &filtered, plan.records, |number| record(number, plan));
            let all = plan.records as u64;
            eventually(SILENCE, "the records are read", || {
                let records = stream_of(&daemon, FILTERED)["records"].as_u64();
                (records == Some(all))
                    .then_some(())
                    .ok_or(format!("{records:?} of {all}"))
            });
            took = began.elapsed();
        })
    });
    let outcome = audience.finish(&writer.finish());
    report.wrong.extend(outcome.err());
    report.figure("value filters", plan.filters);
    report.figure("records for them", plan.records);
    report.figure(
        "seconds until they were read",
        format!("{:.1}", took.as_secs_f64()),
    );
    report_seen(report, "filtering", &seen, plan);
    let latency = Times::of(ages);
    report.figure("latency of another stream", &latency);
    if let Some(bounds) = plan.bounds {
        report.demand(
            latency.percent(99) <= bounds.latency,
            format!("another stream's latency is {latency}"),
        );
    }
    audience.tally.report(report);
}

fn report_seen(report: &mut Report, when: &str, seen: &Seen, plan: &Plan) {
    report.figure("asked at a higher priority", seen.is_raised);
    report.figure(
        "until /health/live, p50, p99, most",
        format!("{} ms, {when}", seen.answers),
    );
    let silence = format!("{:.1}", seen.silence.as_secs_f64());
    report.figure("longest pause of keepalives", format!("{silence} s, {when}"));
    report.demand(
        seen.unanswered == 0,
        format!("{when}: /health/live did not answer {} times", seen.unanswered),
    );
    if let Some(bounds) = plan.bounds {
        report.demand(
            seen.answers.percent(100) <= bounds.answer,
            format!("{when}: /health/live took {} ms", seen.answers),
        );
        report.demand(
            seen.silence <= bounds.ping,
            format!("{when}: no keepalive for {silence} s"),
        );
    }
}

/// What `/streams` says of a stream.
fn stream_of(daemon: &Daemon, path: &str) -> Value {
    let answer = block_on(daemon.get("/streams")).json();
    let mut streams = answer["streams"].as_array().into_iter().flatten();
    let found = streams.find(|stream| stream["path"] == path);
    found.cloned().unwrap_or_default()
}

/// A record with some of the members that clients ask for, none with the value they want.
fn record(number: usize, plan: &Plan) -> Message {
    let mut value = String::from("{");
    for member in 0..MEMBERS {
        let name = (number * MEMBERS + member) % plan.filters;
        write!(value, "\"p{name}\":\"v{number}\",").expect("memory");
    }
    value.push_str("\"text\":\"");
    value.extend(std::iter::repeat_n(
        'x',
        plan.bytes.saturating_sub(value.len() + 2),
    ));
    Message::value(value + "\"}")
}

fn write(broker: &Broker, topic: &str, count: usize, record: impl Fn(usize) -> Message) {
    for first in (0..count).step_by(PIECE) {
        let records: Vec<Message> = (first..count.min(first + PIECE)).map(&record).collect();
        broker.produce(topic, &records);
    }
}

/// The configuration's tables before the streams.
fn beginning(broker: &Broker) -> String {
    format!(
        "[kafka]\nbrokers = [\"{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n",
        broker.bootstrap()
    )
}

fn start(systemd: &Systemd, config: &str, plan: &Plan) -> Daemon {
    systemd
        .hears(launch(config, plan.delivery))
        .env("WATCHDOG_USEC", WATCHDOG)
        .start()
}
