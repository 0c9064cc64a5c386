//! Ways out of a feed: snippets that read the same stream, and downloads of what is listed.

use super::feeds::{click, open, order, orders, wait_for};
use super::filter_bars::filter;
use super::picture;
use crate::harness::broker::{Broker, Version};
use crate::harness::daemon::finish;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(Version::V4_4, snippets_read_what_the_page_reads),
        on_broker(Version::V4_4, what_is_shown_can_be_downloaded),
    ]
}

fn snippets_read_what_the_page_reads(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"earliest\"\nevent = \"order\"");
    let odd = "it's $(touch owned) `id` \"q\" \\ </script> \u{2028} !!";
    broker.produce(
        &topic,
        &[
            order("other", r#"{"n":0}"#),
            order(odd, r#"{"n":1}"#),
            order(odd, r#"{"n":2}"#),
            order(odd, r#"{"n":3}"#),
        ],
    );
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        wait_for(&browser, "all records", |seen| {
            seen["keys"].as_array().is_some_and(|keys| keys.len() == 4)
        })
        .await;
        filter(&browser, &format!("key={odd}")).await;
        wait_for(&browser, "that key alone", |seen| {
            seen["keys"] == json!([odd, odd, odd])
        })
        .await;
        for (after, first) in [(false, 1), (true, 2)] {
            if after {
                // The oldest of the three, which is the last row.
                browser
                    .run("[...document.querySelectorAll('.feed-row[data-kind=message]')].at(-1).querySelector('.feed-value').click();")
                    .await;
                browser
                    .run("[...document.querySelectorAll('.event-actions button')].find((button) => button.textContent.startsWith('Continue')).click();")
                    .await;
            } else {
                click(&browser, ".feed-connect").await;
            }
            let code = "return Object.fromEntries([...document.querySelectorAll('.connect section')].map((each) => [each.dataset.snippet, each.querySelector('code').textContent]));";
            let snippets = browser.run(code).await;
            browser.screenshot(&picture("feed-connect.png")).await;
            let wanted: Vec<u64> = (first..=3).collect();
            let snippet = |name: &str| {
                snippets[name]
                    .as_str()
                    .unwrap_or_else(|| panic!("{name}: {snippets}"))
                    .to_owned()
            };
            // In a shell, which would run what is not quoted.
            let directory = tempfile::tempdir().expect("a directory");
            let output = finish(
                Command::new("timeout")
                    .args(["5", "bash", "-c", &snippet("curl")])
                    .current_dir(directory.path()),
            );
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let numbers: Vec<u64> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .filter_map(|data| serde_json::from_str::<Value>(data).ok()?["n"].as_u64())
                .collect();
            assert_eq!(numbers, wanted, "{}\n{text}", snippet("curl"));
            assert_eq!(
                directory.path().read_dir().expect("listed").count(),
                0,
                "nothing was run"
            );
            // In the page, by its own policy a script is a file of the server; these are run by the driver.
            for name in ["eventsource", "library"] {
                let script = run_in_page(name, &snippet(name));
                browser.run(&script).await;
                browser
                    .wait_for(secs(20), "return window.logged;", &script, |seen| {
                        *seen == json!(wanted)
                    })
                    .await;
            }
            browser.run("document.querySelector('.connect').close();").await;
        }
        browser.close().await;
    });
}

/// A script that runs a snippet, and keeps the numbers in what it logs in `window.logged`.
fn run_in_page(name: &str, snippet: &str) -> String {
    let note = "window.logged = [];
        const console = { log: (...all) => {
            const data = all.at(-1);
            const value = typeof data === 'string' ? JSON.parse(data) : data;
            if (typeof value?.n === 'number') window.logged.push(value.n);
        } };";
    if name == "eventsource" {
        return format!("{note} {snippet}");
    }
    let (import, rest) = snippet.split_once('\n').expect("an import, and what follows");
    let from = import
        .strip_prefix("import { follow } from ")
        .and_then(|rest| rest.strip_suffix(';'))
        .unwrap_or_else(|| panic!("{import}"));
    format!("{note} (async () => {{ const {{ follow }} = await import({from}); {rest} }})();")
}

fn what_is_shown_can_be_downloaded(broker: &Broker) {
    let (topic, daemon) = orders(broker, "start = \"earliest\"\ntimestamp_field = \"time\"");
    let row = |key: &str, value: &str| order(key, value).timestamp(1_795_406_940_137);
    broker.produce(
        &topic,
        &[
            row("17", r#"{"name":"=HYPERLINK(\"http://x\")","big":12345678901234567890,"price":1.50,"note":"a,b\r\n\"c\""}"#),
            row("@SUM(A1)", r#"{"name":"plain","nested":{"deep":[-1,"+1"]}}"#),
            Message::tombstone("17").partition(0).timestamp(1_795_406_940_138),
        ],
    );
    block_on(async {
        let browser = open(&daemon, "/#/orders?view=feed").await;
        wait_for(&browser, "all records", |seen| {
            seen["keys"].as_array().is_some_and(|keys| keys.len() == 3)
        })
        .await;
        browser
            .run(
                "window.saved = [];
                const make = URL.createObjectURL;
                URL.createObjectURL = (blob) => { blob.text().then((text) => window.saved.push([blob.type, text])); return make.call(URL, blob); };
                document.addEventListener('click', (event) => { if (event.target.download) window.savedAs = event.target.download; }, true);
                HTMLAnchorElement.prototype.click = function click() { window.savedAs = this.download; };",
            )
            .await;
        let download = async |format: &str| {
            browser.run("window.saved.length = 0;").await;
            click(&browser, &format!("[data-format={format}]")).await;
            let script = "return [window.saved[0]?.[1], window.savedAs];";
            let saved = browser
                .wait_for(secs(10), script, "it is saved", |saved| saved[0].is_string())
                .await;
            let name = saved[1].as_str().unwrap_or_default();
            assert!(
                name.starts_with("orders-") && name.ends_with(&format!(".{format}")),
                "{name}"
            );
            saved[0].as_str().unwrap_or_default().to_owned()
        };
        let text = download("ndjson").await;
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(
            (
                &lines[0]["event"],
                &lines[0]["key"],
                &lines[0]["offset"],
                &lines[0]["timestamp"]
            ),
            (
                &json!("message"),
                &json!("17"),
                &json!(0),
                &json!(1_795_406_940_137_i64)
            )
        );
        assert!(
            text.contains("12345678901234567890") && text.contains("1.50"),
            "as written: {text}"
        );
        assert_eq!(lines[2]["event"], "delete");
        assert_eq!(lines[3]["event"], "caught-up");
        let text = download("csv").await;
        let (head, rest) = text.split_once("\r\n").expect("a head");
        assert!(head.starts_with("time,event,key,"), "{head}");
        for cell in [
            "\"'=HYPERLINK(\"\"http://x\"\")\"",
            "\"a,b\r\n\"\"c\"\"\"",
            "'@SUM(A1)",
            ",12345678901234567890",
            ",1.50,",
            ",-1,",
            "'+1",
            "2026-11-23T",
        ] {
            assert!(rest.contains(cell), "{cell}: {text}");
        }
        assert!(
            !rest.contains(",=") && !rest.contains(",@") && !rest.contains(",+"),
            "no formula: {text}"
        );
        assert!(!text.contains("caught-up"), "{text}");
        browser.close().await;
    });
}
