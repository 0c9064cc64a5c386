//! The page's table: columns found and configured, changes, order, search, links, keyboard, many rows.

use super::{picture, press, served};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::{Browser, Engine};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use crate::harness::{in_each_browser, on_broker};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        on_broker(Version::V4_4, columns_are_shown_as_configured),
        on_broker(Version::V4_4, a_table_is_sorted_searched_and_its_link_says_so),
        on_broker(Version::V4_4, a_table_is_worked_by_keyboard),
        on_broker(Version::V4_4, columns_are_hidden_pinned_and_resized_and_stay_so),
        on_broker(Version::V4_4, a_hundred_thousand_rows_are_few_in_the_document),
    ];
    trials.extend(in_each_browser(
        Version::V4_4,
        a_topic_without_a_view_has_a_table_of_its_columns,
    ));
    trials
}

/// A topic with these records, and the configuration of a stream of it with these lines.
pub(super) fn stream_of(broker: &Broker, messages: &[Message], lines: &str) -> (String, String) {
    let topic = topic_name("table");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, messages);
    let text = format!(
        "{}[[stream]]\npath = \"/rows\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\n{lines}\n",
        served(broker)
    );
    (topic, text)
}

/// What a table shows.
const LOOK: &str = "
    const table = document.querySelector('#view .grid table');
    const text = (element) => element?.checkVisibility() ? element.textContent : null;
    const rows = [...(table?.tBodies[0].rows ?? [])];
    return {
        columns: [...(table?.tHead.querySelectorAll('th') ?? [])].map((th) => th.dataset.column),
        labels: [...(table?.tHead.querySelectorAll('.label') ?? [])].map((label) => label.textContent),
        sorted: [...(table?.tHead.querySelectorAll('th[aria-sort]') ?? [])].map((th) => `${th.dataset.column} ${th.ariaSort}`),
        keys: rows.map((row) => row.dataset.key),
        texts: rows.slice(0, 20).map((row) => [...row.cells].map((cell) => cell.textContent)),
        kinds: rows.slice(0, 1).flatMap((row) => [...row.cells].map((cell) => cell.dataset.kind)),
        newest: rows.filter((row) => 'newest' in row.dataset).map((row) => row.dataset.key),
        changed: [...(table?.tBodies[0].querySelectorAll('td[data-changed]') ?? [])].map((cell) => cell.textContent),
        count: text(document.querySelector('.table-bar .count')),
        rowcount: table?.getAttribute('aria-rowcount') ?? null,
        active: document.getElementById(table?.getAttribute('aria-activedescendant'))?.dataset.key ?? null,
        panel: text(document.querySelector('.row-panel')),
        state: document.querySelector('#state').dataset.state,
        hash: decodeURIComponent(location.hash),
    };";

pub(super) async fn wait_for(browser: &Browser, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    browser.wait_for(secs(60), LOOK, what, is_so).await
}

async fn wait_for_keys(browser: &Browser, keys: &[&str]) -> Value {
    wait_for(browser, "the table shows these keys in this order", |seen| {
        seen["keys"] == json!(keys)
    })
    .await
}

pub(super) fn order(number: u32, status: &str, total: f64) -> Message {
    let value = format!(
        r#"{{"status":"{status}","total":{total:?},"customer":{{"name":"Customer {number}","city":"Paris"}},"at":"2026-10-29T12:00:00Z","tags":["a","b"],"paid":true}}"#
    );
    Message::new(number.to_string(), value)
}

