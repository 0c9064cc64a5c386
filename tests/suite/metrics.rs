//! `/metrics` says what happens: what is counted, that it never goes back, and that the documentation, the
//! dashboard and the alert rules speak of what is served.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts come as floating point numbers, and are whole"
)]

use crate::common::{config, is_record, named, numbered, until_records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::figures::Figures;
use crate::harness::http;
use crate::harness::produce::Message;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{on_each_broker, trial};
use crate::reload::{client, is_reset, reload, reloaded, says_goodbye, topic, with_http};
use libtest_mimic::Trial;
use reqwest::Method;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("both_formats_of_metrics_are_served_as_asked", formats),
        trial("the_table_of_metrics_names_what_is_served", documented),
        trial("dashboard_and_alert_rules_ask_for_what_is_served", asked_for),
        trial("deliveries_bytes_and_latencies_are_counted", deliveries),
        trial("clients_are_counted_by_why_they_left", departures),
        trial("figures_go_on_across_reloads", across_reloads),
        trial("the_hash_of_the_configuration_changes_with_it", hash),
        trial(
            "what_is_passed_over_hidden_or_without_a_key_is_counted",
            passed_over,
        ),
        trial("gaps_and_replays_are_counted", past),
        trial("trouble_with_kafka_is_counted_and_so_is_its_end", trouble),
    ];
    trials.extend(on_each_broker(
        "records_and_lag_are_told_by_partition",
        |broker| {
            partitions(&broker);
        },
    ));
    trials
}

pub async fn figures(daemon: &Daemon) -> Figures {
    let answer = daemon.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Figures::parse(&answer.text())
}

/// Waits until a sample has this value.
async fn reaches(daemon: &Daemon, name: &str, labels: &[(&str, &str)], value: f64) {
    eventually_async(secs(30), &format!("{name} {labels:?} is {value}"), async || {
        let now = figures(daemon).await.get(name, labels);
        // Whole numbers, all of them.
        ensure((now - value).abs() < 0.5, now.to_string())
    })
    .await;
}

const EVENTS: (&str, &str) = ("stream", "/events");

fn formats() {
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

        // What Prometheus asks for.
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

/// A daemon that serves samples of every family: a table, replays, a client library in use.
fn daemon_with_everything() -> (Daemon, Stream) {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("everything");
    broker.create_topic(&topic, 1, &[("cleanup.policy", "compact")]);
    broker.produce(&topic, &[Message::new("k", "{}")]);
    let daemon = Daemon::start(&config(&broker, &[&topic], "start = \"snapshot\""));
    let stream = block_on(async {
        daemon.wait_ready(secs(30)).await;
        client(&daemon, "/events").await
    });
    (daemon, stream)
}

fn documented() {
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
        assert!(samples.peek().is_some(), "{name} has samples here");
        for (found, _) in samples {
            let found: BTreeSet<String> = found.keys().cloned().collect();
            assert_eq!(found, labels, "labels of {name}");
        }
        described.insert(name);
    }
    let served: BTreeSet<String> = figures.types.into_keys().collect();
    let missing: Vec<&String> = served.difference(&described).collect();
    assert!(missing.is_empty(), "docs/operations.md lacks {missing:?}");
}

/// Names of metrics in a text.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_ours = |word: &&str| word.starts_with("kafka_sse_bridge_") || word.starts_with("process_");
    words.filter(is_ours).map(str::to_owned).collect()
}

fn asked_for() {
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

fn deliveries() {
    let (broker, topic, text) = topic(10, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(client(&daemon, "/events").await);
        }
        let before = figures(&daemon).await;
        let get = |figures: &Figures, name: &str| figures.get(&format!("kafka_sse_bridge_{name}"), &[EVENTS]);
        assert_eq!(get(&before, "clients") as u64, 3);
        assert_eq!(get(&before, "deliveries_total") as u64, 30);
        assert_eq!(get(&before, "stream_records_total") as u64, 10);
        assert_eq!(
            get(&before, "delivery_latency_seconds_count") as u64,
            0,
            "what was there before they came says nothing of how quick the daemon is"
        );
        for number in 0..5 {
            broker.produce(&topic, &numbered(0, 10 + number, 1));
            for client in &mut clients {
                client.collect_until(is_record, secs(20)).await;
            }
        }
        let after = figures(&daemon).await;
        assert_eq!(get(&after, "deliveries_total") as u64, 45);
        assert_eq!(get(&after, "delivery_latency_seconds_count") as u64, 15);
        let sum = get(&after, "delivery_latency_seconds_sum");
        assert!(sum > 0.0 && sum < 60.0, "{sum}");
        // 15 events with an id and a name of the record each.
        let grown = get(&after, "sent_bytes_total") - get(&before, "sent_bytes_total");
        assert!((15.0 * 30.0..15.0 * 200.0).contains(&grown), "{grown}");
        assert_eq!(get(&after, "log_records") as u64, 15);
        assert!(get(&after, "log_bytes") > 0.0);
        assert!(get(&after, "log_oldest_seconds") >= get(&before, "log_oldest_seconds"));

        // One that filters gets what it asked for, and no more is counted.
        let mut one = client(&daemon, "/events?partition=0").await;
        drop(clients);
        reaches(&daemon, "kafka_sse_bridge_clients", &[EVENTS], 1.0).await;
        let before = get(&figures(&daemon).await, "deliveries_total");
        broker.produce(&topic, &numbered(0, 15, 1));
        one.collect_until(is_record, secs(20)).await;
        let after = figures(&daemon).await;
        assert_eq!((get(&after, "deliveries_total") - before) as u64, 1);
        assert_eq!(get(&after, "delivery_latency_seconds_count") as u64, 16);
    });
}

