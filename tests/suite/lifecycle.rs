//! Signals: a graceful shutdown, a forced one, and reloads that are valid or change nothing.

use crate::common::{config, is_record, named, records};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, ensure, eventually, secs};
use crate::harness::{promise, trial};
use crate::reload::{reload, reloaded};
use libtest_mimic::Trial;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("sigterm_sends_goodbye_to_open_streams_and_exits_with_0", || {
            ends_well(Signal::TERM);
        }),
        trial("sigint_sends_goodbye_to_open_streams_and_exits_with_0", || {
            ends_well(Signal::INT);
        }),
        promise(a_client_that_lags_at_shutdown_gets_its_goodbye),
        promise(a_client_that_does_not_read_does_not_delay_shutdown),
        promise(a_second_signal_exits_at_once),
        promise(a_reload_applies_the_log_level_and_reopens_the_file),
        promise(a_reload_of_an_invalid_file_changes_nothing_and_logs_the_error),
        promise(a_reload_of_an_invalid_file_reopens_the_log_file),
        promise(an_address_in_use_exits_with_69_and_a_remedy),
        promise(the_process_that_holds_an_address_is_named),
        promise(a_missing_systemd_socket_exits_with_69_and_a_remedy),
        promise(a_unix_socket_is_served_and_removed),
        promise(a_unix_socket_has_the_configured_mode_and_group),
        promise(the_log_format_can_be_json_lines),
    ]
}

/// A topic with one record, and a daemon that serves it.
fn serving(more: &str) -> (Daemon, String, Arc<Broker>) {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("lifecycle");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[Message::value("one")]);
    let text = format!("{}{more}", config(&broker, &[&topic], "start = \"earliest\""));
    let daemon = Daemon::start(&text);
    (daemon, text, broker)
}

/// The topic that [`serving`] made.
fn topic_of(text: &str) -> String {
    text.split('"')
        .find(|part| part.starts_with("lifecycle-"))
        .expect("its topic")
        .to_owned()
}

fn ends_well(signal: Signal) {
    let (mut daemon, _, _broker) = serving("");
    block_on(async {
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = Stream::open(daemon.url("/events")).await;
            stream.collect_until(named("caught-up"), secs(20)).await;
            streams.push(stream);
        }
        daemon.signal(signal);
        let mut retries = Vec::new();
        for mut stream in streams {
            let id = stream.last_event_id().to_owned();
            let (events, end) = stream.collect_to_end(secs(10)).await;
            assert!(
                matches!(end, NoEvent::Ended),
                "the response ends as HTTP says: {end:?}"
            );
            let goodbye = events.last().expect("goodbye");
            assert_eq!(
                (goodbye.name.as_str(), goodbye.data.as_str()),
                ("goodbye", r#"{"reason":"shutdown"}"#)
            );
            assert_eq!(goodbye.id, id, "with the client's place");
            retries.extend(stream.retry());
        }
        retries.sort_unstable();
        retries.dedup();
        assert!(retries.len() > 5, "reconnects are spread: {retries:?}");
    });
    assert_eq!(daemon.wait_exit(secs(10)).code(), Some(0));
    assert!(!daemon.log().contains("panicked"));
    assert!(daemon.log().trim_end().ends_with("stopped"), "{}", daemon.log());
}

