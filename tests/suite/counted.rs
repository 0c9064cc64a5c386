//! `/metrics` counts what happens: to clients, to records, and with Kafka.

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
use crate::harness::on_each_broker;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::metrics::{EVENTS, figures};
use crate::reload::{client, reload, says_goodbye, topic, with_http};
use crate::trials;
use libtest_mimic::Trial;
use reqwest::Method;
use std::io::Write;
use std::net::TcpStream;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        metrics_count_deliveries_bytes_and_latencies,
        metrics_count_closed_clients_by_reason,
        metrics_count_clients_that_stop_reading,
        metrics_count_skipped_hidden_and_keyless_records,
        metrics_count_gaps_and_replays,
        metrics_report_a_kafka_outage_and_its_end,
    ];
    trials.extend(on_each_broker(
        metrics_report_records_by_topic_and_lag_by_partition,
    ));
    trials
}

/// Waits until a sample has this value.
async fn reaches(daemon: &Daemon, name: &str, labels: &[(&str, &str)], value: f64) {
    eventually_async(secs(30), &format!("{name} {labels:?} is {value}"), async || {
        let now = figures(daemon).await.find(name, labels);
        // Whole numbers, all of them.
        let is_there = now.is_some_and(|now| (now - value).abs() < 0.5);
        ensure(is_there, format!("{now:?}"))
    })
    .await;
}

fn metrics_count_deliveries_bytes_and_latencies() {
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

        // Only the records that a filtered client gets are counted.
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

fn metrics_count_closed_clients_by_reason() {
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
}

/// A client that takes nothing is closed by its socket's timeout, and counted as that.
fn metrics_count_clients_that_stop_reading() {
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

fn metrics_count_skipped_hidden_and_keyless_records() {
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
        let expected = [
            ("value-has-schema-id", 0),
            ("value-not-a-json-object", 1),
            ("value-not-utf8", 1),
        ];
        assert_eq!(causes, expected);
        assert_eq!(get("hidden_records_total"), 1);
        assert_eq!(get("keyless_records_total"), 1);
        assert_eq!(get("stream_records_total"), 5);
        assert_eq!((get("table_keys"), get("table_full")), (2, 1));
        assert_eq!(get("displaced_keys_total"), 2);
        assert!(get("table_bytes") > 0);
        assert_eq!(figures.get("kafka_sse_bridge_degraded", &[]) as u64, 1);
    });
}

fn metrics_count_gaps_and_replays() {
    let (broker, topic, text) = topic(20, "start = \"earliest\"");
    let first = Daemon::start(&text);
    let id = block_on(async {
        let mut stream = Stream::open(first.url("/events")).await;
        stream.collect_until(until_records(3), secs(30)).await;
        stream.last_event_id().to_owned()
    });
    drop(first);
    broker.delete_records(&topic, 0, 10);
    // The log holds only later records, so that earlier ones are read from Kafka.
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

fn metrics_report_a_kafka_outage_and_its_end() {
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

fn metrics_report_records_by_topic_and_lag_by_partition(broker: &Broker) {
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
        // Statistics of librdkafka.
        let bootstrap = broker.bootstrap();
        let links = [("broker", bootstrap.as_str())];
        reaches(&daemon, "kafka_sse_bridge_kafka_broker_up", &links, 1.0).await;
        let name = "kafka_sse_bridge_kafka_broker_round_trip_seconds";
        let seconds = figures(&daemon).await.get(name, &links);
        assert!(seconds > 0.0 && seconds < 10.0, "{seconds}");
    });
}
