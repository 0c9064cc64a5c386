//! Connections that are cut after any byte lose and double no event: in Node and in a browser, by every transport, of a stream
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

/// The streams of the daemon, by their paths, and what their configuration says.
const STREAMS: [(&str, &str); 2] = [
    ("/records", "start = \"earliest\""),
    ("/table", "start = \"snapshot\"\nkey_field = \"key\""),
];

/// A daemon with a record of each kind, which pages of any origin may read. Each byte costs a browser three requests and more.
fn setup(broker: &Broker, assets: &str) -> Daemon {
    let topic = topic_name("cuts");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(
        &topic,
        &[
            Message::new("1", "{}"),
            Message::new("2", "{\"a\":\n\"Æ日👩\u{200d}🚀\"\n}"),
            Message::new("3", r#"{"data":"id: x"}"#),
            Message::tombstone("1"),
        ],
    );
    let [(path, lines), (second, more)] = STREAMS;
    let first = config(broker, &topic, path, lines, assets);
    let daemon = Daemon::start(&format!(
        "{first}[[stream]]\npath = \"{second}\"\ntopics = [{topic:?}]\n{more}\n[http.cors]\nallow_origins = [\"*\"]\n"
    ));
    block_on(daemon.wait_ready(secs(30)));
    daemon
}

fn check(found: &Value, what: &str) {
    let count = |name: &str| found[name].as_u64().unwrap_or_default();
    assert!(
        count("records") >= 2 && count("cuts") > 150,
        "{what}: {} records, {} cuts",
        found["records"],
        found["cuts"]
    );
    assert_eq!(found["wrong"], json!([]), "{what}");
}

fn cuts_after_any_byte_lose_and_double_no_event_in_node(broker: &Broker) {
    let daemon = setup(broker, &format!("{FILES}/tabs"));
    let origin = cutter::start(daemon.port());
    let project = super::package::Project::new();
    for name in ["cut.mjs", "cuts.mjs"] {
        fs::copy(format!("{FILES}/{name}"), project.path().join(name)).expect("a copy");
    }
    for (path, _) in STREAMS {
        let output = project.run("node", &["cut.mjs", &format!("{origin}{path}")]);
        let found = serde_json::from_slice(&output.stdout).expect("JSON");
        check(&found, path);
    }
}

/// Origins for each transport. The library comes back after 1.5 to 2.5 s where it does not know the server's reconnect time: an
/// EventSource never shows it, and Chromium drops what a fetch has not read yet when the connection ends. So the number of cuts at
/// a time bounds the trial, and a browser has six connections to an origin.
const ORIGINS: usize = 8;

fn cuts_after_any_byte_lose_and_double_no_event_in_a_browser(broker: &Broker) {
    let pages = scratch::directory("cuts");
    fs::write(
        pages.path().join("index.html"),
        "<!doctype html><title>Cuts</title>",
    )
    .expect("written");
    fs::copy(format!("{FILES}/cuts.mjs"), pages.path().join("cuts.js")).expect("a copy");
    let daemon = setup(broker, pages.path().to_str().expect("UTF-8"));
    // Three connections to an origin for each of the two streams.
    let script = "
        const [passes, done] = arguments;
        Promise.all([import('/assets/client.js'), import('/assets/cuts.js')])
            .then(([{ follow }, { cutEverywhere }]) => Promise.all(passes.map(([urls, transport]) => cutEverywhere(follow, urls, 3, { transport }))))
            .then(done, (error) => done(String(error.stack)));";
    let mut passes: Vec<(Vec<String>, &str)> = Vec::new();
    for transport in ["fetch", "eventsource"] {
        // Each proxy makes a cut of a path once.
        let origins: Vec<String> = (0..ORIGINS).map(|_| cutter::start(daemon.port())).collect();
        passes.extend(STREAMS.map(|(path, _)| {
            let urls = origins.iter().map(|origin| format!("{origin}{path}"));
            (urls.collect(), transport)
        }));
    }
    block_on(async {
        let browser = Browser::start().await;
        // By their policy the daemon's pages read from their own origin alone.
        let bypass = browser.devtools("Page.setBypassCSP", json!({ "enabled": true }));
        bypass.await.expect("no policy");
        browser.goto(&daemon.url("/")).await;
        let timeouts = fantoccini::wd::TimeoutConfiguration::new(Some(secs(180)), Some(secs(60)), None);
        browser.client.update_timeouts(timeouts).await.expect("timeouts");
        let found = browser.client.execute_async(script, vec![json!(passes)]).await;
        let found = found.expect("a result");
        for (index, pass) in passes.iter().enumerate() {
            check(&found[index], &format!("{pass:?}: {found}"));
        }
        browser.close().await;
    });
}
