//! No value from outside reaches a formatter or arithmetic that can fail: a panic would end the daemon.

use crate::common::{self, numbered};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http;
use crate::harness::secured::token_until;
use crate::harness::wait::{block_on, ensure, eventually, secs};
use crate::trials;
use kafka_sse_bridge::config::LogFormat;
use kafka_sse_bridge::logging::{LogReader, render};
use libtest_mimic::Trial;
use log::{Level, Record};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn trials() -> Vec<Trial> {
    trials![
        a_log_line_is_written_for_any_clock_value,
        no_token_expiry_crashes_the_daemon,
        no_client_id_or_time_crashes_the_daemon,
    ]
}

/// Times before, within and after the years of RFC 3339.
fn extremes() -> Vec<SystemTime> {
    let seconds = [
        0,
        1,
        253_402_300_799,
        253_402_300_800,
        1_764_000_000_000,
        i64::MAX as u64,
    ];
    let times = seconds.into_iter().flat_map(|seconds| {
        let span = Duration::from_secs(seconds);
        [UNIX_EPOCH.checked_add(span), UNIX_EPOCH.checked_sub(span)]
    });
    times.flatten().collect()
}

fn a_log_line_is_written_for_any_clock_value() {
    for time in extremes() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let arguments = format_args!("a message");
            let record = Record::builder().args(arguments).level(Level::Info).build();
            let line = render(&record, time, format, LogReader::Anyone);
            assert!(line.contains("a message") && line.ends_with('\n'), "{line}");
        }
    }
}

/// A configuration that no broker answers.
fn config(kafka: &str) -> String {
    format!(
        "[kafka]\nbrokers = [\"127.0.0.1:{}\"]\nclient = \"librdkafka\"\n{kafka}\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [[stream]]\npath = \"/events\"\ntopics = [\"t\"]\n",
        free_port()
    )
}

fn no_token_expiry_crashes_the_daemon() {
    let files = tempfile::tempdir().expect("a directory");
    let file = files.path().join("token");
    let text = config(&format!(
        "sasl = {{ mechanism = \"OAUTHBEARER\", token_file = \"{}\" }}",
        file.display()
    ));
    let debug = format!("{text}[log]\nlevel = \"debug\"\n");
    let disbelieved = "which is not a time in seconds since 1970";
    for (exp, says) in [
        // In milliseconds, as the first second that RFC 3339 cannot write, and as the largest numbers.
        ("1764000000000", disbelieved),
        ("253402300800", disbelieved),
        ("18446744073709551615", disbelieved),
        ("1e300", disbelieved),
        ("-1e300", "expired at 1970-01-01T00:00:00Z"),
        ("0", "expired at 1970-01-01T00:00:00Z"),
    ] {
        fs::write(&file, token_until("tokener", exp)).expect("written");
        let daemon = Daemon::start(&debug);
        daemon.wait_log(says, secs(30));
        if says == disbelieved {
            daemon.wait_log("token read from ", secs(30));
        }
        assert_eq!(block_on(daemon.get("/health/live")).status, 200, "exp {exp}");
    }
}

fn no_client_id_or_time_crashes_the_daemon() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("extremes");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &numbered(0, 0, 3));
    let text = common::config(&broker, &[&topic], "");
    let daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        for since in [
            "9223372036854775807",
            "18446744073709551615y",
            "9999-12-31T23:59:59.999Z",
        ] {
            let url = daemon.url(&format!("/events?since={since}"));
            // A stream has no end; a refusal has.
            let _ = tokio::time::timeout(secs(1), http::get(&url, &[])).await;
        }
        for offset in [i64::MIN, -3, i64::MAX] {
            let id = format!(
                r#"[{{"topic":"{topic}","partition":0,"offset":{offset}}},{{"topic":"{topic}","partition":4294967295,"timestamp":{offset}}}]"#
            );
            let url = daemon.url("/events");
            let _ = tokio::time::timeout(secs(1), http::get(&url, &[("Last-Event-ID", &id)])).await;
        }
    });
    eventually(secs(10), "it answers", || {
        ensure(daemon.is_running(), "it has ended")?;
        ensure(block_on(daemon.get("/health/live")).status == 200, "it does not")
    });
}