fn departures() {
    let (_broker, _topic, text) = topic(3, "start = \"earliest\"");
    let second = text.split_once("[[stream]]").expect("a stream").1;
    let second = format!("{text}[[stream]]{}", second.replace("/events", "/other"));
    let daemon = Daemon::start(&second);
    let closed = async |path: &str, reason: &str, count: f64| {
        let labels = [("stream", path), ("reason", reason)];
        reaches(&daemon, "kafka_sse_bridge_clients_closed_total", &labels, count).await;
    };
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        // A head alone opens nothing.
        let url = daemon.url("/events");
        let head = http::request(Method::HEAD, &url, &[]).await.expect("an answer");
        assert_eq!(head.status, 200);
        for _ in 0..2 {
            drop(client(&daemon, "/events").await);
        }
        closed("/events", "left", 2.0).await;

        let mut removed = client(&daemon, "/other").await;
        reload(&daemon, &text);
        let (events, end) = removed.collect_to_end(secs(20)).await;
        says_goodbye(&events, &end, "stream-removed");
        // The figures of a path stay when its stream is gone.
        closed("/other", "stream-removed", 1.0).await;

        let short = with_http(&text, "max_lifetime = \"1s\"");
        reload(&daemon, &short);
        let mut lived = client(&daemon, "/events").await;
        let (events, end) = lived.collect_to_end(secs(20)).await;
        says_goodbye(&events, &end, "lifetime");
        closed("/events", "lifetime", 1.0).await;
        closed("/events", "left", 2.0).await;
        let figures = figures(&daemon).await;
        assert_eq!(
            figures.get("kafka_sse_bridge_clients_opened_total", &[EVENTS]) as u64,
            3
        );
        assert_eq!(figures.get("kafka_sse_bridge_clients", &[EVENTS]) as u64, 0);
    });
    stalled();
}

/// A client that takes nothing is closed by its socket's timeout, and counted as that.
fn stalled() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("stalled");
    broker.create_topic(&topic, 1, &[]);
    let text = config(
        &broker,
        &[&topic],
        "start = \"live\"\nlag = \"disconnect\"\nlog_bytes = \"1 MiB\"",
    );
    let daemon = Daemon::start(&with_http(&text, "write_timeout = \"2s\""));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut stalled = TcpStream::connect(("127.0.0.1", daemon.port())).expect("it listens");
        stalled
            .write_all(b"GET /events HTTP/1.0\r\nHost: x\r\n\r\n")
            .expect("a request fits");
        reaches(&daemon, "kafka_sse_bridge_clients", &[EVENTS], 1.0).await;
        let large = Message::value("x".repeat(500_000));
        for _ in 0..10 {
            broker.produce(&topic, &vec![large.clone(); 2]);
        }
        let labels = [EVENTS, ("reason", "write-timeout")];
        reaches(&daemon, "kafka_sse_bridge_clients_closed_total", &labels, 1.0).await;
        let figures = figures(&daemon).await;
        let timeouts = figures.get("kafka_sse_bridge_connection_write_timeouts_total", &[]);
        assert_eq!(timeouts as u64, 1);
        drop(stalled);
    });
}