fn a_topic_without_a_view_has_a_table_of_its_columns(broker: &Broker, engine: Engine) {
    let messages = [
        order(10, "new", 12.5),
        order(9, "paid", 1040.25),
        order(2, "new", 7.0),
    ];
    let (topic, text) = stream_of(broker, &messages, "key_field = \"order\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open_in(engine, &daemon, "/").await;
        let seen = wait_for_keys(&browser, &["2", "9", "10"]).await;
        assert_eq!(
            seen["columns"],
            json!([
                "order",
                "status",
                "total",
                "customer.name",
                "customer.city",
                "at",
                "tags",
                "paid"
            ]),
            "in the order of the data, the key first, nested objects by their paths"
        );
        let first = &seen["texts"][1];
        assert_eq!(
            [&first[0], &first[1], &first[2], &first[3], &first[6], &first[7]],
            [
                &json!("9"),
                &json!("paid"),
                &json!("1,040.25"),
                &json!("Customer 9"),
                &json!("a, b"),
                &json!("true")
            ],
        );
        assert_eq!(
            seen["kinds"],
            json!(["text", "text", "number", "text", "text", "date", "list", "bool"])
        );
        assert_eq!(
            (&seen["count"], &seen["rowcount"]),
            (&json!("3 rows"), &json!("4"))
        );
        assert_eq!(seen["newest"], json!([]), "what was there is not new");

        // A change is highlighted where it is.
        wait_for(&browser, "the page is live", |seen| seen["state"] == "live").await;
        broker.produce(&topic, &[order(9, "paid", 1041.0)]);
        let seen = wait_for(&browser, "the newest change is marked", |seen| {
            seen["newest"] == json!(["9"])
        })
        .await;
        assert_eq!(seen["changed"], json!(["1,041.00"]), "only what has changed");
        assert_eq!(seen["keys"], json!(["2", "9", "10"]));
        // A new row comes to its place, with a new column.
        broker.produce(
            &topic,
            &[Message::new("3", r#"{"status":"new","note":"call first"}"#)],
        );
        let seen = wait_for_keys(&browser, &["2", "3", "9", "10"]).await;
        assert_eq!(
            seen["columns"].as_array().expect("columns").last(),
            Some(&json!("note"))
        );
        // A tombstone takes its row away.
        broker.produce(&topic, &[Message::tombstone("9")]);
        let seen = wait_for_keys(&browser, &["2", "3", "10"]).await;
        assert_eq!(seen["count"], "3 rows");
        browser
            .screenshot(&picture(&format!("page-table-{engine:?}.png")))
            .await;

        // Who comes late has all of it at once.
        let late = Browser::open_in(engine, &daemon, "/").await;
        wait_for_keys(&late, &["2", "3", "10"]).await;
        late.close().await;
        browser.close().await;
    });
}

/// What is in the lists and cells of [`VIEW`].
const LISTS: &str = "const row = document.querySelector('tr[data-key=Africa]');
    return {
        items: [...row.querySelectorAll('li')].map((item) => item.innerText.split('\\n').map((line) => line.trim()).filter(Boolean)),
        shares: [...row.querySelectorAll('.share-bar')].map((bar) => Number(bar.style.getPropertyValue('--share'))),
        rest: row.querySelector('.rest')?.textContent,
        badge: row.querySelector('.badge')?.dataset.tone,
        href: row.querySelector('a')?.href,
        size: row.cells[3].textContent,
        odd: [...document.querySelector('tr[data-key=Nowhere]').cells].map((cell) => cell.textContent),
    }";

/// The view of the original program: two columns, the second of them a list; and columns of other formats.
const VIEW: &str = r#"
key_field = "continent"
[[stream.view]]
kind = "table"
title = "Continent and Country Overview"
sort = "-continent"
[[stream.view.columns]]
path = "continent"
label = "Continent"
[[stream.view.columns]]
path = "nrs"
label = "Top 3 Countries by Size"
format = "list"
limit = 3
items = [{ path = "name" }, { path = "size", format = "number", unit = "km²", bar = true }, { path = "population", format = "number", unit = "inhabitants" }]
[[stream.view.columns]]
path = "status"
format = "badge"
colors = { ok = "good" }
[[stream.view.columns]]
path = "bytes"
label = "Size"
format = "bytes"
[[stream.view.columns]]
path = "site"
format = "link"
[[stream.view.columns]]
path = "bad"
format = "link"
hidden = true
"#;

fn columns_are_shown_as_configured(broker: &Broker) {
    let list = |countries: &[(&str, i64, i64)]| {
        let countries: Vec<Value> = countries
            .iter()
            .map(|(name, size, population)| json!({ "name": name, "size": size, "population": population }))
            .collect();
        json!({ "nrs": countries, "status": "ok", "bytes": 1_536_000, "site": "https://example.org/x", "bad": "javascript:alert(1)" }).to_string()
    };
    let messages = [
        Message::new("Europe", list(&[("Ukraine", 600_000, 4), ("France", 550_000, 5)])),
        Message::new(
            "Africa",
            list(&[
                ("Libya", 1_759_540, 6_541_948),
                ("Mali", 1_240_192, 1),
                ("Chad", 1, 1),
                ("Niger", 1, 1),
            ]),
        ),
        Message::new("Nowhere", r#"{"nrs":"none","status":5,"bytes":"many"}"#),
    ];
    let (_, text) = stream_of(broker, &messages, VIEW);
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        let seen = wait_for_keys(&browser, &["Nowhere", "Europe", "Africa"]).await;
        assert_eq!(
            seen["labels"],
            json!(["Continent", "Top 3 Countries by Size", "status", "Size", "site"])
        );
        assert_eq!(seen["sorted"], json!(["continent descending"]));
        let list = browser.run(LISTS).await;
        assert_eq!(
            list["items"][0],
            json!(["Libya", "1,759,540\u{a0}km²", "6,541,948\u{a0}inhabitants"]),
            "{list}"
        );
        assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
        assert_eq!(list["rest"], "+ 1");
        assert_eq!(list["shares"][0], 1.0, "the largest of the table");
        assert!(
            list["shares"][1]
                .as_f64()
                .is_some_and(|share| (share - 0.7048).abs() < 0.001),
            "{list}"
        );
        assert_eq!(
            (&list["badge"], &list["href"]),
            (&json!("good"), &json!("https://example.org/x"))
        );
        assert_eq!(list["size"], "1.5 MB");
        assert_eq!(
            list["odd"],
            json!(["Nowhere", "none", "5", "many", ""]),
            "what is of another type is shown as it is"
        );
        browser.screenshot(&picture("page-table-configured.png")).await;
        browser.close().await;
    });
}

