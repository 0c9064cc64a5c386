//! A reload applies exactly the changed keys: tuned streams stay open, listeners open and close, and an invalid
//! configuration changes nothing. Streams are in `reload_streams`, Kafka in `reload_kafka`.

use crate::common::{config, is_record, named, numbered, records, until_records};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::systemd::Systemd;
use crate::harness::wait::{block_on, ensure, eventually, eventually_async, millis, secs};
use crate::rig::line;
use crate::trials;
use libtest_mimic::Trial;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

pub fn trials() -> Vec<Trial> {
    trials![
        a_reload_changes_keepalive_heartbeat_and_retry_of_open_streams,
        a_connection_lifetime_counts_from_the_reload_that_set_it,
        a_reload_changes_log_bytes_and_lag_policy_of_open_streams,
        a_full_table_has_all_rows_once_its_bound_is_raised,
        a_reload_changes_write_timeout_for_new_connections,
        a_reload_changes_title_and_client_filters_for_new_requests,
        a_reload_changes_the_log_format_and_file,
        a_reload_adds_and_removes_addresses_and_open_streams_stay,
        a_failed_reload_changes_nothing_and_notifies_systemd,
        systemd_is_notified_of_a_reload_in_order,
    ]
}

/// Reloads with this configuration, and returns the log line of the result.
#[track_caller]
pub fn reload(daemon: &Daemon, text: &str) -> String {
    let verdicts = || -> Vec<String> {
        let verdict = |line: &str| {
            let (_, line) = line.split_once("kafka_sse_bridge::reload: ")?;
            line.starts_with("reload").then(|| line.to_owned())
        };
        daemon.log().lines().filter_map(verdict).collect()
    };
    let before = verdicts().len();
    daemon.rewrite_config(text);
    daemon.signal(Signal::HUP);
    eventually(secs(30), "the reload is over", || {
        verdicts().into_iter().nth(before).ok_or("it is not")
    })
}

#[track_caller]
pub fn reloaded(daemon: &Daemon, text: &str, keys: &str) {
    assert_eq!(reload(daemon, text), format!("reloaded: {keys}"));
}

/// A topic of the newest broker with so many numbered records, and a configuration that serves it.
pub fn topic(count: usize, stream: &str) -> (Arc<Broker>, String, String) {
    let broker = Broker::shared(Version::V4_4);
    let (topic, text) = topic_of(&broker, count, stream);
    (broker, topic, text)
}

/// The same of a broker of the test's own.
pub fn topic_of(broker: &Broker, count: usize, stream: &str) -> (String, String) {
    let topic = topic_name("reload");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &numbered(0, 0, count));
    let text = config(broker, &[&topic], stream);
    (topic, text)
}

pub fn with_http(text: &str, lines: &str) -> String {
    text.replacen("[http]\n", &format!("[http]\n{lines}\n"), 1)
}

/// A client that has caught up.
pub async fn client(daemon: &Daemon, path: &str) -> Stream {
    let mut stream = Stream::open(daemon.url(path)).await;
    stream.collect_until(named("caught-up"), secs(30)).await;
    stream
}

/// The last event is a goodbye for this reason.
#[track_caller]
pub fn says_goodbye(events: &[Event], end: &NoEvent, reason: &str) {
    assert!(matches!(end, NoEvent::Ended), "{end}");
    let goodbye = events.last().expect("an event");
    assert_eq!(
        (goodbye.name.as_str(), goodbye.data.as_str()),
        ("goodbye", format!("{{\"reason\":\"{reason}\"}}").as_str())
    );
}

pub fn is_reset(event: &Event) -> bool {
    event.is("reset")
}

