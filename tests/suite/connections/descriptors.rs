//! More connections than the process has file descriptors for.

use super::{Kept, ask, has_ended};
use crate::common::{config, is_record, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually, secs};
use crate::harness::{promise, promise_on};
use kafka_sse_bridge::fd_limit::{left_for_clients, reserve};
use kafka_sse_bridge::kafka::history::MAX_HANDLES;
use libtest_mimic::Trial;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    vec![
        promise_on(
            Version::V4_4,
            accept_pauses_without_descriptors_and_all_clients_connect_later,
        ),
        promise(descriptors_are_reserved_for_every_broker),
    ]
}

/// Descriptors that a process has open.
fn descriptors_of(pid: u32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Seconds of processor that a process has used.
fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name may hold spaces; behind it there are the state, and from the 14th field on the times.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let field = |index: usize| {
        fields
            .split_whitespace()
            .nth(index - 3)
            .and_then(|field| field.parse::<u64>().ok())
    };
    let ticks = field(14).zip(field(15)).map(|(user, system)| user + system);
    // A tick is a hundredth of a second on the machines that Linux commonly runs on (USER_HZ).
    ticks.expect("numbers") as f64 / 100.0
}

fn limit_descriptors(daemon: &Daemon, limit: u64) {
    let pid = i32::try_from(daemon.pid())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process");
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(limit),
        maximum,
    };
    prlimit(Some(pid), Resource::Nofile, limit).unwrap_or_else(|error| panic!("prlimit: {error}"));
}

/// Handles of Kafka clients that a daemon may have: two for live records, and those of replays and lookups.
const HANDLES: usize = 2 + MAX_HANDLES;

fn descriptors_are_reserved_for_every_broker() {
    // Four replays have two handles each, two lookups one each. A handle has a connection to each broker.
    assert_eq!(MAX_HANDLES, 10);
    for brokers in [1, 3, 20, 100] {
        assert!(reserve(brokers, HANDLES) >= (HANDLES * brokers) as u64);
    }
    // If there are too few, clients and Kafka get half each.
    assert_eq!(
        (left_for_clients(200, 190), left_for_clients(10_000, 190)),
        (100, 9_810)
    );

    // librdkafka makes a cluster of so many for the daemon.
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("reserved");
    let text = config(&broker, &[&topic], "start = \"live\"");
    let kafka = "[kafka]\nclient = \"librdkafka\"\nlibrdkafka = { \"test.mock.num.brokers\" = \"20\" }\n";
    let text = format!(
        "{}[log]\nlevel = \"debug\"\n",
        text.replacen("[kafka]\n", kafka, 1)
            .replacen("[http]\n", "[http]\nmax_clients = 19999\n", 1)
    );
    let daemon = Daemon::with(&text).start();
    let says = |brokers: usize| {
        let reserve = reserve(brokers, HANDLES);
        format!("{reserve} are reserved, for {HANDLES} handles of Kafka clients with {brokers} brokers")
    };
    daemon.wait_log(&says(1), secs(20));
    daemon.wait_log(&says(20), secs(30));
}

fn accept_pauses_without_descriptors_and_all_clients_connect_later() {
    /// Fewer than the daemon keeps for itself twice, so half of them are for clients.
    const LIMIT: u64 = 200;
    const PAUSES: u64 = 15;
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("descriptors");
    broker.create_topic(&topic, 1, &[]);
    let daemon = Daemon::start(&config(&broker, &[&topic], "start = \"live\""));
    let mut kept = Kept::new(&daemon);
    kept.figures();
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream
            .collect_until(|event| event.name == "caught-up", secs(20))
            .await;
        // In the first round the daemon stops by itself before the descriptors run out, in the second it
        // has none left at all.
        for round in 0..2 {
            // Those of the figures and of the stream, once no earlier request's is left.
            let open = 2;
            let before = eventually(secs(60), "earlier requests are gone", || {
                let figures = kept.figures();
                ensure(figures["connections"] == open, figures.to_string()).map(|()| figures)
            });
            let limit = if round == 0 {
                LIMIT
            } else {
                // Where the next one would be.
                let used = descriptors_of(daemon.pid());
                let free = (0..LIMIT)
                    .find(|number| !used.contains(number))
                    .expect("one is free");
                assert!(
                    left_for_clients(free, reserve(1, HANDLES)) > open + 3,
                    "it does not stop by itself"
                );
                free
            };
            limit_descriptors(&daemon, limit);
            let places = if round == 0 { LIMIT / 2 - open } else { 0 };
            let mut sockets: Vec<TcpStream> = (0..places + 10).map(|_| ask(&daemon)).collect();

            let pauses = |figures: &Value| figures["accept_pauses"].as_u64().expect("a number");
            let from = eventually(secs(60), "accepting pauses", || {
                let now = pauses(&kept.figures());
                ensure(now > pauses(&before), now.to_string()).map(|()| now)
            });
            let (began, used) = (Instant::now(), processor_seconds(daemon.pid()));
            let now = eventually(secs(60), "it tries again and again", || {
                let now = pauses(&kept.figures());
                ensure(now >= from + PAUSES, now.to_string()).map(|()| now)
            });
            let (elapsed, used) = (began.elapsed(), processor_seconds(daemon.pid()) - used);
            println!("{PAUSES} pauses in {elapsed:.1?}, {used:.2} s of processor");
            // It must pause, not spin: a pause lasts at least 100 ms on any machine.
            assert!(
                u128::from(now - from) <= elapsed.as_millis() / 100 + 1,
                "{now} {from} {elapsed:?}"
            );
            assert!(used < elapsed.as_secs_f64() / 2.0, "{used} s of {elapsed:?}");
            let accepted = kept.figures()["connections"].as_u64().expect("a number") - open;
            if round == 0 {
                assert_eq!(accepted, places, "clients that are not accepted wait");
                let used = descriptors_of(daemon.pid()).len() as u64;
                assert!(used <= LIMIT - 20, "{used}: some are left for Kafka");
            } else {
                // librdkafka may give one back at any time.
                assert!(accepted < 4, "{accepted}: clients that are not accepted wait");
            }

            // Connected clients continue.
            broker.produce(&topic, &[Message::value(format!("meanwhile-{round}"))]);
            let events = stream.collect_until(is_record, secs(20)).await;
            assert_eq!(records(&events), [format!("meanwhile-{round}")]);

            // A place that becomes free is taken, in the order they came.
            let mut waiting = sockets.split_off(usize::try_from(places).expect("few"));
            let freed = if round == 0 { 5 } else { 0 };
            drop(sockets.drain(..freed));
            let (first, others) = waiting.split_at_mut(freed);
            for socket in first {
                assert!(!has_ended(socket, secs(60)), "it is accepted and answered");
            }
            // And all are, once there are more.
            limit_descriptors(&daemon, 1000);
            for socket in others {
                assert!(!has_ended(socket, secs(60)), "it is accepted and answered");
            }
            drop((sockets, waiting));
            eventually(secs(60), "disconnected clients are not counted", || {
                let figures = kept.figures();
                ensure(figures["connections"] == open, figures.to_string())
            });
        }
    });
    let log = daemon.log();
    for why in [
        "the limit of descriptors leaves no room for more",
        "Too many open files",
    ] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(why)).collect();
        assert!(lines.len() <= 4, "{lines:#?}");
    }
    assert!(log.contains("accept paused at 100 connections"), "{log}");
}
