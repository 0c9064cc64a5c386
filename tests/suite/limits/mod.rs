//! Limits on clients are exact. Refused clients get a response that makes them reconnect later, and no other client
//! is affected.

mod addresses;
mod responses;

use crate::common::{config, expected, is_record, named, numbered, records, until_records};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::process::Signal;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{promise, promise_on};
use libtest_mimic::Trial;
use serde_json::Value;
use std::sync::OnceLock;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        promise(max_clients_is_exact_under_concurrent_connects_and_disconnects),
        promise_on(Version::V4_4, a_refused_client_resumes_without_loss),
        promise(a_reload_changes_limits_and_closes_no_client),
    ];
    trials.extend(responses::trials());
    trials.extend(addresses::trials());
    trials
}

/// No Kafka is needed for most of this: streams open without one.
pub fn config_of(http: &str) -> String {
    static PORT: OnceLock<u16> = OnceLock::new();
    format!(
        "[kafka]\nbrokers = [\"127.0.0.1:{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n{http}\n\
         [[stream]]\npath = \"/events\"\ntopics = [\"t\"]\n",
        PORT.get_or_init(free_port)
    )
}

async fn limits(daemon: &Daemon) -> Value {
    daemon.get("/streams").await.json()["http"]["limits"].clone()
}

/// Waits until the daemon counts just so many clients and addresses.
async fn counts(daemon: &Daemon, clients: usize, addresses: usize) {
    eventually_async(secs(20), "the streams that are open are counted", async || {
        let limits = limits(daemon).await;
        ensure(
            limits["clients"] == clients && limits["addresses"] == addresses,
            limits.to_string(),
        )
    })
    .await;
}

/// Opens the stream, and returns whether the daemon accepted it.
async fn open(daemon: &Daemon) -> (Stream, bool) {
    let_in(Stream::open(daemon.url("/events")).await)
}

fn let_in(stream: Stream) -> (Stream, bool) {
    assert_eq!(stream.status, 200);
    // What a refused client is sent has an end; a stream has none.
    let is_refused = stream.header("content-length").is_some();
    (stream, !is_refused)
}

async fn open_for(daemon: &Daemon, source: &str, headers: &[(&str, &str)]) -> (Stream, bool) {
    let mut request = Stream::to(daemon.url("/events")).source(source);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let_in(request.send().await.expect("an answer"))
}

fn max_clients_is_exact_under_concurrent_connects_and_disconnects() {
    const MOST: usize = 20;
    let daemon = Daemon::start(&config_of(&format!("max_clients = {MOST}")));
    block_on(async {
        let mut refused = 0;
        for left in [0, 7, 0] {
            // Many at once for few places.
            let opening: Vec<_> = (0..3 * MOST)
                .map(|_| tokio::spawn(Stream::to(daemon.url("/events")).send()))
                .collect();
            let mut streams = Vec::new();
            for opening in opening {
                let stream = opening.await.expect("no panic").expect("an answer");
                let (stream, is_in) = let_in(stream);
                if is_in {
                    streams.push(stream);
                } else {
                    refused += 1;
                }
            }
            assert_eq!(streams.len(), MOST, "no more and no fewer");
            counts(&daemon, MOST, 1).await;
            streams.truncate(left);
            counts(&daemon, left, usize::from(left > 0)).await;
            for place in left..MOST {
                let (stream, is_in) = open(&daemon).await;
                assert!(is_in, "place {place} is free");
                streams.push(stream);
            }
            let (_, is_in) = open(&daemon).await;
            assert!(!is_in, "and none is more");
            refused += 1;
            drop(streams);
            counts(&daemon, 0, 0).await;
        }
        let limits = limits(&daemon).await;
        assert_eq!(limits["refused"]["max_clients"], refused);
        // Only an open stream counts.
        let head = crate::harness::http::request(reqwest::Method::HEAD, &daemon.url("/events"), &[]).await;
        assert_eq!(head.expect("an answer").status, 200);
        assert_eq!(get(&daemon.url("/events?strat=live"), &[]).await.status, 400);
        counts(&daemon, 0, 0).await;
    });
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("refused, "));
    assert_eq!(lines.count(), 1, "{log}");
    assert!(log.contains("127.0.0.1: refused, max_clients reached"), "{log}");
}

