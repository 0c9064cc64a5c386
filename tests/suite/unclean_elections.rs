//! An elected leader that lacks delivered records: clients get a gap for the lost ones.

use crate::common::{named, until_records};
use crate::harness::broker::{Version, topic_name};
use crate::harness::cluster::Cluster;
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::promise_on;
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use std::collections::BTreeMap;

pub fn trials() -> Vec<Trial> {
    vec![
        promise_on(
            Version::V4_4,
            an_unclean_election_is_a_gap_and_new_records_are_delivered_once,
        ),
        promise_on(
            Version::V3_9,
            a_shorter_log_is_a_gap_and_not_a_new_topic_for_the_kafka_crate,
        ),
    ]
}

const KEPT: usize = 10;
const LOST: usize = 40;
/// More than were lost, so that the log has outgrown the offset that was read.
const NEW: usize = 60;

fn write(cluster: &Cluster, node: usize, topic: &str, tag: &str, count: usize) {
    let message = |number| {
        let key = format!("k{}", number % 7);
        Message::new(key, format!("\"{tag}-{number}\"")).partition(0)
    };
    let messages: Vec<Message> = (0..count).map(message).collect();
    cluster[node].produce(topic, &messages);
}

fn config(cluster: &Cluster, topic: &str, start: &str) -> String {
    format!(
        "[kafka]\nbrokers = {:?}\nclient = \"librdkafka\"\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [[stream]]\npath = \"/events\"\ntopics = [{topic:?}]\nformat = \"envelope\"\nstart = {start:?}\n\
         [[stream]]\npath = \"/table\"\ntopics = [{topic:?}]\nformat = \"envelope\"\nstart = \"snapshot\"\n",
        cluster.bootstrap()
    )
}

fn value(event: &Event) -> String {
    event.json()["value"].as_str().unwrap_or_default().to_owned()
}

/// Until this record comes.
fn until(last: String) -> impl FnMut(&Event) -> bool {
    move |event| value(event) == last
}

fn said(tag: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{tag}-{number}")).collect()
}

/// The expected state of a client that had every record before the election.
fn check(events: &[Event], what: &str) {
    let events: Vec<&Event> = events.iter().filter(|event| event.name != "caught-up").collect();
    let gap = events.first().expect("an event");
    assert_eq!(gap.name, "gap", "{what}: {gap:?}");
    let data = gap.json();
    let range = (
        data["from"].as_u64(),
        data["to"].as_u64(),
        data["reason"].as_str(),
    );
    assert_eq!(range, (Some(10), Some(50), Some("truncated")), "{what}");
    let shown: Vec<String> = events[1..].iter().map(|event| value(event)).collect();
    assert_eq!(shown, said("new", NEW), "{what}");
    for (offset, event) in (KEPT..).zip(&events[1..]) {
        assert_eq!(event.json()["offset"], offset, "{what}");
    }
}

/// The rows that a client of the table holds.
fn hear(rows: &mut BTreeMap<String, String>, resets: &mut Vec<String>, events: &[Event]) {
    for event in events {
        match event.name.as_str() {
            "message" => drop(rows.insert(event.json()["key"].to_string(), value(event))),
            "reset" => {
                rows.clear();
                resets.push(event.json()["reason"].to_string());
            }
            _ => {}
        }
    }
}

/// A topic with two replicas, which hold the first records.
fn replicated(version: Version) -> (Cluster, String) {
    let cluster = Cluster::start(version);
    let topic = topic_name("unclean");
    let settings = [
        ("min.insync.replicas", "1"),
        ("unclean.leader.election.enable", "true"),
    ];
    cluster.create_topic_on(&topic, &[0, 1], &settings);
    write(&cluster, 0, &topic, "kept", KEPT);
    (cluster, topic)
}

