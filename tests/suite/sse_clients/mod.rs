//! Client libraries in other languages, and a browser: they receive every record, and lose none when they reconnect.
//!
//! Their programs are in tests/clients, and in docs/clients.md word for word. Each follows two streams of the same topic
//! through the same script: old records, live records between heartbeats and comments, a daemon that is killed while it
//! sends large records, and one that shuts down. Another trial puts each behind a proxy that fails.

mod checks;
mod script;

use self::checks::{CAUGHT_UP, GOODBYE, STREAMS, has_everything, is_as_written, named, records, until};
use self::script::{Script, VALUES, large, tombstone, value};
use crate::common;
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::browser::{Browser, Engine};
use crate::harness::daemon::Daemon;
use crate::harness::followers::{Client, Curl, Follower, PROGRAMS, Runtime, Tab};
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::proxy::Proxy;
use crate::harness::stream::Stream;
use crate::harness::trial;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::trials;
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![the_documentation_shows_the_clients_that_are_tested];
    trials.extend(in_browser(
        Engine::Chromium,
        "eventsource",
        async |browser, origin, stream| Tab::open(browser, origin, stream).await,
    ));
    // Of Firefox, what may differ: how it hands bytes out and ends connections. That tabs share one is a trial of the library.
    for (name, options, in_firefox) in [
        ("library", "", 1),
        ("library_by_fetch", "&transport=fetch", 1),
        ("library_sharing", "&share", 0),
    ] {
        for (engine, promises) in [(Engine::Chromium, 3), (Engine::Firefox, in_firefox)] {
            let all = in_browser(engine, name, async move |browser, origin, stream| {
                Tab::with_library(browser, origin, stream, options).await
            });
            trials.extend(all.into_iter().take(promises));
        }
    }
    let curl = async |origin: &str, stream: &str| Curl::start(&format!("{origin}/{stream}"));
    trials.extend(all("curl", false, curl));
    for (runtime, programs) in [
        (Runtime::Node, &[("node_eventsource", "node/follow.mjs")][..]),
        (Runtime::Library, &[("node_library", "library/follow.mjs")]),
        (
            Runtime::Python,
            &[
                ("python_httpx_sse", "python/follow_httpx_sse.py"),
                ("python_sseclient", "python/follow_sseclient.py"),
            ],
        ),
        (Runtime::Go, &[("go_eventsource", "go/follow.go")]),
    ] {
        let is_missing = runtime.is_missing();
        for &(name, program) in programs {
            let start = async move |origin: &str, stream: &str| {
                Follower::start(runtime, program, &format!("{origin}/{stream}"))
            };
            trials.extend(all(name, is_missing, start));
        }
    }
    trials
}

/// The promises of every client; its name follows.
const READS: &str = "reads_everything_and_resumes@4.4.0";

const OUTLIVES: &str = "outlives_a_cut_within_an_event_and_an_error_page@4.4.0";

const MID_TABLE: &str = "resumes_in_the_middle_of_a_table@4.4.0";

/// `start` has a client follow a stream, given the origin and the stream's path without its slash.
fn all<C: Client>(
    name: &str,
    is_missing: bool,
    start: impl AsyncFn(&str, &str) -> C + Clone + Send + 'static,
) -> [Trial; 3] {
    let (second, third) = (start.clone(), start.clone());
    [
        trial(format!("{name}_{READS}"), move || block_on(reads(start))),
        trial(format!("{name}_{OUTLIVES}"), move || block_on(outlives(second))),
        trial(format!("{name}_{MID_TABLE}"), move || block_on(mid_table(third))),
    ]
    .map(|trial| trial.with_ignored_flag(is_missing))
}

/// `open` has a tab follow a stream, given the origin and the stream's path without its slash.
fn in_browser(
    engine: Engine,
    name: &str,
    open: impl for<'a> AsyncFn(&'a Browser, &str, &str) -> Tab<'a> + Clone + Send + 'static,
) -> [Trial; 3] {
    let (second, third) = (open.clone(), open.clone());
    let browser = match engine {
        Engine::Chromium => "browser",
        Engine::Firefox => "firefox",
    };
    [
        trial(format!("{browser}_{name}_{READS}"), move || {
            block_on(async {
                let browser = Browser::of(engine).await;
                reads(async |origin, stream| open(&browser, origin, stream).await).await;
                browser.close().await;
            });
        }),
        trial(format!("{browser}_{name}_{OUTLIVES}"), move || {
            block_on(async {
                let browser = Browser::of(engine).await;
                outlives(async |origin, stream| second(&browser, origin, stream).await).await;
                browser.close().await;
            });
        }),
        trial(format!("{browser}_{name}_{MID_TABLE}"), move || {
            block_on(async {
                let browser = Browser::of(engine).await;
                mid_table(async |origin, stream| third(&browser, origin, stream).await).await;
                browser.close().await;
            });
        }),
    ]
    .map(|trial| trial.with_ignored_flag(engine.is_missing()))
}