fn a_refused_client_resumes_without_loss() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("overloaded");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &numbered(0, 0, 3));
    let text = config(&broker, &[&topic], "start = \"earliest\"");
    let daemon = Daemon::start(&text.replacen("[http]\n", "[http]\nmax_clients = 1\n", 1));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut all = records(&stream.collect_until(until_records(3), secs(30)).await);
        let id = stream.last_event_id().to_owned();
        drop(stream);
        counts(&daemon, 0, 0).await;

        let (other, is_in) = open(&daemon).await;
        assert!(is_in);
        broker.produce(&topic, &numbered(0, 3, 3));
        let again = async |id: &str| {
            let stream = Stream::to(daemon.url("/events")).last_event_id(id).send().await;
            let_in(stream.expect("an answer"))
        };
        let (mut refused, is_in) = again(&id).await;
        assert!(!is_in);
        let goodbye = refused.next(secs(20)).await;
        assert_eq!(goodbye.name, "goodbye");
        assert_eq!(goodbye.id, id, "it keeps its id");
        assert!(matches!(refused.try_next(secs(20)).await, Err(NoEvent::Ended)));

        drop(other);
        counts(&daemon, 0, 0).await;
        let (mut stream, is_in) = again(&goodbye.id).await;
        assert!(is_in);
        all.extend(records(&stream.collect_until(named("caught-up"), secs(30)).await));
        assert_eq!(all, expected(0, 6));
        broker.produce(&topic, &numbered(0, 6, 1));
        assert_eq!(
            records(&stream.collect_until(is_record, secs(20)).await),
            ["p0-6"]
        );
    });
}

fn a_reload_changes_limits_and_closes_no_client() {
    let text = |http: &str| config_of(http);
    let daemon = Daemon::start(&text("max_clients = 0"));
    let reloaded = |http: &str, keys: &str| {
        daemon.rewrite_config(&text(http));
        daemon.signal(Signal::HUP);
        daemon.wait_log(&format!("reloaded: {keys}"), secs(20));
    };
    block_on(async {
        let mut streams = Vec::new();
        for _ in 0..5 {
            let (stream, is_in) = open(&daemon).await;
            assert!(is_in);
            streams.push(stream);
        }
        reloaded(
            "max_clients = 3\nkeepalive = \"1s\"",
            "http.keepalive, http.max_clients",
        );
        let (_, is_in) = open(&daemon).await;
        assert!(!is_in, "there are too many already");
        for stream in &mut streams {
            stream.next_comment(secs(20)).await.expect("it is not closed");
        }
        streams.truncate(3);
        counts(&daemon, 3, 1).await;
        assert!(!open(&daemon).await.1);
        streams.truncate(2);
        counts(&daemon, 2, 1).await;
        let (third, is_in) = open(&daemon).await;
        assert!(is_in, "one client has left");
        streams.push(third);

        // Clients from before the limit of an address count too.
        reloaded(
            "max_clients_per_ip = 3",
            "http.keepalive, http.max_clients, http.max_clients_per_ip",
        );
        assert!(!open(&daemon).await.1);
        let (_other, is_in) = open_for(&daemon, "127.0.0.2", &[]).await;
        assert!(is_in);
        reloaded(
            "max_opens_per_second = 1",
            "http.max_clients_per_ip, http.max_opens_per_second",
        );
        let answers = [
            open(&daemon).await,
            open(&daemon).await,
            open(&daemon).await,
            open(&daemon).await,
        ];
        assert!(
            answers.iter().any(|(_, is_in)| *is_in),
            "it is no limit of clients any more"
        );
        for stream in &mut streams {
            assert!(
                matches!(stream.try_next(secs(0)).await, Err(NoEvent::Timeout)),
                "it is not closed"
            );
        }
    });
}