fn an_unclean_election_is_a_gap_and_new_records_are_delivered_once() {
    let (cluster, topic) = replicated(Version::V4_4);
    // One is stopped until the log has outgrown its offset; the other asks meanwhile.
    let frozen = Daemon::start(&config(&cluster, &topic, "earliest"));
    let awake = Daemon::start(&config(&cluster, &topic, "earliest"));
    block_on(async {
        let mut clients = [
            Stream::open(frozen.url("/events")).await,
            Stream::open(awake.url("/events")).await,
        ];
        let mut table = Stream::open(frozen.url("/table")).await;
        let (mut rows, mut resets) = (BTreeMap::new(), Vec::new());
        hear(
            &mut rows,
            &mut resets,
            &table.collect_until(named("caught-up"), secs(60)).await,
        );
        cluster[1].stop();
        cluster.await_led(&topic, 0, 1);
        write(&cluster, 0, &topic, "lost", LOST);
        let last = || format!("lost-{}", LOST - 1);
        let mut ids = Vec::new();
        for client in &mut clients {
            let events = client.collect_until(until(last()), secs(60)).await;
            ids.push(events.last().expect("an event").id.clone());
        }
        let before = table.collect_until(until(last()), secs(60)).await;
        let row_id = before.last().expect("an event").id.clone();
        hear(&mut rows, &mut resets, &before);
        frozen.signal(Signal::STOP);
        cluster[0].kill9();
        cluster[1].restart();
        cluster.await_led(&topic, 1, 1);
        write(&cluster, 1, &topic, "new", NEW);
        frozen.signal(Signal::CONT);
        let last = || format!("new-{}", NEW - 1);
        for (client, what) in clients.iter_mut().zip(["outgrown", "asked meanwhile"]) {
            check(&client.collect_until(until(last()), secs(120)).await, what);
        }
        hear(
            &mut rows,
            &mut resets,
            &table.collect_until(until(last()), secs(60)).await,
        );
        assert_eq!(resets, ["\"truncated\""]);
        let mut wanted = BTreeMap::new();
        for said in [said("kept", KEPT), said("new", NEW)] {
            for (number, said) in said.into_iter().enumerate() {
                wanted.insert(format!("\"k{}\"", number % 7), said);
            }
        }
        assert_eq!(rows, wanted);
        // A replica that began after the election has never read what was lost. It compares ids once it has read the log
        // around them.
        let later = Daemon::start(&config(&cluster, &topic, "earliest"));
        later.wait_ready(secs(60)).await;
        for (daemon, what) in [(&frozen, "back"), (&later, "at another")] {
            for id in &ids {
                let url = daemon.url(&format!("/events?lastEventId={id}"));
                let mut client = Stream::open(url).await;
                check(&client.collect_until(named("caught-up"), secs(60)).await, what);
            }
            let mut client = Stream::open(daemon.url(&format!("/table?lastEventId={row_id}"))).await;
            let events = client.collect_until(named("caught-up"), secs(60)).await;
            let (mut rows, mut resets) = (BTreeMap::new(), Vec::new());
            hear(&mut rows, &mut resets, &events);
            assert_eq!(resets, ["\"truncated\""], "{what}");
            assert_eq!(rows, wanted, "{what}");
        }
        let metrics = frozen.get("/metrics").await.text();
        assert!(
            metrics.lines().any(|line| line.contains("_gaps_total{")
                && line.contains("\"all\"")
                && line.ends_with(" 1")),
            "{metrics}"
        );
    });
}

/// The `kafka` crate knows no leader epochs: it notices a log that ends before what was read.
fn a_shorter_log_is_a_gap_and_not_a_new_topic_for_the_kafka_crate() {
    let (cluster, topic) = replicated(Version::V3_9);
    let daemon = Daemon::start(&format!(
        "[kafka]\nbrokers = {:?}\nclient = \"kafka\"\nisolation = \"read_uncommitted\"\n[http]\n\
         listen = [\"127.0.0.1:0\"]\n[[stream]]\npath = \"/events\"\ntopics = [{topic:?}]\nstart = \"earliest\"\n",
        cluster.bootstrap()
    ));
    block_on(async {
        let mut client = Stream::open(daemon.url("/events")).await;
        client.collect_until(named("caught-up"), secs(60)).await;
        cluster[1].stop();
        cluster.await_led(&topic, 0, 1);
        write(&cluster, 0, &topic, "lost", LOST);
        let before = client.collect_until(until_records(LOST), secs(60)).await;
        cluster[0].kill9();
        cluster[1].restart();
        cluster.await_led(&topic, 1, 1);
        let gap = client.next(secs(120)).await;
        let data = gap.json();
        assert_eq!((gap.name.as_str(), &data["reason"]), ("gap", &"truncated".into()));
        assert_eq!((&data["from"], &data["to"]), (&10.into(), &50.into()));
        write(&cluster, 1, &topic, "new", 5);
        let events = client.collect_until(until_records(5), secs(60)).await;
        let shown: Vec<&str> = events.iter().map(|event| event.data.trim_matches('"')).collect();
        assert_eq!(shown, said("new", 5));
        // A client that resumes from an id beyond the end gets the same gap.
        let id = &before.last().expect("an event").id;
        let mut back = Stream::open(daemon.url(&format!("/events?lastEventId={id}"))).await;
        let events = back.collect_until(named("caught-up"), secs(60)).await;
        assert_eq!(events[0].name, "gap", "{events:?}");
        assert_eq!(events[0].json()["reason"], "truncated");
        assert_eq!(events.len(), 7, "{events:?}");
    });
}