fn a_table_is_sorted_searched_and_its_link_says_so(broker: &Broker) {
    let messages: Vec<Message> = (1..=12)
        .map(|number| {
            order(
                number,
                ["new", "paid"][(number % 2) as usize],
                f64::from(number * 7 % 12),
            )
        })
        .collect();
    let (topic, text) = stream_of(broker, &messages, "key_field = \"order\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        wait_for(&browser, "all rows", |seen| seen["count"] == "12 rows").await;
        let sort = "document.querySelector('th[data-column=total] button').click()";
        browser.run(sort).await;
        let seen = wait_for(&browser, "sorted upwards", |seen| seen["keys"][0] == "12").await;
        assert_eq!(seen["sorted"], json!(["total ascending"]));
        browser.run(sort).await;
        let seen = wait_for(&browser, "sorted downwards", |seen| seen["keys"][0] == "5").await;
        assert_eq!(seen["sorted"], json!(["total descending"]));
        assert!(
            seen["hash"]
                .as_str()
                .is_some_and(|hash| hash.contains("sort=-total")),
            "{seen}"
        );
        // A change moves its row.
        broker.produce(&topic, &[order(12, "paid", 100.0)]);
        wait_for(&browser, "the changed row comes first", |seen| {
            seen["keys"][0] == "12"
        })
        .await;

        browser
            .run("document.querySelector('.table-bar input').focus()")
            .await;
        press(&browser, "paid 11").await;
        let seen = wait_for(&browser, "only what contains both words", |seen| {
            seen["keys"] == json!(["5", "11"])
        })
        .await;
        assert_eq!(seen["count"], "2 of 12 rows");
        // The link leads there again, in another window too.
        let link = browser.run("return location.href").await;
        let other = Browser::open(&daemon, link.as_str().expect("an address")).await;
        let seen = wait_for(&other, "the same rows", |seen| seen["keys"] == json!(["5", "11"])).await;
        assert_eq!(seen["sorted"], json!(["total descending"]));
        other.close().await;
        browser.close().await;
    });
}

fn a_table_is_worked_by_keyboard(broker: &Broker) {
    let messages: Vec<Message> = (1..=300).map(|number| order(number, "new", 1.0)).collect();
    let (topic, text) = stream_of(broker, &messages, "key_field = \"order\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        wait_for(&browser, "all rows", |seen| seen["count"] == "300 rows").await;
        browser.run("document.querySelector('.grid table').focus()").await;
        let down = "\u{e015}";
        press(&browser, &down.repeat(3)).await;
        wait_for(&browser, "the third row is active", |seen| seen["active"] == "3").await;
        press(&browser, "\u{e010}").await; // End
        let seen = wait_for(&browser, "the last row is active, and in the document", |seen| {
            seen["active"] == "300"
        })
        .await;
        assert!(
            seen["keys"].as_array().is_some_and(|keys| keys.len() < 100),
            "{seen}"
        );
        press(&browser, "\u{e007}").await; // Enter
        let seen = wait_for(&browser, "its whole value is shown", |seen| {
            seen["panel"]
                .as_str()
                .is_some_and(|panel| panel.contains("Customer 300"))
        })
        .await;
        assert!(
            seen["hash"].as_str().is_some_and(|hash| hash.contains("key=300")),
            "{seen}"
        );
        // It follows its row.
        broker.produce(&topic, &[order(300, "new", 77.5)]);
        wait_for(&browser, "the panel shows the new value", |seen| {
            seen["panel"].as_str().is_some_and(|panel| panel.contains("77.5"))
        })
        .await;
        broker.produce(&topic, &[Message::tombstone("300")]);
        wait_for(&browser, "the panel says that it is gone", |seen| {
            seen["panel"]
                .as_str()
                .is_some_and(|panel| panel.contains("Deleted"))
        })
        .await;
        press(&browser, "\u{e00c}").await; // Escape
        wait_for(&browser, "the panel is closed", |seen| seen["panel"].is_null()).await;
        let focus = browser.run("return document.activeElement.tagName").await;
        assert_eq!(focus, "TABLE", "the focus is where it was");
        // A link opens a row.
        browser.goto("about:blank").await;
        browser.goto(&daemon.url("/#/rows?view=table&key=123")).await;
        wait_for(&browser, "the row of the link is open", |seen| {
            seen["panel"]
                .as_str()
                .is_some_and(|panel| panel.contains("Customer 123"))
                && seen["active"] == "123"
        })
        .await;
        browser.screenshot(&picture("page-table-panel.png")).await;
        browser.close().await;
    });
}

