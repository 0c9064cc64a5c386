//! `/metrics` is served as it should be: in both formats, as the documentation, the dashboard and the alert
//! rules have it, and without going back at a reload. Their values are in `counted`.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts come as floating point numbers, and are whole"
)]

use crate::common::{config, is_record, numbered, until_records};
use crate::docs::documents;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::certificates::Certificates;
use crate::harness::daemon::Daemon;
use crate::harness::figures::Figures;
use crate::harness::http;
use crate::harness::produce::Message;
use crate::harness::promise;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::reload::{client, is_reset, reload, reloaded, topic, with_http};
use libtest_mimic::Trial;
use reqwest::Method;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::{Command, Output, Stdio};

pub fn trials() -> Vec<Trial> {
    // scripts/promtool then prints what it skips.
    let lacks_promtool = !promtool(&["--check"]).is_some_and(|output| output.status.success());
    vec![
        promise(both_metrics_formats_are_served_as_requested),
        promise(promtool_accepts_the_metrics).with_ignored_flag(lacks_promtool),
        promise(the_table_of_metrics_matches_the_served_metrics),
        promise(dashboard_and_alert_rules_use_served_metrics),
        promise(metrics_continue_across_reloads),
        promise(a_metric_distinguishes_configurations),
    ]
}

/// scripts/promtool, which finds it; nothing where it cannot even be run.
fn promtool(arguments: &[&str]) -> Option<Output> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/promtool");
    let mut command = Command::new(script);
    command.args(arguments).stderr(Stdio::inherit()).output().ok()
}

fn promtool_accepts_the_metrics() {
    let path = promtool(&[]).expect("it was here").stdout;
    let path = String::from_utf8(path).expect("a path");
    let (daemon, _stream) = daemon_with_everything();
    let text = block_on(daemon.get("/metrics")).text();
    let file = daemon.directory().join("metrics.txt");
    fs::write(&file, text).expect("a file");
    let mut check = Command::new(path.trim_end());
    check
        .args(["check", "metrics"])
        .stdin(File::open(&file).expect("it is there"));
    let output = check.output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

/// The current metrics.
pub async fn figures(daemon: &Daemon) -> Figures {
    let answer = daemon.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Figures::parse(&answer.text())
}

/// The label of the stream that `common::config` serves.
pub const EVENTS: (&str, &str) = ("stream", "/events");

fn both_metrics_formats_are_served_as_requested() {
    let (_broker, _topic, text) = topic(1, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let url = daemon.url("/metrics");
        let plain = daemon.get("/metrics").await;
        assert_eq!(
            plain.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        assert_eq!(plain.header("cache-control"), Some("no-store"));
        let figures = Figures::parse(&plain.text());
        let version = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("librdkafka", "true"),
            ("kafka_crate", "true"),
        ];
        assert!(figures.get("kafka_sse_bridge_build_info", &version) > 0.0);
        assert!(figures.get("kafka_sse_bridge_ready", &[]) > 0.0);
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
        ] {
            assert!(figures.get(name, &[]) > 0.0, "{name}");
        }

        // The request of Prometheus.
        let accept =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2";
        let open = http::get(&url, &[("accept", accept)]).await;
        assert_eq!(
            open.header("content-type"),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        let body = open.text();
        assert!(body.ends_with("\n# EOF\n"), "{body}");
        // A counter's family has its name without the suffix here.
        assert!(
            body.contains("# TYPE kafka_sse_bridge_deliveries counter\n"),
            "{body}"
        );

        let head = http::request(Method::HEAD, &url, &[]).await.expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-type"), plain.header("content-type"));
        let posted = http::request(Method::POST, &url, &[]).await.expect("an answer");
        assert_eq!(posted.status, 405);
        let about = http::get(&daemon.url("/about"), &[("accept", "application/json")]).await;
        assert!(about.text().contains("\"/metrics\""), "{}", about.text());
    });
}

