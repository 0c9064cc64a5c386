//! How fast the page's table is, for people: a trial that prints figures and fails only if the page shows something wrong.
//! It is left out unless asked for: `cargo test --release --test suite -- page_figures --ignored`.

use super::tables::stream_of;
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ROWS: u32 = 100_000;
const UPDATES_PER_SECOND: u32 = 2_000;
const SECONDS: u32 = 20;

pub fn trials() -> Vec<Trial> {
    vec![on_broker(Version::V4_4, page_figures).with_ignored_flag(true)]
}

fn vehicle(number: u32, turn: u32) -> Message {
    let value = format!(
        r#"{{"line":"{}","status":"{}","speed":{},"position":{{"lat":{}.{:04},"lon":6.1}},"passengers":{}}}"#,
        number % 40,
        ["moving", "at stop", "charging"][((number + turn) % 3) as usize],
        (number * 7 + turn * 13) % 90,
        48 + number % 5,
        (number + turn) % 10_000,
        (number + turn) % 120,
    );
    Message::new(format!("vehicle-{number}"), value)
}

/// Long tasks since the last time, and how a promise of the page ended.
const MEASURE: &str = "
    window.tasks ??= [];
    window.observer ??= new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map(({ duration }) => Math.round(duration))));
    window.observer.observe({ entryTypes: ['longtask'] });
    const done = arguments[arguments.length - 1];
    const start = performance.now();
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const until = async (isSo) => { while (!isSo()) await frame(); return Math.round(performance.now() - start); };
    const first = () => document.querySelector('#view .grid tbody tr')?.dataset.key;
    const rowcount = () => Number(document.querySelector('#view .grid table')?.getAttribute('aria-rowcount') ?? 0);
    const finish = async (result) => {
        await new Promise((resolve) => setTimeout(resolve, 100));
        const tasks = window.tasks.splice(0);
        done({ ...result, tasks: tasks.length, longest: Math.max(0, ...tasks) });
    };";

async fn measure(browser: &Browser, what: &str, script: &str) -> Value {
    let script = format!(
        "{MEASURE} (async () => {{ {script} }})().catch((error) => done({{ error: String(error) }}));"
    );
    let result = browser
        .client
        .execute_async(&script, Vec::new())
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(result["error"].is_null(), "{what}: {result}");
    println!("{what}: {result}");
    result
}

fn page_figures(broker: &Broker) {
    let messages: Vec<Message> = (0..ROWS).map(|number| vehicle(number, 0)).collect();
    let (topic, text) = stream_of(broker, &messages, "key_field = \"vehicle\"");
    let other = text.replace("path = \"/rows\"", "path = \"/other\"");
    let second = other
        .split_once("[[stream]]")
        .map(|(_, stream)| format!("[[stream]]{stream}"))
        .expect("a stream");
    let daemon = Daemon::start(&format!("{text}{second}"));
    block_on(async {
        daemon.wait_ready(secs(120)).await;
        // Not from a fresh process: its start is not the page's.
        let browser = Browser::open(&daemon, "/").await;
        measure(
            &browser,
            "warm",
            "await finish({ ms: await until(() => document.readyState === 'complete') });",
        )
        .await;
        let load = format!(
            "location.hash = '#/rows?view=table';
            const rows = await until(() => first() !== undefined);
            const all = await until(() => rowcount() === {ROWS} + 1);
            await finish({{ firstRowsMs: rows, allRowsMs: all }});"
        );
        measure(&browser, "snapshot of 100,000 rows", &load).await;
        measure(
            &browser,
            "scrolling",
            "const grid = document.querySelector('.grid');
            const frames = [];
            let last = await frame();
            for (let step = 0; step < 300; step++) {
                grid.scrollTop += step < 200 ? 120 : 15000;
                const now = await frame();
                frames.push(now - last);
                last = now;
            }
            frames.sort((a, b) => a - b);
            await finish({ frames: frames.length, medianMs: Math.round(frames[150]), p99Ms: Math.round(frames[297]) });",
        )
        .await;
        // The first row of each order is known.
        for (what, column, clicks, first) in [
            ("sort by a number, descending", "passengers", 2, "vehicle-119"),
            ("sort by a text", "status", 1, "vehicle-1"),
            ("sort by the key, descending", "vehicle", 2, "vehicle-99999"),
        ] {
            let script = format!(
                "const button = document.querySelector('th[data-column=\"{column}\"] button');
                for (let click = 0; click < {clicks}; click++) button.click();
                await finish({{ ms: await until(() => first() === '{first}') }});"
            );
            measure(&browser, what, &script).await;
        }
        measure(
            &browser,
            "search",
            "const search = document.querySelector('.table-bar input');
            search.value = 'charging 3999';
            search.dispatchEvent(new Event('input'));
            const ms = await until(() => rowcount() < 1000);
            await finish({ ms, found: rowcount() - 1 });",
        )
        .await;
        measure(
            &browser,
            "the search is taken back",
            &format!(
                "const search = document.querySelector('.table-bar input');
                search.value = '';
                search.dispatchEvent(new Event('input'));
                await finish({{ ms: await until(() => rowcount() === {ROWS} + 1) }});"
            ),
        )
        .await;
        let heap = "globalThis.gc?.(); return Math.round(performance.memory.usedJSHeapSize / 1048576)";
        println!("heap: {} MiB", browser.run(heap).await);
        let start = Instant::now();
        for turn in 0..SECONDS * 10 {
            let batch: Vec<Message> = (0..UPDATES_PER_SECOND / 10)
                .map(|step| vehicle((turn * 7_919 + step * 31) % ROWS, turn + 1))
                .collect();
            broker.produce(&topic, &batch);
            let due = start + Duration::from_millis(u64::from(turn + 1) * 100);
            tokio::time::sleep_until(due.into()).await;
        }
        measure(
            &browser,
            "2,000 changes a second for 20 s, sorted by a text",
            "await finish({});",
        )
        .await;
        println!("heap: {} MiB", browser.run(heap).await);
        let total = browser
            .run("return document.querySelector('#view .grid table').getAttribute('aria-rowcount')")
            .await;
        assert_eq!(total, json!((ROWS + 1).to_string()));
        browser.close().await;
    });
}