fn a_reload_changes_keepalive_heartbeat_and_retry_of_open_streams() {
    let (broker, topic, text) = topic(1, "start = \"earliest\"");
    let text = with_http(&text, "keepalive = \"1h\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        reloaded(&daemon, &text, "nothing has changed");

        let text = text.replace("\"1h\"", "\"1s\"");
        reloaded(&daemon, &text, "http.keepalive");
        let comment = stream.next_comment(secs(20)).await.expect("a keepalive");
        assert_eq!(comment, "");

        let beating = format!("{text}heartbeat = \"event\"\nheartbeat_interval = \"1s\"\n");
        reloaded(
            &daemon,
            &beating,
            "stream \"/events\": heartbeat, stream \"/events\": heartbeat_interval",
        );
        for _ in 0..2 {
            assert!(stream.next(secs(20)).await.is("heartbeat"));
        }
        let slower = beating.replace("heartbeat_interval = \"1s\"", "heartbeat_interval = \"1h\"");
        for quiet in [&slower, &beating, &text] {
            reload(&daemon, quiet);
            if *quiet == beating {
                assert!(stream.next(secs(20)).await.is("heartbeat"), "they are back");
                continue;
            }
            // Keepalives come in the pauses of a second that heartbeats would fill.
            for _ in 0..3 {
                stream.next_comment(secs(20)).await.expect("a keepalive");
            }
            broker.produce(&topic, &[Message::value("end")]);
            let events = stream.collect_until(is_record, secs(20)).await;
            assert!(events.len() <= 2, "one may have been on its way: {events:?}");
        }

        reloaded(&daemon, &with_http(&text, "retry = \"60s\""), "http.retry");
        daemon.signal(Signal::TERM);
        let (events, end) = stream.collect_to_end(secs(20)).await;
        says_goodbye(&events, &end, "shutdown");
        let retry = stream.retry().expect("a reconnect time");
        assert!((45_000..=75_000).contains(&retry), "{retry}");
    });
}

fn a_connection_lifetime_counts_from_the_reload_that_set_it() {
    let (_broker, _topic, text) = topic(1, "start = \"earliest\"");
    let text = with_http(&text, "keepalive = \"1h\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        reloaded(
            &daemon,
            &with_http(&text, "max_lifetime = \"1h\""),
            "http.max_lifetime",
        );
        reloaded(
            &daemon,
            &with_http(&text, "max_lifetime = \"1s\""),
            "http.max_lifetime",
        );
        let (events, end) = stream.collect_to_end(secs(20)).await;
        says_goodbye(&events, &end, "lifetime");
    });
}

/// The first stream of `/streams`.
pub async fn figures(daemon: &Daemon) -> serde_json::Value {
    daemon.get("/streams").await.json()["streams"][0].clone()
}

/// Writes 8 MB, and waits until they are in the log of the first stream.
pub async fn fill_log(broker: &Broker, topic: &str, daemon: &Daemon) {
    let large = "x".repeat(100_000);
    broker.produce(topic, &vec![Message::value(large.as_str()); 80]);
    eventually_async(secs(30), "the log holds all", async || {
        let log = figures(daemon).await["log"]["records"].clone();
        ensure(log == 80, log.to_string())
    })
    .await;
}

fn a_reload_changes_log_bytes_and_lag_policy_of_open_streams() {
    let (broker, topic, text) = topic(0, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        // A client whose socket is full.
        let opening = Stream::to(daemon.url("/events")).receive_buffer(4096);
        let mut stream = opening.send().await.expect("it opens");
        fill_log(&broker, &topic, &daemon).await;
        let small = format!("{text}log_bytes = \"512KiB\"\nlag = \"disconnect\"\n");
        reloaded(
            &daemon,
            &small,
            "stream \"/events\": lag, stream \"/events\": log_bytes",
        );
        // At once, without further records.
        let bytes = figures(&daemon).await["log"]["bytes"].as_u64().expect("a number");
        assert!(bytes <= 512 * 1024, "{bytes}");
        let (events, end) = stream.collect_to_end(secs(30)).await;
        says_goodbye(&events, &end, "slow");
    });
}

