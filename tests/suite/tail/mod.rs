//! `tail` reads a stream as an EventSource does, resumes, and reports events and errors.

mod errors;
mod process;
mod secure;

use self::process::{Tail, data_of_records, said, scripted, stream_of, tail};
use crate::common::{config, expected, numbered};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::on_each_broker;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::wait::secs;
use crate::trials;
use libtest_mimic::Trial;
use serde_json::Value;
use std::sync::Arc;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        tail_resumes_across_daemon_restarts_without_loss,
        tail_reconnects_after_retry_with_the_last_complete_id,
        tail_counts_gaps_and_resets,
        tail_prints_its_summary_on_sigint,
        tail_measures_latency_of_live_records_and_heartbeats,
        tail_reads_over_a_unix_socket,
        tail_escapes_control_characters_of_records,
    ];
    trials.extend(on_each_broker(tail_prints_events_and_ends_after_count));
    trials.extend(errors::trials());
    trials.extend(secure::trials());
    trials
}

fn tail_prints_events_and_ends_after_count(broker: &Broker) {
    let topic = topic_name("tail");
    broker.create_topic(&topic, 2, &[]);
    let mut messages = numbered(0, 0, 3);
    messages.push(Message::value("two\nlines").partition(1));
    messages.push(Message::tombstone("gone").partition(1));
    broker.produce(&topic, &messages);
    let daemon = Daemon::start(&config(broker, &[&topic], "start = \"earliest\""));
    let url = daemon.url("/events");

    let (code, out, error) = Tail::start(&[&url, "--count", "6"]).end();
    assert_eq!(code, Some(0), "{error}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines.len(),
        7,
        "an event per line, and one more for the second of two: {out}"
    );
    for value in ["p0-0", "p0-1", "p0-2"] {
        let line = lines.iter().find(|line| line.ends_with(value)).expect(value);
        assert!(line.starts_with("message    A"), "{line}");
    }
    assert!(out.contains(" two\n    lines\n"), "{out}");
    assert!(
        out.contains("delete     ") && out.contains(r#" {"key":"gone"}"#),
        "{out}"
    );
    assert!(
        out.contains("caught-up  ") && out.contains(r#"{"reason":"replay"}"#),
        "{out}"
    );
    let summary = error.lines().last().expect("a summary");
    assert!(
        summary.starts_with("kafka-sse-bridge: 6 events (caught-up 1, delete 1, message 4), "),
        "{summary}"
    );
    assert!(
        summary.contains(" bytes, 0 reconnects, 0 gaps, 0 resets in "),
        "{summary}"
    );

    // As JSON, by partition; and from an id on.
    let (code, out, error) = Tail::start(&[&url, "--json", "--ids", "-n", "6"]).end();
    assert_eq!(code, Some(0), "{error}");
    let mut records = data_of_records(&out);
    records.sort();
    assert_eq!(records, ["p0-0", "p0-1", "p0-2", "two\nlines"]);
    let event: Value = serde_json::from_str(out.lines().next().expect("one")).expect("JSON");
    let next = &event["position"]["topics"][0]["next"];
    assert_eq!(next.as_array().map(Vec::len), Some(2), "{event}");
    let second = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .find(|event| event["data"] == "p0-1")
        .expect("it was there");
    let id = second["id"].as_str().expect("an id");
    let (code, out, _) = Tail::start(&[&format!("{url}?partition=0"), "--json", "--id", id, "-n", "2"]).end();
    assert_eq!(code, Some(0));
    assert_eq!(data_of_records(&out), ["p0-2"]);
}

fn tail_resumes_across_daemon_restarts_without_loss() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("tail-restarts");
    broker.create_topic(&topic, 1, &[]);
    let port = free_port();
    let text = config(&broker, &[&topic], "start = \"earliest\"")
        .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
        .replacen("[http]\n", "[http]\nretry = \"100ms\"\n", 1);
    let mut daemon = Daemon::start(&text);
    let url = daemon.url("/events");
    let follower = Tail::start(&[&url, "--json"]);
    let mut written = 0;
    let mut produce = |count: usize| {
        broker.produce(&topic, &numbered(0, written, count));
        written += count;
        format!("\"p0-{}\"", written - 1)
    };
    follower.out.wait_for(&produce(100));
    // A regular shutdown: goodbye comes first, and records are written while no daemon runs.
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(secs(20)).code(), Some(0));
    let last = produce(100);
    drop(daemon);
    follower
        .error
        .wait_for("the server ended the stream; connecting again in ");
    let daemon = Daemon::start(&text);
    follower.out.wait_for(&last);
    // Killed, in the middle of whatever it was doing.
    let last = produce(2000);
    drop(daemon);
    let _daemon = Daemon::start(&text);
    follower.out.wait_for(&last);
    follower.out.wait_for(&produce(10));
    follower.process.signal(Signal::INT);
    let (code, out, error) = follower.end();
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(
        data_of_records(&out),
        expected(0, 2210),
        "every record once, in order"
    );
    assert!(error.contains("goodbye 1"), "{error}");
    assert!(error.contains(" 2 reconnects, 0 gaps, 0 resets"), "{error}");
}

