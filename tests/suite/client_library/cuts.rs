//! Connections that are cut anywhere lose and double no event: in Node and in a browser, by every transport, of a stream
//! that keeps a table, whose rows have no ids of their own, and of one that has records alone.

use super::{FILES, config, cutter};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::followers::Runtime;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, scratch};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;

pub(super) fn trials() -> Vec<Trial> {
    let in_node = on_broker(
        Version::V4_4,
        cuts_after_any_byte_lose_and_double_no_event_in_node,
    );
    vec![
        in_node.with_ignored_flag(Runtime::Library.is_missing()),
        on_broker(
            Version::V4_4,
            cuts_after_any_byte_lose_and_double_no_event_in_a_browser,
        ),
    ]
}

/// The two streams, by what their configuration says of them.
const STREAMS: [&str; 2] = [
    "start = \"earliest\"",
    "start = \"snapshot\"\nkey_field = \"key\"",
];

/// A daemon with a few records of each kind.
fn setup(broker: &Broker, stream: &str, assets: &str) -> Daemon {
    let topic = topic_name("cuts");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(
        &topic,
        &[
            Message::new("1", r#"{"row":"one"}"#),
            Message::new("2", "{\"lines\":\n\"Ærø, 日本語 👩\u{200d}🚀\"\n}"),
            Message::new("3", r#"{"data":"id: forged"}"#),
            Message::tombstone("1"),
            Message::new("4", "{}"),
        ],
    );
    let daemon = Daemon::start(&config(broker, &topic, "/events", stream, assets));
    block_on(daemon.wait_ready(secs(30)));
    daemon
}

fn check(found: &Value, what: &str) {
    let count = |name: &str| found[name].as_u64().unwrap_or_default();
    assert!(
        count("records") >= 3 && count("cuts") > 150,
        "{what}: {} records, {} cuts",
        found["records"],
        found["cuts"]
    );
    assert_eq!(found["wrong"], json!([]), "{what}");
}

fn cuts_after_any_byte_lose_and_double_no_event_in_node(broker: &Broker) {
    for stream in STREAMS {
        let daemon = setup(broker, stream, &format!("{FILES}/tabs"));
        let origin = cutter::start(daemon.port());
        let project = super::package::Project::new();
        for name in ["cut.mjs", "cuts.mjs"] {
            fs::copy(format!("{FILES}/{name}"), project.path().join(name)).expect("a copy");
        }
        let output = project.run("node", &["cut.mjs", &format!("{origin}/events")]);
        let found = serde_json::from_slice(&output.stdout).expect("JSON");
        check(&found, stream);
    }
}

fn cuts_after_any_byte_lose_and_double_no_event_in_a_browser(broker: &Broker) {
    let pages = scratch::directory("cuts");
    fs::write(
        pages.path().join("index.html"),
        "<!doctype html><title>Cuts</title>",
    )
    .expect("written");
    fs::copy(format!("{FILES}/cuts.mjs"), pages.path().join("cuts.js")).expect("a copy");
    // A browser has six connections to an origin.
    let script = "
        const [transport, step, done] = arguments;
        Promise.all([import('/assets/client.js'), import('/assets/cuts.js')])
            .then(([{ follow }, { cutEverywhere }]) => cutEverywhere(follow, new URL('/events', location).href, 4, { transport }, step))
            .then(done, (error) => done(String(error.stack)));";
    for stream in STREAMS {
        let daemon = setup(broker, stream, pages.path().to_str().expect("UTF-8"));
        block_on(async {
            let browser = Browser::start().await;
            let timeouts = fantoccini::wd::TimeoutConfiguration::new(Some(secs(180)), Some(secs(60)), None);
            browser.client.update_timeouts(timeouts).await.expect("timeouts");
            // In Node after each byte. An EventSource does not say for how long to wait, so that each cut takes seconds.
            for (transport, step) in [("fetch", 5), ("eventsource", 29)] {
                // Each cut is made once.
                let origin = cutter::start(daemon.port());
                browser.goto(&format!("{origin}/")).await;
                let arguments = vec![json!(transport), json!(step)];
                let found = browser.client.execute_async(script, arguments).await;
                check(&found.expect("a result"), &format!("{transport}, {stream}"));
            }
            browser.close().await;
        });
    }
}