fn a_full_table_has_all_rows_once_its_bound_is_raised() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("bounds");
    broker.create_topic(&topic, 1, &[]);
    let row = |key: &str| Message::new(key, key);
    broker.produce(&topic, &["a", "b", "c"].map(row));
    let text = config(&broker, &[&topic], "start = \"snapshot\"\nmax_keys = 2");
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        assert!(
            daemon
                .get("/health/ready")
                .await
                .text()
                .contains("its table is full")
        );
        reloaded(
            &daemon,
            &text.replace("max_keys = 2", "max_keys = 4"),
            "stream \"/events\": max_keys",
        );
        assert!(
            !daemon
                .get("/health/ready")
                .await
                .text()
                .contains("its table is full")
        );
        // Evicted records are read again.
        let events = stream.collect_until(until_records(3), secs(20)).await;
        assert_eq!(line(&events[0]), r#"reset {"reason":"reconfigured"}"#);
        assert_eq!(records(&events), ["a", "b", "c"]);
        broker.produce(&topic, &[row("d")]);
        stream.collect_until(is_record, secs(20)).await;
        let mut fresh = Stream::open(daemon.url("/events")).await;
        let events = fresh.collect_until(named("caught-up"), secs(20)).await;
        assert_eq!(records(&events), ["a", "b", "c", "d"]);
    });
}

fn a_reload_changes_write_timeout_for_new_connections() {
    let (broker, topic, text) = topic(0, "start = \"earliest\"");
    let large = "x".repeat(500_000);
    broker.produce(&topic, &vec![Message::value(large.as_str()); 20]);
    let daemon = Daemon::start(&with_http(&text, "write_timeout = \"1h\""));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let sluggish = || Stream::to(daemon.url("/events")).receive_buffer(4096).send();
        let mut before = sluggish().await.expect("it opens");
        reloaded(
            &daemon,
            &with_http(&text, "write_timeout = \"1s\""),
            "http.write_timeout",
        );
        let _after = sluggish().await.expect("it opens");
        eventually_async(secs(30), "the new one is given up", async || {
            let http = daemon.get("/streams").await.json()["http"].clone();
            ensure(http["write_timeouts"] == 1, http.to_string())
        })
        .await;
        let events = before.collect_until(named("caught-up"), secs(30)).await;
        assert_eq!(records(&events).len(), 20, "the old one is not");
    });
}

fn a_reload_changes_title_and_client_filters_for_new_requests() {
    let (_broker, _topic, text) = topic(1, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        let title = format!("{text}[ui]\ntitle = \"Under <new> management\"\n");
        reloaded(&daemon, &title, "ui.title");
        let page = daemon.get("/").await.text();
        assert!(page.contains("Under &lt;new&gt; management"), "{page}");

        reloaded(
            &daemon,
            &format!("{text}client_filters = false\n"),
            "stream \"/events\": client_filters, ui.title",
        );
        let refused = daemon.get("/events?key=x").await;
        assert_eq!(refused.status, 403, "{}", refused.text());
        // Headers were kept all along, but not by a daemon that began without.
        reloaded(&daemon, &text, "stream \"/events\": client_filters");
        let filtered = Stream::open(daemon.url("/events?header.x=y")).await;
        assert_eq!(filtered.status, 200);
        let events = stream.collect_until(is_record, secs(30)).await;
        assert!(is_reset(&events[0]), "{events:?}");
    });
}

fn a_reload_changes_the_log_format_and_file() {
    let (_broker, _topic, text) = topic(1, "start = \"earliest\"");
    let text = format!("{text}[log]\nstderr = true\n");
    let daemon = Daemon::start(&text);
    let file = daemon.directory().join("bridge.log");
    fs::write(&file, "what was there before\n").expect("a log");
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        let to_file = format!("{text}file = \"bridge.log\"\nformat = \"json\"\n");
        daemon.rewrite_config(&to_file);
        daemon.signal(Signal::HUP);
        daemon.wait_log("\"message\":\"reloaded: log.file, log.format\"", secs(20));
        let log = fs::read_to_string(&file).expect("a log");
        assert!(log.starts_with("what was there before\n{"), "{log}");
        reloaded(&daemon, &text, "log.file, log.format");
        let known = fs::read_to_string(&file).expect("a log");
        reloaded(&daemon, &text, "nothing has changed");
        assert_eq!(fs::read_to_string(&file).expect("a log"), known, "it is left");
        assert!(matches!(stream.try_next(millis(1)).await, Err(NoEvent::Timeout)));
    });
}

