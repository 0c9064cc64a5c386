//! The examples of docs/clients.md, as they are printed there, show a live table in a browser.

use super::package::Project;
use super::{FILES, config};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::followers::Runtime;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use crate::harness::{promise, scratch};
use libtest_mimic::Trial;
use serde_json::json;
use std::fs;
use std::path::Path;

pub(super) fn trials() -> Vec<Trial> {
    let in_browser = on_broker(
        Version::V4_4,
        the_examples_for_plain_pages_react_vue_and_svelte_show_a_live_table,
    );
    vec![
        promise(the_documentation_shows_the_examples_that_are_tested),
        in_browser.with_ignored_flag(Runtime::Library.is_missing()),
    ]
}

fn the_documentation_shows_the_examples_that_are_tested() {
    let read =
        |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md"));
    for (language, example) in [
        ("html", "index.html"),
        ("js", "orders.js"),
        ("jsx", "Orders.jsx"),
        ("vue", "Orders.vue"),
        ("svelte", "Orders.svelte"),
    ] {
        let text = read(&Path::new(FILES).join("examples").join(example));
        let block = format!("```{language}\n{text}```\n");
        assert!(page.contains(&block), "docs/clients.md shows another {example}");
    }
}

fn the_examples_for_plain_pages_react_vue_and_svelte_show_a_live_table(broker: &Broker) {
    let project = Project::new();
    let examples = format!("{FILES}/examples");
    let pages = scratch::directory("examples");
    let out = pages.path().to_str().expect("UTF-8");
    project.run("node", &[&format!("{FILES}/build.mjs"), &examples, out]);
    fs::copy(format!("{examples}/orders.js"), pages.path().join("orders.js")).expect("a copy");
    for name in ["index.html", "plain.html"] {
        fs::copy(format!("{examples}/index.html"), pages.path().join(name)).expect("a copy");
    }

    let topic = topic_name("examples");
    broker.create_topic(&topic, 1, &[]);
    let order = |number: &str, status: &str| {
        Message::new(number, format!(r#"{{"status":"{status}","total":{number}}}"#))
    };
    broker.produce(&topic, &[order("17", "new"), order("18", "new")]);
    let stream = "start = \"snapshot\"\nkey_field = \"order\"";
    let text = config(broker, &topic, "/orders", stream, out);
    let mut daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let browser = Browser::start().await;
        let mut number = 19;
        for name in ["plain", "react", "vue", "svelte"] {
            fs::copy(
                pages.path().join(format!("{name}.html")),
                pages.path().join("index.html"),
            )
            .expect("a copy");
            let shows = async |wanted: &[String]| {
                let lines = "return [...document.querySelectorAll('li')].map((line) => line.textContent)";
                let what = format!("{name} shows the orders");
                browser
                    .wait_for(secs(30), lines, &what, |lines| *lines == json!(wanted))
                    .await;
            };
            let mut wanted: Vec<String> = (17..number)
                .map(|number| format!("{number}: new, {number}"))
                .collect();
            browser.goto(&daemon.url("/")).await;
            shows(&wanted).await;
            // Live, and through a restart.
            broker.produce(&topic, &[order(&number.to_string(), "new")]);
            wanted.push(format!("{number}: new, {number}"));
            number += 1;
            shows(&wanted).await;
            broker.produce(
                &topic,
                &[
                    Message::tombstone("0"),
                    order("1", "gone"),
                    Message::tombstone("1"),
                ],
            );
            drop(daemon);
            broker.produce(&topic, &[order(&number.to_string(), "new")]);
            daemon = Daemon::start(&text);
            wanted.push(format!("{number}: new, {number}"));
            number += 1;
            shows(&wanted).await;
        }
        browser.close().await;
    });
}