async fn reads<C: Client>(start: impl AsyncFn(&str, &str) -> C) {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("clients");
    broker.create_topic(&topic, 1, &[]);
    let mut script = Script {
        broker: &broker,
        topic: &topic,
        written: Vec::new(),
    };
    script.write(VALUES.map(value).into());
    script.write(vec![tombstone("gone, \"quoted\" and Ø"), tombstone("")]);
    script.write(large("long", 1, 900_000));

    let config = config(&broker, &topic);
    let mut daemon = Daemon::start(&config);
    daemon.wait_ready(secs(30)).await;
    let origin = daemon.url("");
    let mut clients = Vec::new();
    for (stream, _) in STREAMS {
        clients.push(start(&origin, stream).await);
    }
    has_everything(&mut clients, &script, 1).await;

    // Only heartbeats and comments. The harness's client does not check their rules here.
    let mut listener = Stream::open(daemon.url("/events?start=live")).await.lenient();
    for _ in 0..3 {
        listener.next_comment(secs(20)).await.expect("a keepalive");
    }
    until(&mut clients, "two heartbeats", |seen, _| {
        let count = named(seen, "heartbeat").len();
        ensure(count >= 2, format!("{count}"))
    })
    .await;
    script.write(VALUES.map(value).into());
    script.write(vec![tombstone("live")]);
    has_everything(&mut clients, &script, 1).await;

    // Killed while it sends large records.
    let before = script.written.len();
    script.write(large("killed", 30, 100_000));
    eventually_async(secs(60), "the first of them arrives", async || {
        let seen = clients[0].seen().await;
        ensure(records(&seen).len() > before, format!("{}", seen.len()))
    })
    .await;
    drop(daemon);
    script.write(VALUES.map(value).into());
    daemon = Daemon::start(&config);
    script.write(large("back", 10, 10_000));
    has_everything(&mut clients, &script, 2).await;

    // Shut down, and started again.
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(secs(20)).code(), Some(0));
    script.write(vec![tombstone("between two daemons"), value("one")]);
    daemon = Daemon::start(&config);
    script.write(vec![value("last")]);
    has_everything(&mut clients, &script, 3).await;

    is_as_written(
        &mut clients,
        &script,
        &daemon,
        &[CAUGHT_UP, CAUGHT_UP, GOODBYE, CAUGHT_UP],
    )
    .await;
}

/// The connection breaks inside an event, and the reconnecting client gets an error page.
async fn outlives<C: Client>(start: impl AsyncFn(&str, &str) -> C) {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("cut");
    broker.create_topic(&topic, 1, &[]);
    let mut script = Script {
        broker: &broker,
        topic: &topic,
        written: Vec::new(),
    };
    script.write(vec![value("first"), value("second")]);
    let daemon = Daemon::start(&config(&broker, &topic));
    daemon.wait_ready(secs(30)).await;
    let proxy = Proxy::start(daemon.port(), "/events");
    let mut clients = [start(&proxy.origin(), "events").await];
    has_everything(&mut clients, &script, 1).await;

    proxy.cut_and_refuse("cut");
    script.write(vec![
        value("before"),
        value("this one is\ncut here\nand goes on"),
        value("after"),
    ]);
    has_everything(&mut clients, &script, 2).await;
    assert!(proxy.is_done(), "both have happened");
    is_as_written(&mut clients, &script, &daemon, &[CAUGHT_UP, CAUGHT_UP]).await;
}