/// A client that is behind at shutdown still gets the records that were due to it, and its goodbye.
fn a_client_that_lags_at_shutdown_gets_its_goodbye() {
    let (mut daemon, _broker) = with_large_records("5s");
    block_on(async {
        let mut stream = sluggish(&daemon).await;
        daemon.signal(Signal::TERM);
        daemon.wait_log("shutting down, 1 clients", secs(10));
        let (events, end) = stream.collect_to_end(secs(20)).await;
        assert!(matches!(end, NoEvent::Ended), "{end:?}");
        assert_eq!(
            events.last().map(|event| event.data.as_str()),
            Some(r#"{"reason":"shutdown"}"#)
        );
    });
    assert_eq!(daemon.wait_exit(secs(15)).code(), Some(0));
}

/// A daemon with more to send than sockets and buffers hold.
fn with_large_records(drain_timeout: &str) -> (Daemon, Arc<Broker>) {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("large");
    broker.create_topic(&topic, 1, &[]);
    let large = "x".repeat(500_000);
    broker.produce(&topic, &vec![Message::value(large.as_str()); 40]);
    let text = config(&broker, &[&topic], "start = \"earliest\"");
    let drain = format!("[http]\ndrain_timeout = \"{drain_timeout}\"");
    (Daemon::start(&text.replacen("[http]", &drain, 1)), broker)
}

/// A client of a ready daemon that takes little at a time, and nothing until it is asked to.
async fn sluggish(daemon: &Daemon) -> Stream {
    daemon.wait_ready(secs(20)).await;
    let opening = Stream::to(daemon.url("/events")).receive_buffer(4096);
    opening.send().await.expect("it opens")
}

fn a_client_that_does_not_read_does_not_delay_shutdown() {
    let (mut daemon, _broker) = with_large_records("1s");
    block_on(async {
        let stream = sluggish(&daemon).await;
        daemon.signal(Signal::TERM);
        daemon.wait_log("drain_timeout (1s) exceeded, exiting anyway", secs(10));
        assert_eq!(daemon.wait_exit(secs(10)).code(), Some(0));
        drop(stream);
    });
}

fn a_second_signal_exits_at_once() {
    let (mut daemon, _broker) = with_large_records("1h");
    block_on(async {
        let stream = sluggish(&daemon).await;
        daemon.signal(Signal::TERM);
        daemon.wait_log("shutting down", secs(10));
        daemon.signal(Signal::INT);
        assert_eq!(daemon.wait_exit(secs(10)).code(), Some(1));
        drop(stream);
    });
}

fn a_reload_applies_the_log_level_and_reopens_the_file() {
    let (daemon, text, broker) = serving("[log]\nfile = \"bridge.log\"\nstderr = true\n");
    let topic = topic_of(&text);
    let file = daemon.directory().join("bridge.log");
    let old = daemon.directory().join("bridge.log.1");
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(20)).await;
        assert!(!daemon.log().contains("DEBUG"));
        fs::rename(&file, &old).expect("as log rotation does");
        daemon.rewrite_config(&format!("{text}level = \"debug\"\n"));
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: log.level", secs(10));
        let reopened = fs::read_to_string(&file).expect("the file is there again");
        assert!(
            reopened.contains("reloaded") && !reopened.contains("listening on"),
            "{reopened}"
        );
        drop(Stream::open(daemon.url("/events")).await);
        daemon.wait_log(
            "DEBUG kafka_sse_bridge::http::event_stream: /events: 127.0.0.1",
            secs(10),
        );

        let preload = text.replace("start = \"earliest\"", "start = \"live\"");
        daemon.rewrite_config(&preload);
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: stream \"/events\": start, log.level", secs(10));
        stream.collect_until(named("reset"), secs(20)).await;
        daemon.rewrite_config(&preload.replace("\"live\"", "\"live\"\npreload = 5"));
        daemon.signal(Signal::HUP);
        daemon.wait_log(
            "reloaded: stream \"/events\": preload; restart needed for: stream \"/events\": preload",
            secs(10),
        );
        broker.produce(&topic, &[Message::value("two")]);
        let events = stream.collect_until(is_record, secs(10)).await;
        assert_eq!(records(&events), ["two"], "a reload closes no stream");
        assert_eq!(daemon.get("/health/ready").await.status, 200);
    });
}

fn a_reload_of_an_invalid_file_changes_nothing_and_logs_the_error() {
    let (daemon, text, broker) = serving("");
    let topic = topic_of(&text);
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(20)).await;
        for (broken, why) in [
            (
                text.replace("path = \"/events\"", "path = \"events\""),
                "\"events\" is not a plain path",
            ),
            (
                format!("{text}[log]\nlevel = \"loud\"\n"),
                "unknown value \"loud\"",
            ),
            ("[[[".to_owned(), "config.toml:1: "),
            (
                format!("{text}[log]\nfile = \"/proc/none/x.log\"\n"),
                "log file /proc/none/x.log",
            ),
        ] {
            daemon.rewrite_config(&broken);
            daemon.signal(Signal::HUP);
            daemon.wait_log(why, secs(10));
        }
        assert_eq!(
            daemon
                .log()
                .matches("reload failed, the running configuration is unchanged")
                .count(),
            4
        );
        broker.produce(&topic, &[Message::value("two")]);
        assert_eq!(records(&stream.collect_until(is_record, secs(10)).await), ["two"]);
    });
}

fn a_reload_of_an_invalid_file_reopens_the_log_file() {
    let (daemon, text, _broker) = serving("[log]\nfile = \"bridge.log\"\nstderr = true\n");
    let file = daemon.directory().join("bridge.log");
    let elsewhere = text.replace("bridge.log", "/proc/none/x.log");
    for (round, (wrong, why)) in [("[[[", "config.toml:1: "), (&*elsewhere, "/proc/none/x.log")]
        .into_iter()
        .enumerate()
    {
        let old = daemon.directory().join(format!("bridge.log.{round}"));
        fs::rename(&file, &old).expect("as log rotation does");
        daemon.rewrite_config(wrong);
        daemon.signal(Signal::HUP);
        eventually(secs(10), "the reason is in the new file", || {
            let log = fs::read_to_string(&file).unwrap_or_default();
            ensure(log.contains("reload failed") && log.contains(why), log)
        });
        // Other lines may still have gone to the old file between its renaming and the signal.
        let log = fs::read_to_string(&old).expect("the old file");
        assert_eq!(
            log.matches("reload failed").count(),
            round,
            "the old file got a line of the reload after it: {log}"
        );
    }
    assert!(daemon.is_running());
}