fn columns_are_hidden_pinned_and_resized_and_stay_so(broker: &Broker) {
    let (_, text) = stream_of(broker, &[order(1, "new", 1.0)], "key_field = \"order\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        wait_for_keys(&browser, &["1"]).await;
        let menu = "
            const menu = document.querySelector('.column-menu-of');
            menu.querySelector('button').click();
            const item = (name) => [...menu.querySelectorAll('li')].find((each) => each.querySelector('label').textContent === name);
            item('status').querySelector('input').click();
            item('total').querySelector('.pin').click();";
        browser.run(menu).await;
        let is_so = |seen: &Value| {
            seen["columns"].as_array().and_then(|all| all.get(..3))
                == Some(&[json!("order"), json!("total"), json!("customer.name")])
        };
        let seen = wait_for(&browser, "one is hidden and one pinned", is_so).await;
        assert!(
            seen["hash"]
                .as_str()
                .is_some_and(|hash| hash.contains("hide=status") && hash.contains("pin=total")),
            "{seen}"
        );
        let button = browser
            .run("return document.querySelector('.column-menu-of > button').textContent")
            .await;
        assert_eq!(button, "Columns (1 hidden)");
        let width = "return document.querySelector('th[data-column=\"customer.name\"]').getBoundingClientRect().width";
        let before = browser.run(width).await.as_f64().expect("a width");
        browser
            .run("document.querySelector('th[data-column=\"customer.name\"] button').focus()")
            .await;
        press(&browser, "\u{e008}\u{e014}\u{e014}\u{e008}").await; // Shift and two arrows
        let after = browser.run(width).await.as_f64().expect("a width");
        assert!(after > before, "{before} → {after}");
        // Without the link it is the same the next time.
        browser.goto("about:blank").await;
        browser.goto(&daemon.url("/")).await;
        wait_for(&browser, "the columns are as they were left", is_so).await;
        browser
            .run("document.querySelector('.column-menu-of button').click(); document.querySelector('.column-menu > button').click();")
            .await;
        wait_for(&browser, "after a reset all are as found", |seen| {
            seen["columns"][1] == "status"
        })
        .await;
        assert_eq!(
            browser.run("return localStorage.length").await,
            0,
            "nothing is left behind"
        );
        browser.close().await;
    });
}

fn a_hundred_thousand_rows_are_few_in_the_document(broker: &Broker) {
    const ROWS: u32 = 100_000;
    let messages: Vec<Message> = (0..ROWS)
        .map(|number| order(number, "new", f64::from(number % 997)))
        .collect();
    let (topic, text) = stream_of(broker, &messages, "key_field = \"order\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(120)).await;
        let browser = Browser::open(&daemon, "/").await;
        let seen = wait_for(&browser, "all rows are counted", |seen| {
            seen["rowcount"] == json!((ROWS + 1).to_string())
        })
        .await;
        assert_eq!(seen["keys"][0], "0");
        for share in [0.0, 0.2, 0.5, 0.99, 1.0] {
            let script = format!(
                "const grid = document.querySelector('.grid');
                grid.scrollTop = (grid.scrollHeight - grid.clientHeight) * {share};
                return null;"
            );
            browser.run(&script).await;
            let seen = wait_for(&browser, "rows are where one has scrolled to", |seen| {
                let first = seen["keys"][0].as_str().and_then(|key| key.parse::<f64>().ok());
                first.is_some_and(|first| (first / f64::from(ROWS) - share).abs() < 0.01)
            })
            .await;
            let keys = seen["keys"].as_array().expect("keys");
            assert!(
                (20..100).contains(&keys.len()),
                "{} rows in the document",
                keys.len()
            );
        }
        let last = browser.run(LOOK).await;
        assert_eq!(
            last["keys"].as_array().and_then(|keys| keys.last()),
            Some(&json!("99999"))
        );
        let covers = "
            const grid = document.querySelector('.grid').getBoundingClientRect();
            const last = document.querySelector('tr[data-key=\"99999\"]').getBoundingClientRect();
            return Math.abs(grid.bottom - last.bottom) < 25;";
        assert_eq!(browser.run(covers).await, true, "the last row is at the end");
        // A row of another value comes first among so many, too.
        browser.run("document.querySelector('th[data-column=total] button').click(); document.querySelector('th[data-column=total] button').click();").await;
        broker.produce(&topic, &[order(50_000, "new", 5000.0)]);
        wait_for(&browser, "the largest comes first", |seen| {
            seen["keys"][0] == "50000"
        })
        .await;
        browser.close().await;
    });
}
