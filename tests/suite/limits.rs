//! What is too much is turned away in a way that brings clients back, exactly counted, and nobody else
//! notices.

use crate::common::{config, expected, is_record, named, numbered, records, until_records};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http::{Response, get};
use crate::harness::process::Signal;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{promise, promise_on};
use crate::metrics::figures;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::OnceLock;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(max_clients_is_exact_under_concurrent_connects_and_disconnects),
        promise(an_event_source_over_a_limit_gets_a_retry_time_and_keeps_its_id),
        promise(other_clients_over_a_limit_get_a_status_and_retry_after),
        promise(filters_over_a_limit_of_their_stream_are_refused),
        promise_on(Version::V4_4, who_is_turned_away_misses_nothing),
        promise(clients_are_counted_by_the_address_from_trusted_proxies),
        promise(the_proxy_of_a_unix_socket_is_trusted_only_if_configured),
        promise(new_connections_are_rate_limited_in_total_and_per_address),
        promise(a_reload_changes_limits_and_closes_no_client),
    ]
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

/// Opens the stream; whether it was let in.
async fn open(daemon: &Daemon) -> (Stream, bool) {
    let_in(Stream::open(daemon.url("/events")).await)
}

fn let_in(stream: Stream) -> (Stream, bool) {
    assert_eq!(stream.status, 200);
    let is_refused = stream.header("connection") == Some("close");
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
            // Whatever way they end.
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
        // Only a stream takes a place.
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

/// The whole answer to a client that was turned away, which must say so as a stream.
async fn goodbye(daemon: &Daemon, query: &str, headers: &[(&str, &str)]) -> (u64, String) {
    let mut all = vec![("accept", "text/event-stream")];
    all.extend_from_slice(headers);
    let answer = get(&daemon.url(&format!("/events{query}")), &all).await;
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("connection", "close"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let text = answer.text();
    let (retry, rest) = text.split_once('\n').expect("lines");
    let retry = retry.strip_prefix("retry: ").and_then(|retry| retry.parse().ok());
    (retry.unwrap_or_else(|| panic!("{text}")), rest.to_owned())
}

fn an_event_source_over_a_limit_gets_a_retry_time_and_keeps_its_id() {
    const GOODBYE: &str = "event: goodbye\ndata: {\"reason\":\"overloaded\"}\n\n";
    let daemon = Daemon::start(&config_of("max_clients = 1"));
    block_on(async {
        let (_only, is_in) = open(&daemon).await;
        assert!(is_in);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            let (retry, rest) = goodbye(&daemon, "", &[]).await;
            assert!((15_000..=60_000).contains(&retry), "{retry}");
            assert_eq!(rest, GOODBYE);
            pauses.push(retry);
        }
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 5, "reconnects are spread: {pauses:?}");

        let kafka_sse = r#"[{"topic":"t","partition":0,"offset":12}]"#;
        for id in ["AeUv_e4AAAAAAwysAgc", kafka_sse] {
            let with_id = format!("id: {id}\n{GOODBYE}");
            let (_, rest) = goodbye(&daemon, "", &[("last-event-id", id)]).await;
            assert_eq!(rest, with_id);
            let query: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
            let (_, rest) = goodbye(&daemon, &format!("?lastEventId={query}"), &[]).await;
            assert_eq!(rest, with_id);
        }
        // An invalid id is not echoed.
        for query in [
            "?lastEventId=x%0Adata:%20forged",
            "?lastEventId=x%0D",
            "?lastEventId=%00",
        ] {
            assert_eq!(goodbye(&daemon, query, &[]).await.1, GOODBYE, "{query}");
        }
        for accept in ["Text/Event-Stream;q=0.5", "text/html, text/event-stream"] {
            let answer = get(&daemon.url("/events"), &[("accept", accept)]).await;
            assert_eq!(answer.status, 200, "{accept}");
        }
    });
}