fn a_reload_adds_and_removes_addresses_and_open_streams_stay() {
    let (broker, topic, text) = topic(1, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    let socket = daemon.directory().join("bridge.sock");
    let port = free_port();
    let first = "listen = [\"127.0.0.1:0\"]";
    let more = text.replace(
        first,
        &format!(
            "listen = [\"127.0.0.1:0\", \"127.0.0.1:{port}\", \"unix:{}\"]",
            socket.display()
        ),
    );
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        for round in 0..2 {
            reloaded(&daemon, &more, "http.listen");
            let there = format!("http://127.0.0.1:{port}");
            let live = http::get(&format!("{there}/health/live"), &[]).await;
            assert_eq!(live.status, 200);
            assert!(UnixStream::connect(&socket).is_ok());
            let mut second = Stream::open(format!("{there}/events")).await;
            second.collect_until(named("caught-up"), secs(30)).await;
            reloaded(&daemon, &text, "http.listen");
            // The change is in effect when the line is logged.
            assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "round {round}");
            assert!(!socket.exists());
            broker.produce(&topic, &[Message::value("more")]);
            assert_eq!(stream.next(secs(20)).await.data, "more");
            assert_eq!(second.next(secs(20)).await.data, "more", "connected clients stay");
            if round == 1 {
                daemon.signal(Signal::TERM);
                let (events, end) = second.collect_to_end(secs(20)).await;
                says_goodbye(&events, &end, "shutdown");
            }
        }
    });
}

fn systemd_is_notified_of_a_reload_in_order() {
    let (_broker, _topic, text) = topic(1, "start = \"earliest\"");
    let systemd = Systemd::new();
    let daemon = systemd.start(&text);
    assert_eq!(systemd.next_change(), ["READY=1"]);
    reloaded(&daemon, &with_http(&text, "keepalive = \"5s\""), "http.keepalive");
    let reloading = systemd.next_change();
    assert_eq!(reloading[0], "RELOADING=1");
    let since = reloading[1].strip_prefix("MONOTONIC_USEC=").expect("since when");
    assert!(since.parse::<u64>().is_ok_and(|since| since > 0), "{since}");
    let status = systemd.status("what was reloaded", |status| status.contains("reloaded"));
    assert!(status.ends_with("; reloaded: http.keepalive"), "{status}");
    assert_eq!(systemd.next_change(), ["READY=1"]);
}

fn a_failed_reload_changes_nothing_and_notifies_systemd() {
    let (broker, topic, text) = topic(1, "start = \"earliest\"");
    let systemd = Systemd::new();
    let daemon = systemd.start(&text);
    assert_eq!(systemd.next_change(), ["READY=1"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address");
    let socket = daemon.directory().join("left.sock");
    // Each would change something else too, if it could.
    let event = format!("{text}event = \"x\"\n");
    let listen = |address: &str| {
        event.replace(
            "listen = [\"127.0.0.1:0\"]",
            &format!("listen = [\"unix:{}\", \"{address}\"]", socket.display()),
        )
    };
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        for (broken, why) in [
            ("[[[\nREADY=1".to_owned(), "config.toml:1: "),
            (
                with_http(&event, "keepalive = \"0s\"").replace("/events", "events"),
                "is less than 1s; proxies are content with 15s; ",
            ),
            (listen(&taken.to_string()), "cannot listen on 127.0.0.1:"),
            (
                format!("{}[log]\nfile = \"/proc/none/x.log\"\n", listen("127.0.0.1:0")),
                "log file /proc/none/x.log",
            ),
        ] {
            let line = reload(&daemon, &broken);
            let failed = "reload failed, the running configuration is unchanged: ";
            assert!(line.starts_with(failed) && daemon.log().contains(why), "{line}");
            assert_eq!(systemd.next_change()[0], "RELOADING=1");
            systemd.status(why, |status| status.starts_with(failed) && status.contains(why));
            assert_eq!(systemd.next_change(), ["READY=1"]);
            assert!(!socket.exists(), "{why}: it leaves nothing behind");
            broker.produce(&topic, &[Message::value("more")]);
            let event = stream.next(secs(20)).await;
            assert_eq!((event.name.as_str(), event.data.as_str()), ("message", "more"));
        }
        reloaded(&daemon, &text, "nothing has changed");
    });
}
