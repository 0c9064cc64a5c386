//! The filters of a feed: those of the server, by its URL.

use super::feeds::{LOOK, choose, click, open, order, orders, wait_for};
use super::picture;
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::daemon::finish;
use crate::harness::on_broker;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(
            Version::V4_4,
            the_filter_bar_makes_the_url_that_the_server_filters_by,
        ),
        on_broker(Version::V4_4, the_filter_bar_completes_what_was_seen),
        on_broker(Version::V4_4, what_the_server_refuses_is_said),
    ]
}

/// Types into the field for filters, and presses Enter.
pub(super) async fn filter(browser: &Browser, text: &str) {
    let script = format!(
        "const input = document.querySelector('.filter-input');
        input.focus();
        input.value = {};
        input.dispatchEvent(new Event('input', {{ bubbles: true }}));
        input.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'Enter', bubbles: true }}));",
        json!(text)
    );
    browser.run(&script).await;
}

/// The keys of the records that a URL gives, the newest first.
fn keys_by_curl(url: &str) -> Vec<String> {
    let lines = finish(
        Command::new("curl")
            .args(["-sS", "-H", "Accept: application/x-ndjson"])
            .arg(format!("{url}&follow=false")),
    );
    let lines = String::from_utf8_lossy(&lines.stdout).into_owned();
    lines
        .lines()
        .rev()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {lines}")))
        .filter(|line| line["event"] == "message")
        .map(|line| line["data"]["order"].as_str().expect("a key").to_owned())
        .collect()
}

