//! The promises of delivery, over HTTP/1.1 by each driver, TLS and HTTP/2: those that what carries the bytes could break. That is every
//! record once and in order, to clients with filters too; resuming, also after a crash of the daemon; snapshots; `gap`, `reset`
//! and `goodbye`; limits and lifetimes; lines and documents; figures; and, in [`slow`], clients that do not keep up. What is
//! decided before a response has bytes is tried over HTTP/1.1 alone.

mod slow;

use crate::common::{
    config, expected, is_record, json, named, numbered, of_partition, records, until_records,
};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::certificates::Certificates;
use crate::harness::daemon::Daemon;
use crate::harness::gateway::{Gateway, Transport};
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{name_of, trial};
use crate::metrics::{EVENTS, figures};
use libtest_mimic::Trial;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = secs(30);

pub fn trials() -> Vec<Trial> {
    [
        on_each(every_record_arrives_once_and_in_order),
        on_each(a_client_resumes_where_it_was),
        on_each(a_snapshot_is_followed_by_every_update),
        on_each(a_shutdown_is_announced),
        on_each(a_client_that_resumes_behind_retention_gets_a_gap),
        on_each(a_recreated_topic_resets_every_client),
        on_each(a_client_over_a_limit_is_asked_to_retry),
        on_each(a_lifetime_ends_a_stream_and_it_is_resumed),
        on_each(lines_and_documents_have_what_events_have),
        on_each(figures_count_clients_and_deliveries),
        slow::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How bytes get to a client: what it speaks, and who writes to it.
#[derive(Clone, Copy)]
struct Way {
    transport: Transport,
    /// `http.delivery`, where it is not the default.
    driver: Option<&'static str>,
}

impl Way {
    /// Over HTTP/1.1 by each driver, of which the default is the best that the kernel allows; over the others by hyper.
    fn all() -> impl Iterator<Item = Way> {
        let default = Transport::ALL.map(|transport| (transport, None));
        let others = ["epoll", "hyper"].map(|driver| (Transport::Http1, Some(driver)));
        let all = default.into_iter().chain(others);
        all.map(|(transport, driver)| Way { transport, driver })
    }

    fn name(self) -> String {
        let by = self.driver.map(|driver| format!("_by_{driver}"));
        format!("{}{}", self.transport.name(), by.unwrap_or_default())
    }
}

/// The same test once per way: `name_over_tls@4.4.0`, `name_over_http1_by_epoll@4.4.0`.
fn on_each(test: impl Fn(Way) + Copy + Send + 'static) -> Vec<Trial> {
    let on = |way: Way| {
        let name = format!("{}_over_{}@{}", name_of(&test), way.name(), Version::V4_4);
        trial(name, move || test(way))
    };
    Way::all().map(on).collect()
}

/// A daemon that reads a topic of its own, and the gateway to it.
struct Setup {
    daemon: Daemon,
    gateway: Gateway,
    broker: Arc<Broker>,
    topic: String,
}

impl Setup {
    fn new(way: Way, partitions: i32, stream: &str) -> Setup {
        let topic = topic_name("transports");
        Broker::shared(Version::V4_4).create_topic(&topic, partitions, &[]);
        Setup::of(way, topic, "", stream)
    }

    /// For a topic that exists, with these lines of `[http]`.
    fn of(way: Way, topic: String, http: &str, stream: &str) -> Setup {
        let broker = Broker::shared(Version::V4_4);
        let certificates = Certificates::new();
        let text = config(&broker, &[&topic], stream);
        let driver = way.driver.map(|driver| format!("delivery = \"{driver}\"\n"));
        let http = format!("[http]\nhttp2 = true\n{}{http}\n", driver.unwrap_or_default());
        let text = text.replacen("[http]\n", &http, 1);
        let daemon = Daemon::start(&certificates.behind(&text, ""));
        let port = match way.transport {
            Transport::Http1 | Transport::Http2 => daemon.port(),
            Transport::Tls | Transport::TlsHttp2 => daemon.tls_port(),
        };
        let gateway = Gateway::start(way.transport, port, &certificates.ca());
        Setup {
            daemon,
            gateway,
            broker,
            topic,
        }
    }

    async fn open(&self, last_event_id: &str) -> Stream {
        let stream = Stream::to(self.gateway.url("/events"))
            .last_event_id(last_event_id)
            .send()
            .await
            .expect("a response");
        assert_eq!(stream.status, 200);
        stream
    }
}

fn every_record_arrives_once_and_in_order(way: Way) {
    const EACH: usize = 5000;
    let setup = Setup::new(way, 2, "start = \"earliest\"");
    block_on(async {
        // The first half is history, the second arrives meanwhile.
        for partition in 0..2 {
            setup
                .broker
                .produce(&setup.topic, &numbered(partition, 0, EACH / 2));
        }
        setup.daemon.wait_ready(PATIENCE).await;
        let mut streams = Vec::new();
        for _ in 0..5 {
            streams.push(setup.open("").await);
        }
        let mut filtered = Stream::open(setup.gateway.url("/events?partition=1")).await;
        for partition in 0..2 {
            setup
                .broker
                .produce(&setup.topic, &numbered(partition, EACH / 2, EACH / 2));
        }
        for stream in &mut streams {
            let events = stream.collect_until(until_records(2 * EACH), PATIENCE).await;
            let records = records(&events);
            assert_eq!(records.len(), 2 * EACH);
            for partition in 0..2 {
                assert_eq!(of_partition(&records, partition), expected(partition, EACH));
            }
        }
        let events = filtered.collect_until(until_records(EACH), PATIENCE).await;
        assert_eq!(records(&events), expected(1, EACH));
    });
}

fn a_client_resumes_where_it_was(way: Way) {
    const ALL: usize = 3000;
    let mut setup = Setup::new(way, 1, "start = \"earliest\"");
    block_on(async {
        setup.broker.produce(&setup.topic, &numbered(0, 0, ALL));
        setup.daemon.wait_ready(PATIENCE).await;
        let mut all = Vec::new();
        let mut id = String::new();
        let mut has_crashed = false;
        while all.len() < ALL {
            if all.len() > ALL / 2 && !has_crashed {
                has_crashed = true;
                // A crash, while a client reads.
                let mut stream = setup.open(&id).await;
                setup.daemon.signal(Signal::KILL);
                let (events, end) = stream.collect_to_end(PATIENCE).await;
                assert!(matches!(end, NoEvent::Broken(_)), "{end}");
                all.extend(records(&events));
                if !stream.last_event_id().is_empty() {
                    stream.last_event_id().clone_into(&mut id);
                }
                setup.daemon.wait_exit(secs(20));
                setup = Setup::of(way, setup.topic.clone(), "", "start = \"earliest\"");
                setup.daemon.wait_ready(PATIENCE).await;
                continue;
            }
            let mut stream = setup.open(&id).await;
            let some = 700.min(ALL - all.len());
            let events = stream.collect_until(until_records(some), PATIENCE).await;
            all.extend(records(&events));
            stream.last_event_id().clone_into(&mut id);
        }
        assert_eq!(all, expected(0, ALL));
    });
}

fn a_snapshot_is_followed_by_every_update(way: Way) {
    let setup = Setup::new(way, 1, "start = \"snapshot\"");
    block_on(async {
        let row = |key: &str, value: &str| Message::new(key, value);
        setup
            .broker
            .produce(&setup.topic, &[row("a", "1"), row("b", "1"), row("a", "2")]);
        setup.daemon.wait_ready(PATIENCE).await;
        let mut stream = setup.open("").await;
        let events = stream.collect_until(named("caught-up"), PATIENCE).await;
        assert_eq!(records(&events), ["1", "2"]);
        setup.broker.produce(&setup.topic, &[row("b", "2")]);
        let events = stream.collect_until(is_record, PATIENCE).await;
        assert_eq!(records(&events), ["2"]);
        setup.broker.produce(&setup.topic, &[Message::tombstone("a")]);
        stream.collect_until(named("delete"), PATIENCE).await;
    });
}

fn a_shutdown_is_announced(way: Way) {
    let mut setup = Setup::new(way, 1, "start = \"live\"");
    block_on(async {
        setup.daemon.wait_ready(PATIENCE).await;
        let mut stream = setup.open("").await;
        stream.collect_until(named("caught-up"), PATIENCE).await;
        setup.daemon.signal(Signal::TERM);
        let (events, end) = stream.collect_to_end(PATIENCE).await;
        assert!(events.iter().any(|event| event.name == "goodbye"), "{events:?}");
        assert!(matches!(end, NoEvent::Ended), "{end}");
    });
    assert!(setup.daemon.wait_exit(secs(20)).success());
}

fn a_client_that_resumes_behind_retention_gets_a_gap(way: Way) {
    let before = Setup::new(way, 1, "start = \"earliest\"");
    let (broker, topic) = (Arc::clone(&before.broker), before.topic.clone());
    block_on(async {
        broker.produce(&topic, &numbered(0, 0, 20));
        before.daemon.wait_ready(PATIENCE).await;
        let mut stream = before.open("").await;
        stream.collect_until(until_records(20), PATIENCE).await;
        let id = stream.last_event_id().to_owned();
        drop((stream, before));
        // While no daemon runs, so that it can be in no memory.
        broker.produce(&topic, &numbered(0, 20, 20));
        broker.delete_records(&topic, 0, 30);
        let after = Setup::of(way, topic, "", "start = \"earliest\"");
        after.daemon.wait_ready(PATIENCE).await;
        let mut stream = after.open(&id).await;
        let events = stream.collect_until(until_records(10), PATIENCE).await;
        assert_eq!(events[0].name, "gap");
        let gap = json(&events[0]);
        assert_eq!((&gap["from"], &gap["to"]), (&20.into(), &30.into()), "{gap}");
        assert_eq!(records(&events), expected(0, 40)[30..]);
    });
}

fn a_recreated_topic_resets_every_client(way: Way) {
    let setup = Setup::new(way, 1, "start = \"snapshot\"");
    block_on(async {
        setup.broker.produce(&setup.topic, &[Message::new("a", "old")]);
        setup.daemon.wait_ready(PATIENCE).await;
        let mut streams = [setup.open("").await, setup.open("").await];
        for stream in &mut streams {
            stream.collect_until(named("caught-up"), PATIENCE).await;
        }
        setup.broker.delete_topic(&setup.topic);
        setup.broker.create_topic(&setup.topic, 1, &[]);
        setup.broker.produce(&setup.topic, &[Message::new("b", "new")]);
        for stream in &mut streams {
            let events = stream.collect_until(named("reset"), secs(90)).await;
            let reset = json(events.last().expect("a reset"));
            assert_eq!(reset["reason"], "recreated", "{reset}");
            let events = stream.collect_until(is_record, PATIENCE).await;
            assert_eq!(records(&events), ["new"]);
        }
    });
}

fn a_client_over_a_limit_is_asked_to_retry(way: Way) {
    let topic = topic_name("transports");
    Broker::shared(Version::V4_4).create_topic(&topic, 1, &[]);
    let setup = Setup::of(way, topic, "max_clients = 2", "");
    block_on(async {
        setup.daemon.wait_ready(PATIENCE).await;
        let mut streams = [setup.open("").await, setup.open("").await];
        for stream in &mut streams {
            stream.collect_until(named("caught-up"), PATIENCE).await;
        }
        let (events, end) = setup.open("").await.collect_to_end(PATIENCE).await;
        assert_eq!(
            events.last().expect("a goodbye").data,
            r#"{"reason":"overloaded"}"#
        );
        assert!(matches!(end, NoEvent::Ended), "{end}");
        setup.broker.produce(&setup.topic, &numbered(0, 0, 1));
        for stream in &mut streams {
            stream.collect_until(is_record, PATIENCE).await;
        }
    });
}

fn a_lifetime_ends_a_stream_and_it_is_resumed(way: Way) {
    let topic = topic_name("transports");
    let broker = Broker::shared(Version::V4_4);
    broker.create_topic(&topic, 1, &[]);
    let setup = Setup::of(way, topic.clone(), "max_lifetime = \"1s\"", "");
    block_on(async {
        setup.daemon.wait_ready(PATIENCE).await;
        let mut stream = setup.open("").await;
        stream.collect_until(named("caught-up"), PATIENCE).await;
        // Records come all the time, so that lifetimes end between any two.
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let producer = thread::spawn(move || {
            let mut produced = 0;
            while !until.load(Ordering::Relaxed) {
                broker.produce(&topic, &numbered(0, produced, 1));
                produced += 1;
            }
            produced
        });
        let mut all = Vec::new();
        for _ in 0..3 {
            let (events, end) = stream.collect_to_end(PATIENCE).await;
            assert!(matches!(end, NoEvent::Ended), "{end}");
            let last = events.last().expect("a goodbye");
            assert_eq!(
                (last.name.as_str(), last.data.as_str()),
                ("goodbye", r#"{"reason":"lifetime"}"#)
            );
            all.extend(records(&events));
            let id = stream.last_event_id().to_owned();
            stream = setup.open(&id).await;
        }
        is_over.store(true, Ordering::Relaxed);
        let count = producer.join().expect("it produces");
        while all.len() < count {
            let (events, _) = stream.collect_to_end(PATIENCE).await;
            all.extend(records(&events));
            let id = stream.last_event_id().to_owned();
            stream = setup.open(&id).await;
        }
        assert_eq!(all, expected(0, count));
    });
}

fn lines_and_documents_have_what_events_have(way: Way) {
    let setup = Setup::new(way, 1, "start = \"snapshot\"");
    block_on(async {
        let rows: Vec<Message> = (0..2000)
            .map(|number| Message::new(format!("k{number}"), format!("{{\"n\":{number}}}")))
            .collect();
        setup.broker.produce(&setup.topic, &rows);
        setup.daemon.wait_ready(PATIENCE).await;
        let mut stream = setup.open("").await;
        let events = stream.collect_until(named("caught-up"), PATIENCE).await;
        let of_events = records(&events);
        assert_eq!(of_events.len(), 2000);
        let body = async |query: &str| {
            let mut stream = Stream::open(setup.gateway.url(&format!("/events?{query}"))).await;
            assert_eq!(stream.status, 200, "{query}");
            let body = stream.body(PATIENCE).await.expect("a whole body");
            String::from_utf8(body).expect("UTF-8")
        };
        let lines = body("format=ndjson&follow=false").await;
        let lines = lines
            .lines()
            .filter(|line| line.contains("\"event\":\"message\""));
        let of_lines: Vec<Value> = lines
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["data"].clone())
            .collect();
        let of_events: Vec<Value> = of_events
            .iter()
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect();
        assert_eq!(of_lines, of_events);
        let document: Value = serde_json::from_str(&body("format=json").await).expect("JSON");
        assert_eq!(document["rows"].as_array().map(Vec::len), Some(2000));
    });
}

fn figures_count_clients_and_deliveries(way: Way) {
    let setup = Setup::new(way, 1, "start = \"earliest\"");
    block_on(async {
        setup.broker.produce(&setup.topic, &numbered(0, 0, 10));
        setup.daemon.wait_ready(PATIENCE).await;
        let mut streams = [setup.open("").await, setup.open("").await, setup.open("").await];
        for stream in &mut streams {
            stream.collect_until(until_records(10), PATIENCE).await;
        }
        let get = async |name: &str| {
            let figures = figures(&setup.daemon).await;
            figures.get(&format!("kafka_sse_bridge_{name}"), &[EVENTS])
        };
        let is = |found: f64, expected: f64| (found - expected).abs() < 0.5;
        assert!(is(get("clients").await, 3.0));
        assert!(is(get("deliveries_total").await, 30.0));
        drop(streams);
        eventually_async(PATIENCE, "they have left", async || {
            let left = figures(&setup.daemon).await.get(
                "kafka_sse_bridge_clients_closed_total",
                &[EVENTS, ("reason", "left")],
            );
            ensure(is(left, 3.0), left.to_string())
        })
        .await;
        assert!(is(get("clients").await, 0.0));
        assert!(is(get("clients_opened_total").await, 3.0));
    });
}