/// The connection breaks among the rows of a table, most of which have no id of their own.
async fn mid_table<C: Client>(start: impl AsyncFn(&str, &str) -> C) {
    const KEYS: usize = 350;
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("half-way");
    broker.create_topic(&topic, 1, &[]);
    let row = |number: usize| Message::new(format!("k{number}"), format!(r#"{{"row":{number}}}"#));
    broker.produce(&topic, &(0..KEYS).map(row).collect::<Vec<_>>());
    let table = "start = \"snapshot\"\nkey_field = \"key\"";
    let assets = format!("[ui]\nassets = \"{PROGRAMS}/browser\"\n[http]\nretry = \"200ms\"");
    let config = common::config(&broker, &[&topic], table).replacen("[http]", &assets, 1);
    let daemon = Daemon::start(&config);
    daemon.wait_ready(secs(30)).await;
    let proxy = Proxy::start(daemon.port(), "/events");
    proxy.cut_and_refuse(r#"{"row":250"#);
    let mut client = start(&proxy.origin(), "events").await;
    eventually_async(secs(60), "the connection is cut", async || {
        client.seen().await;
        ensure(proxy.is_done(), "not yet")
    })
    .await;
    broker.produce(&topic, &[Message::tombstone("k100"), Message::new("k101", "{}")]);
    let wanted: BTreeMap<String, String> = (0..KEYS)
        .filter(|number| *number != 100)
        .map(|number| match number {
            101 => ("k101".to_owned(), r#"{"key":"k101"}"#.to_owned()),
            _ => (
                format!("k{number}"),
                format!(r#"{{"row":{number},"key":"k{number}"}}"#),
            ),
        })
        .collect();
    let seen = eventually_async(secs(60), "the table is whole", async || {
        let seen = client.seen().await;
        let mut shown = BTreeMap::new();
        for event in records(&seen) {
            let key =
                serde_json::from_str::<serde_json::Value>(&event.data).expect("JSON")["key"].to_string();
            let key = key.trim_matches('"').to_owned();
            match event.event.as_str() {
                "message" => drop(shown.insert(key, event.data)),
                "delete" => drop(shown.remove(&key)),
                other => panic!("{other}"),
            }
        }
        let is_complete = shown == wanted && !named(&seen, "caught-up").is_empty();
        if is_complete {
            Ok(seen)
        } else {
            Err(format!("{} rows", shown.len()))
        }
    })
    .await;
    // It resumed: rows before its last id did not come twice.
    assert!(records(&seen).len() < KEYS + 150, "{} events", seen.len());
}

fn config(broker: &Broker, topic: &str) -> String {
    let stream = |(path, name): (&str, &str)| {
        let event = if name == "message" {
            String::new()
        } else {
            format!("event = \"{name}\"\n")
        };
        format!(
            "[[stream]]\npath = \"/{path}\"\ntopics = [\"{topic}\"]\nstart = \"earliest\"\n\
             heartbeat = \"event\"\nheartbeat_interval = \"3s\"\n{event}"
        )
    };
    format!(
        "[kafka]\nbrokers = [\"{}\"]\n[http]\nlisten = [\"127.0.0.1:{}\"]\nkeepalive = \"1s\"\nretry = \"200ms\"\n\
         [ui]\nassets = \"{PROGRAMS}/browser\"\n{}",
        broker.bootstrap(),
        free_port(),
        STREAMS.map(stream).concat(),
    )
}

fn the_documentation_shows_the_clients_that_are_tested() {
    let read = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let page = read("docs/clients.md");
    for (language, program) in [
        ("html", "browser/index.html"),
        ("js", "browser/follow.js"),
        ("js", "node/follow.mjs"),
        ("python", "python/follow_httpx_sse.py"),
        ("python", "python/follow_sseclient.py"),
        ("go", "go/follow.go"),
    ] {
        let block = format!(
            "```{language}\n{}```\n",
            read(&format!("tests/clients/{program}"))
        );
        assert!(page.contains(&block), "docs/clients.md shows another {program}");
    }
    for (pinned, file, shown) in [
        (
            "\"eventsource\": \"3.0.7\"",
            "node/package.json",
            "eventsource@3.0.7",
        ),
        ("httpx-sse==0.4.3 ", "python/requirements.txt", "httpx-sse==0.4.3"),
        (
            "sseclient-py==1.9.0 ",
            "python/requirements.txt",
            "sseclient-py==1.9.0",
        ),
        (
            "github.com/launchdarkly/eventsource v1.8.0",
            "go/go.mod",
            "github.com/launchdarkly/eventsource@v1.8.0",
        ),
    ] {
        assert!(
            read(&format!("tests/clients/{file}")).contains(pinned),
            "{file}: {pinned}"
        );
        assert!(
            page.contains(shown),
            "docs/clients.md shows another version than {shown}"
        );
    }
}