/// A daemon that serves samples of every family: a table, replays, a client library in use, a certificate.
fn daemon_with_everything() -> (Daemon, (Stream, Certificates)) {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("everything");
    broker.create_topic(&topic, 1, &[("cleanup.policy", "compact")]);
    broker.produce(&topic, &[Message::new("k", "{}")]);
    let certificates = Certificates::new();
    let text = config(&broker, &[&topic], "start = \"snapshot\"");
    let daemon = Daemon::start(&certificates.behind(&text, ""));
    let stream = block_on(async {
        daemon.wait_ready(secs(30)).await;
        // The library speaks of its connections every two seconds.
        eventually_async(secs(30), "connections are reported", async || {
            let figures = figures(&daemon).await;
            let mut times = figures.all("kafka_sse_bridge_kafka_broker_round_trip_seconds");
            ensure(times.next().is_some(), "not yet")
        })
        .await;
        client(&daemon, "/events").await
    });
    (daemon, (stream, certificates))
}

/// Has samples only while a partition cannot be read on.
const UNLESS_STOPPED: &str = "kafka_sse_bridge_kafka_stopped_offset";

fn the_table_of_metrics_matches_the_served_metrics() {
    let (daemon, _stream) = daemon_with_everything();
    let figures = block_on(figures(&daemon));
    let page = include_str!("../../docs/operations.md");
    let (_, section) = page.split_once("\n## Metrics\n").expect("its section");
    let section = section.split("\n## ").next().expect("it ends");
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`').expect("a name in backquotes");
        let labels = cells.next()?.split(", ").filter(|label| !label.is_empty());
        Some((
            name.to_owned(),
            labels.map(str::to_owned).collect::<BTreeSet<_>>(),
        ))
    });
    let mut described = BTreeSet::new();
    for (name, labels) in rows {
        let kind = figures.types.get(&name);
        let kind = kind.unwrap_or_else(|| panic!("{name} is described and not served"));
        let samples = match kind.as_str() {
            "histogram" => format!("{name}_count"),
            _ => name.clone(),
        };
        let mut samples = figures.all(&samples).peekable();
        assert!(
            samples.peek().is_some() || name == UNLESS_STOPPED,
            "{name} has samples here"
        );
        for (found, _) in samples {
            let found: BTreeSet<String> = found.keys().cloned().collect();
            assert_eq!(found, labels, "labels of {name}");
        }
        described.insert(name);
    }
    let served: BTreeSet<String> = figures.types.into_keys().collect();
    let missing: Vec<&String> = served.difference(&described).collect();
    assert!(missing.is_empty(), "docs/operations.md lacks {missing:?}");
    for (path, text) in documents() {
        for name in names_in(&text) {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|part| name.strip_suffix(part));
            let is_served = served.contains(&name) || family.is_some_and(|family| served.contains(family));
            assert!(is_served, "{path}: {name} is not served");
        }
    }
}

/// Names of metrics in a text.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_ours = |word: &&str| word.starts_with("kafka_sse_bridge_") || word.starts_with("process_");
    words.filter(is_ours).map(str::to_owned).collect()
}

fn dashboard_and_alert_rules_use_served_metrics() {
    let (daemon, _stream) = daemon_with_everything();
    let figures = block_on(figures(&daemon));
    let rules = include_str!("../../packaging/prometheus/kafka-sse-bridge.rules.yml");
    let dashboard = include_str!("../../packaging/grafana/kafka-sse-bridge.json");
    for (what, text) in [("rules", rules), ("dashboard", dashboard)] {
        let names = names_in(text);
        assert!(names.len() > 10, "{what}: {names:?}");
        for name in names {
            let has_samples = figures.all(&name).next().is_some();
            assert!(
                has_samples,
                "the {what} ask for {name}, of which there is no sample"
            );
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "{panel}: its id is another's");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{panel}");
    }
}

fn metrics_continue_across_reloads() {
    let (broker, topic, text) = topic(10, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut stream = client(&daemon, "/events").await;
        let before = figures(&daemon).await;
        let applied = "kafka_sse_bridge_config_last_reload_success_timestamp_seconds";
        let started = before.get(applied, &[]);
        let not_back = |before: &Figures, after: &Figures| {
            let after = after.counters();
            for (name, value) in before.counters() {
                let now = after.get(&name).unwrap_or_else(|| panic!("{name} is gone"));
                assert!(*now >= value, "{name} went back from {value} to {now}");
            }
        };
        // The rebuilt stream keeps its client, which is counted once.
        let rebuilt = format!("{text}format = \"envelope\"\n");
        reload(&daemon, &rebuilt);
        stream.collect_until(is_reset, secs(20)).await;
        stream.collect_until(until_records(10), secs(20)).await;
        let after = figures(&daemon).await;
        not_back(&before, &after);
        assert_eq!(
            after.get("kafka_sse_bridge_clients_opened_total", &[EVENTS]) as u64,
            1
        );
        assert_eq!(after.get("kafka_sse_bridge_clients", &[EVENTS]) as u64, 1);
        assert_eq!(
            after.get("kafka_sse_bridge_deliveries_total", &[EVENTS]) as u64,
            20
        );
        let reset = [EVENTS, ("to", "client"), ("reason", "reconfigured")];
        assert_eq!(after.get("kafka_sse_bridge_resets_total", &reset) as u64, 1);
        assert_eq!(
            after.get("kafka_sse_bridge_kafka_records_total", &[("topic", &topic)]) as u64,
            20,
            "read once for each of the two"
        );
        assert!(after.get(applied, &[]) > started);

        // A failed reload changes nothing and is reported until one succeeds.
        let results = async |ok: u64, failed: u64| {
            let figures = figures(&daemon).await;
            let of = |result| figures.get("kafka_sse_bridge_reloads_total", &[("result", result)]) as u64;
            assert_eq!((of("ok"), of("failed")), (ok, failed));
            figures.get("kafka_sse_bridge_config_last_reload_successful", &[]) as u64
        };
        assert_eq!(results(1, 0).await, 1);
        let said = reload(&daemon, "no = \"such key\"");
        assert!(said.starts_with("reload failed"), "{said}");
        assert_eq!(results(1, 1).await, 0);
        reloaded(&daemon, &rebuilt, "nothing has changed");
        assert_eq!(results(2, 1).await, 1);

        // A removed and re-added path continues to count.
        let elsewhere = rebuilt.replace("\"/events\"", "\"/elsewhere\"");
        let before = figures(&daemon).await;
        reload(&daemon, &elsewhere);
        let (_, end) = stream.collect_to_end(secs(20)).await;
        assert!(matches!(end, NoEvent::Ended), "{end}");
        reload(&daemon, &rebuilt);
        daemon.wait_ready(secs(30)).await;
        let mut back = client(&daemon, "/events").await;
        broker.produce(&topic, &numbered(0, 10, 1));
        back.collect_until(is_record, secs(20)).await;
        let after = figures(&daemon).await;
        not_back(&before, &after);
        assert_eq!(
            after.get("kafka_sse_bridge_clients_opened_total", &[EVENTS]) as u64,
            2
        );
    });
}

fn a_metric_distinguishes_configurations() {
    let (_broker, _topic, text) = topic(1, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let hash = async || figures(&daemon).await.get("kafka_sse_bridge_config_hash", &[]) as u64;
        let first = hash().await;
        let other = with_http(&text, "keepalive = \"7s\"");
        reloaded(&daemon, &other, "http.keepalive");
        let second = hash().await;
        assert_ne!(second, first);
        reload(&daemon, "wrong");
        assert_eq!(hash().await, second, "nothing has changed");
        reloaded(&daemon, &text, "http.keepalive");
        assert_eq!(hash().await, first, "the same settings, the same number");
        // A secret is not to be tried out on it.
        let with = |password: &str| {
            text.replacen(
                "[kafka]\n",
                &format!("[kafka]\nlibrdkafka = {{ \"sasl.password\" = \"{password}\" }}\n"),
                1,
            )
        };
        reload(&daemon, &with("one"));
        let one = hash().await;
        assert_ne!(one, first);
        reload(&daemon, &with("other"));
        assert_eq!(hash().await, one);
    });
}