#[track_caller]
fn assert_problem(answer: &Response, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("connection"), Some("close"));
    let pause: Option<u64> = answer.header("retry-after").and_then(|pause| pause.parse().ok());
    assert!(pause.is_some_and(|pause| (15..=60).contains(&pause)), "{pause:?}");
    assert_eq!(answer.json()["error"]["code"], code);
}

fn other_clients_over_a_limit_get_a_status_and_retry_after() {
    let per_ip = "max_clients = 2\nmax_clients_per_ip = 1\ntrusted_proxies = [\"127.0.0.1\"]";
    let daemon = Daemon::start(&config_of(per_ip));
    block_on(async {
        let (_one, _) = open(&daemon).await;
        for accept in ["*/*", "application/json", "text/*", "text/event-streams"] {
            let answer = get(&daemon.url("/events"), &[("accept", accept)]).await;
            assert_problem(&answer, 429, "too_many_clients_per_ip");
        }
        let (_two, _) = open_for(&daemon, "127.0.0.2", &[]).await;
        let answer = get(&daemon.url("/events"), &[("accept", "*/*")]).await;
        assert_problem(&answer, 503, "too_many_clients");
        // Nothing else is limited.
        assert_eq!(daemon.get("/").await.status, 200);
        let refused = limits(&daemon).await["refused"].clone();
        let counted = json!({
            "max_clients": 1, "max_clients_per_ip": 4,
            "max_opens_per_second": 0, "max_opens_per_second_per_ip": 0,
            "max_filter_paths": 0, "max_unindexed_filters": 0,
        });
        assert_eq!(refused, counted);
        let figures = figures(&daemon).await;
        for (limit, count) in counted.as_object().expect("an object") {
            let told = figures.get("kafka_sse_bridge_clients_refused_total", &[("limit", limit)]);
            assert_eq!(Some(told), count.as_f64(), "{limit}");
        }
    });
}

fn filters_over_a_limit_of_their_stream_are_refused() {
    let text = config_of("") + "max_filter_paths = 2\nmax_unindexed_filters = 1\n";
    let daemon = Daemon::start(&text);
    let open = async |query: &str| let_in(Stream::open(daemon.url(&format!("/events?{query}"))).await);
    let refused = async |query: &str, code: &str| {
        let answer = get(&daemon.url(&format!("/events?{query}")), &[("accept", "*/*")]).await;
        assert_problem(&answer, 503, code);
        let with_id = [("last-event-id", "AeUv_e4AAAAAAwysAgc")];
        let (_, rest) = goodbye(&daemon, &format!("?{query}"), &with_id).await;
        let overloaded = "id: AeUv_e4AAAAAAwysAgc\nevent: goodbye\ndata: {\"reason\":\"overloaded\"}\n\n";
        assert_eq!(rest, overloaded, "it keeps its place");
    };
    block_on(async {
        let mut kept = Vec::new();
        for query in [
            "value.a=1",
            "value.b=1",
            "value.a=2&value.b=2",
            "key=k",
            "value.a=1",
            "partition=0",
        ] {
            let (stream, is_in) = open(query).await;
            assert!(is_in, "{query}");
            kept.push(stream);
        }
        refused("value.c=1", "too_many_filter_paths").await;
        refused("key=k&header.h=1", "too_many_filter_paths").await;
        refused("partition=1", "too_many_unindexed_filters").await;
        let (stream, is_in) = open("partition=0").await;
        assert!(is_in, "a filter that is in use takes nothing");
        kept.push(stream);
        let answer = daemon.get("/streams").await.json();
        assert_eq!(
            answer["http"]["limits"]["clients"], 7,
            "who was turned away holds no place"
        );
        let told = &answer["http"]["limits"]["refused"];
        assert_eq!(
            (&told["max_filter_paths"], &told["max_unindexed_filters"]),
            (&json!(4), &json!(2))
        );
        let filters = &answer["streams"][0]["filters"];
        assert_eq!(
            (&filters["count"], &filters["paths"], &filters["unindexed"]),
            (&json!(5), &json!(2), &json!(1))
        );
        let of_stream = json!({ "max_filter_paths": 4, "max_unindexed_filters": 2 });
        assert_eq!(filters["refused"], of_stream);
        // Each limit has its own line, whatever came before.
        for key in ["max_filter_paths", "max_unindexed_filters"] {
            let line = format!("127.0.0.1: refused from /events, {key} reached");
            daemon.wait_log(&line, secs(10));
        }
        let figures = figures(&daemon).await;
        let limit = [("limit", "max_unindexed_filters"), ("stream", "/events")];
        assert!((figures.get("kafka_sse_bridge_filters_refused_total", &limit) - 2.0).abs() < 0.1);
        let limit = [("limit", "max_filter_paths")];
        assert!((figures.get("kafka_sse_bridge_clients_refused_total", &limit) - 4.0).abs() < 0.1);

        // Slots without clients are free again.
        drop(kept);
        counts(&daemon, 0, 0).await;
        let (_stream, is_in) = open("value.c=1&header.h=1").await;
        assert!(is_in, "others have left");
        // A reload changes the limits and closes no client.
        let more = text.replace("max_filter_paths = 2", "max_filter_paths = 3");
        daemon.rewrite_config(&more);
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: stream \"/events\": max_filter_paths", secs(20));
        let (_stream, is_in) = open("value.d=1").await;
        assert!(is_in, "one more is allowed");
    });
}

