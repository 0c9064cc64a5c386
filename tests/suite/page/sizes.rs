//! How much a browser loads for a view, with all that one may open in it.

use super::setup;
use crate::common::table;
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;
use serde_json::json;
use std::collections::BTreeMap;

/// Most bytes of a view, compressed. The client library has a limit of its own.
const MOST: u64 = 90 * 1024;

/// Most bytes of all views together, as docs/page.md says.
const MOST_OF_ALL: u64 = 125 * 1024;

pub fn trials() -> Vec<Trial> {
    vec![on_broker(Version::V4_4, no_view_loads_more_than_ninety_kibibytes)]
}

/// The page's files that the document has loaded, with the bytes of each as they came.
const LOADED: &str = "
    const files = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
        .filter(({ name }) => /\\/(assets\\/.*)?$/.test(new URL(name).pathname));
    return Object.fromEntries(files.map(({ name, encodedBodySize }) => [new URL(name).pathname, encodedBodySize]));";

async fn until(browser: &Browser, expression: &str) {
    let script = format!("return Boolean({expression})");
    eventually_async(secs(30), expression, async || {
        let holds = browser.run(&script).await;
        ensure(holds == json!(true), holds.to_string())
    })
    .await;
}

fn no_view_loads_more_than_ninety_kibibytes(broker: &Broker) {
    let cards = "[[stream.view]]\nkind = \"table\"\n[[stream.view]]\nkind = \"cards\"\n[[stream.view]]\nkind = \"feed\"\n\
                 [[stream.view]]\nkind = \"chart\"\n";
    let (topic, text) = setup(broker, "", cards);
    broker.produce(&topic, &[table("Asia", &["CN"])]);
    let daemon = Daemon::start(&format!("{text}{}", super::second_of(&text)));
    let keys = (
        "document.querySelector('#help').click()",
        "document.querySelector('#keys').open",
    );
    let connect = (
        "document.querySelector('#keys').close(); [...document.querySelectorAll('.event-actions button')].find((button) => button.textContent.startsWith('Continue')).click()",
        "document.querySelector('.connect')",
    );
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let browser = Browser::start().await;
        let mut all: BTreeMap<String, u64> = BTreeMap::new();
        for (link, is_shown, opened) in [
            (
                "#/",
                "document.querySelectorAll('.card').length === 2",
                &[keys][..],
            ),
            (
                "#/topn/updates?view=table",
                "document.querySelectorAll('.grid tbody tr').length === 2",
                &[
                    keys,
                    (
                        "document.querySelector('.grid tbody tr td').click()",
                        "document.querySelector('.row-panel .json')",
                    ),
                    connect,
                ],
            ),
            (
                "#/topn/updates?view=cards",
                "document.querySelectorAll('.row-card').length === 2",
                &[keys],
            ),
            (
                "#/topn/updates?view=feed",
                "document.querySelector('.event .json')",
                &[keys, connect],
            ),
            (
                "#/topn/updates?view=chart&kiosk",
                "document.querySelector('.chart canvas')",
                &[],
            ),
        ] {
            // With another fragment alone, it would be the same document.
            browser.goto("about:blank").await;
            browser.goto(&daemon.url(&format!("/{link}"))).await;
            until(&browser, is_shown).await;
            for (act, is_open) in opened {
                browser.run(act).await;
                until(&browser, is_open).await;
            }
            let loaded = browser.run(LOADED).await;
            let files: Vec<(&String, u64)> = loaded
                .as_object()
                .expect("files")
                .iter()
                .map(|(name, size)| (name, size.as_u64().expect("a size")))
                .collect();
            assert!(files.iter().all(|(_, size)| *size > 0), "{link}: {loaded}");
            let total: u64 = files.iter().map(|(_, size)| size).sum();
            assert!(total <= MOST, "{link}: {total} bytes: {loaded}");
            all.extend(files.iter().map(|(name, size)| ((*name).clone(), *size)));
        }
        browser.close().await;
        let total: u64 = all.values().sum();
        assert!(total <= MOST_OF_ALL, "{total} bytes: {all:?}");
    });
}