fn across_reloads() {
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
        // Built anew; its client stays and is counted once.
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

        // What fails changes nothing, and is told until it is put right.
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

        // Removed and brought back, the path goes on counting.
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

fn hash() {
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

fn passed_over() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("passed");
    broker.create_topic(&topic, 1, &[]);
    let text = config(
        &broker,
        &[&topic],
        "start = \"snapshot\"\nkey_field = \"id\"\nmax_keys = 2\nwhen_full = \"refuse-new\"\nfilter = { \"value.x\" = [\"1\"] }",
    );
    broker.produce(
        &topic,
        &[
            Message::new("a", r#"{"x":1}"#),
            Message::new("b", r#"{"x":2}"#),
            Message::new("c", "no object"),
            Message::new("d", [0xff]),
            Message::new([0xff], r#"{"x":1}"#),
            Message::new("e", r#"{"x":1}"#),
            Message::new("f", r#"{"x":1}"#),
            Message::value(r#"{"x":1}"#),
        ],
    );
    let daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let figures = figures(&daemon).await;
        let get = |name: &str| figures.get(&format!("kafka_sse_bridge_{name}"), &[EVENTS]) as u64;
        let causes: Vec<(&str, u64)> = figures
            .all("kafka_sse_bridge_invalid_records_total")
            .map(|(labels, count)| (labels["cause"].as_str(), count as u64))
            .collect();
        assert_eq!(
            causes,
            [
                ("key-not-utf8", 1),
                ("value-not-a-json-object", 1),
                ("value-not-utf8", 1)
            ]
        );
        assert_eq!(get("hidden_records_total"), 1);
        assert_eq!(get("keyless_records_total"), 1);
        assert_eq!(get("stream_records_total"), 4);
        assert_eq!((get("table_keys"), get("table_full")), (2, 1));
        assert_eq!(get("displaced_keys_total"), 1);
        assert!(get("table_bytes") > 0);
        assert_eq!(figures.get("kafka_sse_bridge_degraded", &[]) as u64, 1);
    });
}

fn past() {
    let (broker, topic, text) = topic(20, "start = \"earliest\"");
    let first = Daemon::start(&text);
    let id = block_on(async {
        let mut stream = Stream::open(first.url("/events")).await;
        stream.collect_until(until_records(3), secs(30)).await;
        stream.last_event_id().to_owned()
    });
    drop(first);
    broker.delete_records(&topic, 0, 10);
    // In memory is what comes from now on, so that what was before has to be read again.
    let daemon = Daemon::start(&text.replace("\"earliest\"", "\"live\"\npreload = 0"));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let open = Stream::to(daemon.url("/events")).last_event_id(&id).send();
        let mut stream = open.await.expect("an answer");
        let events = stream.collect_until(named("caught-up"), secs(30)).await;
        assert_eq!(events.iter().filter(|event| event.is("gap")).count(), 1);
        let figures = figures(&daemon).await;
        let get = |name: &str, labels: &[(&str, &str)]| {
            let labels: Vec<(&str, &str)> = [&[EVENTS], labels].concat();
            figures.get(&format!("kafka_sse_bridge_{name}"), &labels) as u64
        };
        assert_eq!(get("gaps_total", &[("to", "client")]), 1);
        assert_eq!(get("gaps_total", &[("to", "all")]), 0);
        assert_eq!(get("replays_started_total", &[]), 1);
        assert_eq!(get("deliveries_total", &[]), 10);
    });
}

fn trouble() {
    let broker = Broker::start(Version::V4_4);
    let topic = topic_name("trouble");
    broker.create_topic(&topic, 1, &[]);
    let daemon = Daemon::start(&config(&broker, &[&topic], "start = \"earliest\""));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        reaches(&daemon, "kafka_sse_bridge_kafka_up", &[], 1.0).await;
        let errors = |figures: &Figures| -> f64 {
            let all = figures.all("kafka_sse_bridge_kafka_errors_total");
            all.map(|(_, count)| count).sum()
        };
        let before = figures(&daemon).await;
        broker.kill9();
        reaches(&daemon, "kafka_sse_bridge_kafka_up", &[], 0.0).await;
        let during = figures(&daemon).await;
        assert!(errors(&during) > errors(&before));
        assert!(during.get("kafka_sse_bridge_degraded", &[]) > 0.0);
        assert!(
            during.get("kafka_sse_bridge_ready", &[]) > 0.0,
            "ready is a latch"
        );
        let reconnects = during.get("kafka_sse_bridge_kafka_reconnects_total", &[]);
        broker.restart();
        reaches(&daemon, "kafka_sse_bridge_kafka_up", &[], 1.0).await;
        let after = figures(&daemon).await;
        assert!(after.get("kafka_sse_bridge_kafka_reconnects_total", &[]) > reconnects);
    });
}

fn partitions(broker: &Broker) {
    let topic = topic_name("partitions");
    broker.create_topic(&topic, 2, &[]);
    broker.produce(&topic, &numbered(1, 0, 5));
    let daemon = Daemon::start(&config(broker, &[&topic], "start = \"earliest\""));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let of_topic = ("topic", topic.as_str());
        reaches(&daemon, "kafka_sse_bridge_kafka_records_total", &[of_topic], 5.0).await;
        for partition in ["0", "1"] {
            let labels = [of_topic, ("partition", partition)];
            reaches(&daemon, "kafka_sse_bridge_kafka_lag_records", &labels, 0.0).await;
        }
    });
}