fn who_is_turned_away_misses_nothing() {
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
        assert_eq!(goodbye.id, id, "it keeps its place");
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

fn clients_are_counted_by_the_address_from_trusted_proxies() {
    let http = "max_clients_per_ip = 2\ntrusted_proxies = [\"127.0.0.1\", \"127.9.0.0/16\"]";
    let daemon = Daemon::start(&config_of(http));
    block_on(async {
        let mut streams = Vec::new();
        let mut check = async |source: &str, headers: &[(&str, &str)], expected: bool| {
            let (stream, is_in) = open_for(&daemon, source, headers).await;
            assert_eq!(is_in, expected, "{source} {headers:?}");
            streams.push(stream);
        };
        // Behind a proxy, by the address that it forwards; entries to the left are ignored.
        check("127.0.0.1", &[("x-forwarded-for", "192.0.2.1")], true).await;
        check(
            "127.0.0.1",
            &[("x-forwarded-for", "198.51.100.9, 192.0.2.1")],
            true,
        )
        .await;
        check(
            "127.0.0.1",
            &[("x-forwarded-for", "198.51.100.8, 192.0.2.1")],
            false,
        )
        .await;
        check("127.9.0.7", &[("forwarded", "for=192.0.2.1")], false).await;
        check("127.9.0.7", &[("forwarded", "for=192.0.2.2")], true).await;
        // A chain of proxies.
        check("127.0.0.1", &[("x-forwarded-for", "192.0.2.2, 127.9.3.3")], true).await;
        check("127.0.0.1", &[("x-forwarded-for", "192.0.2.2, 127.9.3.4")], false).await;
        // One IPv6 network.
        check("127.0.0.1", &[("x-forwarded-for", "2001:db8::1")], true).await;
        check("127.0.0.1", &[("x-forwarded-for", "2001:db8::2")], true).await;
        check("127.0.0.1", &[("x-forwarded-for", "2001:db8::3")], false).await;
        check("127.0.0.1", &[("x-forwarded-for", "2001:db8:0:1::3")], true).await;
        // Not behind one, by the address it comes from, whatever it says.
        check("127.0.0.5", &[("x-forwarded-for", "192.0.2.50")], true).await;
        check("127.0.0.5", &[("x-forwarded-for", "192.0.2.51")], true).await;
        check("127.0.0.5", &[("forwarded", "for=192.0.2.52")], false).await;
        check("127.0.0.6", &[], true).await;
        assert_eq!(limits(&daemon).await["addresses"], 6);
        drop(streams);
        counts(&daemon, 0, 0).await;
    });
    let log = daemon.log();
    assert!(
        log.contains("192.0.2.1: refused, max_clients_per_ip reached"),
        "{log}"
    );
}

/// Asks for a stream on behalf of an address; whether it was let in.
fn ask(path: &Path, client: &str) -> (UnixStream, bool) {
    let mut socket = UnixStream::connect(path).expect("it listens");
    let head = format!(
        "GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nX-Forwarded-For: {client}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).expect("a request fits");
    let mut answer = String::new();
    let mut buffer = [0; 1024];
    while !answer.contains("\r\n\r\n") {
        let read = socket.read(&mut buffer).expect("it answers");
        assert!(read > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let is_refused = answer.contains("connection: close");
    (socket, !is_refused)
}

fn the_proxy_of_a_unix_socket_is_trusted_only_if_configured() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bridge.sock");
    let text = |proxies: &str| {
        config_of(&format!("max_clients_per_ip = 1\ntrusted_proxies = {proxies}")).replacen(
            "listen = [\"127.0.0.1:0\"]",
            &format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", path.display()),
            1,
        )
    };
    let daemon = Daemon::start(&text("[]"));
    let (_one, is_in) = ask(&path, "192.0.2.1");
    assert!(is_in);
    let (_two, is_in) = ask(&path, "192.0.2.2");
    assert!(!is_in, "all of a socket are one address, whatever they say");
    daemon.rewrite_config(&text("[\"unix\"]"));
    daemon.signal(Signal::HUP);
    daemon.wait_log("reloaded: http.trusted_proxies", secs(20));
    let (_three, is_in) = ask(&path, "192.0.2.2");
    assert!(is_in);
    let (_four, is_in) = ask(&path, "192.0.2.2");
    assert!(!is_in);
}

fn new_connections_are_rate_limited_in_total_and_per_address() {
    let http = "max_opens_per_second_per_ip = 2\nmax_opens_per_second = 5";
    let daemon = Daemon::start(&config_of(http));
    block_on(async {
        // Quicker than a bucket fills, also where the machine is slow: asked at once, not one by one.
        let burst = async |sources: &[&'static str]| {
            let asking: Vec<_> = sources
                .iter()
                .map(|source| tokio::spawn(Stream::to(daemon.url("/events")).source(source).send()))
                .collect();
            let mut streams = Vec::new();
            for asking in asking {
                streams.push(let_in(asking.await.expect("no panic").expect("an answer")));
            }
            streams.retain(|(_, is_in)| *is_in);
            streams.len()
        };
        let let_in = burst(&["127.0.0.2"; 40]).await;
        assert!((2..20).contains(&let_in), "{let_in}");
        let refused = limits(&daemon).await["refused"].clone();
        assert_eq!(refused["max_opens_per_second_per_ip"], 40 - let_in);
        assert_eq!(
            refused["max_opens_per_second"], 0,
            "those took no token from others"
        );

        let many: Vec<&'static str> = (3..43)
            .map(|last| &*Box::leak(format!("127.0.0.{last}").into_boxed_str()))
            .collect();
        let let_in = burst(&many).await;
        assert!((3..30).contains(&let_in), "{let_in}");
        let refused = limits(&daemon).await["refused"].clone();
        assert_eq!(refused["max_opens_per_second"], 40 - let_in);
        let answer = get(&daemon.url("/events"), &[]).await;
        if answer.status != 200 {
            assert_problem(&answer, 429, "too_many_opens");
        }
        // The buckets fill again.
        eventually_async(secs(20), "it may come in later", async || {
            let (_, is_in) = open_for(&daemon, "127.0.0.2", &[]).await;
            ensure(is_in, "not yet")
        })
        .await;
        counts(&daemon, 0, 0).await;
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
        assert!(is_in, "now there is a place");
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
