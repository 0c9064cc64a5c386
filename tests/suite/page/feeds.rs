//! The feed: the newest events, and one of them whole.

use super::{picture, served};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(
            Version::V4_4,
            the_newest_events_are_shown_with_key_partition_and_offset,
        ),
        on_broker(Version::V4_4, a_paused_feed_keeps_its_place_and_loses_nothing),
        on_broker(Version::V4_4, a_feed_that_is_scrolled_stays_where_it_is),
        on_broker(Version::V4_4, an_event_shows_what_has_changed),
        on_broker(Version::V4_4, json_folds_and_keeps_its_digits),
    ]
}

/// A stream at `/orders` of a new topic with two partitions, with these lines beside those that show where a record is.
pub(super) fn orders(broker: &Broker, lines: &str) -> (String, Daemon) {
    let topic = topic_name("feed");
    broker.create_topic(&topic, 2, &[]);
    let text = format!(
        "{}[[stream]]\npath = \"/orders\"\ntopics = [{topic:?}]\nkey_field = \"order\"\npartition_field = \"partition\"\n\
         offset_field = \"offset\"\n{lines}\n",
        served(broker)
    );
    (topic, Daemon::start(&text))
}

pub(super) fn order(key: &str, value: &str) -> Message {
    Message::new(key, value).partition(0)
}

/// What somebody who looks at a feed sees.
pub(super) const LOOK: &str = "
    const seen = (one) => one?.checkVisibility() ? one.textContent : null;
    const rows = [...document.querySelectorAll('.feed-rows > .feed-row')].filter((row) => {
        const [own, list] = [row.getBoundingClientRect(), row.closest('.feed-list').getBoundingClientRect()];
        return own.bottom > list.top + 1 && own.top < list.bottom - 1;
    });
    const text = (row, part) => row.querySelector(part).textContent;
    return {
        rows: rows.map((row) => [row.dataset.kind, text(row, '.feed-key'), text(row, '.feed-value'), text(row, '.feed-place')]),
        times: rows.map((row) => text(row, '.feed-time')),
        numbers: rows.map((row) => Number(row.dataset.number)),
        keys: rows.filter((row) => row.dataset.kind !== 'control').map((row) => text(row, '.feed-key')),
        pause: seen(document.querySelector('.feed-pause')),
        newer: seen(document.querySelector('.feed-newer')),
        panel: seen(document.querySelector('.event-state')),
        key: seen(document.querySelector('.event-key')),
        tree: [...document.querySelectorAll('.event .json li')].map((item) => item.textContent),
        marks: [...document.querySelectorAll('.event .json [data-mark]')].map((item) => [item.dataset.mark, item.textContent]),
        changes: [...document.querySelectorAll('.changes li')].map((item) => item.textContent),
        chips: [...document.querySelectorAll('.chip')].map((chip) => chip.textContent),
        url: seen(document.querySelector('.filter-url')),
        problem: seen(document.querySelector('.filter-problem')),
        offered: [...document.querySelectorAll('.filter-list:not([hidden]) bdi')].map((option) => option.textContent),
        none: seen(document.querySelector('.filter-none')),
        state: document.querySelector('#state')?.dataset.state ?? null,
        hash: location.hash,
    };";

pub(super) async fn wait_for(browser: &Browser, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    browser.wait_for(secs(30), LOOK, what, is_so).await
}

/// Opens a feed and waits until it is live.
pub(super) async fn open(daemon: &Daemon, link: &str) -> Browser {
    let browser = Browser::open(daemon, link).await;
    wait_for(&browser, "the feed is live", |seen| seen["state"] == "live").await;
    browser
}

pub(super) async fn click(browser: &Browser, selector: &str) {
    browser
        .run(&format!("document.querySelector({}).click();", json!(selector)))
        .await;
}

/// Chooses an event by its key, as a click does.
pub(super) async fn choose(browser: &Browser, key: &str) {
    let script = format!(
        "[...document.querySelectorAll('.feed-row')].find((row) => row.querySelector('.feed-key')?.textContent === {})
            .querySelector('.feed-value').click();",
        json!(key)
    );
    browser.run(&script).await;
}

fn is_at(seen: &Value, keys: &[String]) -> bool {
    seen["keys"] == json!(keys)
}