fn tail_reconnects_after_retry_with_the_last_complete_id() {
    let (url, heads) = scripted(vec![
        stream_of("retry: 10\nid: one\ndata: a\n\nid: two\ndata: cut of"),
        stream_of("id: two\ndata: b\n\ndata: without an id\n\n"),
        stream_of("data: c\n\n"),
    ]);
    let header = "Authorization: Bearer hush";
    let (code, out, error) = Tail::start(&[&url, "--json", "--header", header, "-n", "4"]).end();
    assert_eq!(code, Some(0), "{error}");
    let heads: Vec<String> = heads.iter().collect();
    assert_eq!(data_of_records(&out), ["a", "b", "without an id", "c"]);
    for head in &heads {
        assert!(head.starts_with("GET /x?a=b HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\naccept: text/event-stream\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: Bearer hush\r\n"), "{head}");
    }
    let ids: Vec<Option<&str>> = heads
        .iter()
        .map(|head| head.lines().find_map(|line| line.strip_prefix("last-event-id: ")))
        .collect();
    assert_eq!(
        ids,
        [None, Some("one"), Some("two")],
        "a block that was cut off never was"
    );
    assert!(error.contains("connecting again in 10ms"), "{error}");
    assert!(!error.contains("hush"), "{error}");
}

fn tail_counts_gaps_and_resets() {
    let body = "event: gap\ndata: {\"topic\":\"t\",\"partition\":0,\"from\":3,\"to\":10,\"reason\":\"expired\"}\n\n\
                event: reset\ndata: {\"reason\":\"recreated\",\"topic\":\"t\"}\n\n\
                event: reset\ndata: {\"reason\":\"too-old\"}\n\n: keepalive\n: another\ndata: x\n\n";
    let (url, _heads) = scripted(vec![stream_of(body)]);
    let (code, _, error) = Tail::start(&[&url, "-n", "4"]).end();
    assert_eq!(code, Some(0));
    assert!(error.contains("1 gaps, 7 offsets missing\n"), "{error}");
    assert!(error.contains("resets: recreated 1, too-old 1\n"), "{error}");
    let last = error.lines().last().expect("a summary");
    assert!(
        last.contains("4 events (gap 1, message 1, reset 2), 2 comments, ")
            && last.contains(" 1 gaps, 2 resets in "),
        "{last}"
    );
}

fn tail_prints_its_summary_on_sigint() {
    let (daemon, _broker) = serving("start = \"earliest\"", "");
    let follower = Tail::start(&[&daemon.url("/events")]);
    follower.out.wait_for("caught-up");
    follower.process.signal(Signal::INT);
    let (code, _, error) = follower.end();
    assert_eq!(code, Some(0));
    assert!(error.contains("2 events (caught-up 1, message 1), "), "{error}");
}

