//! What a busy stream costs the feed and the chart: a trial that prints figures, and fails if a task is long or memory grows.
//! It is left out unless asked for, because other trials on the machine make tasks long:
//! `cargo test --release --test suite -- feed_figures --ignored`.

use super::served;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;
use std::time::{Duration, Instant};

const EVENTS_PER_SECOND: usize = 2_000;
const SECONDS: usize = 60;
const BATCHES_PER_SECOND: usize = 4;

/// Largest growth of the heap over the second half of the time, in bytes: what grows with events would be 60 MiB and more.
const GROWTH: f64 = 12e6;

pub fn trials() -> Vec<Trial> {
    vec![on_broker(Version::V4_4, feed_figures).with_ignored_flag(true)]
}

fn vehicle(number: usize) -> Message {
    let value = format!(
        r#"{{"line":"{}","status":"{}","speed":{},"position":{{"lat":{}.{:04},"lon":6.1}},"n":{number},"text":"{:0>300}"}}"#,
        number % 9,
        ["moving", "at stop", "charging"][number % 3],
        (number * 7) % 90,
        48 + number % 5,
        number % 10_000,
        number,
    );
    Message::new(format!("vehicle-{}", number % 500), value)
}

fn feed_figures(broker: &Broker) {
    let topic = topic_name("busy");
    broker.create_topic(&topic, 1, &[]);
    let text = format!(
        "{}[[stream]]\npath = \"/busy\"\ntopics = [{topic:?}]\nstart = \"live\"\nkey_field = \"vehicle\"\n\
         offset_field = \"offset\"\ntimestamp_field = \"time\"\n",
        served(broker)
    );
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        let mut number = 0;
        for (view, drawn) in [
            ("feed", "document.querySelectorAll('.feed-row').length"),
            ("chart", "document.querySelectorAll('.chart-line').length"),
        ] {
            browser
                .run(&format!("location.hash = '#/busy?view={view}';"))
                .await;
            // One event, so that the view is there and warm before it is measured.
            eventually_async(secs(20), view, async || {
                number += 1;
                broker.produce(&topic, &[vehicle(number)]);
                let there = browser.run(&format!("return {drawn};")).await;
                ensure(there.as_u64() > Some(0), there.to_string())
            })
            .await;
            let begin = "window.tasks = []; window.frames = 0; window.counting = true;
                window.observer?.disconnect();
                window.observer = new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map(({ duration }) => Math.round(duration))));
                window.observer.observe({ entryTypes: ['longtask'] });
                const count = () => { window.frames += 1; if (window.counting) requestAnimationFrame(count); };
                requestAnimationFrame(count);";
            browser.run(begin).await;
            let start = Instant::now();
            let (mut half, mut longest) = (0.0, 0);
            for batch in 0..SECONDS * BATCHES_PER_SECOND {
                let size = EVENTS_PER_SECOND / BATCHES_PER_SECOND;
                let records: Vec<Message> = (0..size).map(|step| vehicle(number + step)).collect();
                number += size;
                broker.produce(&topic, &records);
                if batch == SECONDS * BATCHES_PER_SECOND / 2 {
                    // The collection may itself be a long task.
                    let before = browser.run("return Math.max(0, ...window.tasks);").await;
                    longest = before.as_u64().unwrap_or_default();
                    half = browser.heap().await;
                    browser.run("window.tasks.length = 0;").await;
                }
                let due =
                    start + Duration::from_millis((batch as u64 + 1) * 1_000 / BATCHES_PER_SECOND as u64);
                tokio::time::sleep_until(due.into()).await;
            }
            let seconds = start.elapsed().as_secs_f64();
            let seen = browser
                .run("window.counting = false; return [window.frames, document.querySelectorAll('*').length, Math.max(0, ...window.tasks)];")
                .await;
            longest = longest.max(seen[2].as_u64().unwrap_or_default());
            let heap = browser.heap().await;
            let per_second = |count: f64| (count / seconds).round();
            let rate = per_second((SECONDS * EVENTS_PER_SECOND) as f64);
            println!(
                "{view}: {} events/s for {seconds:.0} s: longest task {longest} ms, {} frames/s, heap {} KiB after half the \
                 time, {} KiB at the end, {} elements",
                rate,
                per_second(seen[0].as_f64().unwrap_or_default()),
                (half / 1024.0).round(),
                (heap / 1024.0).round(),
                seen[1]
            );
            assert!(
                rate > 0.95 * EVENTS_PER_SECOND as f64,
                "{view}: {rate} events/s were produced"
            );
            assert!(longest < 100, "{view}: a task of {longest} ms");
            assert!(heap < half + GROWTH, "{view}: {half} bytes, then {heap}");
        }
        browser.close().await;
    });
}