fn the_newest_events_are_shown_with_key_partition_and_offset(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"earliest\"");
    broker.produce(
        &topic,
        &[
            order("17", r#"{"total":12.50,"city":"Paris"}"#),
            Message::new("18", r#"{"total":1}"#).partition(1),
            Message::tombstone("17").partition(0),
            order("<img src=x onerror=\"document.title='owned'\">", r#"{"total":2}"#),
            Message::value(r#"{"total":3}"#).partition(1),
        ],
    );
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        let seen = wait_for(&browser, "five records and a word", |seen| {
            seen["rows"].as_array().is_some_and(|rows| rows.len() == 6)
        })
        .await;
        let rows = seen["rows"].as_array().expect("rows");
        let has = |kind: &str, key: &str, place: &str| {
            rows.iter()
                .find(|row| row[0] == kind && row[1] == key && row[3] == place)
                .unwrap_or_else(|| panic!("{kind} {key} {place}: {seen}"))
        };
        assert!(
            has("message", "17", "0 · 0")[2]
                .as_str()
                .is_some_and(|text| text.contains("city: \"Paris\""))
        );
        has("message", "18", "1 · 0");
        assert_eq!(has("delete", "17", "0 · 1")[2], "deleted");
        has(
            "message",
            "<img src=x onerror=\"document.title='owned'\">",
            "0 · 2",
        );
        has("message", "no key", "1 · 1");
        // The end of what was written before is said in words, and everything after it is above.
        let said = rows
            .iter()
            .position(|row| row[0] == "control")
            .expect("a control event");
        assert_eq!(said, 0, "{seen}");
        assert!(
            rows[0][2].as_str().is_some_and(|text| text.contains("live")),
            "{seen}"
        );
        let numbers: Vec<i64> = seen["numbers"]
            .as_array()
            .expect("numbers")
            .iter()
            .filter_map(Value::as_i64)
            .collect();
        assert!(numbers.is_sorted_by(|one, other| one > other), "{numbers:?}");
        assert!(
            seen["times"]
                .as_array()
                .is_some_and(|times| times.iter().all(|time| time != "")),
            "{seen}"
        );
        broker.produce(&topic, &[order("19", r#"{"total":4}"#)]);
        let seen = wait_for(&browser, "the next one is at the top, and shown whole", |seen| {
            seen["keys"][0] == "19" && seen["key"] == "19"
        })
        .await;
        assert_eq!(seen["panel"], "Newest event");
        assert_eq!(
            browser
                .run("return document.querySelectorAll('#view img').length;")
                .await,
            0,
            "no markup of a record"
        );
        browser.screenshot(&picture("feed.png")).await;
        browser.close().await;
    });
}

fn a_paused_feed_keeps_its_place_and_loses_nothing(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"live\"");
    let records = |from: usize, to: usize| -> Vec<Message> {
        (from..to)
            .map(|number| order(&format!("k{number}"), &format!("{{\"n\":{number}}}")))
            .collect()
    };
    let keys = |from: usize, to: usize| -> Vec<String> {
        (from..to).rev().map(|number| format!("k{number}")).collect()
    };
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        broker.produce(&topic, &records(0, 6));
        wait_for(&browser, "six records", |seen| is_at(seen, &keys(0, 6))).await;
        choose(&browser, "k3").await;
        click(&browser, ".feed-pause").await;
        broker.produce(&topic, &records(6, 306));
        let seen = wait_for(&browser, "what has arrived is counted", |seen| {
            seen["pause"] == "Resume (300 new)"
        })
        .await;
        assert!(is_at(&seen, &keys(0, 6)), "{seen}");
        assert_eq!(
            (&seen["key"], &seen["panel"]),
            (&json!("k3"), &json!("Selected event"))
        );
        assert_eq!(seen["newer"], "300 new ↑");
        click(&browser, ".feed-pause").await;
        let seen = wait_for(&browser, "it goes on", |seen| {
            seen["pause"] == "Pause" && seen["keys"][0] == "k305"
        })
        .await;
        assert_eq!(seen["key"], "k3", "what was chosen stays: {seen}");
        // Nothing is lost: all of them are there, in order.
        let mut all = Vec::new();
        let height = browser
            .run("return document.querySelector('.feed-list').scrollHeight;")
            .await
            .as_u64()
            .expect("a height");
        for top in (0..height).step_by(200) {
            let script = format!(
                "const list = document.querySelector('.feed-list'); list.scrollTop = {top}; list.dispatchEvent(new Event('scroll'));"
            );
            browser.run(&script).await;
            let seen = browser.run(LOOK).await;
            for key in seen["keys"].as_array().expect("keys") {
                let key = key.as_str().expect("a key").to_owned();
                if !all.contains(&key) {
                    all.push(key);
                }
            }
        }
        assert_eq!(all, keys(0, 306));
        browser.close().await;
    });
}

fn a_feed_that_is_scrolled_stays_where_it_is(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"earliest\"");
    let records = |from: usize, to: usize| -> Vec<Message> {
        (from..to)
            .map(|number| order(&format!("k{number}"), &format!("{{\"n\":{number}}}")))
            .collect()
    };
    broker.produce(&topic, &records(0, 200));
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        wait_for(&browser, "all records", |seen| seen["keys"][0] == "k199").await;
        browser
            .run("document.querySelector('.feed-list').scrollTop = 1500;")
            .await;
        let before = wait_for(&browser, "it is further down", |seen| seen["newer"] == "Newest ↑").await;
        broker.produce(&topic, &records(200, 260));
        let seen = wait_for(&browser, "what has arrived is counted", |seen| {
            seen["newer"] == "60 new ↑"
        })
        .await;
        assert_eq!(seen["keys"], before["keys"], "nothing has moved");
        // Taking in what has come moves nothing either.
        click(&browser, ".feed-pause").await;
        click(&browser, ".feed-pause").await;
        let seen = wait_for(&browser, "it was taken in", |seen| seen["newer"] == "Newest ↑").await;
        assert_eq!(seen["keys"], before["keys"], "nothing has moved");
        click(&browser, ".feed-newer").await;
        wait_for(&browser, "the newest", |seen| {
            seen["keys"][0] == "k259" && seen["newer"] == Value::Null
        })
        .await;
        browser.close().await;
    });
}