fn the_filter_bar_makes_the_url_that_the_server_filters_by(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"earliest\"");
    let odd = "it's \"<&>\" = a+b Ø 🙂 #?%25";
    broker.produce(
        &topic,
        &[
            order("17", r#"{"city":"Paris","log.level":"info","a=b":1.50}"#),
            order("18", r#"{"city":"Rome","log.level":"error"}"#),
            order("19", r#"{"city":"Berlin"}"#).header("type", "created"),
            order(odd, r#"{"city":"Paris"}"#),
            order("base64:x", r#"{"city":"Paris"}"#),
        ],
    );
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        wait_for(&browser, "all records", |seen| {
            seen["keys"].as_array().is_some_and(|keys| keys.len() == 5)
        })
        .await;
        for (terms, keys) in [
            (&["key=17"][..], &["17"][..]),
            (&["key=17", "key=18"], &["18", "17"]),
            (&["value.city=Paris", "key=17"], &["17"]),
            (&["city=Rome"], &["18"]),
            (&["value.log\\.level=error"], &["18"]),
            (&["value.a=b=1.50"], &["17"]),
            (&["header.type=created"], &["19"]),
            (&["partition=1"], &[]),
            (&[&format!("key={odd}")], &[odd]),
        ] {
            for term in terms {
                let count = browser.run(LOOK).await["chips"].as_array().map_or(0, Vec::len);
                filter(&browser, term).await;
                wait_for(&browser, "another chip", |seen| {
                    seen["chips"]
                        .as_array()
                        .is_some_and(|chips| chips.len() == count + 1)
                })
                .await;
            }
            let seen = wait_for(&browser, &format!("{terms:?} selects {keys:?}"), |seen| {
                seen["state"] == "live"
                    && seen["keys"] == json!(keys)
                    && seen["rows"]
                        .as_array()
                        .is_some_and(|rows| rows.len() == keys.len() + 1)
            })
            .await;
            // The URL is what the server filters by: read by curl, it gives the same records.
            let url = seen["url"].as_str().expect("a URL");
            let found = keys_by_curl(url);
            assert_eq!(found, keys, "{url}");
            while browser.run(LOOK).await["chips"] != json!([]) {
                let count = browser.run(LOOK).await["chips"].as_array().map_or(0, Vec::len);
                click(&browser, ".chip").await;
                wait_for(&browser, "a chip less", |seen| {
                    seen["chips"]
                        .as_array()
                        .is_some_and(|chips| chips.len() == count - 1)
                })
                .await;
            }
            wait_for(&browser, "all records", |seen| {
                seen["keys"].as_array().is_some_and(|keys| keys.len() == 5)
            })
            .await;
        }
        // By a button of an event, with a key that looks like something else.
        choose(&browser, "base64:x").await;
        browser
            .run("[...document.querySelectorAll('.event-actions button')].find((button) => button.textContent === 'Only this key').click();")
            .await;
        let seen = wait_for(&browser, "that key alone", |seen| {
            seen["keys"] == json!(["base64:x"])
        })
        .await;
        assert!(
            seen["url"]
                .as_str()
                .is_some_and(|url| url.ends_with("?key=base64%3AYmFzZTY0Ong%3D")),
            "{seen}"
        );
        assert!(
            seen["hash"].as_str().is_some_and(|hash| hash.contains("f.key=")),
            "a link leads here: {seen}"
        );
        browser.screenshot(&picture("feed-filter.png")).await;
        browser.close().await;
    });
}

fn the_filter_bar_completes_what_was_seen(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"earliest\"\nheaders_field = \"headers\"");
    broker.produce(
        &topic,
        &[
            order("17", r#"{"city":"Paris","price":1.50}"#).header("type", "created"),
            order("18", r#"{"city":"Potsdam"}"#),
            order("19", r#"{"city":"Paris"}"#),
        ],
    );
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        wait_for(&browser, "all records", |seen| {
            seen["keys"].as_array().is_some_and(|keys| keys.len() == 3)
        })
        .await;
        let type_in = async |text: &str| {
            let script = format!(
                "const input = document.querySelector('.filter-input');
                input.focus();
                input.value = {};
                input.dispatchEvent(new Event('input', {{ bubbles: true }}));",
                json!(text)
            );
            browser.run(&script).await;
        };
        type_in("").await;
        let seen = wait_for(&browser, "names are offered", |seen| {
            seen["offered"].as_array().is_some_and(|offered| {
                ["key", "partition", "value.city", "value.price"]
                    .iter()
                    .all(|name| offered.contains(&json!(name)))
            })
        })
        .await;
        assert!(
            seen["offered"].as_array().is_some_and(|offered| offered
                .iter()
                .any(|name| name.as_str().is_some_and(|name| name.starts_with("header.")))),
            "{seen}"
        );
        type_in("cit").await;
        wait_for(&browser, "the name is offered", |seen| {
            seen["offered"] == json!(["value.city"])
        })
        .await;
        type_in("value.city=P").await;
        wait_for(&browser, "values are offered, the most frequent first", |seen| {
            seen["offered"] == json!(["Paris", "Potsdam"])
        })
        .await;
        type_in("value.price=").await;
        wait_for(&browser, "a number is as it was written", |seen| {
            seen["offered"] == json!(["1.50"])
        })
        .await;
        // By the keyboard: down to the second, and Enter.
        type_in("value.city=P").await;
        let press = "const press = (key) => document.querySelector('.filter-input').dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
            press('ArrowDown'); press('ArrowDown'); press('Enter');";
        browser.run(press).await;
        wait_for(&browser, "the second is taken", |seen| {
            seen["keys"] == json!(["18"]) && seen["chips"].as_array().is_some_and(|chips| chips.len() == 1)
        })
        .await;
        let is_there = "return document.activeElement === document.querySelector('.filter-input');";
        browser
            .wait_for(secs(10), is_there, "the field is in use still", |is_so| {
                *is_so == true
            })
            .await;
        browser.close().await;
    });
}

fn what_the_server_refuses_is_said(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"earliest\"\nhide = [\"card\"]");
    broker.produce(&topic, &[order("17", r#"{"city":"Paris","card":"1234"}"#)]);
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        wait_for(&browser, "the record", |seen| seen["keys"] == json!(["17"])).await;
        for (text, said) in [
            ("17", "name=value"),
            ("keys=17", "none of key, topic, partition"),
            ("partition=first", "is a number"),
        ] {
            filter(&browser, text).await;
            let seen = wait_for(&browser, text, |seen| {
                seen["problem"]
                    .as_str()
                    .is_some_and(|problem| problem.contains(said))
            })
            .await;
            assert_eq!(seen["chips"], json!([]), "it was not sent");
        }
        filter(&browser, "value.card=1234").await;
        let seen = wait_for(&browser, "the server's words", |seen| {
            seen["problem"]
                .as_str()
                .is_some_and(|problem| problem.starts_with("The server refuses this:"))
        })
        .await;
        assert!(
            seen["problem"]
                .as_str()
                .is_some_and(|problem| problem.contains("card")),
            "{seen}"
        );
        click(&browser, ".chip").await;
        wait_for(&browser, "all is well again", |seen| {
            seen["problem"].is_null() && seen["keys"] == json!(["17"])
        })
        .await;
        browser.close().await;
    });
    let (topic, daemon) = orders(broker, "start = \"earliest\"\nclient_filters = false");
    broker.produce(&topic, &[order("17", "{}")]);
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        let seen = wait_for(&browser, "the record", |seen| seen["keys"] == json!(["17"])).await;
        assert_eq!(seen["none"], "This stream takes no filters of clients.");
        browser.close().await;
    });
}
