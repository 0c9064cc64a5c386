//! Records that are made to harm the page: markup, names of prototypes, huge, wide, deep and binary ones.

use super::tables::{stream_of, wait_for};
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};

const MARKUP: &str = "<img src=x onerror=\"window.harmed = true\"><script>window.harmed = true</script>";
/// A broker takes records of up to 1 MiB.
const LENGTH: usize = 900_000;
const DEPTH: usize = 2_000;
const WIDTH: usize = 10_000;

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(Version::V4_4, hostile_records_are_text_in_every_view),
        on_broker(Version::V4_4, hostile_envelopes_and_keys_are_text),
    ]
}

/// Whether anything of a record has become more than text.
const HARM: &str = "
    const view = document.querySelector('#view');
    return {
        harmed: 'harmed' in window || 'harmed' in {} || 'harmed' in [] || Object.keys(Object.prototype).length > 0,
        elements: view.querySelectorAll('img, script, iframe, object, embed, form, style, link, base').length,
        handlers: [...view.querySelectorAll('*')].filter((each) => [...each.attributes].some(({ name }) => name.startsWith('on'))).length,
        links: [...view.querySelectorAll('a')].filter((link) => !/^(https?:|#)/.test(link.getAttribute('href') ?? '')).length,
        longest: Math.max(0, ...[...view.querySelectorAll('td, th')].map((cell) => cell.textContent.length)),
        size: view.querySelectorAll('*').length,
    };";

async fn assert_unharmed(browser: &Browser, when: &str) {
    let seen = browser.run(HARM).await;
    assert_eq!(seen["harmed"], false, "{when}: {seen}");
    for what in ["elements", "handlers", "links"] {
        assert_eq!(seen[what], 0, "{when}, {what}: {seen}");
    }
    assert!(
        seen["longest"].as_u64().is_some_and(|longest| longest < 1_000),
        "{when}: {seen}"
    );
    assert!(
        seen["size"].as_u64().is_some_and(|size| size < 20_000),
        "{when}: {seen}"
    );
}

async fn wait_for_text(browser: &Browser, selector: &str, wanted: &str) {
    let script = format!("return document.querySelector('{selector}').textContent");
    let what = format!("{selector} contains {wanted:?}");
    browser
        .wait_for(secs(30), &script, &what, |text| {
            text.as_str().is_some_and(|text| text.contains(wanted))
        })
        .await;
}

fn hostile() -> Vec<Message> {
    let wide: serde_json::Map<String, Value> = (0..WIDTH)
        .map(|number| (format!("column-{number}"), json!(number)))
        .collect();
    let deep = format!("{{\"deep\":{}1{}}}", "{\"a\":".repeat(DEPTH), "}".repeat(DEPTH));
    let lists = format!("{{\"deep\":{}{}}}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    vec![
        Message::new(
            MARKUP,
            json!({ "text": MARKUP, MARKUP: MARKUP, "list": [MARKUP], "nested": { MARKUP: [MARKUP] } })
                .to_string(),
        ),
        Message::new(
            "__proto__",
            r#"{"__proto__":{"harmed":1},"constructor":{"prototype":{"harmed":1}},"toString":"x","valueOf":1,"hasOwnProperty":"y"}"#,
        ),
        Message::new(
            "link",
            r#"{"url":"javascript:window.harmed=true","other":"data:text/html,<script>window.harmed=true</script>"}"#,
        ),
        Message::new(
            "huge",
            json!({ "text": "x".repeat(LENGTH), "y".repeat(1 << 16): 1 }).to_string(),
        ),
        Message::new("wide", Value::Object(wide).to_string()),
        Message::new("deep", deep),
        Message::new("lists", lists),
        Message::new(
            "bidi",
            json!({ "text": "\u{202e}gnp.exe\u{0}\u{7}\u{1b}[31m" }).to_string(),
        ),
        Message::new(
            "numbers",
            r#"{"a":1e308,"b":-0,"c":12345678901234567890,"d":0.1234567890123456789}"#,
        ),
        Message::new("last", r#"{"text":"an ordinary one"}"#),
    ]
}

fn hostile_records_are_text_in_every_view(broker: &Broker) {
    let views = "key_field = \"id\"\n[[stream.view]]\nkind = \"table\"\n[[stream.view]]\nkind = \"cards\"\n[[stream.view]]\nkind = \"feed\"\n";
    let (topic, text) = stream_of(broker, &hostile(), views);
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/#/rows?view=table").await;
        let seen = wait_for(&browser, "every record has its row", |seen| {
            seen["keys"].as_array().map(Vec::len) == Some(10)
        })
        .await;
        let columns = seen["columns"].as_array().expect("columns").len();
        assert!(columns <= 24, "{columns} columns at first");
        assert!(
            seen["texts"].to_string().contains("onerror"),
            "markup is shown as it is: {seen}"
        );
        assert_unharmed(&browser, "the table").await;
        // All of each record, in the side panel.
        for number in 0..10 {
            browser
                .run(&format!(
                    "document.querySelectorAll('.grid tbody tr')[{number}].cells[0].click()"
                ))
                .await;
            let key = seen["keys"][number].as_str().expect("a key").to_owned();
            wait_for_text(&browser, ".row-panel", &key).await;
            assert_unharmed(&browser, &format!("the panel of {key:?}")).await;
        }
        // Sorting, searching, deleting by such names.
        browser
            .run("for (const button of document.querySelectorAll('.grid thead button')) button.click();")
            .await;
        broker.produce(
            &topic,
            &[Message::tombstone("__proto__"), Message::tombstone(MARKUP)],
        );
        wait_for(&browser, "they are gone", |seen| {
            seen["keys"].as_array().map(Vec::len) == Some(8)
        })
        .await;
        for (view, ready) in [("cards", ".cards > li"), ("feed", "#view [data-number]")] {
            browser
                .run(&format!("location.hash = '#/rows?view={view}'"))
                .await;
            let count = format!("return document.querySelectorAll('{ready}').length");
            browser
                .wait_for(secs(30), &count, "the view shows something", |count| {
                    count.as_u64() > Some(0)
                })
                .await;
            broker.produce(&topic, &hostile());
            wait_for_text(&browser, "#view", "an ordinary one").await;
            assert_unharmed(&browser, view).await;
        }
        browser.close().await;
    });
}

fn hostile_envelopes_and_keys_are_text(broker: &Broker) {
    let messages = [
        Message::new(vec![0, 0xff, 0xfe], "no JSON at all"),
        Message::new("text", vec![0xff, 0x00, 0x80]),
        Message::new("markup", MARKUP)
            .header(MARKUP, MARKUP)
            .header("__proto__", "x"),
        Message::new("number", "5"),
        Message::new("list", "[1,2]"),
        Message::new("", r#"{"a":1}"#),
    ];
    let (topic, text) = stream_of(broker, &messages, "format = \"envelope\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/#/rows?view=table").await;
        let seen = wait_for(&browser, "every record has its row", |seen| {
            seen["keys"].as_array().map(Vec::len) == Some(6)
        })
        .await;
        assert_eq!(seen["columns"], json!(["@key", "a", "@value"]));
        let texts = seen["texts"].to_string();
        for text in ["AP/+", "no JSON at all", "onerror", "[1, 2]"] {
            assert!(texts.contains(text), "{text}: {texts}");
        }
        assert_unharmed(&browser, "the table").await;
        browser
            .run("document.querySelector('tr[data-key=markup]').cells[0].click()")
            .await;
        wait_for_text(&browser, ".row-panel", "onerror").await;
        assert_unharmed(&browser, "the panel").await;
        broker.produce(&topic, &[Message::tombstone(vec![0, 0xff, 0xfe])]);
        wait_for(&browser, "a binary key is deleted", |seen| {
            seen["keys"].as_array().map(Vec::len) == Some(5)
        })
        .await;
        browser.close().await;
    });
}