fn an_event_shows_what_has_changed(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"earliest\"");
    broker.produce(
        &topic,
        &[
            order(
                "17",
                r#"{"total":1,"city":"Paris","gone":true,"lines":[{"sku":"a"}]}"#,
            ),
            order(
                "17",
                r#"{"total":2,"city":"Paris","lines":[{"sku":"a"},{"sku":"b"}]}"#,
            ),
        ],
    );
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        let seen = wait_for(&browser, "the newest event is shown", |seen| {
            seen["key"] == "17" && seen["changes"] != json!([])
        })
        .await;
        let changes: Vec<&str> = seen["changes"]
            .as_array()
            .expect("changes")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        for (sign, words) in [
            ("~", &["total", "1", "2"][..]),
            ("+", &["lines.1", "b"]),
            ("−", &["gone", "true"]),
        ] {
            assert!(
                changes
                    .iter()
                    .any(|change| change.starts_with(sign) && words.iter().all(|word| change.contains(word))),
                "{sign} {words:?}: {changes:?}"
            );
        }
        // Where it is in Kafka differs with every record, and is no change.
        assert_eq!(changes.len(), 3, "{changes:?}");
        assert!(
            seen["marks"]
                .as_array()
                .is_some_and(|marks| marks.iter().any(|mark| mark[0] == "added")),
            "{seen}"
        );
        // Rows show it as well, and the link says so.
        click(&browser, ".choice button:last-child").await;
        let seen = wait_for(&browser, "rows show changes", |seen| {
            seen["rows"].as_array().is_some_and(|rows| {
                rows.iter()
                    .any(|row| row[2].as_str().is_some_and(|text| text.contains("total 1 → 2")))
            })
        })
        .await;
        assert!(
            seen["hash"]
                .as_str()
                .is_some_and(|hash| hash.contains("show=changes")),
            "{seen}"
        );
        browser.screenshot(&picture("feed-changes.png")).await;
        browser.close().await;
    });
}

fn json_folds_and_keeps_its_digits(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"earliest\"");
    let deep = format!("{}1{}", "{\"d\":".repeat(90), "}".repeat(90));
    let wide: Vec<String> = (0..10_000)
        .map(|number| format!("\"c{number}\":{number}"))
        .collect();
    let long = "x".repeat(800_000);
    let value = format!(
        r#"{{"big":12345678901234567890,"price":1.50,"__proto__":{{"own":1}},"html":"<b>x</b>","wide":{{{}}},"deep":{deep},"long":"{long}"}}"#,
        wide.join(",")
    );
    broker.produce(&topic, &[order("17", &value)]);
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        let seen = wait_for(&browser, "the event is shown", |seen| seen["key"] == "17").await;
        let tree: Vec<&str> = seen["tree"]
            .as_array()
            .expect("a tree")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        for line in [
            "big: 12345678901234567890",
            "price: 1.50",
            "html: \"<b>x</b>\"",
            "own: 1",
        ] {
            assert!(tree.contains(&line), "{line}");
        }
        let size = "return [document.querySelectorAll('.event .json *').length, document.querySelector('.event .json').textContent.length];";
        let before = browser.run(size).await;
        assert!(
            before[0].as_u64().is_some_and(|count| count < 1_000),
            "what is folded is not there: {before}"
        );
        assert!(
            before[1].as_u64().is_some_and(|length| length < 20_000),
            "{before}"
        );
        let fold = |name: &str| {
            format!(
                "[...document.querySelectorAll('.event .json-fold')].find((fold) => fold.querySelector('.json-name').textContent === {}).click();",
                json!(name)
            )
        };
        browser.run(&fold("wide")).await;
        let closed = browser.run(size).await;
        assert!(closed[0].as_u64() < before[0].as_u64(), "{closed} {before}");
        browser.run(&fold("wide")).await;
        // The next hundred, the next characters.
        for _ in 0..2 {
            browser
                .run("[...document.querySelectorAll('.event .json-more')].forEach((more) => more.click());")
                .await;
        }
        let after = browser.run(size).await;
        assert!(after[1].as_u64() > before[1].as_u64(), "{after} {before}");
        // All levels, one after the other.
        for _ in 0..100 {
            browser
                .run("[...document.querySelectorAll('.event .json-fold[aria-expanded=false]')].forEach((fold) => fold.click());")
                .await;
        }
        let deepest = browser
            .run("return [...document.querySelectorAll('.event .json li')].some((item) => item.textContent === 'd: 1');")
            .await;
        assert_eq!(deepest, true);
        assert_eq!(browser.run("return ({}).own ?? null;").await, Value::Null);
        browser.close().await;
    });
}