fn an_address_in_use_exits_with_69_and_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let output = run_to_end(&["run", "--config", path, "--listen", &address], &[]);
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains(&format!("cannot listen on {address}")) && said.contains("--listen"),
        "{said}"
    );
}

fn the_process_that_holds_an_address_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, plain) = (
        directory.path().join("config.toml"),
        directory.path().join("plain"),
    );
    fs::write(&file, "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n").expect("written");
    fs::write(&plain, "precious").expect("written");
    let config = file.to_str().expect("UTF-8");
    let address = format!("unix:{}", plain.display());
    let output = run_to_end(&["run", "--config", config, "--listen", &address], &[]);
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("is not a socket: remove it") && !said.contains("another program"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&plain).expect("it is left alone"), "precious");

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    // Two addresses of one daemon.
    drop(taken);
    // Not known before the name is looked up.
    let (one, two) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let output = run_to_end(
        &["run", "--config", config, "--listen", &one, "--listen", &two],
        &[],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains(&format!("the daemon itself serves {one}, which overlaps")),
        "{said}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port().to_string();
    let output = run_to_end(&["demo", "--port", &port, "--no-browser"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("another with --port") && !said.contains("--listen"),
        "{said}"
    );
}

/// That it serves those it gets is tried with the packages, under a real systemd.
fn a_missing_systemd_socket_exits_with_69_and_a_remedy() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let output = run_to_end(&["run", "--config", path, "--listen", "systemd"], &[]);
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("systemd has passed no socket") && said.contains("kafka-sse-bridge.socket"),
        "{said}"
    );
}

fn a_unix_socket_is_served_and_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("bridge.sock");
    // The remains of a killed process.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a stale socket"));
    let text = format!(
        "[kafka]\nbrokers = [\"127.0.0.1:{}\"]\n[http]\nlisten = [\"127.0.0.1:0\", \"unix:{}\"]\n\
         [[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n",
        free_port(),
        socket.display()
    );
    let mut daemon = Daemon::start(&text);
    let answer = eventually(secs(10), "the socket answers", || {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket)?;
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"live\":true}"),
        "{answer}"
    );
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(secs(10)).code(), Some(0));
    assert!(!socket.exists(), "it cleans up");
}

fn a_unix_socket_has_the_configured_mode_and_group() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("bridge.sock");
    let port = free_port();
    let text = |more: &str| {
        format!(
            "[kafka]\nbrokers = [\"127.0.0.1:{port}\"]\n[http]\nlisten = [\"127.0.0.1:0\", \"unix:{}\"]\n{more}\n\
             [[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n",
            socket.display()
        )
    };
    let found = || {
        let found = socket.metadata().expect("a socket");
        (found.mode() & 0o777, found.gid())
    };
    // Root may give it to any group, others to their own.
    let own = rustix::process::getegid().as_raw();
    let group = if rustix::process::geteuid().is_root() {
        33
    } else {
        own
    };
    let with = |mode: &str| {
        text(&format!(
            "unix_socket_mode = \"{mode}\"\nunix_socket_group = \"{group}\""
        ))
    };
    let daemon = Daemon::start(&with("0660"));
    assert_eq!(found(), (0o660, group));
    drop(daemon);

    let daemon = Daemon::start(&text("unix_socket_mode = \"600\""));
    assert_eq!(found(), (0o600, own));
    // A reload changes the existing socket, and clients can still connect.
    reloaded(
        &daemon,
        &with("0666"),
        "http.unix_socket_group, http.unix_socket_mode",
    );
    assert_eq!(found(), (0o666, group));
    std::os::unix::net::UnixStream::connect(&socket).expect("it is served");
    let nobody = "unix_socket_mode = \"0600\"\nunix_socket_group = \"no-such-group\"";
    let why = reload(&daemon, &text(nobody));
    assert!(
        why.contains("reload failed") && why.contains("group \"no-such-group\" does not exist"),
        "{why}"
    );
    assert_eq!(found(), (0o666, group), "nothing has changed");
    let said = reload(&daemon, &text(""));
    assert!(
        said.contains("restart needed for: http.unix_socket_group, http.unix_socket_mode"),
        "{said}"
    );
}

fn the_log_format_can_be_json_lines() {
    let (daemon, _, _broker) = serving("[log]\nformat = \"json\"\n");
    daemon.wait_log("\"message\":\"topic ", secs(20));
    eventually(secs(10), "each line is a JSON object", || {
        // The first lines come before the configuration is read.
        let log = daemon.log();
        let lines: Vec<&str> = log.lines().skip_while(|line| !line.starts_with('{')).collect();
        let is_object = |line: &&str| {
            serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| {
                ["time", "level", "target", "message"]
                    .iter()
                    .all(|field| line[*field].is_string())
            })
        };
        ensure(lines.len() >= 3 && lines.iter().all(is_object), log.clone())
    });
}