/// A topic with the record `one`, and a daemon that serves it.
fn serving(stream: &str, http: &str) -> (Daemon, Arc<Broker>) {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("tail-serving");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[Message::value("one")]);
    let text = config(&broker, &[&topic], stream).replacen("[http]\n", &format!("[http]\n{http}"), 1);
    (Daemon::start(&text), broker)
}

fn tail_measures_latency_of_live_records_and_heartbeats() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("tail-latency");
    broker.create_topic(&topic, 1, &[]);
    // An hour old, so not part of the latency of live records.
    let old = i64::try_from(now_milliseconds() - 3_600_000).expect("it fits");
    broker.produce(&topic, &[Message::value("old").timestamp(old)]);
    let stream =
        "start = \"earliest\"\nformat = \"envelope\"\nheartbeat = \"event\"\nheartbeat_interval = \"1s\"";
    let daemon = Daemon::start(&config(&broker, &[&topic], stream));
    let follower = Tail::start(&[&daemon.url("/events"), "--latency"]);
    follower.out.wait_for("caught-up");
    broker.produce(&topic, &[Message::value("new")]);
    follower.out.wait_for("\"new\"");
    follower.out.wait_for("heartbeat");
    follower.process.signal(Signal::INT);
    let (code, out, error) = follower.end();
    assert_eq!(code, Some(0));
    let line = |text: &str| {
        out.lines()
            .find(|line| line.contains(text))
            .expect("a line")
            .to_owned()
    };
    assert!(!line("\"old\"").contains(" ms "), "{out}");
    for text in ["\"new\"", "heartbeat "] {
        let line = line(text);
        let late = line
            .split(" ms ")
            .next()
            .and_then(|start| start.rsplit(' ').next());
        let late: i64 = late
            .and_then(|late| late.parse().ok())
            .unwrap_or_else(|| panic!("{line}"));
        assert!((-1000..60_000).contains(&late), "{line}");
    }
    assert!(error.contains("kafka-sse-bridge: latency of "), "{error}");
    assert!(error.contains(": p50 ") && error.contains(" p99 "), "{error}");
}

fn now_milliseconds() -> u128 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    since.as_millis()
}

fn tail_reads_over_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("bridge.sock");
    let socket = socket.to_str().expect("UTF-8");
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("tail-unix");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[Message::value("one")]);
    let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{socket}\"]");
    let text =
        config(&broker, &[&topic], "start = \"earliest\"").replacen("listen = [\"127.0.0.1:0\"]", &listen, 1);
    let _daemon = Daemon::start(&text);
    let (code, out, error) = Tail::start(&["http://bridge/events", "--unix-socket", socket, "-n", "1"]).end();
    assert_eq!(code, Some(0), "{error}");
    assert!(out.ends_with(" one\n"), "{out}");
    let output = tail(&["http://bridge/events", "--unix-socket", "/nonexistent/x.sock"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("/nonexistent/x.sock: No such file"),
        "{}",
        said(&output)
    );
}

fn tail_escapes_control_characters_of_records() {
    let (url, _heads) = scripted(vec![stream_of(
        "id: \u{1b}]0;id\ndata: \u{1b}[31mred\u{7}\n\nevent: \u{9b}2J\ndata: tab\tstays\n\n",
    )]);
    let (code, out, error) = Tail::start(&[&url, "-n", "2"]).end();
    assert_eq!(code, Some(0));
    for text in [&out, &error] {
        let is_tame = |c: char| !c.is_control() || c == '\n' || c == '\t';
        assert!(text.chars().all(is_tame), "{text:?}");
    }
    assert!(
        out.contains("\\u{1b}[31mred\\u{7}") && out.contains("tab\tstays"),
        "{out}"
    );
}
